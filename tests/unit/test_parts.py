"""One prediction taken apart: every sum is the logit, with and without intercept, and pairs sum to their picture."""

import numpy as np
import pytest
import torch

import carrot
from carrot._ridge.logit import Logit
from carrot.embedding.trace import Trace
from carrot.explanation.parts import LogitParts, region_to_region, strongest_pairs, take_apart
from carrot.graph import RegionGraph
from carrot.head import RidgeHead
from carrot.regions import RegionSet
from tests import contract
from tests import reference as ref
from tests.claims.world import World


def trace(world: World, index: int) -> Trace:
    graph = RegionGraph(world.graphs.W[index], world.graphs.degree[index])
    regions = RegionSet(world.tokens[index], world.positions, world.grid)
    return Trace.of(regions, graph, world.operator, world.readout)


def lifted_trace(world: contract.Lifted, index: int) -> Trace:
    graph = RegionGraph(world.graphs.W[index], world.graphs.degree[index])
    every = world.regions
    regions = RegionSet(world.H[index], every.positions, every.grid_hw, every.num_global)
    return Trace.of(regions, graph, world.operator, world.readouts[index], world.lift)


def answer(trace: Trace, head: RidgeHead, target: int | None = None, against: int | None = None) -> LogitParts:
    """Take the predicted class's logit apart, or another."""
    return take_apart(trace, Logit.predicted(head, trace.g) if target is None else head.logit(target, against))


@pytest.mark.parametrize(("tau", "share"), [(None, None), (3.0, 0.3)])
@pytest.mark.parametrize("spec", contract.LIFTS)
def test_under_a_lift_a_source_and_global_regions(spec: str, tau: float | None, share: float | None) -> None:
    w = contract.Lifted(carrot, spec, 8, tau=tau, share=share)
    test = lifted_trace(w, -1)
    size = w.unit * max(1.0, float((np.abs(w.phi).max(axis=(0, 1)) @ np.abs(w.W_star)).max()))
    contract.close(test.r, w.r64[-1], 1e-14, "r")
    contract.close(test.pi, w.pi64[-1], size, "pi")
    contract.close(test.g, w.G64[-1], size * np.abs(w.G64).max(), "g")
    contract.close(test.H_prime, ref.heat(ref.laplacian(w.W64[-1])[1], w.t) @ w.H[-1].numpy(), size, "H'")
    e = answer(test, w.head)
    logits = w.logits(w.G64[-1])
    c = int(logits.argmax())
    assert e.target == c
    for name, total in e.sums.items():
        assert total == pytest.approx(logits[c], abs=1e-10), name
    contract.close(e.logits, logits, size, "logits")
    drops = [logits[c] - w.value(keep)[c] for keep in ~np.eye(w.N, dtype=bool)]
    contract.close(e.drop, np.array(drops), size, "drops")
    contract.close(e.removal, np.array([logits[c] - w.refit([i])[c] for i in range(8)]), 4 * size, "removal effects")
    large = size * max(1.0, float(np.abs(w.phi @ w.phi[-1].T).max())) * float(np.abs(w.alpha).sum(axis=0).max())
    for i in range(8):
        pairs = region_to_region(test, lifted_trace(w, i), w.head.logit(c), i)
        expected = (w.G64[-1] - w.g_mean) @ (w.G64[i] - w.g_mean) * w.alpha[i, c]
        contract.close(pairs.sum(), np.asarray(expected), large, "sum of pairs")
        contract.close(e.dual[i], np.asarray(expected), large, "dual")
    if share:  # pi is r on global regions; of the mean picture each takes its share of the weights
        own, mean = (w.phi[-1, -2:] @ w.W_star)[:, c], (w.g_mean @ w.W_star)[c]
        brought = share / 2 * (own - mean / w.pi64[-1].sum())
        contract.close(e.token[-2:], brought, size, "what the global regions bring")
        contract.close(e.node[-2:], share / 2 * (own - mean), size, "what the global regions hold")


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("target", [None, 3])
def test_every_sum_is_the_logit_of_a_real_fit(intercept: bool, target: int | None) -> None:
    world = World(intercept=intercept)
    e = answer(trace(world, -1), world.head, target)
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
    a, b = (answer(trace(w, -1), w.head) for w in (plain, moved))
    for name in ("token", "node", "dual", "label", "removal", "drop"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=1e-9)
    assert float((plain.head.bias - moved.head.bias).abs().max()) > 1e-3


def test_pairs_sum_to_their_picture_and_pictures_to_the_logit() -> None:
    world = World()
    test = trace(world, -1)
    e = answer(test, world.head)
    total = e.prior
    for i in range(world.n):
        pairs = region_to_region(test, trace(world, i), world.head.logit(e.target), i)
        assert pairs.shape == (world.N, world.N)
        assert float(pairs.sum()) == pytest.approx(float(e.dual[i]), abs=1e-11)
        total += float(pairs.sum())
    assert total == pytest.approx(e.logit, abs=1e-10)


