"""Stanford Cars in its official folders: 196 makes, models and years, the official split, and bounding boxes.

::

    cars_train/<fname>, cars_test/<fname>
    devkit/cars_meta.mat                 class_names
    devkit/cars_train_annos.mat          annotations: bbox_x1, bbox_y1, bbox_x2, bbox_y2, class, fname
    cars_test_annos_withlabels.mat       the same for the test pictures; it may also lie in devkit/

The devkit's own ``cars_test_annos.mat`` has no classes and isn't read. Official boxes are taken to count pixels from 1,
as Matlab does, and to include their last row and column.

Reference: Krause, Stark, Deng, Fei-Fei: 3D Object Representations for Fine-Grained Categorization, 3dRR-13, 2013.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from carrot._images import open_image
from carrot.data.matlab import read_mat, text, whole
from carrot.data.records import Box, Record, Split
from carrot.data.reporting import warn_of_twins
from carrot.data.tables import Inside, each_is_trained, each_once, has_sign, repair, unpacked
from carrot.errors import DataError

_ARCHIVE = "Stanford Cars"
_FOLDER = "stanford_cars"
_SIGNS = ("devkit/cars_meta.mat", "devkit/cars_train_annos.mat")
_BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
_LABELLED = "cars_test_annos_withlabels.mat"


class Cars:
    """Stanford Cars, or any subset of it in the same file formats.

    Args:
        root: The folder of ``devkit``, ``cars_train`` and ``cars_test``, or the one that contains it as
            ``stanford_cars``.

    Attributes:
        name: ``"cars"``.
        classes: ``class_names``, in order. Labels are 0 .. C-1 (official: 1 .. C).
        records: Training pictures, then test pictures, in the order of the annotations; ``id`` is like
            ``cars_train/00001.jpg``; ``box`` is in pixels of the picture.

    Raises:
        DataError: A file is missing or malformed, a listed picture doesn't exist or lies outside of the folder, a class
            has no training picture.
    """

    def __init__(self, root: Path | str) -> None:
        self.name = "cars"
        self.root = unpacked(root, _FOLDER, _SIGNS, _ARCHIVE)
        meta = self.root / "devkit" / "cars_meta.mat"
        (names,) = read_mat(meta, ["class_names"], _ARCHIVE)
        texts = [text(name, f"{meta}: class name {place}", _ARCHIVE) for place, name in enumerate(names, start=1)]
        self.classes: tuple[str, ...] = each_once(texts, meta, _ARCHIVE)
        train_file = self.root / "devkit" / "cars_train_annos.mat"
        sides: tuple[tuple[Split, Path], ...] = (("train", train_file), ("test", _test_file(self.root)))
        records: dict[str, Record] = {}
        for split, file in sides:
            locate = Inside(self.root / f"cars_{split}", _ARCHIVE)
            for entry in _annotations(file, len(self.classes)):
                path = locate(entry.name, entry.where)
                record = Record(f"cars_{split}/{entry.name}", entry.label, split, path, box=entry.box)
                if records.setdefault(record.id, record) is not record:
                    raise DataError(f"{entry.where}: {record.id} is listed a second time. {repair(_ARCHIVE)}")
        self.records: Sequence[Record] = tuple(records.values())
        trained = {record.label for record in self.records if record.split == "train"}
        each_is_trained(self.classes, trained, train_file, _ARCHIVE)
        warn_of_twins(self.classes, self.root)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The file can't be decoded.
        """
        return open_image(self.root / self.records[index].id)


def looks_like_cars(root: Path | str) -> bool:
    """Return whether ``root`` is, or contains, a folder of Stanford Cars, complete or not."""
    return has_sign(root, _FOLDER, _SIGNS)


class _Entry(NamedTuple):
    where: str
    name: str
    label: int
    box: Box


def _test_file(root: Path) -> Path:
    for folder in (root, root / "devkit"):
        if (folder / _LABELLED).is_file():
            return folder / _LABELLED
    raise DataError(
        f"{root}: has no {_LABELLED}, and neither has devkit in it: the test pictures have no labels. "
        f"It is a file of its own beside the archives of {_ARCHIVE}: put it there."
    )


def _annotations(file: Path, n_classes: int) -> Iterator[_Entry]:
    (annotations,) = read_mat(file, ["annotations"], _ARCHIVE)
    fields = annotations.dtype.names or ()
    absent = [name for name in (*_BOX, "class", "fname") if name not in fields]
    if absent:
        raise DataError(f"{file}: annotations have no field {absent[0]!r}; got {fields}. {repair(_ARCHIVE)}")
    for place, annotation in enumerate(annotations, start=1):
        where = f"{file}, annotation {place}"
        left, top, right, bottom = (whole(annotation[field], f"{where}: {field}", _ARCHIVE) for field in _BOX)
        if right < left or bottom < top:
            raise DataError(f"{where}: the box {(left, top, right, bottom)} has no area. {repair(_ARCHIVE)}")
        class_id = whole(annotation["class"], f"{where}: class", _ARCHIVE)
        if not 1 <= class_id <= n_classes:
            raise DataError(f"{where}: class must be in 1 .. {n_classes}; got {class_id}. {repair(_ARCHIVE)}")
        box = Box(left - 1, top - 1, right - left + 1, bottom - top + 1)
        yield _Entry(where, text(annotation["fname"], f"{where}: fname", _ARCHIVE), class_id - 1, box)
