"""Where work on many shards or blocks is done: in this process, or by workers of an engine that exists.

A job is a function of one item that is built once for each worker, and keeps what is dear (a backbone) between items.
Items are done in any order, and may be done twice where a worker was lost: so a job's result must depend on its item
alone, and what it writes must be the same bytes whoever writes it. What is added up is added by the caller, in the
order of the items: then the sum doesn't know how many workers there were.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")
Result = TypeVar("Result")


@runtime_checkable
class Engine(Protocol):
    """Something that does a job for many items.

    Attributes:
        workers: How many work at a time.
    """

    workers: int

    def map(self, job: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """Yield each item with its result, as they come.

        Args:
            job: What is done; sent to each worker once, by whatever way the engine sends objects.
            items: What it is done for.

        Raises:
            EngineError: A worker was lost more often than it is retried, or none could be started.
            Exception: What ``job`` raised: an error of the package as itself.
        """
        ...


class Here:
    """One item after the other, in this process."""

    workers = 1

    def map(self, job: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """Yield each item with its result, in order."""
        return ((item, job(item)) for item in items)
