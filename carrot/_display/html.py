"""Cards for notebooks: a title, a few lines and tables as HTML that needs no styles, no scripts and no request.

Everything that is text is escaped here, once; only what is called HTML is taken as it is. Colours are those of the page
around it, light or dark.
"""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from html import escape, unescape
from typing import TYPE_CHECKING, Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

MOST_CELLS = 256  # a side of a picture of a matrix
SIDE = 160.0  # of that picture, in pixels of the page
BLUE = (33, 102, 172)
SHOT = 64  # pixels of the longer side of a picture in a table
_CARD = "max-width:60em;margin:.5em 0;padding:.7em 1em;border:1px solid #8886;border-radius:.5em"
_CELL = "padding:.1em .8em .1em 0;vertical-align:top"


class Markup(str):
    """HTML of ours, which a table takes as it is."""


def text(value: object) -> str:
    """Return data as text for HTML: markup characters escaped, also quotes; what no page can hold replaced."""
    clean = str(value).encode("utf-8", "replace").decode()
    return escape("".join("\N{REPLACEMENT CHARACTER}" if category(c) == "Cc" and not c.isspace() else c for c in clean))


def plain(markup: str) -> str:
    """Return what is read of a piece of HTML of ours, without its tags."""
    return unescape(re.sub("<[^>]*>", "", markup))


def page_head(title: str, style: str, script_policy: str = "") -> str:
    """Return the head of a page that is one file: it is read from disk, in light or dark, and can load nothing.

    Args:
        title: HTML.
        style: CSS.
        script_policy: What its policy says of scripts, with a semicolon; nothing: none runs.
    """
    policy = f"default-src 'none';{script_policy} img-src data:; style-src 'unsafe-inline'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="CARROT">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style.rstrip()}
</style>
</head>"""


def card(title: object, *parts: str) -> str:
    """Return a title, which is text, and below it parts, which are HTML."""
    return f'<div style="{_CARD}"><strong>{text(title)}</strong>{"".join(parts)}</div>'


def said(*lines: object) -> str:
    """Return lines of text, one below the other."""
    return "".join(f'<div style="margin:.3em 0">{text(line)}</div>' for line in lines)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Return a table of texts and numbers; numbers, and what stands above them, are set to the right.

    Paths break at their slashes; what is still wider than the page scrolls inside the card.
    """
    rows = [list(row) for row in rows]
    sides = [_side(value) for value in rows[0]] if rows else ["left"] * len(columns)
    heads = "".join(
        f'<th scope="col" style="{_CELL};text-align:{side}">{text(name)}</th>'
        for name, side in zip(columns, sides, strict=True)
    )
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    above = f'<caption style="text-align:left">{text(caption)}</caption>' if caption else ""
    style = "border-collapse:collapse;font-size:inherit"
    inside = f"{above}<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody>"
    return f'<div style="overflow-x:auto;margin:.6em 0"><table style="{style}">{inside}</table></div>'


def beside(*parts: str) -> str:
    """Return parts, which are HTML, beside each other where there is room."""
    return f'<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">{"".join(parts)}</div>'


def shot(image: "Image.Image", alt: str, side: int = SHOT) -> str:
    """Return a small copy of a picture, as a JPEG in the page."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=78)
    uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{text(alt)}" src="{uri}" width="{small.width}" height="{small.height}">'


def heat(values: NDArray[Any], caption: str) -> str:
    """Return a matrix >= 0 as a picture, the deeper the larger; one that is large is averaged to ``MOST_CELLS`` a side.

    Args:
        values: (R, K).
        caption: What it is.
    """
    from PIL import Image

    shown, peak = values.astype(np.float32), float(values.max(initial=0.0))
    image = Image.fromarray(shown / (peak or 1.0))
    if max(image.size) > MOST_CELLS:
        size = (min(image.width, MOST_CELLS), min(image.height, MOST_CELLS))
        image = image.resize(size, Image.Resampling.BOX)
    alpha = Image.fromarray((np.asarray(image).clip(0.0, 1.0) * 255.0).round().astype(np.uint8))
    drawn = Image.new("RGBA", alpha.size, (*BLUE, 0))
    drawn.putalpha(alpha)
    file = io.BytesIO()
    drawn.save(file, "PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    side = SIDE / max(shown.shape)
    size_of = f"width:{side * shown.shape[1]:.0f}px;height:{max(side * shown.shape[0], 8.0):.0f}px"
    size_of += ";image-rendering:pixelated;border:1px solid #8886"
    picture = f'<img alt="{text(caption)}" src="{uri}" style="{size_of}">'
    return f'<figure style="margin:.4em 0">{picture}<figcaption><small>{text(caption)}</small></figcaption></figure>'


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        shown = "yes" if value else ""
    elif isinstance(value, Markup):
        shown = str(value)
    elif isinstance(value, float):
        shown = f"{value:.4g}"
    else:
        shown = f"{value:,}" if isinstance(value, int) else text(value).replace("/", "/<wbr>")
    return f'<td style="{_CELL};text-align:{_side(value)};font-variant-numeric:tabular-nums">{shown}</td>'


def _side(value: object) -> str:
    return "right" if isinstance(value, int | float) and not isinstance(value, bool) else "left"
