"""What heat is diffused on, once it is known to be that: a graph or a bare Laplacian; and Chebyshev's recurrence on it.

::

    exp(-tL) = sum_k c_k T_k(T),  T = 2S - I,  S = I - L                                                       (1)

(1) needs L's spectrum in [0, 1]: known of the graphs that are built here, whose W is a kernel. What comes as a bare L
must be symmetric, or it is refused. Where its off-diagonals are <= 0 and it is that of some graph with self-loops of
weight 1, S is >= 0 and has ``S sqrt(d) = sqrt(d)`` with ``d_i = 1 / S_ii``: then (Perron and Frobenius) its spectrum is
in [-1, 1], and (1) runs on (I + S) / 2 at 2t, which is the same. Any other L (combinatorial, without self-loops) is
diffused by its dense exponential or its spectrum.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned, pinned_class
from carrot._display.brief import brief
from carrot.graph import RegionGraph, require_symmetric
from carrot.utils import require_finite, require_float


@lru_cache(maxsize=256)
def chebyshev_coefficients(t: float, tol: float) -> tuple[float, ...]:
    """Return c_0 .. c_K of equation (4), K the smallest with ``sum_{k > K} c_k <= tol``.

    About ``sqrt(t log(1 / tol))`` terms for large t: 10 at t = 2 in float32.
    """
    from scipy.special import ive

    reach = 64 + int(12.0 * math.sqrt(t))  # c_k falls as exp(-k^2 / t): e^{-144} here
    c = [2.0 * float(x) for x in ive(np.arange(reach), t / 2.0)]
    c[0] /= 2.0
    tail, K = 0.0, reach - 1
    while K > 0 and tail + c[K] <= tol:
        tail += c[K]
        K -= 1
    return tuple(c[: K + 1])


@pinned()
def heat_path(
    apply_S: Callable[[Tensor], Tensor], v: Float[Tensor, "*b N R"], times: Sequence[float], tol: float
) -> list[Float[Tensor, "*b N R"]]:
    """Return ``exp(-t L) v`` for every t by one Chebyshev recurrence: T_k(T) v doesn't depend on t.

    Args:
        apply_S: Applies the normalised adjacency, ``X -> S X``; this function owns what it returns.
        v: Columns to diffuse.
        times: Diffusion times >= 0.
        tol: Bound on the spectral norm of what is left out.

    Exactness: approximate, with error at most ``tol |v|`` in every column, plus rounding.
    """
    coefficients = [chebyshev_coefficients(float(t), tol) for t in times]
    sums = [v * c[0] for c in coefficients]
    previous, current = v, None
    for k in range(1, max(map(len, coefficients))):
        if current is None:  # T_1 v = 2 S v - v
            current = apply_S(v).mul_(2.0).sub_(v)
        else:  # T_{k+1} v = 2 T T_k v - T_{k-1} v = 4 S T_k v - 2 T_k v - T_{k-1} v
            previous, current = current, apply_S(current).mul_(4.0).sub_(current, alpha=2.0).sub_(previous)
        for total, c in zip(sums, coefficients, strict=True):
            if k < len(c):
                total.add_(current, alpha=c[k])
    return sums


@pinned_class
@dataclass(frozen=True, eq=False)
class DiffusionSystem:
    """What is diffused on, checked once: a graph, or a bare Laplacian.

    Attributes:
        source: As it came.
        matrix: Its (..., N, N): W or L.
        apply_S: ``X -> S X``.
        is_kernel: Whether S is known to have its spectrum in [0, 1]; otherwise, if it is known at all, it is [-1, 1].
        size: The largest entry of L in absolute value, or 1.
        eps: Of the precision in which it came.
    """

    source: Tensor | RegionGraph
    matrix: Tensor
    apply_S: Callable[[Tensor], Tensor]
    is_kernel: bool
    size: float
    eps: float

    __repr__ = brief

    @classmethod
    def of(cls, L: Tensor | RegionGraph) -> "DiffusionSystem":
        """Return the system of a graph, free if it was built; of a bare L, once it is a symmetric matrix of numbers."""
        if isinstance(L, RegionGraph):
            return cls._of_graph(L.verified, torch.finfo(L.W.dtype).eps)
        require_float("L", L)
        require_finite("L", L)
        require_symmetric("L", L)
        return cls._of_matrix(L, torch.finfo(L.dtype).eps)

    @classmethod
    def _of_graph(cls, graph: RegionGraph, eps: float) -> "DiffusionSystem":
        W, root = graph.W, graph.degree.rsqrt().unsqueeze(-1)
        return cls(graph, W, lambda X: torch.matmul(W, root * X).mul_(root), graph.is_kernel, 1.0, eps)

    @classmethod
    def _of_matrix(cls, L: Tensor, eps: float) -> "DiffusionSystem":
        return cls(L, L, lambda X: X - torch.matmul(L, X), False, max(1.0, float(L.detach().abs().max())), eps)

    def to(self, dtype: torch.dtype) -> "DiffusionSystem":
        """Return it in another precision."""
        if isinstance(self.source, RegionGraph):
            g = self.source
            return self._of_graph(RegionGraph(g.W.to(dtype), g.degree.to(dtype), g.is_kernel), self.eps)
        return self._of_matrix(self.source.to(dtype), self.eps)

    @property
    def L(self) -> Tensor:
        """The Laplacian, written out."""
        return self.source.L if isinstance(self.source, RegionGraph) else self.source

    @property
    def has_known_spectrum(self) -> bool:
        """Whether S's spectrum is known to be in [-1, 1]: S >= 0 has a positive vector that it doesn't make larger."""
        if isinstance(self.source, RegionGraph):
            return True
        S_ii = 1.0 - self.matrix.diagonal(dim1=-2, dim2=-1)
        if bool((S_ii <= 0).any()) or bool((self.matrix - torch.diag_embed(1.0 - S_ii) > 0).any()):
            return False
        v = S_ii.rsqrt().unsqueeze(-1)  # sqrt(d), for self-loops of weight 1
        return bool((self.apply_S(v) <= (1.0 + self.eps**0.5) * v).all())

    def heat_path(self, v: Tensor, times: Sequence[float], tol: float) -> list[Tensor]:
        """Return ``exp(-t L) v`` for every t by equation (4); on (I + S) / 2 at 2t where S may have eigenvalues < 0."""
        if self.is_kernel:
            return heat_path(self.apply_S, v, times, tol)
        return heat_path(lambda X: self.apply_S(X).add_(X).mul_(0.5), v, [2.0 * t for t in times], tol)
