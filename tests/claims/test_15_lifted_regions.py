"""Claim 15: under a fixed lift of tokens every attribution is still exact."""

import numpy as np
import torch

import carrot
from carrot import attribution as attr
from tests import contract
from tests.claims.world import relative

STATEMENT = (
    "Under a fixed lift of tokens region sums, removals, Shapley values, training effects and region-to-region sums "
    "stay exact"
)
FORMULA = "logit = b + sum_i pi_i <phi(h_i), W*>, k(a, b) = <phi(a), phi(b)>"
ASSUMPTION = "phi is not learnt from the training pictures; the graph is that of the bare tokens"
WORLDS = [(spec, n) for spec in contract.LIFTS for n in (8, 30)]  # fewer and more pictures than the lift is wide


def errors(w: contract.Lifted) -> list[float]:
    """Return the error of each kind of answer, relative to its largest brute-force value.

    By brute force: phi written out and diffused, real refits.
    """
    H, graph, operator, readout, head = w.x
    logits, pi, mean = w.logits(w.G64[-1]), w.pi[-1], head.g_mean
    node = {"operator": operator, "graph": graph, "r": readout.weights(w.N)}
    pairs = attr.pair_contribution(H, pi, w.H[:-1], w.pi[:-1], head.alpha, lift=w.lift, origin=mean)
    keep = np.random.default_rng(1).random((w.N, 20)) < 0.5
    singles = [logits - w.value(column) for column in ~np.eye(w.N, dtype=bool)]
    return [
        relative(attr.region_contribution(H, pi, head.W_star, lift=w.lift).sum(0) + head.bias, logits),
        relative(attr.region_contribution(H, pi, head.W_star, "node", **node, lift=w.lift).sum(0) + head.bias, logits),
        relative(attr.region_contribution(H, pi, head.W_star, lift=w.lift, origin=mean).sum(0) + head.y_mean, logits),
        relative(attr.remove_each_region(*w.x, w.lift), np.stack(singles)),
        relative(attr.remove_regions(*w.x, torch.tensor(keep), w.lift), np.stack([w.value(c) for c in keep.T])),
        relative(attr.region_shapley(*w.x, lift=w.lift)[0].sum(0), logits - w.b),
        relative(attr.training_contribution(w.G[-1] - mean, head.G - mean, head.alpha).sum(0) + head.y_mean, logits),
        relative(attr.removal_effect(head, w.G[-1]), np.stack([logits - w.refit([i]) for i in range(w.n)])),
        relative(pairs.sum(dim=(0, 1, 2)) + head.y_mean, logits),
    ]


def tolerance(w: contract.Lifted) -> float:
    """10 eps (1 + t) cond, times how much larger the terms are than the smallest of those largest values."""
    logits = w.logits(w.G64[-1])
    smallest = min(
        np.abs(logits - w.b).max(),
        np.abs(logits).max(),
        np.max([np.abs(logits - w.value(column)) for column in ~np.eye(w.N, dtype=bool)]),
        np.max([np.abs(logits - w.refit([i])) for i in range(w.n)]),
    )
    centred = w.G64 - w.g_mean
    terms = max(
        (np.abs(w.phi).max(axis=(0, 1)) @ np.abs(w.W_star)).max(),
        (np.abs(centred[:-1]) @ np.abs(centred[-1]) @ np.abs(w.alpha)).max(),
    )
    return w.unit * max(1.0, terms) / smallest


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer, over lifts and answers."""
    return max(error for spec, n in WORLDS for error in errors(contract.Lifted(carrot, spec, n)))


def test_claim() -> None:
    assert measure() <= 1e-10
    for spec, n in WORLDS:
        world = contract.Lifted(carrot, spec, n)
        assert max(errors(world)) <= tolerance(world)
