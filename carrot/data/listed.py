"""The lines of a table as columns: which picture, which label, for training or for testing, and which box."""

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from carrot.data import splits
from carrot.data.columns import Names, Records, every_nth
from carrot.data.csv_table import Line, read_lines
from carrot.data.reporting import NO_LABEL, untrained
from carrot.data.tables import natural
from carrot.errors import DataError

_SHOWN = 3


class Seen(NamedTuple):
    """What there is of a line's picture.

    Attributes:
        where: What two lines of one picture have in common: where its file lies, links followed.
        unread: Why it isn't read; "": it is.
    """

    where: str
    unread: str


class Missing(NamedTuple):
    """Lines whose pictures are not there: how many, and the first of them."""

    n: int
    first: tuple[Line, ...]


class Listed:
    """A table that has been read.

    Args:
        table: Its path or address.
        look: What there is of a line's picture; None: nothing.

    Attributes:
        missing: The lines whose pictures are not there.
        has_split: Whether there is a column of splits.

    Raises:
        DataError: A line is malformed, lists a picture twice, or has a split that isn't known; there are no lines.
    """

    def __init__(self, table: Path | str, look: Callable[[Line], Seen | None]) -> None:
        self._names, self._label, self._split = Names(), array("i"), array("i")
        self._labels, self._splits = dict[str, int](), dict[str, int]()
        self._boxes = array("d")
        self._unread: dict[int, str] = {}
        keys, count, first, unknown = array("q"), 0, list[Line](), ""
        for line in read_lines(table):
            seen = look(line)
            if seen is None:
                count += 1
                first += [line] if count <= _SHOWN else []
                continue
            if seen.unread:
                self._unread[len(keys)] = seen.unread
            keys.append(hash(seen.where))
            self._names.append(line.image)
            self._label.append(self._labels.setdefault(line.label, len(self._labels)) if line.label else -1)
            if line.split is not None:
                if line.split not in self._splits and splits.kind_of(line.split) is None and not unknown:
                    unknown = f"{line.where}: the split must be train, test or val; got {line.split!r}"
                self._split.append(self._splits.setdefault(line.split, len(self._splits)))
            if line.box is not None:  # of those before, which have none, it is NaN
                self._boxes.extend([np.nan] * (4 * (len(keys) - 1) - len(self._boxes)))
                self._boxes.extend(line.box)
        self.missing = Missing(count, tuple(first))
        self.has_split = bool(self._splits)
        if not keys and not count:
            raise DataError(f"{table}: lists no pictures. Add one line for each.")
        _refuse_twice(table, look, np.array(keys, np.int64))
        if unknown and not count:
            raise DataError(f"{unknown}. Known are {splits.known()}.")

    def sides(self, test_every: int | None, skipped: dict[str, str]) -> NDArray[np.int8]:
        """Return what each line is for: 0 training, 1 testing, -1 nothing, which is added to ``skipped``."""
        label = np.array(self._label, np.int32)
        kinds = [splits.kind_of(name) for name in self._splits]
        split = np.array(self._split, np.int32) if self.has_split else np.full(len(label), -1, np.int32)
        present = {kinds[code] for code in np.unique(split[label >= 0]).tolist() if code >= 0}
        tested = next((kind for kind in splits.TESTING if kind in present), None)
        of = [0 if kind in splits.TRAINING else 1 if kind == tested else -1 for kind in kinds]
        side = np.array([*of, 0], np.int8)[split]  # -1, no split, is the last
        unused = side < 0
        side[label < 0] = -1
        side[list(self._unread)] = -1
        written = list(self._splits)
        for place in np.flatnonzero(side < 0).tolist():
            reason = self._unread.get(place) or ("" if label[place] >= 0 else NO_LABEL)
            beside = f"split {written[split[place]]!r}, beside a {tested} split" if unused[place] else ""
            skipped[self._names[place]] = reason or beside
        if not self.has_split and test_every is not None:
            side[every_nth(label, side >= 0, test_every)] = 1
        return side

    def records(
        self,
        side: NDArray[np.int8],
        for_testing: bool,
        skipped: dict[str, str],
        root: Path | None = None,
        content: Callable[[int], bytes] | None = None,
    ) -> tuple[tuple[str, ...], Records]:
        """Return the classes, those of the training pictures, and the records; test pictures of others are skipped."""
        label, names = np.array(self._label, np.int32), list(self._labels)
        codes = np.unique(label[side >= 0 if for_testing else side == 0]).tolist()
        classes = tuple(sorted((names[code] for code in codes), key=natural))
        place_of = {name: place for place, name in enumerate(classes)}
        own = np.array([*(place_of.get(name, -1) for name in names), -1], np.int32)[label]
        reasons: dict[int, str] = {}
        for place in np.flatnonzero((side >= 0) & (own < 0)).tolist():
            code = int(label[place])
            if code not in reasons:
                reasons[code] = untrained(names[code], classes)
            skipped[self._names[place]] = reasons[code]
        rows = np.flatnonzero((side >= 0) & (own >= 0))
        ids = self._names if len(rows) == len(self._names) else Names(self._names[row] for row in rows.tolist())
        boxes = None
        if self._boxes:
            boxes = np.full((len(label), 4), np.nan)
            boxes.reshape(-1)[: len(self._boxes)] = self._boxes
        held = None if boxes is None else boxes[rows]
        return classes, Records(ids, own[rows], side[rows] == 1, root, content, held)


def _refuse_twice(table: Path | str, look: Callable[[Line], Seen | None], keys: NDArray[np.int64]) -> None:
    """Refuse a picture that is listed twice: keys say whether any may be, and a second look at the table which."""
    found, counts = np.unique(keys, return_counts=True)
    twice = set(found[counts > 1].tolist())
    first: dict[str, Line] = {}
    for line in read_lines(table) if twice else ():
        seen = look(line)
        if seen is None or hash(seen.where) not in twice:
            continue
        before = first.setdefault(seen.where, line)
        if before is not line:
            same = "" if before.image == line.image else f", as {before.image}"
            raise DataError(
                f"{line.where}: {line.image} is listed a second time; the first: {before.where}{same}. Remove one."
            )
