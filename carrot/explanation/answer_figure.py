"""The answer as one figure, as the page opens with it: a sentence, a map, terms that add up, three training pictures.

Words and numbers are those of the page, read from its HTML; colours are those of ``carrot.explanation.drawing``.
"""

import textwrap
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import numpy as np

from carrot._display.html import plain
from carrot.explanation.drawing import AGAINST, FOR, MARKS, ON_COLOURS, strongest
from carrot.explanation.sections import LEADING, effect
from carrot.explanation.terms import terms
from carrot.explanation.view import View
from carrot.explanation.words import digits_for, numbered, replaced, sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carrot.explanation.record import Explanation

OTHER_SCRIPTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Micro Hei",
    "Noto Sans",
    "Noto Sans Arabic",
    "Arial Unicode MS",
)
INK, SOFT, FLAG = "#1d2126", "#545c66", "#fff3d6"


def families() -> list[str]:
    """Return the fonts to write names with: the usual one, and those for other scripts that are installed."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return [*matplotlib.rcParams["font.family"], *(name for name in OTHER_SCRIPTS if name in there)]


def answer_figure(e: "Explanation") -> "Figure":
    """Draw the answer of an explanation.

    Args:
        e: The explanation.
    """
    import matplotlib

    from carrot._display.canvas import Canvas

    v = View(e)
    leading = v.rows[:LEADING]
    with matplotlib.rc_context({"font.family": families()}):
        figure = Canvas(figsize=(10.0, 7.6 if leading else 4.4))
        own = [] if e.own is None else [e.own.told]
        told = "\n".join(_filled(line, 96) for line in (*own, f"{plain(sentence(e))} {replaced(e)}"))
        figure.suptitle(told, x=0.02, ha="left", fontsize=12, color=INK, parse_math=False)
        grid = figure.add_gridspec(2 if leading else 1, 6, height_ratios=(5, 4) if leading else (1,))
        _picture(figure.add_subplot(grid[0, :3]), v)
        _sum(figure.add_subplot(grid[0, 3:]), v)
        digits = digits_for([float(e.parts.removal[i]) for i in leading])
        for k, i in enumerate(leading):
            _training(figure.add_subplot(grid[1, 2 * k : 2 * k + 2]), v, i, digits)
    return figure


def _picture(axis: Any, v: View) -> None:
    """Draw the map on the picture: what was never seen dimmed, what speaks most numbered."""
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    e = v.e
    _show(axis, _muted(v), _clipped(e.picture.id[::-1], 46)[::-1])
    sheet, values, _ = v.spread(e.parts.token)
    limit, cells, colours = strongest(values), [], []
    for place, value in enumerate(values.tolist()):
        box = sheet.box(place)
        if box is not None:
            x, y, w, h = box
            cells.append(Rectangle((x, y), w, h))
            opacity = ON_COLOURS * min(abs(value) / limit, 1.0)
            colours.append(to_rgba(FOR if value > 0 else AGAINST, opacity))
    axis.add_collection(PatchCollection(cells, facecolors=colours, edgecolors="none", antialiased=False))
    for k, region in enumerate(numbered(e)):
        box = v.test.box(region)
        if box is None:
            continue
        x, y, w, h = box
        for colour, width in (("#000000", 3.4), (MARKS[k], 2.0)):
            axis.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=width))
        at = (x + 0.04 * v.test.size[0] * (1 + k), y + 0.05 * v.test.size[1])
        axis.text(
            *at,
            str(k + 1),
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
            color="#000000",
            bbox={"boxstyle": "circle,pad=0.2", "facecolor": MARKS[k], "edgecolor": "#000000", "linewidth": 0.8},
        )
    axis.set(xlim=(-0.5, v.test.size[0] - 0.5), ylim=(v.test.size[1] - 0.5, -0.5))
    _legend(axis, limit)
    axis.set_xlabel(
        _filled(f"{plain(v.legend_of)} {v.middles}", 64), fontsize=8, color=SOFT, labelpad=30, parse_math=False
    )


def _muted(v: View) -> Any:
    """Return the picture as the page has it under a map; what lies in no region is nearly white."""
    image = v.e.picture.image.convert("RGB")
    own, grey = np.asarray(image, dtype=np.float64), np.asarray(image.convert("L"), dtype=np.float64)[..., None]
    drawn, seen = 0.31 * own + 0.41 * grey + 0.28 * 255.0, np.zeros(own.shape[:2], dtype=bool)
    for x0, y0, x1, y1 in v.e.picture.boxes.round().long().tolist():
        seen[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    drawn[~seen] = 0.28 * own[~seen] + 0.72 * 255.0
    return drawn.round().astype(np.uint8)


def _legend(axis: Any, limit: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    white = np.ones(3)
    low, high = (ON_COLOURS * np.array(to_rgb(colour)) + (1.0 - ON_COLOURS) * white for colour in (AGAINST, FOR))
    shades = LinearSegmentedColormap.from_list("against and for", [low, white, high])
    bar = axis.inset_axes((0.0, -0.06, 1.0, 0.03))
    bar.imshow(np.linspace(0.0, 1.0, 101)[None], aspect="auto", cmap=shades)
    bar.set(yticks=[], xticks=[0, 50, 100])
    bar.set_xticklabels([f"{-limit:+.3g}", "0", f"{limit:+.3g}"], fontsize=7.5, color=SOFT)


def _sum(axis: Any, v: View) -> None:
    """Draw the terms as bars, with their numbers: they add up as they are shown."""
    found, total = terms(v.e)
    rows = [(term.mark, term.told, term.value, term.shown) for term in found]
    rows.append((None, f"= {plain(v.score)}", v.e.parts.logit, total))
    most = max(abs(value) for _, _, value, _ in rows) or 1.0
    for place, (mark, told, value, shown) in enumerate(rows):
        y, is_total = len(rows) - 1 - place, place == len(rows) - 1
        weight = "bold" if is_total else "normal"
        axis.plot((0.0, 0.0), (y - 0.42, y - 0.02), color=SOFT, linewidth=0.8)
        axis.barh(y - 0.22, value / most, height=0.26, color=INK if is_total else FOR if value > 0 else AGAINST)
        axis.text(
            -1.0,
            y + 0.14,
            _clipped(told, 62),
            fontsize=9,
            va="center",
            color=INK,
            fontweight=weight,
            parse_math=False,
        )
        axis.text(1.42, y - 0.22, shown, fontsize=9, va="center", ha="right", color=INK, fontweight=weight)
        if mark is not None:
            axis.text(
                -1.1,
                y + 0.14,
                str(mark + 1),
                ha="center",
                va="center",
                fontsize=8,
                fontweight="bold",
                bbox={"boxstyle": "circle,pad=0.2", "facecolor": MARKS[mark], "edgecolor": "#000000"},
            )
    axis.axhline(0.5, color=INK, linewidth=1.0)
    axis.set(xlim=(-1.2, 1.45), ylim=(-0.6, len(rows) - 0.4), xticks=[], yticks=[])
    axis.set_title(textwrap.fill(plain(v.because), 60), fontsize=10.5, loc="left", color=INK, parse_math=False)
    axis.set_frame_on(False)


def _training(axis: Any, v: View, i: int, digits: int) -> None:
    """Draw a training picture with the one number that counts, and a flag where its label is doubtful."""
    e, picture = v.e, v.pictures.get(i)
    told = f"{_clipped(e.training_labels[i], 90)}\n{plain(effect(v, i, digits))}"
    if picture is not None:
        _show(axis, np.asarray(picture.image), told)
    else:
        _show(axis, np.full((2, 3, 3), 235, dtype=np.uint8), told)
        _write(axis, 0.5, _filled(f"not shown: {e.missing.get(i, 'it is not at hand')}", 24))
    _write(axis, -0.03, _clipped(e.training_ids[i][::-1], 46)[::-1], va="top", fontsize=7.5)
    if i in e.doubtful:
        words = _filled(f"Doubtful label: fitted without this picture, the model says {e.doubtful[i]}.", 40)
        box = {"facecolor": FLAG, "edgecolor": "#f0a202", "pad": 2.5}
        _write(axis, 0.03, words, va="bottom", color=INK, bbox=box)


def _write(axis: Any, height: float, words: str, **how: Any) -> None:
    """Write in the middle of a picture's width, at a height in shares of its own."""
    style = {"ha": "center", "va": "center", "fontsize": 8, "color": SOFT, "parse_math": False}
    axis.text(0.5, height, words, transform=axis.transAxes, **(style | how))


def _narrowed(words: str, most: int) -> int:
    """Return how many letters of a text fit where ``most`` narrow ones do: Chinese ones, say, are twice as wide."""
    wide = sum(east_asian_width(letter) in "WF" for letter in words)
    return most if not wide else max(1, most * len(words) // (len(words) + wide))


def _clipped(words: str, most: int) -> str:
    most = _narrowed(words, most)
    return words if len(words) <= most else f"{words[: most - 1]}…"


def _filled(words: str, most: int) -> str:
    return textwrap.fill(words, _narrowed(words, most))


def _show(axis: Any, image: Any, title: str) -> None:
    axis.imshow(image)
    axis.set(xticks=[], yticks=[])
    axis.set_frame_on(False)
    words = "\n".join(_filled(line, 46) for line in title.split("\n"))
    axis.set_title(words, fontsize=9, color=INK, parse_math=False)
