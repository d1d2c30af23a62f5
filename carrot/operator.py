"""The analysable graph operator: heat diffusion ``exp(-tL)``, by four routes, on tokens or on one vector.

::

    H' = exp(-tL) H                                          the literal path                              (1)
    g  = H'^T r = H^T exp(-tL) r = H^T pi                    L is symmetric: one vector instead of D       (2)
    exp(-tL) = e^{-t/2} exp((t/2) T),  T = I - 2L = 2S - I   spectrum of T in [-1, 1]                      (3)
             = sum_k c_k T_k(T),  c_0 = e^{-t/2} I_0(t/2),  c_k = 2 e^{-t/2} I_k(t/2)                     (4)
    exp(-tL) ~ e^{-t} (I + U (exp(t Lambda) - I) U^T)        S U = U Lambda, the k leading pairs           (5)

I_k is the modified Bessel function, T_k the Chebyshev polynomial. All c_k are >= 0 and sum to 1, and |T_k| <= 1 on
[-1, 1], so the tail sum of c_k bounds the spectral norm of what (4) leaves out. (5) is the identity plus low rank,
never plain truncation; it leaves out at most ``e^{-t} (exp(t lambda_{k+1}) - 1)``. There is nothing to learn here. What
(4) needs to know of L's spectrum is in ``carrot.laplacian``.

Reference: Tal-Ezer and Kosloff, J. Chem. Phys. 81 (1984), for (4); Hammond et al., ACHA 30 (2011), for filters on
graphs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import SupportsFloat, SupportsIndex

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from carrot._ambient import pinned_class
from carrot.graph import RegionGraph
from carrot.laplacian import DiffusionSystem
from carrot.utils import real_number, require_finite, require_float, require_shape, require_tensor, whole_number

METHODS = ("auto", "expm", "eigh", "chebyshev", "truncated")
EXPM_MAX_REGIONS = 512  # above this many regions, Chebyshev on H is faster than a dense exponential
MAX_ROUNDING = 0.1  # refuse t where t eps is above this: the answer would be rounding
SUBSET_CHUNK = 4096  # columns of one block of the subset recurrence: bounds its memory at a few (N, 4096)


@pinned_class
class DiffusionOperator:
    """Heat diffusion ``exp(-tL)`` on a region graph.

    Args:
        t: Diffusion time >= 0, dimensionless; 0 is the identity, so that the mean readout is mean pooling.
        method: "expm" (dense exponential), "eigh" (dense spectrum), "chebyshev" (action, equation 4), "truncated"
            (``rank`` leading eigenpairs, equation 5), or "auto": Chebyshev for one vector; for H "expm" up to 512
            regions and Chebyshev above; "eigh" where t is so large that Chebyshev would need over 2 N terms.
        rank: Number of eigenpairs, >= 1, for "truncated" only. More than N means all.
        tol: Bound on what Chebyshev leaves out (spectral norm); default: the unit roundoff of the dtype.

    Exactness: "expm" and "eigh" exact up to rounding, which is about ``t eps`` (L's own rounding); the others within
        ``error_bound``; ``tests/unit/test_operator.py::test_every_route_equals_the_power_series``.

    Raises:
        TypeError: ``t``, ``rank`` or ``tol`` is no number.
        ValueError: ``t`` is negative or not finite, the method is unknown, or rank and method don't fit.
    """

    def __init__(
        self,
        t: SupportsFloat,
        method: str = "auto",
        rank: SupportsIndex | None = None,
        tol: SupportsFloat | None = None,
    ) -> None:
        if not 0.0 <= real_number("t", t) < math.inf:
            raise ValueError(f"`t` must be a finite number >= 0; got {t!r}. t = 0 is mean pooling.")
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {METHODS}; got {method!r}.")
        if (rank is not None) != (method == "truncated"):
            raise ValueError(
                f"`rank` goes with method='truncated' and only with it; got rank={rank}, method={method!r}."
            )
        if tol is not None and not 0.0 < real_number("tol", tol) < 1.0:
            raise ValueError(f"`tol` must be in (0, 1); got {tol!r}.")
        self.t = float(t)
        self.method = method
        self.rank = None if rank is None else whole_number("rank", rank, 1)
        self.tol = None if tol is None else float(tol)

    def __repr__(self) -> str:
        return f"DiffusionOperator(t={self.t}, method={self.method!r}, rank={self.rank}, tol={self.tol})"

    def __call__(self, H: Float[Tensor, "*b N D"], L: Float[Tensor, "*b N N"] | RegionGraph) -> Float[Tensor, "*b N D"]:
        """Return ``exp(-tL) H``: same as ``forward``."""
        return self.forward(H, L)

    def forward(self, H: Float[Tensor, "*b N D"], L: Float[Tensor, "*b N N"] | RegionGraph) -> Float[Tensor, "*b N D"]:
        """Return ``H' = exp(-tL) H``: the literal path of equation (1).

        Args:
            H: Tokens; tokens and graph of two precisions meet in the wider.
            L: The Laplacian, any symmetric one, or the graph itself.

        Raises:
            TypeError: H or L is neither float32 nor float64.
            ValueError: Shapes don't match, L is not finite or not symmetric, or the method needs another spectrum.
        """
        system = DiffusionSystem.of(L)
        require_float("H", H)
        require_finite("H", H)
        _require_regions(system, H.shape[-2])
        dtype = torch.promote_types(H.dtype, system.matrix.dtype)
        if dtype != system.matrix.dtype:
            system = system.to(dtype)
        H = H.to(dtype)
        method = self._resolve(system, "expm" if H.shape[-2] <= EXPM_MAX_REGIONS else "chebyshev")
        return self._apply(H, system, method)

    def pull_back(self, r: Float[Tensor, "*#b N"], L: Float[Tensor, "*b N N"] | RegionGraph) -> Float[Tensor, "*#b N"]:
        """Return ``pi = exp(-tL) r``, the weight with which each region enters ``g = H^T pi`` (equation 2).

        Args:
            r: Readout weights, taken to the graph's dtype and device; one vector serves a batch of graphs.
            L: The Laplacian, any symmetric one, or the graph itself: then Chebyshev applies S and never forms L.

        Raises:
            TypeError: L is neither float32 nor float64.
            ValueError: Shapes don't match, L is not finite or not symmetric, or the method needs another spectrum.
        """
        return self._pulled(r, L, [self])[0]

    def pull_back_path(
        self, r: Float[Tensor, "*#b N"], L: Float[Tensor, "*b N N"] | RegionGraph, times: Sequence[SupportsFloat]
    ) -> list[Float[Tensor, "*#b N"]]:
        """Return ``exp(-t L) r`` for each of ``times`` (this operator's own t plays no part).

        With Chebyshev all times share one recurrence: the cost is that of the largest.

        Raises:
            TypeError, ValueError: As ``pull_back``, or a time is negative or not finite.
        """
        operators = [DiffusionOperator(t, self.method, self.rank, self.tol) for t in times]
        if not operators:
            raise ValueError("`times` must hold at least one diffusion time; got none.")
        return self._pulled(r, L, operators)

    def pull_back_subsets(
        self,
        graph: RegionGraph,
        keep: Bool[Tensor, "*#b N R"],
        r: Float[Tensor, "*#b N"] | None = None,
        restricted: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "*#b N R"]:
        """Return pi for R subsets of regions at once: what each picture's weights are with the other regions deleted.

        Deleting regions deletes their nodes: degrees, Laplacian, diffusion and readout are those of the sub-graph. With
        M = keep,

            Deg = W M,   Rho = M / sqrt(Deg),   S_r x = Rho_r * (W (Rho_r * x)),   r_r = M_r * r / sum(M_r * r)

        and the recurrence of equation (4) runs on all columns: two products with W a term instead of one matrix
        exponential a subset. Always by Chebyshev, whatever ``method`` says.

        Args:
            graph: The graph of all N regions.
            keep: True where subset r (a column) keeps region i. An empty column gives pi = 0: nothing is left, g = 0.
            r: Readout weights >= 0 of all regions, restricted to what is left and renormalised; default uniform. Where
                all that is left has weight 0 (a source readout may underflow: e^-88 in float32, e^-708 in float64),
                nothing is left, as with an empty column.
            restricted: Columns of ``keep`` to what a readout weighs with these regions alone, where that is not r
                renormalised: ``BoundReadout.rule``.

        Returns:
            pi, with exact zeros on deleted regions.

        Exactness: exact within ``tol``; ``tests/unit/test_operator.py::test_subsets_equal_rebuilding_the_subgraph``.

        Raises:
            ValueError: ``keep`` doesn't match the graph, or W or degree is not what a graph's must be.
            TypeError: ``keep`` is not boolean.
        """
        require_tensor("keep", keep)
        system = DiffusionSystem.of(graph)
        W = system.matrix
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

            if restricted is None:
                start = M * r.unsqueeze(-1)
                total = start.sum(dim=-2, keepdim=True)
                start = start / torch.where(total > 0, total, torch.ones_like(total))
            else:
                start = restricted(block).to(W)
            start = start.expand(*torch.broadcast_shapes(start.shape, Rho.shape))
            blocks.append(replace(system, apply_S=apply_S).heat_path(start, [self.t], tol)[0])
        return torch.cat(blocks, dim=-1)

    def filter(self, eigenvalues: Float[Tensor, "*k"]) -> Float[Tensor, "*k"]:
        """Return the transfer function ``exp(-t lambda)`` at eigenvalues of L: what becomes of each graph frequency."""
        return torch.exp(-self.t * eigenvalues)

    def error_bound(self, L: Float[Tensor, "*b N N"] | RegionGraph) -> Float[Tensor, "*b"]:
        """Return a bound on the spectral norm of what the route that ``pull_back`` takes leaves out, rounding aside.

        0 for the dense routes, ``tol`` for Chebyshev; "truncated" needs the spectrum for it: O(N^3).

        Raises:
            TypeError, ValueError: As ``pull_back``.
        """
        system = DiffusionSystem.of(L)
        matrix = system.matrix
        method = self._resolve(system, "chebyshev")
        zero = torch.zeros(matrix.shape[:-2], dtype=matrix.dtype, device=matrix.device)
        if method == "chebyshev":
            return zero + self._tol(matrix.dtype)
        if method == "truncated" and self.rank is not None and self.rank < matrix.shape[-1]:
            spectrum = torch.linalg.eigvalsh(
                system.L
            )  # ascending: what is left out is e^{-t lambda} - e^{-t}, monotone in lambda
            ends = torch.exp(-self.t * spectrum[..., [self.rank, -1]]) - math.exp(-self.t)
            return ends.abs().amax(dim=-1)
        return zero

    def _pulled(self, r: Tensor, L: Tensor | RegionGraph, operators: Sequence["DiffusionOperator"]) -> list[Tensor]:
        """Return pi of each operator; they differ from this one in t alone."""
        system = DiffusionSystem.of(L)
        matrix = system.matrix
        require_shape("r", r, matrix.shape[-1:], "the graph's regions")
        require_finite("r", r)
        r = r.to(matrix).expand(*matrix.shape[:-1]).unsqueeze(-1)  # (..., N, 1)
        slowest = max(operators, key=lambda op: op.t)
        if slowest._resolve(system, "chebyshev") == "chebyshev":
            path = system.heat_path(r, [op.t for op in operators], self._tol(matrix.dtype))
            return [x.squeeze(-1) for x in path]
        return [op._apply(r, system, op._resolve(system, "chebyshev")).squeeze(-1) for op in operators]

    def _tol(self, dtype: torch.dtype) -> float:
        return self.tol if self.tol is not None else torch.finfo(dtype).eps / 2.0

    def _resolve(self, system: DiffusionSystem, default: str) -> str:
        """Return the route; refuse one whose answer would be wrong."""
        eps, N = torch.finfo(system.matrix.dtype).eps, system.matrix.shape[-1]
        if self.t * eps * system.size > MAX_ROUNDING:
            raise ValueError(
                f"`t` = {self.t:g} is beyond {system.matrix.dtype}: rounding of L alone moves exp(-tL) by about "
                f"t eps |L| = {self.t * eps * system.size:.1g}. Use float64 tokens, or the limit that t has reached "
                "long before."
            )
        if self.method == "auto":
            terms = math.sqrt(self.t * math.log(1.0 / self._tol(system.matrix.dtype)))  # of Chebyshev, for large t
            is_out = default == "chebyshev" and not system.has_known_spectrum
            return "eigh" if is_out or terms > max(2 * N, 64) else default
        if self.method == "chebyshev" and not system.has_known_spectrum:
            raise ValueError(
                "method='chebyshev' needs a normalised Laplacian with self-loops, whose spectrum is known; this `L` is "
                "symmetric and no more. Pass the graph of `RegionGraphBuilder`, or use method='auto', 'eigh' or 'expm'."
            )
        return self.method

    def _apply(self, X: Tensor, system: DiffusionSystem, method: str) -> Tensor:  # (..., N, K) -> (..., N, K)
        batch = torch.broadcast_shapes(X.shape[:-2], system.matrix.shape[:-2])
        X = X.expand(*batch, *X.shape[-2:])
        if method == "chebyshev":
            return system.heat_path(X, [self.t], self._tol(X.dtype))[0]
        L = system.L
        if method == "expm":
            L = L.double()  # torch's exponential of float32 is off by up to 130 eps
            return _finite(torch.matmul(torch.linalg.matrix_exp(-self.t * L).to(X.dtype), X))
        eigenvalues, U = torch.linalg.eigh(L)  # ascending in L: the leading pairs of S come first
        rounding = L.shape[-1] * torch.finfo(L.dtype).eps * eigenvalues.abs().amax(dim=-1, keepdim=True)
        # exp(-t lambda) would blow rounding below 0 up
        eigenvalues = eigenvalues.where(eigenvalues.abs() > rounding, 0.0)
        if method == "eigh":
            return _finite(torch.matmul(U, self.filter(eigenvalues).unsqueeze(-1) * torch.matmul(U.mT, X)))
        U, eigenvalues = U[..., : self.rank], eigenvalues[..., : self.rank]
        gain = self.filter(eigenvalues) - math.exp(-self.t)  # e^{-t} (exp(t lambda_S) - 1), without overflow
        return _finite(math.exp(-self.t) * X + torch.matmul(U, gain.unsqueeze(-1) * torch.matmul(U.mT, X)))


def _require_regions(system: DiffusionSystem, N: int) -> None:
    if system.matrix.shape[-1] != N:
        raise ValueError(
            f"`L` must be ({N}, {N}) to match H with N = {N} regions; got {tuple(system.matrix.shape[-2:])}. "
            "Build both from the same RegionSet."
        )


def _finite(X: Tensor) -> Tensor:
    """Return X; refuse what overflowed, which an L with eigenvalues below 0 brings about."""
    if not bool(torch.isfinite(X).all()):
        raise ValueError(
            f"exp(-tL) overflows {X.dtype}: `L` has large eigenvalues below 0, or `t` is too large for it."
        )
    return X
