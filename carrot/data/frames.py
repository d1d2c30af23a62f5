"""Data frames of paths and labels, of pandas or of polars: columns go by the names that tables have."""

import os
from collections.abc import Sequence
from typing import Any

from carrot.data import splits
from carrot.data.csv_table import COLUMNS, columns_of
from carrot.data.inputs import PictureLike, PictureList
from carrot.data.records import ImageDataset
from carrot.data.reporting import NO_LABEL, warn_of_skipped, warn_of_twins
from carrot.errors import DataError


def is_frame(data: object) -> bool:
    """Return whether it is a data frame, of pandas, polars or alike."""
    return hasattr(data, "columns") and hasattr(data, "shape") and len(data.shape) == 2


def pictures_of_frame(frame: Any) -> list[PictureLike]:
    """Return what stands in the column of pictures, row by row.

    Raises:
        DataError: There is no such column, or a row names no picture.
    """
    _, places = _columns(frame, ["image"])
    found = list(frame[frame.columns[places["image"][0]]])
    empty = next((row for row, picture in enumerate(found) if _is_missing(picture)), None)
    if empty is not None:
        raise DataError(f"`data`, row {empty}: names no picture. Leave the row out, or fill it.")
    return found


def frame_dataset(frame: Any, for_testing: bool) -> ImageDataset:
    """Return the training pictures, or those for testing, of a data frame of paths and labels, of pandas or of polars.

    A column ``split`` says which are which; without it, all are both. Paths are from the working directory. Rows
    without a label are set aside.

    Raises:
        DataError: It lacks a column, has a split of an unknown name, or no such row; or files are not there.
    """
    header, places = _columns(frame, ("image", "label"))
    cells = {name: list(frame[frame.columns[found[0]]]) for name, found in places.items() if found}
    kinds = _kinds(cells.get("split"), header, places["split"])
    used = list(range(len(cells["image"])))
    if kinds is not None:
        best = next(([kind] for kind in splits.TESTING if kind in kinds), [])
        used = [row for row in used if kinds[row] in (best if for_testing else splits.TRAINING)]
    pictures, labels, skipped = [], [], {}
    for row in used:
        picture, label = cells["image"][row], cells["label"][row]
        if _is_missing(picture):
            skipped[f"row {row}"] = "it names no picture"
        elif _is_missing(label):
            skipped[str(picture)] = NO_LABEL
        else:
            pictures.append(picture)
            labels.append(label)
    if skipped:  # a column of whole numbers with gaps is one of floating-point numbers
        labels = [int(x) if isinstance(x, float) and x.is_integer() else x for x in labels]
    absent = [str(p) for p in pictures if isinstance(p, str | os.PathLike) and not os.path.exists(p)]
    if absent:
        names = ", ".join(absent[:3]) + ", ..." * (len(absent) > 3)
        raise DataError(
            f"`data`: {len(absent)} of {len(pictures)} pictures are not there: {names}. Paths are looked for from the "
            f"working directory, {os.getcwd()}: give whole paths."
        )
    if not pictures:
        side = "testing" if for_testing else "training"
        raise DataError(f"`data` must have at least one row for {side} with a picture and a label; it has none.")
    found = PictureList(pictures, labels, split="test" if for_testing else "train")
    found.name, found.skipped, found.split_is_own = "data frame", skipped, kinds is not None
    warn_of_skipped("`data`", skipped)
    warn_of_twins(found.classes, "`data`")
    return found


def _columns(frame: Any, names: Sequence[str]) -> tuple[list[str], dict[str, list[int]]]:
    """Return the header of a data frame, and where the columns are that tables have (``carrot.data.csv_table``).

    Raises:
        DataError: One of ``names`` is not there once.
    """
    header = [str(column) for column in frame.columns]
    places = columns_of(header)
    for name in names:
        if len(places[name]) != 1:
            got = "more than one" if places[name] else "none"
            raise DataError(
                f"`data` must have one column {' or '.join(COLUMNS[name][0])}; got {got} in {header}. Rename one."
            )
    return header, places


def _kinds(values: list[Any] | None, header: Sequence[str], places: Sequence[int]) -> list[str | None] | None:
    """Return the kind of split of each row; None: no column says."""
    if values is None:
        return None
    kinds = [None if _is_missing(value) else splits.kind_of(str(value)) for value in values]
    if None in kinds:
        if header[places[0]].strip().casefold() != "split":
            return None  # a column "set" or "usage" that says something else
        row = kinds.index(None)
        raise DataError(
            f"`data`, row {row}: the split must be train, test or val; got {values[row]!r}. Known are {splits.known()}."
        )
    return kinds


def _is_missing(value: Any) -> bool:
    """Return whether a cell is empty: None, NaN, pandas' NA, blanks."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # NA is neither true nor false, an array is many
        return type(value).__name__ == "NAType"
