"""Files that are either whole or absent, whenever the process is killed."""

import os
import secrets
from pathlib import Path

from carrot.errors import StoreError


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; when this returns it is on the disk: temporary file, flush, rename, flush of the folder.

    Raises:
        StoreError: The disk refuses, or another process writes the same file.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)
    except FileNotFoundError as error:
        raise StoreError(
            f"{path}: another process writes this file too, or its folder was removed. Run only one."
        ) from error
    except OSError as error:
        raise StoreError(
            f"{path}: can't be written: {error.strerror}. Free the disk or choose another folder."
        ) from error


def _flush_folder(folder: Path) -> None:
    """Make a rename in it last through a power cut; Windows has no such call."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
