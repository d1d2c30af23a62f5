"""``RidgeHead`` with scikit-learn's face: embeddings of any make in, arrays out, labels as they came in.

::

    logits = X W* + b,   targets one-hot, 0 and 1           classifier, C >= 2 classes
    decision = logits; with two classes logit_1 - logit_0   (RidgeClassifier's targets are -1 and 1: for two classes
                                                             its very decision, for more 2 logit - 1)
    p = softmax(logits / T), T the best for exact leave-one-out logits
    prediction = X W* + b                                   regressor, one target or k of them

A row of weight 0 is left out, as if it had not been given: ``rows_`` says which were taken, in the order of
``head_.G``. A row of weight s = 2 counts as two rows, in the fit and in T, for which one of them is left out at a time:
of its s c units (c is its class's weight) c min(s, 1), a share q = 1 / max(s, 1), so that

::

    y_i - logit_{-i}(g_i) = R_i / (1 - q leverage_i) = R_i / ((1 - q) + q slack_i)                                  (1)

which is equation (6) of ``carrot.head`` where s <= 1. Choosing lam by leave-one-out leaves out all of a row.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carrot._ridge.statistics import RidgeStatistics
from carrot.errors import NotFittedError
from carrot.estimators.conventions import (
    BaseEstimator,
    as_array,
    as_tensor,
    check_is_fitted,
    validate_data,
)
from carrot.evaluation.calibration import fit_temperature
from carrot.head import RidgeHead

FLOATS = [np.float64, np.float32]


class Learnt:
    """What a fit left: a head, or the statistics of one, which is solved when somebody asks.

    Args:
        head: Fitted on rows; None: of the statistics.
        statistics: Of all rows so far, where they are no longer there.
        lam, fit_intercept: Of the head that statistics make.
        counts: How many rows each row of the head stands for.
    """

    def __init__(
        self,
        head: RidgeHead | None,
        statistics: RidgeStatistics | None = None,
        lam: float = 1.0,
        fit_intercept: bool = True,
        counts: Tensor | None = None,
    ) -> None:
        self._head, self._statistics, self._lam, self._fit_intercept = head, statistics, lam, fit_intercept
        self._counts = counts

    @cached_property
    def head(self) -> RidgeHead:
        """The head."""
        if self._head is not None:
            return self._head
        return RidgeHead.from_statistics(self.statistics, self._lam, self._fit_intercept)

    @property
    def statistics(self) -> RidgeStatistics:
        """The statistics of all rows so far."""
        return self.head.statistics if self._statistics is None else self._statistics

    @cached_property
    def temperature(self) -> float:
        """The temperature that suits exact leave-one-out logits best."""
        if self._head is None or self._counts is None:
            raise NotFittedError(
                "`predict_proba` needs the leave-one-out logits of the training rows, and `partial_fit` keeps none of "
                "them. Call `fit` on all rows at once, or use `decision_function`."
            )
        head, q = self._head, 1.0 / self._counts.clamp(min=1.0)
        loo = head.Y - head.residual / ((1.0 - q) + q * head.slack).unsqueeze(-1)  # (1)
        return fit_temperature(loo, head.Y.argmax(dim=1), self._counts)


def takes_shards(estimator: Any) -> bool:
    """Say whether an estimator can learn from shards.

    Raises:
        ValueError: It can't.
    """
    if isinstance(estimator.lam, str):
        raise ValueError(
            f"`partial_fit` needs a number for `lam`; got {estimator.lam!r}: leave-one-out needs all rows at once. Set "
            "`lam` to a number, or call `fit`."
        )
    if getattr(estimator, "class_weight", None) == "balanced":
        raise ValueError(
            "`partial_fit` needs numbers for `class_weight`; got 'balanced', which needs all labels at once. Give "
            "{label: number}, or call `fit`."
        )
    return True


class RidgeEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What the classifier and the regressor share: rows checked, a head fitted, or statistics merged."""

    lam: Any
    fit_intercept: Any
    lams: Any
    n_features_in_: int
    _learnt: Learnt

    @property
    def head_(self) -> RidgeHead:
        """The ``RidgeHead``."""
        return self._learnt.head

    @property
    def lam_(self) -> float:
        """The penalty that was used."""
        return self.head_.lam

    def _rows(self, X: Any, y: Any, reset: bool, **how: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        fewest = 2 if isinstance(self.lam, str) and reset else 1
        return validate_data(
            self, as_array(X), as_array(y), reset=reset, dtype=FLOATS, ensure_min_samples=fewest, **how
        )

    def _fit(self, X: NDArray[Any], Y: Tensor, counts: NDArray[np.float64], w: NDArray[np.float64]) -> None:
        """Fit on the rows of w > 0."""
        rows = np.flatnonzero(w)
        is_all = len(rows) == len(X)
        head = RidgeHead(self.lam, self.fit_intercept, lams=self.lams)
        head.fit(as_tensor(X if is_all else X[rows]), Y if is_all else Y[rows], torch.from_numpy(w[rows]))
        self._learnt, self.rows_ = Learnt(head, counts=torch.from_numpy(counts[rows])), rows

    def _merge(self, X: NDArray[Any], Y: Tensor, w: NDArray[np.float64], is_first: bool) -> None:
        there = np.flatnonzero(w)
        new = RidgeStatistics.from_rows(as_tensor(X[there]), Y[torch.from_numpy(there)], torch.from_numpy(w[there]))
        RidgeHead(self.lam, self.fit_intercept)  # refuses a penalty that is none
        statistics = new if is_first else self._learnt.statistics + new
        self._learnt = Learnt(None, statistics, float(self.lam), self.fit_intercept)
        self.__dict__.pop("rows_", None)

    def _logits(self, X: Any) -> Tensor:
        check_is_fitted(self)
        X = validate_data(self, as_array(X), reset=False, dtype=FLOATS)
        return self.head_.predict(as_tensor(X))
