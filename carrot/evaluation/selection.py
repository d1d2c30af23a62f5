"""Choose among embeddings of the same pictures by exact leave-one-out on the training set: no validation split, no refit."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot.head import RidgeHead


@dataclass(frozen=True)
class Candidate:
    """One embedding of the training set, and the best head on it.

    Attributes:
        index: Which embedding.
        head: Fitted with the lam of the smallest leave-one-out error.
        loo_mse: That error: mean over pictures and classes of the squared leave-one-out error.
        loo_accuracy: Share of training pictures that the head fitted without them classifies rightly.
    """

    index: int
    head: RidgeHead
    loo_mse: float
    loo_accuracy: float


def candidate(
    G: Float[Tensor, "n D"], labels: Int[Tensor, " n"], index: int = 0, fit_intercept: bool = True
) -> Candidate:
    """Return embedding ``index`` with its head, lam by exact leave-one-out."""
    head = RidgeHead("loo", fit_intercept).fit(G, labels)
    path = head.loo_path
    if path is None:
        raise RuntimeError("a head fitted with lam='loo' has a path")
    right = head.loo_predict().argmax(dim=-1) == labels.to(head.G.device)
    return Candidate(index, head, float(path.mse[path.best]), float(right.double().mean()))


def select(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the smallest leave-one-out error; of equal ones the first.

    Raises:
        ValueError: There is none, or an error is NaN.
    """
    if not candidates:
        raise ValueError("`candidates` must hold at least one embedding; got none.")
    if any(c.loo_mse != c.loo_mse for c in candidates):
        raise ValueError("`candidates` must have finite leave-one-out errors; one is NaN.")
    errors = torch.tensor([c.loo_mse for c in candidates], dtype=torch.float64)
    return candidates[int(errors.argmin())]
