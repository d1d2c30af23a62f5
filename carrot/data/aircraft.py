"""FGVC-Aircraft (2013b) in its official folder: variants, families or manufacturers of aeroplanes, and their boxes.

The files are the official ones; every line is checked, and an error says which file, which line and what to do::

    data/images/<image_id>.jpg
    data/variants.txt                     name                        also families.txt, manufacturers.txt
    data/images_variant_trainval.txt      image_id name               training pictures; also images_family_...,
                                                                      images_manufacturer_...
    data/images_variant_test.txt          image_id name               test pictures
    data/images_box.txt                   image_id xmin ymin xmax ymax   may be absent

Official boxes count pixels from 1 and include their last row and column. The lowest 20 rows of every picture are a
banner with its author's name: it is cut off, for it may tell a classifier more than the aeroplane does.

Reference: Maji, Kannala, Rahtu, Blaschko, Vedaldi: Fine-Grained Visual Classification of Aircraft, arXiv:1306.5151.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from carrot._images import image_size, open_image
from carrot.data.records import Box, Record, Split, Window
from carrot.data.reporting import warn_of_twins
from carrot.data.tables import Inside, each_is_trained, has_sign, repair, rows, unpacked, whole_number
from carrot.errors import DataError, UnreadableImageError

Level = Literal["variant", "family", "manufacturer"]

_ARCHIVE = "fgvc-aircraft-2013b"
_SIGNS = ("data/variants.txt", "data/images_variant_trainval.txt")
_NAMES = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}


class Aircraft:
    """FGVC-Aircraft, or any subset of it in the same file formats.

    Args:
        root: The folder ``fgvc-aircraft-2013b``, or the folder that contains it.
        level: What the classes are: the 100 variants, the 70 families or the 30 manufacturers.
        banner: How many rows to cut off at the bottom of every picture; 0 for none.

    Attributes:
        name: ``"aircraft"``.
        classes: The names in ``variants.txt`` (``families.txt``, ``manufacturers.txt``), in their order.
        records: Those of the ``trainval`` file, then those of the ``test`` file, in the order of the lines; ``id`` is
            ``data/images/<image_id>.jpg``. ``box`` is clipped to the picture without its banner; None where nothing is
            left of it, where the picture can't be read, or without ``images_box.txt``.

    Raises:
        DataError: A file is missing or malformed, a listed picture doesn't exist or lies outside of the folder, a class
            has no training picture.
        ValueError: ``level`` is none of the three, ``banner`` is negative.
    """

    def __init__(self, root: Path | str, level: Level = "variant", banner: int = 20) -> None:
        if level not in get_args(Level):
            raise ValueError(f"`level` must be one of {get_args(Level)}; got {level!r}")
        if banner < 0:
            raise ValueError(f"`banner` must be a number of pixels >= 0; got {banner}")
        self.name = "aircraft"
        self.root = unpacked(root, _ARCHIVE, _SIGNS, _ARCHIVE)
        self.banner = banner

        data = self.root / "data"
        self.classes: tuple[str, ...] = _class_names(data / _NAMES[level])
        boxes = _boxes(data / "images_box.txt")
        label_of_class = {name: label for label, name in enumerate(self.classes)}
        records: list[Record] = []
        first: dict[str, str] = {}
        locate = Inside(data / "images", _ARCHIVE)
        window = Window(bottom=-banner) if banner else None
        sides: tuple[tuple[Split, str], ...] = (("train", "trainval"), ("test", "test"))
        for split, side in sides:
            for row in rows(data / f"images_{level}_{side}.txt", "image_id name", _ARCHIVE):
                image_id, name = row.columns
                if name not in label_of_class:
                    raise row.error(f"{_NAMES[level]} has no {level} {name!r}")
                if first.setdefault(image_id, row.where) != row.where:
                    raise row.error(f"{image_id} is listed a second time; the first: {first[image_id]}")
                if boxes is not None and image_id not in boxes:
                    raise row.error(f"images_box.txt has no box for {image_id}")
                file = locate(f"{image_id}.jpg", row.where)
                box = None if boxes is None else _clipped(boxes[image_id], file, banner)
                label = label_of_class[name]
                records.append(Record(f"data/images/{image_id}.jpg", label, split, file, box=box, window=window))
        self.records: Sequence[Record] = tuple(records)
        trained = {record.label for record in records if record.split == "train"}
        each_is_trained(self.classes, trained, data / f"images_{level}_trainval.txt", _ARCHIVE)
        warn_of_twins(self.classes, self.root)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB, without its banner.

        Raises:
            UnreadableImageError: The file can't be decoded, or is no taller than the banner.
        """
        file = self.root / self.records[index].id
        image, window = open_image(file), self.records[index].window
        if image.height <= self.banner:
            reason = f"its height of {image.height} pixels is no more than the banner's {self.banner}"
            raise UnreadableImageError(f"{file}: {reason}. {repair(_ARCHIVE)}", str(file))
        return image if window is None else window.of(image, str(file))


def looks_like_aircraft(root: Path | str) -> bool:
    """Return whether ``root`` is, or contains, a folder of FGVC-Aircraft, complete or not."""
    return has_sign(root, _ARCHIVE, _SIGNS)


def _class_names(file: Path) -> tuple[str, ...]:
    names: dict[str, str] = {}
    for row in rows(file, "name", _ARCHIVE):
        (name,) = row.columns
        if names.setdefault(name, row.where) != row.where:
            raise row.error(f"{name!r} is listed a second time; the first: {names[name]}")
    if not names:
        raise DataError(f"{file}: is empty. {repair(_ARCHIVE)}")
    return tuple(names)


def _boxes(file: Path) -> dict[str, tuple[int, int, int, int]] | None:
    """Read (left, top, right, bottom), from 0 and without the last row and column, by image id."""
    if not file.exists():
        return None
    boxes: dict[str, tuple[int, int, int, int]] = {}
    for row in rows(file, "image_id xmin ymin xmax ymax", _ARCHIVE):
        image_id = row.columns[0]
        left, top, right, bottom = (row.parse(whole_number, column) for column in row.columns[1:])
        if right < left or bottom < top:
            raise row.error(f"the box {left} {top} {right} {bottom} has no area")
        if image_id in boxes:
            raise row.error(f"{image_id} is listed a second time")
        boxes[image_id] = (left - 1, top - 1, right, bottom)
    return boxes


def _clipped(box: tuple[int, int, int, int], file: Path, banner: int) -> Box | None:
    try:
        width, height = image_size(file)
    except UnreadableImageError:
        return None
    left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height - banner)
    return Box(left, top, right - left, bottom - top) if left < right and top < bottom else None
