"""What readers of shards have in common: from columns of labels and splits to classes, sides and records.

All of it is arithmetic on arrays, so that a million pictures take as many objects as there are classes and shards, and
what is set aside.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carrot._images import decode_image
from carrot._progress import progress
from carrot.data import splits
from carrot.data.addresses import Ranges, mark_of, public
from carrot.data.columns import Below, Records, every_nth
from carrot.data.records import Record
from carrot.data.reporting import NO_LABEL, UNLABELLED, told_apart, untrained, warn_of_skipped, warn_of_twins
from carrot.data.tables import natural
from carrot.errors import DataError, UnreadableImageError

EVERY = 5
_READERS = 4  # threads; hashing lets go of the interpreter


class Table(NamedTuple):
    """Rows of pictures, in the order of their shards.

    Attributes:
        shard: Which shard each is in.
        names: What each is called there.
        label: Its place in ``labels``; -1: it has none.
        labels: The labels that occur, as text.
        side: Its place in ``sides``; -1: it says none.
        sides: The names of splits that occur.
        declared: The names of the classes, where the data set has them: a label is then the number of one.
        aside: What was set aside before, the reason by id.
    """

    shard: NDArray[np.int32]
    names: Sequence[str]
    label: NDArray[np.int32]
    labels: Sequence[str]
    side: NDArray[np.int8]
    sides: Sequence[str]
    declared: Sequence[str] | None
    aside: dict[str, str]


class Sharded(ABC):
    """A data set of shards; subclasses give ``content``.

    Args:
        spec: How it is written.
        name: What it is called.
        places: The paths or addresses of its shards.
        shards: What these are called.
        table: Their pictures.
        for_testing: The pictures are only to be tested on: one class is enough, and no shard need be for training.

    Attributes:
        name: The data set's.
        classes: The names that it declares, or the labels of the training pictures, sorted naturally.
        records: Training pictures, then test pictures, in the order of shards and of pictures in them.
        skipped: What was set aside, the reason by ``id``.
        split_is_own: Whether shards, or pictures, say what they are for; False: every fifth of a class is for testing.

    Raises:
        DataError: There is no picture, fewer than two classes, or a declared class without training pictures.
    """

    def __init__(
        self, spec: str, name: str, places: Sequence[str], shards: Sequence[str], table: Table, for_testing: bool
    ) -> None:
        self.name, self._spec = name, spec
        self._places, self._shards = tuple(places), tuple(shards)
        self.skipped: dict[str, str] = dict(table.aside)
        self._ranges = Ranges()
        side, self.split_is_own = _sided(spec, shards, table, self.skipped, for_testing)
        label, self.classes = _labelled(spec, table, side, for_testing)
        ids = Below(shards, table.shard, table.names, np.arange(len(table.shard)))
        reasons: dict[int, str] = {}
        for row in np.flatnonzero((label < 0) & (side >= 0)).tolist():
            code = int(table.label[row])
            if code not in reasons:
                reasons[code] = NO_LABEL if code < 0 else self._no_class(table, code)
            self.skipped[ids[row]] = reasons[code]
        used = (label >= 0) & (side >= 0)
        if not self.split_is_own:
            side[every_nth(label, used, EVERY)] = 1
        if not used.any():
            left_out = next(
                (f" {len(self.skipped)} are left out; the first: {why}." for why in self.skipped.values()), ""
            )
            raise DataError(f"{public(spec)}: has no labelled picture.{left_out}")
        rows = np.concatenate([np.flatnonzero(used & (side == which)) for which in (0, 1)])
        self._require_trained(label[used & (side == 0)], table, for_testing)
        self._row = rows.astype(np.int32)
        held = Below(shards, table.shard[rows], table.names, self._row)
        self._shard = table.shard[rows]
        self.records: Sequence[Record] = Records(held, label[rows], side[rows] == 1, content=self.content)
        warn_of_skipped(public(spec), self.skipped)
        warn_of_twins(self.classes, public(spec))

    @abstractmethod
    def content(self, index: int) -> bytes:
        """Return the bytes of picture ``index``, as its file would have them.

        Raises:
            UnreadableImageError: They can't be read.
        """

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: It can't be read or decoded.
        """
        name = self._called(index)
        try:
            return decode_image(self.content(index), name)
        except UnreadableImageError as error:
            raise UnreadableImageError(str(error), name) from error

    def contents(self) -> dict[str, str]:
        """Return what the contents of each shard are known by: a shard that was replaced has another.

        Of files the SHA-256, which reads all of them once; of addresses what the other side says, and nothing is
        fetched.

        Raises:
            DataError: A shard can't be read.
        """
        pool = ThreadPoolExecutor(_READERS)
        try:
            each = progress(
                pool.map(_mark, self._places), f"reading {self.name}", len(self._places), "shards", brief=True
            )
            return dict(zip(self._shards, each, strict=True))
        finally:
            pool.shutdown(cancel_futures=True)

    def _called(self, index: int) -> str:
        return f"{self.name}, {self.records[index].id}"

    def _no_class(self, table: Table, code: int) -> str:
        found = table.labels[code]
        if table.declared is None:
            return untrained(found, self.classes)
        return f"its label {found} is none of the {len(table.declared)} classes"

    def _require_trained(self, trained: NDArray[np.int32], table: Table, for_testing: bool) -> None:
        if for_testing:
            return
        absent = np.setdiff1d(np.arange(len(self.classes)), trained)
        reasons = [f" {len(self.skipped)} are left out; the first: {reason}." for reason in self.skipped.values()][:1]
        if len(absent):
            raise DataError(
                f"{public(self._spec)}: has no training picture of {self.classes[absent[0]]} ({len(absent)} such "
                f"classes). Leave out the classes that have none, or add pictures.{''.join(reasons)}"
            )
        if len(self.classes) < 2:
            raise DataError(
                f"{public(self._spec)}: needs training pictures of at least two classes; got {list(self.classes)}. "
                f"Add some.{''.join(reasons)}"
            )


