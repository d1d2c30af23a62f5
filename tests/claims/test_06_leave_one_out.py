"""Claim 6: leave-one-out predictions are those of n real refits."""

import numpy as np

from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = "Leave-one-out predictions are those of n real refits"
FORMULA = "y_i - R_i / (1 - leverage_i)"
ASSUMPTION = "lam held"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    G, Y = world.embeddings[:-1].numpy(), np.eye(world.C)[world.labels]
    return relative(world.head.loo_predict(), ref.loo(G, Y, world.lam, world.intercept))


def test_claim() -> None:
    assert measure() <= World().tolerance
