"""Where a store's files lie: a folder of this machine or a mounted disk, or an address that ``fsspec`` opens.

In a folder a file is whole or absent because it is renamed into place. At an address it is sent as one object: what
keeps objects (s3, gs, az, memory) shows it whole or not at all; where a protocol writes piece by piece, a kill may
leave a part, which is found by its checksum. ``carrot.data.addresses`` opens them, and keeps keys out of messages.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from carrot.data.addresses import file_system, is_address, mended, public, why
from carrot.errors import DataError, StoreError
from carrot.store.files import flush_folder, write_atomically

Answer = TypeVar("Answer")
MANIFEST = "manifest.json"  # the file of a store that says which it is


def place_of(folder: Path | str) -> "Place":
    """Return the place that is named: a path, or ``protocol://WHERE``.

    Raises:
        StoreError: Nothing opens such an address; the message says what to install.
    """
    text = mended(str(folder))
    if text.startswith("file://"):
        return Folder(Path(text.removeprefix("file://")))
    return Objects(text) if is_address(text) else Folder(Path(folder))


class Folder:
    """A folder of this machine, or on a disk that is mounted here. ``str`` of it is what messages call it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def make(self) -> None:
        """Make it, where it isn't there."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        """Return whether a file is there."""
        return self.path(name).exists()

    def read(self, name: str, stop: int | None = None) -> bytes:
        """Return a file, or its first ``stop`` bytes.

        Raises:
            OSError: It can't be read; ``FileNotFoundError``: it isn't there.
        """
        with open(self.path(name), "rb") as file:
            return file.read() if stop is None else file.read(stop)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            StoreError: It can't be written.
        """
        write_atomically(self.path(name), data)

    def delete(self, name: str) -> bool:
        """Delete a file, and what a killed write left of it; return whether there was one.

        Raises:
            OSError: It can't be deleted.
        """
        self.sweep(name)
        was_there = self.has(name)
        self.path(name).unlink(missing_ok=True)
        if was_there:
            flush_folder(self.folder)
        return was_there

    def state(self, name: str) -> tuple[int, ...] | None:
        """Return what tells a file from one that is written over it while this process runs; None: nothing does.

        Raises:
            FileNotFoundError: It isn't there.
        """
        found = self.path(name).stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def path(self, name: str) -> Path:
        """Return the path of a file."""
        return self.folder / name

    def sweep(self, name: str) -> None:
        """Delete what a killed write left of a file: where nobody else writes it."""
        for left_over in self.folder.glob(f"{name}.*.tmp"):
            left_over.unlink(missing_ok=True)


class Objects:
    """A folder at an address. Keys come from the environment, or from where the protocol's package looks for them.

    Raises:
        StoreError: Nothing opens it; the message says what to install.
    """

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        try:
            self._fs, root = file_system(self._address)
        except DataError as error:
            raise StoreError(f"{error} Or give a folder.") from error
        self._root = root.rstrip("/")

    def __str__(self) -> str:
        return public(self._address)

    def make(self) -> None:
        """Make it, where the protocol knows folders."""
        self._asked("written", lambda: self._fs.makedirs(self._root, exist_ok=True))

    def has(self, name: str) -> bool:
        """As ``Folder``."""
        return bool(self._asked("read", lambda: self._fs.exists(f"{self._root}/{name}")))

    def read(self, name: str, stop: int | None = None) -> bytes:
        """As ``Folder``."""
        return bytes(self._asked("read", lambda: self._fs.cat_file(f"{self._root}/{name}", start=0, end=stop)))

    def write(self, name: str, data: bytes) -> None:
        """As ``Folder``."""
        self._asked("written", lambda: self._fs.pipe_file(f"{self._root}/{name}", data))

    def sweep(self, name: str) -> None:
        """Nothing: an object that was not sent as a whole is none."""

    def delete(self, name: str) -> bool:
        """As ``Folder``."""
        was_there = self.has(name)
        if was_there:
            self._asked("deleted", lambda: self._fs.rm_file(f"{self._root}/{name}"))
        return was_there

    def state(self, name: str) -> tuple[int, ...] | None:
        """None: clocks of another machine aren't compared."""
        return None

    def path(self, name: str) -> None:
        """None: it has none on this machine."""

    def _asked(self, how: str, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever a protocol's package raises
            raise StoreError(
                f"{self}: can't be {how}: {why(error)}. Look whether it is there, and whether this machine may use it."
            ) from error


Place = Folder | Objects


def refuse_other_place(folder: Path | str) -> None:
    """Refuse a folder that holds files and no store: shards would lie among what is none.

    Raises:
        StoreError: It does.
    """
    place = place_of(folder)
    if not isinstance(place, Folder) or place.has(MANIFEST) or not place.folder.is_dir():
        return  # at an address nothing is listed; of a file the store says that it is one
    others = sorted(path.name for path in place.folder.iterdir() if not path.name.startswith((".", MANIFEST)))
    if others:
        raise StoreError(
            f"{folder}: holds other files ({', '.join(others[:3])}{', ...' * (len(others) > 3)}) and no embeddings. "
            f"Give an empty folder, or a new one, such as {place.folder / 'shards'}."
        )
