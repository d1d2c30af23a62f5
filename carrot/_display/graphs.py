"""A region graph to look at, as a figure and as a card; and the panels of the figure, for all that has a graph."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from carrot._display import html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 3.4, 3.0  # inches of a panel
BLUE, RED = "#2166ac", "#b2182b"


class GraphView:
    """A graph, or a batch of graphs, that can be looked at."""

    W: Tensor
    degree: Tensor

    if TYPE_CHECKING:

        @property
        def L(self) -> Tensor: ...

    def plot(self) -> "Figure":
        """Return W, the degrees and the eigenvalues of L as a matplotlib figure.

        Raises:
            ValueError: It is a batch of graphs.
        """
        if self.W.ndim != 2:
            raise ValueError(
                f"`plot` needs the graph of one picture; W is {tuple(self.W.shape)}. Build it of `regions.picture(i)`."
            )
        figure, (of_W, of_degree, of_L) = canvas(3)
        matrix(of_W, array(self.W), "W")
        regions(of_degree, array(self.degree), None, "degree")
        spectrum(of_L, array(self.L))
        return figure

    def _repr_html_(self) -> str:
        W, degree = array(self.W), array(self.degree)
        N = W.shape[-1]
        ranges = [("degree", degree)]
        if N > 1:
            ranges.append(("weight of an edge", W[..., ~np.eye(N, dtype=bool)]))
        rows = [(name, float(x.min()), float(x.mean(dtype=np.float64)), float(x.max())) for name, x in ranges]
        numbers = html.table(["", "least", "mean", "largest"], rows)
        drawn = html.heat(W, "W") if W.ndim == 2 else ""
        return html.card(f"Graph of {N} regions, W {W.shape}", html.beside(numbers, drawn))


def array(x: Tensor) -> NDArray[Any]:
    """Return a tensor's numbers, wherever it is."""
    return x.detach().cpu().numpy()


def canvas(n: int) -> "tuple[Figure, Sequence[Any]]":
    """Return a figure of n panels beside each other, and their axes."""
    from carrot._display.canvas import Canvas

    figure = Canvas(figsize=(WIDTH * n, HEIGHT))
    return figure, figure.subplots(1, n, squeeze=False)[0]


def matrix(axis: Any, values: NDArray[Any], title: str) -> None:
    """Draw a matrix, in one hue from 0 to 1."""
    drawn = axis.imshow(values, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    axis.figure.colorbar(drawn, ax=axis, shrink=0.8)
    _named(axis, title, "region", "region")


def regions(axis: Any, values: NDArray[Any], grid_hw: tuple[int, int] | None, title: str) -> None:
    """Draw a number of each region where it lies on its grid; without a grid as bars, and so with global regions."""
    if grid_hw is None or grid_hw[0] * grid_hw[1] != len(values):
        axis.bar(np.arange(len(values)), values, color=BLUE, width=0.8)
        _named(axis, title, "region", "")
        return
    drawn = axis.imshow(values.reshape(grid_hw), cmap="viridis", interpolation="nearest")
    axis.figure.colorbar(drawn, ax=axis, shrink=0.8)
    _named(axis, title, "column", "row")


def spectrum(axis: Any, L: NDArray[Any], t: float | None = None) -> None:
    """Draw the eigenvalues of L in order, and what diffusion for t leaves of each."""
    eigenvalues = np.linalg.eigvalsh(L)
    axis.plot(eigenvalues, ".", color=BLUE, label="eigenvalue of L")
    if t is not None:
        axis.plot(np.exp(-t * eigenvalues), "-", color=RED, label=f"exp(-t eigenvalue), t = {t:g}")
    axis.set_ylim(-0.03, max(1.03, float(eigenvalues.max()) + 0.03))
    axis.legend(fontsize=7)
    _named(axis, "spectrum of L", "number", "")


def before_after(axis: Any, before: NDArray[Any], after: NDArray[Any], title: str) -> None:
    """Draw a number of each region before and after diffusion."""
    for values, colour, name in ((before, BLUE, "before"), (after, RED, "after")):
        axis.step(np.arange(len(values)), values, where="mid", color=colour, label=f"{name}: {values.sum():.4g} in all")
    axis.set_ylim(bottom=0.0)
    axis.legend(fontsize=7)
    _named(axis, title, "region", "")


def _named(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=9, parse_math=False)
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    axis.tick_params(labelsize=7)
