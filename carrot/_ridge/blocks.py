"""Products of many wide rows, in float64, a block at a time; the rows stay in the precision they came in.

With A = sqrt(w) (G - gm), n rows of width D:

::

    gm = sum_i w_i g_i / sum(w)      A^T A  (D, D)      A A^T  (n, n)      (G - gm) X      (G - gm)^T X

Embeddings come as float32 and can be wide: 50,000 rows of 18,528 numbers are 3.7 GB, and a centred float64 copy would
be 7.4 GB more. So a block is widened, centred (in float64, before any product, so that a large mean costs no digits),
used and overwritten by the next: memory that is asked for anew costs ten times the widening. The two symmetric products
are summed over strips of their upper triangle and mirrored: half of the multiplications.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

ENTRIES = 1 << 24  # numbers in one widened block at most: 128 MiB
CACHED = 1 << 20  # .. and where it meets few columns: 8 MiB, which stay near the processor, 9 times as fast for one
LINES = 2048  # .. and where it meets many: what their result is read and written again for
FEW = 64  # columns
STRIP = 256  # rows of a symmetric product that are computed at once ..
SERIAL = 1 << 14  # numbers whose sum torch leaves to one thread
NARROW = 128  # .. or an eighth of them, down to this: what is computed twice is half a strip


def blocks(length: int, width: int, columns: int | None = None) -> list[slice]:
    """Return slices that cover 0 .. length - 1, each of at most ``ENTRIES`` numbers where a line has ``width``.

    Of a product with ``columns`` columns, where these are few, at most ``CACHED``: memory is what that waits for. Else
    ``LINES``, or as many as are ``CACHED``; and the product is no larger than a block may be.
    """
    width, few = max(1, width), columns is not None and columns <= FEW
    wanted = CACHED // width if few else max(LINES, CACHED // width)
    step = max(1, min(wanted, ENTRIES // max(width, columns or 0)))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def centred(
    G: Float[Tensor, "n D"],
    mean: Float[Tensor, " D"] | None,
    rows: slice = slice(None),
    columns: slice = slice(None),
    room: Float[Tensor, " r"] | None = None,
) -> Float[Tensor, "b d"]:
    """Return ``G - mean`` of a block, float64: widened before the subtraction. ``mean=None``: G.

    Args:
        G: Rows.
        mean: What is taken off each.
        rows: Those of the block.
        columns: Those of the block.
        room: Memory to write it into; default: new.
    """
    block = G[rows, columns]
    room = torch.empty(block.numel(), dtype=torch.float64, device=G.device) if room is None else room
    X = room[: block.numel()].view(block.shape).copy_(block)
    return X if mean is None else X.sub_(mean[columns])


def each_block(
    G: Float[Tensor, "n D"],
    mean: Float[Tensor, " D"] | None,
    columns: int | None = None,
    root: Float[Tensor, " n"] | None = None,
) -> Iterator[tuple[slice, Float[Tensor, "b D"]]]:
    """Yield ``root (G - mean)`` block by block, each in the memory of the one before: it is gone when the next comes.

    Args:
        G: Rows.
        mean: What is taken off each; None: nothing.
        columns: How many columns each block meets, see ``blocks``.
        root: What each row is multiplied with; None: 1.
    """
    room = None
    for rows in blocks(len(G), G.shape[1], columns):
        if room is None:
            room = torch.empty((rows.stop - rows.start) * G.shape[1], dtype=torch.float64, device=G.device)
        X = centred(G, mean, rows, room=room)
        yield rows, X if root is None else X.mul_(root[rows].unsqueeze(-1))


def roots(w: Float[Tensor, " n"]) -> Float[Tensor, " n"] | None:
    """Return sqrt(w), or None where every weight is 1: a pass over the rows less."""
    return None if bool((w == 1.0).all()) else w.sqrt()


def weighted_sum(G: Float[Tensor, "n D"], w: Float[Tensor, " n"]) -> Float[Tensor, " D"]:
    """Return ``sum_i w_i g_i``."""
    total = torch.zeros(G.shape[1], dtype=torch.float64, device=G.device)
    for rows, X in each_block(G, None, 1):
        total += w[rows] @ X
    return total


def weighted_mean(G: Float[Tensor, "n D"], w: Float[Tensor, " n"]) -> Float[Tensor, " D"]:
    """Return ``sum_i w_i g_i / sum(w)``."""
    return weighted_sum(G, w) / sum_of(w)


def sum_of(w: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return ``sum(w)``, to the same bit whatever the number of threads: torch gives longer ones to several."""
    return torch.stack([part.sum() for part in w.split(SERIAL)]).sum() if len(w) > SERIAL else w.sum()


def square_sum(G: Float[Tensor, "n D"], w: Float[Tensor, " n"]) -> float:
    """Return ``sum_i w_i |g_i|^2``."""
    return sum(float(w[rows] @ X.square_().sum(dim=1)) for rows, X in each_block(G, None, 1))


def times(G: Float[Tensor, "n D"], mean: Float[Tensor, " D"] | None, X: Float[Tensor, "D k"]) -> Float[Tensor, "n k"]:
    """Return ``(G - mean) X``; ``mean=None``: ``G X``."""
    product = X.new_empty(len(G), X.shape[1])
    for rows, A in each_block(G, mean, X.shape[1]):
        torch.mm(A, X, out=product[rows])
    return product


def transposed_times(
    G: Float[Tensor, "n D"], mean: Float[Tensor, " D"], X: Float[Tensor, "n k"]
) -> Float[Tensor, "D k"]:
    """Return ``(G - mean)^T X``."""
    product = X.new_zeros(G.shape[1], X.shape[1])
    for rows, A in each_block(G, mean, X.shape[1]):
        product.addmm_(A.mT, X[rows])
    return product


def inner_products(G: Float[Tensor, "n D"], mean: Float[Tensor, " D"]) -> Float[Tensor, "n n"]:
    """Return ``(G - mean)(G - mean)^T``."""
    n, D = G.shape
    N, room = torch.zeros(n, n, dtype=torch.float64, device=G.device), None
    for columns in blocks(D, n):
        room = mean.new_empty(n * (columns.stop - columns.start)) if room is None else room
        add_upper(N, centred(G, mean, columns=columns, room=room))
    return mirror(N)


def _strips(length: int) -> list[slice]:
    lines = min(STRIP, max(NARROW, length // 8))
    return [slice(start, min(start + lines, length)) for start in range(0, length, lines)]


def add_upper(total: Tensor, X: Tensor) -> None:
    """Add X X^T to ``total``, from the diagonal to the right."""
    for strip in _strips(len(total)):
        total[strip, strip.start :].addmm_(X[strip], X[strip.start :].mT)


def mirror(total: Tensor) -> Tensor:
    """Copy the upper triangle to the lower, in place: symmetric to the bit."""
    for strip in _strips(len(total)):
        total[strip.stop :, strip] = total[strip, strip.stop :].mT
        square = total[strip, strip]
        square.copy_(square.triu() + square.triu(1).mT)
    return total
