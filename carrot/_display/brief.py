"""One line for what holds many numbers: tensors by their shapes, lists by how long they are, never their contents."""

from collections.abc import Sized
from dataclasses import fields, is_dataclass
from typing import Any

LONGEST = 60  # letters of a text that is shown


def brief(thing: Any) -> str:
    """Return ``<Kind name (shape), name value, ..>`` of a dataclass or a named tuple: serves as its ``__repr__``.

    What is None, empty or an object of many parts is left out.
    """
    names = [f.name for f in fields(thing)] if is_dataclass(thing) else thing._fields
    found = ((name, _told(getattr(thing, name))) for name in names)
    told = ", ".join(f"{name} {value}" for name, value in found if value)
    return f"<{type(thing).__name__}{' ' * bool(told)}{told}>"


def one_line(text: object, most: int = LONGEST) -> str:
    """Return a text in one line, its two ends where it is long."""
    line = " ".join(str(text).split())
    half = most // 2 - 1
    return line if len(line) <= most else f"{line[:half]}..{line[-half:]}"


def _told(value: object) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return str(tuple(shape))
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, tuple) and 0 < len(value) <= 4 and all(isinstance(part, int | float) for part in value):
        return str(tuple(value))
    return f"({len(value)})" if isinstance(value, Sized) and len(value) else ""
