"""Claim 16: a class token may say which regions count, or be a region of its own, and every answer stays exact."""

import numpy as np
import torch

import carrot
from carrot import attribution as attr
from tests import contract
from tests import reference as ref
from tests.claims import test_15_lifted_regions as lifted
from tests.claims.world import relative

STATEMENT = (
    "A class token may weight the regions or be one: weights restrict and renormalise, and its share is what was told, "
    "whatever else is dropped"
)
FORMULA = (
    "r_i = exp(tau u_i) / sum_j exp(tau u_j);  r = ((1 - rho) r, rho);  "
    "logit = b + sum_patches + rho <phi(h_global), W*>"
)
ASSUMPTION = (
    "u and the global regions are those of the whole picture when regions are removed; global regions have no edges"
)
WORLDS = [(spec, tau, share) for spec in ("identity", "quadratic") for tau in (None, 3.0) for share in (None, 0.3)][1:]


def global_errors(w: contract.Lifted, share: float) -> list[float]:
    """Return the error of what two global regions bring, by token and by node.

    It is rho times the mean of their own logits, less b.
    """
    H, graph, operator, readout, head = w.x
    expected = share * (w.phi[-1, -2:] @ w.W_star).mean(axis=0)
    node = {"operator": operator, "graph": graph, "r": readout.weights(w.N)}
    token = attr.region_contribution(H, w.pi[-1], head.W_star, lift=w.lift)
    held = attr.region_contribution(H, w.pi[-1], head.W_star, "node", **node, lift=w.lift)
    return [relative(token[-2:].sum(0), expected), relative(held[-2:].sum(0), expected)]


def restriction_error(tau: float) -> float:
    """Return the error of r restricted to some regions and renormalised against the softmax over those alone."""
    u = np.random.default_rng(0).normal(size=12)
    r = carrot.GraphReadout("source", tau).at(12, torch.tensor(u)).weights(12)[::2]
    return relative(r / r.sum(), ref.source_weights(u[::2], tau))


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    found = [restriction_error(tau) for tau in (0.0, 1.0, 10.0)]
    for spec, tau, share in WORLDS:
        world = contract.Lifted(carrot, spec, 30, tau=tau, share=share)
        found += lifted.errors(world) + (global_errors(world, share) if share else [])
    return max(found)


def test_claim() -> None:
    assert measure() <= 1e-10
    for spec, tau, share in WORLDS:
        world = contract.Lifted(carrot, spec, 30, tau=tau, share=share)
        assert max(lifted.errors(world)) <= lifted.tolerance(world)
