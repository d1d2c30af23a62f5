"""What a fitted model knows of its training pictures besides their embeddings, and how their tokens are found again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from carrot.data import ImageDataset
from carrot.data.inputs import content_sha256
from carrot.data.records import Record, Window
from carrot.errors import CarrotError

NOT_FOUND = "it could not be found"
CHANGED = "it is no longer the picture that the model was fitted on"
UNREADABLE = "its file can't be read"


@dataclass(frozen=True)
class TrainingRecord:
    """One training picture, as a fitted model remembers it.

    Attributes:
        id: Its name in the data set.
        label: Index of its class.
        sha256: Of its file, or of its pixels where it has none.
        path: Where its file was.
        row: Its row in the token cache that the model was fitted from; None: it was added later.
        weight: How much it counts, beside its class (``carrot.classifier.weighting``).
        window: Which part of the file it is; None: all of it.
    """

    id: str
    label: int
    sha256: str
    path: str | None = None
    row: int | None = None
    weight: float = 1.0
    window: Window | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as plain JSON; without a window where it is all of its file."""
        found = dict(vars(self))  # ten times as fast as ``asdict``, which copies what can't change
        window = found.pop("window")
        return found if window is None else {**found, "window": list(window)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "TrainingRecord":
        """Return the record that ``to_json`` wrote."""
        weight, window = float(found.get("weight", 1.0)), found.get("window")
        part = None if window is None else Window(*window)
        return cls(found["id"], int(found["label"]), found["sha256"], found.get("path"), found.get("row"), weight, part)


class PictureFinder:
    """Finds the picture of a training record: in the data set at hand, in its file, or in the data set opened anew.

    Args:
        dataset: The data set at hand, if there is one.
        reopen: Opens it again; None: it can't be.
    """

    def __init__(self, dataset: ImageDataset | None, reopen: Callable[[], ImageDataset] | None = None) -> None:
        self._dataset, self._reopen = dataset, reopen
        self._index: dict[str, int] = {}

    def __call__(self, record: TrainingRecord) -> Image.Image | str:
        """Return the picture as upright RGB, or in words why not: ``NOT_FOUND``, ``CHANGED`` or ``UNREADABLE``."""
        try:
            return self._find(record)
        except FileNotFoundError:
            return NOT_FOUND
        except (CarrotError, OSError):
            return UNREADABLE

    def _find(self, record: TrainingRecord) -> Image.Image | str:
        if record.path is not None and (self._dataset is None or record.id not in self._places()):
            from carrot._images import open_image

            probe = Record(record.id, record.label, "train", Path(record.path), window=record.window)
            if content_sha256(probe) != record.sha256:
                return CHANGED
            whole = open_image(record.path)
            return whole if record.window is None else record.window.of(whole, record.path)
        if self._dataset is None and self._reopen is not None:
            try:
                self._dataset = self._reopen()
            except (CarrotError, OSError):
                return NOT_FOUND
        if self._dataset is None or record.id not in self._places():
            return NOT_FOUND
        place = self._places()[record.id]
        found = self._dataset.records[place]
        image = None if found.has_bytes else self._dataset.image(place)
        if content_sha256(found, image) != record.sha256:
            return CHANGED
        return image or self._dataset.image(place)

    def _places(self) -> dict[str, int]:
        if not self._index and self._dataset is not None:
            self._index = {r.id: place for place, r in enumerate(self._dataset.records)}
        return self._index


def training_records(
    dataset: ImageDataset, rows: Sequence[int], sha256: Sequence[str], weights: Sequence[float]
) -> tuple[TrainingRecord, ...]:
    """Return records of the pictures at ``rows`` of a data set; ``sha256`` and ``weights`` are of all its pictures."""
    records = dataset.records
    return tuple(
        TrainingRecord(
            records[i].id,
            records[i].label,
            sha256[i],
            None if (path := records[i].path) is None else str(path.resolve()),
            i,
            weights[i],
            records[i].window,
        )
        for i in rows
    )
