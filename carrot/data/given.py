"""Data sets as other libraries hold them, given as objects: torch's and torchvision's, Hugging Face's, data frames.

All of what is given is for training, but where it says itself what is for testing. Pictures that lie in files are read
from these: they are found again when a saved model explains, and what a data set would do to them (crop, turn, scale)
is left to the model.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from carrot._images import open_image
from carrot.data import splits
from carrot.data.adapters import HuggingFace, class_names, label_places, targets_of
from carrot.data.csv_table import COLUMNS, columns_of
from carrot.data.inputs import PictureList, as_picture
from carrot.data.records import ImageDataset, LabelKind, Record
from carrot.data.reporting import NO_LABEL, told_apart, warn_of_skipped, warn_of_twins
from carrot.errors import DataError

WAYS = (
    "a folder or kind:PATH (see `carrot.data`); a data set: of `carrot.data`, of torch or torchvision (picture and "
    "label by index), of Hugging Face; a data frame with the columns image (paths) and label; or pictures with `y`, "
    "their classes"
)


def is_labelled(data: object) -> bool:
    """Return whether an object has labels of its own: a data set or a data frame, not pictures alone."""
    return isinstance(data, ImageDataset) or _is_frame(data) or _is_hub(data) or isinstance(_first(data), tuple)


def as_dataset(data: object) -> ImageDataset:
    """Return a data set, or a data frame, that was given as an object.

    Raises:
        TypeError: It is something else; the message names the ways.
        ValueError: Its pictures are arrays or tensors that are no pictures.
        DataError: It has no pictures or labels, lacks a column, or files are not there.
    """
    if isinstance(data, ImageDataset):
        return data
    if _is_frame(data):
        return _frame_dataset(data)
    if _is_hub(data):
        return HuggingFace(data)
    if _is_indexed(data):
        return IndexedDataset(data)
    inner = getattr(data, "dataset", None)
    hint = f" It is made of one: give its `dataset`, a {type(inner).__name__}." if inner is not None else ""
    if isinstance(data, list | tuple) or hasattr(data, "__array__"):
        hint = " Pictures alone have no classes: give `y` too."
    raise TypeError(f"`data` must be {WAYS}; got {type(data).__name__}.{hint}")


class IndexedDataset:
    """A data set of torch's kind, ``data[i]`` a picture and its label, as CARROT's records; ``Subset`` of one too.

    Args:
        data: The data set. Pictures are PIL pictures, arrays or tensors, before any normalisation; of torchvision's
            folders they are read from their files.

    Attributes:
        name: Its kind's name, in lower case.
        classes: Those that occur, in the order of its ``classes`` or ``categories``; without these, the numbers that
            occur as labels.
        label_kind: "name" where it names its classes, else "number".
        records: All for training; ``id`` is the path below its ``root``, or the number in the whole data set.
        skipped: What was set aside, the reason by ``id``: pictures without a label, or with one that no class has.

    Raises:
        TypeError: An item is no picture with a label.
        ValueError: A picture is an array or tensor of another shape, type or range.
        DataError: It is empty, or no picture has a label.
    """

    def __init__(self, data: Any) -> None:
        self._data = data
        whole, places = _opened(data)
        self.name = type(whole).__name__.lower()
        where = f"`data`, a {type(whole).__name__}"
        if not places:
            raise DataError(f"{where}: has no pictures.")
        files = _files(whole)
        _check_item(data)
        if files is not None and (getattr(whole, "transform", None) or getattr(whole, "transforms", None)) is not None:
            warnings.warn(
                f"{where}: its `transform` is not applied: pictures are read from their files, and the model prepares "
                "them itself.",
                stacklevel=2,
            )
        labels = _labels(data, whole, places)
        names = class_names(whole, labels)
        self.label_kind: LabelKind = "number" if [*names.values()] == [str(label) for label in names] else "name"
        found = label_places(labels, names)  # a class, or why there is none
        there = sorted({label for label in found if isinstance(label, int)})
        if not there:
            raise DataError(f"{where}: no picture has a label that is one of its classes.")
        self.classes = told_apart([list(names.values())[label] for label in there], where)
        self.skipped: dict[str, str] = {}
        self._places: list[int] = []  # in ``data``
        records = []
        for number, (place, label) in enumerate(zip(places, found, strict=True)):
            path = None if files is None else Path(files[place])
            name = f"picture {place}" if path is None else _below(path, getattr(whole, "root", None))
            if isinstance(label, str):
                self.skipped[name] = label
                continue
            self._places.append(number)
            records.append(Record(name, there.index(label), "train", path))
        self.records: Sequence[Record] = tuple(records)
        warn_of_skipped(where, self.skipped)
        warn_of_twins(self.classes, where)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: It can't be decoded.
        """
        path = self.records[index].path
        return as_picture(self._data[self._places[index]][0]) if path is None else open_image(path)


