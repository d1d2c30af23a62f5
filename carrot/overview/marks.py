"""Numbers, bars and small charts of pages with many answers, as HTML and SVG; everything from the data is escaped."""

from collections.abc import Sequence

from PIL import Image

from carrot._display import words
from carrot.explanation.drawing import text
from carrot.overview.thumbs import data_uri


def percent(p: float, digits: int = 1) -> str:
    """Return a share in per cent, never rounded to certainty, that no line break takes apart."""
    return words.percent(p, digits).replace(" ", "\N{NO-BREAK SPACE}")


def bar(share: float, alt: str = "") -> str:
    """Return a share in [0, 1] as a bar on its whole."""
    full = '<rect class="rest" width="100" height="10"></rect>'
    drawn = f'<rect width="{100 * min(max(share, 0.0), 1.0):.1f}" height="10"></rect>'
    role = f'role="img" aria-label="{text(alt)}"' if alt else 'aria-hidden="true"'
    return f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" {role}>{full}{drawn}</svg>'


def picture(found: Image.Image | str | None, alt: str) -> str:
    """Return a small picture, or why it isn't there; both are raw text."""
    if found is None or isinstance(found, str):
        return f'<div class="gone">{text(found or "not at hand")}</div>'
    size = f'width="{found.width}" height="{found.height}"'
    return f'<img class="shot" src="{data_uri(found)}" alt="{text(alt)}" {size} loading="lazy" decoding="async">'


def reliability_chart(bins: Sequence[dict[str, float]]) -> str:
    """Return what was promised against what came, by bins: on the diagonal every promise is kept."""
    most, drawn = max(one["n"] for one in bins), []
    for one in bins:
        x, y, ideal = 44 + 200 * one["promised"], 214 - 200 * one["right"], 214 - 200 * one["promised"]
        n = words.counted(int(one["n"]), "picture")
        said = f"promised {percent(one['promised'])}, right {percent(one['right'])}, {n}"
        radius = 2.5 + 5.5 * (one["n"] / most) ** 0.5
        drawn.append(f'<line class="stem" x1="{x:.1f}" y1="{ideal:.1f}" x2="{x:.1f}" y2="{y:.1f}"></line>')
        drawn.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{said}</title></circle>')
    for tick in (0, 50, 100):
        drawn.append(f'<text x="{44 + 2 * tick}" y="226" text-anchor="middle">{tick} %</text>')
        drawn.append(f'<text x="40" y="{217 - 2 * tick}" text-anchor="end">{tick} %</text>')
    frame = '<path class="axis" fill="none" d="M44 14V214H244"></path>'
    frame += '<line class="ideal" x1="44" y1="214" x2="244" y2="14"></line>'
    names = '<text x="144" y="238" text-anchor="middle">what it promised</text>'
    names += '<text x="9" y="114" text-anchor="middle" transform="rotate(-90 9 114)">how often it was right</text>'
    alt = "Promised probability against the share that was right; the numbers are in the table beside it."
    size = 'viewBox="0 0 264 244" role="img"'
    return f'<svg class="chart" {size} aria-label="{alt}">{frame}{"".join(drawn)}{names}</svg>'


def table(heads: Sequence[str], rows: Sequence[str]) -> str:
    """Return a table that scrolls for itself where it is too wide; a head that begins with "#" is of numbers."""
    cells = "".join(
        f'<th scope="col" class="number">{head[1:]}</th>'
        if head.startswith("#")
        else f'<th scope="col">{head}</th>'
        if head
        else "<td></td>"
        for head in heads
    )
    body = f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll" tabindex="0"><table>{body}</table></div>'


def line(head: str, *cells: str, kind: str = "") -> str:
    """Return a row of a table: its head, and cells; one that begins with "#" is a number."""
    drawn = "".join(f'<td class="number">{c[1:]}</td>' if c.startswith("#") else f"<td>{c}</td>" for c in cells)
    return f'<tr{f" class={kind}" if kind else ""}><th scope="row">{head}</th>{drawn}</tr>'


def card(*parts: str, head: str = "") -> str:
    """Return a card of HTML parts: pictures first, then lines of text."""
    return f"<li>{f'<h3>{head}</h3>' if head else ''}{''.join(parts)}</li>"


def said(text_: str, kind: str = "") -> str:
    """Return a paragraph; ``text_`` is HTML."""
    start = f'<p class="{kind}">' if kind else "<p>"
    return f"{start}{text_}</p>"


def shots(*pictures: str) -> str:
    """Return pictures beside each other."""
    return f'<div class="shots">{"".join(pictures)}</div>'
