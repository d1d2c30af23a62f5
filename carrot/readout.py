"""Graph to picture: a linear readout ``g = H'^T r``, r >= 0 and summing to 1.

::

    mean      r_i = 1 / N                                                                                     (1)
    source    r_i = exp(tau u_i) / sum_j exp(tau u_j)                                                         (2)
    with a global region of share rho:  r = ((1 - rho) r over the others, rho)                                (3)
    sum       r_i = exp(tau u_i) / N, not normalised: what a region weighs doesn't depend on the others       (4)

u says which regions to listen to, and may come from the class token: ``cosine_source``, its cosine to every region, or
the logarithm of its attention to them (``PatchOutput.attention``; then tau = 1 is that attention itself, and tau = 1/2
its square root). Or u is the logarithm of the region's own norm (``norm_source``): then r_i ~ |h_i|^tau, which asks no
other region and nothing of the whole picture. It weights regions without entering the sum: the logit is still made of
the regions alone. tau = 0 is the mean. A softmax restricted to some of the regions and renormalised is the softmax over
those: dropping regions is well defined. Under (4) nothing is renormalised: with t = 0 the logit is an additive game of
the regions, in which the contribution of a region, the drop without it and its Shapley value are one number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, SupportsFloat, SupportsIndex, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from carrot._ambient import pinned, pinned_class
from carrot._display.brief import brief
from carrot.utils import (
    directions_of,
    promoted,
    real_number,
    require_finite,
    require_shape,
    require_tensor,
    whole_number,
)

KINDS = ("mean", "source", "sum")


@runtime_checkable
class Readout(Protocol):
    """What diffusion and removal need of a readout: r for a picture of N regions."""

    def weights(self, N: int, dtype: torch.dtype = torch.float64) -> Tensor: ...  # noqa: D102


@pinned_class
class GraphReadout:
    """Linear readout of the diffused tokens.

    It is linear on purpose: only so does ``g = H'^T r = H^T (exp(-tL) r)`` split exactly over regions.

    Args:
        kind: "mean": every region weighs the same; "source": equation (2), by scores u of the picture at hand; "sum":
            equation (4), by the same scores.
        tau: How much the scores count, for "source" and "sum"; 0 is the mean.
        global_share: rho in [0, 1]: what the global regions of a ``RegionSet`` weigh together, equation (3).

    Raises:
        TypeError: ``tau`` or ``global_share`` is no number.
        ValueError: ``kind`` is unknown, or a number is out of range.

    Exactness: exact; ``tests/unit/test_readout.py``.
    """

    def __init__(self, kind: str = "mean", tau: SupportsFloat = 1.0, global_share: SupportsFloat = 0.0) -> None:
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {KINDS}; got {kind!r}.")
        if not 0.0 <= real_number("tau", tau) < math.inf:
            raise ValueError(f"`tau` must be a finite number >= 0; got {tau!r}. tau = 0 is the mean.")
        if not 0.0 <= real_number("global_share", global_share) <= 1.0:
            raise ValueError(f"`global_share` must be in [0, 1]; got {global_share!r}.")
        self.kind, self.tau, self.global_share = kind, float(tau), float(global_share)

    def forward(self, H_prime: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b D"]:
        """Return ``g = H'^T r`` of the mean readout; for "source", bind it to a picture first: ``readout.at(...)``."""
        require_tensor("H_prime", H_prime)
        return embed(
            H_prime, self.weights(H_prime.shape[-2], H_prime.dtype).to(H_prime.device).expand(H_prime.shape[:-1])
        )

    def weights(self, N: SupportsIndex, dtype: torch.dtype = torch.float64) -> Float[Tensor, " N"]:
        """Return r of the mean readout: what each of N regions weighs; sums to 1.

        Raises:
            ValueError: ``N`` is smaller than 1, or the readout needs to see the picture: see ``at``.
        """
        N = whole_number("N", N, 1)
        if self.kind != "mean" or self.global_share:
            raise ValueError(
                "This readout's weights depend on the picture: call `readout.at(N, ...)` and pass what it returns."
            )
        return torch.full((N,), 1.0 / N, dtype=dtype)

    def at(
        self,
        N: SupportsIndex,
        u: Float[Tensor, "*b n_local"] | None = None,
        num_global: SupportsIndex = 0,
        dtype: torch.dtype = torch.float64,
    ) -> "BoundReadout":
        """Return the readout of a picture, or of a batch of pictures, with its r: equations (1) to (3).

        Args:
            N: Number of all regions, the global ones last.
            u: Scores of the N - num_global others; needed for "source" and "sum", not looked at for "mean".
            num_global: How many global regions there are; they share ``global_share`` equally.
            dtype: Of r.

        Raises:
            ValueError: Scores are missing, not finite or of the wrong number; a global share without a global region.
        """
        N, num_global = whole_number("N", N), whole_number("num_global", num_global)
        n_local = N - num_global
        if n_local < 1 or num_global < 0:
            raise ValueError(f"`N` must leave at least one region beside {num_global} global ones; got N = {N}.")
        if self.global_share and not num_global:
            raise ValueError(
                f"`global_share` = {self.global_share} needs a global region: `RegionSet.with_global(class_token)`."
            )
        if self.kind == "mean":
            r = torch.full((n_local,), 1.0 / n_local, dtype=dtype)
        else:
            if u is None:
                raise ValueError(
                    f"A {self.kind} readout needs the scores `u` of the picture's regions, such as `cosine_source`."
                )
            require_shape("u", u, (n_local,), "the picture's regions")
            require_finite("u", u)
            u = u.to(dtype)
            if self.kind == "sum":
                r = torch.exp(self.tau * u) / n_local
                require_finite("exp(tau u)", r)
            else:
                r = torch.softmax(self.tau * (u - u.amax(dim=-1, keepdim=True)), dim=-1)  # nothing overflows upwards
        if num_global:
            rest = r.new_full((*r.shape[:-1], num_global), self.global_share / num_global)
            r = torch.cat([(1.0 - self.global_share) * r, rest], dim=-1)
        return BoundReadout(r, self.kind == "sum", num_global)

    def __repr__(self) -> str:
        tau = f", tau={self.tau:g}" if self.kind != "mean" else ""
        share = f", global_share={self.global_share:g}" if self.global_share else ""
        return f"GraphReadout({self.kind!r}{tau}{share})"


