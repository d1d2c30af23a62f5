"""What the heads fitted without each training picture say of it, a block of pictures at a time where that is much.

n C leave-one-out logits are held where they are 2^27 numbers at most; else they are worked out anew, block by
block, each time they are gone through. What is told of a picture is told of its row alone, so that both ways say the
same, to the rounding of the logits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.asked import are_held
from carrot._ridge.streamed import loo_at
from carrot.evaluation.calibration import FLOOR, binned_error, fit_temperature, probabilities, streamed_temperature
from carrot.evaluation.suspects import LabelSuspects, class_thresholds, label_suspects
from carrot.head import RidgeHead

SAMPLE = 2**25  # numbers that the first guess of the temperature is of


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
        return streamed_temperature(lambda: ((x, self.labels[at]) for at, x in self.blocks()), n, guess)

    def figures(self, T: float) -> dict[str, float]:
        """Return accuracy, mean over classes, squared error, negative log likelihood and calibration error, by name."""
        n = len(self.labels)
        right, p_own = torch.empty(n, dtype=torch.bool), torch.empty(n, dtype=torch.float64)
        likeliest = torch.empty_like(self.labels)
        best, squares = torch.empty_like(p_own), torch.empty_like(p_own)
        for at, x in self.blocks():
            y = self.labels[at, None]
            p = probabilities(x, T)
            right[at], p_own[at] = x.argmax(dim=1) == y[:, 0], p.gather(1, y)[:, 0]
            best[at], likeliest[at] = p.amax(dim=1), p.argmax(dim=1)
            wrong = x.scatter_add(1, y, torch.full_like(y, -1, dtype=x.dtype))
            squares[at] = wrong.square_().sum(dim=1)
        of_class = torch.bincount(self.labels)
        occurs = of_class > 0
        share = torch.bincount(self.labels, weights=right.double())[occurs] / of_class[occurs]
        return {
            "loo_accuracy": float(right.double().mean()),
            "loo_mean_per_class": float(share.mean()),
            "loo_squared_error": float(squares.mean()) / len(self.head.bias),
            "loo_negative_log_likelihood": float(p_own.clamp(min=FLOOR).log().mean().neg() + 0.0),
            "loo_calibration_error": binned_error(best, likeliest == self.labels),
        }

    def suspects(self, T: float) -> LabelSuspects:
        """Return the training pictures as the heads fitted without them see their labels: ``label_suspects``."""
        if self.is_held:
            return label_suspects(self.head.loo_predict(), self.labels, T)
        own = torch.cat([probabilities(x, T).gather(1, self.labels[at, None])[:, 0] for at, x in self.blocks()])
        thresholds = class_thresholds(own, self.labels, len(self.head.bias))
        return LabelSuspects.together([label_suspects(x, self.labels[at], T, thresholds) for at, x in self.blocks()])
