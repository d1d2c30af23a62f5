"""A folder of pictures and a CSV file that says what each of them shows.

::

    image,label,split
    a/0001.jpg,Great tit,train
    a/0002.jpg,Wren,test

The first line names the columns, in any order and any case: the picture's path below the file's folder is ``image``,
``filename``, ``file_name`` or ``path``; its class is ``label`` or ``class``; ``split`` may be absent. Other columns are ignored.
The split is ``train`` or ``test``; ``val``, ``valid`` and ``validation`` are for testing where nothing is ``test``, and are set
aside otherwise, as in ``ImageFolder``. Separators are commas, the text is UTF-8.
"""

import csv
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from carrot.data.images import open_image
from carrot.data.records import Record, Split
from carrot.data.tables import locate, natural
from carrot.errors import DataError

_COLUMNS = {"image": ("image", "filename", "file_name", "path"), "label": ("label", "class"), "split": ("split",)}
_VALID = ("val", "valid", "validation")


class CsvFolder:
    """Pictures listed in a CSV file.

    Args:
        path: The file, or the folder that has just one ``.csv`` file.
        test_every: Without a ``split`` column: every ``test_every``-th picture of each class, in the order of the lines, is for
            testing; a class of fewer pictures has none. None: all are for training.
        for_testing: The pictures are only to be tested on: one class is enough, and none needs training pictures.

    Attributes:
        name: The name of the file's folder.
        classes: The labels of the training pictures, sorted naturally ("2" before "10").
        records: In the order of the lines; ``id`` is the path below the folder.
        skipped: What was set aside: the reason by ``id``.
        split_is_own: Whether the file has a column ``split``; False: it was made here.

    Raises:
        DataError: No such file, a line is malformed or lists a picture twice, a picture is missing or lies outside of the folder,
            fewer than two classes, a test class without training pictures.
        ValueError: ``test_every`` is less than 2.
    """

    def __init__(self, path: Path | str, test_every: int | None = 5, for_testing: bool = False) -> None:
        if test_every is not None and test_every < 2:
            raise ValueError(f"test_every must be at least 2, or None for no test pictures; got {test_every}")
        self.file = _find(Path(path))
        self.root = self.file.parent
        self.name = self.root.resolve().name
        self.skipped: dict[str, str] = {}

        lines = _once(list(_lines(self.file)), self.file)
        files = _pictures(self.root, lines)
        sides = _sides(lines, test_every, self.skipped)
        self.split_is_own = any(line.split is not None for line in lines)
        trained = {
            line.label for line, side in zip(lines, sides, strict=True) if side == "train" or (for_testing and side)
        }
        self.classes: tuple[str, ...] = tuple(sorted(trained, key=natural))
        if len(self.classes) < (1 if for_testing else 2):
            raise DataError(
                f"{self.file}: needs training pictures of at least two classes; got {list(self.classes)}. Add some."
            )
        label_of_class = {name: label for label, name in enumerate(self.classes)}
        records = []
        for line, file, side in zip(lines, files, sides, strict=True):
            if side is None:
                continue
            if line.label not in label_of_class:
                raise DataError(
                    f"{line.where}: class {line.label!r} has no training picture. Add some, or remove the line."
                )
            records.append(Record(line.image, label_of_class[line.label], side, file))
        self.records: Sequence[Record] = tuple(records)
        if self.skipped:
            message = f"{self.file}: {len(self.skipped)} pictures of a validation split set aside (see .skipped): it has a test split"
            warnings.warn(message, stacklevel=2)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The file can't be decoded.
        """
        return open_image(self.root / self.records[index].id)


def looks_like_csv(path: Path | str) -> bool:
    """Return whether ``path`` is a ``.csv`` file, or a folder with one that names pictures and labels, and no two folders."""
    path = Path(path)
    if not path.is_dir():
        return path.is_file() and path.suffix.lower() == ".csv"
    folders = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return len(folders) < 2 and any(_has_columns(file) for file in _csv_files(path))


class _Line(NamedTuple):
    where: str  # "file, line n"
    image: str
    label: str
    split: str | None


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder. Give a CSV file, or the folder that has it.")
    files = _csv_files(path)
    if len(files) != 1:
        found = (
            f"has {len(files)} .csv files ({', '.join(file.name for file in files)})" if files else "has no .csv file"
        )
        raise DataError(f"{path}: {found}. Give the path of the file itself.")
    return files[0]


def _csv_files(folder: Path) -> list[Path]:
    found = (file for file in folder.iterdir() if file.suffix.lower() == ".csv" and not file.name.startswith("."))
    return sorted(file for file in found if file.is_file())


def _has_columns(file: Path) -> bool:
    try:
        _places(next(_reader(file), []), file)
    except (DataError, csv.Error):
        return False
    return True


def _reader(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: can't be read as text: {error}. Save it as UTF-8.") from error
    return csv.reader(text.splitlines(keepends=True), strict=True)


def _lines(file: Path) -> Iterator[_Line]:
    reader = _reader(file)
    try:
        header: list[str] = next(reader, [])
        places = _places(header, file)
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            where = f"{file}, line {reader.line_num}"
            if len(values) != len(header):
                raise DataError(
                    f"{where}: must have {len(header)} columns, as the first line; got {len(values)}. Correct it."
                )
            given = {name: values[place].strip() for name, place in places.items()}
            for name, value in given.items():
                if not value:
                    raise DataError(f"{where}: the {name} is empty. Fill it in, or remove the line.")
            split = given["split"].casefold() if "split" in given else None
            yield _Line(where, PurePosixPath(given["image"]).as_posix(), given["label"], split)
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}. Correct it.") from error


def _places(header: list[str], file: Path) -> dict[str, int]:
    """Return where the columns are; only ``split`` may be absent."""
    places = {}
    columns = [column.strip().casefold() for column in header]
    for name, names in _COLUMNS.items():
        found = [place for place, column in enumerate(columns) if column in names]
        if len(found) > 1 or (not found and name != "split"):
            wanted, got = " or ".join(names), "more than one" if found else "none"
            raise DataError(f"{file}: the first line must name one column {wanted}; got {got} in {header}. Correct it.")
        if found:
            places[name] = found[0]
    return places


def _once(lines: list[_Line], file: Path) -> list[_Line]:
    if not lines:
        raise DataError(f"{file}: lists no pictures. Add one line for each.")
    first: dict[str, str] = {}
    for line in lines:
        if first.setdefault(line.image, line.where) != line.where:
            raise DataError(
                f"{line.where}: {line.image} is listed a second time; the first: {first[line.image]}. Remove one."
            )
    return lines


def _pictures(root: Path, lines: list[_Line]) -> list[Path]:
    missing = [line for line in lines if not os.path.lexists(root / line.image)]
    if missing:
        names = ", ".join(line.image for line in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{missing[0].where}: {len(missing)} of the listed pictures are missing from {root}: {names}. Add them."
        )
    return [locate(root, line.image, line.where, "") for line in lines]


def _sides(lines: list[_Line], test_every: int | None, skipped: dict[str, str]) -> list[Split | None]:
    sides: list[Split | None] = []
    has_test = any(line.split == "test" for line in lines)
    seen: dict[str, int] = {}
    for line in lines:
        seen[line.label] = seen.get(line.label, 0) + 1
        if line.split is None:
            sides.append("test" if test_every is not None and seen[line.label] % test_every == 0 else "train")
        elif line.split in _VALID and has_test:
            skipped[line.image] = f"split {line.split!r}, beside a test split"
            sides.append(None)
        elif line.split in ("train", "test", *_VALID):
            sides.append("train" if line.split == "train" else "test")
        else:
            raise DataError(f"{line.where}: the split must be train, test or val; got {line.split!r}. Correct it.")
    return sides
