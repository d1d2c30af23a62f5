"""Files at addresses: s3://, gs://, hf://, memory://, file://, what ``fsspec`` opens; it is imported for these alone.

Data sets are read so, and stores (``carrot.store.places``) written. Keys, passwords and signatures stay out of what is
said and stored: ``public`` is an address without them. Give them as the package of the protocol reads them, from the
environment or its own files.
"""

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from carrot._display.extras import how_to_install
from carrot.errors import DataError, UnreadableImageError

_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")  # two letters at least: "C:/" is a drive
_LOST_SLASH = re.compile(r"(https?|ftp|s3a?|gs|gcs|hf|memory|file|abfss?|az)://?(?=[^/])")  # ``Path`` makes one of two
_SECRETS = re.compile(r"(?<=//)[^/@\s]*@|[?][^\s'\")]*")
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}
_MARKS = ("ETag", "etag", "md5Hash", "crc32c", "lfs", "blob_id", "content_md5", "LastModified", "mtime", "created")
MOST = 1 << 30  # bytes of one picture's file
_NEAR, _AHEAD, _BLOCKS = 1 << 20, 8 << 20, 4


def is_address(text: str) -> bool:
    """Return whether a text is an address, not a path."""
    return _ADDRESS.match(text) is not None


def mended(text: str) -> str:
    """Return an address with both of its slashes; of other texts the same."""
    found = None if is_address(text) else _LOST_SLASH.match(text)
    return text if found is None else f"{found[1]}://{text[found.end() :]}"


def public(text: str) -> str:
    """Return an address, or a text that holds some, without keys: no ``user:password@``, and nothing from ``?`` on."""
    return _SECRETS.sub("", text) if _ADDRESS.search(text) else text


def file_system(address: str) -> tuple[Any, str]:
    """Return what opens an address, and its path there.

    Raises:
        DataError: A package is absent, or nothing opens such an address.
    """
    kind = address.partition("://")[0].lower()
    package = _PACKAGES.get(kind)
    try:
        import fsspec
    except ImportError as error:
        more = [package] if package and find_spec(package) is None else []
        what = " and ".join(["fsspec", *more])
        raise DataError(f"{public(address)}: needs {what}, not installed: {how_to_install('big', *more)}.") from error
    try:
        fs, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        advice = f"{package}, not installed: pip install {package}" if package else f"a package: {why(error)}"
        raise DataError(f"{public(address)}: needs {advice}.") from error
    except Exception as error:  # whatever a protocol's package raises
        advice = f"fsspec opens {kind}:// with {package}" if package else "Give a path, or s3://, gs://, hf://"
        raise DataError(f"{public(address)}: can't be opened: {why(error)}. {advice}.") from error
    return fs, str(path)


def why(error: Exception) -> str:
    """Return what an error says, without keys."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return public(str(error)).rstrip(".") or type(error).__name__


def size_of(shard: str) -> int:
    """Return the bytes of a file, at a path or an address.

    Raises:
        OSError: It isn't there, or can't be reached.
    """
    if not is_address(shard):
        return os.stat(shard).st_size
    fs, path = file_system(shard)
    return int(_asked(lambda: fs.info(path))["size"])


def whole(place: str) -> bytes:
    """Return all of a file, at a path or an address.

    Raises:
        OSError: It isn't there, or can't be reached.
    """
    if not is_address(place):
        return Path(place).read_bytes()
    fs, path = file_system(place)
    return bytes(_asked(lambda: fs.cat_file(path)))


def mark_of(shard: str) -> str:
    """Return what a file's contents are known by.

    At a path: the SHA-256 of all of it. At an address its size and what the other side says of its contents, so that
    nothing is fetched: an ETag, a checksum, or if there is none the time of the last change.

    Raises:
        OSError: It isn't there, or can't be reached.
    """
    if not is_address(shard):
        found = os.stat(shard)
        return _sha256(shard, found.st_size, found.st_mtime_ns, found.st_ino)
    fs, path = file_system(shard)
    info = _asked(lambda: fs.info(path))
    mark = next((f"{name} {info[name]}" for name in _MARKS if info.get(name)), "")
    return f"{info['size']} bytes, {mark or 'no mark'}"


@lru_cache(maxsize=65536)  # several subsets of one data set are asked about
def _sha256(file: str, size: int, changed: int, inode: int) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _asked(ask: Any) -> Any:
    """Return what is answered; other errors than the system's, which a protocol's package may raise, become these."""
    try:
        return ask()
    except OSError as error:
        raise OSError(why(error)) from error
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {why(error)}") from error


class _Open:
    """One file that is open in one thread."""

    def __init__(self, shard: str) -> None:
        self.shard, self.fd = shard, os.open(shard, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


class Ranges:
    """Reads parts of files, at paths and at addresses; any thread may, and a copy in another process opens anew.

    What is read in order from an address is read 8 MiB at a time, and the last four such pieces are kept; what isn't
    is read as it is. From a disk nothing is kept: the system does that.
    """

    def __init__(self) -> None:
        self.__setstate__({})

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._own = threading.local()
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._ends: dict[str, int] = {}

    def reader(self, shard: str) -> Callable[[int, int], bytes]:
        """Return what gives as much of a part of a file as there is, by offset and size.

        It raises an OSError where the file isn't there, or can't be read.
        """
        return partial(self._fetched if is_address(shard) else self._read, shard)

    def _read(self, shard: str, offset: int, size: int) -> bytes:
        held: _Open | None = getattr(self._own, "file", None)
        if held is None or held.shard != shard:
            held = self._own.file = _Open(shard)
        return os.pread(held.fd, size, offset)

    def picture(self, shard: str, offset: int, size: int, name: str) -> bytes:
        """Return the bytes of one picture; ``name`` is what an error calls it.

        Raises:
            UnreadableImageError: They are too many, or not there.
        """
        if size > MOST:
            raise UnreadableImageError(f"{name}: is not read: {size:,} bytes, and the limit is {MOST:,}.", name)
        try:
            found = self.reader(shard)(offset, size)
        except (OSError, DataError) as error:
            raise UnreadableImageError(f"{name}: can't be read: {why(error)}.", name) from error
        if len(found) < size:
            raise UnreadableImageError(f"{name}: is cut short: {len(found):,} of {size:,} bytes are there.", name)
        return found

    def _fetched(self, shard: str, offset: int, size: int) -> bytes:
        with self._lock:
            for (held, start), block in self._blocks.items():
                if held == shard and start <= offset and offset + size <= start + len(block):
                    self._blocks.move_to_end((held, start))
                    return block[offset - start : offset - start + size]
            in_order = 0 <= offset - self._ends.get(shard, 0) <= _NEAR
            fs, path = file_system(shard)
            end = offset + (max(size, _AHEAD) if in_order else size)
            block = bytes(_asked(lambda: fs.cat_file(path, start=offset, end=end)))
            self._blocks[shard, offset] = block
            while len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
            self._ends[shard] = offset + len(block)
            return block[:size]
