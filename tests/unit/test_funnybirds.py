"""FunnyBirds' scores against their definitions, score by score, and by the driver on worlds where each is known."""

import math
from collections.abc import Callable, Collection, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from carrot.data.toy import Rendered, ToyBirds, demo_species
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.funnybirds import (
    THRESHOLDS,
    DisjointPair,
    data_check,
    disjoint_pair,
    distractibility,
    important_parts,
    minimal_sufficient_sets,
    needed_objects,
    part_importance,
    single_deletion,
    target_sensitivity,
)
from carrot.evaluation.funnybirds_scores import FunnyBirdsScores, PictureScores
from carrot.evaluation.pixels import boxes_meet
from carrot.protocol.funnybirds import BATCH, Interventions, measure, picture_scores
from carrot.tiling import pixel_map
from tests import reference

F64 = torch.float64
TOY = torch.tensor([species.variants for species in demo_species()])


# ---- one picture, by hand and by brute force


def test_importance_is_the_sum_in_the_dilated_mask() -> None:
    rng = np.random.default_rng(0)
    attribution, masks = rng.normal(size=(9, 12)), rng.random((4, 9, 12)) < 0.05
    masks[3] = False
    found = part_importance(torch.from_numpy(attribution), torch.from_numpy(masks))
    assert found.tolist() == pytest.approx([reference.dilated_sum(attribution, mask) for mask in masks], abs=1e-12)
    assert found[3] == 0.0 != found[0]


def test_importance_refuses_what_does_not_match(as_user: None) -> None:
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"`attribution` must be \(h, w\).*Enlarge the map"):
        part_importance(torch.zeros(2, 2), masks)
    with pytest.raises(ValueError, match="finite"):
        part_importance(torch.full((4, 4), math.nan), masks)
    with pytest.raises(TypeError, match="`masks` must be boolean"):
        part_importance(torch.zeros(4, 4), masks.double())


def test_thresholds_are_shares_of_the_signed_sum() -> None:
    assert THRESHOLDS.tolist() == pytest.approx(np.linspace(0.01, 0.5, 80).tolist(), abs=1e-15)
    importance = torch.tensor([0.3, 0.004, 0.0, -0.2], dtype=F64)
    found = important_parts(importance, 0.5)
    assert found.shape == (80, 4)
    assert found[0].tolist() == [True, False, False, False]
    assert found[:, 0].all()  # .3 > .5 * .5
    assert important_parts(importance, 1.0)[:, 0].sum() == int((THRESHOLDS < 0.3).sum())
    assert important_parts(importance, -0.5)[0].tolist() == [True, True, True, False]  # above a negative number
    assert important_parts(importance, 0.0)[0].tolist() == [True, True, False, False]


@pytest.mark.parametrize("seed", range(5))
def test_sufficient_sets_are_those_of_an_exhaustive_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = sorted({tuple(map(int, row)) for row in rng.integers(0, 3, (12, 4))})
    variants = torch.tensor(rows)
    sizes = set()
    for c in range(len(rows)):
        found = minimal_sufficient_sets(variants, c)
        assert set(found) == set(reference.sufficient_sets(rows, c))
        assert len(set(found)) == len(found)
        sizes |= {len(parts) for parts in found}
    assert len(sizes) > 1


def test_sufficient_sets_of_the_toy_birds() -> None:
    rows = [tuple(row) for row in TOY.tolist()]
    for c in range(len(rows)):
        assert set(minimal_sufficient_sets(TOY, c)) == set(reference.sufficient_sets(rows, c))
    with pytest.raises(ValueError, match="must tell class 0 from every other"):
        minimal_sufficient_sets(torch.tensor([[0, 1], [0, 1]]), 0)


