"""A folder of class folders: the layout that most collections of pictures already have.

::

    root/<class>/**/<picture>                      one folder, split here: every fifth picture of a class is for testing
    root/train/<class>/**/<picture>                a split of its own, under any name in ``carrot.data.splits``
    root/test/<class>/**/<picture>

A split made here goes by place: files that are added or deleted shift it (``carrot evaluate`` leaves out what the model
was fitted on).

A class is a first-level folder; pictures may lie at any depth in it. Names are sorted naturally ("2" before "10"). What
is a picture, and what is passed over, is said in ``carrot.data.walking``.

**Symbolic links below the root are never followed**: a link may leave the data set, run in a circle, or put one picture
on both sides of the split. Links, pictures that lie outside of every class folder, test pictures of a class without
training pictures, formats that aren't read and names that aren't UTF-8 are set aside, listed in ``skipped``, and
reported by one warning.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carrot._images import open_image
from carrot.data import splits
from carrot.data.columns import Names, Records
from carrot.data.records import Record
from carrot.data.reporting import UNLABELLED, untrained, warn_of_skipped, warn_of_twins
from carrot.data.tables import natural
from carrot.data.walking import LINK, UNREAD, below, is_picture, pictures_below, told, visible
from carrot.errors import DataError

LOOSE = "not in a class folder"


class ImageFolder:
    """Pictures in one folder per class.

    Args:
        root: The folder of class folders, or of ``train`` and ``test`` (or ``val``, ...), each a folder of class
            folders.
        test_every: Where the folder has no split of its own: every ``test_every``-th picture of each class, in sorted
            order, is for testing; a class of fewer pictures has none. None: all are for training. Near duplicates
            (frames of one film) may fall on both sides: give ``train`` and ``test`` folders where that matters.
        nested: The first-level folders are the classes, though all of them hold the same sub-folders and no pictures of
            their own (views, years). Otherwise such a folder is refused: it may be a split under names that aren't
            known.
        for_testing: The pictures are only to be tested on: one class is enough, and a class folder may be empty.

    Attributes:
        name: The root folder's name.
        classes: The class folders' names, sorted naturally; with ``train`` and ``test``, those of ``train``.
        records: Class by class, pictures sorted naturally; training pictures first where the folder has its own split.
            ``id`` is the path below the root.
        skipped: What was set aside: the reason by path below the root.
        split_is_own: Whether the folder has a split of its own; False: it was made here.

    Raises:
        DataError: No such folder, a class folder without pictures, fewer than two classes, two folders for one side of
            the split, first-level folders that look like no classes.
        TypeError, ValueError: ``test_every`` is no whole number, or less than 2.
    """

    def __init__(
        self, root: Path | str, test_every: int | None = 5, nested: bool = False, for_testing: bool = False
    ) -> None:
        splits.require_every(test_every)
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{root}: is not a folder. Give a folder that has one folder of pictures per class.")
        self.name = self.root.resolve().name
        self.skipped: dict[str, str] = {}

        train_folder, test = self._sides()
        self.split_is_own = test is not None
        train = _pictures_by_class(self.root, train_folder, self.skipped)
        if for_testing:
            train = {name: pictures for name, pictures in train.items() if pictures}
        if not for_testing or not (train or test):
            require_trained(train, train_folder, self.skipped)
        if not nested:
            _question(train, train_folder, self.root)
        self.classes: tuple[str, ...] = tuple(train)
        self.records: Sequence[Record] = class_records(train, test, test_every, self.skipped, self.root)
        warn_of_skipped(self.root, self.skipped)
        warn_of_twins(self.classes, self.root)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The file can't be decoded.
        """
        return open_image(self.root / self.records[index].id)

    def _sides(self) -> tuple[Path, dict[str, Names] | None]:
        """Return the folder of the training pictures, and the test pictures by class; None: the folder has no split."""
        entries = visible(self.root)
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        found = splits.sides((name for name in names if splits.kind_of(name)), self.root)
        if found.train is None or not found.test:
            return self.root, None
        used = [found.train]
        test: dict[str, Names] | None = None
        for name in found.test:
            aside: dict[str, str] = {}
            test = _pictures_by_class(self.root, self.root / name, aside)
            if any(test.values()):
                self.skipped |= aside
                used.append(name)
                break
            self.skipped |= {path: reason for path, reason in aside.items() if reason != LOOSE}
            test, self.skipped[name] = None, UNLABELLED
        for entry in entries:
            if entry.name in (*used, *self.skipped) or told(self.root, entry, self.skipped):
                continue
            reason = "neither in " + " nor in ".join(f"{name}/" for name in used)
            if entry.is_dir():  # each of its pictures is counted
                self.skipped |= dict.fromkeys(pictures_below(Path(entry.path), self.skipped, self.root), reason)
            elif is_picture(self.root, entry, self.skipped):
                self.skipped[entry.name] = reason
        return self.root / found.train, test


