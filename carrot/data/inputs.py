"""Pictures as users have them: paths, PIL pictures, arrays and tensors, one or many, as upright RGB ones with names."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from PIL import Image
from torch import Tensor

from carrot._images import decode_image, open_image, upright_rgb
from carrot.data.columns import Names, Records
from carrot.data.labels import Labels, in_order, names_of
from carrot.data.records import Box, Cut, LabelKind, Record, Split, Window
from carrot.data.walking import pictures_in


@runtime_checkable
class Readable(Protocol):
    """A file that was opened for reading bytes, or what behaves like one (``io.BytesIO``)."""

    def read(self, size: int = -1, /) -> bytes: ...  # noqa: D102


PictureLike: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Image.Image | np.ndarray | Tensor | Cut
)
Pictures: TypeAlias = PictureLike | Iterable[PictureLike]

_KINDS = (
    "a path, the bytes of a picture file or a file opened for reading them, a PIL picture, an array (height, width, 3) "
    "of uint8 or a tensor (3, height, width), or a Cut of one of these"
)


def as_list(pictures: Pictures) -> list[PictureLike]:
    """Return one picture, or many, as a list.

    A batch is an array (B, height, width, 3) or a tensor (B, 3, height, width), or one of paths. What is open for
    reading is read: it may be closed, or read by others, before it is looked at.

    Raises:
        TypeError: Something else.
    """
    if isinstance(pictures, np.ndarray) and pictures.dtype.kind in "UO":
        return pictures.ravel().tolist()
    if isinstance(pictures, np.ndarray | Tensor):
        return list(pictures) if pictures.ndim == 4 else [pictures]
    if isinstance(pictures, str | os.PathLike | Image.Image | bytes | bytearray | memoryview | Cut):
        return [pictures]
    if isinstance(pictures, Readable):
        return [_content(pictures)]
    if isinstance(pictures, Iterable):
        return [_content(picture) if isinstance(picture, Readable) else picture for picture in pictures]
    raise TypeError(f"`pictures` must be {_KINDS}, or several of them; got {type(pictures).__name__}.")


def with_folders(pictures: Pictures) -> list[PictureLike]:
    """Return them as a list, the pictures in a folder for the folder: ``carrot.data.pictures_in``.

    Raises:
        DataError: A folder holds no picture.
        TypeError: As ``as_list``.
    """
    found = list[PictureLike]()
    for item in as_list(pictures):
        is_folder = isinstance(item, str | os.PathLike) and os.path.isdir(item)
        found += pictures_in(item) if is_folder else [item]  # type: ignore[arg-type]  # narrowed in the line before
    return found


def as_picture(picture: PictureLike) -> Image.Image:
    """Return one picture as upright RGB: a new one, which comes back the same from here.

    Arrays are (height, width) or (height, width, 3), uint8; tensors (3, height, width) or (1, height, width), uint8 or
    floating point in [0, 1]. Values of another range are refused: a picture that was normalised already would be
    normalised twice. Files that are open are read from their start.

    Raises:
        TypeError: Not a picture.
        ValueError: An array or a tensor of another shape, dtype or range.
        UnreadableImageError: A file, its bytes or a PIL picture that can't be decoded, or has no defined white; or a
            box outside of it.
    """
    if isinstance(picture, Cut):
        return Box(*picture.box).window.of(as_picture(picture.picture), name_of(picture.picture, 0))
    if isinstance(picture, str | os.PathLike):
        return open_image(picture if isinstance(picture, str) else Path(picture))
    if isinstance(picture, Image.Image):
        return upright_rgb(picture, getattr(picture, "filename", "") or "the PIL picture")
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode_image(bytes(picture), f"the {len(picture):,} bytes")
    if isinstance(picture, Tensor):
        return Image.fromarray(_from_tensor(picture))
    if isinstance(picture, np.ndarray):
        return Image.fromarray(_from_array(picture))
    if isinstance(picture, Readable):
        return decode_image(_content(picture), str(getattr(picture, "name", "the open file")))
    raise TypeError(f"A picture must be {_KINDS}; got {type(picture).__name__}.{_hint(picture)}")


def _hint(given: object) -> str:
    """Return what to write instead of what holds a picture."""
    if isinstance(given, tuple | list):
        return " An item of a data set is (picture, label): give its first, item[0]."
    return " Of a data set give one picture: data[0][0]." if hasattr(given, "__getitem__") else ""


def name_of(picture: PictureLike, position: int) -> str:
    """Return what to call a picture: its path, or its position among those that were given."""
    if isinstance(picture, Cut):
        x, y, width, height = picture.box
        return f"{name_of(picture.picture, position)} (box {x:g},{y:g},{width:g},{height:g})"
    if isinstance(picture, str | os.PathLike):
        return os.fsencode(picture).decode("utf-8", "backslashreplace")
    return f"picture {position}"


def content_sha256(record: Record, image: Image.Image | None = None) -> str:
    """Return the SHA-256 of a record's file, and of which part it is; where it has none, of its size and RGB values.

    A picture in a shard has the bytes of its file there, so that it is the same picture in any shard and in a folder.

    Raises:
        OSError: The file can't be read.
        UnreadableImageError: It can't be read from its shard or address.
        ValueError: It has no file, and ``image`` is None.
    """
    if record.path is not None or record.content is not None:
        if record.path is not None:
            with open(record.path, "rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            whole = hashlib.sha256(record.content()).hexdigest()  # type: ignore[misc]  # it isn't None
        part = record.window
        return whole if part is None else hashlib.sha256(f"{whole} {tuple(part)}".encode()).hexdigest()
    if image is None:
        raise ValueError(f"`image` is needed: {record.id} has no file.")
    digest = hashlib.sha256(f"{image.width} {image.height} {image.mode}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def content_of(picture: PictureLike, image: Image.Image | None = None) -> str:
    """Return what a training picture's record would hold of a picture: of its file where it is one, else of its pixels.

    Args:
        picture: As it was given.
        image: The same as upright RGB; a path needs none.
    """
    window = Box(*picture.box).window if isinstance(picture, Cut) else None
    whole = picture.picture if isinstance(picture, Cut) else picture
    if isinstance(whole, Readable) and window is None:
        whole = _content(whole)
    if isinstance(whole, bytes | bytearray | memoryview) and window is None:
        return hashlib.sha256(whole).hexdigest()
    path = Path(os.fsdecode(whole)) if isinstance(whole, str | os.PathLike) else None
    return content_sha256(Record("", 0, "train", path, window=window if path else None), image)


class PictureList:
    """Pictures at hand, with labels: an ``ImageDataset``, all of them for training or all for testing.

    Args:
        pictures: One or many, as ``as_picture`` takes them.
        labels: A name, a whole number or a truth value for each, all of one kind; None: unlabelled, all of class 0.
        classes: Names of the classes, in order; default: the labels that occur, sorted.
        split: Which side they are on.
        ids: Their names; default: their paths, or numbers.
        taken: Names that are given already: numbers go on after them.

    Attributes:
        label_kind: What the labels were: "name", "number" or "truth".
        split_is_own: Whether ``split`` was read from somewhere, and not just given.
        skipped: What whoever made it set aside, the reason by id.

    Raises:
        ValueError: There is no picture, labels are of another number, or one is not among ``classes``.
        TypeError: A label is missing, or labels are of several kinds.
    """

    def __init__(
        self,
        pictures: Pictures,
        labels: Labels | None = None,
        classes: Sequence[str] | None = None,
        split: Split = "train",
        ids: Sequence[str] | None = None,
        taken: Collection[str] = (),
    ) -> None:
        self.name, self.split_is_own = "pictures", False
        self.skipped: dict[str, str] = {}
        self._pictures = as_list(pictures)
        if not self._pictures:
            raise ValueError("`pictures` must hold at least one picture; got none.")
        n = len(self._pictures)
        alike: tuple[list[str], LabelKind] = ([classes[0] if classes else "unlabelled"] * n, "name")
        given, self.label_kind = alike if labels is None else names_of(labels)
        if len(given) != n:
            raise ValueError(f"`labels` must be one for each of {n} pictures; got {len(given)}.")
        self.classes: tuple[str, ...] = tuple(classes) if classes else tuple(in_order(given, self.label_kind))
        place_of = {label: place for place, label in enumerate(self.classes)}
        unknown = sorted(set(given) - place_of.keys())
        if unknown:
            raise ValueError(f"`labels` must be among the {len(place_of)} classes; {unknown[0]!r} is not.")
        first = 1 + max(
            (int(name.split()[1]) for name in taken if re.fullmatch(r"picture \d+( \(box .*\))?", name)), default=-1
        )
        given_names = [name_of(picture, first + place) for place, picture in enumerate(self._pictures)]
        names = given_names if ids is None else list(ids)
        if not all(isinstance(name, str) for name in names):
            raise TypeError("`ids` must be strings.")
        if len(names) != n:
            raise ValueError(f"`ids` must be one for each of {n} pictures; got {len(names)}.")
        if len(set(names)) != n:
            twice = Counter(names).most_common(1)[0][0]
            raise ValueError(f"`pictures` must all have different names; {twice} comes twice.")
        labels_as_numbers = np.fromiter((place_of[label] for label in given), np.int32, n)
        tested = np.full(n, split == "test")
        self.records: Sequence[Record] = Records(Names(names), labels_as_numbers, tested, files=self._file)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB."""
        return as_picture(self._pictures[index])

    def _file(self, index: int) -> tuple[Path | None, Window | None]:
        picture = self._pictures[index]
        window = Box(*picture.box).window if isinstance(picture, Cut) else None
        whole = picture.picture if isinstance(picture, Cut) else picture
        return (Path(whole), window) if isinstance(whole, str | os.PathLike) else (None, None)


