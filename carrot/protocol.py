"""The evaluation protocol: a model on the test pictures of a data set, everything in one JSON-ready answer.

Accuracy, calibration, every class, explanations against what is known of the picture, the checks that make them worth reading, time, and
what a user would pick instead. Faithfulness at token level (regions removed: exact) and at pixel level (patches of the picture
occluded, backbone run again) are two families of numbers under two names.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot.data import open_dataset, split_indices
from carrot.data.records import Subset
from carrot.errors import DataError
from carrot.evaluation.accuracy import summary
from carrot.evaluation.audit import near_copies
from carrot.evaluation.baselines import knn, logistic_regression, sklearn_ridge
from carrot.evaluation.calibration import brier, expected_calibration_error, negative_log_likelihood, probabilities
from carrot.evaluation.checks import leave_one_out_check
from carrot.evaluation.confusion import confusion_pairs, per_class
from carrot.evaluation.selection import candidate
from carrot.model import Carrot
from carrot.progress import progress
from carrot.protocol_explanations import measure_explanations
from carrot.protocol_timing import time_stages
from carrot.stages import Setting
from carrot.store import TokenCache

LEAK = 0.999  # cosine around the mean from which a test picture counts as a training picture over again
MEAN, CLASS_TOKEN = Setting(), Setting(global_share=1.0)
Answer = dict[str, Any]


def evaluate(
    model: Carrot,
    data: str,
    folder: Path,
    explained: int = 50,
    occluded: int = 10,
    refits: int = 5,
    baselines: bool = True,
) -> Answer:
    """Return every number of the protocol.

    Pictures that the model was fitted on (same id, same content) are no test pictures, whatever the data set's split says now: that of
    a folder shifts when pictures are added or deleted. They are left out, and listed under "left_out".

    Args:
        model: Fitted.
        data: Data set, as ``open_dataset`` takes it; its test pictures are measured.
        folder: The model's, where tokens are kept.
        explained: How many test pictures to explain, evenly spaced.
        occluded: How many of those to occlude at pixel level.
        refits: How many leave-one-outs to hold against real fits.
        baselines: Also measure what a user would pick instead.

    Raises:
        DataError: No test pictures but those that the model was fitted on, or a class that it doesn't know.
        ValueError: A number is negative.
    """
    for name, number in (("explained", explained), ("occluded", occluded), ("refits", refits)):
        if number < 0:
            raise ValueError(f"`{name}` must be 0 or more; got {number}.")
    dataset, fitted, encoder = open_dataset(data), model.fitted, model.encoder
    test = Subset(dataset, split_indices(dataset, "test"))
    if not test.records:
        raise DataError(f"{dataset.name}: has no test pictures. Give a data set that has some.")
    labels = _labels(model, test)
    cache = encoder.cache(test, folder / "tokens")
    there = torch.nonzero(cache.readable).flatten().tolist()
    if not there:
        raise DataError(f"{dataset.name}: none of its {len(test.records)} test pictures can be read.")
    fitted_on = {(record.id, record.sha256) for record in model.records_}
    places = [i for i in there if (test.records[i].id, cache.sha256[i]) not in fitted_on]
    if not places:
        raise DataError(f"{dataset.name}: the model was fitted on all of its {len(there)} test pictures. Give others.")
    y = labels[places]
    g = cache.embed(places, fitted.setting)
    logits = fitted.head.predict(g)
    answer: Answer = {
        "data": {"name": dataset.name, "given": data, "test_pictures": len(places), "crop": encoder.spec.crop},
        "left_out": [test.records[i].id for i in sorted(set(there) - set(places))],
        "model": model.facts(),
        "set_aside": dict(cache.errors),
        "accuracy": _accuracy(logits, y),
        "leaks": _leaks(model, test, cache, places, g, logits, y),
        "calibration": _calibration(logits, y, fitted.temperature),
        "leave_one_out": fitted.leave_one_out(),
        "classes": per_class(logits.argmax(dim=1), y, fitted.classes),
        "confusions": confusion_pairs(logits.argmax(dim=1), y, fitted.classes),
        "checks": {"leave_one_out": leave_one_out_check(fitted.head, refits)} if refits else {},
        "explanations": measure_explanations(model, test, cache, _spread(places, explained), occluded),
        "milliseconds_a_picture": time_stages(encoder, fitted),
    }
    if baselines:
        answer["baselines"] = _baselines(model, dataset, folder, cache, places, y, answer["left_out"])
    return _plain(answer)


def _labels(model: Carrot, test: Subset) -> Int[Tensor, " m"]:
    unknown = [name for name in test.classes if name not in model.classes_]
    if unknown:
        raise DataError(
            f"{test.name}: class {unknown[0]!r} is none of the model's ({len(unknown)} such). Give the data set that it was fitted on."
        )
    return torch.tensor([model.fitted.class_index(test.classes[record.label]) for record in test.records])


def _accuracy(logits: Float[Tensor, "m C"], y: Int[Tensor, " m"]) -> Answer:
    found = summary(logits, y)
    return {
        "top1": found.top1,
        "top1_se": math.sqrt(found.top1 * (1.0 - found.top1) / found.n),
        "top5": found.top5,
        "mean_per_class": found.mean_per_class,
        "n": found.n,
    }


def _leaks(
    model: Carrot, test: Subset, cache: TokenCache, places: list[int], g: Tensor, logits: Tensor, y: Tensor
) -> Answer:
    """Return the test pictures that are nearly, or exactly, a training picture: an accuracy that counts them flatters."""
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
    clean = _accuracy(logits[~near], y[~near]) if not bool(near.all()) else None
    return {"threshold": LEAK, "test_pictures": len(pairs), "accuracy_without": clean, "pairs": pairs}


def _calibration(logits: Tensor, y: Tensor, temperature: float) -> Answer:
    p = probabilities(logits, temperature)
    return {
        "temperature": temperature,
        "negative_log_likelihood": negative_log_likelihood(p, y),
        "brier": brier(p, y),
        "expected_calibration_error": expected_calibration_error(p, y),
        "bins": 15,
    }


def _spread(places: list[int], k: int) -> list[int]:
    """Return k of the places, evenly spaced."""
    k = min(k, len(places))
    return [places[i * len(places) // k] for i in range(k)]


def _baselines(
    model: Carrot,
    dataset: Any,
    folder: Path,
    test_cache: TokenCache,
    places: list[int],
    y: Tensor,
    left_out: Sequence[str],
) -> Answer:
    """Return accuracies of other embeddings and heads on the same tokens, fitted on the training pictures that the model has too."""
    encoder, shifted = model.encoder, set(left_out)
    known = {record.id for record in model.records_}  # what was forgotten stays forgotten
    own = {*split_indices(dataset, "train"), *(i for i, record in enumerate(dataset.records) if record.id in shifted)}
    train = Subset(dataset, [i for i in sorted(own) if dataset.records[i].id in known])
    if not train.records:
        return {}
    cache = encoder.cache(train, folder / "tokens")
    rows = torch.nonzero(cache.readable).flatten().tolist()
    labels = _labels(model, train)[rows]
    C, found = len(model.classes_), {}
    if len(labels.unique()) < C:
        return {
            "baselines": {
                "not_measured": f"{dataset.name} has no training pictures of {C - len(labels.unique())} classes"
            }
        }
    embeddings = {"mean (t = 0)": MEAN} | ({"class token": CLASS_TOKEN} if encoder.backbone.has_class_token else {})
    for name, setting in progress(embeddings.items(), "baselines", len(embeddings), "embeddings"):
        G, g = cache.embed(rows, setting), test_cache.embed(places, setting)
        found[f"{name}, ridge"] = _accuracy(candidate(G, labels, setting).head.predict(g), y)
        found[f"{name}, kNN"] = _accuracy(knn(G, labels, g, C), y)
        for head, fit in (("logistic regression", logistic_regression), ("ridge by scikit-learn", sklearn_ridge)):
            try:
                found[f"{name}, {head}"] = _accuracy(fit(G, labels, g, C), y)
            except ImportError as error:
                found[f"{name}, {head}"] = {"not_measured": str(error)}
    return found


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
