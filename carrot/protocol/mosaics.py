"""Pictures side by side in one, for the grid pointing game (``carrot.evaluation.grid_pointing``)."""

from collections.abc import Sequence
from typing import SupportsIndex

from PIL import Image

from carrot._images import upright_rgb
from carrot.data.records import Box
from carrot.evaluation.grid_pointing import cell_box
from carrot.utils import whole_number


def mosaic(
    images: Sequence[Image.Image], grid: SupportsIndex, side: SupportsIndex = 224
) -> tuple[Image.Image, tuple[Box, ...]]:
    """Return k x k pictures in one, row by row, and the box of each in its pixels.

    Each is made upright RGB and resized to a square, whatever its shape (bicubic): nothing is cut off.

    Args:
        images: k^2 of them; of different classes, for the grid pointing game.
        grid: k, cells on each side; at least 2.
        side: Of a cell, in pixels.

    Raises:
        ValueError: There are not k^2 pictures, or a number is out of range.
        TypeError: ``grid`` or ``side`` is no whole number.
        UnreadableImageError: A picture can't be made upright RGB.
    """
    k = whole_number("grid", grid, 2, what=", cells on each side")
    side = whole_number("side", side, 1, what=", pixels of a cell")
    if len(images) != k * k:
        raise ValueError(f"`images` must be {k} x {k} = {k * k} pictures, row by row; got {len(images)}.")
    whole = Image.new("RGB", (k * side, k * side))
    boxes = tuple(cell_box(k, cell, (k * side, k * side)) for cell in range(k * k))
    for cell, (image, box) in enumerate(zip(images, boxes, strict=True)):
        square = upright_rgb(image, f"picture {cell} of the mosaic").resize((side, side), Image.Resampling.BICUBIC)
        whole.paste(square, (int(box.x), int(box.y)))
    return whole, boxes
