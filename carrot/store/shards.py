"""Embeddings in shards that are either whole or absent, so that a killed run goes on where it stopped.

::

    FOLDER/manifest.json                     settings, shard size, number and sha256 of the ids; written once
    FOLDER/embeddings-00003.safetensors      rows 3 * shard_size .. of every tensor

How it holds, whenever the process is killed:

1. Every file is written under a temporary name beside its final one, flushed to the disk, and renamed; then the folder
   is flushed too. A rename is atomic: a file with a final name is whole, and what is lost is the shard being written.
   At an address (``carrot.store.places``) it is sent as one object.
2. A shard carries, in its own header, the sha256 of its names, dtypes, shapes, values and notes, its number, and the
   sha256 of the manifest. One file, one rename: checksum and values can't fall apart, and a shard of another store, of
   other settings or in another place is refused. (This detects damage and mistakes. Who forges values and checksum
   alike isn't detected.)
3. The manifest never changes. Other settings, ids or shard size are refused, with what differs; nothing is mixed.

Several processes may fill different shards of one store at the same time.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from carrot.errors import StoreError
from carrot.store.labels import KEY, checksum_of, header_length, label_in
from carrot.store.places import MANIFEST, Place, place_of
from carrot.store.settings import JSON, canonical, check_json, differences, told

FORMAT_VERSION = 1
REMEDY = "Delete this file, and run the same fit or embedding again: it is computed anew."


class EmbeddingStore:
    """Tensors with one row per id, in shards on disk.

    Opening a folder that holds no store starts one; opening an existing store checks that it is the same one.

    Args:
        folder: Where the store lies, a folder or an address; made if absent.
        settings: Everything that the values depend on, as plain JSON: strings, finite numbers, bools, None, lists, and
            dicts with string keys.
        ids: One name per row, all different: row i of every tensor belongs to ``ids[i]``.
        shard_size: Rows per shard (the last may have fewer): what a killed run loses at most.

    Attributes:
        place: Where it lies.
        manifest: What the store says of itself, as JSON; ``settings`` in it.
        n_rows, n_shards: How many there are.

    Raises:
        StoreError: The folder holds a store of other settings, ids or shard size, of a newer format, or a damaged
            manifest.
        TypeError: A setting is not plain JSON, or an id not a string.
        ValueError: A setting is NaN or infinite, an id occurs twice, there is no id, ``shard_size`` is less than 1.

    Example:
        >>> store = EmbeddingStore("runs/cub", {"model": "vit", "t": 1.0}, ids)        # doctest: +SKIP
        >>> for shard in store.missing():                                              # doctest: +SKIP
        ...     store.write(shard, {"g": embed(ids[i] for i in store.rows(shard))})
        >>> G = store.read()["g"]                                                      # doctest: +SKIP
    """

    def __init__(
        self, folder: Path | str, settings: Mapping[str, object], ids: Sequence[str], shard_size: int = 256
    ) -> None:
        _check_ids(ids)
        if shard_size < 1:
            raise ValueError(f"shard_size must be at least 1 row; got {shard_size}")
        self.folder, self.place = Path(folder), place_of(folder)
        self.n_rows = len(ids)
        self.shard_size = shard_size
        self.n_shards = -(-len(ids) // shard_size)
        wanted: dict[str, JSON] = {
            "format": "carrot embeddings",
            "format_version": FORMAT_VERSION,
            "ids": {"number": len(ids), "sha256": hashlib.sha256(canonical(list(ids))).hexdigest()},
            "settings": check_json(dict(settings), "settings"),
            "shard_size": shard_size,
        }
        self._verified: dict[int, tuple[int, ...]] = {}
        self.manifest = self._agree(wanted)
        self._manifest_sha256 = hashlib.sha256(canonical(self.manifest)).hexdigest()

    @classmethod
    def existing(cls, folder: Path | str) -> "EmbeddingStore":
        """Open the store that lies in ``folder``, whatever its settings.

        Raises:
            StoreError: There is none, its manifest is damaged, or of a newer format.
        """
        store = cls.__new__(cls)
        store.folder, store.place = Path(folder), place_of(folder)
        path = f"{store.place}/{MANIFEST}"
        manifest = store.manifest = _read_manifest(store.place)
        try:
            store.n_rows, store.shard_size = int(manifest["ids"]["number"]), int(manifest["shard_size"])
            if store.n_rows < 1 or store.shard_size < 1:
                raise ValueError(f"{store.n_rows} rows in shards of {store.shard_size}")
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path}: is damaged, or not that of embeddings ({error}).") from error
        store.n_shards = -(-store.n_rows // store.shard_size)
        store._verified = {}
        store._manifest_sha256 = hashlib.sha256(canonical(manifest)).hexdigest()
        return store

    @property
    def key(self) -> str:
        """SHA-256 of the manifest: of settings, ids and shard size."""
        return self._manifest_sha256

    def erase(self, rows: Iterable[int]) -> list[int]:
        """Delete the shards that hold ``rows``, other rows of theirs included; return which there were.

        They can be computed again. What a killed run left behind of them is deleted too.

        Raises:
            StoreError: The disk refuses.
        """
        shards = sorted({row // self.shard_size for row in rows if 0 <= row < self.n_rows})
        try:
            return [shard for shard in shards if self.place.delete(self.name(shard))]
        except OSError as error:
            raise StoreError(f"{self.place}: a shard can't be deleted: {error.strerror}.") from error

    def rows(self, shard: int) -> range:
        """Return the rows (positions in the ids) of one shard.

        Raises:
            IndexError: There is no such shard.
        """
        if not 0 <= shard < self.n_shards:
            raise IndexError(f"shard must be from 0 to {self.n_shards - 1}; got {shard}")
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.n_rows))

    def name(self, shard: int) -> str:
        """Return the name of the file of one shard, whether it exists or not."""
        return f"embeddings-{shard:05d}.safetensors"

    def path(self, shard: int) -> Path:
        """Return the file of one shard in a folder, whether it exists or not."""
        return self.folder / self.name(shard)

    def where(self, shard: int) -> str:
        """Return what messages call one shard: its path, or its address."""
        return f"{self.place}/{self.name(shard)}"

    def has(self, shard: int) -> bool:
        """Return whether one shard is there; it isn't read."""
        return self.place.has(self.name(shard))

    def missing(self) -> list[int]:
        """Return the shards still to be written, in order. Those that exist are read and verified.

        Raises:
            StoreError: A shard is damaged. It is never taken as missing in silence: the message says to delete it.
        """
        absent = []
        for shard in range(self.n_shards):
            if self.has(shard):
                self._load(shard)
            else:
                absent.append(shard)
        return absent

    def write(self, shard: int, tensors: Mapping[str, Tensor], notes: JSON = None) -> None:
        """Write one shard, replacing it if it exists; when this returns, it is on the disk.

        Args:
            shard: Its number.
            tensors: Each with ``len(rows(shard))`` rows. Names, dtypes and the shape of a row must be the same in all
                shards.
            notes: What else there is to say of this shard's rows, as plain JSON; ``notes`` gives it back.

        Raises:
            ValueError: No tensor, or one with another number of rows.
            StoreError: Another process writes this very shard, or the disk refuses (full, read-only).
        """
        n_rows = len(self.rows(shard))
        if not tensors:
            raise ValueError("tensors must have at least one tensor; got none")
        for name, tensor in tensors.items():
            if tensor.ndim == 0 or len(tensor) != n_rows:
                raise ValueError(
                    f"{name!r} must have {n_rows} rows, as shard {shard} has; got shape {tuple(tensor.shape)}"
                )
        own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        label: dict[str, JSON] = {"manifest": self._manifest_sha256, "shard": shard, "sha256": checksum_of(own, notes)}
        if notes is not None:
            label["notes"] = check_json(notes, "notes")
        self.place.sweep(self.name(shard))
        self.place.write(self.name(shard), safetensors.torch.save(own, {KEY: json.dumps(label)}))

    def read(self, shard: int | None = None) -> dict[str, Tensor]:
        """Return the tensors of one shard, or of all shards, one below the other in the order of the ids.

        Raises:
            StoreError: A shard is missing, damaged, or doesn't fit the others.
        """
        if shard is not None:
            self.rows(shard)
            return self._load(shard)[0]
        absent = [i for i in range(self.n_shards) if not self.has(i)]
        if absent:
            raise StoreError(
                f"{self.place}: {len(absent)} of {self.n_shards} shards are not written yet, the first is "
                f"{absent[0]}. Run the same embedding again: it goes on from there."
            )
        first, _ = self._load(0)
        whole = {name: rows.new_empty((self.n_rows, *rows.shape[1:])) for name, rows in first.items()}
        for i in range(self.n_shards):
            part, _ = self._load(i)
            if _row_types(part) != _row_types(first):
                raise StoreError(
                    f"{self.where(i)}: holds {_row_types(part)} per row, and shard 0 {_row_types(first)}. They come "
                    "from different code: delete the shards that are wrong, and run the embedding again."
                )
            for name, rows in part.items():
                whole[name][self.rows(i).start : self.rows(i).stop] = rows
        return whole

    def noted(self, shard: int) -> tuple[dict[str, Tensor], Any]:
        """Return the tensors of one shard, and what was noted when it was written; None: nothing was.

        Raises:
            StoreError: As ``read``.
        """
        self.rows(shard)
        return self._load(shard)

    def label(self, shard: int) -> dict[str, Any]:
        """Return what a shard's header says: the ``sha256`` of its tensors and notes, and ``notes``, if there are some.

        No row is read, so nothing is verified but that it is this shard of this store.

        Raises:
            StoreError: The shard is missing, of another store or another one of this, or its header is damaged.
        """
        name = self.name(shard)
        try:
            label = label_in(self.place.read(name, 8 + header_length(self.place.read(name, 8))))
            own = label["manifest"], label["shard"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self.where(shard)}: is damaged, or not written yet ({error}). {REMEDY}") from error
        self._refuse_foreign(shard, *own)
        return label

    def _agree(self, wanted: dict[str, JSON]) -> Any:
        """Write the manifest where there is none; otherwise return the stored one, which must say the same."""
        try:
            self.place.make()
        except OSError as error:
            raise StoreError(f"{self.place}/{MANIFEST}: {error.strerror}. Choose another folder.") from error
        if not self.place.has(MANIFEST):
            self.place.write(MANIFEST, json.dumps(wanted, indent=2, sort_keys=True).encode())
        stored = _read_manifest(self.place)
        changes = told(differences(stored, wanted, ""))
        if changes:
            raise StoreError(
                f"{self.place}: holds embeddings of other settings: {changes}. Use another folder, or delete this one "
                "to compute them again."
            )
        return stored

    def _load(self, shard: int) -> tuple[dict[str, Tensor], Any]:
        """Read and verify one shard, and its notes; a file that was verified before is mapped into memory instead."""
        name, where = self.name(shard), self.where(shard)
        try:
            same, path = self.place.state(name), self.place.path(name)
            if same is not None and path is not None and self._verified.get(shard) == same:
                header = self.place.read(name, 8 + header_length(self.place.read(name, 8)))
                return safetensors.torch.load_file(path), label_in(header).get("notes")
            data = self.place.read(name)
            tensors, label = safetensors.torch.load(data), label_in(data)
            manifest, number, checksum, notes = label["manifest"], label["shard"], label["sha256"], label.get("notes")
        except FileNotFoundError:
            raise StoreError(f"{where}: shard {shard} is not written yet. Run the embedding to write it.") from None
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{where}: is damaged ({error}). {REMEDY}") from error
        if checksum != checksum_of(tensors, notes):
            raise StoreError(f"{where}: is damaged: its values don't have the sha256 in its header. {REMEDY}")
        self._refuse_foreign(shard, manifest, number)
        if same is not None:
            self._verified[shard] = same
        return tensors, notes

    def _refuse_foreign(self, shard: int, manifest: object, number: object) -> None:
        path = self.where(shard)
        if manifest != self._manifest_sha256:
            raise StoreError(
                f"{path}: was made with other settings or ids than manifest.json beside it says: embeddings for two "
                f"models lie in one folder. Give those of each a folder of their own. {REMEDY}"
            )
        if number != shard:
            raise StoreError(f"{path}: is shard {number}, and shard {shard} of this store is expected here. {REMEDY}")


def _read_manifest(place: Place) -> Any:
    """Return a manifest of a format that is known; its content is compared, not trusted."""
    path = f"{place}/{MANIFEST}"
    try:
        stored = json.loads(place.read(MANIFEST))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or 'there is no such file'}. Choose another folder.") from error
    except ValueError as error:
        raise StoreError(
            f"{path}: is damaged ({error}). Delete this file: it is written anew, and shards that were made with other "
            "settings stay refused."
        ) from error
    version = stored.get("format_version") if isinstance(stored, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StoreError(f"{path}: format version {version}; this CARROT reads {FORMAT_VERSION}. Upgrade it.")
    return stored


def _check_ids(ids: Sequence[str]) -> None:
    if isinstance(ids, str) or not all(isinstance(name, str) for name in ids):
        raise TypeError("ids must be a sequence of strings, one per row")
    if not ids:
        raise ValueError("ids must have at least one id; got none")
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise ValueError(f"ids must all be different; {name!r} occurs twice")
        seen.add(name)


def _row_types(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tensor.dtype} {tuple(tensor.shape[1:])}" for name, tensor in sorted(tensors.items())}
