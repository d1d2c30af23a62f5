"""Kinds of arguments, over every public function of theory and measures: one rule each, see ``carrot.utils``."""

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

import carrot.attribution as at
from carrot import DiffusionOperator, GraphReadout, RegionGraphBuilder, RegionSet, RidgeHead, RidgeStatistics
from carrot.data.records import Box
from carrot.evaluation import (
    accuracy,
    agreement,
    baselines,
    calibration,
    cells,
    confusion,
    duplicates,
    faithfulness,
    grid_pointing,
    localisation,
    pixel_ranks,
    ranking,
    tables,
)
from carrot.lift import FourierLift, QuadraticLift, ReluLift, SketchLift, lift_from
from carrot.protocol import checks, mosaics
from carrot.readout import attention_source, cosine_source, embed
from carrot.regions import grid_positions

pytestmark = pytest.mark.usefixtures("as_user")
F64 = torch.float64
rng = torch.Generator().manual_seed(0)
H, P = torch.randn(6, 5, generator=rng, dtype=F64), grid_positions(2, 3, F64)
REGIONS = RegionSet(H, P, (2, 3))
GRAPH, T2, MEAN = RegionGraphBuilder().build(REGIONS), DiffusionOperator(2.0), GraphReadout()
G, LABELS, TEST = (
    torch.randn(20, 5, generator=rng, dtype=F64),
    torch.arange(20) % 3,
    torch.randn(2, 5, generator=rng, dtype=F64),
)
HEAD = RidgeHead(1.0, True).fit(G, LABELS)
STAGES = (H, GRAPH, T2, MEAN, HEAD)
PI = T2.pull_back(MEAN.weights(6), GRAPH)
LOGITS = HEAD.predict(G)
SCORES, WRONG = torch.rand(20, generator=rng), torch.arange(20) < 5
BOXES, TARGET = torch.tensor([[0.0, 0, 4, 4], [2, 0, 8, 4]]), Box(1.0, 1.0, 3.0, 2.0)
KEEP = agreement.random_subsets(4, 2, 3)


def fitted(**options: object) -> RidgeHead:
    return RidgeHead(1.0, True, **options).fit(G, LABELS)


