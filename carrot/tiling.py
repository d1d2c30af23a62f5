"""Tiles: boxes of the original picture, each cut out, resized, and seen by the backbone alone.

A patch token of a whole picture has seen every pixel of it. A tile's feature is a function of the pixels in its box and
of nothing else, so that what is exact for regions is exact for the picture: dropping a tile is not showing it. A k x k
grid whose boxes overlap by a share o has boxes of side

::

    b = 1 / (1 + (k - 1) (1 - o)),      starting at 0, (1 - o) b, 2 (1 - o) b, ..., 1 - b                            (1)
    map(x) = sum over the middles r that hold x of value_r / |middle_r|                                              (2)

(2) is the map for the eye, which sums over pixels to the sum of the values. The middle of a tile is the part around its
centre of side (1 - o) b, as far as the next centre: middles of a grid lie side by side, so that equal values are even
where tiles' whole boxes would make a hill of them (docs/decisions/0007). Disjoint tiles, and boxes of one's own, are
their own middles. Boxes are rounded to whole pixels and cut before they are resized: a filter that resizes looks beyond
the edge of a box.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import SupportsFloat, SupportsIndex

import torch
from jaxtyping import Float, Int, Real
from PIL import Image
from torch import Tensor

from carrot._ambient import pinned, pinned_class
from carrot._choices import OVERLAP, Grid, read_regions, tile_places
from carrot._images import upright_rgb
from carrot.utils import real_number, require_finite, require_tensor, whole_number

Box = tuple[float, float, float, float]


@pinned_class
class Tiling:
    """Which boxes of a picture are its regions: k x k grids, one or several scales, or boxes of one's own.

    Args:
        grid: k of a k x k grid, or several.
        overlap: Share of its side by which a box overlaps the next, in [0, 1); 0: disjoint.

    Attributes:
        spec: As it is written in ``regions=``: "tiles:3,4", "tiles:2@0", "boxes:x0,y0,x1,y1;...".

    Raises:
        TypeError: A number is none.
        ValueError: A number is out of range, or a grid comes twice.
    """

    def __init__(
        self, grid: SupportsIndex | Sequence[SupportsIndex] = (3, 4), overlap: SupportsFloat = OVERLAP
    ) -> None:
        if isinstance(grid, str):
            raise TypeError(f"`grid` must be whole numbers; got {grid!r}. For what is written, Tiling.from_spec.")
        given = grid if isinstance(grid, Sequence) else [grid]
        sides = [whole_number("grid", side, 1, 32) for side in given]
        if not sides:
            raise ValueError("`grid` must be at least one whole number; got none.")
        share = real_number("overlap", overlap)
        if not 0.0 <= share < 1.0 or round(share, 4) != share:
            raise ValueError(f"`overlap` must be in [0, 1), with four digits at most; got {overlap!r}.")
        self._set(f"tiles:{','.join(str(Grid(side, share)) for side in sides)}")

    @classmethod
    def from_spec(cls, spec: str) -> "Tiling":
        """Return the tiling that is written; see ``carrot._choices.REGIONS``.

        Raises:
            ValueError: It is none.
        """
        made = cls.__new__(cls)
        made._set(spec)
        return made

    @classmethod
    def from_boxes(cls, boxes: Float[Tensor, "R 4"] | Iterable[Iterable[SupportsFloat]]) -> "Tiling":
        """Return the tiling of boxes (x0, y0, x1, y1), in shares of the picture's width and height, from 0 to 1.

        Raises:
            ValueError: A box leaves the picture, is empty, or comes twice.
        """
        rows = boxes.tolist() if isinstance(boxes, Tensor) else [[float(x) for x in box] for box in boxes]
        return cls.from_spec("boxes:" + ";".join(",".join(map(repr, box)) for box in rows))

    def _set(self, spec: str) -> None:
        found = read_regions(spec)
        if isinstance(found, str):
            raise ValueError(f'`spec` must be of tiles or boxes, such as "tiles:3,4"; got {spec!r}.')
        kind = spec.partition(":")[0]
        written = [str(item) if isinstance(item, Grid) else ",".join(map(repr, item)) for item in found]
        self.spec, self._items = f"{kind}:{(',' if kind == 'tiles' else ';').join(written)}", found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tiling) and other._items == self._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"<Tiling {self.spec}>"

    @property
    def scales(self) -> tuple["Tiling", ...]:
        """Its grids, each a tiling of its own: what is kept of one serves every ladder that has it."""
        if not isinstance(self._items[0], Grid):
            return (self,)
        return tuple(Tiling.from_spec(f"tiles:{grid}") for grid in self._items)

    @property
    def shares(self) -> Float[Tensor, "R 4"]:
        """Boxes (x0, y0, x1, y1) in shares of the picture's width and height; grids one after the other, row-major."""
        boxes: list[Box] = []
        for item in self._items:
            boxes += _grid_boxes(item) if isinstance(item, Grid) else [item]
        return torch.tensor(boxes, dtype=torch.float64)

    @property
    def middles(self) -> Float[Tensor, "R 4"]:
        """The part of each box on which its value is drawn, in shares too: side by side within a grid."""
        boxes: list[Box] = []
        for item in self._items:
            boxes += _middles(item) if isinstance(item, Grid) else [item]
        return torch.tensor(boxes, dtype=torch.float64)

    @property
    def places(self) -> tuple[str, ...]:
        """Where each tile lies, in words: "row 0, column 2 of 3 x 3"."""
        return tile_places(self._items)

    def __len__(self) -> int:
        return len(self.places)

    def boxes(self, image_size: tuple[int, int]) -> Int[Tensor, "R 4"]:
        """Return each tile's box in whole pixels of an original of (width, height), PIL's ``size``: what is cut.

        Raises:
            ValueError: A tile would have no pixel: the picture is too small for the tiling.
        """
        size = torch.tensor([*image_size, *image_size], dtype=torch.float64)
        boxes = (self.shares * size).round().long()
        empty = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1).nonzero().flatten().tolist()
        if empty:
            raise ValueError(
                f"A picture of {image_size[0]} x {image_size[1]} pixels (width x height) is too small for {self.spec}: "
                f"{self.places[empty[0]]} would hold no pixel. Use a coarser tiling, or leave the picture out."
            )
        return boxes

    def drawn(self, image_size: tuple[int, int]) -> Float[Tensor, "R 4"]:
        """Return where each tile's value is drawn, its middle, in pixels of an original, to the fraction of one."""
        return self.middles * torch.tensor([*image_size, *image_size], dtype=torch.float64)

    def cut(self, image: Image.Image) -> list[Image.Image]:
        """Return the tiles of a picture, made upright and RGB first, each of its own size.

        Raises:
            UnreadableImageError: The picture can't be decoded.
            ValueError: It is too small for the tiling.
        """
        image = upright_rgb(image, "`image`")
        return [image.crop((box[0], box[1], box[2], box[3])) for box in self.boxes(image.size).tolist()]

    def pixel_map(self, values: Float[Tensor, " R"], image_size: tuple[int, int]) -> Float[Tensor, "img_h img_w"]:
        """Return ``values`` of the tiles on the pixels of an original of (width, height): equation (2).

        Raises:
            ValueError: There is not one value for each tile, one is not finite, or the picture is too small.
        """
        self.boxes(image_size)  # refuses what is too small for the tiling
        return pixel_map(values, self.drawn(image_size), (image_size[1], image_size[0]))


