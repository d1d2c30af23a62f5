"""Regions: shapes, places, coarsening."""

from dataclasses import dataclass

import pytest
import torch

from carrot.regions import RegionSet, grid_positions


def test_grid_positions_are_centres_row_major() -> None:
    P = grid_positions(2, 3)
    expected = [[-2 / 3, -0.5], [0, -0.5], [2 / 3, -0.5], [-2 / 3, 0.5], [0, 0.5], [2 / 3, 0.5]]
    torch.testing.assert_close(P, torch.tensor(expected))
    with pytest.raises(ValueError, match=">= 1"):
        grid_positions(0, 3)


def test_isotropic_positions_have_one_unit() -> None:
    """One patch right and one patch down are the same distance, on any grid."""
    for gh, gw in [(4, 4), (2, 8), (9, 3)]:
        P = RegionSet(torch.zeros(gh * gw, 1), grid_positions(gh, gw), (gh, gw)).isotropic_positions
        right, down = P[1] - P[0], P[gw] - P[0]
        torch.testing.assert_close(right.norm(), down.norm())
        torch.testing.assert_close(right.norm(), torch.tensor(2.0 / max(gh, gw)))
    loose = RegionSet(torch.zeros(8, 1), grid_positions(2, 4))
    assert torch.equal(loose.isotropic_positions, loose.positions)


@pytest.mark.parametrize("factor", [1, 2])
def test_coarsen_averages_blocks_and_keeps_the_mean(factor: int) -> None:
    H = torch.randn(2, 24, 3, dtype=torch.float64)
    coarse = RegionSet(H, grid_positions(4, 6, torch.float64), (4, 6)).coarsen(factor)
    gh, gw = 4 // factor, 6 // factor
    assert coarse.grid_hw == (gh, gw)
    image = H.reshape(2, 4, 6, 3)
    for y in range(gh):
        for x in range(gw):
            block = (
                image[:, factor * y : factor * y + factor, factor * x : factor * x + factor].reshape(2, -1, 3).mean(1)
            )
            torch.testing.assert_close(coarse.features[:, y * gw + x], block)
    torch.testing.assert_close(coarse.positions, grid_positions(gh, gw, torch.float64))
    torch.testing.assert_close(coarse.features.mean(1), H.mean(1))


def test_coarsen_names_the_factors_that_fit() -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        RegionSet(torch.zeros(24, 3), grid_positions(4, 6), (4, 6)).coarsen(3)
    with pytest.raises(ValueError, match="grid_hw=None"):
        RegionSet(torch.zeros(24, 3), grid_positions(4, 6)).coarsen(2)


def test_from_patches_takes_what_a_backbone_gives() -> None:
    @dataclass
    class Patches:
        H: torch.Tensor
        P: torch.Tensor
        grid_hw: tuple[int, int]

    regions = RegionSet.from_patches(Patches(torch.zeros(2, 6, 4), grid_positions(2, 3), (2, 3)))
    assert (regions.num_regions, regions.grid_hw) == (6, (2, 3))


@pytest.mark.parametrize(
    ("H", "P", "grid", "error", "words"),
    [
        (torch.zeros(6, 2), torch.zeros(5, 2), None, ValueError, r"\(6, 2\) to match"),
        (torch.zeros(6, 2), torch.zeros(6, 2), (2, 2), ValueError, "N = 6"),
        (torch.zeros(0, 2), torch.zeros(0, 2), None, ValueError, "N, D >= 1"),
        (torch.zeros(6, 2, dtype=torch.float16), torch.zeros(6, 2), None, TypeError, "float32 or float64"),
        (torch.full((6, 2), float("nan")), torch.zeros(6, 2), None, ValueError, "12 of its 12"),
        (torch.zeros(6, 2), torch.full((6, 2), float("inf")), None, ValueError, "positions"),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_bad_regions_are_refused(H, P, grid, error, words) -> None:
    with pytest.raises(error, match=words):
        RegionSet(H, P, grid)
