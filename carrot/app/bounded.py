"""What was made once and may be asked for again: kept in memory, the longest unused thrown away first."""

from collections import OrderedDict
from threading import Lock


class Bounded:
    """Bytes by key, at most so many of them in all. Threads may share one.

    Args:
        most: Bytes.
    """

    def __init__(self, most: int) -> None:
        self._most, self._size, self._lock = most, 0, Lock()
        self._kept: OrderedDict[object, bytes] = OrderedDict()

    def get(self, key: object) -> bytes | None:
        """Return what is kept, if it still is."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: object, value: bytes) -> None:
        """Keep it; what has not been asked for longest goes."""
        with self._lock:
            self._size += len(value) - len(self._kept.pop(key, b""))
            self._kept[key] = value
            while self._size > self._most and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1])
