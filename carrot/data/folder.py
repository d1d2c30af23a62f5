"""A folder of class folders: the layout that most collections of pictures already have.

::

    root/<class>/**/<picture>                      one folder, split here: every fifth picture of a class is for testing
    root/train/<class>/**/<picture>                a split of its own: train/ with test/ or, without one, val/
    root/test/<class>/**/<picture>

A split made here goes by place: files that are added or deleted shift it (``carrot evaluate`` leaves out what the model was fitted on).

A class is a first-level folder; pictures may lie at any depth in it. Names are sorted naturally ("2" before "10"). Hidden
files and folders, and files without a picture's extension, are ignored.

**Symbolic links below the root are never followed**: a link may leave the data set, run in a circle, or put one picture on
both sides of the split. Links, pictures that lie outside of every class folder and names that aren't UTF-8 are set aside,
listed in ``skipped``, and reported by one warning.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from carrot.data.images import image_extensions, open_image
from carrot.data.records import Record, Split
from carrot.data.tables import natural
from carrot.errors import DataError

_TEST_FOLDERS = ("test", "val", "valid", "validation")
_LINK = "a symbolic link, not followed"


class ImageFolder:
    """Pictures in one folder per class.

    Args:
        root: The folder of class folders, or of ``train`` and ``test`` (or ``val``), each a folder of class folders.
        test_every: Where the folder has no split of its own: every ``test_every``-th picture of each class, in sorted order,
            is for testing; a class of fewer pictures has none. None: all are for training. Near duplicates (frames of one
            film) may fall on both sides: give ``train`` and ``test`` folders where that matters.
        for_testing: The pictures are only to be tested on: one class is enough, and a class folder may be empty.

    Attributes:
        name: The root folder's name.
        classes: The class folders' names, sorted naturally; with ``train`` and ``test``, those of ``train``.
        records: Class by class, pictures sorted naturally; training pictures first where the folder has its own split.
            ``id`` is the path below the root.
        skipped: What was set aside: the reason by path below the root.
        split_is_own: Whether the folder has a split of its own; False: it was made here.

    Raises:
        DataError: No such folder, a class folder without pictures, fewer than two classes, a test class that ``train`` lacks.
        ValueError: ``test_every`` is less than 2.
    """

    def __init__(self, root: Path | str, test_every: int | None = 5, for_testing: bool = False) -> None:
        if test_every is not None and test_every < 2:
            raise ValueError(f"test_every must be at least 2, or None for no test pictures; got {test_every}")
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{root}: is not a folder. Give a folder that has one folder of pictures per class.")
        self.name = self.root.resolve().name
        self.skipped: dict[str, str] = {}

        own_split = _own_split(self.root, self.skipped)
        self.split_is_own = own_split is not None
        train_folder = own_split[0] if own_split else self.root
        train = _pictures_by_class(self.root, train_folder, self.skipped, for_testing)
        self.classes: tuple[str, ...] = tuple(train) if for_testing else _at_least_two(train, train_folder)
        records = []
        for label, pictures in enumerate(train.values()):
            for place, picture in enumerate(pictures, start=1):
                is_test = own_split is None and test_every is not None and place % test_every == 0
                records.append(self._record(picture, label, "test" if is_test else "train"))
        if own_split:
            test = _pictures_by_class(self.root, own_split[1], self.skipped, for_testing)
            _must_be_trained(test, self.classes, *own_split)
            for name, pictures in test.items():
                records += [self._record(picture, self.classes.index(name), "test") for picture in pictures]
        self.records: Sequence[Record] = tuple(records)

        if self.skipped:
            path, reason = next(iter(self.skipped.items()))
            message = f"{self.root}: {len(self.skipped)} set aside (see .skipped). The first: {path}: {reason}"
            warnings.warn(message, stacklevel=2)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The file can't be decoded.
        """
        return open_image(self.root / self.records[index].id)

    def _record(self, picture: str, label: int, split: Split) -> Record:
        return Record(picture, label, split, self.root / picture)


