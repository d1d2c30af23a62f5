"""Claim 5: training pictures' label contributions sum to the logit."""

from carrot.attribution import label_contribution
from tests.claims.world import World, relative

STATEMENT = "Training pictures' label contributions sum to the logit"
FORMULA = "logit = sum_i s_i(g) y_i"
ASSUMPTION = "none"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    return relative(label_contribution(world.head, world.g).sum(0), world.refit())


def test_claim() -> None:
    assert measure() <= World().tolerance
