"""An explanation as a figure, of all its maps too: which regions, which training pictures, which because of which.

Maps of patches are at the level of tokens: exact for the map tokens -> logit, not a statement about pixels. Maps of
tiles are exact for the picture; overlapping tiles are drawn as ``carrot.tiling`` has it, per hundredth of the picture.
"""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from carrot._display.brief import brief
from carrot.explanation.answer_figure import answer_figure, families
from carrot.explanation.drawing import AGAINST, FOR, strongest
from carrot.explanation.parts import is_unmixed, telling_pairs
from carrot.tiling import pixel_map

if TYPE_CHECKING:
    import matplotlib.figure

    from carrot.explanation.record import Explanation

PAIR_COLOURS = ("#00c8ff", "#ff2fd0", "#ffe000")
MAX_PICTURES = 6  # training pictures in one figure
WRAP = 34  # letters of a title beside each other


@dataclass(frozen=True)
class Panel:
    """A picture, its regions' boxes in its own pixels (x0, y0, x1, y1), row-major on their grid, and the words above.

    Tiles have no grid, and may overlap; ``drawn`` is where a map has them, their boxes where nobody says.
    """

    image: Image.Image
    boxes: Float[Tensor, "N 4"]
    grid_hw: tuple[int, int] | None
    title: str
    drawn: Float[Tensor, "N 4"] | None = None

    __repr__ = brief


@dataclass(frozen=True)
class Absent:
    """A picture that can't be shown, and why."""

    reason: str
    title: str


@dataclass(frozen=True)
class Pair:
    """A region of the test picture, that of the first training picture it answers to, and how much that brings."""

    test_region: int
    train_region: int
    contribution: float


def explanation_figure(
    test: Panel,
    maps: dict[str, Float[Tensor, " N"]],
    training: Sequence[Panel | Absent],
    pairs: Sequence[Pair],
    heading: str,
) -> "matplotlib.figure.Figure":
    """Draw the test picture with its region maps above, training pictures below, and pairs of regions joined by lines.

    Args:
        test: The picture that is explained.
        maps: Contributions of its regions by name; red supports the class, blue speaks against it; each map has its own
            scale, by ``carrot.explanation.drawing.strongest``.
        training: The training pictures that matter most, most important first; without any there is no second row.
        pairs: Region pairs between the test picture and ``training[0]``, if it is there; at most three are drawn.
        heading: What is explained.

    Returns:
        A figure; save it with ``figure.savefig(path)``.
    """
    import matplotlib

    with matplotlib.rc_context({"font.family": families()}):
        return _drawn(test, maps, training, pairs, heading)


def _drawn(
    test: Panel,
    maps: dict[str, Tensor],
    training: Sequence[Panel | Absent],
    pairs: Sequence[Pair],
    heading: str,
) -> "matplotlib.figure.Figure":
    from carrot._display.canvas import Canvas

    first = training[0] if training else None
    joined = isinstance(first, Panel) and bool(pairs)
    columns, rows = max(len(maps) + 1, len(training) + joined), 2 if training else 1
    figure = Canvas(figsize=(2.9 * columns, 3.3 * rows))
    figure.suptitle(textwrap.fill(heading, 34 * columns), fontsize=10, parse_math=False)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    _show(axes[0, 0], test)
    for axis, (name, values) in zip(axes[0, 1:], maps.items(), strict=False):
        _overlay(axis, test, values, name)
    for axis, panel in zip(axes[-1, joined:], training, strict=False):
        _show(axis, panel) if isinstance(panel, Panel) else _say(axis, panel)
    if isinstance(first, Panel) and pairs:
        _show(axes[1, 0], Panel(test.image, test.boxes, test.grid_hw, "region to region"))
        labels: Counter[int] = Counter()
        for pair, colour in zip(pairs, PAIR_COLOURS, strict=False):
            here, there = test.boxes[pair.test_region], first.boxes[pair.train_region]
            _join(figure, axes[1, 0], axes[1, 1], here, there, colour)
            _label(axes[1, 0], test, here, f"{pair.contribution:+.1e}", colour, labels[pair.test_region])
            labels[pair.test_region] += 1
    return figure


def plot_explanation(e: "Explanation", maps: bool = False) -> "matplotlib.figure.Figure":
    """Draw an explanation.

    Args:
        e: The explanation.
        maps: Draw every map, training pictures by their share of the logit, and pairs of regions; default: the answer
            as its page opens with it.
    """
    return _maps(e) if maps else answer_figure(e)


