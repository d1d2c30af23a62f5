"""Graph to picture: the mean over regions, ``g = H'^T r`` with ``r = 1/N``."""

import torch
from jaxtyping import Float
from torch import Tensor


class GraphReadout:
    """Linear readout of the diffused tokens.

    It is linear on purpose: only so does ``g = H'^T r = H^T (exp(-tL) r)`` split exactly over regions.

    Args:
        kind: "mean": every region has the same weight 1/N.

    Raises:
        ValueError: ``kind`` is unknown.

    Exactness: exact; ``tests/unit/test_readout.py``.
    """

    def __init__(self, kind: str = "mean") -> None:
        if kind != "mean":
            raise ValueError(f"`kind` must be 'mean'; got {kind!r}.")
        self.kind = kind

    def forward(self, H_prime: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b D"]:
        """Return ``g = H'^T r``."""
        return H_prime.mean(dim=-2)

    def weights(self, N: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, " N"]:
        """Return r: what each of N regions weighs in the readout; sums to 1.

        Raises:
            ValueError: ``N`` is smaller than 1.
        """
        if N < 1:
            raise ValueError(f"`N` must be >= 1; got {N}.")
        return torch.full((N,), 1.0 / N, dtype=dtype)


def embed(H: Float[Tensor, "*b N D"], pi: Float[Tensor, "*b N"]) -> Float[Tensor, "*b D"]:
    """Return ``g = H^T pi = sum_i pi_i h_i``, the picture's embedding by the collapsed path."""
    return torch.matmul(H.mT, pi.unsqueeze(-1)).squeeze(-1)
