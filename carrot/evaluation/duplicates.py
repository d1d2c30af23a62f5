"""Near duplicates among embeddings: arrays in, numbers out.

::

    cos(g_i - gm, g_j - gm) >= threshold        alike, as seen from the mean of all                            (1)
    |g_i - g_j| <= 1/2 max(r_i, r_j)            and nearer than neighbours are; r_i: how far i's fifth nearest is  (2)

(1) alone takes the members of one tight class for copies of each other: from far away all of it is one direction. (2)
asks whether two pictures are nearer than pictures of their kind are. Copies of i itself, at distance 0, don't count
among its five.

On flowers17 with a ViT-Tiny, (1) at 0.95 finds 74 pairs, the same photograph each, and (2) keeps 73 of them; on two
clusters of 100 rows in 64 features, 10 standard deviations apart in each, (1) finds 9,323 pairs, and (2) keeps none.
"""

from typing import SupportsFloat

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot._ridge.blocks import blocks, centred, square_sum, times, weighted_mean
from carrot.utils import real_number, require_finite, require_float, require_tensor

EPS = torch.finfo(torch.float64).eps
SIDE = 4096  # rows of a block of cosines at most: SIDE^2 numbers, 128 MiB
NEIGHBOURS = 5  # the fifth nearest says how far pictures of a kind are apart
NEARER = 0.25  # square of 1/2, equation (2)


