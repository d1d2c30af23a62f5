"""Whether a model is still that of its data set: which training pictures changed, are new or are gone since its fit."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from carrot._progress import progress
from carrot.classifier.fitted import Fitted
from carrot.data import ImageDataset, split_indices
from carrot.data.inputs import content_sha256
from carrot.errors import UnreadableImageError


@dataclass(frozen=True)
class Changes:
    """What differs between a data set's training pictures and those that a model was fitted on, by id.

    Attributes:
        changed: Of other content, or of another class.
        new: Not there when it was fitted.
        gone: No longer among the training pictures.
    """

    changed: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.new or self.gone)

    def __str__(self) -> str:
        """Return it as text: "1 changed (a/3.png), 2 new (a/7.png, a/8.png)"."""
        kinds = (("changed", self.changed), ("new", self.new), ("gone", self.gone))
        return ", ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds if names)

    @classmethod
    def of(cls, fitted: Fitted, dataset: ImageDataset, edited: Collection[str] = ()) -> "Changes":
        """Compare a model with its data set as it is now. Only contents count, not the times of files.

        Args:
            fitted: The model.
            dataset: What it was fitted on.
            edited: Ids of pictures that the model was changed in on purpose (``edited_ids``): how they differ is no
                change of the data.
        """
        known = {record.id: record for record in fitted.records}
        train = {dataset.records[i].id: i for i in split_indices(dataset, "train")}
        changed, new = [], []
        each = progress(train.items(), f"comparing {dataset.name} with the model", len(train), "files", brief=True)
        for name, i in each:
            if name in known:
                same = _content(dataset, i) == known[name].sha256
                label = dataset.classes[dataset.records[i].label]
                if not same or (label != fitted.classes[known[name].label] and name not in edited):
                    changed.append(name)
            elif name in fitted.set_aside:
                changed += [name] if _content(dataset, i, opened=True) is not None else []
            elif name not in edited:
                new.append(name)
        gone = [record.id for record in fitted.records if record.row is not None and record.id not in train]
        return cls(tuple(changed), tuple(new), tuple(gone))


def edited_ids(model: Path) -> set[str]:
    """Return the ids of the pictures that the certificates in a model's folder say were forgotten or relabelled."""
    found: set[str] = set()
    for path in (model / "certificates").glob("*.json"):
        certificate = json.loads(path.read_bytes())
        for kind in ("forgotten", "relabelled"):
            found |= {picture["id"] for picture in certificate.get(kind, ())}
    return found


def _content(dataset: ImageDataset, index: int, opened: bool = False) -> str | None:
    """Return the SHA-256 of a picture's content; None: it can't be read. ``opened``: it must also decode."""
    record = dataset.records[index]
    try:
        image = dataset.image(index) if opened or not record.has_bytes else None
        return content_sha256(record, image)
    except (OSError, UnreadableImageError):
        return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)
