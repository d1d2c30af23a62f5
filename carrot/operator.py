"""The analysable graph operator: heat diffusion ``exp(-tL)``, by four routes, on tokens or on one vector.

::

    H' = exp(-tL) H                                          the literal path                              (1)
    g  = H'^T r = H^T exp(-tL) r = H^T pi                    L is symmetric: one vector instead of D       (2)
    exp(-tL) = e^{-t/2} exp((t/2) T),  T = I - 2L = 2S - I   spectrum of T in [-1, 1]                      (3)
             = sum_k c_k T_k(T),  c_0 = e^{-t/2} I_0(t/2),  c_k = 2 e^{-t/2} I_k(t/2)                     (4)
    exp(-tL) ~ e^{-t} (I + U (exp(t Lambda) - I) U^T)        S U = U Lambda, the k leading pairs           (5)

I_k is the modified Bessel function, T_k the Chebyshev polynomial. All c_k are >= 0 and sum to 1, and |T_k| <= 1 on
[-1, 1], so the tail sum of c_k bounds the spectral norm of what (4) leaves out. (5) is the identity plus low rank, never plain truncation;
it leaves out at most ``e^{-t} (exp(t lambda_{k+1}) - 1)``. There is nothing to learn here.

Reference: Tal-Ezer and Kosloff, J. Chem. Phys. 81 (1984), for (4); Hammond et al., ACHA 30 (2011), for filters on graphs.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from carrot.ambient import pinned, pinned_class
from carrot.graph import RegionGraph
from carrot.utils import require_finite, require_float, require_shape

METHODS = ("auto", "expm", "eigh", "chebyshev", "truncated")
EXPM_MAX_REGIONS = 512  # above this many regions, Chebyshev on H is faster than a dense exponential
MAX_ROUNDING = 0.1  # refuse t where t eps is above this: the answer would be rounding
SUBSET_CHUNK = 4096  # columns of one block of the subset recurrence: bounds its memory at a few (N, 4096)


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
class DiffusionOperator:
    """Heat diffusion ``exp(-tL)`` on a region graph.

    Args:
        t: Diffusion time >= 0, dimensionless; 0 is the identity, so that the mean readout is mean pooling.
        method: "expm" (dense exponential), "eigh" (dense spectrum), "chebyshev" (action, equation 4), "truncated" (``rank`` leading
            eigenpairs, equation 5), or "auto": Chebyshev for one vector; for H "expm" up to 512 regions and Chebyshev
            above; "eigh" where t is so large that Chebyshev would need over 2 N terms.
        rank: Number of eigenpairs, >= 1, for "truncated" only. More than N means all.
        tol: Bound on what Chebyshev leaves out (spectral norm); default: the unit roundoff of the dtype.

    Exactness: "expm" and "eigh" exact up to rounding, which is about ``t eps`` (L's own rounding); the others within ``error_bound``;
    ``tests/unit/test_operator.py::test_every_route_equals_the_power_series``.

    Raises:
        ValueError: ``t`` is negative or not finite, the method is unknown, or rank and method don't fit.
    """

    def __init__(self, t: float, method: str = "auto", rank: int | None = None, tol: float | None = None) -> None:
        if not 0.0 <= float(t) < math.inf:
            raise ValueError(f"`t` must be a finite number >= 0; got {t!r}. t = 0 is mean pooling.")
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {METHODS}; got {method!r}.")
        if (rank is not None) != (method == "truncated"):
            raise ValueError(
                f"`rank` goes with method='truncated' and only with it; got rank={rank}, method={method!r}."
            )
        if rank is not None and rank < 1:
            raise ValueError(f"`rank` must be >= 1; got {rank}.")
        if tol is not None and not 0.0 < tol < 1.0:
            raise ValueError(f"`tol` must be in (0, 1); got {tol!r}.")
        self.t = float(t)
        self.method = method
        self.rank = rank
        self.tol = tol

    def __repr__(self) -> str:
        return f"DiffusionOperator(t={self.t}, method={self.method!r}, rank={self.rank}, tol={self.tol})"

    def __call__(self, H: Float[Tensor, "*b N D"], L: Float[Tensor, "*b N N"]) -> Float[Tensor, "*b N D"]:
        """Return ``exp(-tL) H``: same as ``forward``."""
        return self.forward(H, L)

    def forward(self, H: Float[Tensor, "*b N D"], L: Float[Tensor, "*b N N"]) -> Float[Tensor, "*b N D"]:
        """Return ``H' = exp(-tL) H``: the literal path of equation (1).

        Raises:
            ValueError: Shapes don't match, or L is not finite.
        """
        method = self._resolve(L, "expm" if L.shape[-1] <= EXPM_MAX_REGIONS else "chebyshev")
        return self._apply(H, L, method)

    def pull_back(self, r: Float[Tensor, "*#b N"], L: Float[Tensor, "*b N N"] | RegionGraph) -> Float[Tensor, "*#b N"]:
        """Return ``pi = exp(-tL) r``, the weight with which each region enters ``g = H^T pi`` (equation 2).

        Args:
            r: Readout weights, taken to the graph's dtype and device; one vector serves a batch of graphs.
            L: The Laplacian, or the graph itself: then Chebyshev applies S and never forms L.

        Raises:
            ValueError: Shapes don't match, or L is not finite.
        """
        return self.pull_back_path(r, L, [self.t])[0]

    def pull_back_path(
        self, r: Float[Tensor, "*#b N"], L: Float[Tensor, "*b N N"] | RegionGraph, times: Sequence[float]
    ) -> list[Float[Tensor, "*#b N"]]:
        """Return ``exp(-t L) r`` for each of ``times`` (this operator's own t plays no part).

        With Chebyshev all times share one recurrence: the cost is that of the largest.

        Raises:
            ValueError: A time is negative or not finite, or shapes don't match.
        """
        if not times:
            raise ValueError("`times` must hold at least one diffusion time; got none.")
        operators = [DiffusionOperator(t, self.method, self.rank, self.tol) for t in times]
        matrix = L.W if isinstance(L, RegionGraph) else _checked(L)
        require_shape("r", r, matrix.shape[-1:], "the graph's regions")
        require_finite("r", r)
        r = r.to(matrix).expand(*matrix.shape[:-1]).unsqueeze(-1)  # (..., N, 1)
        slowest = max(operators, key=lambda op: op.t)
        if slowest._resolve(matrix, "chebyshev") == "chebyshev":
            tol = self._tol(matrix.dtype)
            return [x.squeeze(-1) for x in heat_path(_adjacency_action(L, r), r, times, tol)]
        L = L.L if isinstance(L, RegionGraph) else L
        return [op._apply(r, L, op._resolve(L, "chebyshev")).squeeze(-1) for op in operators]

    def pull_back_subsets(
        self, graph: RegionGraph, keep: Bool[Tensor, "*#b N R"], r: Float[Tensor, "*#b N"] | None = None
    ) -> Float[Tensor, "*#b N R"]:
        """Return pi for R subsets of the regions at once: what each picture's weights are with the other regions deleted.

        Deleting regions deletes their nodes: degrees, Laplacian, diffusion and readout are those of the sub-graph. With M = keep,

            Deg = W M,   Rho = M / sqrt(Deg),   S_r x = Rho_r * (W (Rho_r * x)),   r_r = M_r * r / sum(M_r * r)

        and the recurrence of equation (4) runs on all columns: two products with W a term instead of one matrix
        exponential a subset. Always by Chebyshev, whatever ``method`` says.

        Args:
            graph: The graph of all N regions.
            keep: True where subset r (a column) keeps region i. An empty column gives pi = 0: nothing is left, g = 0.
            r: Readout weights >= 0 of all regions, restricted to what is left and renormalised; default uniform. Where all that is left has
                weight 0 (a source readout may underflow: e^-88 in float32, e^-708 in float64), nothing is left, as with an empty column.

        Returns:
            pi, with exact zeros on deleted regions.

        Exactness: exact within ``tol``; ``tests/unit/test_operator.py::test_subsets_equal_rebuilding_the_subgraph``.

        Raises:
            ValueError: ``keep`` doesn't match the graph.
            TypeError: ``keep`` is not boolean.
        """
        W = graph.W
        N = W.shape[-1]
        if keep.dtype != torch.bool:
            raise TypeError(f"`keep` must be boolean; got {keep.dtype}. Use `keep.bool()`.")
        if keep.shape[-2] != N:
            raise ValueError(
                f"`keep` must be (..., {N}, R), a column for each subset of N = {N} regions; got {tuple(keep.shape)}."
            )
        r = torch.ones(N, dtype=W.dtype, device=W.device) if r is None else r.to(W)
        require_shape("r", r, (N,), "the graph's regions")
        require_finite("r", r)
        if bool((r < 0).any()):
            raise ValueError("`r` must be >= 0 to be renormalised over what is left; got a negative weight.")
        tol = self._tol(W.dtype)
        blocks = []
        for block in keep.split(SUBSET_CHUNK, dim=-1):
            M = block.to(W.dtype)
            Rho = M * torch.matmul(W, M).clamp_(min=1.0).rsqrt_()  # degrees of kept nodes are >= 1 in every sub-graph

            def apply_S(X: Tensor, Rho: Tensor = Rho) -> Tensor:
                return torch.matmul(W, Rho * X).mul_(Rho)

            start = M * r.unsqueeze(-1)
            total = start.sum(dim=-2, keepdim=True)
            start = start / torch.where(total > 0, total, torch.ones_like(total))
            start = start.expand(*torch.broadcast_shapes(start.shape, Rho.shape))
            blocks.append(heat_path(apply_S, start, [self.t], tol)[0])
        return torch.cat(blocks, dim=-1)

    def filter(self, eigenvalues: Float[Tensor, "*k"]) -> Float[Tensor, "*k"]:
        """Return the transfer function ``exp(-t lambda)`` at eigenvalues of L: what the operator does to each graph frequency."""
        return torch.exp(-self.t * eigenvalues)

    def error_bound(self, L: Float[Tensor, "*b N N"]) -> Float[Tensor, "*b"]:
        """Return a bound on the spectral norm of what the route that ``pull_back`` takes leaves out, rounding aside.

        0 for the dense routes, ``tol`` for Chebyshev; "truncated" needs the spectrum for it: O(N^3).
        """
        method = self._resolve(L, "chebyshev")
        zero = torch.zeros(L.shape[:-2], dtype=L.dtype, device=L.device)
        if method == "chebyshev":
            return zero + self._tol(L.dtype)
        if method == "truncated" and self.rank is not None and self.rank < L.shape[-1]:
            next_lambda = 1.0 - torch.linalg.eigvalsh(L)[..., self.rank]  # of S; eigvalsh is ascending in L
            return torch.exp(self.t * (next_lambda - 1.0)) - math.exp(-self.t)
        return zero

    def _tol(self, dtype: torch.dtype) -> float:
        return self.tol if self.tol is not None else torch.finfo(dtype).eps / 2.0

    def _resolve(self, L: Tensor, default: str) -> str:
        if self.t * torch.finfo(L.dtype).eps > MAX_ROUNDING:
            raise ValueError(
                f"`t` = {self.t:g} is beyond {L.dtype}: rounding of L alone moves exp(-tL) by about t eps = "
                f"{self.t * torch.finfo(L.dtype).eps:.1g}. Use float64 tokens, or the limit that t has reached long before."
            )
        if self.method != "auto":
            return self.method
        terms = math.sqrt(self.t * math.log(1.0 / self._tol(L.dtype)))  # of Chebyshev, for large t
        return "eigh" if terms > max(2 * L.shape[-1], 64) else default

    def _apply(self, X: Tensor, L: Tensor, method: str) -> Tensor:  # (..., N, K), (..., N, N) -> (..., N, K)
        _checked(L)
        require_finite("H", X)
        N = X.shape[-2]
        if L.shape[-2:] != (N, N):
            raise ValueError(
                f"`L` must be ({N}, {N}) to match H with N = {N} regions; got {tuple(L.shape[-2:])}. "
                "Build both from the same RegionSet."
            )
        X = X.expand(*torch.broadcast_shapes(X.shape[:-2], L.shape[:-2]), *X.shape[-2:])
        if method == "expm":
            return torch.matmul(torch.linalg.matrix_exp(-self.t * L), X)
        if method == "chebyshev":
            return heat_path(_adjacency_action(L, X), X, [self.t], self._tol(L.dtype))[0]
        eigenvalues, U = torch.linalg.eigh(L)  # ascending in L: the leading pairs of S come first
        eigenvalues = eigenvalues.clamp(min=0.0)  # below 0 is rounding, and exp(-t lambda) would blow it up
        if method == "eigh":
            return torch.matmul(U, self.filter(eigenvalues).unsqueeze(-1) * torch.matmul(U.mT, X))
        U, eigenvalues = U[..., : self.rank], eigenvalues[..., : self.rank]
        gain = self.filter(eigenvalues) - math.exp(-self.t)  # e^{-t} (exp(t lambda_S) - 1), without overflow
        return math.exp(-self.t) * X + torch.matmul(U, gain.unsqueeze(-1) * torch.matmul(U.mT, X))


def _checked(L: Tensor) -> Tensor:
    """Return L; refuse half precision, NaN and infinity."""
    require_float("L", L)
    require_finite("L", L)
    return L


def _adjacency_action(L: Tensor | RegionGraph, X: Tensor) -> Callable[[Tensor], Tensor]:
    """Return ``X -> S X`` from L (S X = X - L X) or from the graph (without forming S or L)."""
    N = X.shape[-2]
    matrix = L.W if isinstance(L, RegionGraph) else L
    if matrix.shape[-2:] != (N, N):
        raise ValueError(
            f"`L` must be ({N}, {N}) to match N = {N} regions; got {tuple(matrix.shape[-2:])}. "
            "Build both from the same RegionSet."
        )
    if isinstance(L, RegionGraph):
        root = L.degree.rsqrt().unsqueeze(-1)
        W = L.W
        return lambda x: torch.matmul(W, root * x).mul_(root)
    return lambda x: x - torch.matmul(L, x)
