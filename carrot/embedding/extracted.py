"""The embeddings that ``carrot extract`` left, in one folder or in several: checked, and each counted once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from carrot._display.brief import brief
from carrot._progress import progress
from carrot.errors import StoreError
from carrot.store.settings import differences, told
from carrot.store.shards import EmbeddingStore

FORMAT, FORMAT_VERSION = "carrot extract", 1
ROWS = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16}
SOME = 3  # that are named, of many
HELD = 2**30  # bytes of embeddings that are held in memory, where they may lie in a file

RowKind = Literal["float64", "float32", "float16"]


@dataclass(frozen=True, eq=False)
class Rows:
    """What a model is fitted on.

    Attributes:
        G: Embeddings of the pictures that could be read.
        records: Of each of them: id, label, path, window, and sha256 and row, its place among all pictures.
        errors: What is wrong with the others, by id.
    """

    G: Float[Tensor, "n M"]
    records: Sequence[Mapping[str, Any]]
    errors: Mapping[str, str]

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Extracts:
    """The shards of one ``carrot extract``, wherever its parts left them.

    Attributes:
        stores: One for each folder, all of one manifest.
        place: Which of them each shard is read from.
        twice: The folders of each shard that lies in several, with the same content.
    """

    stores: tuple[EmbeddingStore, ...]
    place: Mapping[int, EmbeddingStore]
    twice: Mapping[int, tuple[str, ...]]

    __repr__ = brief

    @classmethod
    def of(cls, folders: Sequence[Path | str]) -> "Extracts":
        """Return what lies in some folders, in whatever order they are named.

        Raises:
            StoreError: A folder holds no extract, they are not of one, or a shard lies in two of them with different
                content.
        """
        stores = tuple(map(_opened, dict.fromkeys(map(str, folders))))
        first = stores[0]
        for other in stores[1:]:
            if other.key != first.key:
                changes = told(differences(first.manifest, other.manifest, ""))
                raise StoreError(
                    f"{other.place}: is not of the same extract as {first.place}, which is there where it is here: "
                    f"{changes}. Merge what was extracted from the same pictures with the same settings."
                )
        place, twice = dict[int, EmbeddingStore](), dict[int, tuple[str, ...]]()
        for shard in range(first.n_shards):
            there = [store for store in stores if store.has(shard)]
            if not there:
                continue
            one = place[shard] = there[0]
            checksum = one.checksum(shard)
            for other in there[1:]:
                if other.checksum(shard) != checksum:
                    raise StoreError(
                        f"{one.where(shard)} and {other.where(shard)}: are the same shard with different content: "
                        "pictures were changed between the two, or unlike machines computed them. Delete the one that "
                        "is wrong."
                    )
            if len(there) > 1:
                twice[shard] = tuple(str(store.place) for store in there)
        return cls(stores, place, twice)

    @property
    def facts(self) -> dict[str, Any]:
        """What all rows depend on: the manifest's settings."""
        found: dict[str, Any] = self.stores[0].manifest["settings"]
        return found

    @property
    def missing(self) -> list[int]:
        """The shards that lie nowhere, in order."""
        return [shard for shard in range(self.stores[0].n_shards) if shard not in self.place]

    def rows(self, scratch: Path | None = None) -> Rows:
        """Return all of it; every shard is read and verified once, and goes where it stays.

        Args:
            scratch: Where a file may be made, for embeddings of over ``HELD`` bytes: they are then mapped into memory,
                and the file goes with them; None: they are held in memory.

        Raises:
            StoreError: A shard is missing, damaged, or of another extract; or the disk is full.
        """
        self._require_all()
        first, facts = self.stores[0], self.facts
        kept = torch.float64 if facts["rows"] == "float64" else torch.float32  # which holds each number of half
        is_large = first.n_rows * facts["width"] * kept.itemsize > HELD
        made = _Growing(first.n_rows, facts["width"], kept, scratch if is_large else None)
        records, errors = list[Mapping[str, Any]](), dict[str, str]()
        for shard, store in progress(self.place.items(), "reading", first.n_shards, "shards"):
            tensors, notes = store.noted(shard)
            aside = notes["unreadable"]
            good = [i for i, noted in enumerate(notes["records"]) if noted["id"] not in aside]
            made.add(tensors["g"][good].to(kept))
            errors |= aside
            start = store.rows(shard).start
            records += [
                {**notes["records"][i], "sha256": bytes(tensors["sha256"][i].tolist()).hex(), "row": start + i}
                for i in good
            ]
        return Rows(made.rows(), records, errors)

    def _require_all(self) -> None:
        missing, n = self.missing, self.stores[0].n_shards
        if missing:
            some = ", ".join(map(str, missing[:SOME])) + ", ..." * (len(missing) > SOME)
            parts = parts_of(missing, n)
            raise StoreError(
                f"{len(missing)} of {n} shards are missing ({some}). They are computed by the same carrot extract with "
                f"{' and '.join(f'--shard {i}/{k}' for i, k in parts[:SOME])}{' and so on' * (len(parts) > SOME)}."
            )


class _Growing:
    """Rows that come block by block, and are put where they stay: into memory, or into a file that nobody else sees."""

    def __init__(self, most: int, width: int, dtype: torch.dtype, scratch: Path | None) -> None:
        self._scratch, self._n, self._width, self._dtype = scratch, 0, width, dtype
        # without a name: a kill leaves nothing; closed by ``rows``, or when nobody holds it any more
        self._file = None if scratch is None else TemporaryFile(dir=scratch)  # noqa: SIM115
        self._held = torch.empty(most if scratch is None else 0, width, dtype=dtype)

    def add(self, block: Float[Tensor, "b M"]) -> None:
        if self._file is None:
            self._held[self._n : self._n + len(block)] = block
        else:
            try:
                self._file.write(block.contiguous().numpy().data)
                self._file.flush()
            except OSError as error:
                raise StoreError(
                    f"{self._scratch}: embeddings can't be written: {error.strerror}. Free the disk, or choose another "
                    "place for the model."
                ) from error
        self._n += len(block)

    def rows(self) -> Float[Tensor, "n M"]:
        if self._file is None or not self._n:
            return self._held[: self._n]
        with self._file:  # a mapping outlives the file's name and its descriptor
            kind = str(self._dtype).removeprefix("torch.")
            return torch.from_numpy(np.memmap(self._file, kind, "c", shape=(self._n, self._width)))


def parts_of(missing: Sequence[int], n_shards: int) -> list[tuple[int, int]]:
    """Return the parts (i, n), i from 1, that hold some shards and no others, of the fewest that there are."""
    gone = set(missing)
    for n in range(1, n_shards + 1):
        classes = {shard % n for shard in gone}
        if len(gone) == sum(len(range(c, n_shards, n)) for c in classes):
            return [(c + 1, n) for c in sorted(classes)]
    return []


def _opened(folder: str) -> EmbeddingStore:
    store = EmbeddingStore.existing(folder)
    settings = store.manifest.get("settings")
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise StoreError(
            f"{store.place}: holds embeddings, but not those of carrot extract. Give a folder that it wrote."
        )
    if settings.get("format_version", 0) > FORMAT_VERSION:
        raise StoreError(
            f"{store.place}: an extract of format version {settings['format_version']}; this CARROT reads "
            f"{FORMAT_VERSION}. Upgrade it."
        )
    return store
