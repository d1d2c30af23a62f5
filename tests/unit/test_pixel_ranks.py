"""Rankings of pixels against maps painted pixel by pixel: sorted, and by scikit-learn.

Held once against Quantus 0.6.0 on 50 maps of 12 x 12 pixels without ties: `RelevanceRankAccuracy` to the bit, `AUC` to
1.2e-16.
"""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from carrot._vit.geometry import Geometry
from carrot.data.records import Box
from carrot.evaluation.localisation import chance
from carrot.evaluation.pixel_ranks import (
    localisation_auc,
    rank_accuracy,
    rank_accuracy_chance,
    top_area_chance,
    top_area_inside,
)
from tests.unit.test_cells import painted, random_boxes, tiles

EPS = torch.finfo(torch.float64).eps
GRID = torch.tensor([[x, y, x + 4, y + 4] for y in (0, 4, 8) for x in (0, 4, 8)], dtype=torch.float64)
LADDER = torch.cat([tiles(3, 60.0), tiles(4, 60.0)])


def found_among_the_first(map_: Tensor, mask: Tensor, n: int) -> float:
    """How many of the n highest pixels are in the mask, over n; of equal ones the mean over every order."""
    found, left = 0.0, n
    for value in map_.unique().flip(0).tolist():
        tied = map_ == value
        take = min(left, int(tied.sum()))
        found += take * float(mask[tied].double().mean())
        left -= take
    return found / n