@pinned()
def pixel_map(
    values: Real[Tensor, " N"], boxes: Real[Tensor, "N 4"], image_hw: tuple[int, int]
) -> Float[Tensor, "img_h img_w"]:
    """Return values spread evenly over boxes of a picture, ``value_r / |box_r|`` to the fraction of a pixel.

    Its sum is that of the values whose boxes lie in the picture.

    Args:
        values: A number for each region, without global ones.
        boxes: (x0, y0, x1, y1) of each region in pixels of the picture. An empty one shows nothing of it.
        image_hw: Height and width of the picture.

    Raises:
        ValueError: Shapes don't match, or a number isn't finite.
    """
    require_tensor("values", values)
    if values.shape != (len(boxes),):
        raise ValueError(f"`values` must be ({len(boxes)},), one for each box; got {tuple(values.shape)}.")
    require_finite("values", values)
    rows, columns = coverage(boxes, image_hw)
    b = boxes.double()
    area = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])).clamp(min=0.0)
    density = torch.where(area > 0.0, values.double() / area.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    return (density[:, None] * rows).T @ columns


def coverage(
    boxes: Real[Tensor, "N 4"], image_hw: tuple[int, int]
) -> tuple[Float[Tensor, "N img_h"], Float[Tensor, "N img_w"]]:
    """Return how much of each row and of each column of pixels a box covers, in [0, 1].

    Raises:
        ValueError: Boxes are not (N, 4), or a number isn't finite.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"`boxes` must be (N, 4), x0, y0, x1, y1 of each region; got {tuple(boxes.shape)}.")
    require_finite("boxes", boxes)
    b = boxes.double()

    def along(low: Tensor, high: Tensor, n: int) -> Tensor:
        edge = torch.arange(n, dtype=torch.float64)
        return (torch.minimum(high[:, None], edge + 1.0) - torch.maximum(low[:, None], edge)).clamp(min=0.0)

    return along(b[:, 1], b[:, 3], image_hw[0]), along(b[:, 0], b[:, 2], image_hw[1])


def _grid_boxes(grid: Grid) -> list[Box]:
    step = 1.0 - grid.overlap  # in sides; where boxes are disjoint, one's end and the next one's start are one number
    whole = 1.0 + (grid.k - 1) * step
    return _squared([(i * step / whole, (1.0 + i * step) / whole) for i in range(grid.k)])


def _middles(grid: Grid) -> list[Box]:
    step = 1.0 - grid.overlap
    whole, half = 1.0 + (grid.k - 1) * step, (step if grid.k > 1 else 1.0) / 2
    edges = [0.5 - half + i * step for i in range(grid.k)] + [0.5 + half + (grid.k - 1) * step]
    return _squared([(low / whole, high / whole) for low, high in pairwise(edges)])


def _squared(spans: Sequence[tuple[float, float]]) -> list[Box]:
    return [(x0, y0, x1, y1) for y0, y1 in spans for x0, x1 in spans]
