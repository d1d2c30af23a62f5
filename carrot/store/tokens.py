"""The tokens of a data set on disk: one backbone pass, and every lift, graph and readout is tried on what it left."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from carrot.backbone import TimmViTPatchBackbone
from carrot.data.records import ImageDataset
from carrot.lift import lift_from
from carrot.stages import Setting, Tokens, embed_tokens
from carrot.store.embedding import embed_dataset
from carrot.store.shards import EmbeddingStore


class TokenCache:
    """Tokens of every picture of a data set, read a shard at a time.

    Attributes:
        readable: False for the pictures that can't be read.
        errors: What was wrong with those that this run met, by record id.
    """

    def __init__(self, store: EmbeddingStore, grid_hw: tuple[int, int], errors: dict[str, str]) -> None:
        self._store, self.grid_hw, self.errors = store, grid_hw, errors
        self._width = store.read(0)["H"].shape[-1]
        self.readable: Bool[Tensor, " n"] = torch.cat(
            [torch.isfinite(store.read(shard)["H"][:, 0, 0]) for shard in range(store.n_shards)]
        )

    @classmethod
    def of(cls, dataset: ImageDataset, backbone: TimmViTPatchBackbone, folder: Path) -> "TokenCache":
        """Return the tokens of ``dataset``, computed or found in ``folder``; a killed run goes on.

        Raises:
            StoreError: ``folder`` holds other tokens, or a damaged shard.
        """
        N, D = backbone.grid_hw[0] * backbone.grid_hw[1], backbone.embed_dim
        shapes: dict[str, tuple[int, ...]] = {"H": (N, D)}
        if backbone.has_class_token:
            shapes["class_token"] = (D,)
        if backbone.attention:
            shapes["attention"] = (N,)

        @torch.inference_mode()
        def embed(x: Tensor) -> dict[str, Tensor]:
            patches = backbone(x.to(backbone.device))
            rows = {"H": patches.H}
            if backbone.has_class_token and patches.prefix is not None:
                rows["class_token"] = patches.prefix[:, 0]
            if patches.attention is not None:
                rows["attention"] = patches.attention
            return rows

        facts = {"backbone": backbone.fingerprint(), "rows": sorted(shapes)}
        store, errors = embed_dataset(dataset, backbone.transform, embed, shapes, facts, folder)
        return cls(store, backbone.grid_hw, errors)

    def batches(self, indices: Sequence[int]) -> Iterator[tuple[list[int], Tokens]]:
        """Yield the tokens of ``indices``, in no particular order: (places in ``indices``, their tokens)."""
        place = {index: position for position, index in enumerate(indices)}
        for shard in range(self._store.n_shards):
            rows = self._store.rows(shard)
            wanted = [row for row in rows if row in place]
            if wanted:
                tensors = self._store.read(shard)
                own = torch.tensor(wanted) - rows.start
                yield (
                    [place[row] for row in wanted],
                    Tokens(grid_hw=self.grid_hw, **{name: x[own] for name, x in tensors.items()}),
                )

    def embed(self, indices: Sequence[int], s: Setting) -> Float[Tensor, "n M"]:
        """Return g of each of ``indices``, float64."""
        G = torch.empty(len(indices), lift_from(s.lift).dim(self._width), dtype=torch.float64)
        for places, tokens in self.batches(indices):
            G[places] = embed_tokens(tokens, s)
        return G

    def picture(self, index: int) -> Tokens:
        """Return the tokens of one picture, as a batch of one."""
        return next(self.batches([index]))[1]