# name: (function of one whole number, one that it takes, one out of its range or None)
WHOLE: dict[str, tuple[Callable[[object], object], int, int | None]] = {
    "grid_positions(gh)": (lambda n: grid_positions(n, 2), 2, 0),
    "grid_positions(gw)": (lambda n: grid_positions(2, n), 2, 0),
    "RegionSet(num_global)": (lambda n: RegionSet(H, P, num_global=n).local.features, 2, 6),
    "RegionSet(grid_hw)": (lambda n: RegionSet(H, P, (n, 3)).grid_hw, 2, 0),
    "RegionSet.coarsen": (
        lambda n: RegionSet(torch.randn(16, 2), grid_positions(4, 4), (4, 4)).coarsen(n).features.shape, 2, 0
    ),
    "GraphReadout.weights": (lambda n: MEAN.weights(n), 2, 0),
    "GraphReadout.at(N)": (lambda n: MEAN.at(n).r, 2, 0),
    "GraphReadout.at(num_global)": (lambda n: GraphReadout(global_share=0.5).at(6, num_global=n).r, 2, 6),
    "DiffusionOperator(rank)": (
        lambda n: DiffusionOperator(1.0, "truncated", rank=n).pull_back(MEAN.weights(6), GRAPH), 2, 0
    ),
    "ReluLift(width)": (lambda n: ReluLift(n).features(H), 2, 0),
    "ReluLift(seed)": (lambda n: ReluLift(4, n).features(H), 2, None),
    "FourierLift(width)": (lambda n: FourierLift(n).features(H), 2, 0),
    "FourierLift(seed)": (lambda n: FourierLift(4, seed=n).features(H), 2, None),
    "SketchLift(width)": (lambda n: SketchLift(n).features(H), 2, 0),
    "SketchLift(seed)": (lambda n: SketchLift(4, n).features(H), 2, None),
    "RidgeHead.remove": (lambda n: fitted().remove(n).W_star, 2, 20),
    "RidgeHead.remove([i])": (lambda n: fitted().remove([n]).W_star, 2, -1),
    "RidgeHead.smoother([i])": (lambda n: HEAD.smoother(TEST, [n]), 2, 20),
    "RidgeHead.slack_among([i])": (lambda n: HEAD.slack_among([n]), 2, 20),
    "relabel_effect(i)": (lambda n: at.relabel_effect(HEAD, TEST, n, 1), 2, -1),
    "relabel_effect(y_new)": (lambda n: at.relabel_effect(HEAD, TEST, 0, n), 2, 3),
    "replacement_effect(i)": (lambda n: at.replacement_effect(HEAD, TEST, n, G[0]), 2, 20),
    "replacement_effect(y_new)": (lambda n: at.replacement_effect(HEAD, TEST, 0, G[3], n), 2, 3),
    "group_removal_effect([i])": (lambda n: at.group_removal_effect(HEAD, TEST, [n, 5]), 2, 20),
    "top_training(k)": (lambda n: at.top_training(HEAD, TEST, n)[0], 2, 21),
    "top_training(target)": (lambda n: at.top_training(HEAD, TEST, 3, target=n)[0], 2, 3),
    "pair_contribution(target)": (lambda n: at.pair_contribution(H, PI, H[None], PI[None], HEAD.alpha[:1], n), 2, 3),
    "region_shapley(n_samples)": (lambda n: at.region_shapley(*STAGES, n_samples=n)[0], 4, 3),
    "region_shapley(seed)": (lambda n: at.region_shapley(*STAGES, n_samples=4, seed=n)[0], 2, None),
    "region_interactions(target)": (lambda n: at.region_interactions(*STAGES, target=n), 2, 3),
    "top_k_accuracy(k)": (lambda n: accuracy.top_k_accuracy(LOGITS, LABELS, n), 2, 4),
    "precision_at(k)": (lambda n: ranking.precision_at(SCORES, WRONG, n), 2, 21),
    "knn(k)": (lambda n: baselines.knn(G, LABELS, TEST, k=n), 2, 0),
    "knn(C)": (lambda n: baselines.knn(G, LABELS, TEST, n), 4, 2),
    "expected_calibration_error(bins)": (
        lambda n: calibration.expected_calibration_error(torch.softmax(LOGITS, 1), LABELS, n), 2, 0
    ),
    "leave_one_out_check(k)": (lambda n: checks.leave_one_out_check(HEAD, n).n, 2, 0),
    "leave_one_out_check(seed)": (lambda n: checks.leave_one_out_check(HEAD, 2, n).n, 2, None),
    "group_removal_check": (lambda n: checks.group_removal_check(HEAD, [[n, 4]], TEST).n, 2, 20),
    "confusion_counts(C)": (lambda n: confusion.confusion_counts(LABELS, LABELS, n), 4, 0),
    "random_areas(n_orders)": (lambda n: faithfulness.random_areas(lambda o: o.new_zeros(7, dtype=F64), 6, n), 2, 0),
    "random_areas(seed)": (lambda n: faithfulness.random_areas(lambda o: o.new_zeros(7, dtype=F64), 6, 2, n), 2, None),
    "random_subsets(N)": (lambda n: agreement.random_subsets(n, 1, 3), 2, 0),
    "random_subsets(n)": (lambda n: agreement.random_subsets(4, n, 3), 2, 5),
    "random_subsets(R)": (lambda n: agreement.random_subsets(4, 1, n), 2, 0),
    "random_subsets(seed)": (lambda n: agreement.random_subsets(4, 1, 3, n), 2, None),
    "cell_box(grid)": (lambda n: grid_pointing.cell_box(n, 1, (6, 6)), 2, 1),
    "cell_box(cell)": (lambda n: grid_pointing.cell_box(2, n, (6, 6)), 2, 4),
    "mosaic(side)": (lambda n: mosaics.mosaic([Image.new("RGB", (4, 4))] * 4, 2, n)[1], 2, 0),
    "markdown_table(digits)": (lambda n: tables.markdown_table([{"x": 0.123}], digits=n), 2, -1),
}  # fmt: skip

