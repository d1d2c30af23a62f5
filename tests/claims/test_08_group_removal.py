"""Claim 8: the effect of a group of training pictures is that of refitting without it."""

from carrot.attribution import group_removal_effect
from tests.claims.world import World, relative

STATEMENT = "The effect of a group of training pictures is that of refitting without it"
FORMULA = "s_S(g) (I - s_S(G_S))^{-1} R_S"
ASSUMPTION = "lam held"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    group = [0, 3, 4, 17, 30, 58]
    return relative(group_removal_effect(world.head, world.g, group), world.refit() - world.refit(gone=group))


def test_claim() -> None:
    assert measure() <= World().tolerance
