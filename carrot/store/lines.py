"""A file of JSON lines as a sequence: mapped, each parsed when it is asked for; 8 bytes a line say where it is."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

PIECE = 2**24  # bytes that are looked through for ends of lines at once
END = ord("\n")


class Lines(Sequence[dict[str, Any]]):
    """The objects of a file, one a line.

    The file must stay as it is; it may be deleted.

    Args:
        data: Its bytes.
    """

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data = data

    @classmethod
    def of(cls, path: Path) -> "Lines":
        """Return those of a file.

        Raises:
            ValueError: Its last line is not ended, or it begins with no JSON object.
            OSError: It can't be read.
        """
        data = np.memmap(path, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint8)
        if len(data) and data[-1] != END:
            raise ValueError(f"{path.name}: its last line has no end")
        return cls(data)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        found = [np.zeros(0, dtype=np.int64)]
        for start in range(0, len(self._data), PIECE):
            found.append(np.flatnonzero(self._data[start : start + PIECE] == END) + start)
        return np.concatenate(found)

    def line(self, place: int) -> bytes:
        """Return one line, without its end."""
        start = int(self._ends[place - 1]) + 1 if place else 0
        return bytes(self._data[start : int(self._ends[place])])

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return one object, or some.

        Raises:
            IndexError: There is no such line.
        """
        chosen = range(len(self))[place]
        if isinstance(chosen, range):
            return [self[i] for i in chosen]
        return dict(json.loads(self.line(chosen)))