def test_disjoint_pairs() -> None:
    variants = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0], [1, 1, 1, 1]])
    assert disjoint_pair(variants, 0) == (1, 3, frozenset({0, 1}), frozenset({2, 3}))
    assert disjoint_pair(variants, 2) == (0, 4, frozenset({0, 2}), frozenset({1, 3}))
    assert disjoint_pair(variants[:2], 0) is None
    assert disjoint_pair(variants, 0, size=3) is None
    found = [disjoint_pair(TOY, c) for c in range(24)]
    assert sum(pair is not None for pair in found) == 17
    assert sum(disjoint_pair(TOY[:20], c) is not None for c in range(20)) == 4
    for c, pair in enumerate(found):
        if pair is not None:
            assert not pair.shared_first & pair.shared_second
            for other, shared in ((pair.first, pair.shared_first), (pair.second, pair.shared_second)):
                assert {p for p in range(7) if TOY[c, p] == TOY[other, p]} == shared
                assert len(shared) == 2


def test_data_check_takes_the_best_set() -> None:
    important = torch.zeros(80, 4, dtype=torch.bool)
    important[0, [0, 1]] = True
    important[1, 3] = True
    found = data_check(important, [frozenset({0, 2}), frozenset({0, 1, 2})])
    assert found[:3].tolist() == pytest.approx([2 / 3, 0.0, 0.0])


def test_distractibility_counts_what_has_little_effect_or_a_good_one() -> None:
    important = torch.tensor([[True, True, True, True, True]]).expand(80, 5).clone()
    important[1:] = False
    effects = torch.tensor([0.2, 0.099, -1.0, 0.0, 0.1], dtype=F64)  # 5 % of |f| = .1
    for logit in (2.0, -2.0):
        seen = torch.tensor([True, True, True, False, True])
        assert distractibility(important, effects, logit, seen)[:2].tolist() == [0.0, 1.0]
        important[0, 1] = False  # one of two
        assert distractibility(important, effects, logit, seen)[0] == 0.5
        important[0, 1] = True
    assert bool(
        distractibility(important, effects[[0, 0, 0, 0, 0]], 2.0, torch.ones(5, dtype=torch.bool)).isnan().all()
    )


def test_single_deletion_is_spearman_with_ties() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        a, b = rng.integers(0, 5, (2, 7)).astype(float)
        expected = (1 + spearmanr(a, b).statistic) / 2 if len(set(a)) > 1 < len(set(b)) else math.nan
        assert single_deletion(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, nan_ok=True)
        assert (1 + reference.spearman(list(a), list(b))) / 2 == pytest.approx(expected, nan_ok=True)
    for short in ([], [1.0], [2.0, 2.0]):
        values = torch.tensor(short, dtype=F64)
        assert math.isnan(single_deletion(values, values))


def test_target_sensitivity_by_hand() -> None:
    pair = DisjointPair(1, 2, frozenset({0, 1}), frozenset({2, 3}))
    confirming = torch.tensor([0.0, 1.0, 5.0], dtype=F64), torch.tensor([0.0, 5.0, 1.0], dtype=F64)

    def of(first: list[float], second: list[float], logits: tuple[Tensor, Tensor] = confirming) -> float:
        return target_sensitivity(pair, (torch.tensor(first, dtype=F64), torch.tensor(second, dtype=F64)), logits)

    assert of([1, 1, 0, 0], [0, 0, 1, 1]) == 1.0
    assert of([1, 1, 0, 0], [0, 0, 0, 0]) == 0.5
    assert of([0, 0, 1, 1], [1, 1, 0, 0]) == 0.0
    assert of([1, 1, 1, 1], [1, 1, 1, 1]) == 0.0  # one map for all classes
    assert math.isnan(of([1, 1, 0, 0], [0, 0, 1, 1], (confirming[1], confirming[0])))
    assert math.isnan(of([1, 1, 0, 0], [0, 0, 1, 1], (confirming[0], confirming[0])))


def test_needed_objects() -> None:
    assert needed_objects(torch.tensor([0.1, 0.09, -3.0, 2.0], dtype=F64), -2.0) == 2
    assert needed_objects(torch.tensor([0.0, 1e-9], dtype=F64), 0.0) == 1


# ---- many pictures


def picture(**changes: object) -> PictureScores:
    given = {name: torch.full((80,), 0.5, dtype=F64) for name in ("data_check", "preservation", "deletion")}
    given["distractibility"] = torch.full((80,), 0.5, dtype=F64)
    numbers = {"single_deletion": 0.5, "single_deletion_all": 0.5, "target_sensitivity": 0.5, "total": 1.0}
    return PictureScores(**{"is_correct": True, "objects": 2, "needed": 0, **given, **numbers, **changes})  # type: ignore[arg-type]


