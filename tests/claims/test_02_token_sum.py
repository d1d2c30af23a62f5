"""Claim 2: what each region's token brings sums to the logit."""

from carrot.attribution import region_contribution
from tests.claims.world import World, relative

STATEMENT = "What each region's token brings sums to the logit"
FORMULA = "logit = b + sum_i pi_i <h_i, W*>"
ASSUMPTION = "graph of the picture held"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    parts = region_contribution(world.H, world.pi[-1], world.head.W_star)
    return relative(parts.sum(0) + world.head.bias, world.refit())


def test_claim() -> None:
    assert measure() <= World().tolerance
