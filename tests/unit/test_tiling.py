"""Boxes of a picture: what is written, what is cut, what is drawn, and what is refused."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from carrot import Tiling
from tests import tiles


@pytest.mark.parametrize(("k", "overlap"), [(1, 0.5), (2, 0.0), (3, 0.5), (4, 0.25), (5, 0.9)])
def test_a_grid_is_that_of_the_formula(k: int, overlap: float) -> None:
    shares = Tiling(k, overlap).shares.numpy()
    np.testing.assert_allclose(shares, tiles.grid_shares(k, overlap), rtol=0, atol=1e-15)
    assert shares.min() == 0.0
    assert shares.max() == 1.0
    if k > 1:
        side = shares[0, 2]
        np.testing.assert_allclose(shares[0, 2] - shares[1, 0], overlap * side, rtol=0, atol=1e-15)


@settings(max_examples=60)
@given(k=st.integers(1, 12), width=st.integers(12, 300), height=st.integers(12, 300))
def test_disjoint_boxes_are_every_pixel_once(k: int, width: int, height: int) -> None:
    seen = np.zeros((height, width), dtype=int)
    for x0, y0, x1, y1 in Tiling(k, 0.0).boxes((width, height)).tolist():
        seen[y0:y1, x0:x1] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("tiling", "spec"),
    [
        (Tiling(), "tiles:3,4"),
        (Tiling(np.int64(2), 0.0), "tiles:2@0"),
        (Tiling([2, 3], 0.25), "tiles:2@0.25,3@0.25"),
        (Tiling((1, 2), 0.0), "tiles:1,2@0"),
        (Tiling.from_spec("tiles: 2@0.50 , 3@0"), "tiles:2,3@0"),
        (Tiling.from_boxes(torch.tensor([[0.0, 0.25, 1.0, 0.5]])), "boxes:0.0,0.25,1.0,0.5"),
        (Tiling.from_boxes([(0, 0, 0.1, 1), (0.3, 0, 1, 1)]), "boxes:0.0,0.0,0.1,1.0;0.3,0.0,1.0,1.0"),
    ],
)
def test_it_is_written_one_way_and_read_again(tiling: Tiling, spec: str) -> None:
    assert tiling.spec == spec
    again = Tiling.from_spec(spec)
    assert again == tiling
    assert hash(again) == hash(tiling)
    assert repr(again) == f"<Tiling {spec}>"
    assert torch.equal(again.shares, tiling.shares)
    assert len(again) == len(tiling.shares) == len(tiling.places)


def test_two_grids_of_one_side_have_names_of_their_own() -> None:
    names = Tiling.from_spec("tiles:2,2@0,3").places
    assert len(set(names)) == len(names)
    assert names[3] == "row 1, column 1 of 2 x 2 at overlap 0.5"
    assert names[4] == "row 0, column 0 of 2 x 2 at overlap 0"
    assert names[8] == "row 0, column 0 of 3 x 3"


def test_scales_follow_each_other_and_have_names() -> None:
    both = Tiling((2, 3), 0.0)
    assert [scale.spec for scale in both.scales] == ["tiles:2@0", "tiles:3@0"]
    assert torch.equal(both.shares, torch.cat([scale.shares for scale in both.scales]))
    assert both.places[1] == "row 0, column 1 of 2 x 2"
    assert both.places[4 + 5] == "row 1, column 2 of 3 x 3"
    assert Tiling(1).places == ("the whole picture",)
    boxes = Tiling.from_boxes([(0, 0, 0.5, 0.5), (0, 0, 1, 1)])
    assert boxes.places == ("box 0", "box 1")
    assert boxes.scales == (boxes,)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pixels_are_cut_from_the_upright_picture_as_they_are(orientation: int) -> None:
    upright = tiles.noise(size=(30, 17))
    turn = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    operation, exif, out = turn[orientation], Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    (upright if operation is None else upright.transpose(operation)).save(out, "PNG", exif=exif)
    tiling, pixels = Tiling((2, 3), 0.25), np.asarray(upright)
    found = tiling.cut(Image.open(io.BytesIO(out.getvalue())))
    for tile, (x0, y0, x1, y1) in zip(found, tiles.whole_pixels(tiling.shares.numpy(), (30, 17)), strict=True):
        np.testing.assert_array_equal(np.asarray(tile), pixels[y0:y1, x0:x1])


def test_the_map_is_that_of_a_loop() -> None:
    tiles.check_map()


@pytest.mark.parametrize("size", [(90, 61), (61, 90), (224, 224), (37, 300)])
@pytest.mark.parametrize("spec", ["tiles:1", "tiles:2", "tiles:3", "tiles:5@0.25", "tiles:4@0", "tiles:3@0.75"])
def test_equal_values_are_even_and_each_lies_in_its_box(spec: str, size: tuple[int, int]) -> None:
    """Whatever the tiling: no hill where many tiles lie, no value lost, and none outside of what its tile saw."""
    tiling = Tiling.from_spec(spec)
    even = tiling.pixel_map(torch.ones(len(tiling), dtype=torch.float64), size)
    assert float(even.sum()) == pytest.approx(len(tiling), rel=1e-12)
    x0, y0 = tiling.drawn(size)[:, :2].amin(dim=0).ceil().long().tolist()
    x1, y1 = tiling.drawn(size)[:, 2:].amax(dim=0).floor().long().tolist()
    painted = even[y0:y1, x0:x1]
    assert float(painted.min()) == pytest.approx(float(painted.max()), rel=1e-12)
    assert (x1 - x0) * (y1 - y0) >= 0.2 * size[0] * size[1]
    for region, (left, top, right, bottom) in enumerate(tiling.boxes(size).tolist()):
        alone = tiling.pixel_map(torch.eye(len(tiling), dtype=torch.float64)[region], size)
        assert float(alone.min()) >= 0.0
        inside = alone[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]  # boxes are of whole pixels
        assert float(inside.sum()) == pytest.approx(1.0, rel=1e-12)


def test_disjoint_tiles_and_boxes_of_ones_own_are_drawn_as_they_are() -> None:
    for tiling in (Tiling(3, 0.0), Tiling(1), Tiling.from_boxes([(0.1, 0.2, 0.7, 0.9), (0, 0, 1, 0.5)])):
        torch.testing.assert_close(tiling.middles, tiling.shares, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("values", "message"), [(torch.zeros(3), "values"), (torch.tensor([0.0, 1.0, 2.0, torch.nan]), "finite")]
)
@pytest.mark.usefixtures("as_user")
def test_a_map_needs_a_number_for_each(values: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tiling(2).pixel_map(values, (20, 20))


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("grid", "overlap", "error", "message"),
    [
        (0, 0.5, ValueError, "`grid`"),
        (33, 0.5, ValueError, "`grid`"),
        (2.5, 0.5, TypeError, "`grid`"),
        (True, 0.5, TypeError, "`grid`"),
        ("34", 0.5, TypeError, "`grid`"),
        ((), 0.5, ValueError, "`grid`"),
        ((3, 3), 0.5, ValueError, "twice"),
        ((31, 9), 0.5, ValueError, "1024"),
        (3, 1.0, ValueError, "`overlap`"),
        (3, -0.1, ValueError, "`overlap`"),
        (3, float("nan"), ValueError, "`overlap`"),
        (3, 1 / 3, ValueError, "`overlap`"),
        (3, "half", TypeError, "`overlap`"),
        ("tiles:3", 0.5, TypeError, r"Tiling\.from_spec"),
    ],
)
def test_what_is_no_grid_is_refused(grid: object, overlap: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Tiling(grid, overlap)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "box",
    [
        (-0.1, 0, 1, 1),
        (0, 0, 1.1, 1),
        (0.5, 0, 0.5, 1),
        (0.6, 0, 0.5, 1),
        (0, 1, 1, 1),
        (float("nan"), 0, 1, 1),
        (0, 0, float("inf"), 1),
        (0, 0, 1),
        (0, 0, 1, 1, 1),
    ],
)
def test_a_box_outside_or_empty_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="box"):
        Tiling.from_boxes([box])


def test_boxes_come_once_and_there_is_one() -> None:
    with pytest.raises(ValueError, match="no box twice"):
        Tiling.from_boxes([(0, 0, 1, 1), (0.0, 0.0, 1.0, 1.0)])
    with pytest.raises(ValueError, match="box"):
        Tiling.from_boxes([])


@pytest.mark.parametrize(
    "spec",
    ["patches", "tiles:", "tiles:0", "tiles:3@1", "tiles:2@0.12345", "tiles:3,", "tile:3", "boxes:", "3", ""],
)
def test_what_is_no_tiling_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="tiles:3,4"):
        Tiling.from_spec(spec)


def test_a_picture_smaller_than_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 x 2 pixels .* too small for tiles:8@0: row 0, column 0"):
        Tiling(8, 0.0).boxes((3, 2))
    with pytest.raises(ValueError, match="too small"):
        Tiling.from_boxes([(0.1, 0.1, 0.11, 0.11)]).cut(Image.new("RGB", (9, 9)))
    one = Tiling.from_boxes([(0.25, 0.5, 0.375, 0.625)]).cut(Image.new("RGB", (8, 8)))
    assert one[0].size == (1, 1), "a box of one pixel is a box"
