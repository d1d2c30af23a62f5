"""The table of ``CsvFolder`` as text: how it is encoded, what separates its cells, and which column is what.

Read are UTF-8, and UTF-16 with a byte order mark (Excel's "Unicode text"); the separator is the comma, semicolon,
tabulator or bar under which the first line has the columns. Lines end where csv says so: U+2028, U+0085 and the like
are letters of a cell.
"""

import codecs
import csv
import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from carrot._images import image_extensions
from carrot.data import splits
from carrot.data.addresses import is_address, public, whole, why
from carrot.data.records import Box
from carrot.data.tables import finite
from carrot.errors import DataError

EXTENSIONS = (".csv", ".tsv", ".tab")
SEPARATORS = ",;\t|"
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

BOX = ("box_x", "box_y", "box_width", "box_height")
_UNTIDY = re.compile(r"(^|/)\.?(/|$)")  # what a path may be written without
_LIKE_A_SPLIT = re.compile(r"(^|[^a-z])(train|training|test|testing|val|valid|validation|fold|holdout)([^a-z]|$)")

# What a column is called, the surest names first: later ones count where none of the earlier ones is there.
COLUMNS = {
    "image": (
        ("image", "filename", "file_name", "path"),
        (
            *("file", "filepath", "file_path", "image_path", "image_name", "image_file", "img", "img_path", "picture"),
            *("images", "files", "filenames", "filepaths", "paths", "pictures"),
        ),
        ("id", "image_id", "img_id"),
    ),
    "label": (
        ("label", "class"),
        ("category", "class_name", "label_name", "target", "species", "breed", "labels", "classes", "categories"),
    ),
    **{name: ((name, f"b{name}"),) for name in BOX},
    "split": (("split",), ("set", "data_set", "dataset", "subset", "partition", "usage")),
}


class Line(NamedTuple):
    """One picture of a table; ``label`` "": it has none; ``split`` or ``box`` None: the table has none."""

    where: str  # "file, line n"
    image: str
    label: str
    split: str | None
    box: Box | None = None


def table_files(folder: Path) -> list[Path]:
    """Return the tables that lie in a folder, by their extensions."""
    found = (file for file in folder.iterdir() if file.suffix.lower() in EXTENSIONS and not file.name.startswith("."))
    return sorted(file for file in found if file.is_file())


def why_no_table(file: Path) -> str:
    """Return "" if the first line of a file has the columns of a data set, and otherwise what is wrong with it."""
    try:
        _header(_content(file), file)
    except DataError as error:
        return str(error)
    return ""


def read_lines(file: Path | str) -> Iterator[Line]:
    """Yield the lines of a table that aren't blank, having checked all of them first.

    Args:
        file: A path, or an address.

    Raises:
        DataError: The file can't be read as text, lacks a column, or a line has too few or too many cells or names no
            picture.
    """
    content = _content(file)
    reader, header, places = _header(content, file)
    unread = [name for name in header if "split" not in places and _LIKE_A_SPLIT.search(name.strip().casefold())]
    sure = header[places["split"]].strip().casefold() == "split" if "split" in places else True
    for number, values in _rows(reader, file):
        if len(values) != len(header):
            raise DataError(
                f"{public(str(file))}, line {number}: must have {len(header)} columns, as the first line; got "
                f"{len(values)}. Correct it."
            )
        if not sure and splits.kind_of(values[places["split"]]) is None:
            del places["split"]  # a column "set" or "usage" that says something else
            sure = True
    if unread:
        warnings.warn(
            f"{public(str(file))}: the column {unread[0]!r} is not read. A split is read from a column split that says "
            "train and test.",
            stacklevel=3,
        )
    for number, values in _rows(_header(content, file)[0], file):
        where = f"{public(str(file))}, line {number}"
        given = {name: values[place].strip() for name, place in places.items()}
        for name in ("image", "split"):
            if not given.get(name, "-"):
                raise DataError(f"{where}: the {name} is empty. Fill it in, or remove the line.")
        box = _box([given[name] for name in BOX], where) if BOX[0] in given else None
        image = given["image"]
        if _UNTIDY.search(image) and not is_address(image):
            image = PurePosixPath(image).as_posix()
        yield Line(where, image, given["label"], given.get("split"), box)