def case(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, boxes, the mask of a blob, and the map: rounded, so that what ties but for rounding ties."""
    rng = torch.Generator().manual_seed(seed)
    boxes = [GRID, random_boxes(seed, 6), random_boxes(seed, 20)][seed % 3]
    values = torch.randint(-3, 4, (len(boxes),), generator=rng).double()
    mask = torch.rand(12, 12, generator=rng) < 0.2
    mask[3:7, 2:9] = True
    return values, boxes, mask, (painted(values, boxes) * 2**40).round()


def covered(boxes: Tensor) -> Tensor:
    return painted(torch.ones(len(boxes)), boxes) > 0


@pytest.mark.parametrize("seed", range(12))
def test_ranks_are_those_of_the_painted_pixels(seed: int) -> None:
    values, boxes, mask, map_ = case(seed)
    seen = covered(boxes)
    map_, inside = map_[seen], mask[seen]
    n = int(inside.sum())
    assert rank_accuracy(values, boxes, mask) == pytest.approx(found_among_the_first(map_, inside, n), abs=1e-12)
    for q in (0.25, 0.5):
        k = q * int(seen.sum())
        if k == int(k):
            expected = found_among_the_first(map_, inside, int(k))
            assert top_area_inside(values, boxes, mask, q) == pytest.approx(expected, abs=1e-12)
    assert top_area_inside(values, boxes, mask, 1.0) == pytest.approx(n / int(seen.sum()), abs=1e-12)
    auc = localisation_auc(values, boxes, mask)
    assert auc == pytest.approx(roc_auc_score(inside.numpy(), map_.numpy()), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_maps_of_single_pixels_are_scikit_learns_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = Geometry.of((20, 30), (20, 30), 1.0).patch_boxes((20, 30))
    scores, mask = rng.standard_normal(600), rng.random((20, 30)) < 0.3
    auc = localisation_auc(scores, boxes, mask)
    assert auc == pytest.approx(roc_auc_score(mask.ravel(), scores), abs=1e-12)
    best = np.argsort(-scores)[: mask.sum()]
    assert rank_accuracy(scores, boxes, mask) == pytest.approx(mask.ravel()[best].mean(), abs=1e-12)
    assert top_area_inside(scores, boxes, mask) == pytest.approx(mask.ravel()[np.argsort(-scores)[:60]].mean())


def test_boxes_are_taken_to_the_fraction() -> None:
    """Two patches of 4 pixels; the target is 3/4 of the left one."""
    boxes = torch.tensor([[0.0, 0, 2, 2], [2, 0, 4, 2]], dtype=torch.float64)
    target = Box(0.0, 0.0, 1.5, 2.0)
    assert rank_accuracy([1.0, 0.0], boxes, target) == pytest.approx(0.75)  # 3 of the left pixels, any
    assert rank_accuracy([0.0, 1.0], boxes, target) == 0.0
    assert top_area_inside([0.0, 1.0], boxes, target, 0.75) == pytest.approx(1.5 / 6)
    assert localisation_auc([1.0, 0.0], boxes, target) == pytest.approx((4 + 1 / 2) / 5)
    assert rank_accuracy_chance(boxes, target) == pytest.approx(3 / 8)


def test_a_constant_map_gets_chance() -> None:
    _, boxes, mask, _ = case(0)
    share = chance(boxes, mask).energy
    for values in (torch.zeros(9), torch.full((9,), -3.0)):
        assert rank_accuracy(values, boxes, mask) == pytest.approx(share)
        assert top_area_inside(values, boxes, mask, 0.3) == pytest.approx(share)
        assert localisation_auc(values, boxes, mask) == pytest.approx(0.5, abs=10 * EPS)
    assert rank_accuracy_chance(boxes, mask) == top_area_chance(boxes, mask, 0.3) == pytest.approx(share)


@pytest.mark.parametrize("boxes", [GRID * 5, LADDER], ids=["disjoint", "overlapping"])
def test_random_maps_get_chance_on_the_mean(boxes: Tensor) -> None:
    rng = np.random.default_rng(2)
    mask = torch.zeros(60, 60, dtype=torch.bool)
    mask[18:40, 20:44] = True
    found = np.array(
        [
            (rank_accuracy(v, boxes, mask), top_area_inside(v, boxes, mask), localisation_auc(v, boxes, mask))
            for v in rng.standard_normal((150, len(boxes)))
        ]
    )
    expected = (rank_accuracy_chance(boxes, mask), top_area_chance(boxes, mask), 0.5)
    error = found.std(axis=0, ddof=1) * math.sqrt(1 / 150 + 1 / 4096)
    assert (np.abs(found.mean(axis=0) - expected) < 4 * error).all()
    if len(boxes) == 25:
        assert expected[1] > 1.2 * float(mask.double().mean()), "a random map is highest in the middle"


def test_padding_and_what_the_crop_cut_off_count_nowhere() -> None:
    _, boxes, mask, _ = case(0)
    padding = torch.tensor([[0.0, 0, 0, 4]], dtype=torch.float64)
    more, values = torch.cat([boxes, padding]), torch.arange(9.0)
    for measure in (rank_accuracy, top_area_inside, localisation_auc):
        expected = measure(values, boxes, mask)
        assert measure(torch.cat([values, torch.tensor([99.0])]), more, mask) == pytest.approx(expected)
    wide = torch.cat([mask, torch.ones(12, 5, dtype=torch.bool)], dim=1)
    assert rank_accuracy(values, boxes, wide) == pytest.approx(rank_accuracy(values, boxes, mask))


@pytest.mark.parametrize("hw", [(50, 31), (33, 64), (101, 87)])
def test_rounding_of_areas_is_no_area(hw: tuple[int, int]) -> None:
    """Sums of the mask over boxes between pixels come to nothing, or to all of the box, but for rounding."""
    boxes = Geometry.of(hw, (32, 32), 0.9).patch_boxes((8, 8))
    for whole in (torch.ones(hw, dtype=torch.bool), torch.zeros(hw, dtype=torch.bool)):
        assert localisation_auc(torch.arange(64.0), boxes, whole) is None
        assert 0.0 <= rank_accuracy_chance(boxes, whole) <= 1.0
        assert 0.0 <= top_area_chance(boxes, whole) <= 1.0
        assert 0.0 <= rank_accuracy(torch.arange(64.0), boxes, whole) <= 1.0


def test_targets_of_nothing_and_of_everything() -> None:
    for boxes in (GRID, random_boxes(5, 20)):
        values = torch.randn(len(boxes))
        none, everything = torch.zeros(12, 12, dtype=torch.bool), torch.ones(12, 12, dtype=torch.bool)
        for target in (none, Box(50.0, 50.0, 3.0, 3.0)):
            assert rank_accuracy(values, boxes, target) == rank_accuracy_chance(boxes, target) == 0.0
            assert top_area_inside(values, boxes, target) == top_area_chance(boxes, target) == 0.0
            assert localisation_auc(values, boxes, target) is None
        for target in (everything, Box(0.0, 0.0, 12.0, 12.0)):
            assert rank_accuracy(values, boxes, target) == pytest.approx(1.0)
            assert rank_accuracy_chance(boxes, target) == pytest.approx(1.0)
            assert localisation_auc(values, boxes, target) is None


@pytest.mark.usefixtures("as_user")
def test_bad_input() -> None:
    values, boxes, mask, _ = case(0)
    for measure in (rank_accuracy, top_area_inside, localisation_auc):
        with pytest.raises(ValueError, match="one real number for each of the 9 boxes"):
            measure(values[:5], boxes, mask)
        with pytest.raises(TypeError, match="mask of booleans"):
            measure(values, boxes, mask.float())
        with pytest.raises(ValueError, match="must lie in the mask's 6 x 12"):
            measure(values, boxes, mask[:6])
    for q, match in ((0.0, "`q` must be a finite number > 0"), (1.5, r"in \(0, 1\]")):
        with pytest.raises(ValueError, match=match):
            top_area_inside(values, boxes, mask, q)
        with pytest.raises(ValueError, match=match):
            top_area_chance(boxes, mask, q)
