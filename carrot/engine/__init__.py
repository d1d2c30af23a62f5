"""Where work on many shards or blocks is done: in this process, or by workers of an engine that exists.

A job is a function of one item that is built once for each worker, and keeps what is dear (a backbone) between items.
Items are done in any order, and may be done twice where a worker was lost: so a job's result must depend on its item
alone, and what it writes must be the same bytes whoever writes it. What is added up is added by the caller, in the
order of the items: then the sum doesn't know how many workers there were.

A job may have two more methods. ``each(items)`` does several items in turn, where that is quicker than one by one: the
next picture is decoded meanwhile. ``arrive()`` is called once in a worker of another process, before its first item:
what must be the same there is compared.

Which engine works is told around a block, as joblib's backends are; results are the same bytes under any::

    with carrot.engine.use("ray", workers=8):
        model.fit("my_pictures", tokens="my_tokens")
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar, runtime_checkable
from urllib.parse import urlsplit

from carrot._display.extras import how_to_install, missing
from carrot.errors import EngineError

Item = TypeVar("Item")
Result = TypeVar("Result")
ENGINES = ("ray",)
REACH = 5.0  # seconds for an address to answer


@runtime_checkable
class Engine(Protocol):
    """Something that does a job for many items.

    Attributes:
        workers: How many work at a time.
    """

    @property
    def workers(self) -> int: ...  # noqa: D102

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
        return zip(items, results(job, items), strict=True)


HERE = Here()
_current: ContextVar[Engine] = ContextVar("engine", default=HERE)


def results(job: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Return the result of each item in turn, in this process: by the job's own ``each``, if it has one."""
    each: Callable[[Sequence[Item]], Iterator[Result]] | None = getattr(job, "each", None)
    return map(job, items) if each is None else each(items)


def in_order(done: Iterator[tuple[Item, Result]], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the results of ``map`` in the order of the items, all different; those that come early are held."""
    early: dict[Item, Result] = {}
    at = 0
    for found, result in done:  # to its end: a bar around it is full then
        early[found] = result
        while at < len(items) and items[at] in early:
            yield early.pop(items[at])
            at += 1
    if at < len(items):
        from carrot.errors import EngineError

        raise EngineError(f"The engine gave no result of {len(items) - at} of {len(items)} items. Run the same again.")


def current() -> Engine:
    """Return the engine that works now: that of the innermost ``use``, or this process."""
    return _current.get()


@contextmanager
def use(engine: str | Engine | None, address: str | None = None, workers: int | None = None) -> Iterator[Engine]:
    """Let an engine do what is done to many pictures, as long as the block lasts; this thread's alone.

    Args:
        engine: "ray"; None: this process; or an engine of your own.
        address: Of a cluster that runs: "auto" or HOST:PORT; None: that of ``RAY_ADDRESS``, or where there is none,
            one on this machine, which is stopped afterwards.
        workers: How many work at a time; None: as many as there is room for.

    Raises:
        EngineError: It isn't installed, or can't be started or reached.
        ValueError: There is no such engine; ``workers`` is less than 1; one of these is given without an engine.
    """
    require(engine if isinstance(engine, str) else None, address, workers)
    with ExitStack() as stack:
        if isinstance(engine, str):
            from carrot.engine.on_ray import OnRay

            engine = stack.enter_context(OnRay(address, workers))
        token = _current.set(HERE if engine is None else engine)
        try:
            yield _current.get()
        finally:
            _current.reset(token)


def require(engine: str | None, address: str | None = None, workers: int | None = None) -> None:
    """Refuse what costs next to nothing to know of the arguments of ``use``; the engine itself isn't imported.

    Raises:
        EngineError: It isn't installed, or nothing answers at the address.
        ValueError: As ``use``.
    """
    for name, value in (("address", address), ("workers", workers)):
        if engine is None and value is not None:
            raise ValueError(f"`{name}` goes with an engine: give `engine` = ray too; got {value!r} alone.")
    if engine is None:
        return
    if engine not in ENGINES:
        raise ValueError(f"`engine` must be {' or '.join(map(repr, ENGINES))}; got {engine!r}.")
    if workers is not None and workers < 1:
        raise ValueError(f"`workers` must be at least 1; got {workers}.")
    if absent := missing(engine):
        raise EngineError(f"`engine` = {engine} needs {', '.join(absent)}: {how_to_install(engine)}.")
    if address not in (None, "auto"):
        _require_reachable(str(address))


def _require_reachable(address: str) -> None:
    """Refuse an address where nothing answers, where Ray itself tries for minutes, and one that Ray Data can't use."""
    if address.startswith("ray://"):
        raise EngineError(
            f"`address` = {address}: Ray Data doesn't run through Ray's client. Run the command on a node of the "
            "cluster with `address` = auto, or send it there: ray job submit -- carrot ..."
        )
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
        if not host or port is None:
            raise ValueError
    except ValueError:
        raise EngineError(f'`address` must be "auto" or HOST:PORT; got {address!r}.') from None
    try:
        socket.create_connection((host, port), timeout=REACH).close()
    except OSError as error:
        raise EngineError(
            f"no cluster answers at `address` = {address} ({error}). Start one there: ray start --head; or leave the "
            "address out, and one is started on this machine."
        ) from error
