"""Timing side by side, and the facts that a number is worth nothing without."""

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def alternate(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Time each callable ``rounds`` times, taking turns after one warm-up each; seconds: min, median, max.

    Taking turns, so that what else the machine does falls on all of them alike.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {
        name: {"min": min(t), "median": statistics.median(t), "max": max(t), "rounds": rounds}
        for name, t in times.items()
    }


class Clock:
    """Seconds by the wall and of the processors, by name of what was done."""

    def __init__(self) -> None:
        self.wall, self.cpu = dict[str, float](), dict[str, float]()
        self._now = time.perf_counter(), time.process_time()

    def end(self, name: str) -> None:
        """Say what was done since the last call."""
        now = time.perf_counter(), time.process_time()
        self.wall[name], self.cpu[name] = (round(b - a, 3) for a, b in zip(self._now, now, strict=True))
        self._now = time.perf_counter(), time.process_time()


def facts(**more: object) -> dict[str, object]:
    """Return versions, processor, threads, commit and date."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": model,
        "threads": torch.get_num_threads(),
        **more,
    }


def write(name: str, rows: list[dict[str, object]], **more: object) -> Path:
    """Write rows and facts as ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"facts": facts(**more), "rows": rows}, indent=1) + "\n")
    return path


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
