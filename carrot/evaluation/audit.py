"""Near duplicates among embeddings, and how well a score finds planted wrong labels: arrays in, numbers out."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot.blocks import blocks, centred, square_sum, times, weighted_mean
from carrot.utils import require_finite, require_float

EPS = torch.finfo(torch.float64).eps
SIDE = 4096  # rows of a block of cosines at most: SIDE^2 numbers, 128 MiB


def near_duplicates(G: Float[Tensor, "n M"], threshold: float) -> list[tuple[int, int, float]]:
    """Return the pairs i < j with ``cos(g_i - gm, g_j - gm) >= threshold``, highest first, then by i and j; gm: the mean.

    Rounding: a cosine of M float64 products is right to (M + 8) eps, 4e-12 at M = 18,528. So much below ``threshold`` still
    counts, and so much below 1 is reported as 1.0: exact copies are always found, at 1.0. (An angle below sqrt(2 (M + 8) eps),
    some 1e-6, can't be told from a copy this way.)

    A row equal to the mean has no direction: its pairs are with rows that are identical to it, at 1.0, and no others. Equal means:
    nearer than the rounding of the mean itself, (n + 8) eps times the root mean square of the rows' norms.

    Cost: n^2 M / 2 multiplications and additions; three blocks of 128 MiB beside G (more only where one row is wider); the list
    holds every pair, so a low threshold over many pictures makes a long one.

    Args:
        G: Embeddings, float32 or float64; widened before they are centred, block by block.
        threshold: In (0, 1].

    Raises:
        ValueError: ``threshold`` is out of range, G is not (n, M), holds NaN or infinity, or numbers whose squares leave float64.
        TypeError: G is not float32 or float64, or ``threshold`` is no number.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise TypeError(f"`threshold` must be a number, a cosine; got {threshold!r}.")
    if not 0 < threshold <= 1:
        raise ValueError(f"`threshold` must be in (0, 1], a cosine; got {threshold!r}.")
    require_float("G", G)
    if G.ndim != 2 or G.shape[1] == 0:
        raise ValueError(f"`G` must be (n, M), one embedding a row; got {tuple(G.shape)}.")
    require_finite("G", G)
    n, M = G.shape
    if n < 2:
        return []
    w = torch.full((n,), 1 / n, dtype=torch.float64, device=G.device)
    mean, size = weighted_mean(G, w), square_sum(G, w) ** 0.5
    if not 1e-150 < size < 1e150 and bool(G.any()):
        raise ValueError(f"`G` must have rows of norms from 1e-150 to 1e150; got {size:g} on average. Scale it.")
    pieces = blocks(n, max(M, SIDE))
    norm = torch.cat([centred(G, mean, rows).norm(dim=1) for rows in pieces])
    is_mean = norm <= (n + 8) * EPS * size
    inverse = torch.where(is_mean, torch.nan, 1 / norm)  # NaN is >= nothing
    slack = (M + 8) * EPS

    pairs = _identical(G, is_mean.nonzero().flatten().tolist())
    for a, left in enumerate(pieces):
        U = centred(G, mean, left).mul_(inverse[left, None])  # (b, M)
        for right in pieces[a:]:
            V = U if right == left else centred(G, mean, right).mul_(inverse[right, None])
            cosines = U @ V.mT  # (b, b')
            i, j = (cosines >= threshold - slack).nonzero(as_tuple=True)
            value = cosines[i, j]
            value[value >= 1 - slack] = 1.0
            i, j = i + left.start, j + right.start
            upper = i < j
            pairs += zip(i[upper].tolist(), j[upper].tolist(), value[upper].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def nearest(G: Float[Tensor, "n M"], g: Float[Tensor, "m M"]) -> tuple[Float[Tensor, " m"], Int[Tensor, " m"]]:
    """Return for each row of g the highest ``cos(g - gm, g_i - gm)`` with a row of G, and that row; gm: the mean of G.

    Rows equal to the mean have no direction: a cosine of 0.

    Args:
        G: Embeddings, of training pictures say; widened block by block.
        g: Others.

    Raises:
        ValueError: Widths differ, or one has no row.
    """
    if G.ndim != 2 or g.ndim != 2 or G.shape[1] != g.shape[1] or 0 in G.shape:
        raise ValueError(f"`G` and `g` must be (n, M) and (m, M); got {tuple(G.shape)} and {tuple(g.shape)}.")
    mean = weighted_mean(G, torch.ones(len(G), dtype=torch.float64, device=G.device))
    lengths = torch.cat([centred(G, mean, rows).norm(dim=1) for rows in blocks(*G.shape)])
    cosines, indices = [g.new_empty(0, dtype=torch.float64)], [torch.empty(0, dtype=torch.long)]
    for part in g.split(256):
        x = part.to(torch.float64) - mean
        products = times(G, mean, x.mT)  # (n, b)
        scale = lengths.unsqueeze(1) * x.norm(dim=1)
        best = torch.where(scale > 0, products / scale, 0.0).max(dim=0)
        cosines.append(best.values)
        indices.append(best.indices)
    return torch.cat(cosines), torch.cat(indices)


def precision_at(scores: Float[Tensor, " n"], wrong: Bool[Tensor, " n"], k: int) -> float:
    """Return the share of wrong labels among the k highest scores: 1 where the first k looked at are all wrong.

    Where equal scores straddle the k-th place, they share the places that are left: the mean over all orders of them.

    Args:
        scores: Higher is more suspicious; a margin goes in with its sign turned.
        wrong: Which labels are wrong, as planted.
        k: From 1 to n.

    Raises:
        ValueError: Shapes don't match, there is no picture, a score is NaN or infinite, or k is out of range.
        TypeError: Scores are not floating point, or ``wrong`` is not boolean.
    """
    _check(scores, wrong)
    n = len(scores)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= n:
        raise ValueError(f"`k` must be an integer from 1 to the number of pictures, n = {n}; got {k!r}.")
    wrong = wrong.to(scores.device)
    last = scores.sort(descending=True).values[k - 1]
    above, tied = scores > last, scores == last
    places = k - int(above.sum())
    return (int(wrong[above].sum()) + places * int(wrong[tied].sum()) / int(tied.sum())) / k


def auroc(scores: Float[Tensor, " n"], wrong: Bool[Tensor, " n"]) -> float:
    """Return the chance that a wrong label scores higher than a right one, ties counted half: the area under the ROC curve.

    0.5 is chance, 1 a perfect order. Counted by ranks, in n log n.

    Raises:
        ValueError: All labels are wrong or none is; and as ``precision_at``.
        TypeError: As ``precision_at``.
    """
    _check(scores, wrong)
    wrong = wrong.to(scores.device)
    n_wrong, n = int(wrong.sum()), len(scores)
    if n_wrong in (0, n):
        raise ValueError(f"`wrong` must hold wrong and right labels, to compare them; got {n_wrong} wrong of {n}.")
    _, place = scores.unique(return_inverse=True)  # place: 0 for the lowest value
    wrongs = torch.bincount(place[wrong], minlength=int(place.max()) + 1)
    rights = torch.bincount(place[~wrong], minlength=len(wrongs))
    below = rights.cumsum(0) - rights
    twice = int((wrongs * (2 * below + rights)).sum())  # an integer: no rounding
    return twice / (2 * n_wrong * (n - n_wrong))


def _identical(G: Tensor, rows: list[int]) -> list[tuple[int, int, float]]:
    """Return the pairs of identical rows among ``rows``, each at 1.0."""
    groups: list[list[int]] = []
    for row in rows:
        group = next((group for group in groups if torch.equal(G[group[0]], G[row])), None)
        if group is None:
            groups.append([row])
        else:
            group.append(row)
    return [(i, j, 1.0) for group in groups for a, i in enumerate(group) for j in group[a + 1 :]]


def _check(scores: Tensor, wrong: Tensor) -> None:
    if not scores.is_floating_point():
        raise TypeError(f"`scores` must be floating point; got {scores.dtype}. Convert it with `.double()`.")
    if wrong.dtype != torch.bool:
        raise TypeError(f"`wrong` must be boolean, True where the label is wrong; got {wrong.dtype}.")
    if scores.ndim != 1 or scores.shape != wrong.shape or len(scores) == 0:
        raise ValueError(
            f"`scores` and `wrong` must be (n,), one number and one truth a picture, n >= 1; got {tuple(scores.shape)} and "
            f"{tuple(wrong.shape)}."
        )
    require_finite("scores", scores)