# name: (function of one real number, one that it takes, one out of its range)
REAL: dict[str, tuple[Callable[[object], object], float, float]] = {
    "sigma_spatial": (lambda x: RegionGraphBuilder(sigma_spatial=x).build(REGIONS).W, 0.5, 0.0),
    "sigma_feature": (lambda x: RegionGraphBuilder(sigma_feature=x).build(REGIONS).W, 0.5, -1.0),
    "feature_scale": (lambda x: RegionGraphBuilder(feature_scale=x).build(REGIONS).W, 0.5, float("nan")),
    "t": (lambda x: DiffusionOperator(x).pull_back(MEAN.weights(6), GRAPH), 0.5, -1.0),
    "tol": (lambda x: DiffusionOperator(1.0, tol=x).pull_back(MEAN.weights(6), GRAPH), 0.5, 1.0),
    "times": (lambda x: T2.pull_back_path(MEAN.weights(6), GRAPH, [x])[0], 0.5, float("inf")),
    "tau": (lambda x: GraphReadout("source", x).at(6, H[:, 0]).r, 0.5, -1.0),
    "global_share": (lambda x: GraphReadout(global_share=x).at(6, num_global=1).r, 0.5, 1.5),
    "gamma": (lambda x: FourierLift(4, x).features(H), 0.5, 0.0),
    "lam": (lambda x: RidgeHead(x).fit(G, LABELS).W_star, 0.5, 0.0),
    "lams": (lambda x: RidgeHead("loo", lams=[x]).fit(G, LABELS).W_star, 0.5, float("inf")),
    "from_statistics(lam)": (lambda x: RidgeHead.from_statistics(HEAD.statistics, x).W_star, 0.5, -1.0),
    "knn(T)": (lambda x: baselines.knn(G, LABELS, TEST, T=x), 0.5, 0.0),
    "probabilities(T)": (lambda x: calibration.probabilities(LOGITS, x), 0.5, 0.0),
    "near_duplicates": (lambda x: duplicates.near_duplicates(G, x), 0.5, 1.5),
    "top_area_inside(q)": (lambda x: pixel_ranks.top_area_inside(SCORES[:2], BOXES, TARGET, x), 0.5, 1.5),
    "top_area_chance(q)": (lambda x: pixel_ranks.top_area_chance(BOXES, TARGET, x), 0.5, 0.0),
    "parts_hit(reach)": (lambda x: localisation.parts_hit(SCORES[:2], BOXES, [[1, 1]], (4, 8), x).any, 0.5, 0.0),
    "parts_chance(reach)": (lambda x: localisation.parts_chance(BOXES, [[1, 1]], (4, 8), x).any, 0.5, -1.0),
    "infidelity(whole)": (lambda x: agreement.infidelity(SCORES[:4], KEEP, SCORES[:3], x), 0.5, float("nan")),
    "sensitivity_n(whole)": (lambda x: agreement.sensitivity_n(SCORES[:4], KEEP, SCORES[:3], x), 0.5, float("inf")),
    "near_copies": (lambda x: duplicates.near_copies(G, TEST, x)[0], 0.5, 0.0),
}

