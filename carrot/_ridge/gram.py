"""Inner products of the training rows: what the dual form needs to know of them, n^2 numbers whatever their width.

::

    N_ij = <g_i - c, g_j - c>,     c the mean when it was formed (0 without an intercept)                      (1)
    <g_i - gm, g_j - gm> = N_ij - u_i - u_j + q,     p = w / sum(w),   u = N p,   q = p^T N p = |gm - c|^2     (2)

Forming N costs n^2 D. When pictures leave, their rows and columns go; when they come, N gets a border; c stays, and (2)
moves the means: n^2. It subtracts, so it may cost digits once gm is far from c; N is formed afresh before it costs one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.blocks import inner_products, times, weighted_mean
from carrot._ridge.rows import Rows

DIGIT = 10.0  # how many times larger the squared distances to c may be than those to the mean


@dataclass(frozen=True, eq=False)
class Gram:
    """Inner products around a fixed point: equation (1).

    Attributes:
        c: Where distances are measured from.
        N: ``(G - c)(G - c)^T``, unweighted.
        fit_intercept: Whether means are taken out; without, c = 0.

    Exactness: exact up to rounding; ``tests/unit/test_gram.py``.
    """

    c: Float[Tensor, " D"]
    N: Float[Tensor, "n n"]
    fit_intercept: bool

    __repr__ = brief

    @classmethod
    def from_rows(cls, rows: Rows, fit_intercept: bool) -> "Gram":
        """Return the inner products around the weighted mean of the rows, or around 0."""
        c = weighted_mean(rows.G, rows.w) if fit_intercept else rows.w.new_zeros(rows.G.shape[1])
        return cls(c, inner_products(rows.G, c), fit_intercept)

    def keep(self, stay: Int[Tensor, " k"], rows: Rows) -> "Gram":
        """Return the inner products of ``rows``, which are those numbered ``stay``, ascending."""
        if len(stay) == len(self.N):  # others weigh more now, or less
            return self._near(rows)
        return Gram(self.c, self.N[stay.unsqueeze(-1), stay], self.fit_intercept)._near(rows)

    def border(self, rows: Rows) -> "Gram":
        """Return the inner products of ``rows``: those that were known, and new ones after them."""
        old, n = len(self.N), len(rows.G)
        N = self.N.new_empty(n, n)
        N[:old, :old] = self.N
        new = rows.G[old:].to(torch.float64) - self.c
        N[:, old:] = times(rows.G, self.c, new.mT)
        N[old:, :old] = N[:old, old:].mT
        return Gram(self.c, N, self.fit_intercept)._near(rows)

    def weighted(self, w: Float[Tensor, " n"]) -> Float[Tensor, "n n"]:
        """Return ``A A^T = sqrt(w_i w_j) <g_i - gm, g_j - gm>`` by equation (2): a new matrix."""
        M = self.N.clone()
        if self.fit_intercept:
            p = w / w.sum()
            u = M @ p
            M.sub_(u.unsqueeze(-1)).sub_(u).add_(p @ u)
        root = w.sqrt()
        return M.mul_(root.unsqueeze(-1)).mul_(root)

    def _near(self, rows: Rows) -> "Gram":
        """Return this, or formed afresh from the rows if their mean is so far from c that (2) would cost a digit."""
        if not self.fit_intercept:
            return self
        p = rows.w / rows.w.sum()
        around_c, step = float(p @ self.N.diagonal()), float(p @ self.N @ p)
        return self if around_c <= DIGIT * (around_c - step) else Gram.from_rows(rows, True)
