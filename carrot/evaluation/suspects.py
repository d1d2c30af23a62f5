"""Which labels the other training pictures contradict, which pictures their own label decides: by exact leave-one-out.

::

    p_i = softmax(loo_i / T)                       what the head fitted without picture i says of it            (1)
    self-confidence  = p_iy                        margin = loo_iy - max_{c != y} loo_ic                        (2)
    normalised margin = p_iy - max_{c != y} p_ic                                                                (3)
    t_c = mean of p_ic over the pictures labelled c                                                             (4)
    flagged: argmax { p_ic : p_ic >= t_c } is another class than y, and so is argmax_c p_ic                     (5)
    doubtful: margin < 0, so that every flagged label is doubtful                                               (6)
    p-value_i = #{j : margin_j <= margin_i} / n,  i itself counted                                              (7)

A label is doubtful where the others say another class. Of doubtful ones those that are flagged *look wrong*, for the
others are as sure of another class as is usual of that class; the rest *may be wrong*.

These are confident learning's, with its cross-validation replaced by exact leave-one-out: no folds, no refits, and no
picture judges its own label. A wrong label still pulls on its neighbours' logits.

(7) is conformal: were the label right and the picture drawn like all the others, each rank of its margin would be as
likely as any other, so that a p-value of 0.01 or less has a chance of 0.01 at most. No assumption about the logits is
made; that all pictures are treated alike, each judged without itself, is enough. It judges one picture; of n right
labels some n / 100 have such a p-value.

**One threshold for all classes would flag a rare class whole**: few pictures never reach the probabilities of many,
right labels or not. By (4) each class is measured by what is usual for it. Of 200 pictures of one class and 10 of
another, all labelled right, 7.0 of the 10 have a margin below 0 and 0.1 are flagged (mean over 10 draws,
``tests/unit/test_suspects.py``).

Reference: Northcutt, Jiang and Chuang, JAIR 70 (2021), equation 2 for the thresholds and equation 1 for who is counted
off the diagonal of the confident joint; the second half of (5) is what cleanlab adds (``find_label_issues``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from carrot._display.brief import brief
from carrot.evaluation.calibration import probabilities
from carrot.evaluation.inputs import checked_labels, checked_scores

_EPS = 1e-12  # a class of one picture, or of equal ones, is at its own mean but for rounding
Score = Literal["margin", "self_confidence", "normalised_margin"]


@dataclass(frozen=True, eq=False)
class LabelSuspects:
    """Every training picture, as the head fitted without it sees its label; low numbers are suspicious.

    Attributes:
        self_confidence: Probability of its own label.
        margin: Logit of its own label less the best other one; below 0 the others say another class.
        normalised_margin: The same of probabilities, in [-1, 1].
        suggested: The class, other than its label, that the others think likeliest; of flagged pictures, among those at
            their threshold.
        flagged: Whether the others contradict the label: equation (5).
        thresholds: Equation (4); infinite for a class that labels none of the pictures.
    """

    self_confidence: Float[Tensor, " n"]
    margin: Float[Tensor, " n"]
    normalised_margin: Float[Tensor, " n"]
    suggested: Int[Tensor, " n"]
    flagged: Bool[Tensor, " n"]
    thresholds: Float[Tensor, " C"]

    __repr__ = brief

    @classmethod
    def together(cls, parts: Sequence["LabelSuspects"]) -> "LabelSuspects":
        """Return pictures that were looked at part by part, by the same thresholds, in one."""
        names = ("self_confidence", "margin", "normalised_margin", "suggested", "flagged")
        every = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return cls(**every, thresholds=parts[0].thresholds)

    @property
    def doubtful(self) -> Bool[Tensor, " n"]:
        """Whether the others say another class than the label: equation (6)."""
        return self.margin < 0

    @property
    def p_value(self) -> Float[Tensor, " n"]:
        """Share of all the pictures, itself counted, that have no larger margin: equation (7)."""
        ranks = torch.searchsorted(self.margin.sort().values, self.margin, right=True)
        return ranks.to(torch.float64) / len(self.margin)

    def order(self, by: Score = "self_confidence") -> Int[Tensor, " n"]:
        """Return all pictures, most suspicious first by one of these scores; of equal ones the lower index.

        An audit lists them by ``carrot.evaluation.suspicion``, which finds more of planted wrong labels.

        Raises:
            ValueError: ``by`` is unknown.
        """
        if by not in ("margin", "self_confidence", "normalised_margin"):
            raise ValueError(f"`by` must be 'margin', 'self_confidence' or 'normalised_margin'; got {by!r}.")
        return torch.argsort(getattr(self, by), stable=True)


def label_suspects(
    loo_logits: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    T: float,
    thresholds: Float[Tensor, " C"] | None = None,
) -> LabelSuspects:
    """Return how far each training picture's label is believed by the others: equations (2) to (5).

    Args:
        loo_logits: (n, C), ``head.loo_predict()``; of pictures that were not fitted on, ``head.predict``.
        labels: (n,) class indices, as given.
        T: Temperature, ``fit_temperature(loo_logits, labels)``; the margin doesn't depend on it.
        thresholds: Those of other pictures, for pictures that were not fitted on; None: equation (4).

    Raises:
        ValueError, TypeError: Shapes disagree, values are not finite, labels are no class indices, T is not > 0, or
            C = 1.
    """
    s = checked_scores("loo_logits", loo_logits)
    y = checked_labels("labels", labels, *s.shape)[:, None]
    if s.shape[1] < 2:
        raise ValueError("`loo_logits` must have at least two classes; with one, no label can be wrong.")
    p = probabilities(s, T)
    if thresholds is None:
        thresholds = class_thresholds(p.gather(1, y)[:, 0], y[:, 0], p.shape[1])
    best, likeliest = s.scatter(1, y, -torch.inf).max(dim=1)
    own, p_own = s.gather(1, y)[:, 0], p.gather(1, y)[:, 0]
    p_best = p.gather(1, likeliest[:, None])[:, 0]
    confident = torch.where(p >= thresholds - _EPS, p, -1.0)
    found = confident.argmax(dim=1)
    flagged = (confident.max(dim=1).values >= 0.0) & (found != y[:, 0]) & (own < best)  # (5)
    return LabelSuspects(p_own, own - best, p_own - p_best, torch.where(flagged, found, likeliest), flagged, thresholds)


def class_thresholds(p_own: Float[Tensor, " n"], labels: Int[Tensor, " n"], C: int) -> Float[Tensor, " C"]:
    """Return equation (4) of pictures, each with the probability of its own label, in C classes."""
    own = torch.zeros(C, dtype=p_own.dtype).index_add(0, labels, p_own)
    n = torch.bincount(labels, minlength=C)
    return torch.where(n > 0, own / n, torch.inf)