def test_the_threshold_is_the_first_of_the_best() -> None:
    assert FunnyBirdsScores.of([picture()]).threshold == 0.01
    d = torch.full((80,), 0.5, dtype=F64)
    csdc, d[30], d[50] = d.clone(), 0.75, 0.75
    csdc[40] = 1.0  # counts a third of what D counts
    found = FunnyBirdsScores.of([picture(distractibility=d, data_check=csdc), picture()])
    assert found.threshold == float(THRESHOLDS[30])
    assert found.distractibility.mean == 0.625
    assert found.data_check.mean == 0.5
    assert found.completeness.mean == pytest.approx((0.5 + 0.625) / 2)


def test_means_and_errors_are_those_of_independent_pictures() -> None:
    rng = np.random.default_rng(5)
    n, names = 40, ("data_check", "preservation", "deletion", "distractibility")
    values = {name: rng.random(n) for name in (*names, "single_deletion", "target_sensitivity")}
    pictures = [
        picture(**{name: torch.full((80,), v[i], dtype=F64) if name in names else v[i] for name, v in values.items()})
        for i in range(n)
    ]
    found = FunnyBirdsScores.of(pictures)
    com = (values["data_check"] + values["preservation"] + values["deletion"]) / 6 + values["distractibility"] / 2
    mean = (com + values["single_deletion"] + values["target_sensitivity"]) / 3
    expected = {**values, "completeness": com, "mean": mean}
    for name, numbers in expected.items():
        score, oracle = getattr(found, name), Estimate.of(numbers)
        assert score.mean == pytest.approx(oracle.mean, abs=1e-14)
        assert score.standard_error == pytest.approx(oracle.standard_error, rel=1e-12)
        assert score.n == n


def test_what_is_undefined_is_left_out_and_counted() -> None:
    none = torch.full((80,), math.nan, dtype=F64)
    found = FunnyBirdsScores.of(
        [
            picture(is_correct=False, data_check=none, single_deletion=math.nan, objects=0, total=-1.0),
            picture(data_check=torch.ones(80, dtype=F64), single_deletion=1.0, objects=4, needed=1),
            picture(distractibility=none, target_sensitivity=math.nan, objects=2, needed=1, total=0.0),
        ]
    )
    assert found.data_check == Estimate.of([1.0, 0.5])
    assert found.distractibility == Estimate.of([0.5, 0.5])
    assert found.single_deletion == Estimate.of([1.0, 0.5])
    assert found.target_sensitivity.n == 2
    assert found.background_independence.mean == pytest.approx(1 - 2 / 6)
    assert found.background_independence.n == 2
    assert found.not_positive == 2
    assert found.mean.n == 2
    undefined = FunnyBirdsScores.of([picture(target_sensitivity=math.nan)])
    assert undefined.target_sensitivity == undefined.mean == Estimate(None, None, 0)
    assert undefined.completeness == Estimate(0.5, None, 1)
    with pytest.raises(ValueError, match="at least one picture"):
        FunnyBirdsScores.of([])


# ---- a world of four parts in a row and objects, painted as squares of one colour each

PARTS, SIDE = ("a", "b", "c", "d"), 4
VARIANTS = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]])
WEIGHTS = (4.0, 3.0, 2.0, 1.0)
BIAS = torch.tensor([0.0, 0.1, 0.2, 0.3], dtype=F64)  # a bird without parts is of class 3
OBJECT = 250
Place = tuple[int, int]
PLACES: list[Place] = [(3, 3 + 10 * p) for p in range(4)]
FREE: Place = (15, 20)


