"""The text files of an official data set: rows of columns, numbers and paths, each checked where it is read."""

import math
import os
import re
import stat
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such file. Unpack the official {archive} archive again.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: can't be read as text: {error}. {repair(archive)}") from error
    # Python has translated \r\n; ``splitlines`` would also break names at U+2028, U+0085 and others.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or (comment is not None and line.lstrip().startswith(comment)):
            continue
        columns = line.split(maxsplit=n_columns - 1)
        row = Row(f"{file}, line {number}", form, tuple(column.strip() for column in columns), archive)
        if len(columns) != n_columns:
            raise row.error(f"must be '{form}'; got {line!r}")
        yield row


class Inside:
    """Finds files inside of one folder, links followed.

    Each folder in it is resolved once, so that a file costs one look at the disk.

    Args:
        folder: Nothing outside of it is given.
        archive: The official archive that has the right files; "": none is official.
    """

    def __init__(self, folder: Path, archive: str = "") -> None:
        self._folder, self._archive = folder, archive
        self._root = os.path.join(os.path.realpath(folder), "")  # with the last separator
        self._parents: dict[str, str] = {}

    def __call__(self, path: str, where: str) -> Path:
        """Return the file ``folder / path``, having checked that it exists and lies, links followed, inside ``folder``.

        Raises:
            DataError: It doesn't; the message begins with ``where``.
        """
        found = self.find(path, where)
        if found is None:
            raise DataError(f"{where}: there is no file {self._folder / path}. {repair(self._archive)}")
        return found[0]

    def find(self, path: str, where: str) -> tuple[Path, str] | None:
        """Return the file, and where it lies, links followed: two paths may lead to one; None: there is no such file.

        Raises:
            DataError: It lies outside of ``folder``, or can't be a path.
        """
        real = self.real(path, where)
        return None if real is None else (self._folder / path, real)

    def real(self, path: str, where: str) -> str | None:
        """Return where a file lies, links followed; None: there is no such file.

        Raises:
            DataError: As ``find``.
        """
        try:
            real, is_file = self._look(os.path.join(self._folder, path))
        except (OSError, ValueError) as error:  # too long a name, a loop of links, a null byte
            raise DataError(f"{where} is no possible path: {path!r} ({error}). {repair(self._archive)}") from error
        if ".." in path.split("/") or not f"{real}{os.sep}".startswith(self._root):
            raise DataError(
                f"{where} lies outside of {self._folder}: {path}. Use paths, and files, inside of that folder."
            )
        return real if is_file else None

    def _look(self, file: str) -> tuple[str, bool]:
        """Return where a path leads, and whether to a file."""
        parent, name = os.path.split(file)
        if parent not in self._parents:
            self._parents[parent] = os.path.realpath(parent)
        real = os.path.join(self._parents[parent], name)
        try:
            mode = os.lstat(real).st_mode
            if stat.S_ISLNK(mode):
                real = os.path.realpath(real)
                mode = os.stat(real).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return real, False
        return real, stat.S_ISREG(mode)


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


def each_once(classes: Sequence[str], where: object, archive: str) -> tuple[str, ...]:
    """Return the names of classes, having checked that no two are the same.

    Raises:
        DataError: Two are.
    """
    first: dict[str, int] = {}
    for number, name in enumerate(classes, start=1):
        if first.setdefault(name, number) != number:
            raise DataError(f"{where}: class {number} is the same as class {first[name]}: {name!r}. {repair(archive)}")
    return tuple(classes)


def natural(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Sort key: numbers by value, letters without case, and the name itself where these tie.

    Digits are 0 to 9; all others are letters. By value is by length, then by digits: of any length, without a
    conversion.
    """
    pieces = re.split("0*([0-9]+)", name)  # text and number by turns, text first
    return [(len(piece), piece) if place % 2 else piece.casefold() for place, piece in enumerate(pieces)], name


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
