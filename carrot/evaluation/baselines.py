"""What users would take instead, on the same embeddings: nearest neighbours, logistic regression, scikit-learn's ridge.

Each takes training embeddings, labels and test embeddings, and returns scores (m, C) for ``carrot.evaluation.summary``.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from carrot._display.extras import how_to_install
from carrot.utils import directions_of, require_finite, require_positive, require_tensor, whole_number

BLOCK = 1024  # test pictures at once: 1024 n cosines
PENALTIES = (0.01, 0.1, 1.0)  # of logistic regression, C
LAMS = tuple(10.0**k for k in range(-4, 5))  # of ridge, in units of G


def knn(
    G_train: Float[Tensor, "n D"],
    y_train: Int[Tensor, " n"],
    G_test: Float[Tensor, "m D"],
    C: SupportsIndex | None = None,
    k: SupportsIndex = 20,
    T: SupportsFloat = 0.07,
) -> Float[Tensor, "m C"]:
    """Return probabilities: the k nearest training pictures by cosine vote, each with softmax(cosine / T) over the k.

    Args:
        G_train: Training embeddings.
        y_train: Their labels.
        G_test: Test embeddings.
        C: Number of classes; default: the largest label + 1.
        k: How many neighbours; all n, if there are fewer.
        T: Temperature of the votes.

    A row of zeros has no direction: its cosine with everything is 0.

    Reference: Wu et al., CVPR 2018; Caron et al., ICCV 2021.

    Raises:
        ValueError: Shapes disagree, values are not finite, a label is out of range, k < 1 or T <= 0.
    """
    C = _check(G_train, y_train, G_test, C)
    T = require_positive("T", T)
    k = whole_number("k", k, 1)
    train, y = directions_of(G_train.detach().double()), y_train.to(G_train.device).long()
    votes = torch.zeros(len(G_test), C, dtype=torch.float64)
    for start in range(0, len(G_test), BLOCK):
        test = directions_of(G_test[start : start + BLOCK].detach().to(train))
        near = (test @ train.mT).topk(min(k, len(train)), dim=1)
        weights = torch.softmax(near.values / T, dim=1)
        votes[start : start + BLOCK].scatter_add_(1, y[near.indices].cpu(), weights.cpu())
    return votes


def logistic_regression(
    G_train: Float[Tensor, "n D"],
    y_train: Int[Tensor, " n"],
    G_test: Float[Tensor, "m D"],
    C: SupportsIndex | None = None,
    penalties: Sequence[float] = PENALTIES,
    folds: SupportsIndex = 3,
) -> Float[Tensor, "m C"]:
    """Return probabilities of scikit-learn's logistic regression on standardised embeddings, penalty cross-validated.

    A class of fewer pictures than ``folds`` lowers the number of folds; below two, the middle penalty is taken without
    any.

    Args:
        G_train: As for ``knn``.
        y_train: As for ``knn``; a class without pictures gets probability 0.
        G_test: As for ``knn``.
        C: As for ``knn``.
        penalties: scikit-learn's ``C`` to choose from: inverse strengths.
        folds: Of the cross-validation, at least 2; to go without it give one penalty.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: As ``knn``; there is only one class, no penalty, or fewer than 2 folds.
    """
    C = _check(G_train, y_train, G_test, C)
    linear_model, pipeline = _sklearn("linear_model"), _sklearn("pipeline")
    counts = torch.bincount(y_train.cpu().long())
    present = torch.nonzero(counts).flatten()
    if len(present) < 2:
        raise ValueError(f"`y_train` must hold at least two classes; got only class {int(present[0])}.")
    if not penalties:
        raise ValueError("`penalties` must hold at least one number > 0; got none.")
    folds = whole_number("folds", folds, 2, what="; to go without cross-validation give one penalty")
    G, y = _numpy(G_train), y_train.cpu().numpy()
    chosen = [require_positive("penalties", c) for c in penalties]
    model = pipeline.make_pipeline(
        _sklearn("preprocessing").StandardScaler(),
        linear_model.LogisticRegression(C=sorted(chosen)[len(chosen) // 2], max_iter=5000),
    )
    splits = min(folds, int(counts[present].min()))
    if len(chosen) > 1 and splits > 1:
        model = _sklearn("model_selection").GridSearchCV(model, {"logisticregression__C": chosen}, cv=splits)
    model.fit(G, y)
    p = torch.zeros(len(G_test), C, dtype=torch.float64)
    p[:, present] = torch.from_numpy(np.asarray(model.predict_proba(_numpy(G_test)), dtype=np.float64))
    return p


def sklearn_ridge(
    G_train: Float[Tensor, "n D"],
    y_train: Int[Tensor, " n"],
    G_test: Float[Tensor, "m D"],
    C: SupportsIndex | None = None,
    lams: Sequence[float] = LAMS,
) -> Float[Tensor, "m C"]:
    """Return the scores of scikit-learn's ridge on one-hot labels, with intercept, penalty by its leave-one-out error.

    It should say what ``RidgeHead("loo", True, lams=lams)`` says.

    Args:
        G_train: As for ``knn``.
        y_train: As for ``knn``.
        G_test: As for ``knn``.
        C: As for ``knn``.
        lams: Penalties to choose from.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: As ``knn``; or there is no penalty.
    """
    C = _check(G_train, y_train, G_test, C)
    RidgeCV = _sklearn("linear_model").RidgeCV
    if not lams:
        raise ValueError("`lams` must hold at least one number > 0; got none.")
    Y = torch.nn.functional.one_hot(y_train.cpu().long(), C).double().numpy()
    model = RidgeCV(alphas=[require_positive("lams", lam) for lam in lams]).fit(_numpy(G_train), Y)
    found = np.asarray(model.predict(_numpy(G_test)), dtype=np.float64)
    return torch.from_numpy(found).reshape(len(G_test), C)


def _check(G_train: Tensor, y_train: Tensor, G_test: Tensor, C: SupportsIndex | None) -> int:
    """Return the number of classes, once everything fits together."""
    C = None if C is None else whole_number("C", C, 1)
    for name, G in (("G_train", G_train), ("G_test", G_test)):
        require_tensor(name, G)
        if G.ndim != 2 or 0 in G.shape:
            raise ValueError(f"`{name}` must be (n, D), a row for each picture; got {tuple(G.shape)}.")
        require_finite(name, G)
    if G_train.shape[1] != G_test.shape[1]:
        raise ValueError(f"`G_test` must be (m, {G_train.shape[1]}), as wide as `G_train`; got {tuple(G_test.shape)}.")
    require_tensor("y_train", y_train)
    if y_train.shape != (len(G_train),) or y_train.is_floating_point() or y_train.dtype == torch.bool:
        raise ValueError(
            f"`y_train` must be ({len(G_train)},) integer labels; got {tuple(y_train.shape)} of {y_train.dtype}."
        )
    found = int(y_train.max()) + 1
    if int(y_train.min()) < 0 or (C is not None and found > C):
        raise ValueError(
            f"`y_train` must be from 0 to C - 1{'' if C is None else f' = {C - 1}'}; got {int(y_train.min())} to "
            f"{found - 1}."
        )
    return found if C is None else C


def _numpy(G: Tensor) -> NDArray[np.float64]:
    return G.detach().cpu().double().numpy()


def _sklearn(module: str) -> Any:
    """Return a module of scikit-learn, or say how to get it."""
    try:
        import_module("sklearn")
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise ModuleNotFoundError(
            f"This baseline needs scikit-learn, which is not part of the core: {how_to_install('sklearn')}.",
            name="sklearn",
        ) from None
    return import_module(f"sklearn.{module}")
