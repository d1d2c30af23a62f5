"""Localisation against a fine grid of points, hand-worked examples, and what the definitions promise of edge cases."""

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
    parts_chance,
    parts_hit,
    pointing_hit,
    points_chance,
    points_hit,
)
from tests.unit.test_cells import painted, random_boxes, tiles

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
    assert parts_hit(values, boxes, [[0.0, 1.0]], (4, 6), 1.0) == (torch.zeros(1), 0.0)
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


# ---- boxes that overlap, against the map painted pixel by pixel


def highest(map_: Tensor) -> Tensor:
    """The pixels at which a map is highest."""
    return map_ >= map_.max() - 1e-12 * float(map_.abs().max())


def middle(pixels: Tensor) -> tuple[float, float]:
    """The middle (x, y) of a rectangle of pixels."""
    y, x = torch.nonzero(pixels).T
    assert len(x) == (1 + x.max() - x.min()) * (1 + y.max() - y.min()), "no rectangle"
    return float(x.min() + x.max() + 1) / 2, float(y.min() + y.max() + 1) / 2


LADDER = torch.cat([tiles(3, 60.0), tiles(4, 60.0)])  # edges at multiples of 3 pixels


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 6, 7, 8])  # of 5 the highest place is an L: no middle to compare
def test_overlapping_boxes_are_measured_on_the_painted_map(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    boxes, side = (LADDER, 60) if seed < 4 else (random_boxes(seed, 7), 12)
    values = torch.randn(len(boxes), generator=rng, dtype=torch.float64)
    mask = torch.rand(side, side, generator=rng) < 0.4
    map_ = painted(values, boxes, side)
    positive = map_.clamp(min=0)
    assert energy_inside(values, boxes, mask) == pytest.approx(float(positive[mask].sum() / positive.sum()), abs=1e-12)
    covered = painted((boxes[:, 2:] - boxes[:, :2]).prod(dim=1), boxes, side)  # how many boxes hold a pixel
    assert chance(boxes, mask).energy == pytest.approx(float(covered[mask].sum() / covered.sum()), abs=1e-12)
    peak = highest(map_)
    x, y = middle(peak)
    assert pointing_hit(values, boxes, mask) == float(mask[int(y), int(x)])
    part = torch.tensor([[2.5, 3.5], [x + 0.4, y - 0.4], [7.5, 7.5]])
    assert points_hit(values, boxes, part[:1]) == float(peak[3, 2])
    found = parts_hit(values, boxes, part, (side, 2 * side), 0.1)
    near = [abs(u - x) <= 0.2 * side and abs(v - y) <= 0.1 * side for u, v in part.tolist()]
    assert found.each.tolist() == [float(hit) for hit in near]
    assert found.any == 1.0


def test_a_map_of_one_density_in_each_region_gets_the_chance_of_energy() -> None:
    mask = torch.rand(60, 60, generator=torch.Generator().manual_seed(3)) < 0.3
    size = (LADDER[:, 2:] - LADDER[:, :2]).prod(dim=1)
    assert energy_inside(size, LADDER, mask) == pytest.approx(chance(LADDER, mask).energy, abs=1e-12)
    assert energy_inside(size * 1e304, LADDER, mask) == pytest.approx(chance(LADDER, mask).energy, abs=1e-12)
    assert energy_inside([1.7e308] * 3, LADDER[[5] * 3], mask) == pytest.approx(chance(LADDER[5:6], mask).energy)


def test_random_maps_over_overlapping_boxes_get_chance_on_the_mean() -> None:
    """Painted, with values of another generator. They peak in the middle more often than its area says: .41 for .25."""
    rng = np.random.default_rng(5)
    mask = torch.zeros(60, 60, dtype=torch.bool)
    mask[15:45, 15:45] = True
    points = torch.tensor([[31.0, 31.0], [2.0, 58.0]])
    inside, at_points, near = [], [], []
    for _ in range(1000):
        peak = highest(painted(torch.from_numpy(rng.standard_normal(25)), LADDER, 60))
        x, y = middle(peak)
        inside.append(bool(mask[int(y), int(x)]))
        at_points.append(bool(peak[31, 31] | peak[58, 2]))
        near.append([bool((torch.tensor([x, y]) - p).abs().max() <= 60 * 36 / 224) for p in points])
    parts = parts_chance(LADDER, points, (60, 60))
    pairs = [(inside, chance(LADDER, mask).pointing), (at_points, points_chance(LADDER, points))]
    pairs += [([n[k] for n in near], float(parts.each[k])) for k in (0, 1)]
    pairs.append(([any(n) for n in near], parts.any))
    for hits, expected in pairs:
        spread = math.sqrt(expected * (1 - expected) * (1 / 1000 + 1 / 4096))
        assert abs(np.mean(hits) - expected) < 4 * spread
    assert chance(LADDER, mask).pointing > 0.35


def test_cells_that_tie_share_by_area() -> None:
    """A box with a hole that a negative one makes: four cells are left, and the mask holds one of 2 x 6 pixels."""
    boxes = torch.tensor([[0.0, 0, 6, 6], [2, 2, 4, 4]], dtype=torch.float64)
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[:2] = True
    assert pointing_hit([1.0, -1.0], boxes, mask) == pytest.approx(12 / 32)
    assert pointing_hit([1.0, 1.0], boxes, mask) == 0.0
    mask[3, 3] = True
    assert pointing_hit([1.0, 1.0], boxes, mask) == 1.0


def test_disjoint_boxes_of_unlike_sizes_are_compared_by_value() -> None:
    boxes = torch.tensor([[0.0, 0, 5, 4], [5, 0, 6, 4]], dtype=torch.float64)
    left = torch.arange(6).expand(4, 6) < 5
    assert pointing_hit([2.0, 1.0], boxes, left) == 1.0  # though a pixel of the right one has more: 1/4 to 1/10
    assert chance(boxes, left).pointing == 0.5


def test_parts_near_the_peak_by_hand() -> None:
    """The centre of region 1 is (3, 1); near is within 36/224 of 6 and of 4 pixels: .964 and .643."""
    points = [[3.9, 1.0], [4.0, 1.0], [3.0, 1.64], [3.0, 1.65], [5.0, 3.0]]
    found = parts_hit(torch.tensor([0.0, 1, 0, 0, 0, 0]), BOXES, points, (4, 6))
    assert found.each.tolist() == [1, 0, 1, 0, 0]
    assert found.any == 1.0
    tied = parts_hit(torch.tensor([0.0, 1, 0, 0, 0, 1]), BOXES, points, (4, 6))
    assert (tied.each.tolist(), tied.any) == ([0.5, 0, 0.5, 0, 0.5], 1.0)
    assert parts_chance(BOXES, points[2:], (4, 6)).any == pytest.approx(2 / 6)
    assert parts_chance(BOXES, points, (4, 6)).each.tolist() == pytest.approx([1 / 6, 0, 1 / 6, 0, 1 / 6])
    assert parts_hit(torch.ones(6), BOXES, points, (4, 6), 9.0).each.tolist() == [1.0] * 5
    for nothing in ([], torch.zeros(0, 2)):
        assert parts_hit(torch.ones(6), BOXES, nothing, (4, 6)).any == 0.0
        assert len(parts_chance(BOXES, nothing, (4, 6)).each) == 0


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
        (torch.ones(7), torch.cat([BOXES[[0] * 6], BOXES[:1] * 0]), MASK, ValueError, "must not be empty"),
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
    with pytest.raises(ValueError, match="image_hw"):
        parts_hit(torch.ones(6), BOXES, [[1.0, 1.0]], (4, 0))
    with pytest.raises(ValueError, match="`reach` must be a finite number > 0"):
        parts_chance(BOXES, [[1.0, 1.0]], (4, 6), 0.0)
    for pair in ((1.5, 0.5), (0.5, -0.1), (math.nan, 0.5)):
        with pytest.raises(ValueError, match=r"each in \[0, 1\]"):
            Localisation.of([pair])
