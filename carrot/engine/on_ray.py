"""Ray as an engine: a pool of Ray Data's actors, each of which keeps the job, on this machine or on a cluster.

How it holds:

1. The items are all that is read, and are here: there is no stage but the actors, which then take all processors. (With
   a stage that reads, such a pool waits for ever on a small machine: ray-project/ray#44687.)
2. The job travels once, as bytes that this process holds on to until the end: a worker that is started again finds them
   (ray-project/ray#53727).
3. What a worker raises comes back as a result, so that an error of the package arrives as itself, with its node.
4. A lost worker is started again, and its block of items done again; each item is yielded once. A block that has lost
   ``RETRIES`` workers more stops the run.
"""

import logging
import os
import platform
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar
from urllib.parse import urlsplit

from carrot.engine import require, results
from carrot.errors import EngineError

Item = TypeVar("Item")
Result = TypeVar("Result")
RETRIES = 3  # of a block of items whose worker was lost ..
RESTARTS = 20  # .. and of a worker
WAIT = 600.0  # seconds for the first worker to come: an autoscaler takes minutes to start a machine
REACH = 5.0  # seconds for an address to answer
MOST = 16  # items of a block, at most: what is done again where a worker was lost
BLOCKS = 4  # of a worker, at least, so that all end at about the same time
ALIKE = ("carrot-attribution", "torch", "timm", "ray")  # packages whose versions must be the same everywhere


