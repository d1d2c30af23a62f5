"""Cells of overlapping boxes against a map painted pixel by pixel, one box after the other."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from carrot.evaluation import cells as module
from carrot.evaluation.cells import Places, cells

EPS = torch.finfo(torch.float64).eps


def random_boxes(seed: int, R: int, side: int = 12) -> Tensor:
    """Boxes of whole pixels in a square of ``side``, none of them empty."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, side - 1, (R, 2))
    size = 1 + rng.integers(0, side - low)
    return torch.tensor(np.concatenate([low, low + size], axis=1), dtype=torch.float64)


def painted(values: Tensor, boxes: Tensor, side: int = 12) -> Tensor:
    """The map, pixel by pixel: the definition."""
    found = torch.zeros(side, side, dtype=torch.float64)
    for value, (x0, y0, x1, y1) in zip(values, boxes.long().tolist(), strict=True):
        found[y0:y1, x0:x1] += value / ((x1 - x0) * (y1 - y0))
    return found


def tiles(k: int, side: float) -> Tensor:
    """k x k boxes of a square, each overlapping the next by half."""
    start = torch.arange(k, dtype=torch.float64) * side / (k + 1)
    y, x = torch.meshgrid(start, start, indexing="ij")
    corner = torch.stack([x, y], dim=-1).reshape(-1, 2)
    return torch.cat([corner, corner + 2 * side / (k + 1)], dim=1)


@pytest.mark.parametrize(("seed", "R"), [(0, 2), (1, 3), (2, 5), (3, 8), (4, 8), (5, 25), (6, 40), (7, 60)])
def test_cells_are_the_painted_map(seed: int, R: int) -> None:
    boxes = random_boxes(seed, R)
    values = torch.randn(R, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected, found = painted(values, boxes), cells(boxes)
    map_, times = torch.zeros(12, 12, dtype=torch.float64), torch.zeros(12, 12)
    for mass, (x0, y0, x1, y1) in zip(found.share @ values, found.boxes.long().tolist(), strict=True):
        map_[y0:y1, x0:x1] = mass / ((x1 - x0) * (y1 - y0))
        times[y0:y1, x0:x1] += 1
    torch.testing.assert_close(map_, expected, rtol=0, atol=1e3 * EPS)
    assert torch.equal(times, (painted(torch.ones(R), boxes) > 0).float()), "disjoint, and all that is covered"
    torch.testing.assert_close(found.share.sum(dim=0), torch.ones(R, dtype=torch.float64), rtol=0, atol=1e2 * EPS)
    if (places := Places.of(boxes)).share is not None:
        density = (found.share @ values) / area(found)
        torch.testing.assert_close(places.heights(values[:, None])[:, 0], density / density.abs().max())


def area(found: module.Cells) -> Tensor:
    return (found.boxes[:, 2:] - found.boxes[:, :2]).prod(dim=1)


def test_by_hand() -> None:
    """Two squares of side 2 that share one pixel: seven pixels, of which those of one box that touch are joined."""
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]], dtype=torch.float64)
    found = cells(boxes)
    expected = {(0, 0, 2, 1): (0.5, 0), (0, 1, 1, 2): (0.25, 0), (1, 1, 2, 2): (0.25, 0.25)}
    expected |= {(2, 1, 3, 2): (0, 0.25), (1, 2, 3, 3): (0, 0.5)}
    assert dict(zip(map(tuple, found.boxes.tolist()), map(tuple, found.share.tolist()), strict=True)) == expected


def test_disjoint_boxes_are_their_own_cells() -> None:
    boxes = torch.tensor([[2.0, 0, 5, 2], [0, 0, 2, 7], [9, 9, 9, 12], [2, 3, 3, 4]], dtype=torch.float64)
    found = cells(boxes)
    assert torch.equal(found.boxes, boxes[[0, 1, 3]])
    assert found.share.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert Places.of(boxes).share is None


