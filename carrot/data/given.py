"""Data sets as other libraries hold them, given as objects: torch's and torchvision's, Hugging Face's, data frames.

All of what is given is for training, but where it says itself what is for testing. Pictures that lie in files are read
from these: they are found again when a saved model explains, and what a data set would do to them (crop, turn, scale)
is left to the model.
"""

import os
import warnings
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from carrot._images import open_image
from carrot.data import splits
from carrot.data.adapters import HuggingFace, class_names, label_places, targets_of
from carrot.data.columns import Names, Records
from carrot.data.frames import frame_dataset, is_frame, pictures_of_frame
from carrot.data.inputs import PictureLike, as_picture, with_folders
from carrot.data.opening import KINDS, open_dataset
from carrot.data.records import ImageDataset, LabelKind, Record, Window
from carrot.data.reporting import told_apart, warn_of_skipped, warn_of_twins
from carrot.errors import DataError

WAYS = (
    "a folder or kind:PATH (see `carrot.data`); a data set: of `carrot.data`, of torch or torchvision (picture and "
    "label by index), of Hugging Face; a data frame with the columns image (paths) and label; or pictures with `y`, "
    "their classes"
)


def is_labelled(data: object) -> bool:
    """Return whether an object has labels of its own: a data set or a data frame, not pictures alone."""
    return isinstance(data, ImageDataset) or is_frame(data) or _is_hub(data) or isinstance(_first(data), tuple)


def as_dataset(data: object, for_testing: bool = False) -> ImageDataset:
    """Return a data set, or a data frame, that was given as an object.

    Args:
        data: What was given.
        for_testing: What is wanted are pictures to measure a model on: of a frame with splits the rows for testing, and
            where no split is known all of it, whichever classes it has.

    Raises:
        TypeError: It is something else; the message names the ways.
        ValueError: Its pictures are arrays or tensors that are no pictures.
        DataError: It has no pictures or labels, lacks a column, or files are not there.
    """
    if isinstance(data, ImageDataset):
        return data
    if is_frame(data):
        return frame_dataset(data, for_testing)
    if _is_hub(data):
        return HuggingFace(data, for_testing)
    if _is_indexed(data):
        return IndexedDataset(data)
    inner = getattr(data, "dataset", None)
    hint = f" It is made of one: give its `dataset`, a {type(inner).__name__}." if inner is not None else ""
    if isinstance(data, list | tuple) or hasattr(data, "__array__"):
        hint = " Pictures alone have no classes: give `y` too."
    raise TypeError(f"`data` must be {WAYS}; got {type(data).__name__}.{hint}")


def whole_folder(data: Any) -> str | None:
    """Return the folder that torchvision's data set is all of, where the same folder by its path would be split.

    None: it is something else, a ``Subset`` of it, or the name of the folder is that of one side of a split.
    """
    root = getattr(data, "root", None)
    if isinstance(data, ImageDataset) or not (_is_indexed(data) and isinstance(root, str | os.PathLike)):
        return None
    is_side = splits.kind_of(Path(root).resolve().name) is not None
    return None if is_side or not os.path.isdir(root) or _files(data) is None else os.fspath(root)


def pictures_of(given: Any) -> Sequence[PictureLike]:
    """Return the pictures of what ``fit`` takes, each in its place, whether it has a label or not; of others as given.

    Raises:
        TypeError: It is no data set, and no pictures.
        DataError: A data frame has no column of pictures, or a row of it names none; a folder holds no picture.
    """
    if isinstance(given, str) and not os.path.exists(given) and given.partition(":")[0] in KINDS:
        given = open_dataset(given, for_testing=True)
    if isinstance(given, ImageDataset):
        return _Each(len(given.records), given.image)
    if is_frame(given):
        return pictures_of_frame(given)
    if _is_hub(given):
        return _pictures_of_hub(given)
    if not _is_indexed(given):
        return with_folders(given)
    whole, places = _opened(given)
    files = _files(whole)
    if files is not None:
        return [files[place] for place in places]

    def picture(index: int) -> PictureLike:
        item = given[index]
        return item[0] if isinstance(item, tuple | list) else item

    return _Each(len(places), picture)


class _Each(Sequence[Any]):
    """Pictures that are read when their turn comes."""

    def __init__(self, n: int, picture: Callable[[int], Any]) -> None:
        self._n, self._picture = n, picture

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        places = range(self._n)[index]
        return self._picture(places) if isinstance(places, int) else [self._picture(place) for place in places]


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
        split_is_own: False: it says nothing of what is for testing.
        skipped: What was set aside, the reason by ``id``: pictures without a label, or with one that no class has.

    Raises:
        TypeError: An item is no picture with a label.
        ValueError: A picture is an array or tensor of another shape, type or range.
        DataError: It is empty, or no picture has a label.
    """

    split_is_own = False

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
        self._places, self._files = array("q"), array("q")  # in ``data``, and in the whole
        self._paths, ids, numbers = files, Names(), array("i")
        label_of = {label: number for number, label in enumerate(there)}
        for number, (place, label) in enumerate(zip(places, found, strict=True)):
            path = None if files is None else Path(files[place])
            name = f"picture {place}" if path is None else _below(path, getattr(whole, "root", None))
            if isinstance(label, str):
                self.skipped[name] = label
                continue
            self._places.append(number)
            self._files.append(place)
            ids.append(name)
            numbers.append(label_of[label])
        tested = np.zeros(len(ids), np.bool_)
        self.records: Sequence[Record] = Records(ids, np.array(numbers, np.int32), tested, files=self._file)
        warn_of_skipped(where, self.skipped)
        warn_of_twins(self.classes, where)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: It can't be decoded.
        """
        path = self.records[index].path
        return as_picture(self._data[self._places[index]][0]) if path is None else open_image(path)

    def _file(self, index: int) -> tuple[Path | None, Window | None]:
        return None if self._paths is None else Path(self._paths[self._files[index]]), None


def _is_hub(data: object) -> bool:
    """Return whether it is Hugging Face's: one split, or several by name."""
    first = next(iter(data.values()), None) if isinstance(data, Mapping) else data
    is_stream = type(first).__name__ == "IterableDataset"  # which is refused in words of its own
    return hasattr(first, "features") and (is_stream or hasattr(first, "__getitem__"))


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


def _pictures_of_hub(data: Any) -> Sequence[PictureLike]:
    if isinstance(data, Mapping):
        raise TypeError(f"`pictures` must be one split of a data set, such as data[{next(iter(data))!r}]; got several.")
    column = next((name for name, kind in data.features.items() if type(kind).__name__ == "Image"), None)
    if column is None:
        raise DataError(f"`data` must have a column of pictures; got {dict(data.features)}.")
    return _Each(len(data), lambda index: data[index][column])
