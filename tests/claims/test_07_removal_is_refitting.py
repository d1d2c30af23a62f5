"""Claim 7: the effect of a training picture is that of refitting without it."""

import numpy as np

from carrot.attribution import removal_effect
from tests.claims.world import World, relative

STATEMENT = "The effect of a training picture is that of refitting without it"
FORMULA = "s_i(g) R_i / (1 - leverage_i)"
ASSUMPTION = "lam held"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    expected = np.stack([world.refit() - world.refit(gone=[i]) for i in range(world.n)])
    return relative(removal_effect(world.head, world.g), expected)


def test_claim() -> None:
    world = World()
    effect = removal_effect(world.head, world.g).abs().max()
    # the brute-force answer is a difference of two logits: their rounding is relative to them, not to it
    assert measure() <= world.tolerance * float(world.head.predict(world.g).abs().max() / effect)
