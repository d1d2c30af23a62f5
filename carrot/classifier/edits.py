"""A table of edits, as a person or a desk wrote it: one line a picture, what to do with it, and its label.

::

    id,action,label
    robin/17.jpg,forget,
    robin/3.jpg,relabel,wren
    new/8.jpg,add,robin
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from carrot.data.csv_table import SEPARATORS, table_text
from carrot.errors import DataError

COLUMNS = ("id", "action", "label")
ACTIONS = ("forget", "relabel", "add")


class Edit(NamedTuple):
    """One line; ``where`` is what an error calls it."""

    where: str
    id: str
    action: str
    label: Any


def read_edits(table: str | Path | Iterable[Mapping[str, Any]]) -> tuple[list[Edit], Path]:
    """Return the lines of a CSV file, or of rows at hand, and the folder from which pictures to add are named.

    Raises:
        DataError: A column, an id or a label is missing, an action is unknown, or an id comes twice.
    """
    if isinstance(table, str | os.PathLike):
        file = Path(table)
        found, name, folder = _rows(file), str(file), file.parent
    else:
        found, name, folder = [(place, dict(row)) for place, row in enumerate(table, start=1)], "edits", Path()
    edits = [_edit(f"{name}, line {place}", row) for place, row in found]
    if not edits:
        raise DataError(f"{name}: holds no edit. Add one line for each, with the columns {', '.join(COLUMNS)}.")
    first: dict[str, Edit] = {}
    for edit in edits:
        if first.setdefault(edit.id, edit) is not edit:
            raise DataError(f"{edit.where}: {edit.id!r} stands in {first[edit.id].where} already. Keep one of them.")
    return edits, folder


def _rows(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the lines of a table by column, with their numbers."""
    text, problem = table_text(file), ""
    for separator in SEPARATORS:
        reader = csv.DictReader(io.StringIO(text, newline=""), restkey="more", strict=True, delimiter=separator)
        try:
            header = [str(column).strip().casefold() for column in reader.fieldnames or []]
            if not {"id", "action"} <= set(header) or len(set(header)) != len(header):
                problem = (
                    problem
                    or f"{file}: the first line must name the columns {', '.join(COLUMNS)}, each once; got {header}."
                )
                continue
            reader.fieldnames = header
            found = []
            for row in reader:
                if "more" in row:
                    raise DataError(f"{file}, line {reader.line_num}: has more values than columns. Correct it.")
                found.append((reader.line_num, {name: (value or "").strip() for name, value in row.items()}))
            return found
        except csv.Error as error:
            raise DataError(f"{file}, line {reader.line_num}: {error}. Correct it.") from error
    raise DataError(problem)


def _edit(where: str, row: Mapping[str, Any]) -> Edit:
    name, action, label = (row.get(column) for column in COLUMNS)
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: the id is missing. Fill it in, or remove the line.")
    action = action.strip().casefold() if isinstance(action, str) else action
    if action not in ACTIONS:
        raise DataError(f"{where}: the action must be one of {', '.join(ACTIONS)}; got {action!r}.")
    is_empty = label is None or label == "" or label != label  # NaN: what pandas has for an empty cell
    if (action == "forget") != is_empty:
        raise DataError(f"{where}: {action} {'takes no' if action == 'forget' else 'needs a'} label; got {label!r}.")
    return Edit(where, name, str(action), label)
