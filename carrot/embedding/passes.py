"""Pictures to embeddings without keeping tokens: in the passes of the token store, so that they are its bits.

What a backbone gives of a picture differs by rounding with the pictures that it gets at once. ``TokenCache`` puts the
readable ones of 32 through it together, of tiles those of ``TileView.shard``, each scale by itself, and embeds so many
at once; here the same is done in the same order.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from carrot._ambient import pinned
from carrot._display.brief import brief
from carrot.data.loading import DECODERS, Batch, batches
from carrot.data.records import ImageDataset
from carrot.embedding.cache import BATCH
from carrot.embedding.pooling import Pooling
from carrot.embedding.view import TileView, View
from carrot.errors import BackboneError
from carrot.utils import float64_device

MAX_THREADS = 16  # that decode for a GPU; processes would cost seconds for each shard


@dataclass(frozen=True, eq=False)
class Embedded:
    """What became of some pictures.

    Attributes:
        g: Their embeddings; NaN where one can't be read.
        sha256: Of each picture's content, see ``content_sha256``; zeros where it can't be read.
        errors: What is wrong with those, by record id.
    """

    g: Float[Tensor, "n M"]
    sha256: UInt8[Tensor, "n 32"]
    errors: Mapping[str, str]

    __repr__ = brief


@pinned()
def embedded(dataset: ImageDataset, view: View, pooling: Pooling, rows: range, dtype: torch.dtype) -> Embedded:
    """Return the embeddings of some pictures: those of ``TokenCache.embed``, bit for bit, in float64.

    Args:
        dataset: The pictures.
        view: What makes tokens of them.
        pooling: What makes embeddings of these.
        rows: Which pictures; from a multiple of ``block(view)`` on, to another or to the last.
        dtype: What embeddings are rounded to.

    Raises:
        BackboneError: The backbone gave what isn't finite, or ``dtype`` can't hold an embedding.
    """
    n, names = len(rows), [dataset.records[row].id for row in rows]
    g = torch.full((n, pooling.lift.dim(view.backbone.embed_dim)), torch.nan, dtype=dtype)
    sha256, errors = torch.zeros(n, 32, dtype=torch.uint8), dict[str, str]()
    there = float64_device(view.backbone.device)  # as ``TokenCache`` does: tokens stay there, and only g comes back
    parts = _parts(view)
    streams = [_tokens(dataset, part, rows, errors) for part in parts]
    size, step = _pass(parts[0]), block(view)
    for start in range(0, n, step):
        stop = min(start + step, n)
        found = [
            _joined([next(stream) for _ in range(start, stop, _pass(part))])
            for part, stream in zip(parts, streams, strict=True)
        ]
        readable = torch.stack([one["readable"] for one in found]).all(dim=0)
        sha256[start:stop] = found[0]["sha256"]
        for first in range(0, stop - start, size):
            own = first + readable[first : first + size].nonzero().flatten()
            if len(own):
                tokens = view.layout.tokens([{name: x[own] for name, x in one.items()} for one in found])
                found_g = pooling.g(tokens.to(there)).cpu()
                g[start + own] = _rounded(found_g, dtype, [names[start + i] for i in own.tolist()])
    return Embedded(g, sha256, {name: errors[name] for name in names if name in errors})


def block(view: View) -> int:
    """Return the fewest pictures that are whole passes of every part of a view."""
    return math.lcm(*map(_pass, _parts(view)))


def _parts(view: View) -> tuple[View, ...]:
    """Return the views whose tokens are kept each by itself."""
    return view.parts if isinstance(view, TileView) else (view,)


def _pass(part: View) -> int:
    """Return how many pictures go through the backbone at once."""
    return part.shard if isinstance(part, TileView) else BATCH


def _tokens(dataset: ImageDataset, part: View, rows: range, errors: dict[str, str]) -> Iterator[dict[str, Tensor]]:
    """Yield what a view gives of the pictures of each pass: its rows, ``readable`` and ``sha256``; note ``errors``."""
    size = _pass(part)
    passes = [rows[i : i + size] for i in range(0, len(rows), size)]
    threads = max(DECODERS, min(MAX_THREADS, os.cpu_count() or 1)) if part.backbone.device.type == "cuda" else DECODERS
    for own, batch in zip(passes, batches(dataset, part.transform, passes, threads=threads), strict=True):
        names = [dataset.records[row].id for row in own]
        bad = [name for name, good in zip(names, batch.readable, strict=True) if not good]
        errors.update(zip(bad, batch.errors, strict=True))
        yield {**_encoded(part, names, batch), "readable": batch.readable, "sha256": batch.sha256}


def _encoded(part: View, names: Sequence[str], batch: Batch) -> dict[str, Tensor]:
    blank = part.blank.to(part.backbone.device).rows()
    if not bool(batch.readable.any()):
        return {name: x.new_full((len(names), *x.shape[1:]), torch.nan) for name, x in blank.items()}
    try:
        tokens = part.encode(batch.x[batch.readable], None).rows()
    except BackboneError as error:
        raise BackboneError(f"{names[0]} .. {names[-1]}: {error}") from error
    found = {name: x.new_full((len(names), *x.shape[1:]), torch.nan) for name, x in tokens.items()}
    for name, values in tokens.items():
        found[name][batch.readable] = values
    return found


def _rounded(g: Float[Tensor, "B M"], dtype: torch.dtype, names: Sequence[str]) -> Tensor:
    rounded = g.to(dtype)
    bad = (~torch.isfinite(rounded).all(dim=1)).nonzero().flatten().tolist()
    if bad:
        raise BackboneError(
            f"{names[bad[0]]}: {str(dtype).removeprefix('torch.')} can't hold its embedding, whose largest number is "
            f"{float(g[bad[0]].abs().max()):.3g}. Ask for rows in float32 or float64."
        )
    return rounded


def _joined(pieces: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
