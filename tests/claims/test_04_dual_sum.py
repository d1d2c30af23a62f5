"""Claim 4: training pictures' dual contributions sum to the logit."""

from carrot.attribution import training_contribution
from tests.claims.world import World, relative

STATEMENT = "Training pictures' dual contributions sum to the logit"
FORMULA = "logit = b + sum_i <g, g_i> alpha_i"
ASSUMPTION = "none"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    parts = training_contribution(world.g, world.head.G, world.head.alpha)
    return relative(parts.sum(0) + world.head.bias, world.refit())


def test_claim() -> None:
    world = World()
    terms = training_contribution(world.g, world.head.G, world.head.alpha).abs().sum(0)
    # alpha = R / lam: the terms are larger than their sum, and round accordingly
    assert measure() <= world.tolerance * float(terms.max() / world.head.predict(world.g).abs().max())
