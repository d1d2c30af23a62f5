"""The complete region graph: Gaussian kernels on place and feature, and the normalised Laplacian.

::

    (1)  W_ij = exp(-|p_i - p_j|^2 / (2 sigma_s^2)) * exp(-|h_i - h_j|^2 / (2 (sigma_f m)^2)),   W_ii = 1
    (2)  d    = W 1
    (3)  S    = D^{-1/2} W D^{-1/2},   D = diag(d)
    (4)  L    = I - S

m is the picture's own median pairwise feature distance, so that ``sigma_feature`` means the same for every backbone; it
is never less than the rounding of the tokens, ``8 eps max_i |h_i|``. So where most tokens are equal and the median is 0
(padding, flat ground), (1) is its own limit: the feature kernel is 1 for equal tokens and 0 for unlike ones. Where all
are equal it is 1. It stays a Gaussian, and positive semidefinite, whatever m. W is a Schur product of two Gaussian
kernels: positive semidefinite. S is similar to the stochastic matrix D^{-1} W, so S and L both have their spectrum in
[0, 1]. The diagonal of W stays: d >= 1, and nothing ever divides by zero.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from carrot._ambient import pinned, pinned_class
from carrot._display.brief import brief
from carrot._display.graphs import GraphView
from carrot.regions import RegionSet
from carrot.utils import directions_of, require_finite, require_float, require_positive, require_shape

MIRROR_MIN_REGIONS, MIRROR_MIN_WIDTH = 512, 64  # from here on, half of the product and a copy beat the whole product
FEATURE_SCALES = ("median", "direction")
SAMPLE_STRIDE = 61  # prime: a stride that divided N would see few columns


@pinned_class
@dataclass(frozen=True, eq=False)
class RegionGraph(GraphView):
    """A weighted complete graph on the regions of one picture or of a batch. Unpacks as ``W, L = graph``.

    Attributes:
        W: Adjacency, symmetric (to rounding), >= 0, ones on the diagonal.
        degree: Row sums of W, >= 1.
        is_kernel: Whether W is known to be all that and positive semidefinite, as the builder's are: nothing is checked
            then. Any other graph is, when it is first diffused on, and costs sqrt 2 times the terms: L has its spectrum
            in [0, 2].
    """

    W: Float[Tensor, "*b N N"]
    degree: Float[Tensor, "*b N"]
    is_kernel: bool = False

    __repr__ = brief

    @cached_property
    def S(self) -> Float[Tensor, "*b N N"]:
        """Normalised adjacency ``D^{-1/2} W D^{-1/2}``, spectrum in [0, 1], largest eigenvalue 1."""
        root = self.degree.rsqrt()
        S = root[..., :, None] * self.W * root[..., None, :]
        return 0.5 * (S + S.mT)  # symmetric to the bit

    @cached_property
    def L(self) -> Float[Tensor, "*b N N"]:
        """Normalised Laplacian ``I - S``, spectrum in [0, 1]."""
        return torch.eye(self.W.shape[-1], dtype=self.W.dtype, device=self.W.device) - self.S

    @cached_property
    def verified(self) -> "RegionGraph":
        """Itself, if W and degree are what they must be; costs nothing for one that was built.

        Raises:
            TypeError: W is neither float32 nor float64.
            ValueError: W is not symmetric, below 0 or not 1 on its diagonal, or degree is not its row sums.
        """
        if self.is_kernel:
            return self
        W = self.W
        require_float("W", W)
        require_finite("W", W)
        require_symmetric("W", W)
        if bool((W < 0).any()) or bool((W.diagonal(dim1=-2, dim2=-1) != 1).any()):
            raise ValueError(
                "`W` must be >= 0 with ones on its diagonal: every region has its self-loop, and only then has "
                f"L = I - S its spectrum in [0, 2]; got entries from {float(W.min()):g}, a diagonal from "
                f"{float(W.diagonal(dim1=-2, dim2=-1).min()):g}. Use `RegionGraphBuilder`."
            )
        require_shape("degree", self.degree, W.shape[:-1], "W")
        if bool(((self.degree - W.sum(dim=-1)).abs() > torch.finfo(W.dtype).eps ** 0.5 * self.degree).any()):
            raise ValueError("`degree` must be the row sums of `W`; it is not. Pass `W.sum(dim=-1)`.")
        return self

    def __iter__(self) -> Iterator[Tensor]:
        yield self.W
        yield self.L


def require_symmetric(name: str, matrix: Float[Tensor, "*b N N"]) -> None:
    """Refuse a matrix that is not square, or not symmetric to rounding (a relative sqrt(eps)).

    Raises:
        ValueError: It is not.
    """
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"`{name}` must be (..., N, N), square; got {tuple(matrix.shape)}.")
    values = matrix.detach()
    apart = float((values - values.mT).abs().max())
    if apart > torch.finfo(matrix.dtype).eps ** 0.5 * float(values.abs().max()):
        raise ValueError(
            f"`{name}` must be symmetric: pooling with pi = exp(-tL) r is diffusing and then pooling only then; "
            f"entries differ from their mirror images by up to {apart:.2g}. Use the graph of `RegionGraphBuilder`, or "
            f"`0.5 * ({name} + {name}.mT)`."
        )


@pinned()
def squared_distances(X: Float[Tensor, "*b N K"]) -> Float[Tensor, "*b N N"]:
    """Return ``|x_i - x_j|^2 = |x_i|^2 + |x_j|^2 - 2 <x_i, x_j>`` by one product, clamped at 0, its diagonal exactly 0.

    Exactness: exact up to rounding of ``eps * max_i |x_i - mean|^2``, since X is centred first: see ``_in_bandwidths``
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

    Of an even number of pairs it is the smaller of the two in the middle (as ``torch.median``), so that it commutes
    with the square root. 0 for N = 1. Sorted, the full matrix holds N zeros and then every pair twice: one selection
    does it.
    """
    N = D2.shape[-1]
    if N == 1:
        return torch.zeros_like(D2[..., 0, 0])
    D2 = D2.detach()
    rank = N + 2 * ((N * (N - 1) // 2 - 1) // 2)  # 0-based, in the sorted N x N entries
    flat = D2.flatten(-2)
    if flat.device.type != "cpu":
        return flat.sort(dim=-1).values[..., rank]  # a GPU sorts 1,369^2 numbers sooner than it selects one
    rows = flat.reshape(-1, N * N).numpy()
    return torch.from_numpy(np.stack([_order_statistic(row, rank) for row in rows])).reshape(D2.shape[:-2])


def _in_bandwidths(H: Tensor, sigma: float) -> Tensor:  # (..., N, D) -> (..., N, N)
    """Return ``|h_i - h_j|^2 / (sigma m)^2``, m as in equation (1).

    It is 0 where tokens are equal, or to 1e-4 where the product says it well.

    The product's rounding, eps |x|^2, is nothing beside an ordinary median. Where most tokens coincide
    (flat background, padding) it is not: there the distances are taken again from differences.
    """
    D2 = squared_distances(H)
    m2 = median_pairwise(D2)
    rounding = _rounding(H)
    coarse = _is_coarse(D2, min(1.0, sigma * sigma) * m2) | (m2 <= rounding)
    if bool(coarse.any()):
        X = H[coarse]
        size = X.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(H.dtype).tiny)
        X = X / torch.exp2(size.log2().floor())  # no square underflows; by a power of two, which rounds no token
        differences = _differences(X)
        D2[coarse] = differences
        m2[coarse] = torch.maximum(median_pairwise(differences), _rounding(X).clamp(min=torch.finfo(H.dtype).eps ** 2))
    return D2.div_((sigma * sigma * m2)[..., None, None])


def _rounding(H: Tensor) -> Tensor:  # (..., N, D) -> (...)
    """Return the square of ``8 eps max_i |h_i|``: two tokens that are nearer than this are one."""
    return (8.0 * torch.finfo(H.dtype).eps) ** 2 * torch.linalg.vecdot(H, H).amax(dim=-1)


def _is_coarse(D2: Tensor, bandwidth2: Tensor | float) -> Tensor:  # (..., N, N), (...) -> (...)
    """Return whether the product's rounding shows in a kernel of this squared bandwidth."""
    spread = 4.0 * D2[..., 0, :].amax(dim=-1)  # >= max_i |x_i - mean|^2, by the triangle inequality
    return bandwidth2 <= 1e4 * torch.finfo(D2.dtype).eps * spread