def test_a_rectangle_that_no_edge_crosses_is_one_cell() -> None:
    """Boxes elsewhere have edges at its height and above it: its centre must not depend on them."""
    far = [[20.0 + k, 1 + k, 25 + k, 4 + k] for k in range(4)]
    boxes = torch.tensor([[0.0, 0, 10, 10], *far, [2, 12, 9, 30]], dtype=torch.float64)
    found = cells(boxes)
    assert [0.0, 0.0, 10.0, 10.0] in found.boxes.tolist()
    assert [2.0, 12.0, 9.0, 30.0] in found.boxes.tolist()


def test_tiles_that_overlap_by_half() -> None:
    """Two ladders: edges at fifths and quarters; the 16 cells of the middle lie in as many boxes, and tie."""
    boxes = torch.cat([tiles(3, 1.0), tiles(4, 1.0)])
    found = cells(boxes)
    assert len(found.boxes) == 64
    edges = found.boxes[:, 0].unique()
    torch.testing.assert_close(edges, torch.tensor([0, 0.2, 0.25, 0.4, 0.5, 0.6, 0.75, 0.8], dtype=torch.float64))
    for value in (0.1, 1e300, 1e-300, -1e-320):
        heights = Places.of(boxes * 700 / 3).heights(torch.full((25, 1), value, dtype=torch.float64))[:, 0]
        assert int((heights.abs() == heights.abs().max()).sum()) == 16, "equal but for rounding"
        assert float(heights.abs().max()) == 1.0


def test_rounding_cuts_no_slivers() -> None:
    """Grids computed in float32, or with an edge a rounding away, are disjoint; so are overlapping ones' edges one."""
    x = torch.arange(7, dtype=torch.float32) * (500 / 7)
    y0, x0 = (u.reshape(-1) for u in torch.meshgrid(x, x, indexing="ij"))
    boxes = torch.stack([x0, y0, x0 + 500 / 7, y0 + 500 / 7], dim=1)
    found = cells(boxes)
    assert torch.equal(found.boxes, boxes.double())
    shaken = tiles(4, 500.0) * (1 + 1e-9 * torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))
    assert len(cells(shaken).boxes) == len(cells(tiles(4, 500.0)).boxes) == 25
    torch.testing.assert_close(cells(shaken).share.sum(dim=0), torch.ones(16, dtype=torch.float64))


def test_equal_boxes_are_one_cell() -> None:
    boxes = torch.tensor([[1.0, 1, 3, 4]] * 3)
    found = cells(boxes)
    assert found.boxes.tolist() == [[1, 1, 3, 4]]
    assert found.share.tolist() == [[1, 1, 1]]


def test_edges_are_those_of_the_boxes() -> None:
    boxes = random_boxes(9, 6)
    found = cells(boxes)
    assert set(found.boxes[:, ::2].flatten().tolist()) <= set(boxes[:, ::2].flatten().tolist())
    order = [(y, x) for x, y, _, _ in found.boxes.tolist()]
    assert all(a < b for a, b in pairwise(order)), "from top to bottom, then from left to right"


@pytest.mark.usefixtures("as_user")
def test_bad_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    good = [[0.0, 0, 2, 2], [1, 1, 3, 3]]
    for boxes, match in (
        (torch.tensor(good)[:, :3], r"`boxes` must be \(N, 4\)"),
        (torch.tensor([*good, [3.0, 1, 2, 2]]), "x0 <= x1"),
        (torch.tensor([*good, [0.0, 0, math.nan, 2]]), "must be finite"),
        (torch.tensor([[1.0, 1, 1, 5]]), "must not be empty"),
        (torch.tensor([*good, [1.0, 1, 1, 5]]), "that overlap must not be empty"),
        (torch.tensor([*good, [1.0, 1, 1 + 1e-6, 5]]).double(), "nor narrower"),
    ):
        with pytest.raises(ValueError, match=match):
            cells(boxes)
    monkeypatch.setattr(module, "LARGEST", 17)
    with pytest.raises(ValueError, match="2 cut the plane into 3 x 3 places"):
        cells(torch.tensor(good))
