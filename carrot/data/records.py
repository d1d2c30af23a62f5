"""What every data set gives: a list of records, the names of its classes, and one picture at a time."""

import math
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import eq
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carrot._images import upright_rgb
from carrot.errors import UnreadableImageError

Split = Literal["train", "test"]
LabelKind = Literal["name", "number", "truth"]


class Window(NamedTuple):
    """The part of a file that is the picture, in whole pixels of the upright file.

    As slices have them: ``right`` and ``bottom`` are behind the last column and row, a negative number counts from the
    far side, and None is the far side.
    """

    left: int = 0
    top: int = 0
    right: int | None = None
    bottom: int | None = None

    def within(self, outer: "Window | None") -> "Window":
        """Return it as a part of the file, where it is a part of what ``outer`` leaves of that, and inside of it."""
        if outer is None:
            return self
        right, bottom = (None if end is None else end + start for end, start in zip(self[2:], outer[:2], strict=True))
        return Window(self.left + outer.left, self.top + outer.top, right, bottom)

    def of(self, image: Image.Image, name: str) -> Image.Image:
        """Return the part of a picture; ``name`` is what an error calls it.

        Raises:
            UnreadableImageError: It lies outside.
        """
        columns, rows = range(image.width)[self.left : self.right], range(image.height)[self.top : self.bottom]
        if not columns or not rows:
            raise UnreadableImageError(
                f"{name}: its part {tuple(self)} (left, top, right, bottom) lies outside of its {image.width} x "
                f"{image.height} pixels. Correct the box, or leave the picture out.",
                name,
            )
        return image.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))


class Box(NamedTuple):
    """An axis-parallel box; (x, y) is its upper left corner, all in pixels of the picture that ``image`` returns."""

    x: float
    y: float
    width: float
    height: float

    @property
    def window(self) -> Window:
        """The whole pixels that hold any of it: rounded outwards, kept off what lies left of and above the picture."""
        try:
            is_box = all(map(math.isfinite, self)) and self.width > 0 and self.height > 0
        except TypeError:
            is_box = False
        if not is_box:
            raise ValueError(f"A box must be x, y, width and height in pixels, with an area; got {tuple(self)}.")
        right, bottom = max(math.ceil(self.x + self.width), 0), max(math.ceil(self.y + self.height), 0)
        return Window(max(math.floor(self.x), 0), max(math.floor(self.y), 0), right, bottom)


@dataclass(frozen=True)
class Cut:
    """A picture of an object: what lies in a box, as ``carrot.data.Objects`` cuts the pictures of a data set.

    Attributes:
        picture: The whole picture, as ``carrot.data.inputs.as_picture`` takes it.
        box: In pixels of it, upright.
    """

    picture: Any
    box: Box

    def __post_init__(self) -> None:
        if not isinstance(self.box, Iterable) or len(tuple(self.box)) != 4:
            raise ValueError(f"`box` must be x, y, width and height in pixels; got {self.box!r}.")
        object.__setattr__(self, "box", Box(*self.box))
        _ = self.box.window  # refuses what is none


@dataclass(frozen=True)
class Record:
    """One picture of a data set.

    Attributes:
        id: Stable and unique within the data set (for files: the path below the root, with ``/``).
        label: Class index in ``0 .. C - 1``.
        split: Which side of the data set's own split it is on.
        path: Its file, or None where the picture is rendered.
        parts: Part points by name, (x, y) in pixels of the picture; only the visible ones.
        box: Where the object is, where the data set says.
        mask: The file of its segmentation, where there is one; ``Segmented.mask`` reads it.
        window: Which part of its file it is; None: all of it.
        content: Reads the bytes of the picture's file, where that lies in another, or at an address.
    """

    id: str
    label: int
    split: Split
    path: Path | None = None
    parts: dict[str, tuple[float, float]] = field(default_factory=dict)
    box: Box | None = None
    mask: Path | None = None
    window: Window | None = None
    content: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)

    @property
    def has_bytes(self) -> bool:
        """Whether a file's bytes are behind it, which say what it is without being decoded."""
        return self.path is not None or self.content is not None


@runtime_checkable
class ImageDataset(Protocol):
    """What ``main.py`` and the model need of a data set."""

    name: str
    classes: tuple[str, ...]
    records: Sequence[Record]

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as RGB, upright (EXIF orientation applied)."""
        ...


@runtime_checkable
class Segmented(Protocol):
    """What a data set with segmentations gives besides."""

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Return (img_h, img_w), True on the object of picture ``index``; None where it has no segmentation."""
        ...


@runtime_checkable
class Marked(Protocol):
    """What a data set gives besides whose pictures lie in shards, or at addresses."""

    def contents(self) -> dict[str, str]:
        """Return what the contents of each shard, or file, are known by."""
        ...


