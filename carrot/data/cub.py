"""CUB-200-2011 in its official folder: labels, split, bounding boxes and the 15 part points of every bird.

The files are the official ones; every line is checked, and an error says which file, which line and what to do::

    CUB_200_2011/images/<class>/<name>.jpg
    images.txt              image_id path-below-images
    classes.txt             class_id name
    image_class_labels.txt  image_id class_id
    train_test_split.txt    image_id 1 (training) or 0 (test)
    bounding_boxes.txt      image_id x y width height          in pixels
    parts/parts.txt         part_id name                       the folder parts/ may be absent
    parts/part_locs.txt     image_id part_id x y visible       in pixels; visible is 0 or 1
    segmentations/<class>/<name>.png   8-bit grey; the folder may be absent, or lie beside CUB_200_2011
                                       (an archive of its own)

Reference: Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carrot._images import image_size, open_grey, open_image
from carrot.data.records import Box, Record, Split
from carrot.data.reporting import warn_of_twins
from carrot.data.tables import Inside, finite, flag, repair, rows, same_size, whole_number
from carrot.errors import DataError

BIRD = 128
"""A segmentation's grey value is the share of annotators, 0 to 255, who took the pixel for the bird.

From half of them on it is the bird.
"""

T = TypeVar("T")
_ARCHIVE = "CUB_200_2011"
_REPAIR = repair(_ARCHIVE)


class Cub:
    """CUB-200-2011, or any subset of it in the same file formats.

    Args:
        root: The folder ``CUB_200_2011``, or the folder that contains it.

    Attributes:
        name: ``"cub"``.
        classes: The names in ``classes.txt``, in the order of their official ids. Labels are 0 .. C-1
            (official: 1 .. C).
        records: In the order of the official image ids; ``id`` is ``images/<class>/<name>.jpg``. ``parts`` is empty
            where the folder ``parts`` is absent; ``box`` is the bounding box as in the file, and ``mask`` the
            segmentation, where there is one.
        part_names: The names in ``parts.txt``, in order, or none.

    Raises:
        DataError: A file is missing or malformed, ids don't match between files, a listed picture doesn't exist or lies
            outside of the folder, a class has no training picture.
    """

    def __init__(self, root: Path | str) -> None:
        self.name = "cub"
        self.root = _find(Path(root))

        paths = _names(self.root / "images.txt", "image_id path")
        classes = _names(self.root / "classes.txt", "class_id name")
        class_of = _table(self.root / "image_class_labels.txt", "image_id class_id", whole_number, paths)
        is_train = _table(self.root / "train_test_split.txt", "image_id 0-or-1", flag, paths)
        boxes = _table(self.root / "bounding_boxes.txt", "image_id x y width height", _box, paths)
        self.part_names, parts = _parts(self.root / "parts", paths)

        class_ids = sorted(classes)
        label_of_class = {class_id: label for label, class_id in enumerate(class_ids)}
        self.classes: tuple[str, ...] = tuple(classes[class_id] for class_id in class_ids)
        self._image_ids = sorted(paths)
        self._check_classes(classes, class_of, is_train)
        records = []
        locate, masks = Inside(self.root / "images", _ARCHIVE), self._segmentations()
        for image_id in self._image_ids:
            where = f"{self.root / 'images.txt'}: image id {image_id}"
            file = locate(paths[image_id], where)
            split: Split = "train" if is_train[image_id] else "test"
            label = label_of_class[class_of[image_id]]
            mask = _segmentation(masks, paths[image_id])
            points = parts.get(image_id, {})
            records.append(Record(f"images/{paths[image_id]}", label, split, file, points, boxes[image_id], mask))
        self.records: Sequence[Record] = tuple(records)
        warn_of_twins(self.classes, self.root)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The file can't be decoded.
        """
        return open_image(self.root / self.records[index].id)

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Return (img_h, img_w), True on picture ``index``'s bird; None without a segmentation.

        The bird is where the official grey value is at least ``BIRD``: a majority of the annotators, or half of them.
        Others set the limit elsewhere (above 0, above 200): figures are comparable at one limit only.

        Raises:
            UnreadableImageError: The segmentation or the picture can't be read.
            DataError: The segmentation isn't as large as its picture.
        """
        record = self.records[index]
        if record.mask is None:
            return None
        grey, size = open_grey(record.mask), image_size(self.root / record.id)
        same_size(record.mask, (grey.shape[1], grey.shape[0]), size, _ARCHIVE)
        return grey >= BIRD

    def _segmentations(self) -> list[tuple[Path, Inside]]:
        folders = (self.root / "segmentations", self.root.parent / "segmentations")
        return [(folder, Inside(folder, _ARCHIVE)) for folder in folders if folder.is_dir()]

    def _check_classes(self, classes: dict[int, str], class_of: dict[int, int], is_train: dict[int, bool]) -> None:
        labels = self.root / "image_class_labels.txt"
        for image_id in self._image_ids:
            if class_of[image_id] not in classes:
                raise DataError(
                    f"{labels}: image id {image_id} has the class id {class_of[image_id]}, which classes.txt does not "
                    f"list. {_REPAIR}"
                )
        trained = {class_of[image_id] for image_id in self._image_ids if is_train[image_id]}
        for class_id, name in classes.items():
            if class_id not in trained:
                raise DataError(
                    f"{labels}: class {class_id} ({name}) has no training picture. Every class of classes.txt needs "
                    "one: remove the class and its pictures from all files, or unpack the official archive again."
                )


def looks_like_cub(root: Path | str) -> bool:
    """Return whether ``root`` is, or contains, a CUB folder, complete or not."""
    root = Path(root)
    signs = ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    return any((folder / sign).is_file() for folder in (root, root / "CUB_200_2011") for sign in signs)


def _segmentation(folders: list[tuple[Path, Inside]], path: str) -> Path | None:
    name = str(PurePosixPath(path).with_suffix(".png"))
    for folder, locate in folders:
        if (folder / name).is_file():
            return locate(name, f"{folder}: {name}")
    return None


def _find(root: Path) -> Path:
    for folder in (root, root / "CUB_200_2011"):
        if (folder / "images.txt").is_file():
            return folder
    reason = "has no images.txt, and neither has CUB_200_2011 in it" if root.is_dir() else "is not a folder"
    raise DataError(f"{root}: {reason}. Give the unpacked CUB_200_2011 folder, or the folder that contains it.")


def _table(file: Path, form: str, parse: Callable[[str], T], ids: Collection[int] | None = None) -> dict[int, T]:
    """Read lines 'id value'. If ``ids`` is given, the file must have exactly these, else at least one; none twice."""
    table: dict[int, T] = {}
    for row in rows(file, form, _ARCHIVE):
        key, *values = row.columns
        row_id = row.parse(whole_number, key)
        if row_id in table:
            raise row.error(f"the id {row_id} is listed a second time")
        if ids is not None and row_id not in ids:
            raise row.error(f"images.txt has no image id {row_id}")
        table[row_id] = row.parse(parse, " ".join(values))
    absent = [] if ids is None else sorted(set(ids) - table.keys())
    if absent:
        raise DataError(
            f"{file}: has no line for image id {absent[0]} of images.txt ({len(absent)} missing). {_REPAIR}"
        )
    if not table:
        raise DataError(f"{file}: is empty. {_REPAIR}")
    return table


def _names(file: Path, form: str) -> dict[int, str]:
    """Read lines 'id name', no name twice."""
    names = _table(file, form, str)
    first_id: dict[str, int] = {}
    for row_id, name in names.items():
        if first_id.setdefault(name, row_id) != row_id:
            raise DataError(f"{file}: id {row_id} is the same as id {first_id[name]}: {name!r}. {_REPAIR}")
    return names


def _parts(
    folder: Path, image_ids: Collection[int]
) -> tuple[tuple[str, ...], dict[int, dict[str, tuple[float, float]]]]:
    """Read the part names, and by image id the visible points by part name."""
    if not folder.exists():
        return (), {}
    names = _names(folder / "parts.txt", "part_id name")
    points: dict[int, dict[str, tuple[float, float]]] = {}
    seen = set()
    for row in rows(folder / "part_locs.txt", "image_id part_id x y visible", _ARCHIVE):
        image_id, part_id = (row.parse(whole_number, column) for column in row.columns[:2])
        x, y = (row.parse(finite, column) for column in row.columns[2:4])
        if image_id not in image_ids or part_id not in names:
            unknown = f"images.txt has no image id {image_id}" if image_id not in image_ids else ""
            raise row.error(unknown or f"parts.txt has no part id {part_id}")
        if (image_id, part_id) in seen:
            raise row.error(f"part {part_id} of image id {image_id} is listed a second time")
        seen.add((image_id, part_id))
        if row.parse(flag, row.columns[4]):
            points.setdefault(image_id, {})[names[part_id]] = (x, y)
    if len(seen) != len(image_ids) * len(names):
        image_id, part_id = next((i, p) for i in image_ids for p in names if (i, p) not in seen)
        raise DataError(f"{folder / 'part_locs.txt'}: has no line for part {part_id} of image id {image_id}. {_REPAIR}")
    return tuple(names[part_id] for part_id in sorted(names)), points


def _box(text: str) -> Box:
    box = Box(*(finite(value) for value in text.split()))
    if box.width <= 0 or box.height <= 0:
        raise ValueError(f"the box {text!r} has no area")
    return box
