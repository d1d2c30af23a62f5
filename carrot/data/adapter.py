"""What another library's data sets have in common: parts with labels, and pictures by index, as CARROT's records."""

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from carrot._images import upright_rgb
from carrot.data.columns import Below, Numbers, Records
from carrot.data.records import Record, Split, labels_of, tested_of
from carrot.data.reporting import told_apart
from carrot.errors import DataError, UnreadableImageError

_EVERY = 5


class Part(NamedTuple):
    """One of the other library's data sets; ``split`` None: every fifth picture of each class is for testing."""

    name: str
    data: Any
    labels: Sequence[int | str]  # the class, or why there is none
    split: Split | None


class Adapter:
    """What the adapters have in common; ``key`` is what an item's picture is found by."""

    def __init__(self, spec: str, name: str, classes: Sequence[str], parts: Sequence[Part], key: int | str) -> None:
        self.name, self._spec, self._key = name, spec, key
        self.classes = told_apart(classes, spec)
        self.skipped: dict[str, str] = {}
        self._data = [part.data for part in parts]
        self.split_is_own = all(part.split is not None for part in parts)
        rows, labels, tested = [array("q") for _ in parts], array("i"), array("b")
        for place, part in enumerate(parts):
            seen = [0] * len(self.classes)
            for number, label in enumerate(part.labels):
                if isinstance(label, str):
                    self.skipped[f"{part.name}/{number:07d}"] = label
                    continue
                seen[label] += 1
                split: Split = part.split or ("train" if seen[label] % _EVERY else "test")
                rows[place].append(number)
                labels.append(label)
                tested.append(split == "test")
        self._part = np.repeat(np.arange(len(parts), dtype=np.int32), [len(found) for found in rows])
        self._number = np.concatenate([np.zeros(0, np.int64), *(np.array(found, np.int64) for found in rows)])
        ids = Below([part.name for part in parts], self._part, Numbers(self._number), np.arange(len(self._part)))
        self.records: Sequence[Record] = Records(ids, np.array(labels, np.int32), np.array(tested, np.bool_))
        trained = set(np.unique(labels_of(self.records)[~tested_of(self.records)]).tolist())
        absent = [name for label, name in enumerate(self.classes) if label not in trained]
        if (absent or not trained) and any(part.split != "test" for part in parts):
            which = f"{absent[0]} ({len(absent)} such classes)" if absent else "any class"
            reasons = [f" {len(self.skipped)} are left out; the first: {reason}." for reason in self.skipped.values()]
            raise DataError(
                f"{spec}: has no training picture of {which}. Leave out the classes that have none, or add pictures."
                + "".join(reasons[:1])
            )

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The picture is missing, or can't be decoded.
            DataError: The other library gives no PIL picture.
        """
        place, number = int(self._part[index]), int(self._number[index])
        where = f"{self._spec}, {self.records[index].id}"
        try:
            picture = self._data[place][number][self._key]
        except Exception as error:  # whatever the other library, or its decoder, raises on damaged data
            raise UnreadableImageError(
                f"{where}: can't be read as a picture: {error or type(error).__name__}.", where
            ) from error
        if picture is None:
            raise UnreadableImageError(f"{where}: can't be read as a picture: there is none.", where)
        if not isinstance(picture, Image.Image):
            raise DataError(
                f"{where}: must be a PIL picture; got {type(picture).__name__}. Open a data set of pictures."
            )
        return upright_rgb(picture, where)
