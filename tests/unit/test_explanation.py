"""One prediction taken apart: every sum is the logit, with and without intercept, and pairs sum to their picture."""

import numpy as np
import pytest
import torch

from carrot.explanation import Trace, explain, refit_without, region_to_region, strongest_pairs
from carrot.graph import RegionGraph
from carrot.regions import RegionSet
from tests.claims.world import World


def trace(world: World, index: int) -> Trace:
    graph = RegionGraph(world.graphs.W[index], world.graphs.degree[index])
    H_prime = world.operator(world.tokens[index], graph.L)
    regions = RegionSet(world.tokens[index], world.positions, world.grid)
    return Trace(regions, graph, world.pi[index], H_prime, world.readout.forward(H_prime))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("target", [None, 3])
def test_every_sum_is_the_logit_of_a_real_fit(intercept: bool, target: int | None) -> None:
    world = World(intercept=intercept)
    e = explain(trace(world, -1), world.operator, world.readout, world.head, target)
    expected = world.refit()
    np.testing.assert_allclose(e.logits.numpy(), expected, rtol=1e-9)
    assert e.target == (int(expected.argmax()) if target is None else target)
    assert set(e.sums) == {"regions by token", "regions by node", "training pictures, dual", "training pictures, label"}
    for name, total in e.sums.items():
        assert total == pytest.approx(expected[e.target], abs=1e-11), name
    assert e.prior == pytest.approx(0.2 if intercept else 0.0)  # 60 pictures of 5 classes, 12 each


def test_a_picture_like_the_mean_contributes_nothing() -> None:
    """Shifting the origin of the features moves the bias of the plain formulas, and nothing of an explanation."""
    plain, moved = World(), World()
    moved.tokens = moved.tokens + 7.0  # graphs don't change; at t = 0 embeddings move by the same 7
    for world in (plain, moved):
        world.operator = type(world.operator)(0.0)
    a, b = (explain(trace(w, -1), w.operator, w.readout, w.head) for w in (plain, moved))
    for name in ("token", "node", "dual", "label", "removal", "drop"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=1e-9)
    assert float((plain.head.bias - moved.head.bias).abs().max()) > 1e-3


def test_pairs_sum_to_their_picture_and_pictures_to_the_logit() -> None:
    world = World()
    test = trace(world, -1)
    e = explain(test, world.operator, world.readout, world.head)
    total = e.prior
    for i in range(world.n):
        pairs = region_to_region(test, trace(world, i), world.head, i, e.target)
        assert pairs.shape == (world.N, world.N)
        assert float(pairs.sum()) == pytest.approx(float(e.dual[i]), abs=1e-11)
        total += float(pairs.sum())
    assert total == pytest.approx(e.logit, abs=1e-10)


def test_strongest_pairs_are_the_largest_entries() -> None:
    pairs = torch.tensor([[0.1, 0.9, -3.0], [0.5, 0.2, 0.3]])
    assert strongest_pairs(pairs, 2) == [(0, 1, pytest.approx(0.9)), (1, 0, pytest.approx(0.5))]
    assert len(strongest_pairs(pairs, 99)) == 6


def test_refit_without_is_what_removal_claims() -> None:
    world = World()
    e = explain(trace(world, -1), world.operator, world.readout, world.head)
    for i in (0, 31):
        refitted = float(refit_without(world.head, i).predict(world.g)[e.target])
        assert e.logit - float(e.removal[i]) == pytest.approx(refitted, abs=1e-11)


def test_top_training_and_a_class_out_of_range() -> None:
    world = World()
    e = explain(trace(world, -1), world.operator, world.readout, world.head)
    assert e.top_training(3).tolist() == e.dual.argsort(descending=True)[:3].tolist()
    assert len(e.top_training(1000)) == world.n
    with pytest.raises(ValueError, match="class 0 .. 4"):
        explain(trace(world, -1), world.operator, world.readout, world.head, target=5)


def test_a_trace_names_every_object() -> None:
    world = World()
    tensors = trace(world, 0).tensors()
    assert {k: tuple(v.shape) for k, v in tensors.items()} == {
        "H": (48, 20), "P": (48, 2), "W": (48, 48), "L": (48, 48), "pi": (48,), "H_prime": (48, 20), "g": (20,),
    }  # fmt: skip
