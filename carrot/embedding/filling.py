"""Embed a data set once, resumably: every finished shard is on the disk, a killed run goes on after its last one."""

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from carrot._display.brief import brief
from carrot._progress import progress
from carrot.data.inputs import content_sha256
from carrot.data.loading import Batch, batches, in_flight
from carrot.data.records import ImageDataset, Record, contents_of
from carrot.engine import HERE, current
from carrot.errors import BackboneError, DataError, StoreError, UnreadableImageError
from carrot.store.shards import EmbeddingStore

READERS = 4  # threads; hashing lets go of the interpreter
PATIENCE = 30.0  # seconds for a network's file system to show what another machine wrote
SHARED = "With an engine, the folder of tokens (`out`, or `tokens`) must be on a disk that every node sees."
AHEAD = 1024  # files
FEW = 8  # pictures: files of fewer may be missing one by one


def embed_dataset(
    dataset: ImageDataset,
    transform: Callable[[Image.Image], Tensor],
    embed: Callable[[Tensor], Mapping[str, Tensor]],
    row_shapes: Mapping[str, tuple[int, ...]],
    facts: Mapping[str, object],
    folder: Path,
    batch_size: int = 32,
    dtypes: Mapping[str, torch.dtype] | None = None,
    workers: int = 0,
    state: Mapping[str, str] | None = None,
    what: str = "",
) -> tuple[EmbeddingStore, dict[str, str]]:
    """Return a complete store of one row for each picture, computed or found in ``folder``.

    Args:
        dataset: The pictures.
        transform: Picture to model input (3, h, w).
        embed: Model inputs (B, 3, h, w) to rows (B, *shape) by name.
        row_shapes: Shape of a row of each of these names.
        facts: What the rows depend on, as JSON: another value later is refused, not mixed. ``pictures_state`` is added
            here: other contents under the same names are refused too, and so is another renderer.
        folder: Where the shards lie; made if absent.
        batch_size: Pictures of one pass and of one shard.
        dtypes: Of the rows, by name; default float32.
        workers: Processes that decode; 0: threads.
        state: ``pictures_state`` of the data set, where it is known.
        what: What is looked at of each picture, for the bar that tells how far it is, and how much the rows will take.

    Returns:
        The store, rows in the order of the records and NaN where a picture can't be read, with their ``sha256`` (32
        bytes); and what is wrong with each of these, by record id.

    Raises:
        StoreError: ``folder`` holds rows of other facts or pictures, or a damaged shard.
    """
    state = dict(state or pictures_state(dataset, transform))
    _refuse_changed(folder, facts, state, dataset.name)
    ids = [record.id for record in dataset.records]
    store = EmbeddingStore(folder, {**facts, "pictures": state}, ids, shard_size=batch_size)
    missing = store.missing()
    types = {name: (dtypes or {}).get(name, torch.float32) for name in row_shapes}
    engine = current()
    fill = Fill(dataset, transform, embed, dict(row_shapes), types, store, workers if engine is HERE else 0)
    most = sum(len(store.rows(shard)) for shard in missing)
    takes = len(ids) * sum(math.prod(shape) * types[name].itemsize for name, shape in row_shapes.items())
    label = f"embedding {', '.join(filter(None, (dataset.name, what)))} ({takes / 1e6:,.1f} MB)"
    errors: dict[str, str] = {}
    for shard, filled in progress(engine.map(fill, missing), label, len(missing), "pictures", batch_size, most):
        _require_here(store, shard, filled.node)
        errors.update(filled.errors)
    return store, errors


@dataclass(frozen=True)
class Filled:
    """A shard that was written: what is wrong with pictures of it that can't be read, and on which machine."""

    errors: dict[str, str]
    node: str


