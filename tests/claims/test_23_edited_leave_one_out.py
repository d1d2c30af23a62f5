"""Claim 23: leave-one-out predictions after edits, one on the other, are those of real refits."""

import numpy as np

from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = (
    "With pictures relabelled and left out, one after the other, leave-one-out predictions of all the others are those "
    "of n real refits"
)
FORMULA = "y_i - R_i / Q_ii after each edit: R + Q_:k (y' - y_k); Q - Q_:k Q_k: / Q_kk, R - Q_:k R_k / Q_kk; Q = I - S"
ASSUMPTION = "lam held"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world, worst = World(), 0.0
    G, Y = world.embeddings[:-1].numpy(), np.eye(world.C)[world.labels]
    edited, gone = world.head.edited_loo(), list[int]()
    for k, label in ((3, 1), (10, None), (7, 0), (11, None), (0, None), (20, 4), (5, world.C), (8, world.C)):
        if label == Y.shape[1]:  # a class that there was not
            edited, Y = edited.widened(1), np.pad(Y, ((0, 0), (0, 1)))
        if label is None:
            edited, gone = edited.without(k), [*gone, k]
        else:
            Y[k] = np.eye(Y.shape[1])[label]
            edited = edited.relabelled(k, world.head.Y.new_tensor(Y[k]))
        stay = [i for i in range(world.n) if i not in gone]
        expected = ref.loo(ref.without(G, gone), ref.without(Y, gone), world.lam, world.intercept)
        worst = max(worst, relative(edited.logits[stay], expected))
    return worst


def test_claim() -> None:
    assert measure() <= World().tolerance
