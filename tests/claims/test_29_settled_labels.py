"""Claim 29: what relabelling or leaving out one picture does to all leave-one-out answers is what refitting does."""

import numpy as np

from carrot._ridge.settled import Settled
from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = (
    "Of any training picture, relabelled or left out, the leave-one-out error of all, and how many are told right, are "
    "those of n real refits"
)
FORMULA = "sum_j w_j |R_j + Q_ji d|^2 / s_j^2;  sum_{j != i} w_j |R_j - Q_ji R_i / s_i|^2 / (s_j - Q_ji Q_ij / s_i)^2"
ASSUMPTION = "lam held"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    G, Y = world.embeddings[:-1].numpy(), np.eye(world.C)[world.labels]
    rows, to = [0, 7, 21, 38, 59], [3, 1, 4, 0, 2]
    found = Settled.of(world.head, rows, to)

    def told(stay: list[int], Y: np.ndarray) -> tuple[float, int]:
        logits = ref.loo(G[stay], Y[stay], world.lam, world.intercept)
        right = (logits.argmax(axis=1) == Y[stay].argmax(axis=1)).sum()
        return float(((Y[stay] - logits) ** 2).mean()), int(right)

    relabelled, removed = [], []
    for i, c in zip(rows, to, strict=True):
        other = Y.copy()
        other[i] = np.eye(world.C)[c]
        relabelled.append(told(list(range(world.n)), other))
        removed.append(told([j for j in range(world.n) if j != i], Y))
    assert found.relabelled_right.tolist() == [right for _, right in relabelled]
    assert found.removed_right.tolist() == [right for _, right in removed]
    return max(
        relative(found.relabelled, np.array([error for error, _ in relabelled])),
        relative(found.removed, np.array([error for error, _ in removed])),
    )


def test_claim() -> None:
    assert measure() <= World().tolerance
