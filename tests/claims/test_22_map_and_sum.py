"""Claim 22: the map sums over pixels to the contributions; under a sum these are drops and Shapley values."""

import numpy as np
import torch

from tests import tiles

STATEMENT = (
    "The map over pixels sums to the contributions of tiles; under a sum without diffusion a contribution is the drop "
    "without the tile and its Shapley value, and no order of deletion is steeper"
)
FORMULA = "map(x) = sum_{r: x in m_r} c_r / |m_r|;  sum: c_r = drop_r = Shapley_r, I_rs = 0"
ASSUMPTION = "readout a sum, t = 0; the map: none"
ORDERS = 1000


def map_error() -> float:
    """Return the error of the map's sum relative to the largest contribution."""
    world = tiles.World(8.0, "mean", 0.0, 1.5)
    values = (world.trace.pi[:, None] * world.trace.lift.scores(world.trace.H, world.head.W_star))[:, 0]
    found = world.tiling.pixel_map(values, tiles.SIZE)
    return abs(float(found.sum() - values.sum())) / float(values.abs().max())


def steepness() -> tuple[float, float]:
    """Return the area under the deletion curve in the order of contributions, and the least of random orders."""
    world = tiles.World(8.0, "sum", 0.0, 0.0)
    asked = world.trace.coalitions(world.head.logit(1))
    order = asked.each()[:, 0].argsort(descending=True)
    generator = np.random.default_rng(0)
    others = [asked.deletion(torch.tensor(generator.permutation(world.N))).sum() for _ in range(ORDERS)]
    return float(asked.deletion(order).sum()), float(torch.stack(others).min())


def measure() -> float:
    """Return the largest error, relative to the largest contribution."""
    errors = [map_error()]
    for share in (0.0, 0.2):
        errors += tiles.additive_errors(tiles.World(8.0, "sum", share, 0.0, (2,))).values()
    return max(errors)


def test_claim() -> None:
    assert measure() <= 1e-12
    mine, least = steepness()
    assert mine <= least + 1e-12
    tiles.check_map()
