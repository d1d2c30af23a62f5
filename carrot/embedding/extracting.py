"""The embeddings of a data set by one setting, in shards that any machine may compute: where tokens are too many.

::

    FOLDER/manifest.json                    encoder, setting, classes, hash of the list of pictures: all that rows
                                            depend on
    FOLDER/embeddings-00003.safetensors     g of its pictures; noted in it: their records, with the SHA-256 of each,
                                            what was wrong with those that can't be read, the state of their files

A shard is a list of pictures that never changes, computed in passes that don't either (``carrot.embedding.passes``): so
its bytes don't depend on who computes it, nor on how many do, and its rows are those that a fit computes of tokens, bit
for bit. It says all of its pictures that a model keeps: no data set is needed to make one of the shards.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from carrot._ambient import pinned_class
from carrot._display.brief import brief
from carrot._images import decode_image
from carrot._progress import progress
from carrot.data.inputs import content_sha256
from carrot.data.records import Record, Subset, split_is_own
from carrot.embedding.encoder import Encoder
from carrot.embedding.extracted import FORMAT, FORMAT_VERSION, ROWS, RowKind
from carrot.embedding.filling import READERS, file_digest, refuse_gone
from carrot.embedding.passes import block, embedded
from carrot.embedding.pooling import Pooling
from carrot.embedding.sent import SentView
from carrot.embedding.setting import Setting
from carrot.embedding.view import View
from carrot.engine import Engine
from carrot.errors import StoreError, UnreadableImageError
from carrot.store.labels import checksum_of
from carrot.store.places import refuse_other_place
from carrot.store.shards import EmbeddingStore

PICTURES, INPUTS, BYTES = 1024, 8192, 64 * 2**20  # of a shard, where nobody asked: whichever is less ..
PARTS = 64  # .. and so few pictures that there is a shard for each of so many machines


@dataclass(frozen=True)
class Done:
    """What became of a shard.

    Attributes:
        pictures: How many it holds.
        how: "made" now; "found", whole and of the same files; "again": files were changed since it was made.
        errors: What is wrong with those that can't be read, by record id.
    """

    pictures: int
    how: Literal["made", "found", "again"]
    errors: Mapping[str, str]


@pinned_class
@dataclass(eq=False)
class ExtractShard:
    """The job: a shard's number -> the shard is on the disk. The weights go with it to another process.

    Attributes:
        train: The training pictures.
        sent: What makes tokens of them.
        setting: What makes embeddings of these.
        folder: Where the shards lie.
        rows: What embeddings are rounded to.
        key: ``EmbeddingStore.key`` of the store.
    """

    train: Subset
    sent: SentView
    setting: Setting
    folder: str
    rows: RowKind
    key: str
    _store: EmbeddingStore | None = field(default=None, repr=False)

    __repr__ = brief

    @classmethod
    def of(
        cls,
        train: Subset,
        encoder: Encoder,
        setting: Setting,
        folder: Path | str,
        rows: RowKind = "float64",
        shard_size: int | None = None,
        data: str | None = None,
    ) -> "ExtractShard":
        """Return the job of a data set; its store is started in ``folder``, or found there.

        Args:
            train: The training pictures.
            encoder: The backbone.
            setting: What embeddings are made with.
            folder: Where.
            rows: What embeddings are rounded to: half the bytes, or a quarter, for the rounding of the rows.
            shard_size: Pictures of a shard, a multiple of the pictures of a pass; default: what makes 64 shards, a
                thousand at most, fewer where rows are wide or tiles many.
            data: The folder or spec that the pictures came from.

        Raises:
            StoreError: The folder holds embeddings of other pictures or settings.
            ValueError: ``shard_size`` is no such multiple, or an unknown ``rows``.
        """
        if rows not in ROWS:
            raise ValueError(f"`rows` must be one of {', '.join(ROWS)}; got {rows!r}.")
        refuse_other_place(folder)
        encoder = encoder.of(setting)
        view, width = encoder.view, Pooling(setting).lift.dim(encoder.backbone.embed_dim)
        size = _shard_size(view, len(train.records), 8 * width, shard_size)
        facts = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "encoder": encoder.to_json(),
            "decoding": _decoding(view),
            "embedding": setting.to_dict(),
            "rows": rows,
            "width": width,
            "data": data,
            "name": train.name,
            "classes": list(train.classes),
            "label_kind": train.label_kind,
            "split_is_own": split_is_own(train.dataset),
            "skipped": dict(getattr(train.dataset, "skipped", {})),
            "records": _list_sha256(train),
            **({"compiled": True} if view.backbone.compiled else {}),
        }
        store = EmbeddingStore(folder, facts, [record.id for record in train.records], size)
        return cls(train, SentView.of(view), setting, str(folder), rows, store.key, store)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_store": None}

    def arrive(self) -> None:
        """Refuse a machine that doesn't see the store, or has another one in its place; see ``SentView.arrive``.

        Raises:
            StoreError, ModelError: As ``store``, and where weights aren't those that were sent.
        """
        self.sent.arrive()
        _ = self.store

    @property
    def store(self) -> EmbeddingStore:
        """Where the shards lie.

        Raises:
            StoreError: It isn't there, or another one is: this machine doesn't see the folder of the others.
        """
        if self._store is None:
            store = EmbeddingStore.existing(self.folder)
            if store.key != self.key:
                raise StoreError(
                    f"{store.place}: another store lies there on this machine. Give a folder that all machines share."
                )
            self._store = store
        return self._store

    def __call__(self, shard: int) -> Done:
        """Compute a shard, if it isn't there, or its pictures' files are others now.

        Raises:
            StoreError: A shard that is there is damaged, or the disk refuses.
            BackboneError: The backbone gave what isn't finite, or what ``rows`` can't hold.
            DataError: All files of the shard are gone.
        """
        store, rows = self.store, self.store.rows(shard)
        was_there = store.has(shard)
        if was_there:
            _, notes = store.noted(shard)
            if notes["contents"] == self._contents(rows, {}):
                return Done(len(rows), "found", notes["unreadable"])
        found = embedded(self.train, self.sent.view, Pooling(self.setting), rows, ROWS[self.rows])
        refuse_gone([self.train.records[row] for row in rows], len(found.errors) < len(rows))
        known = {row: bytes(x.tolist()).hex() for row, x in zip(rows, found.sha256, strict=True) if bool(x.any())}
        notes = {
            "records": [_noted(self.train.records[row], known.get(row)) for row in rows],
            "unreadable": dict(found.errors),
            "contents": self._contents(rows, known),
        }
        try:
            store.write(shard, {"g": found.g}, notes)
        except StoreError:  # a worker that was thought lost may have written it meanwhile: these very bytes
            if not (store.has(shard) and store.label(shard)["sha256"] == checksum_of({"g": found.g}, notes)):
                raise
        return Done(len(rows), "again" if was_there else "made", found.errors)

    def _contents(self, rows: range, known: Mapping[int, str]) -> str:
        """Return the state of the pictures' files; of pictures without files the first one stands for all.

        Args:
            rows: The pictures.
            known: The SHA-256 of those that were read just now.
        """
        records = self.train.records
        digest = hashlib.sha256()
        with ThreadPoolExecutor(READERS) as pool:
            files = pool.map(lambda row: known.get(row) if records[row].has_bytes else None, rows)
            read = pool.map(lambda row: None if row in known else file_digest(records[row]), rows)
            for row, own, found in zip(rows, files, read, strict=True):
                digest.update(json.dumps([records[row].id, own or found]).encode())
        if not records[rows[0]].has_bytes:
            digest.update((known.get(rows[0]) or self._pixels(rows[0])).encode())
        return digest.hexdigest()

    def _pixels(self, row: int) -> str:
        try:
            return content_sha256(self.train.records[row], self.train.image(row))
        except UnreadableImageError:
            return ""


@dataclass(frozen=True)
class Extracted:
    """What a run did.

    Attributes:
        shards: How many there are in all.
        own: Those that this run was to see to.
        done: What became of each.
        missing: Those that are not in the folder now: other parts compute them.
    """

    shards: int
    own: tuple[int, ...]
    done: Mapping[int, Done]
    missing: tuple[int, ...]

    def of(self, how: str) -> list[int]:
        """Return the shards that were "made", "found" or made "again", in order."""
        return sorted(shard for shard, done in self.done.items() if done.how == how)

    @property
    def errors(self) -> dict[str, str]:
        """What is wrong with the pictures that can't be read, by record id, in order."""
        return {name: what for shard in sorted(self.done) for name, what in self.done[shard].errors.items()}

    @property
    def pictures(self) -> int:
        """How many pictures these shards hold."""
        return sum(done.pictures for done in self.done.values())


