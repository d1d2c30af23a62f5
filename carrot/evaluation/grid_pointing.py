"""The grid pointing game: of k x k pictures in one mosaic, the map of a class should lie on its own.

::

    sum over cell c of max(map(x), 0) / sum over the mosaic of max(map(x), 0)                                     (1)

for the class of cell c. It needs no mask, and it is the energy inside a box
(``carrot.evaluation.localisation.energy_inside``). Chance is 1/k^2, for a map that is even over the mosaic. What
overlapping boxes or a crop prefer is in ``localisation.chance(boxes, cell_box(...)).energy``: of 3 x 3 the middle.

Reference: Boehle et al., CVPR 2021, for the game; Boehle et al., CVPR 2022 (B-cos), for the positive share (1).
"""

from typing import SupportsIndex

from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from carrot.data.records import Box
from carrot.evaluation.localisation import energy_inside
from carrot.evaluation.targets import require_pixels
from carrot.utils import whole_number


def cell_box(grid: SupportsIndex, cell: SupportsIndex, image_hw: tuple[int, int]) -> Box:
    """Return where a cell of a mosaic lies, in its pixels.

    Args:
        grid: k, cells on each side; at least 2.
        cell: 0 .. k^2 - 1, row by row.
        image_hw: Height and width of the mosaic.

    Raises:
        ValueError: A number is out of range.
        TypeError: ``grid`` or ``cell`` is no whole number.
    """
    k = whole_number("grid", grid, 2, what=", cells on each side")
    row, column = divmod(whole_number("cell", cell, 0, k * k - 1, f", a cell of {k} x {k}"), k)
    require_pixels(image_hw)
    height, width = image_hw[0] / k, image_hw[1] / k
    return Box(column * width, row * height, width, height)


def grid_pointing(
    values: ArrayLike | Tensor,
    boxes: Float[Tensor, "N 4"],
    grid: SupportsIndex,
    cell: SupportsIndex,
    image_hw: tuple[int, int],
) -> float | None:
    """Return the share of a class's positive map that lies on its cell, equation (1); None if nothing is positive.

    Args:
        values: N numbers in any shape, row-major as the regions are; without global regions.
        boxes: (x0, y0, x1, y1) of each region in pixels of the mosaic; they may overlap, and cross cells.
        grid: k, cells on each side; at least 2.
        cell: That of the class which the map explains, 0 .. k^2 - 1, row by row.
        image_hw: Height and width of the mosaic.

    Raises:
        ValueError: A number is out of range, numbers don't match, a box is turned inside out or not finite.
        TypeError: ``grid`` or ``cell`` is no whole number.
    """
    return energy_inside(values, boxes, cell_box(grid, cell, image_hw))