class World:
    """Renders birds of VARIANTS; objects lie where ``objects`` says, in front."""

    def __init__(self, labels: Sequence[int], objects: Sequence[Sequence[Place]]) -> None:
        self.labels, self.objects, self.rendered = list(labels), [list(places) for places in objects], 0
        self.batches: list[int] = []

    def names(self, index: int) -> list[str]:
        return [f"object {k}" for k in range(len(self.objects[index]))]

    def render(self, index: int, without: Collection[str] = ()) -> Rendered:
        self.rendered += 1
        names = ("background", "body", *PARTS, "watermark", *self.names(index))
        colours, values = np.zeros((24, 44, 3), np.uint8), np.zeros((24, 44), np.uint8)
        things = {p: (PLACES[k], 60 + 60 * int(VARIANTS[self.labels[index], k])) for k, p in enumerate(PARTS)}
        things |= {o: (self.objects[index][k], OBJECT) for k, o in enumerate(self.names(index))}
        for name, ((y, x), colour) in things.items():
            if name not in without:
                colours[y : y + SIDE, x : x + SIDE] = colour
                values[y : y + SIDE, x : x + SIDE] = names.index(name)
        return Rendered(Image.fromarray(colours), np.kron(values, np.ones((2, 2), np.uint8)), names)

    def read(self, image: Image.Image) -> Tensor:
        """Which parts of each class are to be seen, (C, K)."""
        pixels = np.asarray(image)
        shown = torch.tensor([int(pixels[y, x, 0]) for y, x in PLACES])
        return shown == 60 + 60 * VARIANTS

    def logits(self, images: list[Image.Image]) -> Tensor:
        """Counts the parts of each class that are there: the explanation is known."""
        self.batches.append(len(images))
        return torch.stack([self.read(image).double() @ torch.tensor(WEIGHTS, dtype=F64) + BIAS for image in images])

    def perfect(self, image: Image.Image, target: int) -> Tensor:
        return painted([w * bool(there) for w, there in zip(WEIGHTS, self.read(image)[target], strict=True)])

    def interventions(self, logits: Callable[[list[Image.Image]], object] | None = None) -> Interventions:
        return Interventions(self.render, PARTS, VARIANTS, self.labels, logits or self.logits)  # type: ignore[arg-type]


def painted(values: Sequence[float], free: float = 0.0) -> Tensor:
    """The map that gives each part its value, and an object at FREE its own."""
    found = torch.zeros(24, 44, dtype=F64)
    for (y, x), value in zip([*PLACES, FREE], [*values, free], strict=True):
        found[y : y + SIDE, x : x + SIDE] = value / SIDE**2
    return found


@pytest.fixture
def birds() -> World:
    return World([0, 1, 2], [[FREE]] * 3)


def scores(world: World, explain: Callable[[Image.Image, int], object]) -> FunnyBirdsScores:
    interventions = world.interventions()
    return measure(interventions, interventions.by_map(explain), range(len(world.labels)))  # type: ignore[arg-type]


def test_a_perfect_explainer_gets_one_everywhere(birds: World) -> None:
    found = scores(birds, birds.perfect)
    for name in FunnyBirdsScores.__dataclass_fields__:
        if name not in ("threshold", "not_positive"):
            assert getattr(found, name).mean == 1.0, name
            assert getattr(found, name).n == 3
    assert found.threshold == 0.01
    assert found.not_positive == 0


def test_what_no_explainer_can_help(birds: World) -> None:
    """Without its parts a bird of class 3 is still called so: no removal of parts changes the answer."""
    everybody = World([0, 1, 2, 3], [[FREE]] * 4)
    found = scores(everybody, everybody.perfect)
    assert found.deletion.mean == 0.75
    assert found.completeness.mean == pytest.approx((1 + 1 + 0.75) / 6 + 0.5)


def test_a_map_of_the_background(birds: World) -> None:
    found = scores(birds, lambda image, target: painted([0.0] * 4, 1.0))
    assert found.data_check.mean == found.preservation.mean == found.deletion.mean == 0.0
    assert found.distractibility.mean == 0.0
    assert found.single_deletion == Estimate(None, None, 0)
    assert found.target_sensitivity.mean == 0.0
    assert found.accuracy.mean == found.background_independence.mean == 1.0


