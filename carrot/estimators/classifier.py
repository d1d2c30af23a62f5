"""``RidgeHead`` as scikit-learn has a classifier; formulas are in ``carrot.estimators.base``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carrot.estimators.base import RidgeEstimator, takes_shards
from carrot.estimators.conventions import (
    ClassifierMixin,
    as_array,
    available_if,
    check_classification_targets,
    sample_weights,
)
from carrot.evaluation.calibration import probabilities
from carrot.utils import require_positive


class RidgeHeadClassifier(ClassifierMixin, RidgeEstimator):  # type: ignore[misc]
    """The closed-form ridge head as scikit-learn has a classifier: embeddings (n, D) and labels of any kind.

    Embeddings are arrays, tensors or data frames; answers are arrays.

    Args:
        lam: Penalty > 0, or "loo": the best of ``lams`` by exact leave-one-out error. 1 means something for embeddings
            of one scale only: "loo" is the choice for those that you don't know.
        fit_intercept: Centre embeddings and targets, exactly.
        lams: Penalties to choose from with lam="loo"; default: those of ``RidgeHead``.
        class_weight: None; "balanced", all classes alike, sample weights counted; or a number by label, 1 for others.

    Attributes (after ``fit``):
        classes_: Labels, (C,), sorted.
        head_: The ``RidgeHead``, columns in the order of ``classes_``, also of two.
        coef_, intercept_: (C, D) and (C,); with two classes (1, D) and (1,), of their difference.
        lam_: The penalty that was used.
        temperature_: Of ``predict_proba``.
        rows_: Which rows of X ``head_`` holds: those of weight > 0; not after ``partial_fit``.
        n_features_in_, feature_names_in_: As scikit-learn has them.

    Exactness: exact; ``tests/unit/test_estimators.py`` holds it against ``RidgeHead`` and scikit-learn.
    """

    classes_: NDArray[Any]

    def __init__(
        self,
        lam: Any = 1.0,  # scikit-learn lets anything in here: ``fit`` refuses it
        *,
        fit_intercept: Any = True,
        lams: Any = None,
        class_weight: Any = None,
    ) -> None:
        self.lam = lam
        self.fit_intercept = fit_intercept
        self.lams = lams
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "RidgeHeadClassifier":
        """Fit on all rows at once.

        Args:
            X: (n, D) embeddings.
            y: (n,) labels: text, numbers, truth values.
            sample_weight: (n,) numbers >= 0; a row of weight 0 is left out, and so is a class of such rows.

        Raises:
            ValueError: Something is not finite, of another shape, ``y`` is of one class or no class labels.
            TypeError: Labels can't be sorted: some are missing, or of another kind.
        """
        X, y = self._rows(X, _typed(y), True)
        counts = sample_weights(sample_weight, len(X))
        classes, codes = _classes(y, counts > 0)
        if len(classes) < 2:
            raise ValueError(f"`y` must hold at least two classes; got one class, {classes.tolist()[0]!r}.")
        self._fit(X, torch.from_numpy(codes), counts, self._weighted(counts, codes, classes))
        self.classes_ = classes  # the names of the head's columns: not before there is one
        return self

    @available_if(takes_shards)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "RidgeHeadClassifier":
        """Add rows to those of earlier calls, or of ``fit``; equals a fit on all of them, in whatever order they come.

        Only moments are kept, D^2 numbers: ``head_`` then knows no single row. Not with lam="loo", whose
        leave-one-out needs all rows, nor with class_weight="balanced", which needs all labels.

        Args:
            X: (n, D) embeddings.
            y: (n,) labels among ``classes``.
            classes: All labels there will be; needed in the first call, where ``fit`` was not before.
            sample_weight: (n,) numbers >= 0.

        Raises:
            ValueError: ``classes`` are missing or others than before, a label is none of them, or weights are balanced.
        """
        is_first = not hasattr(self, "_learnt")
        if is_first and classes is None:
            raise ValueError("`classes` must hold all labels in the first call to partial_fit.")
        X, y = self._rows(X, _typed(y), is_first)
        all_of_them = self.classes_ if classes is None else np.unique(_typed(classes))
        if not is_first and not np.array_equal(all_of_them, self.classes_):
            raise ValueError(f"`classes` must be those of the first call, {self.classes_}; got {all_of_them}.")
        if len(all_of_them) < 2:
            raise ValueError(f"`classes` must hold at least two classes; got one class, {all_of_them.tolist()[0]!r}.")
        check_classification_targets(y)
        known = np.isin(y, all_of_them)
        if not known.all():
            raise ValueError(f"`y` must hold labels among `classes`; {y[~known].tolist()[0]!r} is none of them.")
        codes = np.searchsorted(all_of_them, y)
        w = self._weighted(sample_weights(sample_weight, len(X)), codes, all_of_them)
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(codes), len(all_of_them)).to(torch.float64)
        self._merge(X, one_hot, w, is_first)
        self.classes_ = all_of_them
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return logits, (m, C); with two classes the second less the first, (m,)."""
        logits = self._logits(X)
        return (logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits).numpy()

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of the highest logit, (m,)."""
        best = self._logits(X).argmax(dim=1).numpy()
        return self.classes_[best]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return softmax(logits / ``temperature_``), (m, C).

        Raises:
            NotFittedError: After ``partial_fit``, which keeps no row to leave out.
        """
        logits = self._logits(X)
        return probabilities(logits, self.temperature_).numpy()

    @property
    def temperature_(self) -> float:
        """Of ``predict_proba``: fitted on exact leave-one-out logits, when it is first asked for."""
        return self._learnt.temperature

    @property
    def coef_(self) -> NDArray[np.float64]:
        """Weights, (C, D), or (1, D)."""
        W = self.head_.W_star.mT.numpy()
        return W[1:] - W[:1] if len(W) == 2 else W

    @property
    def intercept_(self) -> NDArray[np.float64]:
        """Intercepts, (C,), or (1,)."""
        b = self.head_.bias.numpy()
        return b[1:] - b[:1] if len(b) == 2 else b

    def _weighted(self, w: NDArray[np.float64], codes: NDArray[np.int64], classes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the weights of rows times those of their classes."""
        given, C = self.class_weight, len(classes)
        if given is None:
            return w
        if isinstance(given, str) and given == "balanced":
            return w * (w.sum() / (C * np.bincount(codes, w, C)))[codes]
        if not isinstance(given, Mapping):
            raise ValueError(f'`class_weight` must be None, "balanced" or {{label: number}}; got {given!r}.')
        unknown = [label for label in given if label not in classes]
        if unknown:
            raise ValueError(f"`class_weight` must name labels of `y`; {unknown[0]!r} is none of {C}.")
        c = np.array([require_positive("class_weight", given.get(label, 1.0)) for label in classes.tolist()])
        return w * c[codes]


def _classes(y: NDArray[Any], there: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the labels of the rows that are there, sorted, and which of them each row has; 0 where it is not there.

    Raises:
        ValueError: They are no labels of classes: numbers that are not whole.
        TypeError: They can't be sorted.
    """
    codes = np.zeros(len(y), dtype=np.int64)
    try:
        check_classification_targets(y)
        classes, codes[there] = np.unique(y[there], return_inverse=True)
    except TypeError as error:
        raise TypeError(
            f"`y` must hold labels of one kind, and none may be missing; they can't be sorted ({error})."
        ) from error
    return classes, codes


def _typed(y: Any) -> Any:
    """Return labels that came as objects, none of which is text, as an array of their own type; others as they are."""
    y = as_array(y)
    if np.dtype(object) != getattr(y, "dtype", None):
        return y
    values = np.asarray(y).ravel().tolist()
    return np.asarray(y) if any(isinstance(value, str) or value is None for value in values) else np.array(list(y))
