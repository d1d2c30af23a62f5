"""Localisation against a fine grid of points, examples worked by hand, and what the definitions promise of edge cases."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from carrot._vit.geometry import Geometry
from carrot.data.records import Box
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.localisation import (
    Localisation,
    box_mask,
    centre_map,
    chance,
    energy_inside,
    pointing_hit,
    points_chance,
    points_hit,
)

EPS = torch.finfo(torch.float64).eps
#  A picture 6 pixels wide and 4 high in 2 x 3 regions of 2 x 2 pixels.
BOXES = torch.tensor([[x, y, x + 2, y + 2] for y in (0, 2) for x in (0, 2, 4)], dtype=torch.float64)
MASK = torch.zeros(4, 6, dtype=torch.bool)
MASK[0:2, 2:5] = True  # all of region 1, the left half of region 2


def test_by_hand() -> None:
    assert chance(BOXES, MASK) == (pytest.approx(1 / 6), pytest.approx(6 / 24))  # region 2's centre, (5, 1), is outside
    values = torch.tensor([[1.0, 2.0, 5.0], [-7.0, 0.0, 0.0]])
    assert energy_inside(values, BOXES, MASK) == pytest.approx((2 + 2.5) / 8)
    assert pointing_hit(values, BOXES, MASK) == 0.0
    assert pointing_hit(-values, BOXES, MASK) == 0.0
    assert pointing_hit(torch.tensor([0.0, 1, 0, 0, 0, 0]), BOXES, MASK) == 1.0


def test_the_chance_of_pointing_counts_centres() -> None:
    centres = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in BOXES.tolist()]
    hits = [bool(MASK[int(y), int(x)]) for x, y in centres]
    assert chance(BOXES, MASK).pointing == sum(hits) / 6
    single = [pointing_hit(torch.eye(6)[i], BOXES, MASK) for i in range(6)]
    assert single == [float(hit) for hit in hits]


def fine_share(boxes: Tensor, mask: Tensor, k: int) -> list[float]:
    """The share of each box inside the mask, by k x k points of each box."""
    shares, steps = [], (np.arange(k) + 0.5) / k
    for x0, y0, x1, y1 in boxes.tolist():
        x, y = x0 + steps * (x1 - x0), y0 + steps * (y1 - y0)
        shares.append(float(mask.numpy()[np.ix_(y.astype(int), x.astype(int))].mean()))
    return shares


@pytest.mark.parametrize("hw", [(50, 31), (33, 64)])
@pytest.mark.parametrize("crop", ["center", "squash", "border"])
def test_areas_agree_with_a_fine_grid_of_points(hw: tuple[int, int], crop: str) -> None:
    geometry = Geometry.of(hw, (32, 32), 0.9, crop)  # type: ignore[arg-type]
    boxes = geometry.patch_boxes((4, 4))
    seen = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    rng = torch.Generator().manual_seed(1)
    mask = torch.rand(hw, generator=rng) < 0.4
    k = 200  # one line of points is off by up to 1 / k a pixel border: 15 of them cross a box
    share = fine_share(boxes[seen], mask, k)
    area = (boxes[seen, 2] - boxes[seen, 0]) * (boxes[seen, 3] - boxes[seen, 1])
    expected = sum(s * float(a) for s, a in zip(share, area, strict=True)) / float(area.sum())
    assert chance(boxes, mask).energy == pytest.approx(expected, abs=0.01)
    for i, s in zip(torch.nonzero(seen).flatten().tolist(), share, strict=True):
        assert energy_inside(torch.eye(16)[i], boxes, mask) == pytest.approx(s, abs=0.03)


def test_areas_are_exact_on_fractions() -> None:
    """A box from 0.25 to 1.5 across the border at 1 of one pixel row: 0.5 of 1.25 inside."""
    mask = torch.tensor([[False, True]])
    boxes = torch.tensor([[0.25, 0.0, 1.5, 1.0]], dtype=torch.float64)
    assert energy_inside([3.0], boxes, mask) == pytest.approx(0.4, abs=10 * EPS)
    assert energy_inside([3.0], boxes, Box(1.0, 0.0, 1.0, 1.0)) == pytest.approx(0.4, abs=10 * EPS)
    assert energy_inside([3.0], boxes, Box(0.5, 0.25, 0.25, 0.5)) == pytest.approx(0.125 / 1.25, abs=10 * EPS)


@pytest.mark.parametrize("seed", range(5))
def test_a_box_of_whole_pixels_is_its_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = Geometry.of((40, 57), (28, 28), 0.875).patch_boxes((7, 7))
    x, y, w, h = rng.integers(0, 20), rng.integers(0, 20), rng.integers(1, 30), rng.integers(1, 20)
    box = Box(*map(float, (x, y, w, h)))
    mask = box_mask(box, (40, 57))
    assert int(mask.sum()) == w * h
    values = rng.standard_normal(49)
    assert energy_inside(values, boxes, box) == pytest.approx(energy_inside(values, boxes, mask), abs=1e-13)
    assert pointing_hit(values, boxes, box) == pointing_hit(values, boxes, mask)
    assert chance(boxes, box) == pytest.approx(chance(boxes, mask), abs=1e-13)


def test_box_mask_takes_pixels_whose_centre_lies_inside() -> None:
    assert box_mask(Box(0.5, 0.6, 2.0, 5.0), (3, 4)).tolist() == [[False] * 4] + [[True, True, False, False]] * 2
    assert not box_mask(Box(-9, -9, 3, 3), (2, 2)).any()


def test_a_constant_map_gets_chance() -> None:
    for value in (0.0, 1.0, -2.0):
        assert pointing_hit(torch.full((2, 3), value), BOXES, MASK) == pytest.approx(chance(BOXES, MASK).pointing)
    assert energy_inside(torch.ones(6), BOXES, MASK) == pytest.approx(chance(BOXES, MASK).energy)


def test_random_maps_get_chance_on_the_mean() -> None:
    rng = torch.Generator().manual_seed(0)
    boxes = Geometry.of((40, 60), (32, 32), 1.0).patch_boxes((8, 8))
    mask = torch.rand(40, 60, generator=rng) < 0.3
    points = torch.tensor([[20.0, 11.0], [33.0, 30.0], [1.0, 1.0]])  # the last one is cropped away
    pairs, parts = [], []
    for _ in range(400):
        values = torch.randn(64, generator=rng)
        pairs.append((pointing_hit(values, boxes, mask), chance(boxes, mask).pointing))
        parts.append((points_hit(values, boxes, points), points_chance(boxes, points)))
    for found in (Localisation.of(pairs), Localisation.of(parts)):
        assert found.gain.mean is not None
        assert found.gain.standard_error is not None
        assert abs(found.gain.mean) < 4 * found.gain.standard_error


def test_maps_without_a_positive_value_have_no_energy() -> None:
    values = torch.tensor([-3.0, -1.0, -2, -2, -2, -2])
    assert energy_inside(values, BOXES, MASK) is None
    assert energy_inside(torch.zeros(6), BOXES, MASK) is None
    assert pointing_hit(values, BOXES, MASK) == 1.0  # the least negative is still the strongest


def test_energies_neither_overflow_nor_underflow() -> None:
    for scale in (1e308, 1e-308):
        values = scale * torch.ones(6, dtype=torch.float64)
        assert energy_inside(values, BOXES, MASK) == pytest.approx(0.25)


def test_a_target_that_is_not_seen_has_no_chance_and_is_left_out() -> None:
    boxes = BOXES[:2]  # the model saw the upper left 4 x 2 pixels
    for target in (torch.zeros(4, 6, dtype=torch.bool), torch.arange(24).reshape(4, 6) == 23, Box(5.0, 3.0, 1.0, 1.0)):
        assert chance(boxes, target) == (0.0, 0.0)
        assert pointing_hit([1.0, 2.0], boxes, target) == 0.0
        assert energy_inside([1.0, 2.0], boxes, target) == 0.0
    found = Localisation.of([(0.0, 0.0), (1.0, 0.25), (0.0, 0.25)])
    assert found.undefined == 1
    assert found.score == Estimate(0.5, 0.5, 2)
    assert found.chance == Estimate(0.25, 0.0, 2)
    assert found.gain == Estimate(0.25, 0.5, 2)


def test_a_target_everywhere_gives_one() -> None:
    whole = torch.ones(4, 6, dtype=torch.bool)
    assert chance(BOXES, whole) == (1.0, 1.0)
    assert pointing_hit(torch.randn(6), BOXES, whole) == 1.0
    assert energy_inside(torch.rand(6), BOXES, whole) == pytest.approx(1.0)


def test_what_the_crop_cuts_off_does_not_count() -> None:
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:, :2] = True  # the object: the left third, of which the crop leaves nothing but ..
    mask[0, 2] = True  # .. one pixel
    boxes = BOXES[[1, 2, 4, 5]]
    assert chance(boxes, mask).energy == pytest.approx(1 / 16)
    assert energy_inside([1.0, 0, 0, 0], boxes, mask) == pytest.approx(1 / 4)


def test_regions_of_padding_miss_and_are_no_chance() -> None:
    padding = torch.tensor([[0.0, 0.0, 0.0, 2.0]], dtype=torch.float64)
    boxes = torch.cat([BOXES, padding])
    everywhere = torch.ones(4, 6, dtype=torch.bool)
    assert chance(boxes, everywhere) == (1.0, 1.0)
    values = torch.tensor([0.0, 1, 0, 0, 0, 0, 3])
    assert pointing_hit(values, boxes, everywhere) == 0.0
    assert energy_inside(values, boxes, everywhere) == pytest.approx(0.25)
    assert points_hit(values, boxes, [[0.0, 1.0]]) == 0.0
    assert float(centre_map(boxes)[-1]) == 0.0


def test_points_by_hand() -> None:
    points = torch.tensor([[2.0, 1.0], [3.9, 1.9], [5.0, 5.0]])  # two in region 1 (its border is its own), one nowhere
    assert points_chance(BOXES, points) == pytest.approx(1 / 6)
    assert [points_hit(torch.eye(6)[i], BOXES, points) for i in range(6)] == [0, 1, 0, 0, 0, 0]
    assert points_hit(torch.tensor([1.0, 1, 0, 0, 0, 0]), BOXES, points) == 0.5
    for none in (torch.zeros(0, 2), [], [[9.0, 9.0]]):
        assert points_chance(BOXES, none) == 0.0
        assert points_hit(torch.ones(6), BOXES, none) == 0.0


def test_the_centre_map_is_highest_in_the_middle_and_symmetric() -> None:
    m = centre_map(Geometry.of((30, 30), (30, 30), 1.0).patch_boxes((5, 5))).reshape(5, 5)
    assert int(m.argmax()) == 12
    torch.testing.assert_close(m, m.flip(0).flip(1))
    assert float(m[2, 0]) == pytest.approx(math.exp(-0.5 * (12 / 7.5) ** 2))


def test_estimates_by_hand() -> None:
    assert Estimate.of([]) == Estimate(None, None, 0)
    assert Estimate.of([2.0]) == Estimate(2.0, None, 1)
    assert Estimate.of([1.0, 3.0]) == Estimate(2.0, 1.0, 2)
    assert [str(Estimate.of(v)) for v in ([], [2.0], [1.0, 3.0])] == ["none", "2.000", "2.000 ± 1.000"]
    with pytest.raises(ValueError, match="must be finite"):
        Estimate.of([1.0, math.nan])


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("values", "boxes", "target", "error", "match"),
    [
        (torch.ones(5), BOXES, MASK, ValueError, "one real number for each of the 6 boxes"),
        (torch.full((6,), math.nan), BOXES, MASK, ValueError, "`values` must be finite"),
        (torch.ones(6, dtype=torch.bool), BOXES, MASK, ValueError, "one real number"),
        (torch.ones(6), BOXES[:, :3], MASK, ValueError, r"`boxes` must be \(N, 4\)"),
        (torch.ones(6), BOXES[:, [2, 3, 0, 1]], MASK, ValueError, "x0 <= x1"),
        (torch.ones(6), BOXES * 0, MASK, ValueError, "must not be empty"),
        (torch.ones(6), BOXES * math.inf, MASK, ValueError, "`boxes` must be finite"),
        (torch.ones(6), BOXES[[0, 1, 2, 3, 4, 5]].clamp(max=3) * 2, MASK, ValueError, "original picture's pixels"),
        (torch.ones(6), BOXES[[0] * 6], MASK, ValueError, "must not overlap"),
        (torch.ones(6), BOXES - 1, MASK, ValueError, "must lie in the mask's 4 x 6"),
        (torch.ones(6), BOXES, MASK[:3], ValueError, "must lie in the mask's 3 x 6"),
        (torch.ones(6), BOXES, MASK.float(), TypeError, "mask of booleans"),
        (torch.ones(6), BOXES, MASK[0], ValueError, r"\(img_h, img_w\)"),
        (torch.ones(6), BOXES, Box(0, 0, -1, 2), ValueError, "size >= 0"),
        (torch.ones(6), BOXES, Box(math.nan, 0, 1, 2), ValueError, "finite"),
    ],
)
def test_bad_input(values: Tensor, boxes: Tensor, target: object, error: type[Exception], match: str) -> None:
    for measure in (pointing_hit, energy_inside):
        with pytest.raises(error, match=match):
            measure(values, boxes, target)  # type: ignore[operator]


@pytest.mark.usefixtures("as_user")
def test_bad_points_boxes_and_pairs() -> None:
    with pytest.raises(ValueError, match=r"`points` must be \(K, 2\)"):
        points_hit(torch.ones(6), BOXES, torch.ones(2, 3))
    with pytest.raises(ValueError, match="`points` must be finite"):
        points_chance(BOXES, torch.tensor([[math.nan, 1.0]]))
    with pytest.raises(ValueError, match="image_hw"):
        box_mask(Box(0, 0, 1, 1), (0, 4))
    for pair in ((1.5, 0.5), (0.5, -0.1), (math.nan, 0.5)):
        with pytest.raises(ValueError, match=r"each in \[0, 1\]"):
            Localisation.of([pair])
