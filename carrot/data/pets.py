"""Oxford-IIIT Pet in its official folders: breed, split, and the trimap that tells the pet from its background.

The files are the official ones; every line is checked, and an error says which file, which line and what to do::

    images/<Breed>_<n>.jpg          the name of a class is all before the last underscore
    annotations/trainval.txt        name class_id species breed_id     training pictures
    annotations/test.txt            name class_id species breed_id     test pictures
    annotations/list.txt            name class_id species breed_id     both together; may be absent
    annotations/trimaps/<name>.png  1 pet, 2 background, 3 border      may be absent

``species`` is 1 (cat) or 2 (dog); it and ``breed_id`` are checked and not used. Lines that begin with # are comments.
Only listed names are looked for: the pictures that the official lists leave out, and ``._*`` files of macOS, play no
part. Some official pictures are PNG or GIF whatever their name says, and some are damaged: ``open_image`` goes by the
content.

Reference: Parkhi, Vedaldi, Zisserman, Jawahar: Cats and Dogs, CVPR 2012.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carrot._images import image_size, open_codes, open_image
from carrot.data.records import Record, Split
from carrot.data.reporting import warn_of_twins
from carrot.data.tables import Inside, Row, repair, rows, same_size, whole_number
from carrot.errors import DataError

PET, BACKGROUND, BORDER = 1, 2, 3
"""The official codes of a trimap."""

_ARCHIVE = "Oxford-IIIT Pet"
_REPAIR = repair(_ARCHIVE)
_FORM = "name class_id species breed_id"
_FOLDER = "oxford-iiit-pet"


class Pets:
    """Oxford-IIIT Pet, or any subset of it in the same file formats.

    Args:
        root: The folder of ``images`` and ``annotations``, or the one that contains it as ``oxford-iiit-pet``.

    Attributes:
        name: ``"pets"``.
        classes: The breeds as in the file names, in the order of their official ids. Labels are 0 .. C-1
            (official: 1 .. C).
        records: Those of ``trainval.txt``, then those of ``test.txt``, in the order of the lines; ``id`` is
            ``images/<name>.jpg``; ``mask`` is the file of the trimap.

    Raises:
        DataError: A file is missing or malformed, files contradict each other, a listed picture doesn't exist or lies
            outside of the folder, a class has no training picture.
    """

    def __init__(self, root: Path | str) -> None:
        self.name = "pets"
        self.root = _find(Path(root))
        annotations = self.root / "annotations"

        train = list(_entries(annotations / "trainval.txt"))
        if not train:
            raise DataError(f"{annotations / 'trainval.txt'}: is empty. {_REPAIR}")
        test = list(_entries(annotations / "test.txt"))
        class_of_id = _classes(train, test)
        _must_agree(annotations / "list.txt", _once([*train, *test]))

        self.classes: tuple[str, ...] = tuple(class_of_id[class_id] for class_id in sorted(class_of_id))
        label_of_class = {name: label for label, name in enumerate(self.classes)}
        sides: tuple[tuple[Split, list[_Entry]], ...] = (("train", train), ("test", test))
        records = []
        locate, trimaps = Inside(self.root / "images", _ARCHIVE), self._trimaps()
        for split, entries in sides:
            for entry in entries:
                file = locate(f"{entry.name}.jpg", entry.row.where)
                label, mask = label_of_class[entry.breed], _trimap_file(trimaps, entry.name)
                records.append(Record(f"images/{entry.name}.jpg", label, split, file, mask=mask))
        self.records: Sequence[Record] = tuple(records)
        warn_of_twins(self.classes, self.root)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The file can't be decoded.
        """
        return open_image(self.root / self.records[index].id)

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Return (img_h, img_w), True on the pet of picture ``index``; None where there is no trimap.

        The border, which those who drew it left undecided, is False here: ``trimap`` tells it from the background.

        Raises:
            UnreadableImageError, DataError: As ``trimap``.
        """
        trimap = self.trimap(index)
        return None if trimap is None else np.asarray(trimap) == PET

    def trimap(self, index: int) -> Image.Image | None:
        """Return the trimap of picture ``index``, as large as ``image(index)``, mode "L"; None where there is no file.

        Its values are ``PET``, ``BACKGROUND`` and ``BORDER`` (the pet's outline, left open by those who drew it).

        Raises:
            UnreadableImageError: The trimap or the picture can't be decoded.
            DataError: The trimap has another value, or another size than the picture, or lies outside of its folder.
        """
        file = _trimap_file(self._trimaps(), Path(self.records[index].id).stem)
        if file is None:
            return None
        trimap = open_codes(file)
        same_size(file, trimap.size, image_size(self.root / self.records[index].id), _ARCHIVE)
        other = sorted(set(np.unique(np.asarray(trimap)).tolist()) - {PET, BACKGROUND, BORDER})
        if other:
            raise DataError(f"{file}: must have 1 (pet), 2 (background), 3 (border) only; got {other[0]}. {_REPAIR}")
        return trimap

    def _trimaps(self) -> tuple[Path, Inside]:
        folder = self.root / "annotations" / "trimaps"
        return folder, Inside(folder, _ARCHIVE)


class _Entry(NamedTuple):
    row: Row
    name: str  # Breed_n
    breed: str
    class_id: int


def looks_like_pets(root: Path | str) -> bool:
    """Return whether ``root`` is, or contains, a folder of Oxford-IIIT Pet, complete or not."""
    root = Path(root)
    signs = ("trainval.txt", "test.txt", "list.txt")
    return any((folder / "annotations" / sign).is_file() for folder in (root, root / _FOLDER) for sign in signs)


def _find(root: Path) -> Path:
    for folder in (root, root / _FOLDER):
        if (folder / "annotations" / "trainval.txt").is_file():
            return folder
    reason = f"has no annotations/trainval.txt, and neither has {_FOLDER} in it" if root.is_dir() else "is not a folder"
    raise DataError(f"{root}: {reason}. Give the folder of the unpacked images and annotations of {_ARCHIVE}.")


def _trimap_file(trimaps: tuple[Path, Inside], name: str) -> Path | None:
    folder, locate = trimaps
    file = f"{name}.png"
    return locate(file, f"{folder}: {file}") if (folder / file).is_file() else None


def _entries(file: Path) -> Iterator[_Entry]:
    for row in rows(file, _FORM, _ARCHIVE, comment="#"):
        name, class_id, species, breed_id = row.columns
        breed = row.parse(_breed, name)
        row.parse(_species, species)
        row.parse(whole_number, breed_id)
        yield _Entry(row, name, breed, row.parse(whole_number, class_id))


def _classes(train: list[_Entry], test: list[_Entry]) -> dict[int, str]:
    """Return the breeds by class id, having checked that these go together one to one, and that each is trained."""
    first_of_id: dict[int, _Entry] = {}
    first_of_breed: dict[str, _Entry] = {}
    for entry in [*train, *test]:
        same_id = first_of_id.setdefault(entry.class_id, entry)
        same_breed = first_of_breed.setdefault(entry.breed, entry)
        if same_id.breed != entry.breed:
            raise entry.row.error(
                f"class_id {entry.class_id} is {entry.breed!r} here and {same_id.breed!r} in {same_id.row.where}"
            )
        if same_breed.class_id != entry.class_id:
            raise entry.row.error(
                f"{entry.breed!r} has class_id {entry.class_id} here and {same_breed.class_id} in "
                f"{same_breed.row.where}"
            )
    trained = {entry.class_id for entry in train}
    for class_id, entry in first_of_id.items():
        if class_id not in trained:
            raise entry.row.error(f"class {class_id} ({entry.breed}) has no training picture in trainval.txt")
    return {class_id: entry.breed for class_id, entry in first_of_id.items()}


def _once(entries: list[_Entry]) -> dict[str, _Entry]:
    """Return the entries by name, no name twice: a picture is on one side of the split."""
    by_name: dict[str, _Entry] = {}
    for entry in entries:
        first = by_name.setdefault(entry.name, entry)
        if first is not entry:
            raise entry.row.error(f"{entry.name} is listed a second time; the first: {first.row.where}")
    return by_name


def _must_agree(file: Path, by_name: dict[str, _Entry]) -> None:
    """Check ``list.txt`` against the split files; it may list more pictures, which are on neither side of the split."""
    if not file.exists():
        return
    for name, entry in _once(list(_entries(file))).items():
        used = by_name.get(name, entry)
        if used.class_id != entry.class_id:
            raise entry.row.error(f"{name} has class_id {entry.class_id} here and {used.class_id} in {used.row.where}")


def _breed(name: str) -> str:
    breed, _, number = name.rpartition("_")
    if not (breed and number.isascii() and number.isdigit()) or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} is no name like Abyssinian_100")
    return breed


def _species(text: str) -> str:
    if text not in ("1", "2"):
        raise ValueError(f"{text!r} is neither 1 (cat) nor 2 (dog)")
    return text
