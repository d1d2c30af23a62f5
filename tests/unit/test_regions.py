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


def with_class_token(K: int = 2, batch: tuple[int, ...] = (3,)) -> tuple[RegionSet, torch.Tensor]:
    tokens = torch.randn(*batch, K, 4)
    return RegionSet(torch.randn(*batch, 6, 4), grid_positions(2, 3), (2, 3)).with_global(tokens), tokens


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_global_regions_stand_last_and_have_no_place(batch: tuple[int, ...]) -> None:
    regions, tokens = with_class_token(2, batch)
    assert (regions.num_regions, regions.num_global, regions.grid_hw) == (8, 2, (2, 3))
    assert torch.equal(regions.features[..., 6:, :], tokens)
    assert not regions.positions[6:].any()
    local = regions.local
    assert (local.num_regions, local.num_global, local.grid_hw) == (6, 0, (2, 3))
    assert torch.equal(local.features, regions.features[..., :6, :])
    assert torch.equal(local.positions, grid_positions(2, 3))
    assert torch.equal(regions.isotropic_positions[:6], local.isotropic_positions)
    more = regions.with_global(tokens[..., :1, :])
    assert more.num_global == 3
    assert torch.equal(more.features[..., 6:, :], torch.cat([tokens, tokens[..., :1, :]], dim=-2))
    assert torch.equal(more.local.features, local.features)


def test_global_regions_take_the_precision_of_the_others() -> None:
    regions = RegionSet(torch.zeros(6, 4), grid_positions(2, 3)).with_global(torch.ones(1, 4, dtype=torch.float64))
    assert regions.features.dtype == torch.float32
    assert regions.grid_hw is None


def test_coarsen_keeps_global_regions() -> None:
    H, tokens = torch.randn(2, 24, 3, dtype=torch.float64), torch.randn(2, 1, 3, dtype=torch.float64)
    plain = RegionSet(H, grid_positions(4, 6, torch.float64), (4, 6))
    coarse = plain.with_global(tokens).coarsen(2)
    assert (coarse.num_regions, coarse.num_global, coarse.grid_hw) == (7, 1, (2, 3))
    assert torch.equal(coarse.features[:, 6:], tokens)
    assert torch.equal(coarse.local.features, plain.coarsen(2).features)
    assert torch.equal(coarse.local.positions, plain.coarsen(2).positions)
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        plain.with_global(tokens).coarsen(3)


@pytest.mark.usefixtures("as_user")
def test_bad_global_regions_are_refused() -> None:
    regions = RegionSet(torch.zeros(3, 6, 4), grid_positions(2, 3), (2, 3))
    for tokens in (
        torch.zeros(3, 1, 5),
        torch.zeros(2, 1, 4),
        torch.zeros(1, 4),
        torch.zeros(4),
        torch.zeros(3, 3, 1, 4),
    ):
        with pytest.raises(ValueError, match=r"prefix\[:, :1\]"):
            regions.with_global(tokens)
    with pytest.raises(ValueError, match="finite"):
        regions.with_global(torch.full((3, 1, 4), float("nan")))
    for num_global in (-1, 6, 7):
        with pytest.raises(ValueError, match="leave at least one of 6"):
            RegionSet(torch.zeros(6, 4), grid_positions(2, 3), num_global=num_global)
    with pytest.raises(ValueError, match="hold N = 5"):
        RegionSet(torch.zeros(6, 4), grid_positions(2, 3), (2, 3), num_global=1)
