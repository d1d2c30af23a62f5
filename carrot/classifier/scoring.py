"""How often a model is right: of pictures with labels, or of a data set's pictures that it was not fitted on."""

import os
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from carrot._display.words import counted
from carrot.classifier.classifier import Classifier
from carrot.classifier.held_out import held_out
from carrot.data.given import is_labelled
from carrot.data.inputs import as_list
from carrot.data.labels import Labels


def score(classifier: Classifier, pictures: Any, y: Labels | None, sample_weight: Any) -> float:
    """Return the share of pictures that a model is right of; see ``Carrot.score``."""
    if y is None:
        is_named = isinstance(pictures, str | os.PathLike)
        if not (is_named or is_labelled(pictures)) or sample_weight is not None:
            raise ValueError(
                "`y` is missing: one label for each picture. Without it, `pictures` must be a data set, such as a "
                "folder of class folders, and `sample_weight` left out."
            )
        return _of_data(classifier, os.fspath(pictures) if is_named else pictures)
    if is_labelled(pictures):
        raise ValueError(
            f"`y` goes with pictures, and this {type(pictures).__name__} is a data set, whose labels are its own. "
            "Leave `y` out."
        )
    items = as_list(pictures)
    if folder := next((item for item in items if isinstance(item, str | Path) and os.path.isdir(item)), None):
        raise ValueError(
            f"`pictures` is a folder, {folder}, whose labels are its class folders: leave `y` out, "
            f"model.score({str(folder)!r}). With labels of your own: "
            f"model.score(carrot.data.pictures_in({str(folder)!r}), y)."
        )
    truth = _truth(classifier, y)
    if len(items) != len(truth) or not items:
        raise ValueError(f"`y` must be one class for each of {counted(len(items), 'picture')}; got {len(truth)}.")
    said = classifier.logits(items).argmax(dim=1).numpy()
    right = np.array(classifier.fitted.classes)[said] == np.array(truth)
    return float(np.average(right, weights=sample_weight))


def _truth(classifier: Classifier, y: Labels) -> list[str]:
    """Return labels by name. Of classes that the model was not fitted on some may be, which it is wrong of.

    A fold of cross-validation may lack a class, and learning curves begin with few pictures.

    Raises:
        ValueError: All of them are.
    """
    fitted = classifier.fitted
    try:
        return fitted.class_names(y)
    except ValueError:
        truth = fitted.class_names(y, new=True)
        unknown = [name for name in truth if name not in fitted.classes]
        if len(unknown) == len(truth):
            raise
    warnings.warn(
        f"`y`: {len(unknown)} of {counted(len(truth), 'picture')} are of classes that the model was not fitted on, "
        f"{unknown[0]!r} say: it counts as wrong of them.",
        stacklevel=5,
    )
    return truth


def _of_data(classifier: Classifier, data: Any) -> float:
    with TemporaryDirectory(prefix="carrot-") as folder:
        found = held_out(classifier, data, Path(folder))
        logits = classifier.fitted.head.predict(found.cache.embed(found.places, classifier.fitted.setting))
    if found.set_aside or found.unknown:  # who reads one number would take it for one of all pictures
        warnings.warn(found.counts.line("scored", data if isinstance(data, str) else found.dataset.name), stacklevel=4)
    return float((logits.argmax(dim=1) == found.labels).double().mean())