# name: (function of one tensor, a tensor that it takes)
TENSORS: dict[str, tuple[Callable[[object], object], torch.Tensor]] = {
    "RegionSet(features)": (lambda x: RegionSet(x, P).features, H),
    "RegionSet(positions)": (lambda x: RegionSet(H, x).positions, P),
    "RegionSet.with_global": (lambda x: REGIONS.with_global(x).features, H[:1]),
    "DiffusionOperator.forward(H)": (lambda x: T2.forward(x, GRAPH), H),
    "DiffusionOperator.forward(L)": (lambda x: T2.forward(H, x), GRAPH.L),
    "DiffusionOperator.pull_back(r)": (lambda x: T2.pull_back(x, GRAPH), MEAN.weights(6)),
    "DiffusionOperator.pull_back(L)": (lambda x: T2.pull_back(MEAN.weights(6), x), GRAPH.L),
    "DiffusionOperator.error_bound": (T2.error_bound, GRAPH.L),
    "pull_back_subsets(keep)": (lambda x: T2.pull_back_subsets(GRAPH, x), torch.ones(6, 2, dtype=torch.bool)),
    "GraphReadout.forward": (MEAN.forward, H),
    "GraphReadout.at(u)": (lambda x: GraphReadout("source").at(6, x).r, H[:, 0]),
    "BoundReadout.forward": (lambda x: MEAN.at(6).forward(x), H),
    "cosine_source(H)": (lambda x: cosine_source(x, H[0]), H),
    "cosine_source(source)": (lambda x: cosine_source(H, x), H[0]),
    "attention_source": (attention_source, PI),
    "embed(H)": (lambda x: embed(x, PI), H),
    "embed(pi)": (lambda x: embed(H, x), PI),
    "Lift.embed(H)": (lambda x: QuadraticLift().embed(x, PI), H),
    "Lift.features": (ReluLift(4).features, H),
    "Lift.kernel": (lambda x: QuadraticLift().kernel(x, H), H),
    "Lift.scores(W_star)": (lambda x: lift_from("identity").scores(H, x), HEAD.W_star),
    "RidgeHead.fit(G)": (lambda x: RidgeHead(1.0).fit(x, LABELS).W_star, G),
    "RidgeHead.fit(Y)": (lambda x: RidgeHead(1.0).fit(G, x).W_star, LABELS),
    "RidgeHead.fit(sample_weight)": (lambda x: RidgeHead(1.0).fit(G, LABELS, x).W_star, torch.ones(20)),
    "RidgeHead.add(G)": (lambda x: fitted().add(x, LABELS[:2]).W_star, G[:2]),
    "RidgeHead.add(Y)": (lambda x: fitted().add(G[:2], x).W_star, LABELS[:2]),
    "RidgeHead.predict": (HEAD.predict, TEST),
    "RidgeHead.smoother": (HEAD.smoother, TEST),
    "RidgeHead.kernel(a)": (lambda x: HEAD.kernel(x, TEST), TEST),
    "RidgeHead.kernel(z)": (lambda x: HEAD.kernel(TEST, x), TEST),
    "training_contribution(g_test)": (lambda x: at.training_contribution(x, G, HEAD.alpha), TEST),
    "training_contribution(G_train)": (lambda x: at.training_contribution(TEST, x, HEAD.alpha), G),
    "training_contribution(alpha)": (lambda x: at.training_contribution(TEST, G, x), HEAD.alpha),
    "label_contribution": (lambda x: at.label_contribution(HEAD, x), TEST),
    "removal_effect": (lambda x: at.removal_effect(HEAD, x), TEST),
    "group_removal_effect": (lambda x: at.group_removal_effect(HEAD, x, [1]), TEST),
    "relabel_effect": (lambda x: at.relabel_effect(HEAD, x, 1, 1), TEST),
    "relabel_effect(y_new)": (lambda x: at.relabel_effect(HEAD, TEST, 1, x), torch.tensor([0.0, 1.0, 0.0])),
    "replacement_effect(g_new)": (lambda x: at.replacement_effect(HEAD, TEST, 1, x), G[0]),
    "top_training": (lambda x: at.top_training(HEAD, x, 2)[0], TEST),
    "region_contribution(H)": (lambda x: at.region_contribution(x, PI, HEAD.W_star), H),
    "region_contribution(pi)": (lambda x: at.region_contribution(H, x, HEAD.W_star), PI),
    "region_contribution(W_star)": (lambda x: at.region_contribution(H, PI, x), HEAD.W_star),
    "node_energy": (lambda x: at.node_energy(x, PI), H),
    "dirichlet_energy": (lambda x: at.dirichlet_energy(x, GRAPH), H),
    "pair_contribution(H_test)": (lambda x: at.pair_contribution(x, PI, H[None], PI[None], HEAD.alpha[:1]), H),
    "pair_contribution(alpha)": (lambda x: at.pair_contribution(H, PI, H[None], PI[None], x), HEAD.alpha[:1]),
    "remove_regions(H)": (lambda x: at.remove_regions(x, *STAGES[1:], torch.ones(6, 1, dtype=torch.bool)), H),
    "remove_regions(keep)": (lambda x: at.remove_regions(*STAGES, x), torch.ones(6, 1, dtype=torch.bool)),
    "remove_each_region": (lambda x: at.remove_each_region(x, *STAGES[1:]), H),
    "deletion_curve": (lambda x: at.deletion_curve(*STAGES, x), torch.arange(6)),
    "insertion_curve": (lambda x: at.insertion_curve(*STAGES, x), torch.arange(6)),
    "region_shapley": (lambda x: at.region_shapley(x, *STAGES[1:])[0], H),
    "region_interactions": (lambda x: at.region_interactions(x, *STAGES[1:], target=0), H),
    "cells": (lambda x: cells.cells(x).boxes, BOXES),
    "pointing_hit(boxes)": (lambda x: localisation.pointing_hit(SCORES[:2], x, TARGET), BOXES),
    "chance(boxes)": (lambda x: localisation.chance(x, TARGET), BOXES),
    "centre_map": (localisation.centre_map, BOXES),
    "rank_accuracy(boxes)": (lambda x: pixel_ranks.rank_accuracy(SCORES[:2], x, TARGET), BOXES),
    "near_duplicates": (lambda x: duplicates.near_duplicates(x, 0.9), G),
    "near_copies(g)": (lambda x: duplicates.near_copies(G, x, 0.9)[1], TEST),
    "precision_at(scores)": (lambda x: ranking.precision_at(x, WRONG, 2), SCORES),
    "precision_at(wrong)": (lambda x: ranking.precision_at(SCORES, x, 2), WRONG),
    "knn(G_train)": (lambda x: baselines.knn(x, LABELS, TEST), G),
    "knn(y_train)": (lambda x: baselines.knn(G, x, TEST), LABELS),
    "fit_temperature(logits)": (lambda x: calibration.fit_temperature(x, LABELS), LOGITS),
    "fit_temperature(labels)": (lambda x: calibration.fit_temperature(LOGITS, x), LABELS),
    "confusion_counts": (lambda x: confusion.confusion_counts(x, LABELS, 3), LABELS),
}


