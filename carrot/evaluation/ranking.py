"""How well a score finds planted faults: the precision of its first, the area under its ROC curve."""

from typing import SupportsIndex

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from carrot.utils import require_finite, require_tensor, whole_number


def precision_at(scores: Float[Tensor, " n"], wrong: Bool[Tensor, " n"], k: SupportsIndex) -> float:
    """Return the share of wrong labels among the k highest scores: 1 where the first k looked at are all wrong.

    Where equal scores straddle the k-th place, they share the places that are left: the mean over all orders of them.

    Args:
        scores: Higher is more suspicious; a margin goes in with its sign turned.
        wrong: Which labels are wrong, as planted.
        k: From 1 to n.

    Raises:
        ValueError: Shapes don't match, there is no picture, a score is NaN or infinite, or k is out of range.
        TypeError: Scores are not floating point, or ``wrong`` is not boolean.
    """
    _check(scores, wrong)
    n = len(scores)
    k = whole_number("k", k, 1, n, ", the number of pictures")
    wrong = wrong.to(scores.device)
    last = scores.sort(descending=True).values[k - 1]
    above, tied = scores > last, scores == last
    places = k - int(above.sum())
    return (int(wrong[above].sum()) + places * int(wrong[tied].sum()) / int(tied.sum())) / k


def auroc(scores: Float[Tensor, " n"], wrong: Bool[Tensor, " n"]) -> float:
    """Return the chance that a wrong label scores above a right one, ties counted half: the area under the ROC curve.

    0.5 is chance, 1 a perfect order. Counted by ranks, in n log n.

    Raises:
        ValueError: All labels are wrong or none is; and as ``precision_at``.
        TypeError: As ``precision_at``.
    """
    _check(scores, wrong)
    wrong = wrong.to(scores.device)
    n_wrong, n = int(wrong.sum()), len(scores)
    if n_wrong in (0, n):
        raise ValueError(f"`wrong` must hold wrong and right labels, to compare them; got {n_wrong} wrong of {n}.")
    _, place = scores.unique(return_inverse=True)  # place: 0 for the lowest value
    wrongs = torch.bincount(place[wrong], minlength=int(place.max()) + 1)
    rights = torch.bincount(place[~wrong], minlength=len(wrongs))
    below = rights.cumsum(0) - rights
    twice = int((wrongs * (2 * below + rights)).sum())  # an integer: no rounding
    return twice / (2 * n_wrong * (n - n_wrong))


def _check(scores: Tensor, wrong: Tensor) -> None:
    require_tensor("scores", scores)
    require_tensor("wrong", wrong)
    if not scores.is_floating_point():
        raise TypeError(f"`scores` must be floating point; got {scores.dtype}. Convert it with `.double()`.")
    if wrong.dtype != torch.bool:
        raise TypeError(f"`wrong` must be boolean, True where the label is wrong; got {wrong.dtype}.")
    if scores.ndim != 1 or scores.shape != wrong.shape or len(scores) == 0:
        raise ValueError(
            f"`scores` and `wrong` must be (n,), one number and one truth a picture, n >= 1; got {tuple(scores.shape)} "
            f"and {tuple(wrong.shape)}."
        )
    require_finite("scores", scores)
