"""Parquet shards with a column of pictures and one of labels, as the hub of Hugging Face has them.

::

    train-00000-of-00005.parquet:  image (struct of bytes and path; or bytes)   label (number, or text)

The column of pictures is the first that holds bytes (``image``, ``img``, ``jpg``, ... come first), and that of labels
the one called ``label``, ``class`` or by another usual name; others are written behind the pattern:
``#image=photo&label=fine_label``. Numbers get the names of the ``ClassLabel`` that the schema's metadata declares. A
split is a column ``split``, or goes by the names of the files (``train-...``, ``data/test-...``), as in
``carrot.data.webdataset``.

When the data set is opened the labels are read and no picture; pictures then a few rows at a time, in the order of the
rows: memory doesn't depend on how large row groups or files are. One picture alone costs the rows of its group before
it.
"""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from carrot._display.extras import how_to_install
from carrot._progress import progress
from carrot.data import splits
from carrot.data.addresses import MOST, file_system, is_address, public, why
from carrot.data.columns import Numbers
from carrot.data.csv_table import COLUMNS, columns_of
from carrot.data.patterns import Shards, shards_of, side_of
from carrot.data.sharded import Sharded, Table
from carrot.errors import DataError, UnreadableImageError

_PICTURES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "pixel_values")
_ROWS = 32  # pictures that are read at once
_KEPT = 4  # of these pieces, for threads that are behind
_LABELS = 65536  # labels that are read at once
_BUFFER = 1 << 20  # bytes; so that a row group isn't read whole


class ParquetShards(Sharded):
    """Pictures in the rows of Parquet files; the package ``pyarrow`` reads them, an extra (``big``).

    Args:
        shards: A folder of ``.parquet`` files, one of them, a pattern such as ``train-*.parquet``, or an address of one
            of these.
        image: The column of pictures; None: it is found out.
        label: The column of labels; None: it is found out.
        for_testing: The pictures are only to be tested on: one class is enough, and no shard need be for training.

    Attributes:
        name: The name of the folder of the shards.
        classes: The names that the schema declares, or the labels of training pictures, sorted naturally.
        records: Training pictures, then test pictures, row by row; ``id`` is FILE/ROW.
        skipped: What was set aside, the reason by ``id``, or by the name of a whole file.

    Raises:
        DataError: ``pyarrow`` is absent, there are no files, none can be read, a column isn't there, or fewer than two
            classes.
    """

    def __init__(
        self, shards: str | Path, image: str | None = None, label: str | None = None, for_testing: bool = False
    ) -> None:
        spec = f"parquet:{shards}"
        _arrow(spec)
        found = parquet_files(str(shards))
        aside = dict.fromkeys(found.missing, "there is no such shard")
        columns: _Columns | None = None
        known, sides = dict[str, int](), dict[str, int]()
        parts: list[tuple[int, Any, Any]] = []
        for number, place in enumerate(progress(found.places, f"listing {public(spec)}", len(found.places), "shards")):
            name = found.names[number]
            try:
                file = _opened(place)
                own = _Columns(public(spec), file.schema_arrow, image, label)
                if columns is not None and (own.image, own.label) != (columns.image, columns.label):
                    aside[name] = f"its columns are others: {own.image} and {own.label}"
                    continue
                columns = columns or own
                codes, split = _coded(file, own, known, sides)
            except (DataError, OSError, ValueError) as error:
                if isinstance(error, DataError) and number == 0 and (image or label or len(found.places) == 1):
                    raise
                aside[name] = f"it can't be read: {why(error)}"
                continue
            parts.append((number, codes, _by_name(name, len(codes), sides) if split is None else split))
            if not len(codes):
                aside[name] = "it holds no rows"
        if columns is None:
            first = next(iter(aside.items()))
            raise DataError(f"{public(spec)}: none of {len(found.places)} files can be read; {first[0]}: {first[1]}.")
        unknown = [name for name in sides if splits.kind_of(name) is None]
        if unknown:
            raise DataError(
                f"{public(spec)}: the split must be train, test or val; got {unknown[0]!r}. Known are {splits.known()}."
            )
        shard = np.concatenate([np.full(len(codes), number, np.int32) for number, codes, _ in parts])
        rows = np.concatenate([np.arange(len(codes), dtype=np.int32) for _, codes, _ in parts])
        label_of = np.concatenate([codes for _, codes, _ in parts])
        side = np.concatenate([split for _, _, split in parts])
        table = Table(shard, Numbers(rows), label_of, list(known), side, list(sides), columns.names, aside)
        place = public(found.places[0]).rpartition("/")[0]
        folder = place if is_address(place) else str(Path(place).resolve())
        super().__init__(spec, folder.rpartition("/")[2] or "shards", found.places, found.names, table, for_testing)
        self._rows, self._image = rows[self._row], columns.image
        self._cursor = _Cursor(self._image)

    def content(self, index: int) -> bytes:
        """Return the bytes of picture ``index``, as its file would have them.

        Raises:
            UnreadableImageError: They can't be read, or there are none.
        """
        name = self._called(index)
        try:
            found = self._cursor.read(self._places[self._shard[index]], int(self._rows[index]))
        except (OSError, ValueError, DataError, IndexError) as error:
            raise UnreadableImageError(f"{name}: can't be read: {why(error)}.", name) from error
        value = found.get("bytes") if isinstance(found, dict) else found
        if isinstance(value, bytes) and len(value) > MOST:
            raise UnreadableImageError(f"{name}: is not read: {len(value):,} bytes, and the limit is {MOST:,}.", name)
        if isinstance(value, bytes) and value:
            return value
        path = found.get("path") if isinstance(found, dict) else None
        advice = f"its bytes are elsewhere, in {path!r}: put them into the shard" if path else "there is none"
        raise UnreadableImageError(f"{name}: can't be read as a picture: {advice}.", name)


