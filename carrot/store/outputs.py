"""What a user asked for goes where the user said: through links, into pipes and devices, never half, over nothing else.

The store's own files are written by ``carrot.store.files``; here are those that are named on a command line or in a
call.
"""

import csv
import errno
import hashlib
import io
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from carrot.errors import StoreError
from carrot.store.files import write_atomically
from carrot.store.layout import GENERATOR, OUR_FIGURES, OUR_JSON, WRITTEN

NAME_MAX = 255  # bytes of one name, on the file systems there are


def write_output(path: Path | str, data: bytes) -> None:
    """Write a file where the user named it.

    A link stays one: what it leads to is written, and made if it leads nowhere. A regular file is replaced whole or not
    at all, and keeps its permissions. What is no regular file (a pipe, a device, ``/dev/stdout``) is written into.
    Missing folders are made.

    Raises:
        StoreError: It is a folder, or the disk refuses.
        BrokenPipeError: Nobody reads the pipe any more.
    """
    path = Path(path)
    check_output(path)
    try:
        descriptor = _own_descriptor(path)
        if descriptor is not None:
            _write_into(descriptor, data)
            return
        mode = path.stat().st_mode if path.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            into = os.open(path, os.O_WRONLY)
            try:
                _write_into(into, data)
            finally:
                os.close(into)
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StoreError(_refused(path, error)) from error
    write_atomically(target, data, None if mode is None else stat.S_IMODE(mode))


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return a table as CSV: a line of the columns' names, and one for each row, a value for each of them.

    Raises:
        ValueError: A row has a value that belongs to no column.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def check_output(path: Path | str) -> None:
    """Refuse, before anything dear is done, a place that can't be written to.

    Raises:
        StoreError: It is a folder, its name is too long, or what it should lie in is no folder or can't be written to.
    """
    path = Path(path)
    if "\0" in str(path):
        raise StoreError(f"{str(path)!r}: is no possible name. Choose another.")
    if not is_regular(path):
        return
    target = Path(os.path.realpath(path))
    for part in target.parts:
        if len(os.fsencode(part)) > NAME_MAX:
            raise StoreError(f"{path}: a name of {len(os.fsencode(part))} bytes is too long; {NAME_MAX} is the most.")
    if path.is_dir():
        raise StoreError(f"{path}: is a folder. Give the name of a file in it.")
    if target.is_symlink():
        raise StoreError(f"{path}: is a link that leads to itself. Choose another place.")
    check_folder(target.parent)


def check_replaced(path: Path | str) -> None:
    """Refuse a file that is there and that isn't ours.

    A command's has its settings beside it; a page, numbers and a figure say so themselves.

    Raises:
        StoreError: It is there, and isn't empty.
    """
    path = Path(path)
    if not (is_regular(path) and path.is_file() and path.stat().st_size):
        return
    for place in (path, Path(os.path.realpath(path))):
        settings = beside(place, ".yaml")
        if settings.is_file() and WRITTEN.match(settings.read_bytes()):
            return
    if not is_ours(path.read_bytes()):
        raise StoreError(f"{path}: is there already, and no command wrote it. Choose another name, or delete it first.")


def is_ours(content: bytes) -> bool:
    """Whether a page, numbers or a figure say that they are ours."""
    if GENERATOR in content[:4096] or content.startswith(OUR_JSON):
        return True
    return any(content.startswith(start) and mark in content for start, mark in OUR_FIGURES.items())


def check_folder(folder: Path) -> None:
    """Refuse a folder that can't be made or not be written to.

    Raises:
        StoreError: It can't.
    """
    there = next((place for place in (folder, *folder.absolute().parents) if os.path.lexists(place)), Path("/"))
    if not there.is_dir():
        raise StoreError(f"{folder}: can't be made: {there} is no folder. Choose another place.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StoreError(f"{folder}: can't be written: {os.strerror(errno.EACCES)}. Choose another place.")


def is_regular(path: Path | str) -> bool:
    """Whether a place holds, or may hold, a regular file: others, such as pipes, have nothing beside them."""
    path = Path(path)
    try:
        return _own_descriptor(path) is None and (not path.exists() or path.is_file() or path.is_dir())
    except OSError:  # a name that is too long: said elsewhere
        return True


def beside(path: Path, ending: str) -> Path:
    """Return the path with ``ending`` after its name, which is cut where the two are longer than a name can be."""
    whole = f"{path.name}{ending}"
    return path.with_name(whole if len(os.fsencode(whole)) <= NAME_MAX else f"{cut(path.name, 200)}{ending}")


def cut(name: str, most: int) -> str:
    """Return a name of at most ``most`` bytes: as it is, or its beginning and a checksum of it all."""
    data = os.fsencode(name)
    if len(data) <= most:
        return name
    start = data[: most - 9].decode("utf-8", "ignore")
    return f"{start}-{hashlib.sha256(data).hexdigest()[:8]}"


def _own_descriptor(path: Path) -> int | None:
    """Return which open file of this process a path stands for: 1 for ``/dev/stdout``; None: a path like others."""
    place = os.path.abspath(path)
    for _ in range(40):
        folder, name = os.path.split(place)
        place = os.path.join(os.path.realpath(folder), name)
        own = re.fullmatch(rf"/proc/{os.getpid()}(?:/task/[0-9]+)?/fd/([0-9]+)", place)
        if own:
            return int(own[1])
        if not os.path.islink(place):
            return None
        place = os.path.normpath(os.path.join(os.path.dirname(place), os.readlink(place)))
    return None


def _write_into(descriptor: int, data: bytes) -> None:
    for stream in (sys.stdout, sys.stderr):  # what was said before comes before
        if stream is not None and not stream.closed:
            stream.flush()
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _refused(path: Path, error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return (
        f"{path}: can't be written: {error.strerror}. {'Free the disk, or choose' if full else 'Choose'} another place."
    )
