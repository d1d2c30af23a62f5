"""The tokens of a data set on disk: one backbone pass, and every lift, graph and readout is tried on what it left."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from carrot._choices import PATCHES
from carrot.backbone import TimmViTPatchBackbone
from carrot.data.loading import Loader
from carrot.data.records import ImageDataset
from carrot.embedding.filling import embed_dataset, pictures_state
from carrot.embedding.kept import Layout
from carrot.embedding.pooling import Pooling, pool
from carrot.embedding.sent import SentView
from carrot.embedding.setting import Setting, short_regions
from carrot.embedding.tokens import Tokens
from carrot.embedding.view import PatchView, TileView, View
from carrot.store.shards import EmbeddingStore
from carrot.utils import float64_device

CPU = torch.device("cpu")
AGAIN = "delete the folder of tokens to have it read again"
BATCH = 32  # pictures of one pass and of one shard, where a picture is one input


class TokenCache:
    """Tokens of every picture of a data set, a shard at a time: of a store of patches, or one for each scale of tiles.

    Attributes:
        layout: How their rows make tokens.
        readable: False for the pictures that can't be read.
        errors: What is wrong with those, by record id.
        device: Where tokens are pooled, in float64; what comes of it is on the processor.
        sha256: Of every picture's content, in hex; zeros where it can't be read.
    """

    def __init__(
        self,
        stores: Sequence[EmbeddingStore],
        layout: Layout,
        errors: dict[str, str],
        device: torch.device = CPU,
    ) -> None:
        self.device = device
        self.stores, self.layout, self.errors = tuple(stores), layout, errors
        self._width, self.sha256 = 0, list[str]()
        self.readable: Bool[Tensor, " n"] = torch.ones(self.stores[0].n_rows, dtype=torch.bool)
        for store in self.stores:
            for shard in range(store.n_shards):
                rows, own = store.read(shard), store.rows(shard)
                self._width = rows["H"].shape[-1]
                self.readable[own.start : own.stop] &= torch.isfinite(rows["H"][:, 0, 0])
                if store is self.stores[0]:
                    self.sha256 += [bytes(digest.tolist()).hex() for digest in rows["sha256"]]

    @classmethod
    def of(
        cls,
        dataset: ImageDataset,
        view: View | TimmViTPatchBackbone,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        batch_size: int | None = None,
        workers: int = 0,
        state: Mapping[str, str] | None = None,
    ) -> "TokenCache":
        """Return the tokens of ``dataset``, computed or found in ``folder``; a killed run goes on.

        Args:
            dataset: The pictures.
            view: What makes tokens of them; a backbone: its patches.
            folder: Where the shards lie; made if absent. Each scale of tiles has a folder of its own in it, which
                serves every ladder that has it.
            dtype: What a backbone's tokens are rounded to; a view knows.
            batch_size: Pictures of one pass and of one shard; default 32, of tiles 8, or fewer where there
                are many tiles.
            workers: Processes that decode; 0: threads.
            state: ``pictures_state`` of the data set, where it is known.

        Raises:
            StoreError: ``folder`` holds other tokens, or a damaged shard.
        """
        if isinstance(view, TimmViTPatchBackbone):
            view = PatchView(view, dtype)
        state = state or pictures_state(dataset, view.probe)
        stores, errors = [], dict[str, str]()
        for part in view.parts if isinstance(view, TileView) else (view,):
            place = folder / part.folder if isinstance(part, TileView) else folder
            size = batch_size or (part.shard if isinstance(part, TileView) else BATCH)
            store, found = _filled(dataset, part, place, size, workers, state)
            stores.append(store)
            errors |= found
        cache = cls(stores, view.layout, errors, float64_device(view.backbone.device))
        load = Loader(dataset, view.transform)
        for row in torch.nonzero(~cache.readable).flatten().tolist():
            name = dataset.records[row].id
            if name not in errors:  # another run met it: what is wrong with it is told each time
                again = load[row]
                errors[name] = (
                    again if isinstance(again, str) else f"{name}: could not be read when its tokens were made; {AGAIN}"
                )
        return cache

    @property
    def rows(self) -> list[int]:
        """The pictures that can be read, in order."""
        return torch.nonzero(self.readable).flatten().tolist()

    @property
    def folder(self) -> Path:
        """Where it lies."""
        first = self.stores[0].folder
        return first if len(self.stores) == 1 else first.parent

    @property
    def key(self) -> str:
        """Which cache this is: ``EmbeddingStore.key``, of each store."""
        return " ".join(store.key for store in self.stores)

    def batches(self, indices: Sequence[int]) -> Iterator[tuple[list[int], Tokens]]:
        """Yield the tokens of ``indices``, in no particular order: (places in ``indices``, their tokens)."""
        place = {int(index): position for position, index in enumerate(indices)}
        first = self.stores[0]
        if len(place) != len(indices) or not all(0 <= index < first.n_rows for index in place):
            raise IndexError(f"`indices` must be different rows 0 .. {first.n_rows - 1}; got {list(indices)[:10]}.")
        for shard in range(first.n_shards):
            rows = first.rows(shard)
            wanted = [row for row in rows if row in place]
            if wanted:
                found = [_rows(store, wanted) for store in self.stores]
                yield [place[row] for row in wanted], self.layout.tokens(found)

    def embed(self, indices: Sequence[int], s: Setting, pi: Float[Tensor, "n N"] | None = None) -> Float[Tensor, "n M"]:
        """Return g of each of ``indices``, float64; ``pi`` is theirs, where it is known."""
        pooling = Pooling(s)
        G = torch.empty(len(indices), pooling.lift.dim(self._width), dtype=torch.float64)
        for places, tokens in self.batches(indices):
            own = None if pi is None else pi[places].to(self.device)
            G[places] = pooling.g(tokens.to(self.device), own).cpu()
        return G

    def pool(self, indices: Sequence[int], settings: Sequence[Setting]) -> list[Float[Tensor, "n N"]]:
        """Return pi of each of ``indices`` for each setting, in one pass over the tokens."""
        pis: list[Tensor | None] = [None] * len(settings)
        for places, tokens in self.batches(indices):
            for k, found in enumerate(pool(tokens.to(self.device), settings)):
                pi = found.cpu()
                whole = pis[k]
                if whole is None:
                    whole = pis[k] = pi.new_empty(len(indices), pi.shape[1])
                whole[places] = pi
        return [pi for pi in pis if pi is not None]

    def picture(self, index: int) -> Tokens:
        """Return the tokens of one picture, as a batch of one."""
        return next(self.batches([index]))[1]


def _rows(store: EmbeddingStore, wanted: Sequence[int]) -> dict[str, Tensor]:
    """Return some rows, ascending, whichever shards they lie in: those of many small tiles hold fewer pictures."""
    shards = dict.fromkeys(row // store.shard_size for row in wanted)
    start, pieces = store.rows(next(iter(shards))).start, [store.read(shard) for shard in shards]
    if len(pieces) == 1:
        own = torch.tensor(wanted) - start
        return {name: x[own] for name, x in pieces[0].items()}
    places = torch.cat([torch.arange(r.start, r.stop) for r in map(store.rows, shards)])
    own = torch.searchsorted(places, torch.tensor(wanted))
    return {name: torch.cat([piece[name] for piece in pieces])[own] for name in pieces[0]}


def _filled(
    dataset: ImageDataset,
    view: View,
    folder: Path,
    batch_size: int,
    workers: int,
    state: Mapping[str, str],
) -> tuple[EmbeddingStore, dict[str, str]]:
    """Return the complete store of what a view gives of each picture, and what is wrong with some."""
    blank = view.blank.rows()
    shapes = {name: tuple(values.shape[1:]) for name, values in blank.items()}
    kinds = {name: torch.float32 if name == "attention" else view.dtype for name in shapes}

    what = short_regions(view.tiling.spec) if isinstance(view, TileView) else PATCHES
    facts: dict[str, object] = {"rows": sorted(shapes), "dtype": str(view.dtype)}
    facts["backbone"] = view.backbone.fingerprint()
    if isinstance(view, TileView):
        facts["tiles"] = view.tiling.spec
    if view.backbone.compiled:  # other bits of the same tokens: one store holds them of one kind of kernels
        facts["compiled"] = True
    sent = SentView.of(view)
    return embed_dataset(
        dataset, sent.view.transform, sent.rows, shapes, facts, folder, batch_size, kinds, workers, state, what
    )
