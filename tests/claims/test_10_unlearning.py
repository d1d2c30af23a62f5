"""Claim 10: deleting pictures from the head equals refitting without them."""

import numpy as np

from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = "Deleting pictures from the head equals refitting without them"
FORMULA = "K - G_S^T G_S, solved again"
ASSUMPTION = "lam held; the backbone is not touched"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    gone = [1, 2, 40]
    G, Y = ref.without(world.embeddings[:-1].numpy(), gone), ref.without(np.eye(world.C)[world.labels], gone)
    W_star, _ = ref.fit(G, Y, world.lam, world.intercept)
    return relative(world.head.remove(gone).W_star, W_star)


def test_claim() -> None:
    assert measure() <= World().tolerance
