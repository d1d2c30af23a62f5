"""The grid pointing game against sums over pixels, and mosaics against pictures pasted by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from carrot.data.records import Box
from carrot.evaluation.grid_pointing import cell_box, grid_pointing
from carrot.protocol.mosaics import mosaic
from tests.unit.test_cells import painted, tiles

PATCHES = torch.tensor([[x, y, x + 2, y + 2] for y in range(0, 12, 2) for x in range(0, 12, 2)], dtype=torch.float64)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("boxes", [PATCHES, tiles(5, 12.0), tiles(2, 12.0)], ids=["patches", "5 x 5", "2 x 2"])
def test_shares_are_those_of_the_painted_positive_pixels(k: int, boxes: torch.Tensor) -> None:
    values = torch.randn(len(boxes), generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    positive = painted(values, boxes).clamp(min=0)
    shares = [grid_pointing(values, boxes, k, cell, (12, 12)) for cell in range(k * k)]
    side = 12 // k
    expected = positive.reshape(k, side, k, side).sum(dim=(1, 3)).flatten() / positive.sum()
    assert shares == pytest.approx(expected.tolist(), abs=1e-12)
    assert sum(map(float, filter(None, shares))) == pytest.approx(1.0)


def test_an_even_map_gets_chance_and_none_is_no_map() -> None:
    for k in (2, 3):
        for cell in range(k * k):
            assert grid_pointing(torch.ones(36), PATCHES, k, cell, (12, 12)) == pytest.approx(1 / k**2)
    assert grid_pointing(-torch.ones(36), PATCHES, 2, 0, (12, 12)) is None


def test_cells_go_row_by_row() -> None:
    assert cell_box(3, 5, (30, 60)) == Box(40.0, 10.0, 20.0, 10.0)
    assert cell_box(2, 2, (5, 7)) == Box(0.0, 2.5, 3.5, 2.5)


@pytest.mark.parametrize("k", [2, 3])
def test_a_mosaic_holds_each_picture_in_its_box(k: int) -> None:
    rng = np.random.default_rng(k)
    images = [
        Image.fromarray(rng.integers(0, 256, (20 + cell, 31, 3), dtype=np.uint8)) for cell in range(k * k - 1)
    ] + [Image.new("L", (9, 9), 200)]
    whole, boxes = mosaic(images, k, 16)
    assert (whole.size, whole.mode) == ((16 * k, 16 * k), "RGB")
    assert boxes == tuple(cell_box(k, cell, (16 * k, 16 * k)) for cell in range(k * k))
    for cell, (image, box) in enumerate(zip(images, boxes, strict=True)):
        assert (box.x, box.y) == (16 * (cell % k), 16 * (cell // k))
        found = whole.crop((int(box.x), int(box.y), int(box.x + box.width), int(box.y + box.height)))
        expected = image.convert("RGB").resize((16, 16), Image.Resampling.BICUBIC)
        assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_pictures_of_a_mosaic_stand_upright() -> None:
    """A photograph on its side, orientation 6: its left edge is red, and its top edge once it is turned."""
    lying = Image.new("RGB", (40, 40))
    lying.paste((255, 0, 0), (0, 0, 10, 40))
    lying.getexif()[0x0112] = 6
    whole, _ = mosaic([lying, *[Image.new("RGB", (8, 8))] * 3], 2, 40)
    assert [whole.getpixel(place) for place in ((2, 37), (37, 2))] == [(0, 0, 0), (255, 0, 0)]


@pytest.mark.usefixtures("as_user")
def test_bad_input() -> None:
    for k, cell, hw, match in (
        (1, 0, (4, 4), "`grid` must be a whole number >= 2"),
        (2, 4, (4, 4), r"`cell` must be a whole number in 0 .. 3, a cell of 2 x 2; got 4"),
        (2, 0, (0, 4), "`image_hw`"),
    ):
        with pytest.raises(ValueError, match=match):
            grid_pointing(torch.ones(36), PATCHES, k, cell, hw)
    with pytest.raises(TypeError, match="`grid` must be a whole number"):
        cell_box(2.0, 0, (4, 4))  # type: ignore[arg-type]
    images = [Image.new("RGB", (4, 4))] * 3
    with pytest.raises(ValueError, match="2 x 2 = 4 pictures, row by row; got 3"):
        mosaic(images, 2)
    with pytest.raises(ValueError, match="`side` must be a whole number >= 1"):
        mosaic(images, 2, 0)
