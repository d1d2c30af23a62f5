"""Claim 9: relabelling or editing a training picture acts as refitting with it."""

import numpy as np
import torch

from carrot.attribution import relabel_effect, replacement_effect
from tests.claims.world import World, relative

STATEMENT = "Relabelling or editing a training picture acts as refitting with it"
FORMULA = "k(g, U) (C^{-1} + k(U, U))^{-1} (Y_U - logit(U))"
ASSUMPTION = "lam held"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    G, Y = world.embeddings[:-1].numpy().copy(), np.eye(world.C)[world.labels]
    Y[7] = np.eye(world.C)[3]
    relabelled = relative(relabel_effect(world.head, world.g, 7, 3), world.refit(Y=Y) - world.refit())
    G[7] += 0.3
    both = replacement_effect(world.head, world.g, 7, torch.tensor(G[7]), 3)
    return max(relabelled, relative(both, world.refit(G=G, Y=Y) - world.refit()))


def test_claim() -> None:
    assert measure() <= World().tolerance
