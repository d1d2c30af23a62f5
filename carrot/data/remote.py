"""Folders of class folders, and tables of pictures, at addresses: s3://, gs://, hf://, memory://, file://.

Their layouts are those of ``carrot.data.folder`` and ``carrot.data.csv_folder``. What a file is goes by its name alone:
none is fetched before it is looked at, and one that isn't there then is set aside by name.

A table may also lie on the disk and list addresses. Its cells are addresses, or paths below the table's folder.
"""

import posixpath
from collections.abc import Sequence

from PIL import Image

from carrot._images import decode_image
from carrot._progress import progress
from carrot.data import splits
from carrot.data.addresses import MOST, file_system, is_address, mark_of, public, size_of, whole, why
from carrot.data.columns import Names
from carrot.data.csv_table import Line, read_lines
from carrot.data.folder import LOOSE, class_records, require_trained
from carrot.data.listed import Listed, Seen
from carrot.data.records import Record
from carrot.data.reporting import UNLABELLED, warn_of_skipped, warn_of_twins
from carrot.data.tables import natural
from carrot.data.walking import HIDDEN, why_unread
from carrot.errors import DataError, UnreadableImageError

_REFUSED = ("http", "https", "ftp", "file", "local")


class _Remote:
    """Pictures that are fetched one by one when they are read."""

    name: str
    records: Sequence[Record]
    _base: str

    def content(self, index: int) -> bytes:
        """Return the bytes of picture ``index``, as its file has them.

        Raises:
            UnreadableImageError: It isn't there, can't be fetched, or is more than 1 GiB.
        """
        name = self.records[index].id
        place = name if is_address(name) else f"{self._base}/{name}"
        try:
            size = size_of(place)
            if size > MOST:
                raise OSError(f"{size:,} bytes, and the limit is {MOST:,}")
            return whole(place)
        except (OSError, DataError) as error:
            raise UnreadableImageError(f"{public(place)}: can't be read: {why(error)}.", public(place)) from error

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: It can't be fetched or decoded.
        """
        return decode_image(self.content(index), public(self.records[index].id))


class AddressFolder(_Remote):
    """One folder of pictures per class, at an address.

    Args:
        address: Of the folder of class folders, or of ``train`` and ``test`` (or ``val``, ...).
        test_every: Where it has no split: every ``test_every``-th picture of each class, in sorted order, is for
            testing. None: all are for training.
        for_testing: The pictures are only to be tested on: one class is enough.

    Attributes:
        name: The folder's name.
        classes: The class folders' names, sorted naturally; with ``train`` and ``test``, those of ``train``.
        records: As in ``ImageFolder``; ``path`` is None.
        skipped: What was set aside, the reason by path below the folder.
        split_is_own: Whether the folder has a split of its own.

    Raises:
        DataError: It can't be listed, or has fewer than two class folders with pictures.
        TypeError, ValueError: ``test_every`` is no whole number, or less than 2.
    """

    def __init__(self, address: str, test_every: int | None = 5, for_testing: bool = False) -> None:
        splits.require_every(test_every)
        self._base = address.rstrip("/")
        self.name = public(self._base).rpartition("/")[2]
        self.skipped: dict[str, str] = {}
        found = sorted(_listed(self._base), key=natural)
        tops = dict.fromkeys(name.partition("/")[0] for name in found if "/" in name)
        sides = splits.sides((name for name in tops if splits.kind_of(name)), public(address))
        has_split = sides.train is not None and bool(sides.test)
        train = _by_class(found, f"{sides.train}/" if has_split else "", self.skipped)
        test = self._tested(found, sides) if has_split else None
        self.split_is_own = test is not None
        if not for_testing or not (train or test):
            require_trained(train, public(self._base), self.skipped)
        self.classes: tuple[str, ...] = tuple(train)
        self.records = class_records(train, test, test_every, self.skipped, content=self.content)
        warn_of_skipped(public(address), self.skipped)
        warn_of_twins(self.classes, public(address))

    def _tested(self, found: Sequence[str], sides: splits.Sides) -> dict[str, Names]:
        chosen: dict[str, Names] = {}
        used = [sides.train]
        for name in sides.test:
            if any(chosen.values()):
                continue
            chosen = _by_class(found, f"{name}/", self.skipped)
            used.append(name)
            if not any(chosen.values()):
                self.skipped[name] = UNLABELLED
        said = " nor in ".join(f"{name}/" for name in used)
        others = (name for name in found if name.partition("/")[0] not in used and _reason(name) == "")
        self.skipped |= dict.fromkeys(others, f"neither in {said}")
        return chosen

    def contents(self) -> dict[str, str]:
        """Return what the contents of each file are known by: what the other side says, nothing is fetched."""
        return _marks(self, {public(name): f"{self._base}/{name}" for name in _listed(self._base)})


class AddressTable(_Remote):
    """Pictures at the addresses that a table lists, or below the address of the table.

    Args:
        table: Its path or address.
        test_every: Without a ``split`` column: every ``test_every``-th picture of each class is for testing.
        for_testing: The pictures are only to be tested on: one class is enough.

    Attributes:
        name: The name of the table's folder.
        classes: The labels of the training pictures, sorted naturally.
        records: In the order of the lines; ``id`` is the cell, ``path`` is None.
        skipped: What was set aside, the reason by ``id``.
        split_is_own: Whether the table has a column ``split``.

    Raises:
        DataError: The table can't be read, a line is malformed or lists a picture twice, fewer than two classes.
        TypeError, ValueError: ``test_every`` is no whole number, or less than 2.
    """

    def __init__(self, table: str, test_every: int | None = 5, for_testing: bool = False) -> None:
        splits.require_every(test_every)
        self._base = table.rpartition("/")[0] if is_address(table) else ""
        self.name = public(posixpath.dirname(table)).rpartition("/")[2] or "table"
        self.skipped: dict[str, str] = {}
        listed = Listed(table, self._look)
        side = listed.sides(test_every, self.skipped)
        self.split_is_own = listed.has_split
        classes, records = listed.records(side, for_testing, self.skipped, content=self.content)
        self.classes: tuple[str, ...] = classes
        self.records = records
        if len(classes) < (1 if for_testing else 2):
            raise DataError(
                f"{public(table)}: needs training pictures of at least two classes; got {list(classes)}. Add some."
            )
        warn_of_skipped(public(table), self.skipped)
        warn_of_twins(self.classes, public(table))

    def _look(self, line: Line) -> Seen:
        name = line.image
        kind = name.partition("://")[0].lower() if is_address(name) else ""
        own = bool(kind) and bool(self._base) and name.startswith(f"{self._base}/")
        if (kind in _REFUSED and not own) or "::" in name:
            advice = "Fetch the pictures first (img2dataset writes shards of them: wds:), or give s3://, gs://, hf://"
            of = "a chain of addresses" if "::" in name else f"{kind}://"
            raise DataError(f"{line.where}: {public(name)}: {of} is not opened from a table. {advice}.")
        if public(name) != name:
            raise DataError(f"{line.where}: {public(name)} has keys in it, which would be stored. Leave them out.")
        if not kind and (not self._base or name.startswith("/") or ".." in name.split("/")):
            where = "an address" if not self._base else "an address, or a path below the table"
            raise DataError(f"{line.where}: must be {where}; got {name}. Correct it.")
        return Seen(name if kind else f"{self._base}/{name}", why_unread(public(name), by_name=True) or "")

    def contents(self) -> dict[str, str]:
        """Return what the contents of each file are known by: what the other side says, nothing is fetched."""
        names = (record.id for record in self.records)
        return _marks(self, {public(n): n if is_address(n) else f"{self._base}/{n}" for n in names})


def lists_addresses(table: str) -> bool:
    """Return whether a table on the disk lists addresses: whether its first line with a picture does."""
    try:
        return any(is_address(line.image) for line, _ in zip(read_lines(table), range(1), strict=False))
    except DataError:
        return False  # its reader says what is wrong


def _listed(base: str) -> list[str]:
    """Return what lies below an address, without what is hidden."""
    fs, path = file_system(base)
    try:
        found = [str(name) for name in fs.find(path)]
    except Exception as error:  # whatever a protocol's package raises
        raise DataError(f"{public(base)}: can't be listed: {why(error)}. Give another address.") from error
    root = path.rstrip("/") + "/"
    names = [name[len(root) :] for name in found if name.startswith(root)]
    if not names:
        raise DataError(f"{public(base)}: there is no such folder, or nothing in it. Give a folder of class folders.")
    return [n for n in names if not any(part.startswith(".") or part in HIDDEN for part in n.split("/"))]


def _reason(name: str) -> str | None:
    return why_unread(name, by_name=True)


def _by_class(found: Sequence[str], prefix: str, skipped: dict[str, str]) -> dict[str, Names]:
    by_class: dict[str, Names] = {}
    for name in found:
        if not name.startswith(prefix):
            continue
        reason, (folder, slash, _) = _reason(name), name[len(prefix) :].partition("/")
        if reason:
            skipped[name] = reason
        if slash:
            by_class.setdefault(folder, Names())
        if reason == "" and slash:
            by_class[folder].append(name)
        elif reason == "":
            skipped[name] = LOOSE
    return by_class


def _marks(dataset: _Remote, places: dict[str, str]) -> dict[str, str]:
    found = {}
    for name, place in progress(places.items(), f"asking for {dataset.name}", len(places), "files", brief=True):
        try:
            found[name] = mark_of(place)
        except OSError as error:
            found[name] = f"not there: {error}"
    return found