def _content(file: Readable) -> bytes:
    seekable = getattr(file, "seekable", None)
    if seekable is not None and seekable():
        file.seek(0)  # type: ignore[attr-defined]  # as Pillow does: a second look sees the same
    content = file.read()
    if not isinstance(content, bytes):
        raise TypeError(f'A file must be opened for reading bytes, mode "rb"; it gave {type(content).__name__}.')
    return content


def _from_tensor(x: Tensor) -> np.ndarray:
    if x.ndim != 3 or x.shape[0] not in (1, 3) or 0 in x.shape:
        raise ValueError(f"A tensor must be (3, height, width) or (1, height, width); got {tuple(x.shape)}.")
    values = x.detach().cpu().movedim(0, -1).expand(-1, -1, 3)
    if not x.is_floating_point():
        return _from_array(values.numpy())
    if not (float(values.min()) >= 0.0 and float(values.max()) <= 1.0):  # also NaN
        raise ValueError("A floating-point tensor must be in [0, 1], before any normalisation: the model does its own.")
    return _from_array((values.double() * 255.0).round().byte().numpy())


def _from_array(a: np.ndarray) -> np.ndarray:
    if a.dtype != np.uint8:
        raise ValueError(
            f"An array must be uint8, 0 .. 255; got {a.dtype}. A floating-point picture can be given as a tensor."
        )
    if a.ndim == 2:
        a = np.stack([a] * 3, axis=-1)
    if a.ndim != 3 or a.shape[2] != 3 or 0 in a.shape:
        raise ValueError(f"An array must be (height, width, 3); got {a.shape}. Tensors are (3, height, width).")
    return np.ascontiguousarray(a)