def test_strongest_pairs_are_the_largest_entries() -> None:
    pairs = torch.tensor([[0.1, 0.9, -3.0], [0.5, 0.2, 0.3]])
    assert strongest_pairs(pairs, 2) == [(0, 1, pytest.approx(0.9)), (1, 0, pytest.approx(0.5))]
    assert len(strongest_pairs(pairs, 99)) == 6


def test_a_head_without_a_picture_is_what_removal_claims() -> None:
    world = World()
    e = answer(trace(world, -1), world.head)
    for i in (0, 31):
        refitted = float(world.head.without(i).predict(world.g)[e.target])
        assert e.logit - float(e.removal[i]) == pytest.approx(refitted, abs=1e-11)


def test_top_training_and_a_class_out_of_range() -> None:
    world = World()
    e = answer(trace(world, -1), world.head)
    assert e.top_training(3).tolist() == e.dual.argsort(descending=True)[:3].tolist()
    assert len(e.top_training(1000)) == world.n
    with pytest.raises(ValueError, match="class 0 .. 4"):
        answer(trace(world, -1), world.head, target=5)


def test_a_trace_names_every_object() -> None:
    world = World()
    tensors = trace(world, 0).tensors()
    assert {k: tuple(v.shape) for k, v in tensors.items()} == {
        "H": (48, 20), "P": (48, 2), "W": (48, 48), "L": (48, 48), "r": (48,), "pi": (48,),
        "H_prime": (48, 20), "g": (20,),
    }  # fmt: skip


def test_a_float32_picture_is_told_in_float64() -> None:
    """The graph and pi are float32; the lift and the head widen what they are given."""
    world = World()
    regions = RegionSet(world.H.float(), world.positions.float(), world.grid)
    graph = carrot.RegionGraphBuilder().build(regions)
    lift = carrot.lift_from("quadratic")
    narrow = Trace.of(regions, graph, world.operator, world.readout, lift)
    assert narrow.pi.dtype == narrow.r.dtype == torch.float32
    assert narrow.g.dtype == torch.float64
    head = carrot.RidgeHead(1.0, True).fit(lift.embed(world.tokens[:-1], world.pi[:-1]), torch.tensor(world.labels))
    e = answer(narrow, head)
    terms = float(e.token.abs().sum()) + abs(e.prior)
    assert e.sums["regions by token"] == pytest.approx(e.logit, abs=1e-13 * terms)  # pi as it is: no float32 between
    assert e.sums["regions by node"] == pytest.approx(e.logit, abs=1e-5 * terms)  # 48 roundings of float32 in pi


def test_a_source_must_be_bound_to_its_picture() -> None:
    world = World()
    with pytest.raises(ValueError, match=r"readout\.at"):
        Trace.of(RegionSet(world.H, world.positions), world.graph, world.operator, carrot.GraphReadout("source"))


@pytest.mark.parametrize("intercept", [True, False])
def test_a_class_held_against_another_is_the_difference_of_both(intercept: bool) -> None:
    world, c, a = World(intercept=intercept), 3, 1
    test = trace(world, -1)
    whole = {k: answer(test, world.head, k) for k in (c, a)}
    e = answer(test, world.head, target=c, against=a)
    refitted = world.refit()
    for name in ("token", "node", "drop", "dual", "label", "removal"):
        expected = getattr(whole[c], name) - getattr(whole[a], name)
        torch.testing.assert_close(getattr(e, name), expected, rtol=0, atol=1e-13)
    assert e.prior == pytest.approx(whole[c].prior - whole[a].prior, abs=1e-15)
    assert e.logit == pytest.approx(refitted[c] - refitted[a], abs=1e-11)
    assert len(e.sums) == 4
    for name, total in e.sums.items():
        assert total == pytest.approx(refitted[c] - refitted[a], abs=1e-11), name
    without = world.refit(gone=[31])
    assert float(e.removal[31]) == pytest.approx((refitted - without)[c] - (refitted - without)[a], abs=1e-11)


def test_pairs_of_a_class_held_against_another() -> None:
    world, c, a = World(), 3, 1
    test = trace(world, -1)
    e = answer(test, world.head, target=c, against=a)
    for i in (0, 17, 59):
        train = trace(world, i)
        pairs = region_to_region(test, train, world.head.logit(c, a), i)
        both = [region_to_region(test, train, world.head.logit(k), i) for k in (c, a)]
        torch.testing.assert_close(pairs, both[0] - both[1], rtol=0, atol=1e-14)
        assert float(pairs.sum()) == pytest.approx(float(e.dual[i]), abs=1e-12)
        assert float(pairs.abs().max()) > 1e-6


@pytest.mark.parametrize("against", [3, 5, -1])
def test_a_class_is_not_held_against_itself_or_none(against: int, as_user: None) -> None:
    world = World()
    with pytest.raises(ValueError, match=rf"`against` must be a class 0 \.\. 4 other than `target` = 3; got {against}"):
        answer(trace(world, -1), world.head, target=3, against=against)
