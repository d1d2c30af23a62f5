"""Deletion and insertion with the backbone run again: patches are occluded; of tiles, those left are shown."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from carrot.classifier.classifier import Classifier
from carrot.classifier.shown import shown_embedding
from carrot.evaluation.faithfulness import (
    OcclusionCurves,
    area,
    input_boxes,
    occlusion_curves,
    order_of,
    relevance_gain,
)
from carrot.protocol.case import Case, maps_of
from carrot.tiling import Tiling

STEPS = 14  # in which patches are occluded
TILE_STEPS = 5  # in which tiles are: each step costs a pass for every tile that is left


def pixel_level(case: Case) -> Iterator[tuple[str, float]]:
    """Yield areas and gains of the predicted class, by each map and at random."""
    target = case.parts.target
    generator = torch.Generator().manual_seed(case.place)
    orders = {f"by {name}": order_of(values) for name, values in case.maps.items()}
    orders["at random"] = torch.randperm(len(case.boxes), generator=generator)
    is_tiled = case.classifier.fitted.setting.is_tiled
    curves = {name: (_by_showing if is_tiled else _by_occlusion)(case, order) for name, order in orders.items()}
    for kind in ("deletion", "insertion"):
        for name, found in curves.items():
            yield f"pixel level, {kind} {name}", area(getattr(found, kind)[:, target], found.fractions)
    for name in case.maps:
        found = curves[f"by {name}"]
        gain = relevance_gain(found.deletion[:, target], found.insertion[:, target], found.fractions)
        yield f"pixel level, gain by {name}", gain
    if is_tiled:
        yield from _at_tile_level(case, orders, curves)


def passes(classifier: Classifier, pictures: int) -> int:
    """Return how many inputs the backbone is run on for so many pictures."""
    s, orders, regions = classifier.fitted.setting, len(maps_of(classifier)) + 1, _local(classifier)
    if not s.is_tiled:
        return pictures * orders * 2 * steps_of(classifier)
    left = [int(count) for count in _counts(regions, steps_of(classifier))]
    return pictures * orders * (2 * sum(left) - regions + 2 * bool(s.global_share) * len(left))


def inputs_of(classifier: Classifier) -> int:
    """Return how many inputs the backbone is run on to embed a picture: each tile is one."""
    s = classifier.fitted.setting
    return _local(classifier) + bool(s.global_share) if s.is_tiled else 1


def steps_of(classifier: Classifier) -> int:
    """Return in how many steps regions go: one each, where they are fewer."""
    return min(TILE_STEPS if classifier.fitted.setting.is_tiled else STEPS, _local(classifier))


def _local(classifier: Classifier) -> int:
    s = classifier.fitted.setting
    if s.is_tiled:
        return len(Tiling.from_spec(s.regions))
    gh, gw = s.grid_hw(classifier.encoder.backbone.grid_hw)
    return gh * gw


def _by_occlusion(case: Case, order: Tensor) -> OcclusionCurves:
    classifier = case.classifier
    encoder = classifier.encoder
    x = encoder.backbone.transform(case.image)

    def predict(batch: Tensor) -> Tensor:
        return classifier.logits_of(encoder.encode(batch))

    grid_hw = classifier.fitted.setting.grid_hw(encoder.backbone.grid_hw)
    boxes = input_boxes(grid_hw, (x.shape[-2], x.shape[-1]))
    return occlusion_curves(predict, x, boxes, order, steps_of(classifier))


def _by_showing(case: Case, order: Tensor) -> OcclusionCurves:
    counts, gone, shown = _versions(case, order)
    return OcclusionCurves(counts.double() / len(order), _logits(case, ~gone), _logits(case, shown))


def _at_tile_level(
    case: Case, orders: dict[str, Tensor], measured: dict[str, OcclusionCurves]
) -> Iterator[tuple[str, float]]:
    """Yield the same areas as they are predicted without the backbone, and how far the two are apart anywhere."""
    target, apart = case.parts.target, 0.0
    for name, order in orders.items():
        _, gone, shown = _versions(case, order)
        for kind, there in (("deletion", ~gone), ("insertion", shown)):
            predicted = case.coalitions.logits(there)[:, 0]
            yield f"tile level, same steps, {kind} {name}", area(predicted, measured[name].fractions)
            apart = max(apart, float((predicted - getattr(measured[name], kind)[:, target]).abs().max()))
    yield "pixel level, largest difference from tile level", apart


def _versions(case: Case, order: Tensor) -> tuple[Tensor, Bool[Tensor, "N K"], Bool[Tensor, "N K"]]:
    """Return how many regions each step has dealt with, those that are gone then, and those that alone are shown.

    Global regions go last, and come last.
    """
    counts = _counts(len(order), steps_of(case.classifier))
    rank = torch.argsort(order)
    extra = case.parts.num_global
    dealt = rank[:, None] < counts
    gone = torch.cat([dealt, (counts == len(order)).expand(extra, -1)])
    shown = torch.cat([dealt, (counts == len(order)).expand(extra, -1)])
    return counts, gone, shown


def _counts(regions: int, steps: int) -> Tensor:
    return torch.round(torch.linspace(0, regions, steps + 1, dtype=torch.float64)).long()


def _logits(case: Case, there: Bool[Tensor, "N K"]) -> Float[Tensor, "K C"]:
    head = case.classifier.fitted.head
    return torch.stack([head.predict(shown_embedding(case.classifier, case.image, keep)) for keep in there.T])