def _is_frame(data: object) -> bool:
    return hasattr(data, "columns") and hasattr(data, "shape") and len(data.shape) == 2


def _is_hub(data: object) -> bool:
    """Return whether it is Hugging Face's: one split, or several by name."""
    first = next(iter(data.values()), None) if isinstance(data, Mapping) else data
    return hasattr(first, "features") and hasattr(first, "__getitem__")


def _is_indexed(data: object) -> bool:
    plain = isinstance(data, str | bytes | bytearray | memoryview | os.PathLike | list | tuple | Mapping | Image.Image)
    is_array = hasattr(data, "__array__") or hasattr(data, "dtype")
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not plain and not is_array


def _first(data: Any) -> Any:
    """Return its first item; None: it has none, or it can't be read."""
    try:
        return data[0] if _is_indexed(data) else None
    except Exception:  # whatever a data set or its decoder raises
        return None


def _opened(data: Any) -> tuple[Any, list[int]]:
    """Return the whole data set, and the places in it that a subset, or a subset of one, holds."""
    places = list(range(len(data)))
    while hasattr(data, "dataset") and hasattr(data, "indices"):
        places = [int(data.indices[place]) for place in places]
        data = data.dataset
    return data, places


def _files(whole: Any) -> list[str] | None:
    """Return the file of each picture, if it has torchvision's list of (path, class); None: it hasn't."""
    samples = getattr(whole, "samples", None)
    if not isinstance(samples, list) or len(samples) != len(whole):
        return None
    paths = [sample[0] for sample in samples if isinstance(sample, tuple) and isinstance(sample[0], str | os.PathLike)]
    return [os.fspath(path) for path in paths] if len(paths) == len(whole) else None


def _labels(data: Any, whole: Any, places: list[int]) -> list[int | str]:
    """Return the labels of what is held: from the whole's own list, where it has one, else item by item."""
    if any(len(getattr(whole, name, None) or ()) == len(whole) for name in ("targets", "labels", "_labels", "y")):
        known = targets_of(whole)
        return [known[place] for place in places]
    return targets_of(data)


def _check_item(data: Any) -> None:
    """Refuse items that are no picture with a label; what a decoder refuses is set aside later.

    Raises:
        TypeError, ValueError: The first is none.
    """
    item = _first(data)
    if item is None:  # its decoder refuses it
        return
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise TypeError(f"`data`[0] must be (picture, label); got {type(item).__name__}. `data` may be {WAYS}.")
    try:
        as_picture(item[0])
    except (TypeError, ValueError) as error:
        raise type(error)(f"`data`[0]: {error}") from error


def _below(path: Path, root: Any) -> str:
    name = Path(os.path.relpath(path, root)) if isinstance(root, str | os.PathLike) else path
    return (path if name.parts[:1] == ("..",) else name).as_posix()


def _frame_dataset(frame: Any) -> ImageDataset:
    """Return the training pictures of a data frame of paths and labels, of pandas or of polars.

    Columns go by the names that tables have (``carrot.data.csv_table``); a column ``split`` says which are for
    training. Paths are from the working directory. Rows without a label are set aside.
    """
    header = [str(column) for column in frame.columns]
    places = columns_of(header)
    for name in ("image", "label"):
        if len(places[name]) != 1:
            got = "more than one" if places[name] else "none"
            raise DataError(
                f"`data` must have one column {' or '.join(COLUMNS[name][0])}; got {got} in {header}. Rename one."
            )
    cells = {name: list(frame[frame.columns[found[0]]]) for name, found in places.items() if found}
    used = _for_training(cells.get("split"), header, places["split"], len(cells["image"]))
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
        raise DataError("`data` must have at least one row for training with a picture and a label; it has none.")
    found = PictureList(pictures, labels)
    found.name, found.skipped = "data frame", skipped
    warn_of_skipped("`data`", skipped)
    warn_of_twins(found.classes, "`data`")
    return found


def _for_training(values: list[Any] | None, header: Sequence[str], places: Sequence[int], n: int) -> list[int]:
    """Return the rows that are for training: all, where no column says."""
    if values is None:
        return list(range(n))
    kinds = [None if _is_missing(value) else splits.kind_of(str(value)) for value in values]
    if None in kinds:
        if header[places[0]].strip().casefold() != "split":
            return list(range(n))  # a column "set" or "usage" that says something else
        row = kinds.index(None)
        raise DataError(
            f"`data`, row {row}: the split must be train, test or val; got {values[row]!r}. Known are {splits.known()}."
        )
    return [row for row, kind in enumerate(kinds) if kind in splits.TRAINING]


def _is_missing(value: Any) -> bool:
    """Return whether a cell is empty: None, NaN, pandas' NA, blanks."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # NA is neither true nor false, an array is many
        return type(value).__name__ == "NAType"
