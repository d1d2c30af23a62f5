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

from carrot._ridge.blocks import blocks, centred, times, weighted_mean
from carrot._ridge.gram import Gram
from carrot.evaluation.screening import EPS, CentredRows, Screen, screens
from carrot.utils import real_number, require_finite, require_float, require_tensor

SIDE = 4096  # rows of a block of cosines at most: SIDE^2 numbers, 128 MiB
MANY = 64  # pairs a row, on average, that are settled after a screen; more: a finer screen
NEIGHBOURS = 5  # the fifth nearest says how far pictures of a kind are apart
NEARER = 0.25  # square of 1/2, equation (2)


def near_duplicates(
    G: Float[Tensor, "n M"], threshold: SupportsFloat, known: Gram | None = None
) -> list[tuple[int, int, float]]:
    """Return the pairs i < j for which (1) and (2) hold, with their cosine, highest first, then by i, j; gm: the mean.

    Cosines are screened, in float32 or from inner products that are at hand, and what the rounding of that leaves open
    is settled in float64 from the rows themselves: which pairs there are depends on the rows alone.

    Rounding: a cosine of M float64 products is right to (M + 8) eps, 4e-12 at M = 18,528. So much below ``threshold``
    still counts, and so much below 1 is reported as 1.0: exact copies are always found, at 1.0. (An angle below
    sqrt(2 (M + 8) eps), some 1e-6, can't be told from a copy this way.)

    A row equal to the mean has no direction: its pairs are with rows that are identical to it, at 1.0, and no others.
    Equal means: nearer than the rounding of the mean itself, (n + 8) eps times the root mean square of the rows' norms.

    More than five pictures that are nearly the same, and equally so, are a class of their own to (2): of such a burst
    only exact copies are told.

    Cost: n^2 M / 2 multiplications and additions in float32, or none; n M for each row that is as like another as
    ``threshold``, fewer from inner products; a few blocks of 128 MiB beside G (more only where one row is wider).

    Args:
        G: Embeddings, float32 or float64; widened before they are centred, block by block.
        threshold: In (0, 1], of (1).
        known: Their inner products, where a head has them (``RidgeHead.gram``).

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
    if len(G) < 2:
        return []
    rows = CentredRows.of(G)
    ways = list(screens(rows, known))
    found = next(pairs for way in ways if (pairs := _settled(rows, threshold, way, way is ways[-1])) is not None)
    is_mean = (~rows.has_direction).nonzero().flatten().tolist()
    return sorted([*found, *_identical(G, is_mean)], key=lambda pair: (-pair[2], pair[0], pair[1]))


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


def _settled(rows: CentredRows, threshold: float, screen: Screen, is_last: bool) -> list[tuple[int, int, float]] | None:
    """Return the pairs of rows that have a direction; None where the screen leaves too many open.

    (2) holds for a pair if it holds with the r of one of both; whatever may be as near to that one as its fifth nearest
    is settled. A screen that ``is_last`` leaves none too many.
    """
    n, M = rows.G.shape
    slack, found, settled = (M + 8) * EPS, dict[tuple[int, int], float](), 0
    least = threshold - slack - screen.margin
    alike = (_alike(screen, least, rows) & rows.has_direction).nonzero().flatten()
    for part in blocks(len(alike), 4 * n):
        i = alike[part]
        cosines = screen.lines(i).to(torch.float64)
        squares = rows.norm[i, None].square() + rows.norm.square()
        D2 = squares - 2.0 * rows.norm[i, None] * rows.norm * cosines
        D2[torch.arange(len(i), device=i.device), i] = torch.inf  # the row itself
        least_D2 = D2 - screen.margin * squares
        other = least_D2 > 4.0 * slack * squares  # copies don't count among the five
        r2 = _fifth(torch.where(other, D2 + screen.margin * squares, torch.inf))
        like = (cosines >= least) & rows.has_direction
        asked = (like & (least_D2 <= NEARER * r2)).any(dim=1)
        i, like, least_D2, squares, r2 = i[asked], like[asked], least_D2[asked], squares[asked], r2[asked]
        a, j = ((least_D2 <= r2) & ~least_D2.isposinf()).nonzero(as_tuple=True)
        settled += len(a)
        if settled > MANY * n and not is_last:
            return None
        apart = torch.full_like(squares, torch.inf)
        apart[a, j] = rows.apart(i[a], j)
        others = torch.where(apart > 4.0 * slack * squares, apart, torch.inf)
        stay = like[a, j] & (apart[a, j] <= NEARER * _fifth(others, all_there=False)[a, 0])
        a, j = i[a[stay]], j[stay]
        value = rows.cosines(a, j)
        value[value >= 1 - slack] = 1.0
        for one, two, cosine in zip(a.tolist(), j.tolist(), value.tolist(), strict=True):
            if cosine >= threshold - slack:
                found[min(one, two), max(one, two)] = cosine
    return [(one, two, cosine) for (one, two), cosine in found.items()]


def _fifth(D2: Tensor, all_there: bool = True) -> Tensor:
    """Return the fifth smallest of each line, (b, 1), infinite where there are fewer.

    Unless ``all_there``, the largest that there is instead; infinite where there is none at all.
    """
    nearest = D2.topk(min(NEIGHBOURS, D2.shape[1] - 1), dim=1, largest=False).values
    if all_there:
        return nearest[:, -1:]
    r2 = torch.where(nearest.isinf(), -1.0, nearest).amax(dim=1, keepdim=True)
    return torch.where(r2 < 0, torch.inf, r2)


def _alike(screen: Screen, least: float, rows: CentredRows) -> Tensor:
    """Return which rows have a screened cosine of at least so much with another."""
    found, n = torch.zeros_like(rows.has_direction), len(rows.norm)
    pieces = blocks(n, max(screen.width, SIDE))
    for a, left in enumerate(pieces):
        for right in pieces[a:]:
            cosines = screen.block(left, right)
            if left == right:
                cosines.fill_diagonal_(-torch.inf)
            near = cosines.amax(dim=1) >= least
            if bool(near.any()):
                found[left] |= near
                found[right] |= cosines.amax(dim=0) >= least
    return found


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
