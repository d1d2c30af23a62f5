"""Boxes that overlap, cut into cells that don't: what a map over regions is in the plane.

A map over regions r = 1 .. R with boxes b_r is, for the eye, a density:

::

    map(x) = sum over the boxes that hold x of v_r / |b_r|                                                         (1)

Between the boxes' edges it is constant, so the plane falls apart into rectangles, the cells, of which each lies in a
box or doesn't:

::

    value of cell k = integral of map over it = sum_r share_kr v_r,   share_kr = |cell_k| / |b_r| if cell_k in b_r (2)

Columns of ``share`` sum to 1: no value is lost, and measures of disjoint regions (``carrot.evaluation.localisation``)
are exact for overlapping ones. Neighbouring cells in the same boxes are joined, along rows first: a rectangle that no
edge crosses is one cell, whatever boxes lie elsewhere.

Regions with disjoint boxes are their own cells. They are compared by their values and not by (1): a patch that padding
has cut is as strong as a whole one of the same value. Where boxes are of one size that is the same.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot.utils import require_finite, require_tensor

TOLERANCE = 1e-6  # of the seen rectangle's longer side: edges closer than that are one, so that rounding cuts no cell
LARGEST = 2**27  # entries of the table of cells and boxes: 128 MiB of truth values, 1 GiB of shares


class Cells(NamedTuple):
    """Disjoint rectangles of constant density.

    Attributes:
        boxes: (x0, y0, x1, y1) of each, from top to bottom, then from left to right.
        share: How much of each region's value each cell has: equation (2).
    """

    boxes: Float[Tensor, "K 4"]
    share: Float[Tensor, "K R"]

    def __repr__(self) -> str:
        return brief(self)


def cells(boxes: Float[Tensor, "R 4"]) -> Cells:
    """Return the cells into which boxes cut the plane, equation (2); those that no box covers are left out.

    ``share @ values`` are the values of the cells, and those over the cells' areas the map (1). Disjoint boxes come
    back as they are, without the empty ones: the value of a region with an empty box lies nowhere.

    Args:
        boxes: (x0, y0, x1, y1) of each region, in any unit.

    Exactness: exact; edges closer than a millionth of the whole are taken for one (``test_cells.py``).

    Raises:
        TypeError: Boxes are no tensor.
        ValueError: Boxes are not (R, 4), not finite, turned inside out or all empty; there are overlapping and empty
            ones; or so many that the table of cells and boxes would have more than 2^27 entries.
    """
    area, b = areas(boxes), boxes.detach().cpu().double()
    edges = _Edges.of(b[area > 0])
    if not edges.overlap:
        return Cells(b[area > 0], torch.eye(len(b), dtype=torch.float64)[area > 0])
    size = edges.areas
    if len(size) < len(b) or not bool((size > 0).all()):
        raise ValueError(
            f"`boxes` that overlap must not be empty, nor narrower than {TOLERANCE:g} of the whole: a region without "
            "an area has no density. Leave it out."
        )
    places, covered = edges.joined()
    found = torch.stack([edges.x[places[:, 0]], edges.y[places[:, 1]], edges.x[places[:, 2]], edges.y[places[:, 3]]])
    cell_area = (found[2] - found[0]) * (found[3] - found[1])
    return Cells(found.T.contiguous(), torch.where(covered, cell_area[:, None] / size, 0.0))


def areas(boxes: Float[Tensor, "R 4"]) -> Float[Tensor, " R"]:
    """Return each box's area, once the boxes are boxes.

    Raises:
        TypeError: Boxes are no tensor.
        ValueError: Boxes are not (R, 4), not finite, turned inside out, or all empty.
    """
    require_tensor("boxes", boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"`boxes` must be (N, 4), (x0, y0, x1, y1) of each region; got {tuple(boxes.shape)}.")
    require_finite("boxes", boxes)
    size = (boxes[:, 2:] - boxes[:, :2]).detach().cpu().double()
    area = size.prod(dim=1)
    if bool((size < 0).any()) or not bool((area > 0).any()):
        raise ValueError(
            "`boxes` must be (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1, and one of them must not be empty."
        )
    return area


@dataclass(frozen=True, eq=False)
class Places:
    """Where a map over regions has its values: the regions themselves where their boxes are disjoint, else the cells.

    Attributes:
        boxes: (x0, y0, x1, y1) of each place.
        area: Of each; 0 for a disjoint region that shows nothing of the picture.
        share: Of the cells; None where places are regions.
    """

    boxes: Float[Tensor, "K 4"]
    area: Float[Tensor, " K"]
    share: Float[Tensor, "K R"] | None

    __repr__ = brief

    @classmethod
    def of(cls, boxes: Float[Tensor, "R 4"]) -> "Places":
        """Return the places of some regions.

        Raises:
            ValueError: As ``cells``.
        """
        area, b = areas(boxes), boxes.detach().cpu().double()
        if not _Edges.of(b[area > 0]).overlap:
            return cls(b, area, None)
        found, share = cells(boxes)
        return cls(found, areas(found), share)

    @property
    def regions(self) -> int:
        """How many regions there are."""
        return len(self.boxes) if self.share is None else self.share.shape[1]

    @property
    def centres(self) -> Float[Tensor, "K 2"]:
        """(x, y) of each place's middle."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    def masses(self, values: Float[Tensor, " R"]) -> Float[Tensor, " K"]:
        """Return the map's integral over each place; of cells in units of the largest value, so that none overflows."""
        return values if self.share is None else self.share @ _scaled(values)

    def heights(self, values: Float[Tensor, "R n"]) -> Float[Tensor, "K n"]:
        """Return how high n maps are at each place: the density (1) where regions overlap, else the values.

        Densities are in units of each map's largest, in steps of 2^-40: those that are equal but for the order of their
        sums tie, and none overflows.
        """
        if self.share is None:
            return values
        per_area = self.share / self.area[:, None]
        heights = per_area @ _scaled(values)
        return torch.round(_scaled(heights) * 2.0**40) / 2.0**40