def test_a_map_turned_round(birds: World) -> None:
    found = scores(birds, lambda image, target: painted([1.0, 2.0, 3.0, 4.0]))
    assert found.single_deletion.mean == 0.0
    assert found.target_sensitivity.mean == 0.0  # the same for all classes
    assert found.data_check.mean == 1.0


def test_a_map_of_one_part(birds: World) -> None:
    """Kept alone, the first part is that of two classes, and the bias decides; removed, three others are left."""
    found = scores(birds, lambda image, target: painted([1.0, 0.0, 0.0, 0.0]))
    assert found.data_check.mean == 0.5
    assert found.preservation.mean == pytest.approx(1 / 3)
    assert found.deletion.mean == 0.0
    assert found.distractibility.mean == 1.0
    assert found.single_deletion.mean == pytest.approx((1 + spearmanr([1, 0, 0, 0], WEIGHTS).statistic) / 2)


def test_a_map_that_sums_to_less_than_nothing_finds_everything_important(birds: World) -> None:
    found = scores(birds, lambda image, target: painted([0.0] * 4, -1.0))
    assert found.not_positive == 3
    assert found.data_check.mean == found.preservation.mean == found.deletion.mean == 1.0
    assert found.distractibility.mean == 1.0  # the object itself is below
    found = scores(birds, lambda image, target: painted([-1.0] * 4, 0.0))
    assert found.distractibility.mean == 0.0
    assert found.threshold == pytest.approx(float(THRESHOLDS[(THRESHOLDS > 0.25).nonzero()[0]]))


def test_a_shortcut_is_seen(birds: World) -> None:
    def logits(images: list[Image.Image]) -> Tensor:
        y, x = FREE
        there = torch.tensor([np.asarray(image)[y, x, 0] == OBJECT for image in images], dtype=F64)
        return birds.logits(images) + 3.0 * there[:, None] * torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=F64)

    interventions = birds.interventions(logits)
    found = measure(interventions, interventions.by_measurement(), range(3))
    assert found.background_independence.mean == pytest.approx(2 / 3)
    assert found.single_deletion.mean == 1.0
    assert found.distractibility.n == 2  # nothing in the first picture is irrelevant


def test_what_is_hidden_counts_nowhere() -> None:
    """The first part of the second picture lies under an object, and a second object under a third."""
    world = World([0, 0], [[FREE], [PLACES[0], FREE, FREE]])
    seen = world.interventions().seen(1)
    assert seen.things == (*PARTS, "object 0", "object 1", "object 2")
    assert seen.is_seen.tolist() == [False, True, True, True, True, False, True]
    found = scores(world, world.perfect)
    assert found.single_deletion.mean == 1.0
    assert found.background_independence.mean == 1.0
    reversed_map = scores(world, lambda image, target: painted([1.0, 2.0, 3.0, 4.0]))
    assert reversed_map.single_deletion.mean == 0.0  # a fall of 0 and a sum over no pixel would be a pair for free
    interventions = world.interventions()
    for index, expected in ((0, 0.5), (1, 0.0)):  # 0 is above a negative share of the sum: a is important if it is seen
        says = interventions.by_map(lambda image, target: painted([0.0, -1.0, -1.0, -1.0]))
        assert picture_scores(interventions, says, index).data_check[0] == expected


def test_interventions_are_asked_once_and_in_batches(birds: World) -> None:
    interventions = birds.interventions()
    measure(interventions, interventions.by_map(birds.perfect), range(3))
    asked = sum(birds.batches)
    measure(interventions, interventions.by_map(birds.perfect), range(3))
    assert sum(birds.batches) == asked
    every = [[part for k, part in enumerate(PARTS) if number >> k & 1] for number in range(16)]
    many = [[*parts, *objects] for parts in every for objects in ([], ["object 0"], ["object 1"], ["object 2"])]
    world = World([0], [[FREE, PLACES[0], PLACES[1]]])
    assert world.interventions().logits(0, [*many, *many]).shape == (128, 4)
    assert world.batches == [BATCH, BATCH]