def equal(a: object, b: object) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_of_every_kind_are_taken_and_nothing_else(name: str) -> None:
    f, good, bad = WHOLE[name]
    expected = f(good)
    for kind in (np.int64, np.int32, np.uint8, torch.tensor):
        assert equal(f(kind(good)), expected), kind
    for wrong in (
        True,
        np.True_,
        torch.tensor(True),
        float(good),
        np.float64(good),
        str(good),
        torch.tensor(float(good)),
        1j,
    ):
        with pytest.raises(TypeError, match="`"):
            f(wrong)
    if bad is not None:
        for kind in (int, np.int64, torch.tensor):
            with pytest.raises(ValueError, match="`|grid"):
                f(kind(bad))


@pytest.mark.parametrize("name", REAL)
def test_real_numbers_of_every_kind_are_taken_and_nothing_else(name: str) -> None:
    f, good, bad = REAL[name]
    expected = f(good)
    for kind in (np.float64, np.float32, Fraction, torch.tensor, np.array, lambda x: torch.tensor(x, dtype=F64)):
        assert equal(f(kind(good)), expected), kind
    for wrong in (True, np.True_, torch.tensor(True), str(good), [good], torch.tensor([good, good]), 1j):
        with pytest.raises((TypeError, ValueError) if isinstance(wrong, str) else TypeError, match="`"):
            f(wrong)
    for kind in (float, np.float64, torch.tensor):
        with pytest.raises(ValueError, match="`"):
            f(kind(bad))


@pytest.mark.parametrize("name", TENSORS)
def test_arrays_and_lists_where_a_tensor_is_wanted_are_named(name: str) -> None:
    """Taken nowhere, so that no function takes what its neighbour refuses; the message names the argument."""
    f, good = TENSORS[name]
    f(good)
    for wrong in (good.numpy(), good.tolist()):
        with pytest.raises(TypeError, match=r"`.*[Tt]ensor"):
            f(wrong)


