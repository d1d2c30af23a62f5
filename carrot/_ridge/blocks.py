"""Products of many wide rows, in float64, a block at a time; the rows stay in the precision they came in.

With A = sqrt(w) (G - gm), n rows of width D:

::

    gm = sum_i w_i g_i / sum(w)      A^T A  (D, D)      A A^T  (n, n)      (G - gm) X      (G - gm)^T X

Embeddings come as float32 and can be wide: 50,000 rows of 18,528 numbers are 3.7 GB, and a centred float64 copy would
be 7.4 GB more. So a block is widened, centred (in float64, before any product, so that a large mean costs no digits),
used and dropped. The two symmetric products are summed over strips of their upper triangle and mirrored: half of the
multiplications.
"""

import torch
from jaxtyping import Float
from torch import Tensor

ENTRIES = 1 << 24  # numbers in one widened block: 128 MiB ..
CACHED = 1 << 20  # .. and where it meets few columns: 8 MiB, which stay near the processor, 9 times as fast for one
FEW = 64  # columns
STRIP = 512  # rows of a symmetric product that are computed at once


def blocks(length: int, width: int, columns: int | None = None) -> list[slice]:
    """Return slices that cover 0 .. length - 1, each of at most ``ENTRIES`` numbers where a line has ``width``.

    Of a product with ``columns`` columns, where these are few, at most ``CACHED``: memory is what that waits for.
    """
    entries = ENTRIES if columns is None or columns > FEW else min(ENTRIES, CACHED)
    step = max(1, entries // max(1, width))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def centred(
    G: Float[Tensor, "n D"], mean: Float[Tensor, " D"], rows: slice = slice(None), columns: slice = slice(None)
) -> Float[Tensor, "b d"]:
    """Return ``G - mean`` of a block, float64: widened before the subtraction."""
    return G[rows, columns].to(torch.float64, copy=True).sub_(mean[columns])


def weighted_mean(G: Float[Tensor, "n D"], w: Float[Tensor, " n"]) -> Float[Tensor, " D"]:
    """Return ``sum_i w_i g_i / sum(w)``."""
    total = torch.zeros(G.shape[1], dtype=torch.float64, device=G.device)
    for rows in blocks(len(G), G.shape[1], 1):
        total += w[rows] @ G[rows].to(torch.float64)
    return total / w.sum()


def square_sum(G: Float[Tensor, "n D"], w: Float[Tensor, " n"]) -> float:
    """Return ``sum_i w_i |g_i|^2``."""
    return sum(float(w[rows] @ G[rows].to(torch.float64).square().sum(dim=1)) for rows in blocks(len(G), G.shape[1], 1))


def times(G: Float[Tensor, "n D"], mean: Float[Tensor, " D"] | None, X: Float[Tensor, "D k"]) -> Float[Tensor, "n k"]:
    """Return ``(G - mean) X``; ``mean=None``: ``G X``."""
    product = X.new_empty(len(G), X.shape[1])
    for rows in blocks(len(G), G.shape[1], X.shape[1]):
        product[rows] = (G[rows].to(torch.float64) if mean is None else centred(G, mean, rows)) @ X
    return product


def transposed_times(
    G: Float[Tensor, "n D"], mean: Float[Tensor, " D"], X: Float[Tensor, "n k"]
) -> Float[Tensor, "D k"]:
    """Return ``(G - mean)^T X``."""
    product = X.new_zeros(G.shape[1], X.shape[1])
    for rows in blocks(len(G), G.shape[1], X.shape[1]):
        product.addmm_(centred(G, mean, rows).mT, X[rows])
    return product


def second_moments(G: Float[Tensor, "n D"], mean: Float[Tensor, " D"], w: Float[Tensor, " n"]) -> Float[Tensor, "D D"]:
    """Return ``A^T A = sum_i w_i (g_i - mean)(g_i - mean)^T``."""
    S = torch.zeros(G.shape[1], G.shape[1], dtype=torch.float64, device=G.device)
    root = w.sqrt().unsqueeze(-1)
    for rows in blocks(*G.shape):
        _add_upper(S, centred(G, mean, rows).mul_(root[rows]).mT)
    return _mirror(S)


def inner_products(G: Float[Tensor, "n D"], mean: Float[Tensor, " D"]) -> Float[Tensor, "n n"]:
    """Return ``(G - mean)(G - mean)^T``."""
    n, D = G.shape
    N = torch.zeros(n, n, dtype=torch.float64, device=G.device)
    for columns in blocks(D, n):
        _add_upper(N, centred(G, mean, columns=columns))
    return _mirror(N)


def _strips(length: int) -> list[slice]:
    return [slice(start, min(start + STRIP, length)) for start in range(0, length, STRIP)]


def _add_upper(total: Tensor, X: Tensor) -> None:
    """Add X X^T to ``total``, from the diagonal to the right."""
    for strip in _strips(len(total)):
        total[strip, strip.start :].addmm_(X[strip], X[strip.start :].mT)


def _mirror(total: Tensor) -> Tensor:
    """Copy the upper triangle to the lower, in place: symmetric to the bit."""
    for strip in _strips(len(total)):
        total[strip.stop :, strip] = total[strip, strip.stop :].mT
        square = total[strip, strip]
        square.copy_(square.triu() + square.triu(1).mT)
    return total
