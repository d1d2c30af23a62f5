"""Claim 30: what is said of training pictures that are left out together is what refitting without all of them says."""

import numpy as np

from carrot._ridge.vouching import Among
from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = "What is said of the pictures of a group, all left out together, is what a head fitted without them says"
FORMULA = "logits_{-S}(G_S) = Y_S - (I - s_S(G_S))^{-1} R_S"
ASSUMPTION = "lam held"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world, worst = World(), 0.0
    G, Y = world.embeddings[:-1].numpy(), np.eye(world.C)[world.labels]
    for group in ([4], [0, 5], [2, 7, 12, 17], list(range(20, 32))):
        expected = [
            ref.predict(ref.without(G, group), ref.without(Y, group), world.lam, world.intercept, G[i]) for i in group
        ]
        worst = max(worst, relative(Among(world.head, range(world.n)).without(group), np.stack(expected)))
    return worst


def test_claim() -> None:
    assert measure() <= World().tolerance
