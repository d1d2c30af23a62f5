"""The tokens of a data set on disk: one backbone pass, and every lift, graph and readout is tried on what it left."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from carrot.backbone import TimmViTPatchBackbone
from carrot.data.loading import Loader
from carrot.data.records import ImageDataset
from carrot.embedding.filling import embed_dataset
from carrot.embedding.pooling import Pooling, pool
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from carrot.store.shards import EmbeddingStore

AGAIN = "delete the folder of tokens to have it read again"


class TokenCache:
    """Tokens of every picture of a data set, read a shard at a time.

    Attributes:
        readable: False for the pictures that can't be read.
        errors: What is wrong with those, by record id.
        sha256: Of every picture's content, in hex; zeros where it can't be read.
    """

    def __init__(self, store: EmbeddingStore, grid_hw: tuple[int, int], errors: dict[str, str]) -> None:
        self._store, self.grid_hw, self.errors = store, grid_hw, errors
        self._width, readable, self.sha256 = 0, [], list[str]()
        for shard in range(store.n_shards):
            rows = store.read(shard)
            self._width = rows["H"].shape[-1]
            readable.append(torch.isfinite(rows["H"][:, 0, 0]))
            self.sha256 += [bytes(digest.tolist()).hex() for digest in rows["sha256"]]
        self.readable: Bool[Tensor, " n"] = torch.cat(readable)

    @classmethod
    def of(
        cls,
        dataset: ImageDataset,
        backbone: TimmViTPatchBackbone,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 32,
        workers: int = 0,
        state: Mapping[str, str] | None = None,
    ) -> "TokenCache":
        """Return the tokens of ``dataset``, computed or found in ``folder``; a killed run goes on.

        Args:
            dataset: The pictures.
            backbone: What makes tokens of them.
            folder: Where the shards lie; made if absent.
            dtype: float32, or float16: half the disk, tokens rounded to 3 digits (``Tokens.of``).
            batch_size: Pictures of one pass and of one shard.
            workers: Processes that decode; 0: threads.
            state: ``pictures_state`` of the data set, where it is known.

        Raises:
            StoreError: ``folder`` holds other tokens, or a damaged shard.
        """
        N, D = backbone.grid_hw[0] * backbone.grid_hw[1], backbone.embed_dim
        shapes: dict[str, tuple[int, ...]] = {"H": (N, D)}
        if backbone.has_class_token:
            shapes["class_token"] = (D,)
        if backbone.attention:
            shapes["attention"] = (N,)
        kinds = {name: torch.float32 if name == "attention" else dtype for name in shapes}

        def embed(x: Tensor) -> dict[str, Tensor]:
            return Tokens.of(backbone, x, dtype).rows()

        facts = {"backbone": backbone.fingerprint(), "rows": sorted(shapes), "dtype": str(dtype)}
        store, errors = embed_dataset(
            dataset, backbone.transform, embed, shapes, facts, folder, batch_size, kinds, workers, state
        )
        cache, load = cls(store, backbone.grid_hw, errors), Loader(dataset, backbone.transform)
        for row in torch.nonzero(~cache.readable).flatten().tolist():
            name = dataset.records[row].id
            if name not in errors:  # another run met it: what is wrong with it is told each time
                found = load[row]
                errors[name] = (
                    found if isinstance(found, str) else f"{name}: could not be read when its tokens were made; {AGAIN}"
                )
        return cache

    @property
    def rows(self) -> list[int]:
        """The pictures that can be read, in order."""
        return torch.nonzero(self.readable).flatten().tolist()

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._store.folder

    @property
    def key(self) -> str:
        """Which cache this is: ``EmbeddingStore.key``."""
        return self._store.key

    def batches(self, indices: Sequence[int]) -> Iterator[tuple[list[int], Tokens]]:
        """Yield the tokens of ``indices``, in no particular order: (places in ``indices``, their tokens)."""
        place = {int(index): position for position, index in enumerate(indices)}
        if len(place) != len(indices) or not all(0 <= index < self._store.n_rows for index in place):
            raise IndexError(
                f"`indices` must be different rows 0 .. {self._store.n_rows - 1}; got {list(indices)[:10]}."
            )
        for shard in range(self._store.n_shards):
            rows = self._store.rows(shard)
            wanted = [row for row in rows if row in place]
            if wanted:
                tensors = self._store.read(shard)
                own = torch.tensor(wanted) - rows.start
                yield (
                    [place[row] for row in wanted],
                    Tokens(grid_hw=self.grid_hw, **{name: x[own] for name, x in tensors.items() if name != "sha256"}),
                )

    def embed(self, indices: Sequence[int], s: Setting, pi: Float[Tensor, "n N"] | None = None) -> Float[Tensor, "n M"]:
        """Return g of each of ``indices``, float64; ``pi`` is theirs, where it is known."""
        pooling = Pooling(s)
        G = torch.empty(len(indices), pooling.lift.dim(self._width), dtype=torch.float64)
        for places, tokens in self.batches(indices):
            G[places] = pooling.g(tokens, None if pi is None else pi[places])
        return G

    def pool(self, indices: Sequence[int], settings: Sequence[Setting]) -> list[Float[Tensor, "n N"]]:
        """Return pi of each of ``indices`` for each setting, in one pass over the tokens."""
        pis: list[Tensor | None] = [None] * len(settings)
        for places, tokens in self.batches(indices):
            for k, pi in enumerate(pool(tokens, settings)):
                whole = pis[k]
                if whole is None:
                    whole = pis[k] = pi.new_empty(len(indices), pi.shape[1])
                whole[places] = pi
        return [pi for pi in pis if pi is not None]

    def picture(self, index: int) -> Tokens:
        """Return the tokens of one picture, as a batch of one."""
        return next(self.batches([index]))[1]