@dataclass(frozen=True, eq=False)
class Fill:
    """The job of an engine that fills a store: a shard's pictures to rows, written where the store lies.

    Attributes:
        dataset: The pictures.
        transform: Picture to model input.
        embed: Model inputs to rows by name; its ``arrive``, if any, compares what must be the same elsewhere; its
            ``at_a_time`` is how many shards are worked on at a time: what a kill loses at most.
        row_shapes: Of each of these names.
        types: Of each of these names.
        store: What is filled.
        workers: Processes that decode; 0: threads.
    """

    dataset: ImageDataset
    transform: Callable[[Image.Image], Tensor]
    embed: Callable[[Tensor], Mapping[str, Tensor]]
    row_shapes: dict[str, tuple[int, ...]]
    types: dict[str, torch.dtype]
    store: EmbeddingStore
    workers: int

    __repr__ = brief

    def arrive(self) -> None:
        """Refuse a machine that doesn't see the store, or has another one in its place.

        Raises:
            StoreError: It is such a machine.
        """
        folder = self.store.folder
        if not (folder / "manifest.json").is_file() or EmbeddingStore.existing(folder).key != self.store.key:
            raise StoreError(f"{folder}: is not the folder that the run was started with. {SHARED}")
        if hasattr(self.embed, "arrive"):
            self.embed.arrive()

    def __call__(self, shard: int) -> Filled:
        """Fill one shard."""
        return next(self.each([shard]))

    def each(self, shards: Sequence[int]) -> Iterator[Filled]:
        """Fill several in turn; pictures of the next one are decoded meanwhile.

        Raises:
            BackboneError: The backbone gives NaN or infinity; the message names the pictures.
            DataError: All files of a shard are gone.
            StoreError: The disk refuses.
        """
        store, records = self.store, self.dataset.records
        work = batches(self.dataset, self.transform, [list(store.rows(shard)) for shard in shards], self.workers)

        def fill(piece: tuple[int, Batch]) -> Filled:
            shard, batch = piece
            B = len(batch.readable)
            refuse_gone([records[row] for row in store.rows(shard)], bool(batch.readable.any()))
            rows = {n: torch.full((B, *shape), torch.nan, dtype=self.types[n]) for n, shape in self.row_shapes.items()}
            if bool(batch.readable.any()):
                try:
                    found = self.embed(batch.x[batch.readable])
                except BackboneError as error:
                    first, last = (records[row].id for row in (store.rows(shard)[0], store.rows(shard)[-1]))
                    raise BackboneError(f"{first} .. {last}: {error}") from error
                for name, values in found.items():
                    rows[name][batch.readable] = values.to(rows[name])
            try:
                store.write(shard, {**rows, "sha256": batch.sha256})
            except StoreError:  # a worker that was thought lost may have written it meanwhile: these very bytes
                if not store.path(shard).exists():
                    raise
            aside = [records[row].id for row, good in zip(store.rows(shard), batch.readable, strict=True) if not good]
            return Filled(dict(zip(aside, batch.errors, strict=True)), platform.node())

        at_a_time = self.embed.at_a_time if hasattr(self.embed, "at_a_time") else 1
        yield from in_flight(fill, zip(shards, work, strict=True), at_a_time)


def pictures_state(dataset: ImageDataset, transform: Callable[[Image.Image], Tensor]) -> dict[str, str]:
    """Return what tells a data set of these contents from any other.

    It is of names, of the bytes of all files, and of the first model input. Only contents count: copies, and files
    whose times were touched, are the same. Of pictures in shards the shards' contents count (``contents_of``); of
    others without files the first one stands for all, and the first model input stands for how pictures are decoded.
    """
    records, names = dataset.records, hashlib.sha256()
    each = _digested(records)
    for record, digest in progress(each, f"reading {dataset.name}", len(records), "files", brief=True):
        names.update(json.dumps([record.id, digest]).encode())
    if shards := contents_of(dataset):
        names.update(json.dumps(shards, sort_keys=True).encode())
    try:
        first = transform(dataset.image(0)).contiguous().numpy().tobytes()
    except (UnreadableImageError, ValueError) as error:
        first = str(error).encode()
    return {"contents": names.hexdigest(), "first_input": hashlib.sha256(first).hexdigest()}


def _require_here(store: EmbeddingStore, shard: int, node: str) -> None:
    """Refuse a shard that was written where this process doesn't see it."""
    path, until = store.path(shard), time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > until:
            raise StoreError(f"{path}: was written on node {node}, and is not there for this process. {SHARED}")
        time.sleep(0.1)
        os.listdir(store.folder)  # what a network's file system remembers of the folder is asked for anew


def _refuse_changed(folder: Path, facts: Mapping[str, object], state: Mapping[str, str], name: str) -> None:
    """Say in a user's words that a folder holds the same tokens of other contents; all else the store itself says."""
    try:
        stored = json.loads((folder / "manifest.json").read_bytes())["settings"]
        changed = {**stored, "pictures": None} == {**facts, "pictures": None} and stored["pictures"] != state
    except (OSError, ValueError, KeyError, TypeError):
        return
    if changed:
        raise StoreError(
            f"{folder}: holds tokens of {name} as it was; since then pictures were changed, or are decoded by another "
            "version. Delete that folder, and they are computed anew, or use another."
        )


def _digested(records: Sequence[Record]) -> Iterator[tuple[Record, str | None]]:
    """Yield each record with the SHA-256 of its file, some ahead and never all at once."""
    pool = ThreadPoolExecutor(READERS)
    try:
        for start in range(0, len(records), AHEAD):
            some = list(records[start : start + AHEAD])
            yield from zip(some, pool.map(_own_digest, some), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)  # who interrupts waits for no file but those that are being read


def refuse_gone(records: Sequence[Record], any_read: bool) -> None:
    """Refuse to set aside a whole shard's pictures because their files are gone: a disk is.

    Args:
        records: Those of the shard.
        any_read: Whether one of them could be read.

    Raises:
        DataError: They are; the same run goes on there once the disk is back.
    """
    if any_read or len(records) < FEW or any(r.path is None or os.path.exists(r.path) for r in records):
        return
    raise DataError(
        f"{records[0].path}: none of the {len(records)} pictures from here on is there now. See that their disk is "
        "mounted on this machine, and run the same again: it goes on from here."
    )


def file_digest(record: Record) -> str | None:
    """Return the SHA-256 of a record's file, or of its bytes in a shard; None: it can't be read, or has none."""
    try:
        return content_sha256(record) if record.has_bytes else None
    except (OSError, ValueError, UnreadableImageError):  # ValueError: a name that no file can have
        return None  # it is set aside when its turn comes


def _own_digest(record: Record) -> str | None:
    return None if record.path is None else file_digest(record)  # for pictures in a shard that of the shard counts
