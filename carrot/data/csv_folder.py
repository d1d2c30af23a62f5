"""A folder of pictures and a CSV file that says what each of them shows.

::

    image,label,split
    a/0001.jpg,Great tit,train
    a/0002.jpg,Wren,test

The first line names the columns, in any order and any case: the picture's path below the file's folder is ``image``,
``filename``, ``file_name`` or ``path``; its class is ``label`` or ``class``; ``split`` may be absent, and so may the
box of the object in pixels, ``box_x``, ``box_y``, ``box_width``, ``box_height``. Other usual names are known too, and
so are tabulators and semicolons (``carrot.data.csv_table``); further columns are ignored. The split goes by any name in
``carrot.data.splits``: ``val`` and its like are for testing where nothing is ``test``, and are set aside otherwise, as
in ``ImageFolder``.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from carrot._images import open_image
from carrot.data import splits
from carrot.data.csv_table import EXTENSIONS, Line, table_files, why_no_table
from carrot.data.listed import Listed, Missing, Seen
from carrot.data.records import Record
from carrot.data.reporting import warn_of_skipped, warn_of_twins
from carrot.data.tables import Inside
from carrot.data.walking import why_unread
from carrot.errors import DataError


class CsvFolder:
    """Pictures listed in a CSV file.

    Args:
        path: The file, or the folder that has just one ``.csv`` (or ``.tsv``) file.
        test_every: Without a ``split`` column: every ``test_every``-th picture of each class, in the order of the
            lines, is for testing; a class of fewer pictures has none. None: all are for training.
        for_testing: The pictures are only to be tested on: one class is enough, and none needs training pictures.

    Attributes:
        name: The name of the file's folder.
        classes: The labels of the training pictures, sorted naturally ("2" before "10").
        records: In the order of the lines; ``id`` is the path below the folder.
        skipped: What was set aside, the reason by ``id``: pictures without a label, test pictures of a class that has
            no training picture, formats that aren't read, a validation split beside a test split.
        split_is_own: Whether the file has a column ``split``; False: it was made here.

    Raises:
        DataError: No such file, a line is malformed or lists a picture twice, a picture is missing or lies outside of
            the folder, fewer than two classes.
        TypeError, ValueError: ``test_every`` is no whole number, or less than 2.
    """

    def __init__(self, path: Path | str, test_every: int | None = 5, for_testing: bool = False) -> None:
        splits.require_every(test_every)
        self.file = _find(Path(path))
        self.root = self.file.parent
        self.name = self.root.resolve().name
        self.skipped: dict[str, str] = {}

        table = Listed(self.file, _Look(self.root))
        if table.missing.n:
            _say_missing(self.root, table.missing)
        side = table.sides(test_every, self.skipped)
        self.split_is_own = table.has_split
        classes, records = table.records(side, for_testing, self.skipped, self.root)
        self.classes: tuple[str, ...] = classes
        self.records: Sequence[Record] = records
        if len(classes) < (1 if for_testing else 2):
            left_out = [f" {len(self.skipped)} are left out; the first: {reason}." for reason in self.skipped.values()]
            raise DataError(
                f"{self.file}: needs training pictures of at least two classes; got {list(classes)}. Add some."
                + "".join(left_out[:1])
            )
        warn_of_skipped(self.file, self.skipped)
        warn_of_twins(self.classes, self.file)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The file can't be decoded.
        """
        return open_image(self.root / self.records[index].id)


def looks_like_csv(path: Path | str) -> bool:
    """Return whether ``path`` is a table, or a folder with one that names pictures and labels, and no two folders."""
    path = Path(path)
    if not path.is_dir():
        return path.is_file() and path.suffix.lower() in EXTENSIONS
    folders = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return len(folders) < 2 and any(not why_no_table(file) for file in table_files(path))


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder. Give a CSV file, or the folder that has it.")
    files = table_files(path)
    usable = [file for file in files if not why_no_table(file)]
    if len(files) != 1 and len(usable) != 1:
        names = ", ".join(file.name for file in files)
        found = f"has {len(files)} .csv files ({names})" if files else "has no .csv file"
        raise DataError(f"{path}: {found}. Give the path of the file itself.")
    return usable[0] if usable else files[0]


class _Look:
    """Looks for the file of a line, inside of one folder."""

    def __init__(self, root: Path) -> None:
        self._root, self._inside = root, Inside(root)

    def __call__(self, line: Line) -> Seen | None:
        real = self._inside.real(line.image, line.where)
        return None if real is None else Seen(real, why_unread(os.path.join(self._root, line.image)) or "")


def _say_missing(root: Path, missing: Missing) -> None:
    """Raise the error that names the pictures that aren't there, and says where the first may be meant to be."""
    name, where = missing.first[0].image, missing.first[0].where
    if os.path.lexists(root / name):
        Inside(root)(name, where)  # it is a folder, or the like
    names = ", ".join(line.image for line in missing.first) + ", ..." * (missing.n > len(missing.first))
    found = _near(root, name.replace("\\", "/"))
    advice = (
        f"There is {found}: write paths below the table's folder, with / and the extension" if found else "Add them"
    )
    raise DataError(f"{where}: {missing.n} of the listed pictures are missing from {root}: {names}. {advice}.")


def _near(root: Path, name: str) -> str | None:
    """Return the path, in the folder or in one of its folders, of a file called so, with or without an extension."""
    if os.path.isfile(root / name):
        return name
    wanted, stem = os.path.basename(name), Path(name).stem
    try:
        for folder in ("", *(f"{entry.name}/" for entry in root.iterdir() if entry.is_dir())):
            for entry in sorted(os.listdir(root / folder)):
                if wanted in (entry, os.path.splitext(entry)[0]) or entry == stem:
                    return f"{folder}{entry}"
    except OSError:  # a folder that can't be listed: no hint
        pass
    return None