def _maps(e: "Explanation") -> "matplotlib.figure.Figure":
    """Draw every map; of a training picture that isn't at hand it is said why.

    Pairs are those of the first picture that has both, where a few of them tell enough.
    """
    p, local = e.parts, len(e.picture.boxes)
    what = f"logit of {e.target}" if e.against is None else f"{e.target} less {e.against}"
    test = Panel(e.picture.image, e.picture.boxes, e.picture.grid_hw, f"{what}: {p.logit:+.3f}", e.picture.on_map)
    brings = f"what each {e.level.one} brings"
    names = {brings: p.token, "what each holds after sharing": p.node, "drop without it": p.drop}
    if is_unmixed(p):
        del names["what each holds after sharing"]
    maps = {name: values[:local] for name, values in names.items()}
    own = -1 if e.own is None else e.own.row  # it is like itself: that tells nothing
    there = sorted(
        e.shown, key=lambda i: (i == own, i not in e.shown_pictures, i not in e.pair_maps)
    )  # stable: those with both first
    panels: list[Panel | Absent] = []
    for i in there[:MAX_PICTURES]:
        title, q = f"{e.training_ids[i]}\ndual {float(p.dual[i]):+.3f}", e.shown_pictures.get(i)
        if q is None:
            panels.append(Absent(e.missing.get(i, "it is not at hand"), title))
        else:
            panels.append(Panel(q.image, q.boxes, q.grid_hw, title))
    pairs = []
    if panels and isinstance(panels[0], Panel) and there[0] in e.pair_maps and there[0] != own:
        joint = e.pair_maps[there[0]][:local, : len(panels[0].boxes)]
        pairs = [Pair(*pair) for pair in telling_pairs(joint, len(PAIR_COLOURS))]
    question = f"what makes it {e.target}" if e.against is None else f"why {e.target} and not {e.against}"
    heading = f"{e.picture.id}: {question}. {e.level.line.capitalize()}"
    heading = heading if e.own is None else f"{e.own.told} {heading}"
    return explanation_figure(test, maps, panels, pairs, heading)


def _show(axis: Any, panel: Panel) -> None:
    axis.imshow(np.asarray(panel.image))
    _title(axis, panel.title)


def _say(axis: Any, absent: Absent) -> None:
    axis.imshow(np.full((2, 2, 3), 225, dtype=np.uint8))
    words = textwrap.fill(f"not shown: {absent.reason}", 24)
    axis.text(0.5, 0.5, words, ha="center", va="center", fontsize=8, color="#555555", parse_math=False)
    _title(axis, absent.title)


def _title(axis: Any, text: str) -> None:
    lines = [textwrap.fill(line, WRAP) for line in text.split("\n")]
    axis.set_title("\n".join(lines), fontsize=8, parse_math=False)


def _overlay(axis: Any, panel: Panel, values: Tensor, name: str) -> None:
    title = name if panel.grid_hw is not None else f"{name}\nper hundredth of the picture's area"
    _show(axis, Panel(panel.image.convert("L").convert("RGB"), panel.boxes, panel.grid_hw, title))
    if panel.grid_hw is None:  # a map over pixels
        width, height = panel.image.size
        on_map = panel.boxes if panel.drawn is None else panel.drawn
        values = pixel_map(values, on_map, (height, width)) * (width * height / 100.0)
        x, y, cells = np.arange(width + 1), np.arange(height + 1), values.numpy()
        values = values.flatten()
    else:
        x, y = _edges(panel.boxes, panel.grid_hw)
        cells = values.reshape(panel.grid_hw).double().cpu().numpy()
    limit = strongest(values)
    drawn = axis.pcolormesh(
        x, y, cells, cmap=_colours(), vmin=-limit, vmax=limit, alpha=0.6, linewidth=0, antialiased=False
    )
    axis.set_xlim(0, panel.image.width)
    axis.set_ylim(panel.image.height, 0)
    beyond = "both" if float(values.abs().max()) > limit else "neither"
    bar = axis.figure.colorbar(drawn, ax=axis, shrink=0.6, extend=beyond)
    bar.ax.tick_params(labelsize=6)


def _colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("for and against", [AGAINST, "#ffffff", FOR])


def _label(axis: Any, panel: Panel, box: Tensor, words: str, colour: str, place: int) -> None:
    """Write above a region, then below it; to the left of its right side where the picture ends soon."""
    x0, y0, x1, y1 = box.tolist()
    x, side = (x1, "right") if x0 > panel.image.width / 2 else (x0, "left")
    axis.annotate(
        words,
        (x, y1 if place else y0),
        (0, -10 * max(0, place - 1)),
        textcoords="offset points",
        color=colour,
        fontsize=8,
        ha=side,
        va="top" if place else "bottom",
        fontweight="bold",
        bbox={"facecolor": "black", "alpha": 0.5, "linewidth": 0, "pad": 0.5},
    )


def _edges(boxes: Tensor, grid_hw: tuple[int, int]) -> tuple[Any, Any]:
    """Return where columns and rows of regions begin and the last ends; one of padding has no width or no height."""
    grid = boxes.double().cpu().reshape(*grid_hw, 4).numpy()
    x = np.append(grid[0, :, 0], grid[0, -1, 2])
    return x, np.append(grid[:, 0, 1], grid[-1, 0, 3])


def _join(figure: Any, left: Any, right: Any, test_box: Tensor, train_box: Tensor, colour: str) -> None:
    from matplotlib.patches import ConnectionPatch, Rectangle

    centres = []
    for axis, box in ((left, test_box), (right, train_box)):
        x0, y0, x1, y1 = box.tolist()
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.8))
        centres.append(((x0 + x1) / 2, (y0 + y1) / 2))
    figure.add_artist(
        ConnectionPatch(
            centres[0], centres[1], "data", "data", axesA=left, axesB=right, color=colour, linewidth=1.2, alpha=0.8
        )
    )
