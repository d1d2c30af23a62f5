"""Claim 26: lam chosen again without each picture, and what is said then, are those of a real path without it."""

import numpy as np
import torch

from carrot.head import RidgeHead
from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = (
    "With lam chosen again without each training picture, what is said of it is what a real fit without it, its lam "
    "chosen by leave-one-out among the others, says"
)
FORMULA = (
    "E_i = sum_{j != i} |R_j - a_ji R_i|^2 / (Q_jj - a_ji Q_ij)^2, a_ji = Q_ji / Q_ii, Q = I - S; "
    "lam_{-i} = argmin E_i; y_i - R_i / Q_ii at it"
)
ASSUMPTION = "the penalties that lam is chosen from, and weights, held"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world, lams, one = World(n=24), [0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7], np.ones(23)
    G, Y = world.embeddings[:-1].numpy(), np.eye(world.C)[world.labels]
    again = RidgeHead(1.0, True).fit(world.embeddings[:-1], torch.tensor(world.labels)).loo_again(lams)
    chosen, said = [], []
    for i in range(world.n):
        lam, _ = ref.loo_choice(ref.without(G, i), ref.without(Y, i), lams, True, one)
        chosen.append(lam)
        said.append(ref.predict(ref.without(G, i), ref.without(Y, i), lam, True, G[i]))
    assert again.lams.tolist() == chosen
    assert len(set(chosen)) > 1  # or nothing would be chosen
    return relative(again.logits, np.stack(said))


def test_claim() -> None:
    assert measure() <= World().tolerance
