"""The complete region graph: Gaussian kernels on place and feature, and the normalised Laplacian.

::

    (1)  W_ij = exp(-|p_i - p_j|^2 / (2 sigma_s^2)) * exp(-|h_i - h_j|^2 / (2 (sigma_f m)^2)),   W_ii = 1
    (2)  d    = W 1
    (3)  S    = D^{-1/2} W D^{-1/2},   D = diag(d)
    (4)  L    = I - S

m is the picture's own median pairwise feature distance, so that ``sigma_feature`` means the same for every backbone.
W is a Schur product of two Gaussian kernels: positive semidefinite. S is similar to the stochastic matrix D^{-1} W, so
S and L both have their spectrum in [0, 1]. The diagonal of W stays: d >= 1, and nothing ever divides by zero.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from carrot.ambient import pinned, pinned_class
from carrot.regions import RegionSet
from carrot.utils import require_positive

MIRROR_MIN_REGIONS, MIRROR_MIN_WIDTH = 512, 64  # from here on, half of the product and a copy beat the whole product
SAMPLE_STRIDE = 61  # prime: a stride that divided N would see few columns


@pinned_class
@dataclass(frozen=True, eq=False)
class RegionGraph:
    """A weighted complete graph on the regions of one picture or of a batch. Unpacks as ``W, L = graph``.

    Attributes:
        W: Adjacency, symmetric (to rounding), in [0, 1], ones on the diagonal.
        degree: Row sums of W, >= 1.
    """

    W: Float[Tensor, "*b N N"]
    degree: Float[Tensor, "*b N"]

    @cached_property
    def S(self) -> Float[Tensor, "*b N N"]:
        """Normalised adjacency ``D^{-1/2} W D^{-1/2}``, spectrum in [0, 1], largest eigenvalue 1."""
        root = self.degree.rsqrt()
        return root[..., :, None] * self.W * root[..., None, :]

    @cached_property
    def L(self) -> Float[Tensor, "*b N N"]:
        """Normalised Laplacian ``I - S``, spectrum in [0, 1]."""
        return torch.eye(self.W.shape[-1], dtype=self.W.dtype, device=self.W.device) - self.S

    def __iter__(self) -> Iterator[Tensor]:
        yield self.W
        yield self.L


@pinned()
def squared_distances(X: Float[Tensor, "*b N K"]) -> Float[Tensor, "*b N N"]:
    """Return ``|x_i - x_j|^2 = |x_i|^2 + |x_j|^2 - 2 <x_i, x_j>`` by one product, clamped at 0, exactly 0 on the diagonal.

    Exactness: exact up to rounding of ``eps * max_i |x_i - mean|^2``, since X is centred first: see ``_distances_to_scale``
    for pictures where that is not small beside the median.
    """
    X = X - X.mean(dim=-2, keepdim=True)  # distances don't change, rounding shrinks
    norms = torch.linalg.vecdot(X, X)
    D2 = _gram(X).mul_(-2.0).add_(norms[..., :, None]).add_(norms[..., None, :]).clamp_(min=0.0)
    D2.diagonal(dim1=-2, dim2=-1).zero_()
    return D2


@pinned()
def median_pairwise(D2: Float[Tensor, "*b N N"]) -> Float[Tensor, "*b"]:
    """Return the lower median of the N (N - 1) / 2 off-diagonal entries of a symmetric D2 >= 0 with a zero diagonal.

    Of an even number of pairs it is the smaller of the two in the middle (as ``torch.median``), so that it commutes with
    the square root. 0 for N = 1. Sorted, the full matrix holds N zeros and then every pair twice: one selection does it.
    """
    N = D2.shape[-1]
    if N == 1:
        return D2[..., 0, 0]
    D2 = D2.detach()
    rank = N + 2 * ((N * (N - 1) // 2 - 1) // 2)  # 0-based, in the sorted N x N entries
    flat = D2.flatten(-2)
    if flat.device.type != "cpu":
        return flat.sort(dim=-1).values[..., rank]  # a GPU sorts 1,369^2 numbers sooner than it selects one
    rows = flat.reshape(-1, N * N).numpy()
    return torch.from_numpy(np.stack([_order_statistic(row, rank) for row in rows])).reshape(D2.shape[:-2])


def _distances_to_scale(H: Tensor) -> tuple[Tensor, Tensor]:  # (..., N, D) -> (..., N, N), (...)
    """Return squared distances and their median, the median good to 1e-4 relative at least.

    The product's rounding, eps |x|^2, is nothing beside an ordinary median. Where most tokens coincide (flat background, padding) it is
    not: there the distances are taken again from differences, which are 0 where tokens are equal.
    """
    D2 = squared_distances(H)
    m2 = median_pairwise(D2)
    spread = 4.0 * D2[..., 0, :].amax(dim=-1)  # >= max_i |x_i - mean|^2, by the triangle inequality
    coarse = m2 <= 1e4 * torch.finfo(H.dtype).eps * spread
    if bool(coarse.any()):
        X = H - H.mean(dim=-2, keepdim=True)
        differences = torch.cdist(X[coarse], X[coarse], compute_mode="donot_use_mm_for_euclid_dist").square()
        D2[coarse] = differences
        m2[coarse] = median_pairwise(differences)
    return D2, m2


def _gram(X: Tensor) -> Tensor:  # (..., N, D) -> (..., N, N)
    """Return ``X X^T``; for large N only the blocks on and above the diagonal are multiplied, the rest is their mirror."""
    N = X.shape[-2]
    if N < MIRROR_MIN_REGIONS or X.shape[-1] < MIRROR_MIN_WIDTH:
        return torch.matmul(X, X.mT)
    G = X.new_empty(*X.shape[:-1], N)
    step = -(-N // 4)
    for a in range(0, N, step):
        b = min(a + step, N)
        block = torch.matmul(X[..., a:b, :], X[..., a:, :].mT)
        G[..., a:b, a:] = block
        G[..., b:, a:b] = block[..., b - a :].mT
    return G


def _order_statistic(values: NDArray[np.floating], rank: int) -> np.floating:
    """Return the entry of 0-based ``rank`` in sorted order, exactly; O(len) with few passes.

    A sorted sample brackets it, one pass counts what lies below the bracket, and only the few inside are partitioned. Should the
    bracket miss it, all entries are.
    """
    sample = np.sort(values[::SAMPLE_STRIDE])
    centre, margin = rank // SAMPLE_STRIDE, 8 + 2 * int(len(sample) ** 0.5)
    low, high = sample[max(centre - margin, 0)], sample[min(centre + margin, len(sample) - 1)]
    inside = values[(values >= low) & (values <= high)]
    place = rank - int(np.count_nonzero(values < low))
    if not 0 <= place < len(inside):
        inside, place = values, rank
    return np.partition(inside, place)[place]


@pinned_class
@dataclass(frozen=True)
class RegionGraphBuilder:
    """Builds the region graph: equations (1) to (4) above.

    Nothing here is learnt or depends on any other picture: that is what makes leave-one-out over training pictures exact.

    Attributes:
        sigma_spatial: Bandwidth of the kernel on places, in units of P (half of the picture's longer side).
        sigma_feature: Bandwidth of the kernel on features, in units of m.
        feature_scale: "median": m is the picture's own (lower) median pairwise feature distance, and the feature kernel is 1 where all
            features are equal. A positive number: m is that number (1.0 gives the formula with sigma in feature units).

    Raises:
        ValueError: A bandwidth or scale is not a finite number > 0.

    Exactness: exact up to rounding; ``tests/unit/test_graph.py::test_graph_equals_the_double_loop``.
    """

    sigma_spatial: float = 0.5
    sigma_feature: float = 1.0
    feature_scale: str | float = "median"

    def __post_init__(self) -> None:
        require_positive("sigma_spatial", self.sigma_spatial)
        require_positive("sigma_feature", self.sigma_feature)
        if isinstance(self.feature_scale, str):
            if self.feature_scale != "median":
                raise ValueError(f"`feature_scale` must be 'median' or a number > 0; got {self.feature_scale!r}.")
        else:
            require_positive("feature_scale", self.feature_scale)

    def build(self, regions: RegionSet) -> RegionGraph:
        """Return the graph of ``regions``; a batch gives a batch of graphs. Costs one (N, D) by (D, N) product.

        Global regions are nodes without an edge (but to themselves): diffusion leaves them as they are, and the bandwidth is that of the
        others.

        Raises:
            ValueError: The features are so large that their squares overflow.
        """
        if regions.num_global:
            return _isolated(self.build(regions.local), regions.num_global)
        W = self._feature_exponent(regions.features)
        P = regions.isotropic_positions.to(W.dtype)
        W.sub_(squared_distances(P).div_(2.0 * self.sigma_spatial**2)).exp_()
        degree = W.sum(dim=-1)
        if not bool(torch.isfinite(degree).all()):
            raise ValueError(
                "`features` are too large, or a bandwidth too small, to be squared in their precision: the graph has NaN. "
                "Look at the scale of the tokens, or use float64."
            )
        return RegionGraph(W=W, degree=degree)

    def _feature_exponent(self, H: Tensor) -> Tensor:  # (..., N, D) -> (..., N, N)
        if not isinstance(self.feature_scale, str):
            return squared_distances(H).mul_(-0.5 / (self.sigma_feature * self.feature_scale) ** 2)
        D2, m2 = _distances_to_scale(H)
        # Below this the differences are rounding of H itself: the regions are identical, and the kernel is 1.
        rounding = (8.0 * torch.finfo(H.dtype).eps) ** 2 * torch.linalg.vecdot(H, H).amax(dim=-1)
        factor = torch.where(m2 > rounding, -0.5 / (self.sigma_feature**2 * m2), torch.zeros_like(m2))
        return D2.mul_(factor[..., None, None])


def _isolated(graph: RegionGraph, K: int) -> RegionGraph:
    """Return the graph with K more nodes, at the end, each with its self-loop alone."""
    N = graph.W.shape[-1]
    W = graph.W.new_zeros(*graph.W.shape[:-2], N + K, N + K)
    W[..., :N, :N] = graph.W
    W.diagonal(dim1=-2, dim2=-1)[..., N:] = 1.0
    return RegionGraph(W, torch.nn.functional.pad(graph.degree, (0, K), value=1.0))
