"""How far long work is: a bar with the rate and the time left, on standard error.

So standard output stays what was asked for.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")
SECONDS_BEFORE_A_LINE, SECONDS_BETWEEN_LINES = 5.0, 30.0


class _Rate(ProgressColumn):
    """Pieces a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return it, once it is known."""
        speed = task.finished_speed or task.speed
        return Text(
            "" if not speed else f"{speed:,.1f} {self._unit}/s" if speed >= 1 else f"{1 / speed:,.1f} s/{self._unit}"
        )


def progress(
    pieces: Iterable[T],
    description: str,
    total: int,
    unit: str = "it",
    size: int = 1,
    most: int | None = None,
    brief: bool = False,
) -> Iterator[T]:
    """Yield ``pieces``, showing how far they are; nothing is shown where there is none.

    Args:
        pieces: What is worked on.
        description: What is being done.
        total: How many pieces there are.
        unit: What is counted.
        size: How many units a piece holds.
        most: How many units there are altogether, if the last piece holds fewer.
        brief: Whether the bar goes when it is full: of what is quick, as a rule.
    """
    if not total:
        return
    whole = total * size if most is None else most
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from _in_lines(pieces, description, unit, size, whole)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=brief) as bar:
        task = bar.add_task(description, total=whole)
        for number, piece in enumerate(pieces, start=1):
            yield piece
            bar.update(task, completed=min(number * size, whole))


def _in_lines(pieces: Iterable[T], description: str, unit: str, size: int, whole: int) -> Iterator[T]:
    """Say soon what is being done, then every half a minute how far it is: for log files."""
    began = said = time.monotonic()
    wait = min(SECONDS_BEFORE_A_LINE, SECONDS_BETWEEN_LINES)
    for number, piece in enumerate(pieces, start=1):
        yield piece
        now = time.monotonic()
        if now - said >= wait:
            wait = SECONDS_BETWEEN_LINES
            said, done = now, min(number * size, whole)
            left = (now - began) * (whole - done) / done
            print(
                f"{description}: {done} of {whole}, {done / (now - began):.1f} {unit}/s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )


def telling(words: str) -> Callable[[int, int], None]:
    """Return what says on standard error, soon and then every half a minute, where a search of unknown length is.

    Args:
        words: With places for two numbers.
    """
    began = said = time.monotonic()

    def tell(first: int, second: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= (SECONDS_BEFORE_A_LINE if said == began else SECONDS_BETWEEN_LINES):
            said = now
            print(words.format(f"{first:,}", f"{second:,}"), file=sys.stderr, flush=True)

    return tell