class Columns(Sequence[Record]):
    """Records that are kept as columns (``carrot.data.columns``), each made when it is asked for."""

    labels: NDArray[np.integer[Any]]
    tested: NDArray[np.bool_]

    @overload
    def __getitem__(self, place: int, /) -> Record: ...
    @overload
    def __getitem__(self, place: slice, /) -> Sequence[Record]: ...
    def __getitem__(self, place: int | slice, /) -> Record | Sequence[Record]:
        found = range(len(self))[place]
        return self._record(found) if isinstance(found, int) else Chosen(self, found)

    @abstractmethod
    def _record(self, place: int) -> Record:
        """Return one, counted from the first."""

    def name(self, place: int) -> str:
        """Return the ``id`` of one."""
        return self[place].id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as of a list


def labels_of(records: Sequence[Record]) -> NDArray[np.integer[Any]]:
    """Return the class of each record, without making records of columns."""
    if isinstance(records, Columns):
        return records.labels
    return np.fromiter((record.label for record in records), np.int64, len(records))


def tested_of(records: Sequence[Record]) -> NDArray[np.bool_]:
    """Return whether each record is for testing, without making records of columns."""
    if isinstance(records, Columns):
        return records.tested
    return np.fromiter((record.split == "test" for record in records), np.bool_, len(records))


def ids_of(records: Sequence[Record]) -> Iterator[str]:
    """Yield the ``id`` of each record, without making records of columns."""
    if isinstance(records, Columns):
        return map(records.name, range(len(records)))
    return (record.id for record in records)


class Chosen(Columns):
    """Some of other records, in an order of their own.

    Args:
        records: The others.
        places: Which.
    """

    def __init__(self, records: Sequence[Record], places: Iterable[int]) -> None:
        self._records, self._places = records, array("q", places)
        n = len(records)
        if any(not -n <= place < n for place in self._places):
            raise IndexError(f"`indices` must be of the {n} records; got {[p for p in self._places if p >= n][:3]}.")

    def __len__(self) -> int:
        return len(self._places)

    def _record(self, place: int) -> Record:
        return self._records[self._places[place]]

    def name(self, place: int) -> str:
        """Return the ``id`` of one."""
        of = self._places[place]
        return self._records.name(of) if isinstance(self._records, Columns) else self._records[of].id

    @property
    def labels(self) -> NDArray[np.integer[Any]]:  # type: ignore[override]  # read only, as all of it
        """Their classes."""
        return labels_of(self._records)[np.array(self._places, np.int64)]

    @property
    def tested(self) -> NDArray[np.bool_]:  # type: ignore[override]  # as above
        """Whether they are for testing."""
        return tested_of(self._records)[np.array(self._places, np.int64)]


class Made(Columns):
    """Records made of others, one by one, when they are asked for.

    Args:
        records: The others.
        make: A record of another, and of its place.
    """

    def __init__(self, records: Sequence[Record], make: Callable[[Record, int], Record]) -> None:
        self._records, self._make = records, make

    def __len__(self) -> int:
        return len(self._records)

    def _record(self, place: int) -> Record:
        return self._make(self._records[place], place)

    @property
    def labels(self) -> NDArray[np.integer[Any]]:  # type: ignore[override]  # as above
        """Their classes: those of the others."""
        return labels_of(self._records)

    @property
    def tested(self) -> NDArray[np.bool_]:  # type: ignore[override]  # as above
        """Whether they are for testing: as the others."""
        return tested_of(self._records)


def split_indices(dataset: ImageDataset, split: Split) -> list[int]:
    """Return the positions in ``dataset.records`` that belong to ``split``, in order."""
    return np.flatnonzero(tested_of(dataset.records) == (split == "test")).tolist()


def contents_of(dataset: ImageDataset) -> dict[str, str]:
    """Return what the contents of shards, or of files at addresses, are known by; {}: pictures have their own files.

    Raises:
        DataError: A shard can't be read.
    """
    if isinstance(dataset, Marked):
        return dataset.contents()
    inner = getattr(dataset, "dataset", None)
    return contents_of(inner) if isinstance(inner, ImageDataset) else {}


def label_kind_of(dataset: ImageDataset) -> LabelKind:
    """Return what the labels of a data set are: "name" where it doesn't say."""
    return getattr(dataset, "label_kind", "name")


def split_is_own(dataset: ImageDataset) -> bool:
    """Return whether the split is the data set's own; False: it was made by the reader, where none was asked for."""
    return bool(getattr(dataset, "split_is_own", True))


class Subset:
    """Some pictures of a data set, as a data set.

    Args:
        dataset: Where they are from.
        indices: Their positions in ``dataset.records``, in the order that they are wanted in.
    """

    def __init__(self, dataset: ImageDataset, indices: Sequence[int]) -> None:
        self.name, self.classes = dataset.name, dataset.classes
        self.dataset, self.indices = dataset, array("q", indices)
        self.label_kind = label_kind_of(dataset)
        self.records: Sequence[Record] = Chosen(dataset.records, self.indices)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB."""
        image = self.dataset.image(self.indices[index])
        return upright_rgb(image, self.records[index].id)  # a data set of the user's own may give it as it is stored

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Return the segmentation of picture ``index``, if the data set has one."""
        return self.dataset.mask(self.indices[index]) if isinstance(self.dataset, Segmented) else None