def looks_like_parquet(path: Path) -> bool:
    """Return whether a path is a Parquet file, or a folder of them, or of ``data`` with them."""
    if not path.is_dir():
        return path.suffix.lower() == ".parquet" and path.is_file()
    return any(any(folder.glob("*.parquet")) for folder in (path, path / "data"))


def parquet_files(shards: str) -> Shards:
    """Return the shards that a pattern names.

    Raises:
        DataError: None is there.
    """
    return shards_of(shards, ".parquet")


class _Columns:
    """Which columns of a schema are what, and what the classes are called."""

    def __init__(self, spec: str, schema: Any, image: str | None, label: str | None) -> None:
        has = {name: str(schema.field(name).type) for name in schema.names}
        holds = [name for name, kind in has.items() if kind in ("binary", "large_binary") or "bytes: " in kind]
        holds.sort(key=lambda name: _PICTURES.index(name.lower()) if name.lower() in _PICTURES else len(_PICTURES))
        for wanted, there in ((image, holds), (label, list(has))):
            if wanted and wanted not in there:
                raise DataError(f"{spec}: has no such column {wanted!r}; got {has}. Give one of {', '.join(there)}.")
        found = columns_of(list(has))
        labels = [list(has)[place] for place in found["label"]]
        declared = self._declared(schema.metadata or {})
        if not labels and len(declared) == 1:
            labels = list(declared)
        if not (image or holds) or not (label or len(labels) == 1):
            missing = "one column of labels" if image or holds else "column of pictures"
            raise DataError(f"{spec}: has no {missing}; got {has}. Name both: #image=COLUMN&label=COLUMN.")
        self.image, self.label = image or holds[0], label or labels[0]
        split = [list(has)[place] for place in found["split"]]
        self.split = split[0] if len(split) == 1 and split[0].casefold() in COLUMNS["split"][0] else None
        self.names = declared.get(self.label)

    @staticmethod
    def _declared(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
        try:
            features = json.loads(metadata[b"huggingface"])["info"]["features"]
            return {name: list(kind["names"]) for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
        except (KeyError, ValueError, TypeError, AttributeError):
            return {}


def _arrow(spec: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{public(spec)}: needs pyarrow, not installed: {how_to_install('big')}.") from error
    return pyarrow.parquet


def _opened(place: str) -> Any:
    source: Any = place
    if is_address(place):
        fs, path = file_system(place)
        source = fs.open(path, "rb")
    return _arrow(place).ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER)


def _coded(file: Any, columns: _Columns, known: dict[str, int], sides: dict[str, int]) -> tuple[Any, Any]:
    """Return the places of the labels, and of the splits if there is such a column, in ``known`` and ``sides``."""
    wanted = [columns.label, *([columns.split] if columns.split else [])]
    labels, splits_of = [np.zeros(0, np.int32)], [np.zeros(0, np.int8)]
    for batch in file.iter_batches(batch_size=_LABELS, columns=wanted):
        labels.append(_places(batch.column(columns.label), known, columns.names is not None).astype(np.int32))
        if columns.split:
            splits_of.append(_places(batch.column(columns.split), sides, False).astype(np.int8))
    return np.concatenate(labels), np.concatenate(splits_of) if columns.split else None


def _places(column: Any, known: dict[str, int], is_number: bool) -> Any:
    """Return where each value is in ``known``, which gets those that are new; -1: there is none."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_nested(kind) or pyarrow.types.is_binary(kind):
        raise DataError(f"a label must be a name or a number; got {kind}")
    coded = column if pyarrow.types.is_dictionary(kind) else column.dictionary_encode()
    of = [-1]
    for value in coded.dictionary.to_pylist():
        text = _text(value, is_number)
        of.append(-1 if text is None else known.setdefault(text, len(known)))
    indices = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.array(of, np.int64)[indices + 1]


def _text(value: Any, is_number: bool) -> str | None:
    """Return a label as text; None: it is missing, as -1 is where numbers have names."""
    if value is None or value != value or (is_number and value == -1):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return text or None


def _by_name(name: str, n: int, sides: dict[str, int]) -> Any:
    side = side_of(name)
    return np.full(n, -1 if side is None else sides.setdefault(side, len(sides)), np.int8)


class _Cursor:
    """Reads the pictures of files, a few rows at a time, and goes on from where it is.

    Args:
        column: The column of pictures.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self.__setstate__({"column": column})

    def __getstate__(self) -> dict[str, str]:
        return {"column": self._column}

    def __setstate__(self, state: dict[str, str]) -> None:
        self._column = state["column"]
        self._lock = threading.Lock()
        self._place, self._starts = "", np.zeros(1, np.int64)
        self._file: Any = None
        self._pieces: Iterator[Any] = iter(())
        self._at = (-1, 0)  # the row group, and the row where the next piece begins
        self._kept: list[tuple[str, int, Any]] = []

    def read(self, place: str, row: int) -> Any:
        """Return the value in a row of a file."""
        with self._lock:
            for held, start, piece in self._kept:
                if held == place and start <= row < start + len(piece):
                    return piece[row - start].as_py()
            if place != self._place:
                self._file, self._place, self._at = _opened(place), place, (-1, 0)
                meta = self._file.metadata
                counts = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
                self._starts = np.cumsum([0, *counts])
            group = int(np.searchsorted(self._starts, row, side="right")) - 1
            if group != self._at[0] or row < self._at[1]:
                self._pieces = self._file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[self._column])
                self._at = (group, int(self._starts[group]))
            for batch in self._pieces:
                piece, start = batch.column(0), self._at[1]
                self._at = (group, start + len(piece))
                if row < self._at[1]:
                    self._kept = [*self._kept[1 - _KEPT :], (place, start, piece)]
                    return piece[row - start].as_py()
        raise IndexError(f"the file ends before row {row}")
