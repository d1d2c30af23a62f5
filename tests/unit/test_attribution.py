"""Attribution: every additive answer and every counterfactual, over sizes; streaming; bad input."""

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import carrot
import carrot.lift
from carrot import attribution as a
from carrot._ridge import blocks, passes
from carrot.edits.effects import Edit, edit_effects, edit_effects_by_class, edited
from carrot.graph import RegionGraphBuilder
from carrot.head import RidgeHead
from carrot.operator import DiffusionOperator
from carrot.readout import GraphReadout
from carrot.regions import RegionSet, grid_positions
from tests import contract
from tests import reference as ref

F64 = torch.float64


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("lam", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize(("n", "D"), [(40, 6), (12, 12), (12, 30)])
def test_training_pictures(n: int, D: int, lam: float, intercept: bool, weighted: bool) -> None:
    contract.check_training_attribution(carrot, n, D, 3, lam, intercept, weighted)


@pytest.mark.parametrize("t", [0.0, 2.0])
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (3, 4), (6, 7)])
def test_regions(grid: tuple[int, int], t: float) -> None:
    contract.check_region_attribution(carrot, *grid, D=5, t=t)


@pytest.mark.parametrize("n", [8, 30], ids=["wide", "tall"])
@pytest.mark.parametrize("spec", contract.LIFTS)
def test_everything_under_a_lift(spec: str, n: int) -> None:
    for t in (0.0, 1.5):
        contract.check_lifted_attribution(carrot, spec, n, t=t)