@pinned_class
@dataclass(frozen=True, eq=False)
class BoundReadout:
    """A readout with the weights r of one picture, or of each picture of a batch.

    Attributes:
        r: The weights.
        is_additive: Whether they stay as they are when regions are dropped, equation (4); else what is left is
            renormalised.
        num_global: How many of the regions, the last ones, stand for the whole picture.
    """

    r: Float[Tensor, "*b N"]
    is_additive: bool = False
    num_global: int = 0

    __repr__ = brief

    def forward(self, H_prime: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b D"]:
        """Return ``g = H'^T r``."""
        require_tensor("H_prime", H_prime)
        return embed(
            H_prime, self.weights(H_prime.shape[-2], H_prime.dtype).to(H_prime.device).expand(H_prime.shape[:-1])
        )

    def weights(self, N: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "*b N"]:
        """Return r.

        Raises:
            ValueError: It is that of a picture of another number of regions.
        """
        require_shape("r", self.r, (N,), "the picture's regions")
        return self.r.to(dtype)

    @property
    def rule(self) -> Callable[[Tensor], Tensor] | None:
        """How it weighs what is left when regions are dropped: ``restricted``; None: r, renormalised."""
        return self.restricted if self.is_additive or self.num_global else None

    def restricted(self, keep: Bool[Tensor, "*b N R"]) -> Float[Tensor, "*b N R"]:
        """Return what each region weighs when only those of a column are there.

        Additive: what it weighed. Else the regions that have a place share anew what they had together, and the global
        ones what they had: a told share stays what was told, as long as both kinds are there. So it is what the readout
        would say of a picture that has these regions alone.
        """
        r = (keep * self.r.unsqueeze(-1)).to(self.r)
        if self.is_additive:
            return r
        n_local, kinds = r.shape[-2] - self.num_global, []
        for left, all_of_them in (
            (r[..., :n_local, :], self.r[..., :n_local]),
            (r[..., n_local:, :], self.r[..., n_local:]),
        ):
            total = left.sum(dim=-2, keepdim=True)
            share = torch.where(total > 0, all_of_them.sum(dim=-1)[..., None, None], 0.0)
            kinds.append(left * share / torch.where(total > 0, total, 1.0))
        r = torch.cat(kinds, dim=-2)
        total = r.sum(dim=-2, keepdim=True)
        return r / torch.where(total > 0, total, 1.0)


@pinned()
def cosine_source(H: Float[Tensor, "*b N D"], source: Float[Tensor, "*b D"]) -> Float[Tensor, "*b N"]:
    """Return every region's cosine to ``source``, the class token say: scores u of equation (2); 0 for a zero token."""
    require_tensor("H", H)
    require_shape("source", source, (*H.shape[:-2], H.shape[-1]), "the width of H")
    directions, one = (directions_of(x) for x in promoted(H, source))
    return (directions @ one.unsqueeze(-1)).squeeze(-1)


@pinned()
def norm_source(H: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N"]:
    """Return ``log(|h_i| / sqrt(D))``: scores u under which equation (2) is ``r_i = |h_i|^tau / sum_j |h_j|^tau``.

    A norm of 0 counts as the least positive number. sqrt(D) is what a token just normalised has; it matters to (4)
    alone, and keeps its numbers small.
    """
    require_tensor("H", H)
    norms = torch.linalg.vector_norm(H, dim=-1).clamp_min(torch.finfo(H.dtype).tiny)
    return norms.log() - 0.5 * math.log(H.shape[-1])


@pinned()
def attention_source(A: Float[Tensor, "*b N"]) -> Float[Tensor, "*b N"]:
    """Return ``log A``: scores u under which equation (2) is ``r_i = A_i^tau / sum_j A_j^tau``.

    An attention of 0 counts as the least positive number.
    """
    require_tensor("A", A)
    return A.clamp_min(torch.finfo(A.dtype).tiny).log()


@pinned()
def embed(H: Float[Tensor, "*b N D"], pi: Float[Tensor, "*b N"]) -> Float[Tensor, "*b D"]:
    """Return ``g = H^T pi = sum_i pi_i h_i``, the picture's embedding by the collapsed path."""
    require_tensor("H", H)
    require_tensor("pi", pi)
    H, pi = promoted(H, pi)
    return torch.matmul(H.mT, pi.unsqueeze(-1)).squeeze(-1)
