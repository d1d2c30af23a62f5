"""A model's explanation of one picture: traced, taken apart, and its training pictures found again."""

import os

import torch
from PIL import Image

from carrot.classifier.classifier import Classifier
from carrot.classifier.known import own_answer, training_row
from carrot.classifier.suspects import doubted
from carrot.data.inputs import PictureLike, as_picture, name_of
from carrot.data.labels import Label
from carrot.errors import UnreadableImageError
from carrot.evaluation.calibration import probabilities
from carrot.explanation.counterfactual import counterfactuals
from carrot.explanation.parts import LogitParts, region_to_region, take_apart
from carrot.explanation.record import Explanation, Picture
from carrot.utils import whole_number

CANDIDATES = 12  # training pictures that a page can do without


def explain(
    classifier: Classifier,
    picture: PictureLike,
    target: Label | None = None,
    against: Label | None = None,
    k: int = 4,
    label: str | None = None,
    row: int | None = None,
) -> Explanation:
    """Take one logit apart; see ``Carrot.explain``. ``row``: which training picture it is, where that is known already.

    Raises:
        ValueError: A class is unknown, ``target`` and ``against`` are the same, or k is less than 1.
    """
    k = whole_number("k", k, 1)
    if isinstance(picture, str | os.PathLike) and os.path.isdir(picture):
        raise UnreadableImageError(
            f"{picture}: it is a folder; give the pictures in it: [model.explain(p) for p in "
            f"carrot.data.pictures_in({os.fspath(picture)!r})]. One page with a row for each: carrot explain MODEL "
            f"{picture}",
            str(picture),
        )
    fitted, image = classifier.fitted, as_picture(picture)
    for name in (target, against):
        if name is not None:
            fitted.class_index(name)  # refuses it before the backbone runs
    trace = classifier.trace(image)
    logit = classifier.question(trace, target, against)
    parts = take_apart(trace, logit)
    shown = parts.most_missed(k).tolist()
    pictures, missing, pairs, traces = {}, {}, {}, []
    for i in shown:
        record = fitted.records[i]
        found = classifier.find(record)
        if isinstance(found, str):
            missing[i] = found
        else:
            pictures[i] = _placed(classifier, record.id, found, fitted.classes[record.label])
        tokens = classifier.training_tokens(record, found)
        if tokens is not None:
            there = classifier.pooling.trace(tokens)
            pairs[i] = region_to_region(trace, there, logit, i)
        traces.append(None if tokens is None else there)
    rows = [*shown, *_further(parts, shown)]
    row = training_row(fitted, picture, image) if row is None else row
    if row is not None and row not in rows:
        rows.append(row)  # its page shows what is said without it
    others = {}
    for i in rows[len(shown) :]:
        found = classifier.find(fitted.records[i])
        if not isinstance(found, str):
            others[i] = _placed(classifier, fitted.records[i].id, found, fitted.classes[fitted.records[i].label])
    return Explanation(
        parts=parts,
        classes=fitted.classes,
        picture=_placed(classifier, name_of(picture, 0), image, label),
        probabilities=probabilities(parts.logits.unsqueeze(0), fitted.temperature)[0],
        training_ids=tuple(record.id for record in fitted.records),
        training_labels=tuple(fitted.classes[record.label] for record in fitted.records),
        shown=tuple(shown),
        shown_pictures=pictures,
        missing=missing,
        pair_maps=pairs,
        facts=classifier.facts(),
        coalitions=trace.coalitions(logit),
        counterfactuals=counterfactuals(fitted.head, fitted.labels, fitted.class_weights, trace, rows, traces),
        others=others,
        doubtful=doubted(fitted, rows),
        own=None if row is None else own_answer(fitted, row),
    )


def _further(parts: LogitParts, shown: list[int]) -> list[int]:
    """Return the training pictures beside those that are shown without which the logit would move most, either way."""
    left = parts.removal.abs().index_fill(0, torch.tensor(shown), -1.0)
    return left.topk(max(0, min(CANDIDATES, len(left)) - len(shown))).indices.tolist()


def _placed(classifier: Classifier, name: str, image: Image.Image, label: str | None) -> Picture:
    """Return a picture with the boxes of the regions in its own pixels."""
    s, view = classifier.fitted.setting, classifier.encoder.view
    boxes = view.boxes(image.size, s.coarsen)
    grid_hw = None if s.is_tiled else s.grid_hw(classifier.encoder.backbone.grid_hw)
    places = s.region_places() if s.is_tiled else ()
    return Picture(name, image, boxes, grid_hw, label, places, s.region_kind, view.drawn(image.size, s.coarsen))