class _Edges(NamedTuple):
    """Boxes that are not empty, on the grid of all their edges."""

    x: Float[Tensor, " nx+1"]
    y: Float[Tensor, " ny+1"]
    in_x: Bool[Tensor, "R nx"]
    in_y: Bool[Tensor, "R ny"]

    @classmethod
    def of(cls, b: Tensor) -> "_Edges":
        least = TOLERANCE * float((b[:, 2:].amax(dim=0) - b[:, :2].amin(dim=0)).max())
        (x, in_x), (y, in_y) = (_steps(b[:, [axis, axis + 2]], least) for axis in (0, 1))
        return cls(x, y, in_x, in_y)

    @property
    def overlap(self) -> bool:
        """Whether a place lies in two boxes."""
        return bool((self.in_y.double().T @ self.in_x.double()).max() > 1)

    @property
    def areas(self) -> Tensor:
        """Of the boxes, their edges on the grid."""
        return (self.in_x.double() @ self.x.diff()) * (self.in_y.double() @ self.y.diff())

    def joined(self) -> tuple[Int[Tensor, "K 4"], Bool[Tensor, "K R"]]:
        """Return the cells as steps of the grid (x0, y0, x1, y1), neighbours in the same boxes joined; and the boxes.

        A run of one row goes on as long as the next rows have the same run.
        """
        (R, nx), ny = self.in_x.shape, self.in_y.shape[1]
        if nx * ny * R > LARGEST:
            raise ValueError(
                f"`boxes` must not be so many that overlap: {R} cut the plane into {ny} x {nx} places, and the table "
                f"of both would have more than {LARGEST} entries. Leave small ones out."
            )
        cover = (self.in_y.T[:, None] & self.in_x.T[None]).reshape(-1, R)
        kinds, kind = cover.unique(dim=0, return_inverse=True)
        none = (~kinds.any(dim=1)).tolist()
        begun, found = dict[tuple[int, int, int], int](), list[tuple[int, int, int, int, int]]()
        for y, row in enumerate([*kind.reshape(ny, nx).tolist(), []]):
            runs, x0 = dict[tuple[int, int, int], int](), 0
            for k, same in groupby(row):
                x1 = x0 + len(list(same))
                if not none[k]:
                    runs[x0, x1, k] = begun.get((x0, x1, k), y)
                x0 = x1
            found += [(y0, x0, y, x1, k) for (x0, x1, k), y0 in begun.items() if (x0, x1, k) not in runs]
            begun = runs
        y0, x0s, y1, x1s, k = torch.tensor(sorted(found)).unbind(dim=1)
        return torch.stack([x0s, y0, x1s, y1], dim=1), kinds[k]


def _scaled(values: Tensor) -> Tensor:
    """Return the values of each column over the largest of them; zeros stay zeros."""
    largest = values.abs().amax(dim=0)
    return values / torch.where(largest > 0, largest, 1.0)


def _steps(ends: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return the edges along one axis, and which steps between them lie in which box; near edges are the first one."""
    values, place = ends.unique(return_inverse=True)
    is_new = torch.cat([torch.tensor([True]), values.diff() > least])
    first, last = is_new.long().cumsum(dim=0)[place].sub(1).unbind(dim=1)
    step = torch.arange(int(is_new.sum()) - 1)
    return values[is_new], (first[:, None] <= step) & (step < last[:, None])
