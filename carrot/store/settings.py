"""Settings as plain JSON: checked, compared, and written in one form only."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

SOME, LONG = 5, 240  # differences that are told, and characters of one
JSON: TypeAlias = str | int | float | bool | list[Any] | dict[str, Any] | None


def check_json(value: object, name: str) -> JSON:
    """Return a copy of ``value``, which the error calls ``name`` if it is not plain JSON.

    Raises:
        TypeError: Something in it is no str, int, float, bool, None, list or dict with string keys.
        ValueError: A number in it is NaN or infinite.
    """
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name} must have strings as keys; got {key!r}")
        return {key: check_json(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [check_json(item, f"{name}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value}")
    if isinstance(value, str | int | float | None):
        return value
    raise TypeError(f"{name} must be plain JSON (str, int, float, bool, None, list, dict); got {type(value).__name__}")


def differences(stored: JSON, wanted: JSON, name: str) -> Iterator[str]:
    """Yield 'name: old there, new here' for every difference. 1 and 1.0 are the same number; True is not 1."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for key in sorted(stored.keys() | wanted.keys()):
            inner = f"{name}.{key}" if name else key
            if key not in stored or key not in wanted:
                there, here = (json.dumps(side[key]) if key in side else "absent" for side in (stored, wanted))
                yield f"{inner}: {there} there, {here} here"
            else:
                yield from differences(stored[key], wanted[key], inner)
    elif isinstance(stored, list) and isinstance(wanted, list) and len(stored) == len(wanted):
        for place, (there_item, here_item) in enumerate(zip(stored, wanted, strict=True)):
            yield from differences(there_item, here_item, f"{name}[{place}]")
    elif stored != wanted or isinstance(stored, bool) != isinstance(wanted, bool):
        yield f"{name}: {json.dumps(stored)} there, {json.dumps(wanted)} here"


def told(changes: Iterable[str]) -> str:
    """Return differences as one text: the first ones, and of long ones their beginning, as of any SHA-256."""
    short = [re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", change) for change in changes]
    found = [change if len(change) <= LONG else f"{change[:LONG]} ..." for change in short]
    return "; ".join(found[:SOME]) + (f"; and {len(found) - SOME} more" if len(found) > SOME else "")


def canonical(value: JSON) -> bytes:
    """Return the one form of ``value`` that is hashed: keys sorted, no blanks, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