@pytest.mark.parametrize("n", [20, 4])  # primal, dual
@pytest.mark.parametrize("door", ["remove", "group_removal_effect", "smoother", "slack_among"])
def test_indices_of_training_pictures(door: str, n: int) -> None:
    """Any iterable of whole numbers; no mask, no bool among them, none below 0, none twice."""
    head = RidgeHead(1.0, True).fit(G[:n], torch.arange(n) % 2)

    def f(indices: object) -> torch.Tensor:
        if door == "remove":
            return RidgeHead(1.0, True).fit(G[:n], torch.arange(n) % 2).remove(indices).W_star
        if door == "group_removal_effect":
            return at.group_removal_effect(head, TEST, indices)
        return head.smoother(TEST, indices) if door == "smoother" else head.slack_among(indices)

    expected = f([1, 2])
    taken: list[Iterable] = [{1, 2}, (1, 2), range(1, 3), (i for i in (1, 2)), np.array([1, 2]),
        np.array([1, 2], dtype=np.uint8), torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.int32),
        [np.int64(1), torch.tensor(2)], {1: "a", 2: "b"}]  # fmt: skip
    for indices in taken:
        torch.testing.assert_close(f(indices), expected, rtol=0, atol=0, msg=str(indices))
    for wrong in ([True, False], [1, True], [1.0, 2.0], np.array([1.0]), np.array([True, False]), torch.tensor([0.5]),
                  torch.ones(n, dtype=torch.bool), "12", ["1"], 1.5, True):  # fmt: skip
        with pytest.raises(TypeError, match="`indices`"):
            f(wrong)
    for wrong in ([-1], [n], [1, 1], torch.tensor([-1]), range(-1, 1)):
        with pytest.raises(ValueError, match="`indices`"):
            f(wrong)


def test_labels_are_integers_of_any_width_at_every_door() -> None:
    expected = RidgeHead(1.0).fit(G, LABELS).add(G[:2], LABELS[:2]).W_star
    for dtype in (torch.int32, torch.int16, torch.int8, torch.uint8):
        head = RidgeHead(1.0).fit(G, LABELS.to(dtype)).add(G[:2], LABELS[:2].to(dtype))
        assert torch.equal(head.W_star, expected)
    for dtype in (torch.bool, torch.float32):
        with pytest.raises(TypeError, match="integer labels"):
            RidgeHead(1.0).fit(G, LABELS.to(dtype))
        with pytest.raises(TypeError, match="integer labels"):
            fitted().add(G[:2], LABELS[:2].to(dtype))
    with pytest.raises(TypeError, match="`sample_weight` must be numbers"):
        RidgeHead(1.0).fit(G, LABELS, torch.ones(20, dtype=torch.bool))
    matrix = torch.nn.functional.one_hot(LABELS, 3)
    for targets in (matrix, matrix.bool(), matrix.float()):
        torch.testing.assert_close(RidgeHead(1.0).fit(G, targets).W_star, RidgeHead(1.0).fit(G, LABELS).W_star)


def test_one_class_for_all_is_that_class_for_each() -> None:
    for kind in ("dual", "label", "removal"):
        each = at.top_training(HEAD, TEST, 4, kind, target=torch.tensor([1, 1], dtype=torch.int16))
        for one in (1, np.int64(1), torch.tensor(1)):
            for a, b in zip(at.top_training(HEAD, TEST, 4, kind, target=one), each, strict=True):
                assert torch.equal(a, b)


@pytest.mark.parametrize("left", [torch.float32, F64])
@pytest.mark.parametrize("right", [torch.float32, F64])
def test_two_precisions_meet_in_the_wider(left: torch.dtype, right: torch.dtype) -> None:
    wide = torch.promote_types(left, right)
    a, b = H.to(left), PI.to(right)
    assert embed(a, b).dtype == cosine_source(a, H[0].to(right)).dtype == T2.forward(a, GRAPH.L.to(right)).dtype == wide
    assert MEAN.forward(a).dtype == left
    energies = at.node_energy(a, b), at.dirichlet_energy(a, GRAPH)
    for numbers in (at.region_contribution(a, b, HEAD.W_star), *energies, HEAD.predict(TEST.to(left))):
        assert numbers.dtype == F64


def test_statistics_of_no_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        RidgeStatistics.from_rows(G[:0], torch.zeros(0, 3, dtype=F64))