def _differences(X: Tensor) -> Tensor:  # (..., N, D) -> (..., N, N)
    """Return the squared distances from differences: exactly 0 where tokens are equal, and slow."""
    return torch.cdist(X, X, compute_mode="donot_use_mm_for_euclid_dist").square()


def _between_places(P: Tensor) -> Tensor:  # (N, 2) -> (N, N)
    """Return the squared distances of places, from differences: exactly 0 between regions at one place."""
    x, y = (c.unsqueeze(-1) - c for c in P.unbind(dim=-1))
    return x.mul_(x).addcmul_(y, y)


def _gram(X: Tensor) -> Tensor:  # (..., N, D) -> (..., N, N)
    """Return ``X X^T``; for large N only the blocks on and above the diagonal are multiplied, the rest is mirrored."""
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

    A sorted sample brackets it, one pass counts what lies below the bracket, and only the few inside are partitioned.
    Should the bracket miss it, all entries are.
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

    Nothing here is learnt or depends on any other picture: that is what makes leave-one-out over training pictures
    exact.

    Attributes:
        sigma_spatial: Bandwidth of the kernel on places, in units of P (half of the picture's longer side).
        sigma_feature: Bandwidth of the kernel on features, in units of m.
        feature_scale: "median": m is the picture's own (lower) median pairwise feature distance, or the rounding of the
            tokens where that is larger (see above). A positive number: m is that number (1.0 gives the formula with
            sigma in feature units). "direction": distances are between h_i / |h_i|, and m = 1: an edge then depends on
            its two ends alone, and dropping regions moves no other edge.

    Raises:
        TypeError: A bandwidth or scale is no number.
        ValueError: It is not finite, or not above 0.

    Exactness: exact up to rounding; ``tests/unit/test_graph.py::test_graph_equals_the_double_loop``.
    """

    sigma_spatial: float = 0.5
    sigma_feature: float = 1.0
    feature_scale: str | float = "median"

    def __post_init__(self) -> None:
        for name in ("sigma_spatial", "sigma_feature"):
            object.__setattr__(self, name, require_positive(name, getattr(self, name)))
        if isinstance(self.feature_scale, str):
            if self.feature_scale not in FEATURE_SCALES:
                raise ValueError(
                    f"`feature_scale` must be 'median', 'direction' or a number > 0; got {self.feature_scale!r}."
                )
        else:
            object.__setattr__(self, "feature_scale", require_positive("feature_scale", self.feature_scale))

    def build(self, regions: RegionSet) -> RegionGraph:
        """Return the graph of ``regions``; a batch gives a batch of graphs. Costs one (N, D) by (D, N) product.

        Global regions are nodes without an edge (but to themselves): diffusion leaves them as they are, and the
        bandwidth is that of the others.

        Raises:
            ValueError: The features are so large that their squares overflow.
        """
        if regions.num_global:
            return _isolated(self.build(regions.local), regions.num_global)
        W = self._feature_distances(regions.features)
        P = regions.isotropic_positions.to(W.dtype) / self.sigma_spatial
        W.add_(_between_places(P)).mul_(-0.5).exp_()
        degree = W.sum(dim=-1)
        if not bool(torch.isfinite(degree).all()):
            raise ValueError(
                "`features` are too large, or a bandwidth too small, to be squared in their precision: the graph has "
                "NaN. Look at the scale of the tokens, or use float64."
            )
        return RegionGraph(W=W, degree=degree, is_kernel=True)

    def _feature_distances(self, H: Tensor) -> Tensor:  # (..., N, D) -> (..., N, N)
        """Return squared distances in units of the bandwidth."""
        if self.feature_scale == "median":
            return _in_bandwidths(H, self.sigma_feature)
        scale = 1.0 if isinstance(self.feature_scale, str) else self.feature_scale
        X = (directions_of(H) if self.feature_scale == "direction" else H) / (self.sigma_feature * scale)
        D2 = squared_distances(X)
        coarse = _is_coarse(D2, 1.0)
        if bool(coarse.any()):
            D2[coarse] = _differences(X[coarse])
        return D2


def _isolated(graph: RegionGraph, K: int) -> RegionGraph:
    """Return the graph with K more nodes, at the end, each with its self-loop alone."""
    N = graph.W.shape[-1]
    W = graph.W.new_zeros(*graph.W.shape[:-2], N + K, N + K)
    W[..., :N, :N] = graph.W
    W.diagonal(dim1=-2, dim2=-1)[..., N:] = 1.0
    return RegionGraph(W, torch.nn.functional.pad(graph.degree, (0, K), value=1.0), is_kernel=graph.is_kernel)