def near_duplicates(G: Float[Tensor, "n M"], threshold: SupportsFloat) -> list[tuple[int, int, float]]:
    """Return the pairs i < j for which (1) and (2) hold, with their cosine, highest first, then by i, j; gm: the mean.

    Rounding: a cosine of M float64 products is right to (M + 8) eps, 4e-12 at M = 18,528. So much below ``threshold``
    still counts, and so much below 1 is reported as 1.0: exact copies are always found, at 1.0. (An angle below
    sqrt(2 (M + 8) eps), some 1e-6, can't be told from a copy this way.)

    A row equal to the mean has no direction: its pairs are with rows that are identical to it, at 1.0, and no others.
    Equal means: nearer than the rounding of the mean itself, (n + 8) eps times the root mean square of the rows' norms.

    More than five pictures that are nearly the same, and equally so, are a class of their own to (2): of such a burst
    only exact copies are told.

    Cost: n^2 M / 2 multiplications and additions; a few blocks of 128 MiB beside G (more only where one row is wider).

    Args:
        G: Embeddings, float32 or float64; widened before they are centred, block by block.
        threshold: In (0, 1], of (1).

    Raises:
        ValueError: ``threshold`` is out of range, G is not (n, M), holds NaN or infinity, or numbers whose squares
            leave float64.
        TypeError: G is not float32 or float64, or ``threshold`` is no number.
    """
    threshold = real_number("threshold", threshold)
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

    near = torch.full((n, min(NEIGHBOURS, n - 1)), torch.inf, dtype=torch.float64, device=G.device)  # squared distances
    who = torch.zeros_like(near, dtype=torch.long)
    left_over = torch.empty(2, 0, dtype=torch.long, device=G.device), norm.new_empty(0), norm.new_empty(0)
    for a, left in enumerate(pieces):
        U = centred(G, mean, left)  # (b, M)
        for right in pieces[a:]:
            V = U if right == left else centred(G, mean, right)
            products = U @ V.mT  # (b, b')
            squares = norm[left, None].square() + norm[right].square()
            D2 = squares - 2.0 * products
            noise = 4.0 * slack * squares
            others = torch.where(noise >= D2, torch.inf, D2)  # copies, and the row itself, don't count
            _nearest(near, who, left, right, others)
            if right != left:
                _nearest(near, who, right, left, others.mT)
            cosines = products.mul_(inverse[left, None]).mul_(inverse[right])
            i, j = ((cosines >= threshold - slack) & (NEARER * _farther(near, left, right) + noise >= D2)).nonzero(
                as_tuple=True
            )
            place, value, apart = torch.stack([i + left.start, j + right.start]), cosines[i, j], D2[i, j] - noise[i, j]
            upper = place[0] < place[1]
            left_over = _kept(
                torch.cat([left_over[0], place[:, upper]], dim=1),
                torch.cat([left_over[1], value[upper]]),
                torch.cat([left_over[2], apart[upper]]),
                near,
            )
    (i, j), value, _ = left_over
    r2 = torch.stack([_apart(G, torch.arange(n, device=G.device), who[:, k]) for k in range(near.shape[1])], dim=1)
    r2 = torch.where(near.isinf(), -1.0, r2).amax(dim=1)  # of those that are apart at all
    r2 = torch.where(r2 < 0, torch.inf, r2)
    stay = _apart(G, i, j) <= NEARER * torch.maximum(r2[i], r2[j])
    value[value >= 1 - slack] = 1.0
    pairs = _identical(G, is_mean.nonzero().flatten().tolist())
    pairs += zip(i[stay].tolist(), j[stay].tolist(), value[stay].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def near_copies(
    G: Float[Tensor, "n M"], g: Float[Tensor, "m M"], threshold: SupportsFloat
) -> tuple[Bool[Tensor, " m"], Float[Tensor, " m"], Int[Tensor, " m"]]:
    """Return for each row of g whether it nearly is a row of G, by (1) and (2), its highest cosine with one, and which.

    gm is the mean of G, and r of both is measured among its rows. Rows equal to the mean have no direction: a cosine
    of 0. A high cosine alone is no copy.

    Args:
        G: Embeddings, of training pictures say; widened block by block.
        g: Others.
        threshold: In (0, 1], of (1).

    Raises:
        ValueError: Widths differ, one has no row, or ``threshold`` is out of range.
        TypeError: ``threshold`` is no number.
    """
    threshold = real_number("threshold", threshold)
    if not 0 < threshold <= 1:
        raise ValueError(f"`threshold` must be in (0, 1], a cosine; got {threshold!r}.")
    cosines, rows, r2 = _searched(G, g)
    near = cosines >= threshold - (G.shape[1] + 8) * EPS
    which = near.nonzero().flatten().to(G.device)
    there = rows.to(G.device)[which]
    _, _, r2_there = _searched(G, G[there]) if len(which) else (None, None, r2[:0])
    apart = (g.to(G.device)[which].to(torch.float64) - G[there].to(torch.float64)).square().sum(dim=1)
    near[which.to(near.device)] = (apart <= NEARER * torch.maximum(r2.to(apart)[which], r2_there.to(apart))).to(
        near.device
    )
    return near, cosines, rows


def _searched(G: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the highest cosine of each row of g, whose it is, and the squared distance to its fifth nearest of G."""
    require_tensor("G", G)
    require_tensor("g", g)
    if G.ndim != 2 or g.ndim != 2 or G.shape[1] != g.shape[1] or 0 in G.shape:
        raise ValueError(f"`G` and `g` must be (n, M) and (m, M); got {tuple(G.shape)} and {tuple(g.shape)}.")
    mean = weighted_mean(G, torch.ones(len(G), dtype=torch.float64, device=G.device))
    lengths = torch.cat([centred(G, mean, rows).norm(dim=1) for rows in blocks(*G.shape)])
    cosines, indices = [g.new_empty(0, dtype=torch.float64)], [torch.empty(0, dtype=torch.long, device=g.device)]
    r2 = [g.new_empty(0, dtype=torch.float64)]
    for part in g.split(256):
        x = part.to(torch.float64) - mean
        products = times(G, mean, x.mT)  # (n, b)
        scale = lengths.unsqueeze(1) * x.norm(dim=1)
        best = torch.where(scale > 0, products / scale, 0.0).max(dim=0)
        cosines.append(best.values)
        indices.append(best.indices)
        squares = lengths.square().unsqueeze(1) + x.square().sum(dim=1)
        D2 = squares - 2.0 * products
        apart = torch.where(4.0 * (G.shape[1] + 8) * EPS * squares >= D2, torch.inf, D2).sort(dim=0).values[:NEIGHBOURS]
        r2.append(torch.where(apart.isinf(), -1.0, apart).amax(dim=0))
    found = torch.cat(r2)
    return torch.cat(cosines), torch.cat(indices), torch.where(found < 0, torch.inf, found)


def _nearest(near: Tensor, who: Tensor, rows: slice, columns: slice, D2: Tensor) -> None:
    """Let the rows know the nearest of the columns; in place."""
    k = near.shape[1]
    best, place = D2.topk(min(k, D2.shape[1]), dim=1, largest=False)
    best, place = torch.cat([near[rows], best], dim=1), torch.cat([who[rows], place + columns.start], dim=1)
    near[rows], order = best.topk(k, dim=1, largest=False)
    who[rows] = place.gather(1, order)


def _farther(near: Tensor, left: slice, right: slice) -> Tensor:
    """Return max(r_i^2, r_j^2) as far as it is known, of a block; infinite where fewer neighbours were seen."""
    r2 = near[:, -1]
    return torch.maximum(r2[left, None], r2[right])


def _kept(ij: Tensor, value: Tensor, D2: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pairs for which (2) may still hold: r only falls as more neighbours are seen."""
    stay = NEARER * torch.maximum(near[ij[0], -1], near[ij[1], -1]) >= D2
    return ij[:, stay], value[stay], D2[stay]


def _apart(G: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return |g_i - g_j|^2 of pairs, from differences."""
    found = [
        (G[i[b]].to(torch.float64) - G[j[b]].to(torch.float64)).square().sum(dim=1) for b in blocks(len(i), G.shape[1])
    ]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64, device=G.device)


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
