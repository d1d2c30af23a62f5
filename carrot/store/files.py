"""Files that are either whole or absent, whenever the process is killed."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import BinaryIO

from carrot.errors import StoreError


@dataclass
class Whole:
    """A file that is being written, and will be there whole or not at all.

    Attributes:
        file: What is written into.
        path: Where it will be; may be changed until the end, within its folder.
    """

    file: BinaryIO
    path: Path


def write_atomically(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write a file whole or not at all; when this returns it is on the disk.

    Args:
        path: Where; a file that is there is replaced.
        data: Its content.
        mode: Its permissions; None: those of a new file.

    Raises:
        StoreError: The disk refuses, or another process writes the same file.
    """
    with writing(path, mode) as whole:
        whole.file.write(data)


@contextmanager
def writing(path: Path, mode: int | None = None) -> Iterator[Whole]:
    """Give a file to write into, whole or not at all: temporary file, flush, rename, flush of the folder.

    After it the file is on the disk; where anything is raised before, there is none.

    Args:
        path: Where; a file that is there is replaced.
        mode: Its permissions; None: those of a new file.

    Raises:
        StoreError: The disk refuses, or another process writes the same file.
    """
    short = os.fsencode(path.name)[:200].decode("utf-8", "ignore")  # a name has 255 bytes at most
    temporary = path.with_name(f"{short}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                whole = Whole(file, path)
                yield whole
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, whole.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)
    except FileNotFoundError as error:
        if error.filename2 is None and path.parent.is_dir():  # never made, rather than gone before it was renamed
            raise StoreError(
                f"{path}: can't be written: nothing can be made in {path.parent}. Choose another folder."
            ) from error
        raise StoreError(
            f"{path}: another process writes this file too, or its folder was removed. Run only one."
        ) from error
    except OSError as error:
        hint = "Free the disk, or choose" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Choose"
        raise StoreError(f"{path}: can't be written: {error.strerror}. {hint} another folder.") from error


def flush_folder(folder: Path) -> None:
    """Make a rename or a deletion in it last through a power cut; Windows has no such call."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# Not filelock's: the file must go with the lock, for a model's folder holds nothing else, and may go itself. There, who
# deletes it differs: its release from 3.24 on (the successor's file, once the holder has deleted its own: two threads
# then held one folder in tests/unit/test_shards.py), nobody from 4.0 on, and nobody promises either.
TRIES = 1000  # to lock a folder that others make, lock and remove
_held: dict[Path, tuple[int, int]] = {}  # which process and thread holds which folder: a fork has a copy


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against others that would change it too, from reading it to writing it.

    A second time by one thread is no matter. The lock is the system's own, on ``folder/.lock``: it ends with the
    process, however that ends. Windows has no such call: there is none.

    Raises:
        StoreError: Another process or thread holds it, or the folder can't be written.
    """
    whole = folder.resolve()
    if os.name != "posix" or _held.get(whole) == (os.getpid(), get_ident()):
        yield
        return
    path = folder / ".lock"
    try:
        descriptor = next((held for _ in range(TRIES) if (held := _lock(path)) is not None), None)
        if descriptor is None and not folder.exists():
            raise OSError(errno.ENOENT, "nothing can be made there")
        if descriptor is None:
            raise BlockingIOError
    except BlockingIOError as error:
        raise StoreError(f"{folder}: another process is changing this model. Wait for it, and try again.") from error
    except OSError as error:
        raise StoreError(f"{folder}: can't be written: {error.strerror}. Choose another folder.") from error
    _held[whole] = (os.getpid(), get_ident())
    try:
        yield
    finally:
        del _held[whole]
        path.unlink(missing_ok=True)
        os.close(descriptor)
        with suppress(OSError):  # it holds something, or another is here already
            folder.rmdir()  # nothing came of it


def _lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock; None where another was just letting it go: try again.

    Raises:
        BlockingIOError: Another holds it.
        OSError: The folder can't be made, or not be written.
    """
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except (FileNotFoundError, FileExistsError):
        try:
            mode = os.lstat(path.parent).st_mode
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(mode):  # a file, or a link that leads nowhere
            raise
        return None
    if os.fstat(descriptor).st_size:
        os.close(descriptor)
        raise StoreError(
            f"{path}: is no lock of ours, for it holds something. Choose another folder, or rename that file."
        )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor  # it is the file that others see too, not one that its holder has just deleted
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
