"""Explanations of test pictures, measured: do they add up, do they point at the object, does the logit fall when they say so."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from carrot._progress import progress
from carrot._ridge.logit import Logit
from carrot.data.records import ImageDataset, Segmented, Subset
from carrot.embedding.cache import TokenCache
from carrot.embedding.pooling import embed_tokens, trace_tokens
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.faithfulness import area, order_of, pixel_curve, random_areas
from carrot.evaluation.localisation import (
    Localisation,
    box_mask,
    chance,
    energy_inside,
    pointing_hit,
    points_chance,
    points_hit,
)
from carrot.explanation.parts import LogitParts, take_apart
from carrot.model import Carrot
from carrot.protocol.checks import sums_check
from carrot.removal import Coalitions

MAPS = ("token", "node", "drop")  # without diffusion "node" is "token"
RANDOM_ORDERS = 10
STEPS = 14  # at pixel level


def measure_explanations(
    model: Carrot, test: Subset, cache: TokenCache, places: list[int], occluded: int
) -> dict[str, Any]:
    """Return sums, localisation and faithfulness of the predicted class's explanations of some test pictures.

    Args:
        model: Fitted.
        test: Test pictures.
        cache: Their tokens.
        places: Which of them.
        occluded: How many of those, from the first, to occlude at pixel level.
    """
    found: dict[str, Any] = defaultdict(list)
    maps = MAPS if model.setting_.t else ("token", "drop")
    s, head = model.setting_, model.head_
    taken_apart: list[LogitParts] = []
    seconds = dict.fromkeys(("taking apart", "token level", "pixel level", "localisation"), 0.0)

    @contextmanager
    def clock(what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[what] += time.perf_counter() - start

    for number, place in enumerate(progress(places, "explaining", len(places), "pictures")):
        with clock("taking apart"):
            trace = trace_tokens(cache.picture(place), s)
            logit = Logit.predicted(head, trace.g)
            parts = take_apart(trace, logit)
        taken_apart.append(parts)
        with clock("token level"):
            _token_level(found, maps, trace.coalitions(logit), parts, seed=place)
        if number < occluded:
            with clock("pixel level"):
                _pixel_level(found, maps, model, test, place, parts)
        with clock("localisation"):
            _localise(found, maps, model, test, place, parts)
    return {
        "pictures": len(places),
        "occluded": min(occluded, len(places)),
        "seconds": seconds,
        "largest_residual": {name: d.largest for name, d in sums_check(taken_apart).items()} if taken_apart else {},
        "token_level": {name: Estimate.of(values) for name, values in found.items() if name.startswith("token level")},
        "pixel_level": {name: Estimate.of(values) for name, values in found.items() if name.startswith("pixel level")},
        "localisation": {name: Localisation.of(values) for name, values in found.items() if name.startswith("where")},
    }


def passes(model: Carrot, occluded: int) -> int:
    """Return how many inputs the backbone is run on for so many pictures at pixel level."""
    orders = (len(MAPS) if model.setting_.t else len(MAPS) - 1) + 1
    return occluded * 2 * orders * (STEPS + 1)


def _token_level(
    found: dict[str, Any], maps: Sequence[str], coalitions: Coalitions, parts: LogitParts, seed: int
) -> None:
    def deletion(order: Tensor) -> Tensor:
        return coalitions.deletion(order)[:, 0]

    def insertion(order: Tensor) -> Tensor:
        return coalitions.insertion(order)[:, 0]

    for kind, curve in (("deletion", deletion), ("insertion", insertion)):
        for name in maps:
            found[f"token level, {kind} by {name}"].append(area(curve(order_of(getattr(parts, name)))))
        at_random = random_areas(curve, coalitions.N, RANDOM_ORDERS, seed)[0]
        found[f"token level, {kind} at random"].append(at_random)


def _pixel_level(
    found: dict[str, Any], maps: Sequence[str], model: Carrot, test: ImageDataset, place: int, parts: LogitParts
) -> None:
    encoder, factor = model.encoder, model.setting_.coarsen
    gh, gw = encoder.backbone.grid_hw
    grid_hw = (gh // factor, gw // factor)
    x = encoder.backbone.transform(test.image(place))
    local = len(parts.token) - parts.num_global

    def predict(batch: Tensor) -> Tensor:
        return model.head_.predict(embed_tokens(encoder.encode(batch), model.setting_))

    generator = torch.Generator().manual_seed(place)
    orders = {name: order_of(getattr(parts, name)[:local]) for name in maps}
    orders["random"] = torch.randperm(local, generator=generator)
    for kind in ("deletion", "insertion"):
        for name, order in orders.items():
            curve = pixel_curve(predict, x, grid_hw, order, parts.target, STEPS, insertion=kind == "insertion")
            label = "at random" if name == "random" else f"by {name}"
            found[f"pixel level, {kind} {label}"].append(area(curve))


def _localise(
    found: dict[str, Any], maps: Sequence[str], model: Carrot, test: Subset, place: int, parts: LogitParts
) -> None:
    record = test.records[place]
    if record.box is None and not record.parts and not isinstance(test.dataset, Segmented):
        return
    image = test.image(place)
    encoder, factor = model.encoder, model.setting_.coarsen
    gh, gw = encoder.backbone.grid_hw
    boxes = encoder.backbone.geometry(image.size).patch_boxes((gh // factor, gw // factor))
    mask = test.mask(place)
    targets = {} if mask is None else {"mask": torch.from_numpy(mask.copy())}
    if record.box is not None:
        targets["box"] = box_mask(record.box, (image.height, image.width))
    for name in maps:
        values = getattr(parts, name)[: len(boxes)]
        for target, inside in targets.items():
            pointing, energy = chance(boxes, inside)
            found[f"where: pointing in the {target} by {name}"].append(
                (float(pointing_hit(values, boxes, inside)), pointing)
            )
            share = energy_inside(values, boxes, inside)
            if share is not None:
                found[f"where: energy in the {target} by {name}"].append((share, energy))
        if record.parts:
            points = torch.tensor(list(record.parts.values()))
            hit = points_hit(values, boxes, points)
            found[f"where: pointing at a part by {name}"].append((hit, points_chance(boxes, points)))
