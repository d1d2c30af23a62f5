r"""The lift: a fixed map of each token before pooling, so that exactness costs no accuracy.

::

    g = sum_i pi_i phi(h_i)                                      the kernel mean embedding of the picture's regions  (1)
    k(a, b) = <phi(a), phi(b)>                                   what stands wherever <a, b> stood                   (2)
    logit_c = b_c + sum_i pi_i <phi(h_i), w_c>                   still a sum over regions                            (3)

phi is applied token by token, is not learnt, and has seen no training picture: taking a training picture away changes
no embedding. So every formula of ``carrot.attribution`` holds with phi(h) for h. The graph is built on the tokens
themselves.

::

    identity    phi(h) = h                                       k(a, b) = <a, b>           M = D                    (4)
    quadratic   phi(h) = vech(h h^T), off-diagonals times sqrt 2     k(a, b) = <a, b>^2     M = D (D + 1) / 2        (5)
    relu        phi(h) = sqrt(2 / M) max(0, Omega^T h)           the arc-cosine kernel, as M grows                   (6)
    fourier     phi(h) = sqrt(2 / M) [cos, sin](Omega^T h / |h|)     exp(-gamma |a/|a| - b/|b||^2), as M grows       (7)
    sketch      phi(h) = ifft(fft(C_1 h) fft(C_2 h))             <a, b>^2, as M grows                                (8)

(5) is never written out for single tokens: pooled, it is one product H^T diag(pi) H, and <phi(h), w_c> = h^T W_c h with
W_c a symmetric D x D matrix. The k of (6) to (8) is the inner product of their own phi, exactly; their random numbers
come from a seed, float64.

Reference: Muandet et al., Kernel mean embedding, Foundations and Trends in ML 10 (2017), for (1); Cho and Saul, NeurIPS
2009, for (6); Rahimi and Recht, NeurIPS 2007, for (7); Pham and Pagh, KDD 2013, for (8).
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import SupportsFloat, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned_class
from carrot._choices import LIFTS, read
from carrot.readout import embed
from carrot.utils import directions_of, require_positive, require_shape, require_tensor, whole_number, widen

DEFAULT_WIDTH = 4096  # M of relu, fourier and sketch
NUMBERS = 2**24  # float64 numbers that exist at a time: 128 MB


@pinned_class
class Lift:
    """A fixed token-wise map phi: (D,) -> (M,). All results are float64, whatever the tokens are.

    Subclasses say ``dim`` and ``features``; what follows is true of any phi, and may be computed better where phi
    allows it.

    Attributes:
        name: One of ``carrot._choices.LIFTS``.

    Exactness: exact; ``tests/unit/test_lift.py``, and ``tests/claims/test_15_lifted_regions.py`` for the attributions
    under each.
    """

    name: str

    def dim(self, D: int) -> int:
        """Return M, the width of phi(h) for tokens of width D."""
        raise TypeError(f"{type(self).__name__} must say its own `dim`.")

    def features(self, H: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N M"]:
        """Return phi(h_i) written out: for looking at, and as the slow path. N M numbers a picture."""
        raise TypeError(f"{type(self).__name__} must say its own `features`.")

    def embed(self, H: Float[Tensor, "*b N D"], pi: Float[Tensor, "*b N"]) -> Float[Tensor, "*b M"]:
        """Return ``g = sum_i pi_i phi(h_i)``: equation (1).

        Raises:
            ValueError: ``pi`` doesn't match the regions of H.
        """
        H, pi = _pooled(H, pi)
        N, D = H.shape[-2:]
        M = self.dim(D)
        pictures = max(1, NUMBERS // (N * M))  # whose features exist at a time
        flat = zip(H.reshape(-1, N, D).split(pictures), pi.reshape(-1, N).split(pictures), strict=True)
        return torch.cat([embed(self.features(h), p) for h, p in flat]).reshape(*H.shape[:-2], M)

    def kernel(self, A: Float[Tensor, "*b N D"], B: Float[Tensor, "*b K D"]) -> Float[Tensor, "*b N K"]:
        """Return ``k(a_i, b_j)``: equation (2).

        Raises:
            ValueError: The widths differ.
        """
        require_tensor("A", A)
        require_shape("B", B, (A.shape[-1],), "the width of A")
        return self.features(A) @ self.features(B).mT

    def scores(self, H: Float[Tensor, "*b N D"], W_star: Float[Tensor, "M C"]) -> Float[Tensor, "*b N C"]:
        """Return ``<phi(h_i), w_c>``: what region i would bring to logit c if it were all of the picture.

        Raises:
            ValueError: ``W_star`` isn't M = ``dim(D)`` high.
        """
        require_tensor("H", H)
        require_tensor("W_star", W_star)
        D = H.shape[-1]
        require_shape("W_star", W_star, (self.dim(D), W_star.shape[-1]), f"the {self.name} lift of tokens of width {D}")
        H, W_star = widen(H, W_star)
        return self._scores(H, W_star)

    def region_scores(
        self, H: Float[Tensor, "*b N D"], pi: Float[Tensor, "*b N"], W_star: Float[Tensor, "M C"]
    ) -> Float[Tensor, "*b N C"]:
        """Return ``pi_i <phi(h_i), w_c>``, what region i brings; sums over i to ``<g, w_c>``: equation (3)."""
        H, pi = _pooled(H, pi)
        return pi.unsqueeze(-1) * self.scores(H, W_star)

    def _scores(self, H: Tensor, W_star: Tensor) -> Tensor:
        tokens = max(1, NUMBERS // W_star.shape[0])
        flat = [self.features(h) @ W_star for h in H.flatten(0, -2).split(tokens)]
        return torch.cat(flat).reshape(*H.shape[:-1], W_star.shape[1])

    def __repr__(self) -> str:
        return self.name


@pinned_class
class IdentityLift(Lift):
    """phi(h) = h: tokens as they are, equation (4)."""

    name = "identity"

    def dim(self, D: int) -> int:
        """Return D."""
        return D

    def features(self, H: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N D"]:
        """Return H."""
        return widen(H)[0]


@pinned_class
class QuadraticLift(Lift):
    """phi(h) = vech(h h^T), off-diagonals times sqrt 2: all products of two features, equation (5)."""

    name = "quadratic"

    def dim(self, D: int) -> int:
        """Return D (D + 1) / 2."""
        return D * (D + 1) // 2

    def features(self, H: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N M"]:
        """Return the upper triangle of h h^T, row by row."""
        (H,) = widen(H)
        i, j, root = (x.to(H.device) for x in _upper(H.shape[-1]))
        return H[..., i] * H[..., j] * root

    def embed(self, H: Float[Tensor, "*b N D"], pi: Float[Tensor, "*b N"]) -> Float[Tensor, "*b M"]:
        """Return vech(H^T diag(pi) H): 2 N D^2 operations a picture."""
        H, pi = _pooled(H, pi)
        i, j, root = (x.to(H.device) for x in _upper(H.shape[-1]))
        return (H.mT @ (pi.unsqueeze(-1) * H))[..., i, j] * root

    def kernel(self, A: Float[Tensor, "*b N D"], B: Float[Tensor, "*b K D"]) -> Float[Tensor, "*b N K"]:
        """Return <a_i, b_j>^2."""
        require_tensor("A", A)
        require_shape("B", B, (A.shape[-1],), "the width of A")
        A, B = widen(A, B)
        return (A @ B.mT).square()

    def _scores(self, H: Tensor, W_star: Tensor) -> Tensor:
        D = H.shape[-1]
        i, j, root = (x.to(H.device) for x in _upper(D))
        scores = []
        for block in W_star.split(max(1, NUMBERS // max(D * D, H.numel())), dim=1):  # classes
            W = H.new_zeros(block.shape[1], D, D)
            W[:, i, j] = (block * root.unsqueeze(-1)).mT  # h^T W h with W upper triangular: no need to mirror it
            scores.append(((H.unsqueeze(-3) @ W) * H.unsqueeze(-3)).sum(dim=-1).mT)
        return torch.cat(scores, dim=-1)


@pinned_class
class ReluLift(Lift):
    """phi(h) = sqrt(2 / M) max(0, Omega^T h), Omega standard normal (D, M): equation (6).

    Args:
        width: M >= 1.
        seed: Of Omega.
    """

    name = "relu"

    def __init__(self, width: SupportsIndex = DEFAULT_WIDTH, seed: SupportsIndex = 0) -> None:
        self.width, self.seed = whole_number("width", width, 1), whole_number("seed", seed)

    def dim(self, D: int) -> int:
        """Return M."""
        return self.width

    def features(self, H: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N M"]:
        """Return the random ReLU features."""
        (H,) = widen(H)
        return (H @ _normal(H.shape[-1], self.width, self.seed).to(H.device)).relu_() * math.sqrt(2.0 / self.width)

    def __repr__(self) -> str:
        return _described(self)


@pinned_class
class FourierLift(Lift):
    """phi(h) = sqrt(2 / M) [cos, sin](Omega^T h / |h|), Omega normal with variance 2 gamma, (D, M / 2): equation (7).

    Args:
        width: M, even.
        gamma: Bandwidth > 0, in units of the tokens' directions: |a/|a| - b/|b||^2 is at most 4.
        seed: Of Omega.
    """

    name = "fourier"

    def __init__(
        self, width: SupportsIndex = DEFAULT_WIDTH, gamma: SupportsFloat = 2.0, seed: SupportsIndex = 0
    ) -> None:
        self.width = whole_number("width", width, 1)
        if self.width % 2:
            raise ValueError(f"`width` must be even, a cosine and a sine for each frequency; got {width}.")
        self.gamma, self.seed = require_positive("gamma", gamma), whole_number("seed", seed)

    def dim(self, D: int) -> int:
        """Return M."""
        return self.width

    def features(self, H: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N M"]:
        """Return random Fourier features of each token's direction; a token of zeros has none, and takes Omega^T 0."""
        (H,) = widen(H)
        Omega = _normal(H.shape[-1], self.width // 2, self.seed).to(H.device) * math.sqrt(2.0 * self.gamma)
        phase = directions_of(H) @ Omega
        return torch.cat([phase.cos(), phase.sin()], dim=-1) * math.sqrt(2.0 / self.width)

    def __repr__(self) -> str:
        return _described(self)


@pinned_class
class SketchLift(Lift):
    """TensorSketch of the quadratic lift, for tokens too wide for it: equation (8). C_1 and C_2 are count sketches.

    Args:
        width: M >= 1.
        seed: Of the hashes and signs.
    """

    name = "sketch"

    def __init__(self, width: SupportsIndex = DEFAULT_WIDTH, seed: SupportsIndex = 0) -> None:
        self.width, self.seed = whole_number("width", width, 1), whole_number("seed", seed)

    def dim(self, D: int) -> int:
        """Return M."""
        return self.width

    def features(self, H: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N M"]:
        """Return the circular convolution of two count sketches of each token."""
        (H,) = widen(H)
        if not H.numel():  # no picture, which fft refuses
            return H.new_zeros(*H.shape[:-1], self.width)
        spectra = []
        for place, sign in _count_sketches(H.shape[-1], self.width, self.seed):
            counts = H.new_zeros(*H.shape[:-1], self.width)
            spectra.append(torch.fft.rfft(counts.index_add_(-1, place.to(H.device), H * sign.to(H.device))))
        return torch.fft.irfft(spectra[0] * spectra[1], n=self.width)

    def __repr__(self) -> str:
        return _described(self)


IDENTITY = IdentityLift()
KINDS: dict[str, Callable[..., Lift]] = {  # of each name of ``carrot._choices.LIFTS`` its class
    kind.name: kind for kind in (IdentityLift, QuadraticLift, ReluLift, FourierLift, SketchLift)
}


def lift_from(spec: str) -> Lift:
    """Return the lift that ``spec`` names: "identity", "quadratic", "relu", "fourier" or "sketch".

    The last three take a width, as in "relu:8192". ``lift_from(str(lift))`` is the same lift again, unless its gamma or
    seed is not the default.

    Raises:
        ValueError: There is no such lift, or the width is not a whole number, or is given where it is fixed.
    """
    name, width = read(LIFTS, spec)
    if name == IDENTITY.name:
        return IDENTITY
    return KINDS[name]() if width is None else KINDS[name](width)


def _described(lift: ReluLift | FourierLift | SketchLift) -> str:
    extra = f", gamma={lift.gamma:g}" if isinstance(lift, FourierLift) and lift.gamma != 2.0 else ""
    return f"{lift.name}:{lift.width}{extra}" + (f", seed={lift.seed}" if lift.seed else "")


def _pooled(H: Tensor, pi: Tensor) -> tuple[Tensor, Tensor]:
    require_tensor("H", H)
    require_shape("pi", pi, H.shape[:-1], "the regions of H")
    H, pi = widen(H, pi)
    return H, pi


@lru_cache(maxsize=8)
def _upper(D: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows and columns of the upper triangle, and 1 on the diagonal, sqrt 2 off it."""
    i, j = torch.triu_indices(D, D)
    return i, j, torch.where(i == j, 1.0, 2.0).to(torch.float64).sqrt()


@lru_cache(maxsize=4)
def _normal(D: int, M: int, seed: int) -> Tensor:
    return torch.randn(D, M, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@lru_cache(maxsize=4)
def _count_sketches(D: int, M: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return of two count sketches place and sign, (D,) each, of the one entry in each row of a (D, M) matrix."""
    generator = torch.Generator().manual_seed(seed)
    sketches = []
    for _ in range(2):
        place = torch.randint(M, (D, 1), generator=generator)[:, 0]
        sign = 2.0 * torch.randint(2, (D, 1), generator=generator).to(torch.float64)[:, 0] - 1.0
        sketches.append((place, sign))
    return sketches
