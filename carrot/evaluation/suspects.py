"""Which labels the other training pictures contradict, and which pictures their own label decides: from exact leave-one-out.

::

    p_i = softmax(loo_i / T)                       what the head fitted without picture i says of it            (1)
    self-confidence  = p_iy                        margin = loo_iy - max_{c != y} loo_ic                        (2)
    normalised margin = p_iy - max_{c != y} p_ic                                                                (3)

Self-confidence and normalised margin are those of confident learning, with its cross-validation replaced by exact leave-one-out: no
folds, no refits, and no picture judges its own label. A wrong label still pulls on its neighbours' logits.

Reference: Northcutt, Jiang and Chuang, JAIR 70 (2021), for self-confidence and normalised margin.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from carrot.evaluation.calibration import probabilities
from carrot.evaluation.inputs import checked_labels, checked_scores
from carrot.head import RidgeHead

Score = Literal["margin", "self_confidence", "normalised_margin"]


@dataclass(frozen=True, eq=False)
class LabelSuspects:
    """Every training picture, as the head fitted without it sees its label; low numbers are suspicious.

    Attributes:
        self_confidence: Probability of its own label.
        margin: Logit of its own label less the best other one; below 0 the others contradict the label.
        normalised_margin: The same of probabilities, in [-1, 1].
        suggested: The class, other than its label, that the others think likeliest.
    """

    self_confidence: Float[Tensor, " n"]
    margin: Float[Tensor, " n"]
    normalised_margin: Float[Tensor, " n"]
    suggested: Int[Tensor, " n"]

    def order(self, by: Score = "self_confidence") -> Int[Tensor, " n"]:
        """Return all pictures, most suspicious first; of equal ones the lower index.

        On 400 toy pictures, 20 labels of them wrong, over 20 draws (``python -m benchmarks.suspects``): of the first 20, 0.890 ± 0.012
        were wrong by self-confidence, 0.868 ± 0.009 by margin, 0.745 ± 0.012 by normalised margin; 0.790 ± 0.010 by the margin with the
        own label counted.

        Raises:
            ValueError: ``by`` is unknown.
        """
        if by not in ("margin", "self_confidence", "normalised_margin"):
            raise ValueError(f"`by` must be 'margin', 'self_confidence' or 'normalised_margin'; got {by!r}.")
        return torch.argsort(getattr(self, by), stable=True)


def label_suspects(loo_logits: ArrayLike | Tensor, labels: ArrayLike | Tensor, T: float) -> LabelSuspects:
    """Return how far each training picture's label is believed by the others: equations (2) and (3).

    Args:
        loo_logits: (n, C), ``head.loo_predict()``.
        labels: (n,) class indices, as given.
        T: Temperature, ``fit_temperature(loo_logits, labels)``; the margin doesn't depend on it.

    Raises:
        ValueError, TypeError: Shapes disagree, values are not finite, labels are no class indices, T is not > 0, or C = 1.
    """
    s = checked_scores("loo_logits", loo_logits)
    y = checked_labels("labels", labels, *s.shape)[:, None]
    if s.shape[1] < 2:
        raise ValueError("`loo_logits` must have at least two classes; with one, no label can be wrong.")
    p = probabilities(s, T)
    best, suggested = s.scatter(1, y, -torch.inf).max(dim=1)
    own, p_own = s.gather(1, y)[:, 0], p.gather(1, y)[:, 0]
    p_best = p.gather(1, suggested[:, None])[:, 0]
    return LabelSuspects(p_own, own - best, p_own - p_best, suggested)


def high_leverage(head: RidgeHead, k: int) -> tuple[Float[Tensor, " k"], Int[Tensor, " k"]]:
    """Return the k highest leverages and their training pictures: those whose own label counts most in their own logits.

    Raises:
        ValueError: k is not in 1 .. n.
        NotFittedError: The head knows no training picture.
    """
    leverage = head.leverage
    if not 1 <= k <= len(leverage):
        raise ValueError(f"`k` must be in 1 .. {len(leverage)}, the number of training pictures; got {k}.")
    order = torch.argsort(leverage, descending=True, stable=True)[:k]
    return leverage[order], order