def test_own_answers_are_taken_as_they_are(birds: World) -> None:
    asked = []

    def ask(image: Image.Image, target: int, masks: Tensor) -> tuple[list[float], float]:
        asked.append(masks.sum(dim=(1, 2)).tolist())
        return [4.0, 3.0, 2.0, 1.0, 0.0], 10.0

    interventions = birds.interventions()
    found = measure(interventions, interventions.by_own_answer(ask), range(3))
    assert found.completeness.mean == found.single_deletion.mean == 1.0
    assert found.target_sensitivity.mean == 0.0
    assert asked[0] == [16] * 5


def test_what_a_classifier_must_not_return(birds: World, as_user: None) -> None:
    for wrong, message in (
        (torch.zeros(1, 4), "`logits` must return"),
        (torch.zeros(6, 3), "a column for each class"),
        (torch.full((6, 4), math.nan), "finite"),
    ):
        interventions = birds.interventions(lambda images, wrong=wrong: wrong)  # type: ignore[misc]
        with pytest.raises(ValueError, match=message):
            interventions.logits(0, [(), *((part,) for part in PARTS), ("object 0",)])
    with pytest.raises(ValueError, match=r"`variants` must be \(C, 4\)"):
        Interventions(birds.render, PARTS, VARIANTS[:, :3], [0], birds.logits)
    with pytest.raises(ValueError, match="`labels`"):
        Interventions(birds.render, PARTS, VARIANTS, [4], birds.logits)
    with pytest.raises(ValueError, match="Enlarge the map"):
        scores(birds, lambda image, target: torch.zeros(2, 2))


@pytest.mark.parametrize("seed", range(4))
def test_all_scores_are_the_published_ones(seed: int) -> None:
    """A crooked classifier and noisy maps, against the protocol written out score by score."""
    rng = np.random.default_rng(seed)
    labels = [0, 1, 2, 3, 0, 1, 2, 3]
    places = [FREE, (15, 4), (15, 33), PLACES[int(rng.integers(4))]]
    world = World(labels, [[places[k] for k in rng.integers(0, 4, rng.integers(1, 4))] for _ in labels])
    A, B = rng.normal(size=(24 * 44, 30)) / 900, rng.normal(size=(30, 4))

    def row(image: Image.Image) -> np.ndarray:
        crooked = np.tanh(np.asarray(image)[:, :, 0].reshape(-1) @ A) @ B
        return world.logits([image])[0].numpy() + 6.0 * crooked

    def explain(image: Image.Image, target: int) -> np.ndarray:
        noise = np.random.default_rng(int(np.asarray(image).sum()) + target).normal(size=(24, 44)) / 16
        return world.perfect(image, target).numpy() + (0.4 + seed / 4) * noise + 0.001 * (1 - seed)

    def importance(i: int, c: int) -> tuple[dict[str, float], float]:
        rendered = world.render(i)
        attribution = explain(rendered.image, c)
        things = [*PARTS, *world.names(i)]
        return {x: reference.dilated_sum(attribution, rendered.mask(x)) for x in things}, float(attribution.sum())

    @cache
    def rows(i: int, without: tuple[str, ...]) -> np.ndarray:
        return row(world.render(i, without).image)

    known = {(i, c): importance(i, c) for i in range(len(labels)) for c in range(4)}
    expected = reference.funnybirds(
        lambda i, without: rows(i, tuple(without)),
        lambda i, c: known[i, c],
        labels,
        list(PARTS),
        world.names,
        cache(lambda i: {x for x in (*PARTS, *world.names(i)) if world.render(i).mask(x).any()}),
        [tuple(v) for v in VARIANTS.tolist()],
    )
    interventions = world.interventions(lambda images: np.stack([row(image) for image in images]))
    found = measure(interventions, interventions.by_map(explain), range(len(labels)))
    names = {
        "CSDC": found.data_check,
        "PC": found.preservation,
        "DC": found.deletion,
        "D": found.distractibility,
        "SD": found.single_deletion,
        "SD, all": found.single_deletion_all,
        "TS": found.target_sensitivity,
        "BI": found.background_independence,
        "Acc": found.accuracy,
        "Com": found.completeness,
    }
    assert found.threshold == pytest.approx(expected.pop("tau"))
    assert {name: score.mean for name, score in names.items()} == pytest.approx(expected, abs=1e-12)
    tops = [int(np.argmax(rows(i, ()))) for i in range(len(labels))]
    assert found.not_positive == sum(known[i, top][1] <= 0.0 for i, top in enumerate(tops))
    assert 0.0 < found.accuracy.mean < 1.0  # type: ignore[operator]


