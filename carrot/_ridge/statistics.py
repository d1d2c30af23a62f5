"""Sufficient statistics of a ridge fit: they add over shards, in any order, on any machine.

::

    w = sum_i w_i,   gm = sum_i w_i g_i / w,
    S = sum_i w_i (g_i - gm)(g_i - gm)^T,   Q = sum_i w_i (g_i - gm)(y_i - ym)^T
    merge:  delta = gm_b - gm_a,   S = S_a + S_b + (w_a w_b / w) delta delta^T,   gm = gm_a + (w_b / w) delta

Moments are kept around their own mean, so that large means don't eat the digits of S; G^T G = S + w gm gm^T when asked.
Subtracting is the same formula with the weights of the second negated.

Reference: Chan, Golub and LeVeque, The American Statistician 37 (1983).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned_class
from carrot._display.brief import brief
from carrot._ridge.blocks import add_upper, each_block, mirror, roots, sum_of, weighted_sum
from carrot._ridge.passes import added
from carrot._ridge.rows import Rows
from carrot._ridge.targets import Targets

MOST_LOST = 1e3  # how much larger the moments may have been before pictures were taken away


@pinned_class
@dataclass(frozen=True, eq=False)
class RidgeStatistics:
    """What ridge regression needs to know of a set of pictures: O(D^2 + D C) numbers, float64, whatever their number.

    Attributes:
        n: Number of pictures.
        weight: Sum of their sample weights.
        g_mean, y_mean: Weighted means of embeddings and targets.
        S: Centred second moments of the embeddings, ``sum w (g - gm)(g - gm)^T``.
        Q: Centred cross moments with the targets, ``sum w (g - gm)(y - ym)^T``.
        peak: Largest ``size`` that they have had since they were taken from rows.
        reach: Largest target, in absolute value, of all pictures that were ever in them since.

    Exactness: exact up to rounding; ``tests/unit/test_statistics.py``.
    """

    n: int
    weight: float
    g_mean: Float[Tensor, " D"]
    y_mean: Float[Tensor, " C"]
    S: Float[Tensor, "D D"]
    Q: Float[Tensor, "D C"]
    peak: tuple[float, float] = (0.0, 0.0)
    reach: float = 0.0

    __repr__ = brief

    @property
    def size(self) -> tuple[float, float]:
        """Trace of S, and weight: what rounding is relative to."""
        return float(self.S.diagonal().sum()), self.weight

    def is_rounded(self, reach: float) -> bool:
        """Whether subtracting lost over three digits: the rows that stay, of this reach, say it better."""
        now = (*self.size, reach)
        return any(most > MOST_LOST * left for most, left in zip((*self.peak, self.reach), now, strict=True))

    @classmethod
    def from_rows(
        cls,
        G: Float[Tensor, "n D"],
        Y: Float[Tensor, "n C"] | Targets,
        sample_weight: Float[Tensor, " n"] | None = None,
    ) -> "RidgeStatistics":
        """Return the statistics of n >= 1 pictures: two passes over the rows, the means and then what is around them.

        Rows may be float32; they are widened by blocks. Cost: n D^2, half of a product of two matrices of that size;
        of labels Q is sums, of other targets n D C more.

        Raises:
            ValueError: There is no picture.
        """
        if G.shape[0] == 0:
            raise ValueError("`G` must hold at least one picture; got none.")
        ones = torch.ones(len(G), dtype=torch.float64, device=G.device)
        w = ones if sample_weight is None else sample_weight.to(ones)
        return cls.of(Rows(G, Y if isinstance(Y, Targets) else Targets.of(Y), w))

    @classmethod
    def of(cls, rows: Rows) -> "RidgeStatistics":
        """Return the statistics of rows, whoever goes over them: ``from_rows``."""
        weight = sum_of(rows.w)
        (total,) = added(rows, _Means())
        g_mean, y_mean = total / weight, rows.Y.mean(rows.w)
        S, Q_T, left = added(rows, _Around(g_mean, y_mean))
        Q = Q_T.mT.addr(left, y_mean, alpha=-1.0) if rows.Y.are_labels else Q_T.mT
        return cls(len(rows.w), float(weight), g_mean, y_mean, mirror(S), Q, reach=rows.Y.reach)

    def __add__(self, other: "RidgeStatistics") -> "RidgeStatistics":
        """Return the statistics of both sets together."""
        return self._merge(other, 1)

    def __sub__(self, other: "RidgeStatistics") -> "RidgeStatistics":
        """Return the statistics without those pictures, which must have been part of them.

        Raises:
            ValueError: Nothing would be left.
        """
        if other.n >= self.n:
            raise ValueError(f"Can't take {other.n} pictures away from {self.n}: at least one must be left.")
        return self._merge(other, -1)

    def moments(self, centred: bool) -> tuple[Float[Tensor, "D D"], Float[Tensor, "D C"]]:
        """Return (S, Q) around the mean if ``centred``, else (G^T G, G^T Y)."""
        if centred:
            return self.S, self.Q
        scaled = self.weight * self.g_mean
        return torch.addr(self.S, scaled, self.g_mean), torch.addr(self.Q, scaled, self.y_mean)

    def _merge(self, other: "RidgeStatistics", sign: int) -> "RidgeStatistics":
        if (self.S.shape, self.Q.shape) != (other.S.shape, other.Q.shape):
            raise ValueError(
                f"Statistics of different widths don't merge: (D, C) = {tuple(self.Q.shape)} and "
                f"{tuple(other.Q.shape)}. Embed both shards with the same backbone, and give both all classes."
            )
        other_weight = sign * other.weight
        weight = self.weight + other_weight
        if not weight > 0.0:
            raise ValueError(
                f"Can't take weight {other.weight:g} away from {self.weight:g}: those pictures were not part of this."
            )
        sizes = [self.peak, self.size, *([other.peak, other.size] if sign > 0 else [])]
        g_step, y_step = other.g_mean - self.g_mean, other.y_mean - self.y_mean
        share = self.weight * other_weight / weight
        return RidgeStatistics(
            n=self.n + sign * other.n,
            weight=weight,
            g_mean=self.g_mean + (other_weight / weight) * g_step,
            y_mean=self.y_mean + (other_weight / weight) * y_step,
            S=torch.addr(self.S, g_step, g_step, alpha=share).add_(other.S, alpha=sign),
            Q=torch.addr(self.Q, g_step, y_step, alpha=share).add_(other.Q, alpha=sign),
            peak=tuple(max(values) for values in zip(*sizes, strict=True)),
            reach=max(self.reach, other.reach),
        )


class _Means:
    """A pass: ``sum_i w_i g_i``."""

    def __call__(self, rows: Rows, start: int) -> tuple[Tensor]:
        return (weighted_sum(rows.G, rows.w),)


@dataclass(frozen=True, eq=False)
class _Around:
    """A pass: S, from the diagonal to the right, and Q^T around means; and sum_i w_i (g_i - gm).

    The last is rounding, which times ym the sums of a class lack.
    """

    g_mean: Tensor
    y_mean: Tensor

    def __call__(self, rows: Rows, start: int) -> tuple[Tensor, Tensor, Tensor]:
        D, root = len(self.g_mean), roots(rows.w)
        S, Q_T, left = (self.g_mean.new_zeros(shape) for shape in ((D, D), (rows.Y.C, D), (D,)))
        for block, A in each_block(rows.G, self.g_mean, root=root):
            add_upper(S, A.mT)
            wA = A if root is None else A.mul_(root[block].unsqueeze(-1))
            left += wA.sum(dim=0)
            rows.Y.add_products(Q_T, wA, block, self.y_mean)
        return S, Q_T, left
