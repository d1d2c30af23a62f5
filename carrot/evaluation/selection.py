"""Choose among embeddings of the same pictures by exact leave-one-out on the training set.

There is no validation split and no refit.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot.head import RidgeHead

S = TypeVar("S")


@runtime_checkable
class Scored(Protocol):
    """What is chosen among: a ``Candidate``, or what was kept of one."""

    @property
    def loo_mse(self) -> float: ...  # noqa: D102


T = TypeVar("T", bound=Scored)


@dataclass(frozen=True)
class Candidate(Generic[S]):
    """One embedding of the training set, and the best head on it.

    Attributes:
        setting: What the embedding was made with.
        head: Fitted with the lam of the smallest leave-one-out error.
        loo_mse: That error: weighted mean over pictures, and mean over classes, of the squared leave-one-out error.
        loo_accuracy: Share of training pictures that the head fitted without them classifies rightly.
    """

    setting: S
    head: RidgeHead
    loo_mse: float
    loo_accuracy: float

    __repr__ = brief


def candidate(
    G: Float[Tensor, "n M"],
    labels: Int[Tensor, " n"],
    setting: S,
    fit_intercept: bool = True,
    sample_weight: Float[Tensor, " n"] | None = None,
) -> Candidate[S]:
    """Return an embedding's candidate: its head, lam by exact leave-one-out, weights held."""
    head = RidgeHead("loo", fit_intercept).fit(G, labels, sample_weight)
    path = head.loo_path
    if path is None:
        raise RuntimeError("a head fitted with lam='loo' has a path")
    right = head.loo_predict().argmax(dim=-1) == labels.to(head.G.device)
    return Candidate(setting, head, float(path.mse[path.best]), float(right.double().mean()))


def select(candidates: Iterable[T]) -> T:
    """Return the candidate with the smallest leave-one-out error; of equal ones the first.

    They may come from a generator: no more than two are held at a time, for a lifted head is large.

    Raises:
        ValueError: There is none, or an error is NaN.
    """
    best: T | None = None
    for c in candidates:
        if math.isnan(c.loo_mse):
            raise ValueError("`candidates` must have finite leave-one-out errors; one is NaN.")
        if best is None or c.loo_mse < best.loo_mse:
            best = c
        del c  # or the one that lost would stay while the next is made
    if best is None:
        raise ValueError("`candidates` must hold at least one embedding; got none.")
    return best
