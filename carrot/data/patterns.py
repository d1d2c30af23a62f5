"""Names of shards: ``train-{000000..000099}.tar``, ``train-*.tar``, a folder of them, or the same at an address.

Numbers count as far as they say, with as many digits as the first has; ``{train,val}`` are alternatives; both nest.
"""

import glob
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from carrot.data import splits
from carrot.data.addresses import file_system, is_address, public, why
from carrot.data.tables import natural
from carrot.errors import DataError

MOST = 1_000_000
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_NUMBERED = re.compile(r"(.*?)(\d+)(?:-of-(\d+))?(?:-[0-9a-f]{16})?")
_DEPTH = 3


class Shards(NamedTuple):
    """What a pattern names.

    Attributes:
        places: Their paths or addresses, in natural order.
        names: What they are called: their file names, with folders where two have one name.
        missing: Those that the pattern names and that are not there.
    """

    places: tuple[str, ...]
    names: tuple[str, ...]
    missing: tuple[str, ...]


def expand(pattern: str) -> list[str]:
    """Return what a pattern with braces stands for, in its order.

    Raises:
        DataError: A brace isn't closed, a range counts down, or there are more than a million.
    """
    start = pattern.find("{")
    if start < 0:
        return [pattern]
    depth, parts, last = 0, list[str](), start + 1
    for place in range(start, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[place], 0)
        if depth == 0 or (depth == 1 and pattern[place] == ","):
            parts.append(pattern[last:place])
            last = place + 1
        if depth == 0:
            break
    else:
        raise DataError(f"{public(pattern)}: a brace is open. Write {{000000..000099}}, or {{train,val}}.")
    options = [one for part in parts for one in expand(part)] if len(parts) > 1 else _counted(parts[0], pattern)
    ends = expand(pattern[last:])
    if len(options) * len(ends) > MOST:
        raise DataError(f"{public(pattern)}: stands for more than {MOST:,} shards. Give fewer.")
    return [f"{pattern[:start]}{option}{end}" for option in options for end in ends]


def _counted(text: str, pattern: str) -> list[str]:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise DataError(
            f"{public(pattern)}: {{{text}}} is neither a range nor a list. Write {{000000..000099}}, or {{train,val}}."
        )
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= MOST:
        raise DataError(f"{public(pattern)}: {{{text}}} must count up, to at most {MOST:,} shards.")
    return [f"{number:0{len(found[1])}d}" for number in range(first, last + 1)]


def shards_of(pattern: str, extension: str) -> Shards:
    """Return the shards that a pattern names: one file, those of braces or of a glob, or all below a folder.

    Numbers that are missing between the others are warned of: a download may have failed.

    Args:
        pattern: What names them.
        extension: What the files of a folder end with.

    Raises:
        DataError: None is there, or the address can't be opened.
    """
    missing = list[str]()
    try:
        if is_address(pattern):
            found = _at_address(pattern, extension, missing)
        elif os.path.isdir(pattern):
            found = [str(file) for file in Path(pattern).rglob(f"*{extension}") if _is_shown(file, Path(pattern))]
        elif not os.path.exists(pattern) and "{" in pattern:
            found = []
            for name in expand(pattern):
                (found if os.path.isfile(name) else missing).append(name)
        elif not os.path.exists(pattern) and glob.has_magic(pattern):
            found = [name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name)]
        else:
            found = [pattern] if os.path.isfile(pattern) else []
    except OSError as error:
        raise DataError(f"{public(pattern)}: can't be listed: {why(error)}.") from error
    if not found:
        raise DataError(
            f"{public(pattern)}: there are no such {extension} files. Give a folder of them, or a pattern such as "
            f"shards/train-{{000000..000099}}{extension} in quotes."
        )
    places = sorted(found, key=natural)
    names = [PurePosixPath(public(place)).name for place in places]
    if len(set(names)) < len(names):
        top = os.path.commonpath([os.path.dirname(public(place)) for place in places])
        names = [public(place)[len(top) :].lstrip("/") for place in places]
    gap = "" if missing else _gap(names)  # what a range names is told by name
    if gap:
        warnings.warn(f"{public(pattern)}: {gap}. If they should be there, fetch them again.", stacklevel=4)
    return Shards(tuple(places), tuple(names), tuple(public(name) for name in missing))


def _is_shown(file: Path, root: Path) -> bool:
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(root).parts)


def _at_address(pattern: str, extension: str, missing: list[str]) -> list[str]:
    head = pattern.partition("://")[0]
    if "{" in pattern:
        named = expand(pattern)
        by_folder: dict[str, set[str]] = {}
        found = list[str]()
        for name in named:
            fs, path = file_system(name)
            folder = path.rpartition("/")[0]
            if head in ("http", "https"):  # which can't be listed
                there = bool(fs.exists(path))
            else:
                if folder not in by_folder:
                    by_folder[folder] = set(map(str, fs.ls(folder, detail=False))) if fs.isdir(folder) else set()
                there = path in by_folder[folder]
            (found if there else missing).append(name)
        return found
    fs, path = file_system(pattern)
    if glob.has_magic(path) and head not in ("http", "https"):
        return [f"{head}://{name.lstrip('/') if head != 'file' else name}" for name in map(str, fs.glob(path))]
    if head not in ("http", "https") and fs.isdir(path):
        names = (str(name) for name in fs.find(path, maxdepth=_DEPTH))
        return [f"{head}://{n.lstrip('/') if head != 'file' else n}" for n in names if n.endswith(extension)]
    return [pattern] if fs.exists(path) else []


def side_of(name: str) -> str | None:
    """Return the name of the split that a shard is of, by the words of its name, or of the folders that it lies in."""
    parts = name.split("/")
    for part in (parts[-1].partition(".")[0], *reversed(parts[:-1])):
        for word in re.split(r"[\W_]+", part):
            plain = word.rstrip("0123456789")
            if plain and splits.kind_of(plain):
                return plain
    return None


def _gap(names: Iterable[str]) -> str:
    """Return which numbers are missing between those of the names; "": none."""
    groups: dict[tuple[str, str | None], list[int]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        found = _NUMBERED.fullmatch(file.partition(".")[0])
        if found:
            groups.setdefault((f"{folder}/{found[1]}" if folder else found[1], found[3]), []).append(int(found[2]))
    said = []
    for (prefix, total), numbers in groups.items():
        there = set(numbers)
        low, high = (0, int(total) - 1) if total else (min(there), max(there))
        if high - low < MOST and len(there) < high - low + 1:
            lacking = [number for number in range(low, high + 1) if number not in there]
            some = ", ".join(map(str, lacking[:4])) + ", ..." * (len(lacking) > 4)
            said.append(f"of {prefix}{low} to {high} {len(lacking)} shards are missing: {some}")
    return "; ".join(said[:3])