@pytest.mark.parametrize("share", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("tau", [None, 3.0])
@pytest.mark.parametrize("spec", ["identity", "quadratic", "relu:12"])
def test_everything_under_a_source_and_global_regions(spec: str, tau: float | None, share: float | None) -> None:
    contract.check_lifted_attribution(carrot, spec, 8, tau, share)


def test_batches_under_a_lift_are_their_pictures() -> None:
    s = Setting(batch=(2,))
    lift, r = carrot.lift.ReluLift(7), torch.rand(2, 6, dtype=F64)
    W_star, origin = torch.randn(7, 3, dtype=F64), torch.randn(7, dtype=F64)
    train, weights, alpha = (torch.randn(*shape, dtype=F64) for shape in ((4, 3, 5), (4, 3), (4, 3)))
    pi = s.operator.pull_back(r, s.graph)

    def answers(H: torch.Tensor, pi: torch.Tensor, r: torch.Tensor, graph: carrot.RegionGraph) -> list[torch.Tensor]:
        node = {"operator": s.operator, "graph": graph, "r": r}
        return [
            a.region_contribution(H, pi, W_star, lift=lift, origin=origin),
            a.region_contribution(H, pi, W_star, "node", **node, lift=lift, origin=origin),
            a.node_energy(H, pi, lift),
            a.pair_contribution(H, pi, train, weights, alpha, lift=lift, origin=origin),
        ]

    whole = answers(s.H, pi, r, s.graph)
    for b in range(2):
        graph = carrot.RegionGraph(s.graph.W[b], s.graph.degree[b])
        for ours, expected in zip(whole, answers(s.H[b], pi[b], r[b], graph), strict=True):
            torch.testing.assert_close(ours[b], expected, rtol=1e-12, atol=1e-12)


def test_float32_tokens_and_weights_under_a_lift() -> None:
    """Widened before the lift: the answer is that of their values in float64, but for diffusion on a float32 graph."""
    s, lift = Setting(), carrot.lift.QuadraticLift()
    H, pi, W_star = s.H.float(), s.readout.weights(6, torch.float32), torch.randn(15, 3, dtype=F64)
    graph = carrot.RegionGraph(s.graph.W.float(), s.graph.degree.float())
    node = {"operator": s.operator, "graph": graph, "r": pi}
    narrow = [
        a.region_contribution(H, pi, W_star, lift=lift),
        a.region_contribution(H, pi, W_star, "node", **node, lift=lift),
        a.node_energy(H, pi, lift),
        a.pair_contribution(H, pi, H[None], pi[None], W_star[:1], lift=lift),
    ]
    H, pi = H.double(), pi.double()
    wide = [
        a.region_contribution(H, pi, W_star, lift=lift),
        a.region_contribution(H, pi, W_star, "node", **node, lift=lift),
        a.node_energy(H, pi, lift),
        a.pair_contribution(H, pi, H[None], pi[None], W_star[:1], lift=lift),
    ]
    for ours, expected in zip(narrow, wide, strict=True):
        assert ours.dtype == F64
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


class Setting:
    """One small picture, its graph and a head."""

    def __init__(self, gh: int = 2, gw: int = 3, batch: tuple[int, ...] = ()) -> None:
        self.H = torch.randn(*batch, gh * gw, 5, dtype=F64)
        self.graph = RegionGraphBuilder().build(RegionSet(self.H, grid_positions(gh, gw, F64), (gh, gw)))
        self.head = RidgeHead(1.0, True).fit(torch.randn(20, 5, dtype=F64), torch.arange(20) % 3)
        self.operator, self.readout = DiffusionOperator(1.5), GraphReadout()
        self.stages = (self.H, self.graph, self.operator, self.readout, self.head)

    def value(self, keep: np.ndarray) -> np.ndarray:
        g = ref.embed_subset(self.H.numpy(), self.graph.W.numpy(), 1.5, keep)
        return g @ self.head.W_star.numpy() + self.head.bias.numpy()


def test_batches_are_their_pictures() -> None:
    s = Setting(batch=(2,))
    pi = s.operator.pull_back(s.readout.weights(6), s.graph)
    whole = {
        "token": a.region_contribution(s.H, pi, s.head.W_star),
        "node": a.region_contribution(s.H, pi, s.head.W_star, "node", operator=s.operator, graph=s.graph),
        "energy": a.node_energy(s.H, pi),
        "dirichlet": a.dirichlet_energy(s.H, s.graph),
        "drop": a.remove_each_region(*s.stages),
    }
    for b in range(2):
        H, graph = s.H[b], carrot.RegionGraph(s.graph.W[b], s.graph.degree[b])
        one = {
            "token": a.region_contribution(H, pi[b], s.head.W_star),
            "node": a.region_contribution(H, pi[b], s.head.W_star, "node", operator=s.operator, graph=graph),
            "energy": a.node_energy(H, pi[b]),
            "dirichlet": a.dirichlet_energy(H, graph),
            "drop": a.remove_each_region(H, graph, *s.stages[2:]),
        }
        for name, expected in one.items():
            torch.testing.assert_close(whole[name][b], expected, rtol=1e-12, atol=1e-13)


def test_interactions_equal_their_definition() -> None:
    s = Setting()
    ours = a.region_interactions(*s.stages, target=1)
    full = np.ones(6, dtype=bool)
    for i in range(6):
        for j in range(6):
            no_i, no_j, no_ij = full.copy(), full.copy(), full.copy()
            no_i[i] = no_j[j] = no_ij[i] = no_ij[j] = False
            expected = 0.0 if i == j else (s.value(full) - s.value(no_i) - s.value(no_j) + s.value(no_ij))[1]
            assert float(ours[i, j]) == pytest.approx(expected, abs=1e-13)


def test_dirichlet_energy_never_rises_under_diffusion() -> None:
    s = Setting(4, 5)
    energies = [
        float(a.dirichlet_energy(DiffusionOperator(t)(s.H, s.graph.L), s.graph).sum())
        for t in (0.0, 0.5, 1.0, 8.0, 64.0)
    ]
    assert all(before > after for before, after in itertools.pairwise(energies))


@pytest.mark.parametrize("kind", ["dual", "label", "removal"])
@pytest.mark.parametrize("largest", [True, False])
def test_top_training_equals_sorting_everything(kind: str, largest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "GROUP", 7)
    monkeypatch.setattr(blocks, "ENTRIES", 25)
    head = RidgeHead(1.0, True).fit(torch.randn(30, 5, dtype=F64), torch.arange(30) % 3)
    g = torch.randn(4, 5, dtype=F64)
    every = {
        "dual": lambda: a.training_contribution(g, head.G, head.alpha),
        "label": lambda: a.label_contribution(head, g),
    }
    every["removal"] = lambda: a.removal_effect(head, g)
    for target in (None, torch.tensor([0, 1, 2, 1])):
        classes = head.predict(g).argmax(-1) if target is None else target
        chosen = every[kind]().gather(2, classes[:, None, None].expand(-1, 30, 1)).squeeze(-1)
        values, indices = a.top_training(head, g, 9, kind, target, largest)
        torch.testing.assert_close(values, chosen.sort(dim=1, descending=largest).values[:, :9], rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(chosen.gather(1, indices), values, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", ["dual", "label", "removal"])
def test_both_ways_in_one_pass_and_of_two_classes(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "GROUP", 7)
    monkeypatch.setattr(blocks, "ENTRIES", 25)
    head = RidgeHead(1.0, True).fit(torch.randn(30, 5, dtype=F64), torch.arange(30) % 3)
    g, target = torch.randn(4, 5, dtype=F64), torch.tensor([0, 1, 2, 1])
    against, itself = (target + 1) % 3, torch.tensor([3, 0, 29, 7])
    every = {
        "dual": lambda: a.training_contribution(g, head.G, head.alpha),
        "label": lambda: a.label_contribution(head, g),
        "removal": lambda: a.removal_effect(head, g),
    }[kind]()
    row = torch.arange(4)
    chosen = every[row, :, target] - every[row, :, against]
    chosen[row, itself] = torch.nan
    both = a.supporters_and_opposers(head, g, 6, kind, target, against, exclude=itself)
    for largest, (values, indices) in zip((True, False), both, strict=True):
        hidden = chosen.nan_to_num(-torch.inf if largest else torch.inf)
        torch.testing.assert_close(values, hidden.topk(6, largest=largest).values, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(chosen.gather(1, indices), values, rtol=1e-12, atol=1e-14)
        alone = a.top_training(head, g, 6, kind, target, largest, exclude=itself, against=against)
        torch.testing.assert_close(alone[0], values, rtol=0, atol=0)
    with pytest.raises(ValueError, match="another class"):
        a.top_training(head, g, 2, target=1, against=1)


def test_the_edits_that_matter_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrot.edits.effects.SOLVED", 20)
    head = RidgeHead(1.0, True).fit(torch.randn(12, 5, dtype=F64), torch.arange(12) % 3)
    g, pairs = torch.randn(4, 5, dtype=F64), torch.combinations(torch.arange(12))
    with pytest.raises(
        TypeError, match=r"give it as \[edit\]|Sequence\[carrot"
    ):  # the latter: jaxtyping, in tests alone
        a.edit_effects(head, g, a.Edit(delete=[1]))  # type: ignore[arg-type]
    for one in (3, torch.tensor(3)):
        with pytest.raises(
            TypeError, match="must be a list of training indices; got|Sequence"
        ):  # the latter: jaxtyping
            a.Edit(delete=one)  # type: ignore[arg-type]
    every = a.edit_effects(head, g, pairs, 1, 2)
    for largest, (values, indices) in zip((True, False), a.top_edits(head, g, pairs, 5, 1, 2), strict=True):
        torch.testing.assert_close(values, every.topk(5, largest=largest).values, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(every.gather(1, indices), values, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["dual", "label", "removal"])
@pytest.mark.parametrize("largest", [True, False])
def test_an_excluded_picture_is_not_named(kind: str, largest: bool) -> None:
    s, g = Setting(), torch.randn(3, 5, dtype=F64)
    itself = torch.tensor([0, 19, 0], dtype=torch.int32)
    values, indices = a.top_training(s.head, g, 19, kind, 1, largest, exclude=itself)
    whole, order = a.top_training(s.head, g, 20, kind, 1, largest)
    for row in range(3):
        stays = order[row] != itself[row]  # labels of another class bring 0: these stand in any order
        assert sorted(indices[row].tolist()) == sorted(order[row][stays].tolist())
        torch.testing.assert_close(values[row], whole[row][stays], rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("nothing", [(), [], set(), range(0), iter(()), torch.tensor([]), np.array([])])
def test_no_picture_to_leave_out_is_none_in_any_form(nothing: Any) -> None:
    s, g = Setting(), torch.randn(2, 5, dtype=F64)
    expected = a.relabel_effect(s.head, g, 3, 2)
    torch.testing.assert_close(a.edit_effect(s.head, g, nothing, {3: 2}), expected, rtol=1e-12, atol=1e-15)


def test_bad_input() -> None:
    s = Setting()
    pi = s.readout.weights(6)
    g = torch.zeros(1, 5, dtype=F64)
    with pytest.raises(ValueError, match="permutation"):
        a.deletion_curve(*s.stages, torch.tensor([0, 1, 2, 3, 4, 4]))
    with pytest.raises(ValueError, match="`operator` and `graph`"):
        a.region_contribution(s.H, pi, s.head.W_star, by="node")
    for half in ({"operator": s.operator}, {"graph": s.graph}):
        with pytest.raises(ValueError, match="`operator` and `graph`"):
            a.region_contribution(s.H, pi, s.head.W_star, "node", **half)
    with pytest.raises(ValueError, match=r"coarsen"):
        a.region_shapley(*Setting(5, 5).stages)
    with pytest.raises(ValueError, match=">= 4"):
        a.region_shapley(*s.stages, n_samples=3)
    with pytest.raises(ValueError, match="0 .. 2, a class"):
        a.region_interactions(*s.stages, target=3)
    with pytest.raises(ValueError, match="two regions"):
        a.region_interactions(*Setting(1, 1).stages, target=0)
    with pytest.raises(ValueError, match="k"):
        a.top_training(s.head, g, 21)
    with pytest.raises(ValueError, match="classes 0 .. 2"):
        a.top_training(s.head, g, 2, target=torch.tensor([5]))
    with pytest.raises(ValueError, match="leave at least one"):
        a.group_removal_effect(s.head, g, list(range(20)))
    with pytest.raises(ValueError, match="`i` must be a whole number in 0 .. 19"):
        a.relabel_effect(s.head, g, 20, 0)
    with pytest.raises(ValueError, match="0 .. 2, a class"):
        a.relabel_effect(s.head, g, 0, 3)
    with pytest.raises(ValueError, match="0 .. 2, a class"):
        a.pair_contribution(s.H, pi, s.H[None], pi[None], s.head.alpha[:1], target=7)


@pytest.mark.usefixtures("as_user")
def test_bad_words() -> None:
    s = Setting()
    with pytest.raises(ValueError, match="token"):
        a.region_contribution(s.H, s.readout.weights(6), s.head.W_star, by="pixel")
    with pytest.raises(ValueError, match="removal"):
        a.top_training(s.head, torch.zeros(1, 5, dtype=F64), 2, kind="influence")


# None of them is one training index for each of two test pictures.
EXCLUDED: tuple[Any, ...] = (
    [0, 1], 0, np.array([0, 1]), torch.tensor(0), torch.tensor([0]), torch.tensor([0, 1, 2]), torch.tensor([[0], [1]]),
    torch.tensor([0.0, 1.0]), torch.tensor([True, False]), torch.tensor([0, 20]), torch.tensor([-1, 0]),
)  # fmt: skip


@pytest.mark.usefixtures("as_user")
def test_what_would_broadcast_into_wrong_numbers_is_refused() -> None:
    s = Setting()
    pi, W_star = s.readout.weights(6), s.head.W_star
    lift = carrot.lift.QuadraticLift()
    small, node = Setting(2, 2).graph, {"operator": s.operator, "graph": s.graph}
    g, G, alpha = torch.zeros(2, 5, dtype=F64), s.head.G, s.head.alpha
    other = RidgeHead(1.0).fit(torch.randn(20, 4, dtype=F64), torch.arange(20) % 3)
    train, weights = s.H.expand(2, 6, 5), pi.expand(2, 6)
    for call in (
        lambda: a.region_contribution(s.H, pi[:1], W_star),
        lambda: a.region_contribution(s.H, pi[:, None], W_star),
        lambda: a.region_contribution(s.H, pi, W_star[:, 0]),
        lambda: a.region_contribution(s.H, pi, W_star, "node", operator=s.operator, graph=small),
        lambda: a.region_contribution(s.H, pi, W_star, "node", **node, r=torch.ones(1)),
        lambda: a.node_energy(s.H, pi[:1]),
        lambda: a.region_contribution(s.H, pi, W_star, lift=lift),
        lambda: a.region_contribution(s.H, pi, W_star, origin=torch.zeros(1, dtype=F64)),
        lambda: a.region_contribution(s.H, pi, W_star, origin=torch.zeros(5, 1, dtype=F64)),
        lambda: a.node_energy(s.H, pi[:1], lift),
        lambda: a.pair_contribution(s.H, pi, train, weights, alpha[:2], lift=lift, origin=torch.zeros(5, dtype=F64)),
        lambda: a.remove_each_region(*s.stages, lift),
        lambda: a.region_shapley(*s.stages, lift=lift),
        lambda: a.dirichlet_energy(s.H[:1], s.graph),
        lambda: a.training_contribution(g, G, alpha[:, 0]),
        lambda: a.training_contribution(g, G, alpha[:1]),
        lambda: a.training_contribution(g[:, :4], G, alpha),
        lambda: a.pair_contribution(s.H, pi[:1], train, weights, alpha[:2]),
        lambda: a.pair_contribution(s.H, pi, train, weights[:, :1], alpha[:2]),
        lambda: a.pair_contribution(s.H, pi, train, weights, alpha[:1]),
        lambda: a.top_training(s.head, g[0], 2),
        lambda: a.top_training(s.head, g, 2, target=torch.tensor([1])),
        lambda: a.top_training(s.head, g, 2, target=torch.tensor([True, False])),
        *(partial(a.top_training, s.head, g, 2, exclude=x) for x in EXCLUDED),
        lambda: a.top_training(s.head, g, 2, "label", origin=torch.zeros(5, dtype=F64)),
        lambda: a.top_training(s.head, g, 20, exclude=torch.tensor([0, 1])),
        lambda: a.top_training(s.head, g * float("nan"), 2, target=torch.tensor([1, 1])),
        lambda: a.relabel_effect(s.head, g, 0, torch.full((3,), float("nan"))),
        lambda: a.replacement_effect(s.head, g, 0, g[:1]),
        lambda: a.group_removal_effect(s.head, g, [1.7]),
        *(partial(a.group_removal_effect, s.head, g, x) for x in ([], (), set(), range(0), torch.tensor([]))),
        lambda: a.edit_effect(s.head, g, None),
        lambda: a.edit_effect(s.head, g, [0], [(1, 2)]),
        lambda: a.edit_effect(s.head, g, [0], {0: 1}),
        lambda: a.edit_effect(s.head, g, [0], {"1": 1}),
        lambda: a.edit_effect(s.head, g, [0, 0]),
        lambda: a.edit_effect(s.head, g, [], {20: 1}),
        lambda: a.remove_each_region(s.H[:4], *s.stages[1:]),
        lambda: a.remove_each_region(*s.stages[:4], other),
        lambda: a.remove_regions(*s.stages, torch.ones(6, dtype=torch.bool)),
        lambda: a.region_shapley(s.H[None], *s.stages[1:]),
        lambda: a.region_interactions(s.H[None], *s.stages[1:], target=0),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match="must|comes"):
            call()


@pytest.mark.usefixtures("as_user")
def test_weights_that_sum_to_nothing_have_no_shares_of_an_origin() -> None:
    """An empty picture's weights are 0: it used to be NaN."""
    s, zero, origin = Setting(), torch.zeros(6, dtype=F64), torch.ones(5, dtype=F64)
    pi, alpha = s.readout.weights(6), torch.ones(1, 3, dtype=F64)
    node = {"operator": s.operator, "graph": s.graph, "r": zero}
    for name, call in (
        ("pi", lambda: a.region_contribution(s.H, zero, s.head.W_star, origin=origin)),
        ("r", lambda: a.region_contribution(s.H, pi, s.head.W_star, "node", **node, origin=origin)),
        ("pi_test", lambda: a.pair_contribution(s.H, zero, s.H[None], pi[None], alpha, origin=origin)),
        ("pi_train", lambda: a.pair_contribution(s.H, pi, s.H[None], zero[None], alpha, origin=origin)),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must not sum to 0"):
            call()
    assert not a.region_contribution(s.H, zero, s.head.W_star).any()  # without an origin there is nothing to share


@pytest.mark.parametrize("beside", [[], [Edit(delete=[1]), Edit(relabel={0: 1})]])
def test_an_edit_that_changes_nothing_has_no_effect(beside: list[Edit]) -> None:
    head = RidgeHead(0.5, True).fit(torch.eye(4), torch.arange(4) % 2, torch.tensor([1.0, 2.0, 1.0, 3.0]))
    same, g = Edit(reweight={1: 2.0, 3: 3}), torch.ones(3, 4)
    effects = edit_effects(head, g, [same, *beside])
    assert torch.equal(effects[:, 0], torch.zeros(3, dtype=torch.float64))
    expected = [edited(head, edit).predict(g)[:, 0] - head.predict(g)[:, 0] for edit in beside]
    assert torch.allclose(edit_effects(head, g, [*beside, same], 0), torch.stack([*expected, effects[:, 0]], dim=1))
    assert torch.equal(edit_effects_by_class(head, g, [same])[:, 0], torch.zeros(3, 2, dtype=torch.float64))
    assert edit_effects(head, g[:0], [same]).shape == a.top_edits(head, g[:0], [same], 1)[0][0].shape == (0, 1)


def test_effects_that_no_memory_holds_are_refused_before_they_are_begun() -> None:
    head = RidgeHead(0.5, True).fit(torch.eye(4), torch.arange(4) % 2)
    g, edits = torch.ones(2000, 4), torch.zeros(1, 1, dtype=torch.long).expand(10**10, 1)
    for ask, what in ((edit_effects, "2,000 x 10,000,000,000"), (edit_effects_by_class, "10,000,000,000 x 2 numbers")):
        with pytest.raises(MemoryError, match=what):
            ask(head, g, edits)