def _mark(place: str) -> str:
    try:
        return mark_of(place)
    except OSError as error:
        raise DataError(f"{public(place)}: can't be read: {error}. Make it readable, or leave it out.") from error


def _sided(
    spec: str, shards: Sequence[str], table: Table, skipped: dict[str, str], for_testing: bool
) -> tuple[NDArray[np.int8], bool]:
    """Return what each row is for (0: training, 1: testing, -1: set aside), and whether the data set says so."""
    place_of = {name: place for place, name in enumerate(table.sides) if (table.side == place).any()}
    if not place_of:
        return np.zeros(len(table.side), np.int8), False
    train, tests, _ = splits.sides(place_of, public(spec))
    if train is None:
        if not for_testing:
            raise DataError(
                f"{public(spec)}: has no shards for training; got {', '.join(place_of)}. Name some train-..., or give "
                f"all shards. Known are {splits.known()}."
            )
        tests = tuple(sorted(place_of, key=lambda name: splits.TESTING.index(str(splits.kind_of(name)))))
    found, tested = np.full(len(table.side), -1, np.int8), None
    if train is not None:
        found[table.side == place_of[train]] = 0
    for name in tests:
        here = table.side == place_of[name]
        if tested is not None:
            skipped[name] = f"a split beside a {tested} split"
        elif not (table.label[here] >= 0).any():
            skipped[name] = UNLABELLED
        else:
            found[here], tested = 1, name
    skipped |= dict.fromkeys((name for name in place_of if name not in (train, *tests)), "a split that is not used")
    for shard in np.unique(table.shard[table.side < 0]).tolist():
        skipped[shards[shard]] = "says no split, beside others that do"
    return found, tested is not None


def _labelled(
    spec: str, table: Table, side: NDArray[np.int8], for_testing: bool
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the class of each row, -1 for none, and the names of the classes."""
    trained = side >= 0 if for_testing else side == 0
    if table.declared is not None:
        classes = told_apart(table.declared, public(spec))
        place: dict[str, int] = {str(number): number for number in range(len(classes))}
    else:
        codes = np.unique(table.label[trained])
        classes = tuple(sorted((table.labels[code] for code in codes.tolist() if code >= 0), key=natural))
        place = {name: number for number, name in enumerate(classes)}
    of = np.array([*(place.get(name, -1) for name in table.labels), -1], np.int32)
    return of[table.label], classes
