"""Which tokens a model was fitted from, and how they are found again."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrot.embedding.tokens import Tokens
from carrot.errors import StoreError
from carrot.store.shards import EmbeddingStore
from carrot.tiling import Tiling


@dataclass(frozen=True)
class Layout:
    """How the rows of one store, or of one for each scale of tiles, make tokens.

    Attributes:
        grid_hw: Grid of patches; None for tiles.
        tiling: All scales together; None for patches.
        has_whole: Whether the last store holds the whole picture, as a global region.
    """

    grid_hw: tuple[int, int] | None
    tiling: Tiling | None = None
    has_whole: bool = False

    def tokens(self, rows: Sequence[Mapping[str, Tensor]]) -> Tokens:
        """Return the tokens of some pictures, from each store's rows of them."""
        if self.tiling is None:
            return Tokens.of_rows(rows[0], self.grid_hw)
        scales = [one["H"] for one in (rows[:-1] if self.has_whole else rows)]
        token = {"class_token": rows[-1]["H"][:, 0]} if self.has_whole else {}
        return Tokens.of_rows({"H": torch.cat(scales, dim=1), **token}, None, self.tiling)


@dataclass(frozen=True)
class KeptTokens:
    """The token cache that a model was fitted from: where its stores lie, and which they are.

    Attributes:
        folders: Where.
        keys: ``EmbeddingStore.key`` of each: another store in the same place is not taken for it.
        layout: How their rows make tokens.
        others: Folder and key of stores that were tried and not chosen: a picture that is forgotten leaves them too.
    """

    folders: tuple[str, ...]
    keys: tuple[str, ...]
    layout: Layout
    others: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_json(cls, found: Mapping[str, Any], root: Path) -> "KeptTokens":
        """Return what ``to_json`` wrote; folders that are not absolute are below ``root``."""
        folders, keys = (found["folders"], found["keys"]) if "folders" in found else ([found["folder"]], [found["key"]])
        tiling = None if found.get("tiling") is None else Tiling.from_spec(found["tiling"])
        grid_hw = None if found["grid_hw"] is None else (int(found["grid_hw"][0]), int(found["grid_hw"][1]))
        layout = Layout(grid_hw, tiling, bool(found.get("has_whole", False)))
        others = tuple((str(root / folder), str(key)) for folder, key in found.get("others", ()))
        return cls(tuple(str(root / folder) for folder in folders), tuple(keys), layout, others)

    def to_json(self, root: Path) -> dict[str, Any]:
        """Return it as plain JSON; folders in ``root`` are told from there, so a model can be moved with its tokens."""

        def from_there(path: str) -> str:
            return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path

        layout = self.layout
        return {
            "folders": [from_there(path) for path in self.folders],
            "keys": list(self.keys),
            "grid_hw": None if layout.grid_hw is None else list(layout.grid_hw),
            "tiling": None if layout.tiling is None else layout.tiling.spec,
            "has_whole": layout.has_whole,
            "others": [[from_there(folder), key] for folder, key in self.others],
        }

    @property
    def all_of_them(self) -> tuple[tuple[str, str], ...]:
        """Folder and key of every store that holds something of the training pictures."""
        return (*zip(self.folders, self.keys, strict=True), *self.others)

    @staticmethod
    def store(folder: str, key: str) -> EmbeddingStore | None:
        """Return a store, if it is still there."""
        try:
            store = EmbeddingStore.existing(folder)
        except StoreError:
            return None
        return store if store.key == key else None

    def tokens(self, row: int) -> Tokens | None:
        """Return one picture's tokens as a batch of one, if they are still there; a warning if they are damaged."""
        return next(self.each([row]))

    def each(self, rows: Iterable[int]) -> Iterator[Tokens | None]:
        """Yield the tokens of pictures, each as ``tokens`` does; a shard that several in turn lie in is read once."""
        last: dict[str, tuple[int, Mapping[str, Tensor]]] = {}
        for row in rows:
            yield self._tokens(row, last)

    def _tokens(self, row: int, last: dict[str, tuple[int, Mapping[str, Tensor]]]) -> Tokens | None:
        rows = []
        for folder, key in zip(self.folders, self.keys, strict=True):
            store = self.store(folder, key)
            if store is None or not store.path(row // store.shard_size).exists():
                return None
            shard, place = divmod(row, store.shard_size)
            if folder not in last or last[folder][0] != shard:
                try:
                    last[folder] = shard, store.read(shard)
                except StoreError as error:
                    warnings.warn(f"{error} Until then its tokens are computed again from the picture.", stacklevel=2)
                    return None
            rows.append({name: x[place : place + 1] for name, x in last[folder][1].items()})
            if not bool(torch.isfinite(rows[-1]["H"]).all()):
                return None
        return self.layout.tokens(rows)
