"""Records as columns: a million pictures are a few arrays, and a ``Record`` is made when one is asked for.

A ``Record`` of its own takes some 600 bytes, as a row of columns its name and 13 to 21 bytes. Columns are also what an
engine sends to its workers: pickled, they are their bytes.
"""

from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from carrot.data.records import Box, Columns, Record, Window


class _Made(Sequence[str]):
    """Names that are made when they are asked for."""

    @overload
    def __getitem__(self, place: int, /) -> str: ...
    @overload
    def __getitem__(self, place: slice, /) -> list[str]: ...
    def __getitem__(self, place: int | slice, /) -> str | list[str]:
        found = range(len(self))[place]
        return self._name(found) if isinstance(found, int) else [self._name(one) for one in found]

    @abstractmethod
    def _name(self, place: int) -> str:
        """Return one, counted from the first."""


class Names(_Made):
    """Names as one run of UTF-8 and where each of them ends.

    Args:
        names: The first of them.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("q")
        self.extend(names)

    @classmethod
    def joined(cls, parts: Iterable["Names"]) -> "Names":
        """Return the names of several, one after the other."""
        found = cls()
        for part in parts:
            ends = np.array(part._ends, np.int64) + len(found._bytes)
            found._ends.frombytes(ends.tobytes())
            found._bytes += part._bytes
        return found

    def append(self, name: str) -> None:
        """Add a name."""
        self._bytes += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def extend(self, names: Iterable[str]) -> None:
        """Add names."""
        for name in names:
            self.append(name)

    def __len__(self) -> int:
        return len(self._ends)

    def _name(self, place: int) -> str:
        start = self._ends[place - 1] if place else 0
        return self._bytes[start : self._ends[place]].decode("utf-8", "surrogatepass")


class Numbers(_Made):
    """Numbers as names, seven digits each."""

    def __init__(self, numbers: NDArray[np.integer[Any]]) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def _name(self, place: int) -> str:
        return f"{self._numbers[place]:07d}"


class Below(_Made):
    """Names below others: ``folders[place[i]] / names[row[i]]``.

    Args:
        folders: What is above.
        place: Which of them, for each name.
        names: What is below.
        row: Which of these, for each name.
    """

    def __init__(
        self,
        folders: Sequence[str],
        place: NDArray[np.integer[Any]],
        names: Sequence[str],
        row: NDArray[np.integer[Any]],
    ) -> None:
        self._folders, self._place, self._names, self._row = tuple(folders), place, names, row

    def __len__(self) -> int:
        return len(self._place)

    def _name(self, place: int) -> str:
        return f"{self._folders[self._place[place]]}/{self._names[int(self._row[place])]}"


class Records(Columns):
    """The records of a data set as columns.

    Args:
        ids: Their names.
        labels: Their classes.
        tested: Whether they are for testing.
        root: The folder that their files lie in, each by its name; None: they have none.
        content: Where they have no file: the bytes of one, by its place.
        boxes: (n, 4), the object's box in each, NaN where there is none; None: there are none.
        files: Instead of ``root``: the file of one, and which part of it is meant, by its place.
    """

    def __init__(
        self,
        ids: Sequence[str],
        labels: NDArray[np.integer[Any]],
        tested: NDArray[np.bool_],
        root: Path | None = None,
        content: Callable[[int], bytes] | None = None,
        boxes: NDArray[np.float64] | None = None,
        files: Callable[[int], tuple[Path | None, Window | None]] | None = None,
    ) -> None:
        self.ids, self.labels, self.tested = ids, labels, tested
        self._root, self._content, self._boxes, self._files = root, content, boxes, files

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, place: int) -> str:
        """Return the ``id`` of one."""
        return self.ids[place]

    def _record(self, place: int) -> Record:
        name, box = self.ids[place], None
        if self._boxes is not None and not np.isnan(self._boxes[place, 0]):
            box = Box(*self._boxes[place].tolist())
        path, window = (None if self._root is None else self._root / name), None
        if self._files is not None:
            path, window = self._files(place)
        return Record(
            name,
            int(self.labels[place]),
            "test" if self.tested[place] else "train",
            path,
            box=box,
            window=window,
            content=None if self._content is None else _Content(self._content, place),
        )


class _Content:
    """What reads the bytes of one record; it is pickled with its data set."""

    __slots__ = ("_place", "_read")

    def __init__(self, read: Callable[[int], bytes], place: int) -> None:
        self._read, self._place = read, place

    def __call__(self) -> bytes:
        return self._read(self._place)


def every_nth(label: NDArray[np.integer[Any]], used: NDArray[np.bool_], every: int) -> NDArray[np.intp]:
    """Return the places of every so many pictures of each class, in their order, of those that are used."""
    rows = np.flatnonzero(used)
    order = rows[np.argsort(label[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(label[order], prepend=-1))
    within = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return order[within % every == every - 1]
