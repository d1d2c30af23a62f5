"""Sufficient statistics of a ridge fit: they add over shards, in any order, on any machine.

::

    w = sum_i w_i,   gm = sum_i w_i g_i / w,   S = sum_i w_i (g_i - gm)(g_i - gm)^T,   Q = sum_i w_i (g_i - gm)(y_i - ym)^T
    merge:  delta = gm_b - gm_a,   S = S_a + S_b + (w_a w_b / w) delta delta^T,   gm = gm_a + (w_b / w) delta

Moments are kept around their own mean, so that large means don't eat the digits of S; G^T G = S + w gm gm^T when asked.
Subtracting is the same formula with the weights of the second negated.

Reference: Chan, Golub and LeVeque, The American Statistician 37 (1983).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from carrot.utils import widen


@dataclass(frozen=True, eq=False)
class RidgeStatistics:
    """What ridge regression needs to know of a set of pictures: O(D^2 + D C) numbers, float64, whatever their number.

    Attributes:
        n: Number of pictures.
        weight: Sum of their sample weights.
        g_mean, y_mean: Weighted means of embeddings and targets.
        S: Centred second moments of the embeddings, ``sum w (g - gm)(g - gm)^T``.
        Q: Centred cross moments with the targets, ``sum w (g - gm)(y - ym)^T``.

    Exactness: exact up to rounding; ``tests/unit/test_statistics.py``.
    """

    n: int
    weight: float
    g_mean: Float[Tensor, " D"]
    y_mean: Float[Tensor, " C"]
    S: Float[Tensor, "D D"]
    Q: Float[Tensor, "D C"]

    @classmethod
    def from_rows(
        cls, G: Float[Tensor, "n D"], Y: Float[Tensor, "n C"], sample_weight: Float[Tensor, " n"] | None = None
    ) -> "RidgeStatistics":
        """Return the statistics of n >= 1 pictures.

        Raises:
            ValueError: There is no picture.
        """
        if G.shape[0] == 0:
            raise ValueError("`G` must hold at least one picture; got none.")
        G, Y = widen(G, Y)
        w = torch.ones_like(G[:, 0]) if sample_weight is None else sample_weight.to(G)
        total = w.sum()
        g_mean, y_mean = w @ G / total, w @ Y / total
        root = w.sqrt().unsqueeze(-1)
        A, B = root * (G - g_mean), root * (Y - y_mean)
        return cls(G.shape[0], float(total), g_mean, y_mean, A.mT @ A, A.mT @ B)

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
        return self.S + torch.outer(scaled, self.g_mean), self.Q + torch.outer(scaled, self.y_mean)

    def _merge(self, other: "RidgeStatistics", sign: int) -> "RidgeStatistics":
        if (self.S.shape, self.Q.shape) != (other.S.shape, other.Q.shape):
            raise ValueError(
                f"Statistics of different widths don't merge: (D, C) = {tuple(self.Q.shape)} and {tuple(other.Q.shape)}. "
                "Embed both shards with the same backbone, and give both all classes."
            )
        other_weight = sign * other.weight
        weight = self.weight + other_weight
        if not weight > 0.0:
            raise ValueError(
                f"Can't take weight {other.weight:g} away from {self.weight:g}: those pictures were not part of this."
            )
        g_step, y_step = other.g_mean - self.g_mean, other.y_mean - self.y_mean
        share = self.weight * other_weight / weight
        return RidgeStatistics(
            n=self.n + sign * other.n,
            weight=weight,
            g_mean=self.g_mean + (other_weight / weight) * g_step,
            y_mean=self.y_mean + (other_weight / weight) * y_step,
            S=self.S + sign * other.S + share * torch.outer(g_step, g_step),
            Q=self.Q + sign * other.Q + share * torch.outer(g_step, y_step),
        )
