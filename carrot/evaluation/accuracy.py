"""How often the right class wins: arrays in, numbers out.

Ties are broken towards the **lowest class index**, as ``argmax`` does, so that equal logits give the same number on
every machine. The rank of the true class y of one picture is therefore counted, not sorted:

    rank = #{c : s_c > s_y} + #{c < y : s_c = s_y},      right in the top k  <=>  rank < k
"""

from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from carrot.utils import whole_number


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of m predictions, each number in [0, 1].

    Attributes:
        top1: Share of pictures whose true class has the highest logit.
        top5: Share whose true class is among the min(5, C) highest: 1.0 by construction where C <= 5.
        mean_per_class: Top-1 accuracy of each class that occurs in the labels, averaged over these classes.
        n: Number of pictures.
    """

    top1: float
    top5: float
    mean_per_class: float
    n: int


def summary(logits: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> Accuracy:
    """Return top-1, top-5 and mean-per-class accuracy of logits (m, C) and labels (m,).

    Raises:
        ValueError, TypeError: As ``top_k_accuracy``.
    """
    s, y = _tensor(logits), _tensor(labels)
    top1, mean_per_class = top_k_accuracy(s, y, 1), mean_per_class_accuracy(s, y)
    return Accuracy(top1, top_k_accuracy(s, y, min(5, s.shape[1])), mean_per_class, len(y))


def top_k_accuracy(logits: ArrayLike | Tensor, labels: ArrayLike | Tensor, k: SupportsIndex) -> float:
    """Return the share of pictures whose true class is among the k highest logits.

    Args:
        logits: (m, C), any real dtype.
        labels: (m,) class indices in 0 .. C-1.
        k: From 1 to C.

    Raises:
        ValueError: Shapes don't match, there is no picture, a logit is NaN or infinite, a label or k is out of range.
        TypeError: Labels are not integers, or logits not real numbers.
    """
    rank, _, n_classes = _ranks(logits, labels)
    return float((rank < whole_number("k", k, 1, n_classes, ", the number of classes")).double().mean())


def mean_per_class_accuracy(logits: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
    """Return the top-1 accuracy of each class, averaged over the classes that occur in ``labels``.

    Raises:
        ValueError, TypeError: As ``top_k_accuracy``.
    """
    rank, y, _ = _ranks(logits, labels)
    n_right = torch.bincount(y, weights=(rank < 1).double())
    n_pictures = torch.bincount(y)
    occurs = n_pictures > 0
    return float((n_right[occurs] / n_pictures[occurs]).mean())


def _ranks(logits: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> tuple[Tensor, Tensor, int]:
    """Return the rank of the true class (m,), the labels (m,) and C, all checked."""
    s, y = _tensor(logits), _tensor(labels)
    if s.dtype == torch.bool or s.is_complex():
        raise TypeError(f"logits must be real numbers; got {s.dtype}")
    if y.dtype == torch.bool or y.is_floating_point() or y.is_complex():
        raise TypeError(f"labels must be integers, class indices; got {y.dtype}")
    if s.ndim != 2 or y.ndim != 1 or len(s) != len(y):
        raise ValueError(
            f"logits must be (m, C) and labels (m,); got {tuple(s.shape)} and {tuple(y.shape)}. Give one row and one "
            "label per picture."
        )
    if s.numel() == 0:
        raise ValueError(f"logits must have at least one picture and one class; got shape {tuple(s.shape)}")
    if not torch.isfinite(s).all():
        row = int((~torch.isfinite(s)).any(dim=1).nonzero()[0])
        raise ValueError(f"logits must be finite; row {row} is not. Look at that picture's embedding.")
    y, n_classes = y.long(), s.shape[1]
    if int(y.min()) < 0 or int(y.max()) >= n_classes:
        raise ValueError(
            f"labels must be from 0 to C - 1 = {n_classes - 1}; got {int(y.min())} to {int(y.max())}. "
            "Number the classes from 0, in the order of the columns of logits."
        )
    own = s.gather(1, y[:, None])  # (m, 1)
    is_before = torch.arange(n_classes)[None] < y[:, None]  # (m, C)
    return ((s > own) | ((s == own) & is_before)).sum(dim=1), y, n_classes


def _tensor(values: ArrayLike | Tensor) -> Tensor:
    return values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
