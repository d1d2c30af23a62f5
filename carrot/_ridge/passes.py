"""Passes over the training rows: what one finds is added up, or listed, in one order, whoever goes over them.

Rows are cut into groups that depend on their number and width alone; a group is folded block by block, from nothing,
and groups are joined in their order, here:

::

    total = (..((group_1 + group_2) + group_3) + ..)       group = (..((0 + block_1) + block_2) + ..)             (1)

So a sum's last bit doesn't know whether this process did all groups or workers did them in any order, some of them
twice: products of float64 don't depend on the number of threads (``tests/unit/test_passes.py`` holds that to the
machine it runs on). Where the engine of now (``carrot.engine.current``) has workers, and it is known how the rows are
opened where they lie, a worker opens them itself; what goes back is what a group came to.

Moments are D^2 numbers a group. Beyond ``WIDE`` features they would be over 128 MiB each, and a second sum of them is
dear: all rows are one group then, and done here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from carrot._ambient import pinned
from carrot.engine import HERE, current
from carrot.errors import EngineError

if TYPE_CHECKING:
    from carrot._ridge.rows import Rows

GROUP = 1 << 15  # rows
WIDE = 4096  # features
Found = TypeVar("Found")


def groups(n: int, D: int) -> list[slice]:
    """Return the groups of n rows of width D."""
    step = GROUP if D <= WIDE else n
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def found(rows: "Rows", work: Callable[["Rows", int], Found]) -> Iterator[tuple[slice, Found]]:
    """Yield each group of rows, and what some work comes to for it, in order: here, or by the engine of now.

    Args:
        rows: All.
        work: A function of the rows of a group, and the number of its first; where there are workers, it is sent to
            them.

    Raises:
        EngineError: The engine gave up, or a worker can't open the rows, or opened others.
    """
    parts, engine = groups(*rows.G.shape), current()
    if rows.open is None or engine is HERE or len(parts) == 1:
        for part in parts:
            yield part, work(rows.group(part), part.start)
        return
    rest = rows._replace(G=rows.G[:0], open=None)
    job, items = _Job(rows.open, rest, tuple(rows.G.shape), work), [(part.start, part.stop) for part in parts]
    waiting, done = dict[tuple[int, int], Found](), 0
    for item, result in engine.map(job, items):
        if item in items[done:]:  # one that is done again came to the same
            waiting[item] = result
        while done < len(parts) and items[done] in waiting:
            yield parts[done], waiting.pop(items[done])
            done += 1
    if done < len(parts):
        raise EngineError(f"The engine ended after {done} of {len(parts)} groups of rows. Start it again.")


def added(rows: "Rows", work: Callable[["Rows", int], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Return the sums over all groups of what some work comes to: equation (1)."""
    total: tuple[Tensor, ...] | None = None
    for _, part in found(rows, work):
        total = part if total is None else tuple(a.add_(b) for a, b in zip(total, part, strict=True))
    if total is None:
        raise ValueError("There must be at least one row; got none.")
    return total


@dataclass(eq=False)
class _Job:
    """Some work for the groups that a worker is given; rows are opened once."""

    open: Callable[[], Tensor]
    rows: "Rows"  # without G
    shape: tuple[int, ...]
    work: Callable[["Rows", int], Any]
    _G: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_G": None}

    @pinned()
    def __call__(self, part: tuple[int, int]) -> Any:
        if self._G is None:
            try:
                self._G = self.open()
            except OSError as error:
                raise EngineError(
                    f"A worker can't open the training rows: {error}. Every node must see the model's folder at that "
                    "path; if the model was saved anew meanwhile, load it again."
                ) from error
        if tuple(self._G.shape) != self.shape:
            raise EngineError(
                f"A worker opened rows {tuple(self._G.shape)}, where `G` has {self.shape}. Every node must see "
                "one folder at that path."
            )
        return self.work(self.rows._replace(G=self._G).group(slice(*part)), part[0])
