"""What settling one label at a time would do to the leave-one-out error of all: relabelled, or left out, exactly.

Letters are those of ``carrot._ridge.edited``, whose (1) and (2) are taken for each picture i by itself, s the slack:

::

    i gets targets y_i + d    R_j' = R_j + Q_ji d                    error = sum_j w_j |R_j'|^2 / s_j^2          (1)
    i is left out             R_j' = R_j - Q_ji R_i / s_i,           s_j' = s_j - Q_ji Q_ij / s_i,   j != i      (2)
    told right: argmax_c y_jc' - R_jc' / s_j' is argmax_c y_jc'                                                  (3)

One column of Q a picture. Answers can't change where the logits move by less than half their lead, and are asked for
elsewhere alone:

::

    |R_jc'/s_j' - R_jc/s_j|  <=  |Q_ji| max|d| / s_j                                         by (1)
                             <=  |R_j| |1/s_j' - 1/s_j| + |Q_ji| |R_i| / (s_i s_j')          by (2)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.squares import of_differences
from carrot._ridge.systems import ALONE

if TYPE_CHECKING:
    from carrot.head import RidgeHead

BLOCK = 2**23  # numbers of columns of Q that are solved for at once, 64 MiB
ROUNDING = 1e-9  # of a lead: nearer ties are asked


@dataclass(frozen=True, eq=False)
class Settled:
    """What all pictures' leave-one-out answers would be, had one label been settled; each picture by itself.

    Attributes:
        error, right: As it is: the weighted mean over pictures, and the mean over classes, of the squared leave-one-out
            error; and how many pictures are told right.
        relabelled, relabelled_right: With the picture relabelled.
        removed, removed_right: Without it; of the others.

    Exactness: exact, real refits to rounding; ``tests/claims/test_29_settled_labels.py``.
    """

    error: float
    right: int
    relabelled: Float[Tensor, " k"]
    relabelled_right: Int[Tensor, " k"]
    removed: Float[Tensor, " k"]
    removed_right: Int[Tensor, " k"]

    __repr__ = brief

    @classmethod
    def of(cls, head: "RidgeHead", rows: Sequence[int], labels: Sequence[int]) -> "Settled":
        """Return it for some training pictures of a classifier's head.

        Args:
            head: Fitted; its targets are one-hot.
            rows: The pictures.
            labels: The class that each would be given.
        """
        every, found = _Every(head), list[tuple[float, int, float, int]]()
        size = max(1, BLOCK // len(every.slack))
        for start in range(0, len(rows), size):
            part = list(rows[start : start + size])
            for i, c, q in zip(part, labels[start : start + size], head.slack_columns(part).mT, strict=True):
                found.append((*every.relabelled(i, c, q.contiguous()), *every.removed(i, q.contiguous())))
        told = torch.tensor(found, dtype=torch.float64).reshape(-1, 4)
        return cls(
            every.mean(every.squares.sum(), every.w.sum()),
            int(every.right.sum()),
            told[:, 0],
            told[:, 1].long(),
            told[:, 2],
            told[:, 3].long(),
        )


class _Every:
    """All pictures' leave-one-out answers."""

    def __init__(self, head: "RidgeHead") -> None:
        self.head, self.Y, self.R, self.slack, self.w = head, head.Y, head.residual, head.slack, head.sample_weight
        self.logits = self.Y - self.R / self.slack[:, None]
        best = self.logits.topk(2, dim=1).values if self.Y.shape[1] > 1 else torch.zeros_like(self.Y[:, [0, 0]])
        self.label, self.lead = self.Y.argmax(dim=1), (best[:, 0] - best[:, 1]) / 2 - ROUNDING * self.logits.abs().max()
        self.right = self.logits.argmax(dim=1) == self.label
        self.largest = self.R.abs().amax(dim=1)
        self.norms = self.R.square().sum(dim=1)
        self.squares = self.w * self.norms / self.slack.square()
        self.least = ALONE * (self.slack if head.is_dual else torch.ones_like(self.slack))

    def mean(self, total: Tensor, w: Tensor) -> float:
        return float(total / (w * self.Y.shape[1]))

    def relabelled(self, i: int, c: int, q: Tensor) -> tuple[float, int]:
        """Return the error and how many are right by (1)."""
        d = -self.Y[i]
        d[c] += 1.0
        share = self.w * q / self.slack.square()
        change = 2.0 * (share @ (self.R @ d)) + (share @ q) * d.square().sum()  # (1)
        moved = (q.abs() * d.abs().max() / self.slack >= self.lead).nonzero().flatten()
        logits = self.logits[moved] - torch.outer(q[moved] / self.slack[moved], d)
        logits[moved == i] = self.logits[i]  # its own label isn't asked
        label = torch.where(moved == i, c, self.label[moved])
        own = int(self.logits[i].argmax() == c) - int(self.right[i]) if i not in moved else 0
        right = int(self.right.sum() - self.right[moved].sum() + (logits.argmax(dim=1) == label).sum()) + own  # (3)
        return self.mean(self.squares.sum() + change, self.w.sum()), right

    def removed(self, i: int, q: Tensor) -> tuple[float, int]:
        """Return the error and how many of the others are right by (2)."""
        s, Ri = self.slack[i], self.R[i]
        slack = self.slack - q * (q * self.w / self.w[i]) / s  # Q_ij from the column
        slack[i] = 1.0
        there = torch.ones_like(self.right)
        there[i] = False
        if bool((slack < self.least)[there].any()):
            return self._fitted(i)
        step = q / s
        squares = of_differences(self.R, Ri.unsqueeze(0), step.unsqueeze(-1), self.norms.unsqueeze(-1))[:, 0]
        total = (self.w * squares / slack.square())[there].sum()
        bound = self.largest * (1.0 / slack - 1.0 / self.slack).abs() + step.abs() * Ri.abs().max() / slack
        moved = ((bound >= self.lead) & there).nonzero().flatten()
        logits = self.Y[moved] - (self.R[moved] - torch.outer(step[moved], Ri)) / slack[moved, None]
        right = int(self.right.sum() - self.right[moved].sum()) - int(self.right[i])  # (3)
        return self.mean(total, self.w.sum() - self.w[i]), right + int(
            (logits.argmax(dim=1) == self.label[moved]).sum()
        )

    def _fitted(self, i: int) -> tuple[float, int]:
        """Return it by a fit: a picture would be left nearly alone in a direction."""
        edited = self.head.edited_loo().without(i)
        stay = edited.there
        logits, Y, w = edited.logits[stay], edited.Y[stay], self.w[stay]
        total = (w * (Y - logits).square().sum(dim=1)).sum()
        return self.mean(total, w.sum()), int((logits.argmax(dim=1) == Y.argmax(dim=1)).sum())
