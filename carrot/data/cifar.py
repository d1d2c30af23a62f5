"""CIFAR-10 and CIFAR-100 from their official binary version: plain bytes, 32 x 32 pixels a picture.

::

    cifar-10-batches-bin/data_batch_1.bin .. data_batch_5.bin, test_batch.bin    label, then 3072 bytes of pixels
    cifar-10-batches-bin/batches.meta.txt                                        ten names
    cifar-100-binary/train.bin, test.bin                                         coarse label, fine label, 3072 bytes
    cifar-100-binary/fine_label_names.txt, coarse_label_names.txt                100 and 20 names

The pixels are the red plane, the green and the blue, row by row. The "python version" is pickled, and opening a pickle
runs whatever it says: it isn't read, and the error names the archive to take instead.

Reference: Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carrot.data.records import Record, Split
from carrot.data.reporting import warn_of_twins
from carrot.data.tables import each_is_trained, each_once, has_sign, repair, rows, unpacked
from carrot.errors import DataError, UnreadableImageError

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class _Format:
    """Where one of the two keeps what: ``n_labels`` bytes before the pixels, of which ``label`` is asked for."""

    folder: str
    archive: str
    files: tuple[tuple[Split, str], ...]
    names: str
    n_labels: int
    label: int
    pickled: tuple[str, ...]  # the folder of the python version, and files in it


_TEN = _Format(
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    (*(("train", f"data_batch_{number}.bin") for number in range(1, 6)), ("test", "test_batch.bin")),
    "batches.meta.txt",
    1,
    0,
    ("cifar-10-batches-py", "data_batch_1", "batches.meta"),
)
_FINE = _Format(
    "cifar-100-binary",
    "cifar-100-binary.tar.gz",
    (("train", "train.bin"), ("test", "test.bin")),
    "fine_label_names.txt",
    2,
    1,
    ("cifar-100-python", "meta", "train"),
)
_COARSE = _Format(_FINE.folder, _FINE.archive, _FINE.files, "coarse_label_names.txt", 2, 0, _FINE.pickled)


class _Cifar:
    """What the two have in common."""

    def __init__(self, root: Path | str, name: str, form: _Format) -> None:
        self.name = name
        self.root = _find(root, form)
        self._row = form.n_labels + _PIXELS
        names = [row.columns[0] for row in rows(self.root / form.names, "name", form.archive)]
        self.classes: tuple[str, ...] = each_once(names, self.root / form.names, form.archive)
        records: list[Record] = []
        self._places: list[tuple[str, int]] = []
        for split, file in form.files:
            for number, label in enumerate(_labels(self.root / file, form, len(self.classes))):
                records.append(Record(f"{file}/{number:05d}", label, split))
                self._places.append((file, number))
        self.records: Sequence[Record] = tuple(records)
        trained = {record.label for record in records if record.split == "train"}
        each_is_trained(self.classes, trained, self.root, form.archive)
        warn_of_twins(self.classes, self.root)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index``, RGB, 32 x 32.

        Raises:
            UnreadableImageError: Its file can't be read any more.
        """
        name, number = self._places[index]
        file = self.root / name
        try:
            pixels = np.fromfile(file, np.uint8, _PIXELS, offset=(number + 1) * self._row - _PIXELS)
            return Image.fromarray(np.ascontiguousarray(pixels.reshape(3, _SIDE, _SIDE).transpose(1, 2, 0)))
        except (OSError, ValueError) as error:
            raise UnreadableImageError(f"{file}: picture {number} can't be read: {error}.", str(file)) from error


class Cifar10(_Cifar):
    """CIFAR-10 from its binary version, or fewer pictures in the same files.

    Args:
        root: The folder ``cifar-10-batches-bin``, or the folder that contains it.

    Attributes:
        name: ``"cifar10"``.
        classes: The ten names in ``batches.meta.txt``.
        records: The five training files, then the test file, in order; ids like ``data_batch_1.bin/00000``. ``path`` is
            None.

    Raises:
        DataError: A file is missing or malformed, only the pickled version is there, a class has no training picture.
    """

    def __init__(self, root: Path | str) -> None:
        super().__init__(root, "cifar10", _TEN)


class Cifar100(_Cifar):
    """CIFAR-100 from its binary version, or fewer pictures in the same files.

    Args:
        root: The folder ``cifar-100-binary``, or the folder that contains it.
        coarse: The classes are the 20 coarse ones rather than the 100 fine ones.

    Attributes:
        name: ``"cifar100"``.
        classes: The names in ``fine_label_names.txt`` or ``coarse_label_names.txt``.
        records: The training file, then the test file, in order; ids like ``train.bin/00000``. ``path`` is None.

    Raises:
        DataError: A file is missing or malformed, only the pickled version is there, a class has no training picture.
    """

    def __init__(self, root: Path | str, coarse: bool = False) -> None:
        super().__init__(root, "cifar100", _COARSE if coarse else _FINE)


def looks_like_cifar10(root: Path | str) -> bool:
    """Return whether ``root`` is, or contains, CIFAR-10, complete or not, binary or pickled."""
    return has_sign(root, _TEN.folder, _signs(_TEN)) or _is_pickled(root, _TEN)


def looks_like_cifar100(root: Path | str) -> bool:
    """Return whether ``root`` is, or contains, CIFAR-100, complete or not, binary or pickled."""
    return has_sign(root, _FINE.folder, _signs(_FINE)) or _is_pickled(root, _FINE)


def _signs(form: _Format) -> tuple[str, ...]:
    return (form.names, "test_batch.bin") if form is _TEN else (form.names,)


def _is_pickled(root: Path | str, form: _Format) -> bool:
    folder, *files = form.pickled
    return (Path(root) / folder).is_dir() or all((Path(root) / file).is_file() for file in files)


def _find(root: Path | str, form: _Format) -> Path:
    if not has_sign(root, form.folder, _signs(form)) and _is_pickled(root, form):
        raise DataError(
            f"{root}: holds the python version, which is pickled: opening it could run anything. "
            f"Unpack the binary version, {form.archive}, there instead."
        )
    return unpacked(root, form.folder, _signs(form), form.archive)


def _labels(file: Path, form: _Format, n_classes: int) -> list[int]:
    table = _table(file, form)
    labels: NDArray[np.uint8] = table[:, form.label]
    wrong = np.flatnonzero(labels >= n_classes)
    if len(wrong):
        what = f"picture {wrong[0]} has the label {labels[wrong[0]]}, and {form.names} has {n_classes} names"
        raise DataError(f"{file}: {what}. {repair(form.archive)}")
    return [int(label) for label in labels]


def _table(file: Path, form: _Format) -> NDArray[np.uint8]:
    """Return (n, n_labels + 3072) bytes."""
    row = form.n_labels + _PIXELS
    try:
        data = np.fromfile(file, np.uint8)
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such file. Unpack {form.archive} again.") from None
    except OSError as error:
        raise DataError(f"{file}: can't be read: {error}. {repair(form.archive)}") from error
    if not len(data) or len(data) % row:
        raise DataError(f"{file}: must be whole rows of {row} bytes; got {len(data)} bytes. {repair(form.archive)}")
    return data.reshape(-1, row)
