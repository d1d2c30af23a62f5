"""Claim 13: removing regions equals building the graph of the rest again."""

import numpy as np
import torch

from carrot.attribution import remove_regions
from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = "Removing regions equals building the graph of the rest again"
FORMULA = "Rho * (W (Rho * X)), Rho = M / sqrt(W M)"
ASSUMPTION = (
    "weights W_ij of those left, and so the bandwidth, as in the whole picture; the backbone does not run again"
)


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    keep = np.concatenate([~np.eye(world.N, dtype=bool), np.random.default_rng(1).random((world.N, 50)) < 0.5], axis=1)
    W_star, b = world.head.W_star.numpy(), world.head.bias.numpy()
    H, W = world.H.numpy(), world.graph.W.numpy()
    expected = np.stack([ref.embed_subset(H, W, world.t, column) @ W_star + b for column in keep.T])
    ours = remove_regions(world.H, world.graph, world.operator, world.readout, world.head, torch.tensor(keep))
    return relative(ours, expected)


def test_claim() -> None:
    assert measure() <= World().tolerance
