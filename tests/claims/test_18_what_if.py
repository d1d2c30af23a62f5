"""Claim 18: training pictures left out and relabelled, and regions dropped, all at once, answered as by refitting."""

import numpy as np
import torch

from carrot.attribution import edit_effect
from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = (
    "Leaving out some training pictures, relabelling others and dropping regions of the test picture, all at once, is "
    "refitting and rebuilding"
)
FORMULA = "logit(g) + s_U(g) dY - s_S(g) (I - s_S(G_S))^{-1} (R_S - s_U(G_S) dY), g = sum_{i in kept} pi_i phi(h_i)"
ASSUMPTION = "lam held; the backbone does not run again"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world, worst = World(), 0.0
    rng = np.random.default_rng(5)
    G, labels = world.embeddings[:-1].numpy(), np.asarray(world.labels)
    for gone, moved in (([1, 2, 40], {0: 3, 5: 1}), ([], {7: 2}), ([3], {}), ([10, 11, 12, 13], {30: 0})):
        keep = rng.random(world.N) < 0.7
        W = world.graphs.W[-1].numpy()[np.ix_(keep, keep)]
        pi = ref.heat(ref.laplacian(W)[1], world.operator.t) @ np.full(keep.sum(), 1.0 / keep.sum())
        g = world.tokens[-1].numpy()[keep].T @ pi
        Y = np.eye(world.C)[[moved.get(i, label) for i, label in enumerate(labels)]]
        W_star, b = ref.fit(ref.without(G, gone), ref.without(Y, gone), world.lam, world.intercept)
        mask = torch.tensor(keep).unsqueeze(-1)
        weights = world.operator.pull_back_subsets(world.graph, mask)[:, 0]
        ours = world.tokens[-1].mT @ weights
        found = world.head.predict(ours) + edit_effect(world.head, ours, gone, moved)
        worst = max(worst, relative(found, g @ W_star + b))
    return worst


def test_claim() -> None:
    assert measure() <= World().tolerance
