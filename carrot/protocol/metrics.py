"""What is measured of an explanation, each kind in one place: ``METRICS``, over which the protocol and its tables run.

Faithfulness at token or tile level (regions dropped: exact) and at pixel level (the backbone run again) are families of
numbers under names of their own.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from carrot.data.records import Segmented
from carrot.evaluation.agreement import infidelity, random_subsets, sensitivity_n, single_deletion_correlation
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.faithfulness import (
    area,
    order_of,
    random_areas,
    relevance_gain,
)
from carrot.evaluation.localisation import (
    Localisation,
    box_mask,
    centre_map,
    chance,
    energy_inside,
    parts_chance,
    parts_hit,
    pointing_hit,
    points_chance,
    points_hit,
)
from carrot.evaluation.pixel_ranks import AUC_CHANCE, localisation_auc, rank_accuracy, rank_accuracy_chance
from carrot.protocol.case import TILE, TOKEN, Case, maps_of
from carrot.protocol.pixel_level import pixel_level

RANDOM_ORDERS = 10
GONE = (0.1, 0.3, 0.5)  # shares of the regions that are dropped together, to see whether a map foretells it ..
SUBSETS = 32  # .. in so many subsets each: all three are 2 % of the versions that the curves of 196 regions need


class Metric(NamedTuple):
    """One kind of number.

    Attributes:
        says: What the numbers are, for the head of a table.
        measure: Yields the numbers of one picture, each under its name.
        summary: Makes one figure of all pictures' numbers of a name.
        is_costly: Whether the backbone runs again for it: it is measured of fewer pictures.
    """

    says: str
    measure: Callable[[Case], Iterator[tuple[str, Any]]]
    summary: Callable[[Sequence[Any]], Any]
    is_costly: bool = False


def _region_level(case: Case) -> Iterator[tuple[str, float]]:
    def deletion(order: Tensor) -> Tensor:
        return case.coalitions.deletion(order)[:, 0]

    def insertion(order: Tensor) -> Tensor:
        return case.coalitions.insertion(order)[:, 0]

    kinds = {"deletion": deletion, "insertion": insertion}
    orders = {name: order_of(getattr(case.parts, name)) for name in maps_of(case.classifier)}
    curves = {kind: {name: curve(order) for name, order in orders.items()} for kind, curve in kinds.items()}
    level = case.level
    for kind, curve in kinds.items():
        for name, values in curves[kind].items():
            yield f"{level}, {kind} by {name}", area(values)
        at_random = random_areas(curve, case.coalitions.N, RANDOM_ORDERS, case.place)[0]
        yield f"{level}, {kind} at random", at_random
    for name in orders:
        yield f"{level}, gain by {name}", relevance_gain(curves["deletion"][name], curves["insertion"][name])
    yield from _agreement(case)


def _agreement(case: Case) -> Iterator[tuple[str, float]]:
    """Yield how well maps foretell drops, of one block of random subsets; a correlation that is undefined is no number.

    The map of the drops ranks the single ones by definition.
    """
    N, whole, level = case.coalitions.N, case.parts.logit, case.level
    blocks = [random_subsets(N, max(1, round(share * N)), SUBSETS, case.place) for share in GONE]
    keep = torch.cat(blocks, dim=1)
    values = case.coalitions.logits(keep.to(case.coalitions.device))[:, 0]
    for name in maps_of(case.classifier):
        a = getattr(case.parts, name)
        for share, block, v in zip(GONE, blocks, values.split(SUBSETS), strict=True):
            correlation = sensitivity_n(a, block, v, whole)
            if correlation is not None:
                yield f"{level}, sensitivity to {share:.0%} by {name}", correlation
        yield f"{level}, infidelity by {name}", infidelity(a, keep, values, whole)
        ranks = single_deletion_correlation(a, case.parts.drop)
        if ranks is not None and name != "drop":
            yield f"{level}, single deletion by {name}", ranks


def _localisation(case: Case) -> Iterator[tuple[str, tuple[float, float]]]:
    record = case.test.records[case.place]
    if record.box is None and not record.parts and not isinstance(case.test.dataset, Segmented):
        return
    mask, boxes = case.test.mask(case.place), case.drawn
    targets = {} if mask is None else {"mask": torch.from_numpy(mask.copy())}
    if record.box is not None:
        targets["box"] = box_mask(record.box, (case.image.height, case.image.width))
    chances = {name: (*chance(boxes, inside), rank_accuracy_chance(boxes, inside)) for name, inside in targets.items()}
    points, image_hw = torch.tensor(list(record.parts.values())), (case.image.height, case.image.width)
    held, near = points_chance(boxes, points), parts_chance(boxes, points, image_hw).any
    for name, values in {**case.maps, "the centre": centre_map(boxes)}.items():
        for target, inside in targets.items():
            pointing, energy, rank = chances[target]
            yield f"where: pointing in the {target} by {name}", (float(pointing_hit(values, boxes, inside)), pointing)
            share = energy_inside(values, boxes, inside)
            if share is not None:
                yield f"where: energy in the {target} by {name}", (share, energy)
            yield f"where: rank accuracy, {target}, by {name}", (rank_accuracy(values, boxes, inside), rank)
            auc = localisation_auc(values, boxes, inside)
            if auc is not None:
                yield f"where: AUC, {target}, by {name}", (auc, AUC_CHANCE)
        if record.parts:
            yield f"where: pointing at a part by {name}", (points_hit(values, boxes, points), held)
            yield f"where: peak near a part by {name}", (parts_hit(values, boxes, points, image_hw).any, near)


Measure = Callable[[Case], Iterator[tuple[str, Any]]]


def _of(level: str, measure: Measure) -> Measure:
    """Return a measure for the pictures whose regions are of a level, and nothing for others."""
    return lambda case: measure(case) if case.level == level else iter(())


CURVES = (
    "Gain: least important dropped first, less most important first (higher is better; 0 for a map that knows "
    "nothing). Sensitivity: correlation of the map's sums with the drops when a share of the regions goes (1 is best). "
    "Infidelity: their mean squared difference (0 is best). Single deletion: rank correlation with the drops of single "
    "regions (1 is best)."
)
AREAS = (
    "Area under the curve of the logit while regions are dropped (deletion: lower is better) or added (insertion: "
    "higher is better)"
)
METRICS: dict[str, Metric] = {
    "token_level": Metric(
        f"{AREAS}, at token level: exact for tokens -> logit. {CURVES}", _of(TOKEN, _region_level), Estimate.of
    ),
    "tile_level": Metric(
        f"{AREAS}, at tile level: exact for the picture, the backbone doesn't run again. {CURVES}",
        _of(TILE, _region_level),
        Estimate.of,
    ),
    "pixel_level": Metric(
        "The same at pixel level, backbone run again. Patches: occluded; not comparable. Tiles: those that are left "
        "are shown and nothing else, in fewer steps and of fewer pictures; the same areas as tile level predicts them, "
        "and the largest difference of a logit, are beside them.",
        pixel_level,
        Estimate.of,
        is_costly=True,
    ),
    "localisation": Metric(
        "Where the maps point, beside what a map that knows nothing would give (chance), and one that knows only that "
        "objects stand in the middle (the centre):",
        _localisation,
        Localisation.of,
    ),
}
