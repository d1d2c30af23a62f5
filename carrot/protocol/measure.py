"""The evaluation protocol: a model on the test pictures of a data set, everything in one JSON-ready answer.

Accuracy, calibration, every class, explanations against what is known of the picture, the checks that make them worth
reading, time, and what a user would pick instead. Faithfulness at token level (regions dropped: exact) and at pixel
level (patches of the picture occluded, backbone run again) are two families of numbers under two names.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrot._progress import progress
from carrot.backbone import TimmViTPatchBackbone
from carrot.classifier.held_out import HeldOut, held_out
from carrot.data import open_dataset
from carrot.data.records import Subset
from carrot.embedding.cache import TokenCache
from carrot.embedding.setting import Setting
from carrot.errors import CarrotError
from carrot.evaluation.baselines import knn, logistic_regression, sklearn_ridge
from carrot.evaluation.confusion import confusion_pairs, per_class
from carrot.evaluation.duplicates import near_copies
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.figures import accuracy_figures, calibration_figures
from carrot.evaluation.selection import candidate
from carrot.head import RidgeHead
from carrot.model import Carrot
from carrot.protocol.checks import Difference, group_removal_check, leave_one_out_check
from carrot.protocol.explanations import measure_explanations
from carrot.protocol.timing import time_stages

LEAK = 0.999  # cosine around the mean from which a test picture counts as a training picture over again
GROUP = 5  # training pictures that are removed together, to be held against a real fit
MEAN, CLASS_TOKEN = Setting(), Setting(global_share=1.0)
Answer = dict[str, Any]
PHASES = ("accuracy", "baselines", "checks", "explanations")


def evaluate(
    model: Carrot,
    data: str,
    folder: str | Path,
    explained: int = 50,
    occluded: int = 0,
    refits: int = 5,
    baselines: bool = True,
    done: Callable[[Answer, str], None] = lambda answer, phase: None,
) -> Answer:
    """Return every number of the protocol; accuracy is there first, explanations, which take longest, last.

    What is measured is said under "counts" (``carrot.classifier.held_out``): a data set without a split of its own is
    used whole. Pictures that the model was fitted on are no test pictures, and are listed under "left_out".

    Args:
        model: Fitted.
        data: Data set, as ``open_dataset`` takes it.
        folder: Where tokens are kept: the model's, as a rule.
        explained: How many test pictures to explain, evenly spaced.
        occluded: How many of those to occlude at pixel level: the backbone runs again, tens of times for each.
        refits: How many leave-one-outs to hold against real fits, and with them the removal of one group; 0: neither.
        baselines: Also measure what a user would pick instead.
        done: Called after each of ``PHASES`` with what is known by then, and the phase's name.

    Raises:
        DataError: No test pictures but those that the model was fitted on, or of classes that it doesn't know.
        ValueError: A number is negative.
    """
    for name, number in (("explained", explained), ("occluded", occluded), ("refits", refits)):
        if number < 0:
            raise ValueError(f"`{name}` must be 0 or more; got {number}.")
    folder, classifier = Path(folder), model.classifier
    fitted, encoder = classifier.fitted, classifier.encoder
    found = held_out(classifier, data, folder / "tokens")
    test, cache, places, y = found.test, found.cache, found.places, found.labels
    g = cache.embed(places, fitted.setting)
    logits = fitted.head.predict(g)
    answer: Answer = {
        "data": {
            "name": found.dataset.name,
            "given": data,
            "test_pictures": len(places),
            "crop": encoder.spec.crop,
            "is_own": found.is_own,
        },
        "counts": found.counts.to_dict(),
        "left_out": list(found.fitted_on),
        "unknown_classes": dict(found.unknown),
        "model": model.facts(),
        "set_aside": dict(found.set_aside),
        "accuracy": accuracy_figures(logits, y),
        "leaks": _leaks(model, test, cache, places, g, logits, y),
        "calibration": calibration_figures(logits, y, fitted.temperature),
        "leave_one_out": fitted.leave_one_out(),
        "classes": per_class(logits.argmax(dim=1), y, fitted.classes),
        "confusions": confusion_pairs(logits.argmax(dim=1), y, fitted.classes),
    }
    done(_plain(answer), "accuracy")
    if baselines:
        answer["baselines"] = _baselines(model, found, folder, logits.argmax(dim=1) == y)
        done(_plain(answer), "baselines")
    answer["checks"] = _checks(fitted.head, g, refits) if refits else {}
    answer["milliseconds_a_picture"] = time_stages(classifier)
    done(_plain(answer), "checks")
    answer["explanations"] = measure_explanations(classifier, test, cache, _spread(places, explained), occluded)
    done(whole := _plain(answer), "explanations")
    return whole


def _leaks(
    model: Carrot, test: Subset, cache: TokenCache, places: list[int], g: Tensor, logits: Tensor, y: Tensor
) -> Answer:
    """Return test pictures that are nearly, or exactly, a training picture: an accuracy that counts them flatters."""
    records = model.records_
    near, cosines, rows = near_copies(model.head_.G, g, LEAK)
    known = {record.sha256 for record in records}
    same = torch.tensor([cache.sha256[place] in known for place in places])
    near |= same
    pairs = [
        {
            "test": test.records[places[i]].id,
            "training": records[int(rows[i])].id,
            "cosine": float(cosines[i]),
            "same_file": bool(same[i]),
        }
        for i in near.nonzero().flatten().tolist()
    ]
    clean = accuracy_figures(logits[~near], y[~near]) if not bool(near.all()) else None
    return {"threshold": LEAK, "test_pictures": len(pairs), "accuracy_without": clean, "pairs": pairs}


def _checks(head: RidgeHead, g: Tensor, refits: int) -> dict[str, Difference]:
    """Return how far formulas are from real fits: without single training pictures, and without a few together."""
    drawn = torch.randperm(len(head.G), generator=torch.Generator().manual_seed(0))
    group = drawn[: min(GROUP, len(head.G) - 1)].tolist()
    return {
        "leave_one_out": leave_one_out_check(head, refits),
        "group_removal": group_removal_check(head, [group], g),
    }


def _spread(places: list[int], k: int) -> list[int]:
    """Return k of the places, evenly spaced."""
    k = min(k, len(places))
    return [places[i * len(places) // k] for i in range(k)]


def _baselines(model: Carrot, found: HeldOut, folder: Path, right: Tensor) -> Answer:
    """Return accuracies of other embeddings and heads of whole pictures, fitted on the model's training pictures.

    ``right`` is which test pictures the model itself had right: "ahead" is by how much, picture by picture.
    """
    fitted, encoder = model.fitted, model.encoder
    known = {record.id: record for record in fitted.records}  # what was forgotten stays forgotten
    try:
        dataset = found.dataset if found.is_own or fitted.data is None else open_dataset(fitted.data)
    except (CarrotError, OSError) as error:
        return _not_measured(f"the pictures that the model was fitted on can't be opened: {error}")
    train = Subset(dataset, [i for i, record in enumerate(dataset.records) if record.id in known])
    if not train.records:
        return _not_measured(f"{dataset.name} has none of the pictures that the model was fitted on")
    embeddings = {"mean (t = 0)": MEAN}
    if not isinstance(encoder.of(fitted.setting).backbone, TimmViTPatchBackbone):  # no patches: one feature of it all
        embeddings = {"whole picture": Setting(regions="tiles:1", tile_size=fitted.setting.tile_size)}
    whole = encoder.of(next(iter(embeddings.values())))
    if whole.backbone.has_class_token:
        embeddings["class token"] = CLASS_TOKEN
    cache, test_cache = (whole.cache(pictures, folder / "tokens") for pictures in (train, found.test))
    rows = [i for i in cache.rows if cache.sha256[i] == known[train.records[i].id].sha256]
    labels = torch.tensor([known[train.records[i].id].label for i in rows])
    C, measured = len(fitted.classes), Answer()
    if missing := C - len(labels.unique()):
        return _not_measured(f"{dataset.name} has no training pictures of {missing} classes")
    y, places = found.labels, found.places

    def figures(scores: Tensor) -> Answer:
        theirs = scores.argmax(dim=1) == y
        return {**accuracy_figures(scores, y), "ahead": Estimate.of((right.double() - theirs.double()).tolist())}

    for name, setting in progress(embeddings.items(), "baselines", len(embeddings), "embeddings"):
        G, g = cache.embed(rows, setting), test_cache.embed(places, setting)
        measured[f"{name}, ridge"] = figures(candidate(G, labels, setting).head.predict(g))
        measured[f"{name}, kNN"] = figures(knn(G, labels, g, C))
        for head, fit in (("logistic regression", logistic_regression), ("ridge by scikit-learn", sklearn_ridge)):
            try:
                measured[f"{name}, {head}"] = figures(fit(G, labels, g, C))
            except ImportError as error:
                measured[f"{name}, {head}"] = {"not_measured": str(error)}
    return measured


def _not_measured(why: str) -> Answer:
    return {"baselines": {"not_measured": why}}


def _plain(value: Any) -> Any:
    """Return dataclasses, tuples and tensors as plain JSON."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