def test_toy_birds_as_a_world() -> None:
    birds = ToyBirds(n_train_per_class=1, n_test_per_class=1, n_species=4)

    def logits(images: list[Image.Image]) -> np.ndarray:
        return np.stack([np.asarray(image, float).mean(axis=(0, 1)) @ np.eye(3, 4) / 255 for image in images])

    world = Interventions.of(birds, logits)
    index = 4
    seen = world.seen(index)
    assert seen.things[:7] == ("tail", "legs", "crest", "pattern", "wing", "beak", "eye")
    assert len(seen.things) == 7 + len(birds.scene(index).objects)
    without = logits([birds.rendered(index, ["tail"]).image])[0]
    assert np.allclose(world.effects(index, ["tail"]).numpy()[0], logits([birds.image(index)])[0] - without, atol=1e-15)
    found = measure(world, world.by_measurement(), [index, 5])
    assert found.single_deletion.mean == 1.0
    assert found.target_sensitivity.n == 0  # none of the four has the pair that it asks for


# ---- maps over pixels


def test_values_are_spread_over_their_boxes_to_the_fraction() -> None:
    values = torch.tensor([2.0, -1.0, 5.0, 3.0], dtype=F64)
    boxes = torch.tensor([[0.5, 1.0, 3.25, 4.5], [2.0, 0.0, 6.0, 5.0], [1.0, 1.0, 1.0, 4.0], [4.0, 3.0, 8.0, 7.0]])
    expected = np.zeros((5, 6))
    for v, (x0, y0, x1, y1) in zip(values.tolist(), boxes.tolist(), strict=True):
        for i in range(5):
            for j in range(6):
                across, down = min(x1, j + 1) - max(x0, j), min(y1, i + 1) - max(y0, i)
                if across > 0 and down > 0:
                    expected[i, j] += v * across * down / ((x1 - x0) * (y1 - y0))
    found = pixel_map(values, boxes, (5, 6))
    assert found.numpy() == pytest.approx(expected, abs=1e-14)
    assert float(pixel_map(values[:2], boxes[:2], (5, 6)).sum()) == pytest.approx(1.0)


def test_which_boxes_meet_which_masks() -> None:
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 8, (20, 4))
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    boxes[0], boxes[1] = [1, 1, 3, 3], [2, 2, 2, 6]  # on the pixels' edges; empty
    masks = rng.random((6, 8, 8)) < 0.03
    masks[0] = False
    expected = [
        [
            any(
                min(x1, j + 1) > max(x0, j) and min(y1, i + 1) > max(y0, i)
                for i, j in zip(*np.nonzero(mask), strict=True)
            )
            for x0, y0, x1, y1 in boxes
        ]
        for mask in masks
    ]
    found = boxes_meet(torch.from_numpy(boxes), torch.from_numpy(masks))
    assert found.tolist() == expected
    assert found.any()
    assert not found.all()


def test_maps_refuse_what_does_not_match(as_user: None) -> None:
    boxes, masks = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(2, 3, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="one for each box"):
        pixel_map(torch.ones(2), boxes, (5, 6))
    with pytest.raises(ValueError, match=r"`boxes` must be \(N, 4\)"):
        pixel_map(torch.ones(1), boxes[:, :3], (5, 6))
    with pytest.raises(ValueError, match="`values`.*finite"):
        pixel_map(torch.tensor([math.inf]), boxes, (5, 6))
    with pytest.raises(ValueError, match="`boxes`.*finite"):
        boxes_meet(boxes * math.nan, masks)
    with pytest.raises(TypeError, match="`masks` must be boolean"):
        boxes_meet(boxes, masks.double())
    with pytest.raises(ValueError, match=r"`masks` must be \(T, img_h, img_w\)"):
        boxes_meet(boxes, masks[0])
