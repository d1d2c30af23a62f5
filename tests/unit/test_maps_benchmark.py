"""Layouts of a map that ``benchmarks.maps`` compares: each keeps every share, and all but one are even."""

import pytest
import torch

from benchmarks.maps import LAYOUTS, hill, places
from carrot.tiling import Tiling, coverage

SIZE = (120, 80)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("regions", ["tiles:2", "tiles:3", "tiles:1,4@0.25"])
def test_no_share_is_lost_and_none_lies_outside_of_its_box(regions: str, layout: str) -> None:
    p, tiling = places(regions, layout, SIZE), Tiling.from_spec(regions)
    assert p.share is not None
    assert float((p.share.sum(dim=0) - 1.0).abs().max()) < 1e-7  # edges are rounded to 1e-9 of the side
    boxes = tiling.shares * torch.tensor([*SIZE, *SIZE])
    x, y = p.centres.unbind(dim=1)
    inside = (boxes[:, 0] <= x[:, None]) & (x[:, None] <= boxes[:, 2])
    inside &= (boxes[:, 1] <= y[:, None]) & (y[:, None] <= boxes[:, 3])
    assert float(p.share[~inside].abs().sum()) == 0.0


@pytest.mark.parametrize("regions", ["tiles:2", "tiles:3", "tiles:4@0.25"])
def test_equal_shares_are_even_but_where_boxes_are_filled(regions: str) -> None:
    assert [hill(regions, layout) == pytest.approx(1.0, abs=1e-6) for layout in LAYOUTS] == [False, True, True, True]


def test_the_layout_that_was_chosen_is_what_the_package_draws() -> None:
    p, tiling = places("tiles:3,4", "middles", SIZE), Tiling((3, 4))
    values = torch.arange(25, dtype=torch.float64)
    assert p.share is not None
    rows, columns = coverage(p.boxes, SIZE[::-1])
    heights = p.share @ values / p.area
    torch.testing.assert_close((heights[:, None] * rows).T @ columns, tiling.pixel_map(values, SIZE), rtol=0, atol=1e-6)