class OnRay:
    """A cluster of Ray: one that runs, or one on this machine, started with the block and stopped after it.

    Args:
        address: "auto", HOST:PORT or ray://HOST:PORT; None: ``RAY_ADDRESS``, or where there is none, this machine. In a
            process that is connected to Ray already, that cluster is used.
        workers: How many actors; None: one a GPU where there are some; else one for every four processors, but two
            where there are two.

    Raises:
        EngineError: Ray isn't installed, or the cluster can't be started or reached.
        ValueError: ``workers`` is less than 1.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        require("ray", address, workers)
        self._address, self._asked = address or os.environ.get("RAY_ADDRESS") or None, workers
        self._stops = False

    def __repr__(self) -> str:
        return f"<OnRay {self._address or 'on this machine'}>"

    def __enter__(self) -> "OnRay":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        for name, value in (("RAY_BACKEND_LOG_LEVEL", "fatal"), ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")):
            os.environ.setdefault(name, value)  # what a worker lost is told by us
        import ray

        if not ray.is_initialized():
            self._start(ray)
            self._stops = True
        try:
            self._nodes = [node for node in ray.nodes() if node["Alive"]]
            self.is_local = self._stops and self._address is None
            self._threads, self._gpus, self.workers = self._room()
            if not self.is_local:
                self._compare(ray)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        if self._stops:
            ray.shutdown()
            self._stops = False

    def map(self, job: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """Yield each item with its result, once, as they come.

        Raises:
            EngineError: A worker was lost more often than it is retried, or none came in ``WAIT`` seconds.
            Exception: What ``job`` raised, with the node on which it did.
        """
        if not items:
            return
        import ray
        import ray.data
        from ray import cloudpickle

        sent = ray.put(cloudpickle.dumps((job, list(items))))  # held here to the end
        size = max(1, min(MOST, len(items) // (BLOCKS * self.workers)))
        blocks = [{"first": first, "last": min(first + size, len(items))} for first in range(0, len(items), size)]
        with _quiet():
            with warnings.catch_warnings():  # since 2.60, of the last two: there is no other way to say them yet
                warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
                pool = ray.data.from_items(blocks, override_num_blocks=len(blocks)).map_batches(
                    Worker,
                    fn_constructor_args=(
                        [sent],
                        os.getcwd(),
                        versions(),
                        self._threads,
                        None if self.is_local else True,
                    ),
                    batch_size=None,
                    compute=ray.data.ActorPoolStrategy(
                        size=min(self.workers, len(blocks)), max_tasks_in_flight_per_actor=2
                    ),
                    num_cpus=self._threads,
                    num_gpus=self._gpus or None,
                    max_restarts=RESTARTS,
                    max_task_retries=RETRIES,
                )
            context = pool.context
            context.enable_progress_bars = context.print_on_execution_start = False
            context.wait_for_min_actors_s = int(WAIT)
            done: set[int] = set()
            try:
                for row in pool.iter_rows():
                    if row["error"]:
                        raise cloudpickle.loads(row["result"])
                    if row["at"] not in done:
                        done.add(row["at"])
                        yield items[row["at"]], cloudpickle.loads(row["result"])
            except ray.exceptions.RayError as error:
                raise self._lost(error) from error
        if len(done) < len(items):
            raise EngineError(
                f"Ray ended after {len(done)} of {len(items)} items, and said nothing. The same call goes on there."
            )

    def _start(self, ray: Any) -> None:
        try:
            if self._address is not None:
                require_reachable(self._address)
            with _silent():
                self._init(ray)
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            where = "on this machine" if self._address is None else f"at `address` = {self._address}"
            raise EngineError(f"Ray can't be {'reached' if self._address else 'started'} {where}: {error}") from error

    def _init(self, ray: Any) -> None:
        quiet = {"logging_level": logging.CRITICAL, "log_to_driver": False}
        if self._address is not None:
            ray.init(self._address, **quiet)
            return
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ray.init("local", num_cpus=max(cores, self._asked or 1), include_dashboard=False, **quiet)

    def _room(self) -> tuple[int, int, int]:
        """Return threads and GPUs of a worker, and how many workers: as many threads as leave room for all of them."""
        sizes = [(int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0))) for node in self._nodes]
        cpus, gpus = (sum(column) for column in zip(*sizes, strict=True))
        workers = self._asked or gpus or max(min(cpus, 2), cpus // 4) or 1
        gpu = 1 if 0 < workers <= gpus else 0

        def room(threads: int) -> int:
            return sum(min(c // threads, g) if gpu else c // threads for c, g in sizes)

        fitting = (threads for threads in range(max(cpus // workers, 1), 1, -1) if room(threads) >= workers)
        return next(fitting, 1), gpu, workers

    def _compare(self, ray: Any) -> None:
        """Refuse nodes whose packages are others, before work is sent there."""

    def _lost(self, error: Exception) -> EngineError:
        return EngineError(str(error))


class Worker:
    """What an actor is: the job, unpacked once, and every error of it a result."""

    def __init__(self, sent: list[Any], cwd: str, alike: Mapping[str, str], threads: int, named: bool | None) -> None:
        self._named = f"{platform.node()}" if named else None
        self._error: Exception | None = None
        try:
            if wrong := differences(alike, versions()):
                raise EngineError(f"other versions than here: {wrong}. Install the same on every node.")
            import ray
            import torch
            from ray import cloudpickle

            torch.set_num_threads(threads)
            with suppress(OSError):
                os.chdir(cwd)  # where paths that were given start
            self._job, self._items = cloudpickle.loads(ray.get(sent[0]))
            if hasattr(self._job, "arrive"):
                self._job.arrive()
        except Exception as error:
            self._error = error

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, list[Any]]]:
        """Yield the result of each item of a block, or the error that stops it all."""
        from ray import cloudpickle

        first, last = int(batch["first"][0]), int(batch["last"][0])
        at = first
        try:
            if self._error is not None:
                raise self._error
            for result in results(self._job, self._items[first:last]):
                yield {"at": [at], "error": [False], "result": [cloudpickle.dumps(result)]}
                at += 1
        except Exception as error:
            yield {"at": [at], "error": [True], "result": [cloudpickle.dumps(self._of_here(error))]}

    def _of_here(self, error: Exception) -> Exception:
        """Return an error with the node that it is from, where there are several."""
        if self._named and error.args and isinstance(error.args[0], str):
            error.args = (f"on node {self._named}: {error.args[0]}", *error.args[1:])
        return error


def versions() -> dict[str, str]:
    """Return the versions of what must be the same on every node."""
    found = {"python": platform.python_version()}
    for name in ALIKE:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Return in words how versions elsewhere differ from those here."""
    return ", ".join(
        f"{name} {theirs.get(name, 'absent')} there, {ours[name]} here"
        for name in ours
        if theirs.get(name) != ours[name]
    )


def require_reachable(address: str) -> None:
    """Refuse an address where nothing answers: Ray itself tries for minutes.

    Raises:
        EngineError: Nothing does, or it is no address.
    """
    if address == "auto":
        return
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
        if not host or port is None:
            raise ValueError
    except ValueError:
        raise EngineError(f'`address` must be "auto", HOST:PORT or ray://HOST:PORT; got {address!r}.') from None
    try:
        socket.create_connection((host, port), timeout=REACH).close()
    except OSError as error:
        raise EngineError(
            f"no cluster answers at `address` = {address} ({error}). Start one there: ray start --head; or leave the "
            "address out, and one is started on this machine."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's plans and bars out of what a command prints; errors are told by us."""
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what Ray's own library writes to standard error while it starts out of what a command prints."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
