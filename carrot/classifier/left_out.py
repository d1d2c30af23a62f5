"""What the heads fitted without each training picture say of it, a block of pictures at a time where that is much.

n C leave-one-out logits are held where they are 2^27 numbers at most; else they are worked out anew, block by
block, each time they are gone through, here or by the engine of now. What is told of a picture is told of its row
alone, so that both ways say the same, to the rounding of the logits.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.asked import are_held
from carrot._ridge.streamed import loo_at
from carrot.evaluation.calibration import (
    FLOOR,
    NewtonSums,
    binned_error,
    fit_temperature,
    probabilities,
    streamed_temperature,
)
from carrot.evaluation.suspects import LabelSuspects, class_thresholds, label_suspects
from carrot.head import RidgeHead

SAMPLE = 2**25  # numbers that the first guess of the temperature is of
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class LeftOut:
    """The leave-one-out logits of a head.

    Attributes:
        head: The head.
        labels: Of its pictures.
    """

    head: RidgeHead
    labels: Int[Tensor, " n"]

    __repr__ = brief

    @property
    def is_held(self) -> bool:
        """Whether they are so few that they are held."""
        return are_held(self.head)

    def blocks(self) -> Iterator[tuple[slice, Float[Tensor, "b C"]]]:
        """Yield some pictures and their logits, until all came."""
        if self.is_held:
            yield slice(0, len(self.labels)), self.head.loo_predict()
        else:
            yield from self.head.loo_blocks()

    def map(self, of: Callable[[slice, Float[Tensor, "b C"]], Result]) -> Iterator[tuple[slice, Result]]:
        """Yield some pictures and what a function makes of their logits, until all came."""
        if self.is_held:
            everything = slice(0, len(self.labels))
            yield everything, of(everything, self.head.loo_predict())
        else:
            yield from self.head.loo_map(of)

    def of(self, rows: Sequence[int]) -> Float[Tensor, "k C"]:
        """Return those of some pictures."""
        at = torch.tensor(rows, dtype=torch.long)
        return self.head.loo_predict()[at] if self.is_held else loo_at(self.head, at)

    def temperature(self) -> float:
        """Return the temperature that suits them best: ``fit_temperature``."""
        n, C = len(self.labels), len(self.head.bias)
        if self.is_held:
            return fit_temperature(self.head.loo_predict(), self.labels)
        some = torch.arange(0, n, -(-n * C // SAMPLE))
        guess = fit_temperature(loo_at(self.head, some), self.labels[some])
        return streamed_temperature(lambda b: (s for _, s in self.map(partial(_sums, self.labels, b))), n, guess)

    def figures(self, T: float) -> dict[str, float]:
        """Return accuracy, mean over classes, squared error, negative log likelihood and calibration error, by name."""
        parts = [told for _, told in self.map(partial(_judged, self.labels, T))]
        all = _Judged(*(torch.cat(column) for column in zip(*parts, strict=True)))
        of_class = torch.bincount(self.labels)
        occurs = of_class > 0
        share = torch.bincount(self.labels, weights=all.right.double())[occurs] / of_class[occurs]
        return {
            "loo_accuracy": float(all.right.double().mean()),
            "loo_mean_per_class": float(share.mean()),
            "loo_squared_error": float(all.squares.mean()) / len(self.head.bias),
            "loo_negative_log_likelihood": float(all.p_own.clamp(min=FLOOR).log().mean().neg() + 0.0),
            "loo_calibration_error": binned_error(all.best, all.likeliest == self.labels),
        }

    def suspects(self, T: float) -> LabelSuspects:
        """Return the training pictures as the heads fitted without them see their labels: ``label_suspects``."""
        if self.is_held:
            return label_suspects(self.head.loo_predict(), self.labels, T)
        own = torch.cat([told for _, told in self.map(partial(_own, self.labels, T))])
        thresholds = class_thresholds(own, self.labels, len(self.head.bias))
        return LabelSuspects.together([told for _, told in self.map(partial(_suspects, self.labels, T, thresholds))])


# ---- inside: what is made of the logits of some pictures; an engine's workers are sent these


class _Judged(NamedTuple):
    """Of each picture whether it is told right, its class's probability, the highest one and whose, squared errors."""

    right: Tensor
    p_own: Tensor
    best: Tensor
    likeliest: Tensor
    squares: Tensor


def _judged(labels: Tensor, T: float, at: slice, x: Tensor) -> _Judged:
    y, p = labels[at, None], probabilities(x, T)
    right, p_own = x.argmax(dim=1) == y[:, 0], p.gather(1, y)[:, 0]
    wrong = x.scatter_add_(1, y, torch.full_like(y, -1, dtype=x.dtype))
    return _Judged(right, p_own, p.amax(dim=1), p.argmax(dim=1), wrong.square_().sum(dim=1))


def _sums(labels: Tensor, b: float, at: slice, x: Tensor) -> NewtonSums:
    return NewtonSums.of(x, labels[at], b, len(labels))


def _own(labels: Tensor, T: float, at: slice, x: Tensor) -> Tensor:
    return probabilities(x, T).gather(1, labels[at, None])[:, 0]


def _suspects(labels: Tensor, T: float, thresholds: Tensor, at: slice, x: Tensor) -> LabelSuspects:
    return label_suspects(x, labels[at], T, thresholds)
