"""Squared residuals of many rows at many penalties, at a cost that hardly grows with penalties or classes.

With ``A^T A = V diag(s) V^T``, Z = A V and T = Z^T B, the residual of a row (z, b) is r = b - z (s + lam)^{-1} T, and

::

    |r|^2 = |b|^2 - 2 sum_a z_a h_a f_a + sum_ab z_a z_b M_ab f_a f_b                                            (1)
            f_a = 1 / (s_a + lam),   h = T b,   M = T T^T

    f_a f_b = (f_a - f_b) / (s_b - s_a)              partial fractions, for eigenvalues that are apart           (2)
            = (f_a^2 + f_b^2) / 2                    for those that are close, to 1/2 ((s_b - s_a) / (s + lam))^2 (3)

By (2) a pair of directions is two single ones: u = N z with N_ab = M_ab / (s_b - s_a) serves every penalty, and the
double sum is ``2 sum_a z_a u_a f_a``. So k penalties of C classes cost a row D^2 + D C + 3 k D multiplications, not
k D C.

(2) divides by the gap: a term loses digits as it closes. ``CLOSE`` is where what (3) leaves out is as small as that.

After a step of elimination the residual of row j is r_j - a_ji r_i, and

::

    |r_j - a r_i|^2 = |r_j|^2 - 2 a <r_j, r_i> + a^2 |r_i|^2                                                    (4)

one product for all pairs. It loses twice the digits that the difference itself does, and where the pair is nearly alone
in a direction (copies, at a small lam) it is divided by what is as small: there the difference is taken first.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.blocks import blocks

CLOSE = 1e-5  # of the larger eigenvalue: below this gap two eigenvalues are close
NOISE = 1e-9  # of |b|^2: no more is lost, by (3) 1e-10, by rounding in (2) less than that
LEFT = 1e-4  # of the sum of what (4) adds up, at least: four digits are lost


@dataclass(frozen=True, eq=False)
class Squares:
    """What (1) needs to know of all rows, whatever the penalty.

    Attributes:
        s: Eigenvalues of ``A^T A``.
        target: T.
        N: Of pairs that are apart.
        M: Of each direction with itself, which is close.
        near: Directions that are close to another ..
        off: .. and M of these pairs, 0 on its diagonal: a product of few columns, where few are close.

    Exactness: to ``NOISE`` of ``|b|^2``; ``tests/unit/test_squares.py``.
    """

    s: Float[Tensor, " D"]
    target: Float[Tensor, "D C"]
    N: Float[Tensor, "D D"]
    M: Float[Tensor, " D"]
    near: Int[Tensor, " c"]
    off: Float[Tensor, "c c"]

    __repr__ = brief

    @classmethod
    def of(cls, s: Float[Tensor, " D"], target: Float[Tensor, "D C"]) -> "Squares":
        """Return it of eigenvalues and T."""
        M, gap = target @ target.mT, s - s.unsqueeze(-1)
        close = _close(s)
        N = torch.where(close, 0.0, M / gap.masked_fill(close, 1.0))
        others = close.fill_diagonal_(False)
        near = others.any(dim=1).nonzero().flatten()
        return cls(s, target, N, M.diagonal().clone(), near, torch.where(others, M, 0.0)[near][:, near])

    def at(
        self,
        Z: Float[Tensor, "b D"],
        along: Float[Tensor, "b D"],
        sizes: Float[Tensor, " b"],
        lams: Float[Tensor, " k"],
    ) -> Float[Tensor, "b k"]:
        """Return ``|r|^2`` of rows at each penalty.

        Args:
            Z: The rows' z.
            along: Their ``h = T b``; overwritten.
            sizes: Their ``|b|^2``.
            lams: The penalties.
        """
        f = 1.0 / (self.s.unsqueeze(-1) + lams)
        single = along.addmm_(Z, self.N.mT, beta=-1.0).mul_(Z).mul_(2.0)
        close = (Z * self.M).index_add_(1, self.near, Z[:, self.near] @ self.off)
        return (single @ f).add_(close.mul_(Z) @ f.square()).add_(sizes.unsqueeze(-1))


def pays(D: int, C: int, k: int) -> bool:
    """Return whether that is less work than k products of D x C, each row's."""
    return D + C + 3 * k < k * C


def of_differences(
    R: Float[Tensor, "n C"],
    R_i: Float[Tensor, "b C"],
    a: Float[Tensor, "n b"],
    size: Float[Tensor, "n 1"] | None = None,
) -> Float[Tensor, "n b"]:
    """Return ``|r_j - a_ji r_i|^2`` of every pair: equation (4). ``size``: ``|r_j|^2``, where it is at hand."""
    size = R.square().sum(dim=1, keepdim=True) if size is None else size
    apart = a.square() * R_i.square().sum(dim=1)
    found = (R @ R_i.mT).mul_(a).mul_(-2.0).add_(apart).add_(size)
    cancelled = (found < LEFT * (apart + size)).nonzero()
    for some in blocks(len(cancelled), R.shape[1]):
        j, i = cancelled[some].unbind(dim=1)
        found[j, i] = (R[j] - a[j, i].unsqueeze(-1) * R_i[i]).square_().sum(dim=1)
    return found


def _close(s: Float[Tensor, " D"]) -> Bool[Tensor, "D D"]:
    larger = torch.maximum(s, s.unsqueeze(-1))
    return (s - s.unsqueeze(-1)).abs() <= CLOSE * larger
