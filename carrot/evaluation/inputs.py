"""What measures let in: scores of m pictures for C classes, and class indices, checked once."""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from carrot.utils import require_finite


def as_tensor(values: ArrayLike | Tensor) -> Tensor:
    """Return the values as a tensor on the processor, without its gradient."""
    return values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))


def checked_scores(name: str, scores: ArrayLike | Tensor) -> Float[Tensor, "m C"]:
    """Return scores in float64.

    Raises:
        ValueError: They are not (m, C) with a picture and a class, or not finite.
        TypeError: They are not real numbers.
    """
    s = as_tensor(scores)
    if s.dtype == torch.bool or s.is_complex():
        raise TypeError(f"`{name}` must be real numbers; got {s.dtype}.")
    if s.ndim != 2 or 0 in s.shape:
        raise ValueError(f"`{name}` must be (m, C), a row for each picture; got {tuple(s.shape)}.")
    require_finite(name, s)
    return s.double()


def checked_labels(name: str, labels: ArrayLike | Tensor, m: int, C: int) -> Int[Tensor, " m"]:
    """Return class indices of m pictures in int64.

    Raises:
        ValueError: There are not m of them, or one is outside 0 .. C - 1.
        TypeError: They are not integers.
    """
    y = as_tensor(labels)
    if y.ndim != 1 or len(y) != m:
        raise ValueError(f"`{name}` must be ({m},), one for each picture; got {tuple(y.shape)}.")
    if y.dtype == torch.bool or y.is_floating_point() or y.is_complex():
        raise TypeError(f"`{name}` must be integers, class indices; got {y.dtype}.")
    if int(y.min()) < 0 or int(y.max()) >= C:
        raise ValueError(
            f"`{name}` must be from 0 to C - 1 = {C - 1}; got {int(y.min())} to {int(y.max())}. "
            "Number the classes from 0, in the order of the columns."
        )
    return y.long()
