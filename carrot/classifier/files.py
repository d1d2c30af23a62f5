"""A fitted model to and from a folder: which parts of it are kept, and what is checked when they come back."""

import hashlib
from pathlib import Path
from typing import Any

from carrot._ridge.rows import Given
from carrot._vit.base import TimmBackbone
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.classifier.remembered import RememberedRecords, lines_of
from carrot.embedding.encoder import Encoder
from carrot.embedding.kept import KeptTokens
from carrot.embedding.setting import Setting
from carrot.errors import ModelError
from carrot.head import RidgeHead
from carrot.store.bundle import ROWS, load_bundle, save_bundle
from carrot.store.files import locked
from carrot.store.layout import CONFIG, refuse_other_folder


def save(folder: Path, classifier: Classifier, seen: str | None = None) -> str:
    """Write a model; see ``Carrot.save``. Return its ``seal``.

    Args:
        folder: Where.
        classifier: The model.
        seen: Seal of the model that is there, as far as the writer knows; None: whatever is there is replaced.
    """
    import carrot

    encoder, fitted = classifier.encoder, classifier.fitted
    head, kept = fitted.head, fitted.kept
    tokens = None
    if kept is not None:
        tokens = kept.to_json(folder.resolve())
    config = {
        "carrot": carrot.__version__,
        "encoder": encoder.to_json(),
        "sha256": classifier.sha256,
        "embedding": fitted.setting.to_dict(),
        "ridge": {
            "lam": head.lam,
            "fit_intercept": head.fit_intercept,
            "asked_lam": fitted.asked_lam,
            "class_weight": fitted.class_weight,
            "penalties": list(fitted.penalties),
        },
        "calibration": {"temperature": fitted.temperature},
        "names": list(fitted.classes),
        "label_kind": fitted.label_kind,
        "trained_on": {"data": fitted.data, "pictures": len(fitted.records), "set_aside": dict(fitted.set_aside)},
        "leave_one_out": fitted.leave_one_out(),
        "selection": [dict(line) for line in fitted.selection],
        "tokens": tokens,
    }
    refuse_other_folder(folder)
    with locked(folder):
        if seen is not None and seal(folder) not in (None, seen):
            raise ModelError(
                f"{folder}: the model there was changed since this one was read from it or saved to it, by another "
                "program or thread. Load it again and change that, save elsewhere, or replace it: overwrite=True."
            )
        save_bundle(folder, config, head.state(), lines_of(fitted.records))
        return seal(folder) or ""


def seal(folder: Path) -> str | None:
    """Return what tells one state of a model's folder from another; None: there is none."""
    path = folder / CONFIG
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def load(
    folder: Path,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    backbone: TimmBackbone | None = None,
) -> Classifier:
    """Read a model; see ``Carrot.load``."""
    Encoder.require_device(device)
    bundle = load_bundle(folder)
    config: dict[str, Any] = bundle.config
    state: dict[str, Given] = {**bundle.tensors, **({ROWS: bundle.open_rows} if bundle.open_rows else {})}
    try:
        ridge, tokens, setting = config["ridge"], config["tokens"], Setting(**config["embedding"])
        encoder = Encoder.from_json(config["encoder"], setting, checkpoint, device, backbone)
        kept = None
        if tokens is not None:
            kept = KeptTokens.from_json(tokens, folder.resolve())
        fitted = Fitted(
            head=RidgeHead.from_state(state, ridge["lam"], ridge["fit_intercept"]),
            setting=setting,
            classes=tuple(config["names"]),
            records=RememberedRecords(bundle.records),
            temperature=float(config["calibration"]["temperature"]),
            set_aside=dict(config["trained_on"]["set_aside"]),
            selection=tuple(config["selection"]),
            kept=kept,
            data=config["trained_on"]["data"],
            label_kind=config.get("label_kind", "name"),
            class_weight=ridge.get("class_weight"),
            asked_lam=ridge.get("asked_lam", ridge["lam"]),
            penalties=tuple(map(float, ridge.get("penalties", ()))),
            figures={name: float(value) for name, value in config["leave_one_out"].items()},
        )
        fitted.labels_of(fitted.classes)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder}: its files are whole, but are not those of a model that this CARROT reads: {error}."
        ) from error
    n, C = len(fitted.head.labels), len(fitted.head.bias)
    if (n, C) != (len(fitted.records), len(fitted.classes)):
        raise ModelError(
            f"{folder}: tensors of {n} pictures and {C} classes, records of {len(fitted.records)} and "
            f"{len(fitted.classes)}."
        )
    return Classifier(encoder, fitted)