def class_records(
    train: Mapping[str, Names],
    test: Mapping[str, Names] | None,
    test_every: int | None,
    skipped: dict[str, str],
    root: Path | None = None,
    content: Callable[[int], bytes] | None = None,
) -> Records:
    """Return the records of class folders, the training pictures first where there is a split.

    Args:
        train: The pictures by class.
        test: Those for testing, by class; None: there is no split.
        test_every: Every so many pictures of a class are for testing then; None: none is.
        skipped: Test pictures of other classes are added here.
        root: The folder that the pictures are files in.
        content: Where they are no files: the bytes of one.
    """
    classes, parts, tested = tuple(train), list(train.values()), list[NDArray[np.bool_]]()
    labels = list(range(len(classes)))
    for pictures in train.values():
        place = np.arange(1, len(pictures) + 1)
        is_split = test is not None or test_every is None
        tested.append(np.zeros(len(place), np.bool_) if is_split else place % (test_every or 1) == 0)
    label_of = {name: label for label, name in enumerate(classes)}
    for name, pictures in (test or {}).items():
        if name in label_of:
            parts.append(pictures)
            labels.append(label_of[name])
            tested.append(np.ones(len(pictures), np.bool_))
        else:
            skipped |= dict.fromkeys(pictures, untrained(name, classes))
    counts = [len(pictures) for pictures in parts]
    label = np.repeat(np.array(labels, np.int32), counts)
    return Records(Names.joined(parts), label, np.concatenate([np.zeros(0, np.bool_), *tested]), root, content)


def _pictures_by_class(root: Path, folder: Path, skipped: dict[str, str]) -> dict[str, Names]:
    """Return the pictures' paths below ``root``, sorted, by the name of their class, sorted."""
    by_class: dict[str, Names] = {}
    for entry in visible(folder):
        if told(root, entry, skipped):
            continue
        if entry.is_dir():
            by_class[entry.name] = Names(pictures_below(Path(entry.path), skipped, root))
        elif is_picture(root, entry, skipped):
            skipped[below(root, entry)] = LOOSE
    return by_class


def require_trained(by_class: Mapping[str, Names], folder: Path | str, skipped: Mapping[str, str]) -> None:
    """Refuse class folders that nothing can be learned from.

    Raises:
        DataError: There are fewer than two, or one has no pictures.
    """
    if not by_class:
        raise DataError(
            f"{folder}: has no class folders. Put every picture in a folder named by its class.{_hint(skipped, '')}"
        )
    for name, pictures in by_class.items():
        if not pictures:
            raise DataError(
                f"{folder}/{name}: this class folder has no pictures. Add some, or remove it.{_hint(skipped, name)}"
            )
    if len(by_class) < 2:
        only = next(iter(by_class))
        raise DataError(
            f"{folder}: needs at least two class folders; got only {only!r}. Add another class; a split needs both "
            f"train/ and test/ (or val/); for the classes inside of {only!r}, give {folder}/{only}."
        )


def _question(by_class: Mapping[str, Names], folder: Path, root: Path) -> None:
    """Refuse first-level folders that look like another level above the classes.

    A wrong guess would train on splits, or on views.

    Raises:
        DataError: Most of them have no pictures of their own, but the same sub-folders, two or more; or one without
            pictures of its own is named after a training split.
    """
    depth = len(folder.relative_to(root).parts) + 1
    inside: dict[str, set[str]] = {}
    for name, pictures in by_class.items():
        inside[name] = set()
        for picture in pictures:
            tail = picture.split("/", depth + 1)[depth:]
            if len(tail) == 1:
                inside[name] = set()
                break
            inside[name].add(tail[0])
    levels = {name: below_it for name, below_it in inside.items() if below_it}
    common = set.intersection(*levels.values()) if 2 * len(levels) > len(inside) and len(levels) > 1 else set()
    named = [name for name in levels if splits.mentions_training(name)]
    if len(common) < 2 and not named:
        if all(len(below_it) > 1 for below_it in inside.values()):
            _say_nested(inside, folder)
        return
    shown = " and ".join(map(repr, sorted(common, key=natural)[:2] or sorted(inside[named[0]], key=natural)[:2]))
    first = named[0] if named else next(iter(levels))
    if all(splits.kind_of(name) for name in common) and common:
        advice = f"Put the split above the classes: {folder / 'train'}/CLASS and {folder / 'test'}/CLASS"
    else:
        advice = (
            f"If they are a split, name them train and test, or give one of them ({folder / first}); if they are the "
            f"classes, write folder:{root} (in Python, ImageFolder({str(root)!r}, nested=True))"
        )
    some = ", ".join(map(repr, list(levels)[:3])) + ", ..." * (len(levels) > 3)
    raise DataError(
        f"{folder}: {some} look like another level above the classes: they have no pictures of their own, but folders "
        f"such as {shown} in them. {advice}."
    )


def _say_nested(inside: Mapping[str, set[str]], folder: Path) -> None:
    first = next(iter(inside))
    n, deeper = sum(map(len, inside.values())), f"{first}/{min(inside[first], key=natural)}"
    message = (
        f"{folder}: the classes are its {len(inside)} folders; the {n} folders in these, such as {deeper}, are not "
        "told apart. If those are the classes, put them side by side."
    )
    warnings.warn(message, stacklevel=4)


def _hint(skipped: Mapping[str, str], name: str) -> str:
    """Return what else is known of the pictures that are missing: they are links, or of formats that aren't read."""
    hints = [
        f" Symbolic links are not followed ({path}): copy the files themselves (cp -rL SOURCE COPY)."
        for path, reason in skipped.items()
        if reason == LINK
    ][:1]
    here = (reason for path, reason in skipped.items() if not name or name in path.split("/"))
    unread = Counter(reason for reason in here if reason.endswith(UNREAD))
    hints += [f" {count} are left out: {reason}." for reason, count in unread.most_common(3)]
    return "".join(hints)
