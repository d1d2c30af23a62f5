"""Which tokens a model was fitted from, and how they are found again."""

import warnings
from dataclasses import dataclass

import torch

from carrot.embedding.tokens import Tokens
from carrot.errors import StoreError
from carrot.store.shards import EmbeddingStore


@dataclass(frozen=True)
class KeptTokens:
    """The token cache that a model was fitted from: where it lies, and which it is.

    Attributes:
        folder: Where.
        key: ``EmbeddingStore.key``: another cache in the same place is not taken for it.
        grid_hw: Grid of the tokens.
    """

    folder: str
    key: str
    grid_hw: tuple[int, int]

    def store(self) -> EmbeddingStore | None:
        """Return the cache, if it is still there."""
        try:
            store = EmbeddingStore.existing(self.folder)
        except StoreError:
            return None
        return store if store.key == self.key else None

    def tokens(self, row: int) -> Tokens | None:
        """Return one picture's tokens as a batch of one, if they are still there; a warning if they are damaged."""
        store = self.store()
        if store is None or not store.path(row // store.shard_size).exists():
            return None
        try:
            found = store.read(row // store.shard_size)
        except StoreError as error:
            warnings.warn(f"{error} Until then its tokens are computed again from the picture.", stacklevel=2)
            return None
        place = row % store.shard_size
        named = {name: x[place : place + 1] for name, x in found.items() if name != "sha256"}
        return Tokens(grid_hw=self.grid_hw, **named) if bool(torch.isfinite(named["H"]).all()) else None
