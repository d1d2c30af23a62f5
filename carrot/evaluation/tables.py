"""Results as a Markdown table, to paste in a paper: rows in, text out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import SupportsIndex

from carrot.utils import whole_number


@dataclass(frozen=True)
class Measured:
    """A number with its standard error, printed as ``0.952 ± 0.004``.

    Attributes:
        value: The number.
        standard_error: In the same units, >= 0.
    """

    value: float
    standard_error: float

    def __post_init__(self) -> None:
        if self.standard_error < 0:
            raise ValueError(f"`standard_error` must be >= 0; got {self.standard_error!r}.")


def markdown_table(
    rows: Sequence[Mapping[str, object]], columns: Mapping[str, str] | None = None, digits: SupportsIndex = 3
) -> str:
    """Return a Markdown table, one line a row, ending in a newline; its source is aligned too.

    Integers are printed whole, floats and ``Measured`` with ``digits`` decimals, None and what a row lacks as blank,
    all else by ``str``. A column of numbers only is aligned to the right. Pipes are escaped and line breaks become
    spaces.

    Args:
        rows: Each maps keys to values.
        columns: Key to header, in the order to print; None: every key that a row has, in order of appearance, as its
            own header.
        digits: Decimals, >= 0.

    Raises:
        ValueError: There is no column, no row has a column's key, or ``digits`` is not an integer >= 0.
    """
    digits = whole_number("digits", digits, 0)
    known = dict.fromkeys(key for row in rows for key in row)
    headers = {key: key for key in known} if columns is None else dict(columns)
    if not headers:
        raise ValueError("`columns` must name at least one column, or `rows` hold a key; got neither.")
    unknown = [key for key in headers if key not in known]
    if rows and unknown:
        raise ValueError(f"`columns` must be keys of `rows`, which are {list(known)}; got {unknown}.")
    lines: list[list[str]] = [[] for _ in range(len(rows) + 2)]
    for key, header in headers.items():
        values = [row.get(key) for row in rows]
        cells = [_escaped(header), *(_cell(value, digits) for value in values)]
        width = max(3, *map(len, cells))
        is_right = _are_numbers(values)
        cells = [cell.rjust(width) if is_right else cell.ljust(width) for cell in cells]
        rule = "-" * (width - 1) + ":" if is_right else "-" * width
        for line, cell in zip(lines, [cells[0], rule, *cells[1:]], strict=True):
            line.append(cell)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _are_numbers(values: Sequence[object]) -> bool:
    there = [value for value in values if value is not None]
    return bool(there) and all(isinstance(v, Real | Measured) and not isinstance(v, bool) for v in there)


def _cell(value: object, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, Measured):
        return f"{value.value:z.{digits}f} ± {value.standard_error:z.{digits}f}"
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{float(value):z.{digits}f}"  # z: no -0.000
    return _escaped(str(value))


def _escaped(text: str) -> str:
    """Escape pipes, and the backslashes before one, which would undo it."""
    return re.sub(r"(\\*)\|", r"\1\1\\|", " ".join(text.split()))