def _rows(reader: Any, file: Path | str) -> Iterator[tuple[int, list[str]]]:
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield reader.line_num, values
    except csv.Error as error:
        raise DataError(f"{public(str(file))}, line {reader.line_num}: {error}. Correct it.") from error


def _box(written: list[str], where: str) -> Box | None:
    """Return the box of a line, or None where all its cells are empty."""
    if not any(written):
        return None
    try:
        box = Box(*map(finite, written))
        if not (box.width > 0 and box.height > 0):
            raise ValueError("it has no area")
    except ValueError as error:
        raise DataError(
            f"{where}: {', '.join(BOX)} must be four numbers, in pixels of the picture; got {written}: {error}. "
            "Correct them."
        ) from None
    return box


def table_text(file: Path) -> str:
    """Return the text of a table.

    Raises:
        DataError: It can't be read, or is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    content = _content(file)
    return content.data.decode(content.encoding)


class _Content(NamedTuple):
    """The bytes of a table, which are text in this encoding."""

    data: bytes
    encoding: str

    def lines(self) -> io.TextIOWrapper:
        """Return the text, a line at a time: of a long table only its bytes are held."""
        return io.TextIOWrapper(io.BytesIO(self.data), self.encoding, newline="")


def _content(file: Path | str) -> _Content:
    try:
        data = whole(str(file))
        encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
        data.decode(encoding)
    except OSError as error:
        reason = error.strerror or why(error)
        raise DataError(f"{public(str(file))}: can't be read: {reason}. Give a table, a CSV file say.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{public(str(file))}: can't be read as text: {error}. Save it as UTF-8.") from error
    return _Content(data, encoding)


def _header(content: _Content, file: Path | str) -> tuple[Any, list[str], dict[str, int]]:
    """Return the reader behind the first line, the columns named there, and which of them is what."""
    said = re.match(r"sep=(.)(\r\n|\r|\n)", content.lines().read(8))  # Excel's own line
    errors: list[tuple[int, DataError]] = []
    for separator in said[1] if said else SEPARATORS:
        reader = csv.reader(content.lines(), delimiter=separator, strict=True)
        header: list[str] = []
        try:
            for _ in range(2 if said else 1):
                header = next(reader, [])
            return reader, header, _places(header, file)
        except csv.Error as error:
            errors.append((0, DataError(f"{public(str(file))}, line {reader.line_num}: {error}. Correct it.")))
        except DataError as error:
            errors.append((len(header), error))
    raise max(errors, key=lambda found: found[0])[1]  # of the separator that gives the most columns


def columns_of(header: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of the columns that may be each of ``COLUMNS``: the one that is, or none, or several."""
    columns = [re.sub(r"[\s_-]+", "_", column.strip().casefold()) for column in header]
    return {
        name: next((f for tier in tiers if (f := [p for p, column in enumerate(columns) if column in tier])), [])
        for name, tiers in COLUMNS.items()
    }


def _places(header: list[str], file: Path | str) -> dict[str, int]:
    """Return where the columns are; only ``split`` and those of a box may be absent, and of these all or none."""
    places = {}
    for name, found in columns_of(header).items():
        if len(found) > 1 or (not found and name not in ("split", *BOX)):
            got = "more than one" if found else "none"
            is_picture = any(os.path.splitext(cell.strip())[1].lower() in image_extensions() for cell in header)
            advice = "It names a picture: add a line above it, such as image,label" if is_picture else "Correct it"
            names = " or ".join(COLUMNS[name][0])
            raise DataError(
                f"{public(str(file))}: the first line must name one column {names}; got {got} in {header}. {advice}."
            )
        if found:
            places[name] = found[0]
    absent = [name for name in BOX if name not in places]
    if 0 < len(absent) < len(BOX):
        raise DataError(
            f"{public(str(file))}: the first line names some of {', '.join(BOX)}, and not {absent[0]}. Add it."
        )
    return places