def extract(job: ExtractShard, engine: Engine, part: tuple[int, int] = (1, 1)) -> Extracted:
    """Compute the shards of one part, or find them.

    Args:
        job: Of the data set.
        engine: Where.
        part: (i, n), i from 1: shards i - 1, i - 1 + n, ..; what is in a shard doesn't depend on n.

    Raises:
        StoreError, BackboneError, EngineError: As the job and the engine.
    """
    store, (i, n) = job.store, part
    own = range(i - 1, store.n_shards, n)
    label = f"extracting {job.train.name}" + (f", part {i} of {n}" if n > 1 else "")
    most = sum(len(store.rows(shard)) for shard in own)
    done = dict[int, Done]()
    for shard, result in progress(engine.map(job, own), label, len(own), "pictures", store.shard_size, most):
        done[shard] = result
        if result.how == "again":
            warnings.warn(
                f"{store.where(shard)}: its pictures were changed since it was made; it was computed again.",
                stacklevel=2,
            )
    missing = tuple(shard for shard in range(store.n_shards) if not store.has(shard))
    return Extracted(store.n_shards, tuple(own), done, missing)


def _shard_size(view: View, n: int, row_bytes: int, asked: int | None) -> int:
    whole = block(view)
    if asked is None:
        inputs = math.prod(view.inputs)
        return whole * max(1, min(n // PARTS, PICTURES, INPUTS // inputs, BYTES // row_bytes) // whole)
    if asked < 1 or asked % whole:
        near = max(whole, asked // whole * whole)
        raise ValueError(
            f"`shard_size` must be a multiple of {whole}, the pictures of a pass with these regions; got {asked}. Take "
            f"{near} or {near + whole}."
        )
    return asked


def _noted(record: Record, sha256: str | None) -> dict[str, Any]:
    """Return what a model keeps of a picture; ``sha256`` is None where it can't be read."""
    path = None if record.path is None else str(record.path.resolve())
    window = {} if record.window is None else {"window": list(record.window)}
    return {"id": record.id, "label": record.label, "sha256": sha256, "path": path, **window}


def _list_sha256(train: Subset) -> str:
    digest = hashlib.sha256()
    for record in train.records:
        digest.update(json.dumps([record.id, record.label, record.window]).encode())
    return digest.hexdigest()


def _decoding(view: View) -> str:
    """Return what tells machines apart that decode or resize pictures in other ways: one picture, as a model input."""
    side = torch.arange(96, dtype=torch.uint8)
    pixels = torch.stack([side[:, None] + side, 2 * side[:, None] ^ side, side[:, None] * side], dim=-1)
    data = BytesIO()
    Image.fromarray(pixels.numpy()).save(data, "JPEG")
    x = view.probe(decode_image(data.getvalue(), "the probe"))
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()
