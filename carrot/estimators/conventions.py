"""What of scikit-learn is asked for here, from 1.4 on, and arrays as the head takes them.

Importing this where scikit-learn is not installed says what to install.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carrot._display.extras import how_to_install

try:
    from sklearn.base import (
        BaseEstimator,
        ClassifierMixin,
        ClassNamePrefixFeaturesOutMixin,
        RegressorMixin,
        TransformerMixin,
    )
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError(f"carrot.estimators needs scikit-learn: {how_to_install('sklearn')}.") from error
try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before 1.6 it was a method

    def validate_data(estimator: Any, X: Any, y: Any = "no_validation", **given: Any) -> Any:
        """Return X, or X and y, checked."""
        return estimator._validate_data(X, y, **given)


__all__ = [
    "BaseEstimator",
    "ClassNamePrefixFeaturesOutMixin",
    "ClassifierMixin",
    "RegressorMixin",
    "TransformerMixin",
    "as_array",
    "as_tensor",
    "available_if",
    "check_classification_targets",
    "check_is_fitted",
    "sample_weights",
    "validate_data",
]


def as_array(given: Any) -> Any:
    """Return a tensor as an array; half precision in float32, which holds each of its numbers. Others as they are."""
    if isinstance(given, Tensor):
        is_half = given.dtype in (torch.bfloat16, torch.float16)
        return (given.detach().float() if is_half else given.detach()).cpu().numpy()
    return given.astype(np.float32) if isinstance(given, np.ndarray) and given.dtype == np.float16 else given


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Return an array as a tensor; one that may not be written into, or whose strides torch doesn't know, is copied."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def sample_weights(given: Any, n: int) -> NDArray[np.float64]:
    """Return the weight of each row.

    Raises:
        ValueError: They are of another number, not finite, below 0, or all 0.
    """
    if given is None:
        return np.ones(n)
    w = np.array(as_array(given), dtype=np.float64)  # a copy
    w = np.full(n, w) if w.ndim == 0 else w
    if w.shape != (n,):
        raise ValueError(f"`sample_weight` must be ({n},), one for each row of `X`; got {w.shape}.")
    if not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError("`sample_weight` must be finite numbers >= 0; some are not.")
    if not w.any():
        raise ValueError("`sample_weight` must have a number > 0; every weight is zero.")
    return w
