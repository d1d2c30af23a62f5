"""Training records in constant memory: lines of a file, parsed when they are asked for; and where each id is."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from carrot.classifier.records import TrainingRecord
from carrot.store.lines import Lines


class RememberedRecords(Sequence[TrainingRecord]):
    """The training records of a model's folder, or some of them, with other labels perhaps, and others after them.

    It holds 16 bytes a picture, and pages of the file that the system may drop.

    Args:
        lines: The lines of the file.
        rows: Which of them, in this order; None: all.
        labels: Of these; None: as the file has them.
        more: Those after them.
    """

    def __init__(
        self,
        lines: Lines,
        rows: NDArray[np.int64] | None = None,
        labels: NDArray[np.int64] | None = None,
        more: tuple[TrainingRecord, ...] = (),
    ) -> None:
        self._lines, self._rows, self._labels, self._more = lines, rows, labels, more
        self._count = len(lines) if rows is None else len(rows)

    def __len__(self) -> int:
        return self._count + len(self._more)

    def __iter__(self) -> Iterator[TrainingRecord]:
        return (self[place] for place in range(len(self)))

    @overload
    def __getitem__(self, place: int) -> TrainingRecord: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[TrainingRecord, ...]: ...
    def __getitem__(self, place: int | slice) -> TrainingRecord | tuple[TrainingRecord, ...]:
        chosen = range(len(self))[place]
        if isinstance(chosen, range):
            return tuple(self[i] for i in chosen)
        if chosen >= self._count:
            return self._more[chosen - self._count]
        found = TrainingRecord.from_json(self._lines[self._row(chosen)])
        return found if self._labels is None else replace(found, label=int(self._labels[chosen]))

    def __eq__(self, other: object) -> bool:
        """Whether another sequence holds the same records."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(other) == len(self) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as of a list: what it is equal to can't be told cheaply

    def __repr__(self) -> str:
        return f"<{len(self)} training records>"

    def _row(self, place: int) -> int:
        return place if self._rows is None else int(self._rows[place])

    def at(
        self, rows: Sequence[int], labels: Sequence[int], more: Sequence[TrainingRecord] = ()
    ) -> Sequence[TrainingRecord]:
        """Return some of them, labelled so, and others after them."""
        if self._more:  # few were added since the file was written, or many: they are in memory
            return with_labels(tuple(self), rows, labels, more)
        chosen = np.asarray(rows, dtype=np.int64)
        places = chosen if self._rows is None else self._rows[chosen]
        return RememberedRecords(self._lines, places, np.asarray(labels, dtype=np.int64), tuple(more))

    def written(self) -> Iterator[bytes]:
        """Yield the line of each, as a model's folder has it."""
        for place in range(self._count):
            line = self._lines.line(self._row(place))
            if self._labels is not None and json.loads(line)["label"] != self._labels[place]:
                line = as_line(self[place])
            yield line
        yield from map(as_line, self._more)

    def ids(self) -> Iterator[str]:
        """Yield the id of each."""
        for place in range(self._count):
            yield str(self._lines[self._row(place)]["id"])
        for record in self._more:
            yield record.id


class Places(Mapping[str, int]):
    """The row of each id, in 16 bytes a picture: of the hash of each, in order, where it is; its record is then asked.

    Args:
        records: Whose ids.
    """

    def __init__(self, records: Sequence[TrainingRecord]) -> None:
        self._records = records
        hashes = np.fromiter(map(hash, ids_of(records)), dtype=np.int64, count=len(records))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def __getitem__(self, name: str) -> int:
        first, last = (int(np.searchsorted(self._hashes, hash(name), side)) for side in ("left", "right"))
        for row in reversed(self._order[first:last].tolist()):  # of several of one id the last, as a dictionary has it
            if self._records[row].id == name:
                return int(row)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return ids_of(self._records)

    def __len__(self) -> int:
        return len(self._records)


def ids_of(records: Sequence[TrainingRecord]) -> Iterator[str]:
    """Yield the id of each of some records."""
    return records.ids() if isinstance(records, RememberedRecords) else (record.id for record in records)


def contents_of(records: Sequence[TrainingRecord]) -> Iterator[str]:
    """Yield the SHA-256 of each of some records."""
    return (record.sha256 for record in records)


def lines_of(records: Sequence[TrainingRecord]) -> Iterator[bytes]:
    """Yield the line of each of some records, as a model's folder has it."""
    return records.written() if isinstance(records, RememberedRecords) else map(as_line, records)


def as_line(record: TrainingRecord) -> bytes:
    """Return a record as a model's folder has it."""
    return json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False).encode()


def with_labels(
    records: Sequence[TrainingRecord],
    rows: Sequence[int],
    labels: Sequence[int],
    more: Sequence[TrainingRecord] = (),
) -> Sequence[TrainingRecord]:
    """Return some records, labelled so, and others after them; those of a file stay there."""
    if isinstance(records, RememberedRecords):
        return records.at(rows, labels, more)
    return (*(replace(records[row], label=label) for row, label in zip(rows, labels, strict=True)), *more)
