"""The text files of an official data set: rows of columns, numbers and paths, each checked where it is read."""

import math
import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from carrot.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line of a text file.

    Attributes:
        where: "file, line n".
        form: What the line must be, one word per column: ``"image_id path"``.
        columns: As many as ``form`` has; the last may contain blanks.
        archive: The official archive that has the right file.
    """

    where: str
    form: str
    columns: tuple[str, ...]
    archive: str

    def parse(self, parser: Callable[[str], T], text: str) -> T:
        """Return ``parser(text)``; its ValueError becomes a ``DataError`` that names the line."""
        try:
            return parser(text)
        except ValueError as error:
            raise self.error(f"must be '{self.form}', but {error}") from error

    def error(self, what: str) -> DataError:
        """Return the error that says what is wrong with this line, and what to do."""
        return DataError(f"{self.where}: {what}. {repair(self.archive)}")


def rows(file: Path, form: str, archive: str, comment: str | None = None) -> Iterator[Row]:
    """Yield every line that is neither blank nor begins with ``comment``.

    Raises:
        DataError: The file is missing or isn't UTF-8, a line has too few columns.
    """
    n_columns = len(form.split())
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such file. Unpack the official {archive} archive again.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: can't be read as text: {error}. {repair(archive)}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or (comment is not None and line.lstrip().startswith(comment)):
            continue
        columns = line.split(maxsplit=n_columns - 1)
        row = Row(f"{file}, line {number}", form, tuple(column.strip() for column in columns), archive)
        if len(columns) != n_columns:
            raise row.error(f"must be '{form}'; got {line!r}")
        yield row


def locate(folder: Path, path: str, where: str, archive: str) -> Path:
    """Return the file ``folder / path``, having checked that it exists and lies, links followed, inside of ``folder``."""
    file = folder / path
    try:
        inside = ".." not in PurePosixPath(path).parts and file.resolve().is_relative_to(folder.resolve())
        exists = file.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, a loop of links, a null byte
        raise DataError(f"{where} is no possible path: {path!r} ({error}). {repair(archive)}") from error
    if not inside:
        raise DataError(f"{where} lies outside of {folder}: {path}. Use paths, and files, inside of that folder.")
    if not exists:
        raise DataError(f"{where}: there is no file {file}. {repair(archive)}")
    return file


def unpacked(root: Path | str, folder: str, signs: Sequence[str], archive: str) -> Path:
    """Return the first of ``root`` and ``root / folder`` that has one of ``signs`` (paths of files or folders).

    Raises:
        DataError: Neither has.
    """
    for place in (Path(root), Path(root) / folder):
        if any((place / sign).exists() for sign in signs):
            return place
    missing = f"has no {' or '.join(signs)}, and neither has {folder} in it"
    reason = missing if Path(root).is_dir() else "is not a folder"
    raise DataError(f"{root}: {reason}. Give the folder of the unpacked {archive}, or the folder that contains it.")


def has_sign(root: Path | str, folder: str, signs: Sequence[str]) -> bool:
    """Return whether ``root`` or ``root / folder`` has one of ``signs``: whether ``unpacked`` would find it."""
    return any((place / sign).exists() for place in (Path(root), Path(root) / folder) for sign in signs)


def same_size(file: Path, size: tuple[int, int], picture: tuple[int, int], archive: str) -> None:
    """Check that a segmentation is as large as its picture, both (width, height).

    Raises:
        DataError: It isn't.
    """
    if size != picture:
        raise DataError(f"{file}: must be {_by(picture)} pixels, as its picture is; got {_by(size)}. {repair(archive)}")


def each_is_trained(classes: Sequence[str], trained: Container[int], where: object, archive: str) -> None:
    """Check that every class index of ``classes`` is in ``trained``.

    Raises:
        DataError: One isn't.
    """
    for label, name in enumerate(classes):
        if label not in trained:
            raise DataError(f"{where}: class {name!r} has no training picture. {repair(archive)}")


def natural(name: str) -> tuple[list[str | int], str]:
    """Sort key: numbers by value, letters without case, and the name itself where these tie."""
    return [int(piece) if piece.isdecimal() else piece.casefold() for piece in re.split("([0-9]+)", name)], name


def repair(archive: str) -> str:
    """Return what to do about a wrong file; ``archive`` is empty where none is official."""
    return "Correct it." if not archive else f"Correct it, or unpack the official {archive} archive again."


def whole_number(text: str) -> int:
    """Return the number that ``text``, ASCII digits only, stands for."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def flag(text: str) -> bool:
    """Return False for "0", True for "1"."""
    if text not in ("0", "1"):
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return text == "1"


def finite(text: str) -> float:
    """Return the number, neither NaN nor infinite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    return value


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
