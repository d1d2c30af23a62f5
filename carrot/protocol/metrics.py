"""What is measured of an explanation, each kind in one place: ``METRICS``, over which the protocol and its tables run.

Faithfulness at token level (regions dropped: exact) and at pixel level (patches of the picture occluded, backbone run
again) are two families of numbers under two names.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from carrot._ridge.logit import Logit
from carrot.classifier.classifier import Classifier
from carrot.data.records import Segmented, Subset
from carrot.embedding.trace import Trace
from carrot.evaluation.agreement import infidelity, random_subsets, sensitivity_n, single_deletion_correlation
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.faithfulness import (
    area,
    input_boxes,
    occlusion_curves,
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
from carrot.explanation.parts import LogitParts
from carrot.removal import Coalitions

MAPS = ("token", "node", "drop")  # without diffusion "node" is "token"
RANDOM_ORDERS = 10
STEPS = 14  # at pixel level
GONE = (0.1, 0.3, 0.5)  # shares of the regions that are dropped together, to see whether a map foretells it ..
SUBSETS = 32  # .. in so many subsets each: all three are 2 % of the versions that the curves of 196 regions need


@dataclass(frozen=True, eq=False)
class Case:
    """One explained picture.

    Attributes:
        classifier: The model.
        test: Test pictures.
        place: Which of them.
        trace: Its objects.
        logit: The predicted class's.
        parts: That logit, taken apart.
    """

    classifier: Classifier
    test: Subset
    place: int
    trace: Trace
    logit: Logit
    parts: LogitParts

    @property
    def maps(self) -> dict[str, Float[Tensor, " n_local"]]:
        """Maps of the regions that have a place, by name."""
        local = len(self.parts.token) - self.parts.num_global
        return {name: getattr(self.parts, name)[:local] for name in maps_of(self.classifier)}

    @cached_property
    def coalitions(self) -> Coalitions:
        """What the logit would be without regions."""
        return self.trace.coalitions(self.logit)

    @cached_property
    def image(self) -> Image.Image:
        """The picture."""
        return self.test.image(self.place)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of regions."""
        return grid_of(self.classifier)

    @property
    def boxes(self) -> Float[Tensor, "n_local 4"]:
        """Of the regions, in pixels of the picture."""
        return self.classifier.encoder.backbone.geometry(self.image.size).patch_boxes(self.grid_hw)


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


def maps_of(classifier: Classifier) -> tuple[str, ...]:
    """Return the maps that differ."""
    return MAPS if classifier.fitted.setting.t else ("token", "drop")


def grid_of(classifier: Classifier) -> tuple[int, int]:
    """Return the rows and columns of regions."""
    return classifier.fitted.setting.grid_hw(classifier.encoder.backbone.grid_hw)


def steps_of(classifier: Classifier) -> int:
    """Return in how many steps regions are occluded: one each, where they are fewer than ``STEPS``."""
    gh, gw = grid_of(classifier)
    return min(STEPS, gh * gw)


def passes(classifier: Classifier, pictures: int) -> int:
    """Return how many inputs the backbone is run on for so many pictures at pixel level."""
    return pictures * (len(maps_of(classifier)) + 1) * 2 * steps_of(classifier)


def _token_level(case: Case) -> Iterator[tuple[str, float]]:
    def deletion(order: Tensor) -> Tensor:
        return case.coalitions.deletion(order)[:, 0]

    def insertion(order: Tensor) -> Tensor:
        return case.coalitions.insertion(order)[:, 0]

    kinds = {"deletion": deletion, "insertion": insertion}
    orders = {name: order_of(getattr(case.parts, name)) for name in maps_of(case.classifier)}
    curves = {kind: {name: curve(order) for name, order in orders.items()} for kind, curve in kinds.items()}
    for kind, curve in kinds.items():
        for name, values in curves[kind].items():
            yield f"token level, {kind} by {name}", area(values)
        at_random = random_areas(curve, case.coalitions.N, RANDOM_ORDERS, case.place)[0]
        yield f"token level, {kind} at random", at_random
    for name in orders:
        yield f"token level, gain by {name}", relevance_gain(curves["deletion"][name], curves["insertion"][name])
    yield from _agreement(case)


def _agreement(case: Case) -> Iterator[tuple[str, float]]:
    """Yield how well maps foretell drops, of one block of random subsets; a correlation that is undefined is no number.

    The map of the drops ranks the single ones by definition.
    """
    N, whole = case.coalitions.N, case.parts.logit
    blocks = [random_subsets(N, max(1, round(share * N)), SUBSETS, case.place) for share in GONE]
    keep = torch.cat(blocks, dim=1)
    values = case.coalitions.logits(keep.to(case.coalitions.device))[:, 0]
    for name in maps_of(case.classifier):
        a = getattr(case.parts, name)
        for share, block, v in zip(GONE, blocks, values.split(SUBSETS), strict=True):
            correlation = sensitivity_n(a, block, v, whole)
            if correlation is not None:
                yield f"token level, sensitivity to {share:.0%} by {name}", correlation
        yield f"token level, infidelity by {name}", infidelity(a, keep, values, whole)
        ranks = single_deletion_correlation(a, case.parts.drop)
        if ranks is not None and name != "drop":
            yield f"token level, single deletion by {name}", ranks


def _pixel_level(case: Case) -> Iterator[tuple[str, float]]:
    encoder, target = case.classifier.encoder, case.parts.target
    x = encoder.backbone.transform(case.image)
    generator = torch.Generator().manual_seed(case.place)

    def predict(batch: Tensor) -> Tensor:
        return case.classifier.logits_of(encoder.encode(batch))

    steps = steps_of(case.classifier)
    boxes = input_boxes(case.grid_hw, (x.shape[-2], x.shape[-1]))
    orders = {f"by {name}": order_of(values) for name, values in case.maps.items()}
    orders["at random"] = torch.randperm(len(boxes), generator=generator)
    curves = {name: occlusion_curves(predict, x, boxes, order, steps) for name, order in orders.items()}
    for kind in ("deletion", "insertion"):
        for name, found in curves.items():
            yield f"pixel level, {kind} {name}", area(getattr(found, kind)[:, target], found.fractions)
    for name in case.maps:
        found = curves[f"by {name}"]
        gain = relevance_gain(found.deletion[:, target], found.insertion[:, target], found.fractions)
        yield f"pixel level, gain by {name}", gain


def _localisation(case: Case) -> Iterator[tuple[str, tuple[float, float]]]:
    record = case.test.records[case.place]
    if record.box is None and not record.parts and not isinstance(case.test.dataset, Segmented):
        return
    mask, boxes = case.test.mask(case.place), case.boxes
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


METRICS: dict[str, Metric] = {
    "token_level": Metric(
        "Area under the curve of the logit while regions are dropped (deletion: lower is better) or added (insertion: "
        "higher is better), at token level: exact for tokens -> logit. Gain: least important dropped first, less most "
        "important first (higher is better; 0 for a map that knows nothing). Sensitivity: correlation of the map's "
        "sums with the drops when a share of the regions goes (1 is best). Infidelity: their mean squared difference "
        "(0 is best). Single deletion: rank correlation with the drops of single regions (1 is best).",
        _token_level,
        Estimate.of,
    ),
    "pixel_level": Metric(
        "The same at pixel level: patches occluded, backbone run again; not comparable.",
        _pixel_level,
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
