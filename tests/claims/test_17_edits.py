"""Claim 17: any sequence of deletions, new labels and additions leaves the head of a refit."""

import numpy as np
import torch

from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = (
    "Any sequence of deletions, new labels and additions leaves the head of a refit on the pictures that there are then"
)
FORMULA = "K - G_S^T G_S + G_T^T G_T, with Q - G_U^T (Y_U - Y'_U), solved again"
ASSUMPTION = "lam held; the backbone is not touched"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    G, Y = world.embeddings[:-1].numpy().copy(), np.eye(world.C)[world.labels]
    head, worst = world.head, 0.0
    for gone, changed in (([1, 2, 40], [0, 5]), ([3], [7, 8, 9])):
        new = G[gone] + 0.25, Y[gone][::-1].copy()
        head.remove(gone)
        G, Y = ref.without(G, gone), ref.without(Y, gone)
        Y[changed] = np.roll(Y[changed], 1, axis=1)
        head.relabel(changed, torch.tensor(Y[changed]))
        head.add(torch.tensor(new[0]), torch.tensor(new[1]))
        G, Y = np.concatenate([G, new[0]]), np.concatenate([Y, new[1]])
        W_star, _ = ref.fit(G, Y, world.lam, world.intercept)
        worst = max(worst, relative(head.W_star, W_star))
    return worst


def test_claim() -> None:
    assert measure() <= World().tolerance
