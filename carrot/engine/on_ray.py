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
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any, TypeVar

from carrot._display.extras import how_to_install
from carrot._display.words import counted
from carrot.engine import require
from carrot.engine.ray_worker import ALIKE, SAME, Worker, differences, versions
from carrot.errors import EngineError

Item = TypeVar("Item")
Result = TypeVar("Result")
RETRIES = 3  # of a block of items whose worker was lost ..
RESTARTS = 20  # .. and of a worker
WAIT = 600.0  # seconds for the first worker to come: an autoscaler takes minutes to start a machine
STALL = 6 * 3600.0  # seconds without a result: a thousand pictures in tiles may take hours on one processor
SOON = 5.0  # seconds until it is said that one waits for it
TOKEN = (
    ". One that asks for a token, as Ray's do since 2.60, wants RAY_AUTH_MODE=token here, and its token in "
    "~/.ray/auth_token or RAY_AUTH_TOKEN"
)
ANSWER = 60.0  # seconds for a node to answer
MOST = 16  # items of a block, at most, where several in turn are quicker: what is done again where a worker was lost
BLOCKS = 4  # of a worker, at least, so that all end at about the same time


class OnRay:
    """A cluster of Ray: one that runs, or one on this machine, started with the block and stopped after it.

    Args:
        address: "auto" or HOST:PORT; None: ``RAY_ADDRESS``, or where there is none, this machine. In a process that is
            connected to Ray already, that cluster is used.
        workers: How many actors; None: one a GPU where there are some; else one for every four processors, but two
            where there are two.

    Raises:
        EngineError: Ray isn't installed, or the cluster can't be started or reached.
        ValueError: ``workers`` is less than 1.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        given = address or os.environ.get("RAY_ADDRESS")
        self._address, self._asked = None if given in ("", "local") else given, workers
        require("ray", self._address, workers)
        self._stops = False

    def __repr__(self) -> str:
        return f"<OnRay {self._address or 'on this machine'}>"

    def __enter__(self) -> "OnRay":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        for name, value in (("RAY_BACKEND_LOG_LEVEL", "fatal"), ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")):
            os.environ.setdefault(name, value)  # what a worker lost is told by us
        try:
            import ray
            import ray.data  # without the packages that it needs, Ray alone can be imported
        except ImportError as error:
            raise EngineError(f"`engine` = ray can't be loaded: {error}. It needs: {how_to_install('ray')}.") from error
        if not ray.is_initialized():
            self._start(ray)
            self._stops = True
            self._told = _to_standard_error()
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
            self._told()

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
        size = max(1, min(MOST, len(items) // (BLOCKS * self.workers))) if hasattr(job, "each") else 1
        blocks = [{"first": first, "last": min(first + size, len(items))} for first in range(0, len(items), size)]
        if not self.is_local:
            self._wait(ray)
        with _quiet():
            with warnings.catch_warnings():  # since 2.60, of the last two: there is no other way to say them yet
                warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
                pool = ray.data.from_items(blocks, override_num_blocks=len(blocks)).map_batches(
                    Worker,
                    fn_constructor_args=([sent], os.getcwd(), versions(), self._threads, self._gpus, not self.is_local),
                    batch_size=1,
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
            if hasattr(context, "execution_no_progress_timeout_s"):  # since 2.59 or so
                context.execution_no_progress_timeout_s = STALL
            done: set[int] = set()
            try:
                for row in pool.iter_rows():
                    if row["error"]:
                        raise cloudpickle.loads(row["result"])
                    if row["at"] not in done:
                        done.add(row["at"])
                        yield items[row["at"]], cloudpickle.loads(row["result"])
            except Exception as error:
                if isinstance(error, ray.exceptions.RayError) or type(error).__module__.startswith("ray."):
                    raise self._lost(error) from error
                raise
        if len(done) < len(items):
            raise EngineError(
                f"Ray ended after {len(done)} of {len(items)} items, and said nothing. The same call goes on there."
            )

    def _start(self, ray: Any) -> None:
        try:
            with _silent():
                self._init(ray)
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            if self._address is None:
                raise EngineError(f"Ray can't be started on this machine: {_first_line(error)}") from error
            token = "" if self._address == "auto" or "RAY_AUTH_MODE" in os.environ else TOKEN
            raise EngineError(
                f"no cluster can be reached at `address` = {self._address}: {_first_line(error)}{token}"
            ) from error

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
        gpu = 1 if gpus else 0
        if gpu and workers > gpus:
            raise EngineError(f"`workers` must be {gpus} at most, one for each GPU of the cluster; got {workers}.")

        def room(threads: int) -> int:
            return sum(min(c // threads, g) if gpu else c // threads for c, g in sizes)

        fitting = (threads for threads in range(max(cpus // workers, 1), 1, -1) if room(threads) >= workers)
        return next(fitting, 1), gpu, workers

    def _compare(self, ray: Any) -> None:
        """Refuse nodes whose packages are others, before work is sent there."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # a lambda travels by value: it needs no CARROT there
        ask = ray.remote(num_cpus=0)(
            lambda names: (
                {d.name: d.version for d in metadata.distributions() if d.name in names}
                | {"python": platform.python_version()}
            )
        )
        looks = {}
        for node in self._nodes:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            looks[ask.options(scheduling_strategy=here).remote(ALIKE)] = node["NodeManagerAddress"]
        try:
            answers = ray.get(list(looks), timeout=ANSWER)
        except ray.exceptions.RayError as error:
            raise EngineError(f"a node of the cluster doesn't answer: {_first_line(error)}. See: ray status") from error
        for name, found in zip(looks.values(), answers, strict=True):
            if wrong := differences(versions(), found):
                raise EngineError(f"node {name}: {wrong}. {SAME}")

    def _wait(self, ray: Any) -> None:
        """Return when there is room for one worker.

        Raises:
            EngineError: There is none in ``WAIT`` seconds.
        """
        sign = ray.remote(num_cpus=self._threads, num_gpus=self._gpus or None)(lambda: None).remote()
        if ray.wait([sign], timeout=min(SOON, WAIT))[0]:
            return
        need = counted(self._threads, "CPU") + " and a GPU" * self._gpus
        free, there = (resources().get("CPU", 0.0) for resources in (ray.available_resources, ray.cluster_resources))
        room = f"a worker needs {need}, and of the {there:g} CPUs of the cluster {free:g} are free"
        print(f"waiting for Ray: {room}", file=sys.stderr, flush=True)
        if not ray.wait([sign], timeout=max(WAIT - SOON, 0.0))[0]:
            ray.cancel(sign)
            raise EngineError(f"no worker came in {WAIT:g} s: {room}. Start nodes or free some, and run it again.")

    def _lost(self, error: Exception) -> EngineError:
        if type(error).__name__ == "ExecutionTimeoutError":
            return EngineError(
                f"no worker gave a result in {STALL / 3600:g} hours, or none could be placed any more: see ray status. "
                "What was finished is kept: the same call goes on from there."
            )
        return EngineError(
            f"Ray's workers were lost, and {RETRIES} more tries of the same work ended alike: {_first_line(error)} "
            "Often it is memory: give fewer `workers`. What was finished is kept: the same call goes on from there."
        )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _to_standard_error() -> Callable[[], None]:
    """Have what Ray tells of lost workers said in a line on standard error; return what undoes it.

    Ray prints it on standard output, whatever ``log_to_driver`` is, and there is no setting for that (2.60).
    """
    from ray._private import worker

    def say(data: Mapping[str, Any], *_: object, **__: object) -> None:
        for line in data.get("lines", ()):
            print(f"Ray: {str(line).strip().partition('. ')[0]}", file=sys.stderr, flush=True)

    own = getattr(worker, "print_to_stdstream", None)
    worker.print_to_stdstream = say
    return lambda: setattr(worker, "print_to_stdstream", own)


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
