"""Warnings on the command line: what is wrong with 1,000 pictures is said once, with a count and the first names."""

import re
import sys
from types import TracebackType
from typing import Any

from carrot.cli.options import printable


class Grouped:
    """Prints the first warning of each kind at once, and counts the others of its kind; they are told on leaving.

    Warnings are of one kind if they say the same of different things: "a.jpg: damaged EXIF (...)". Repetitions are not
    counted.
    """

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def __enter__(self) -> "Grouped":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for what, names in self._names.items():
            others = names[1:]
            if others:
                some = ", ".join(others[:3]) + ", ..." * (len(others) > 3)
                _say(f"the same of {len(others)} more: {some}: {what}")

    def show(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Take the place of ``warnings.showwarning``."""
        name, colon, what = str(message).partition(": ")
        what = re.sub(r" \([^()]*\)", "", what if colon else name)
        names = self._names.setdefault(what, [])
        if name not in names:
            names.append(name)
            if len(names) == 1:
                _say(str(message))


def _say(text: str) -> None:
    print(printable(f"carrot: {text}"), file=sys.stderr)
