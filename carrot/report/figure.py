"""One figure that answers: which regions, which training pictures, and which region because of which.

All maps are at the level of tokens: exact for the map tokens -> logit, not a statement about pixels.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle
from PIL import Image
from torch import Tensor

PAIR_COLOURS = ("#00c8ff", "#ff2fd0", "#ffe000")


@dataclass(frozen=True)
class Panel:
    """A picture, the boxes of its regions in its own pixels (x0, y0, x1, y1), row-major on the grid, and what to write above it."""

    image: Image.Image
    boxes: Float[Tensor, "N 4"]
    grid_hw: tuple[int, int]
    title: str


@dataclass(frozen=True)
class Pair:
    """A region of the test picture, the region of the first training picture that it answers to, and how much that brings."""

    test_region: int
    train_region: int
    contribution: float


def explanation_figure(
    test: Panel, maps: dict[str, Float[Tensor, " N"]], training: Sequence[Panel], pairs: Sequence[Pair], heading: str
) -> Figure:
    """Draw the test picture with its region maps above, the training pictures below, and pairs of regions joined by lines.

    Args:
        test: The picture that is explained.
        maps: Contributions of its regions by name; red supports the class, blue speaks against it; each map has its own scale.
        training: The training pictures that matter most, most important first.
        pairs: Region pairs between the test picture and ``training[0]``; at most three are drawn.
        heading: What is explained.

    Returns:
        A figure; save it with ``figure.savefig(path)``.
    """
    columns = max(len(maps) + 1, len(training) + 1)
    figure = Figure(figsize=(2.9 * columns, 6.6), layout="constrained")
    figure.suptitle(textwrap.fill(heading, 34 * columns), fontsize=10)
    axes = figure.subplots(2, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    _show(axes[0, 0], test)
    for axis, (name, values) in zip(axes[0, 1:], maps.items(), strict=False):
        _overlay(axis, test, values, name)
    _show(axes[1, 0], Panel(test.image, test.boxes, test.grid_hw, "region to region"))
    for axis, panel in zip(axes[1, 1:], training, strict=False):
        _show(axis, panel)
    if training:
        for pair, colour in zip(pairs, PAIR_COLOURS, strict=False):
            _join(
                figure,
                axes[1, 0],
                axes[1, 1],
                test.boxes[pair.test_region],
                training[0].boxes[pair.train_region],
                colour,
            )
            label = f"{pair.contribution:+.1e}"
            x0, y0 = test.boxes[pair.test_region][:2].tolist()
            axes[1, 0].text(x0, y0, label, color=colour, fontsize=8, va="bottom", fontweight="bold")
    return figure


def _show(axis: Axes, panel: Panel) -> None:
    axis.imshow(np.asarray(panel.image))
    axis.set_title(panel.title, fontsize=8)


def _overlay(axis: Axes, panel: Panel, values: Tensor, name: str) -> None:
    limit = float(values.abs().max()) or 1.0
    _show(axis, Panel(panel.image.convert("L").convert("RGB"), panel.boxes, panel.grid_hw, name))
    x0, y0 = panel.boxes[:, :2].min(dim=0).values.tolist()
    x1, y1 = panel.boxes[:, 2:].max(dim=0).values.tolist()
    drawn = axis.imshow(
        values.reshape(panel.grid_hw).double().cpu().numpy(),
        cmap=matplotlib.colormaps["RdBu_r"],
        vmin=-limit,
        vmax=limit,
        alpha=0.6,
        extent=(x0, x1, y1, y0),
        interpolation="nearest",
    )
    axis.set_xlim(0, panel.image.width)
    axis.set_ylim(panel.image.height, 0)
    bar = axis.figure.colorbar(drawn, ax=axis, shrink=0.6)
    bar.ax.tick_params(labelsize=6)


def _join(figure: Figure, left: Axes, right: Axes, test_box: Tensor, train_box: Tensor, colour: str) -> None:
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
