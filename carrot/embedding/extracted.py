"""The embeddings that ``carrot extract`` left, in one folder or in several: checked, and each counted once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._display.brief import brief
from carrot._display.words import are
from carrot._progress import progress
from carrot.errors import StoreError
from carrot.store.places import MANIFEST, place_of
from carrot.store.settings import differences, told
from carrot.store.shards import REMEDY, EmbeddingStore

FORMAT, FORMAT_VERSION = "carrot extract", 1
ROWS = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16}
SOME = 3  # that are named, of many

RowKind = Literal["float64", "float32", "float16"]


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
            ValueError: There is no folder.
        """
        if not folders:
            raise ValueError("`folders` must be at least one folder of carrot extract; got none.")
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
            checksum = one.label(shard)["sha256"]
            for other in there[1:]:
                if other.label(shard)["sha256"] != checksum:
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

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows in memory: half is widened to float32, which holds each of its numbers."""
        return torch.float64 if self.facts["rows"] == "float64" else torch.float32

    def records(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Return what a model keeps of each picture that could be read, in order, and what is wrong with the others.

        Headers alone are read. A record is as ``TrainingRecord`` has it: id, label, sha256, path, window, and row, the
        picture's place among all; the others are by id.

        Raises:
            StoreError: A shard is missing, of another extract, or its header is damaged.
        """
        self._require_all()
        records, errors = list[dict[str, Any]](), dict[str, str]()
        for shard, store in self.place.items():
            label = store.label(shard)
            try:  # nothing of it is verified before its rows are read
                aside, own = label["notes"]["unreadable"], label["notes"]["records"]
                errors |= aside
                for row, noted in zip(store.rows(shard), own, strict=True):
                    if noted["id"] not in aside:
                        records.append({**noted, "row": row})
            except (KeyError, TypeError, ValueError) as error:
                raise StoreError(
                    f"{store.where(shard)}: is damaged: its header doesn't say which pictures it holds. {REMEDY}"
                ) from error
        return records, errors

    def blocks(self) -> Iterator[Float[Tensor, "b M"]]:
        """Yield the embeddings of the same pictures, a shard at a time, every byte verified.

        Raises:
            StoreError: A shard is missing, damaged, or of another extract.
        """
        self._require_all()
        for shard, store in progress(self.place.items(), "reading", len(self.place), "shards"):
            tensors, notes = store.noted(shard)
            aside = notes["unreadable"]
            good = [i for i, noted in enumerate(notes["records"]) if noted["id"] not in aside]
            yield tensors["g"][good].to(self.dtype)

    def _require_all(self) -> None:
        missing, n = self.missing, self.stores[0].n_shards
        if missing:
            some = ", ".join(map(str, missing[:SOME])) + ", ..." * (len(missing) > SOME)
            parts = parts_of(missing, n)
            raise StoreError(
                f"{len(missing)} of {n} shards {are(len(missing))} missing ({some}): computed by the same carrot "
                f"extract with {' and '.join(f'--shard {i}/{k}' for i, k in parts[:SOME])}"
                f"{' and so on' * (len(parts) > SOME)}."
            )


def parts_of(missing: Sequence[int], n_shards: int) -> list[tuple[int, int]]:
    """Return the parts (i, n), i from 1, that hold some shards and no others, of the fewest that there are."""
    gone = set(missing)
    for n in range(1, n_shards + 1):
        classes = {shard % n for shard in gone}
        if len(gone) == sum(len(range(c, n_shards, n)) for c in classes):
            return [(c + 1, n) for c in sorted(classes)]
    return []


def _opened(folder: str) -> EmbeddingStore:
    if not place_of(folder).has(MANIFEST):
        raise StoreError(f"{folder}: holds nothing that carrot extract wrote. Give a folder that it did.")
    store = EmbeddingStore.existing(folder)
    settings = store.manifest.get("settings")
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise StoreError(
            f"{store.place}: holds embeddings, but not those of carrot extract. Give a folder that it wrote."
        )
    version = settings.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise StoreError(
            f"{store.place}: an extract of format version {version!r}; this CARROT reads {FORMAT_VERSION}. Upgrade it."
        )
    return store
