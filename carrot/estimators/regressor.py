"""``RidgeHead`` as scikit-learn has a regressor; formulas are in ``carrot.estimators.base``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from carrot.estimators.base import RidgeEstimator, takes_shards
from carrot.estimators.conventions import RegressorMixin, as_array, as_tensor, available_if, sample_weights


class RidgeHeadRegressor(RegressorMixin, RidgeEstimator):  # type: ignore[misc]
    """The closed-form ridge head as scikit-learn has a regressor: embeddings (n, D) and one target, or k of them.

    Args:
        lam: Penalty > 0, or "loo": the best of ``lams`` by exact leave-one-out error, one for all targets.
        fit_intercept: Centre embeddings and targets, exactly.
        lams: Penalties to choose from with lam="loo"; default: those of ``RidgeHead``.

    Attributes (after ``fit``):
        head_: The ``RidgeHead``, a column for each target.
        coef_, intercept_: (D,) and a number; of (n, k) targets (k, D) and (k,).
        lam_: The penalty that was used.
        rows_: Which rows of X ``head_`` holds: those of weight > 0; not after ``partial_fit``.
        n_features_in_, feature_names_in_: As scikit-learn has them.

    Exactness: exact; ``tests/unit/test_estimators.py`` holds it against scikit-learn's ``Ridge``.
    """

    _is_one: bool  # whether targets came as (n,)

    def __init__(
        self,
        lam: Any = 1.0,  # scikit-learn lets anything in here: ``fit`` refuses it
        *,
        fit_intercept: Any = True,
        lams: Any = None,
    ) -> None:
        self.lam = lam
        self.fit_intercept = fit_intercept
        self.lams = lams

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _more_tags(self) -> dict[str, Any]:  # scikit-learn before 1.6
        return {"multioutput": True}

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "RidgeHeadRegressor":
        """Fit on all rows at once.

        Args:
            X: (n, D) embeddings.
            y: (n,) or (n, k) numbers.
            sample_weight: (n,) numbers >= 0; a row of weight 0 is left out.

        Raises:
            ValueError: Something is not finite, of another shape, or ``y`` are labels.
        """
        X, Y, is_one = self._numbers(X, y, True)
        w = sample_weights(sample_weight, len(X))
        self._fit(X, Y, w, w)
        self._is_one = is_one
        return self

    @available_if(takes_shards)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "RidgeHeadRegressor":
        """Add rows to those of earlier calls, or of ``fit``; equals a fit on all of them, in whatever order they come.

        Only moments are kept, D^2 numbers: ``head_`` then knows no single row. Not with lam="loo".

        Args:
            X: (n, D) embeddings.
            y: (n,) or (n, k) numbers, as many as before.
            sample_weight: (n,) numbers >= 0.

        Raises:
            ValueError: As ``fit``.
        """
        is_first = not hasattr(self, "_learnt")
        X, Y, is_one = self._numbers(X, y, is_first)
        if not is_first and is_one != self._is_one:
            raise ValueError("`y` must have as many axes as in the first call to partial_fit.")
        self._merge(X, Y, sample_weights(sample_weight, len(X)), is_first)
        self._is_one = is_one
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions, (m,) or (m, k)."""
        found = self._logits(X).numpy()
        return found[:, 0] if self._is_one else found

    @property
    def coef_(self) -> NDArray[np.float64]:
        """Weights, (D,) or (k, D)."""
        W = self.head_.W_star.mT.numpy()
        return W[0] if self._is_one else W

    @property
    def intercept_(self) -> NDArray[np.float64] | float:
        """Intercepts, a number or (k,)."""
        b = self.head_.bias.numpy()
        return float(b[0]) if self._is_one else b

    def _numbers(self, X: Any, y: Any, reset: bool) -> tuple[NDArray[Any], Tensor, bool]:
        label = _a_label(as_array(y))
        if label is not None:
            raise ValueError(
                f"`y` must be numbers, the targets of a regression; got {label!r}. Labels of classes are for "
                "RidgeHeadClassifier."
            )
        X, Y = self._rows(X, y, reset, multi_output=True, y_numeric=True)
        return X, as_tensor(Y.reshape(len(Y), -1).astype(np.float64, copy=False)), Y.ndim == 1


def _a_label(y: Any) -> object:
    """Return something in y that is text and no number; None: there is none."""
    values = np.asarray(y)
    if values.dtype.kind not in "OUS":
        return None
    for value in values.ravel().tolist():
        try:
            float(value)
        except (TypeError, ValueError):
            return None if value is None else value
    return None
