"""What Ray runs on a node: a worker that unpacks the job once, and sends its errors back as results."""

import os
import platform
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from carrot.engine import results
from carrot.errors import EngineError

ALIKE = ("carrot-attribution", "torch", "timm", "ray")  # packages whose versions must be the same everywhere
SAME = "Install the same versions on every node: what a picture is to a model may depend on them."


class Worker:
    """What an actor is: the job, unpacked once, and every error of it a result."""

    def __init__(
        self, sent: list[Any], cwd: str, alike: Mapping[str, str], threads: int, gpus: int, named: bool
    ) -> None:
        self._named = platform.node() if named else None
        self._error: Exception | None = None
        try:
            if wrong := differences(alike, versions()):
                raise EngineError(f"{wrong}. {SAME}")
            if not gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = ""  # all would share the first
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
        """Return an error with the node that it is from, where there are several, and where in the code."""
        error.add_note("".join(traceback.format_exception(error)))
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
