"""Claim 3: what each node holds after diffusion sums to the logit."""

from carrot.attribution import region_contribution
from tests.claims.world import World, relative

STATEMENT = "What each node holds after diffusion sums to the logit"
FORMULA = "logit = b + sum_i r_i <h'_i, W*>"
ASSUMPTION = "none"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    diffusion = {"operator": world.operator, "graph": world.graph}
    parts = region_contribution(world.H, world.pi[-1], world.head.W_star, "node", **diffusion)
    return relative(parts.sum(0) + world.head.bias, world.refit())


def test_claim() -> None:
    assert measure() <= World().tolerance