def _own_split(root: Path, skipped: dict[str, str]) -> tuple[Path, Path] | None:
    """Return the folders of the training and the test pictures, where the root has both; case doesn't matter."""
    folders = {entry.name.casefold(): entry.name for entry in _visible(root) if entry.is_dir(follow_symlinks=False)}
    test = next((folders[name] for name in _TEST_FOLDERS if name in folders), None)
    if "train" not in folders or test is None:
        return None
    for entry in _visible(root):
        if entry.name not in (folders["train"], test) and (entry.is_dir() or _is_picture(entry.name)):
            skipped[_printable(entry.name)] = f"neither in {folders['train']}/ nor in {test}/"
    return root / folders["train"], root / test


def _pictures_by_class(root: Path, folder: Path, skipped: dict[str, str], may_be_empty: bool) -> dict[str, list[str]]:
    """Return the pictures' paths below ``root``, sorted, by the name of their class, sorted."""
    by_class: dict[str, list[str]] = {}
    for entry in _visible(folder):
        path = Path(entry.path)
        if _set_aside(root, entry, skipped):
            continue
        if entry.is_dir():
            by_class[entry.name] = list(_pictures(root, path, skipped))
            if not by_class[entry.name] and not may_be_empty:
                raise DataError(f"{path}: this class folder has no pictures. Add some, or remove it.{_hint(skipped)}")
        elif _is_picture(entry.name):
            skipped[path.relative_to(root).as_posix()] = "not in a class folder"
    if not by_class:
        raise DataError(
            f"{folder}: has no class folders. Put every picture in a folder named by its class.{_hint(skipped)}"
        )
    return by_class


def _pictures(root: Path, folder: Path, skipped: dict[str, str]) -> Iterator[str]:
    for entry in _visible(folder):
        if _set_aside(root, entry, skipped):
            continue
        if entry.is_dir():
            yield from _pictures(root, Path(entry.path), skipped)
        elif _is_picture(entry.name):
            yield Path(entry.path).relative_to(root).as_posix()


def _set_aside(root: Path, entry: os.DirEntry[str], skipped: dict[str, str]) -> bool:
    """Note the entry in ``skipped``, and return True, if it is a link or has a name that can't be stored."""
    reason = ""
    if entry.is_symlink():
        reason = _LINK
    elif _printable(entry.name) != entry.name:
        reason = "its name is not valid UTF-8"
    if reason:
        skipped[_printable(Path(entry.path).relative_to(root).as_posix())] = reason
    return bool(reason)


def _at_least_two(by_class: dict[str, list[str]], folder: Path) -> tuple[str, ...]:
    if len(by_class) < 2:
        only = next(iter(by_class))
        raise DataError(
            f"{folder}: needs at least two class folders; got only {only!r}. Add another class; a split needs both train/ and "
            f"test/ (or val/); for the classes inside of {only!r}, give {folder / only}."
        )
    return tuple(by_class)


def _must_be_trained(
    test: dict[str, list[str]], classes: tuple[str, ...], train_folder: Path, test_folder: Path
) -> None:
    unknown = [name for name in test if name not in classes]
    if unknown:
        raise DataError(
            f"{test_folder / unknown[0]}: this class is missing from {train_folder} ({len(unknown)} such classes). "
            f"Add its training pictures there, or remove it here."
        )


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    except OSError as error:
        raise DataError(f"{folder}: can't be listed: {error.strerror}. Make it readable, or remove it.") from error
    return sorted(shown, key=lambda entry: natural(entry.name))


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in image_extensions()


def _printable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _hint(skipped: dict[str, str]) -> str:
    links = [path for path, reason in skipped.items() if reason == _LINK]
    return (
        f" Symbolic links are not followed ({links[0]}): copy the files themselves (cp -rL SOURCE COPY)."
        if links
        else ""
    )
