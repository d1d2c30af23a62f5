"""The head with scikit-learn's face: its whole battery of checks, and against its own ridge."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.utils.estimator_checks import parametrize_with_checks

from carrot import CarrotError, RidgeHead
from carrot.estimators import RidgeHeadClassifier, RidgeHeadRegressor, base
from carrot.evaluation.calibration import fit_temperature

EPS = np.finfo(np.float64).eps
# Leave-one-out with a row of weight 2 leaves out both of what it stands for; of two equal rows it leaves out one.
OTHER_LAM = {"check_sample_weight_equivalence_on_dense_data": "leave-one-out of a weighted row leaves all of it out"}


def expected(estimator: Any) -> dict[str, str]:
    return OTHER_LAM if estimator.lam == "loo" else {}


@pytest.mark.filterwarnings("ignore:.*end of the path:UserWarning", "ignore:Every class has one:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [
        RidgeHeadClassifier(),
        RidgeHeadRegressor(),
        RidgeHeadClassifier("loo", class_weight="balanced"),
        RidgeHeadRegressor("loo"),
    ],
    expected_failed_checks=expected,
)
def test_scikit_learns_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def world(n: int = 60, D: int = 8, C: int = 3, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % C
    return rng.normal(size=(n, D)) + 1.5 * rng.normal(size=(C, D))[y], y


# ---- against scikit-learn, and against the head


@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "D"), [(60, 8), (12, 40)])
def test_two_classes_are_scikit_learns_decision(lam: float, intercept: bool, n: int, D: int) -> None:
    X, y = world(n, D, 2)
    w = np.linspace(0.5, 2.0, n)
    ours = RidgeHeadClassifier(lam, fit_intercept=intercept).fit(X, y, w)
    theirs = RidgeClassifier(lam, fit_intercept=intercept, solver="cholesky").fit(X, y, w)
    assert ours.coef_.shape == (1, D)
    assert ours.intercept_.shape == (1,)
    tolerance = 10 * EPS * np.linalg.cond(X.T @ X + lam * np.eye(D))
    for a, b in ((ours.coef_, theirs.coef_), (ours.intercept_, theirs.intercept_)):
        np.testing.assert_allclose(a.ravel(), np.ravel(b), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours.decision_function(X), (X @ ours.coef_.T + ours.intercept_)[:, 0], atol=1e-12)


@pytest.mark.parametrize("k", [0, 1, 3])
def test_regression_is_scikit_learns(k: int) -> None:
    X, y = world()
    Y = np.sin(X[:, : k or 1]) + y[:, None] if k else np.sin(X[:, 0]) + y
    w = np.linspace(0.5, 2.0, len(X))
    ours, theirs = RidgeHeadRegressor(0.3).fit(X, Y, w), Ridge(0.3, solver="cholesky").fit(X, Y, w)
    assert ours.predict(X).shape == Y.shape
    assert np.shape(ours.coef_) == ((k, X.shape[1]) if k else (X.shape[1],))
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X).reshape(Y.shape), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(X @ ours.coef_.T + ours.intercept_, ours.predict(X), rtol=1e-11, atol=1e-11)


def test_many_classes_are_the_heads() -> None:
    X, y = world()
    ours = RidgeHeadClassifier("loo").fit(X, y)
    head = RidgeHead("loo", fit_intercept=True).fit(torch.from_numpy(X), torch.from_numpy(y))
    assert ours.lam_ == head.lam
    assert torch.equal(ours.head_.W_star, head.W_star)
    assert np.array_equal(ours.decision_function(X), head.predict(torch.from_numpy(X)).numpy())
    assert ours.temperature_ == fit_temperature(head.loo_predict(), torch.from_numpy(y))
    p = ours.predict_proba(X)
    z = np.exp(ours.decision_function(X) / ours.temperature_)
    np.testing.assert_allclose(p, z / z.sum(1, keepdims=True), rtol=1e-12)
    assert clone(ours).get_params() == ours.get_params()
    again = pickle.loads(pickle.dumps(ours))  # noqa: S301  (our own bytes)
    assert np.array_equal(again.predict_proba(X), p)


# ---- what comes in


LABELS: dict[str, Callable[[int], Any]] = {
    "text": lambda c: ["wren", "robin", "jay"][c],
    "numbers": lambda c: [7, -2, 3][c],
    "floats": lambda c: [7.0, -2.0, 3.0][c],
    "truth": lambda c: c == 1,
}
HOLDERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "array": np.array,
    "objects": lambda y: np.array(y, dtype=object),
    "series": pd.Series,
    "categories": lambda y: pd.Series(y, dtype="category"),
    "tensor": torch.tensor,
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_labels_of_any_kind_come_back(kind: str, holder: str) -> None:
    X, codes = world()
    y = [LABELS[kind](c) for c in codes]
    if (kind, holder) == ("text", "tensor"):
        pytest.skip("no tensor holds text")
    model = RidgeHeadClassifier().fit(X, HOLDERS[holder](y))
    said = model.predict(X)
    assert model.classes_.tolist() == sorted(set(y))
    assert said.dtype == model.classes_.dtype
    assert np.mean([a == b for a, b in zip(said.tolist(), y, strict=True)]) > 0.8
    assert model.score(X, HOLDERS["array"](y)) > 0.8


@pytest.mark.parametrize(
    "into",
    [
        torch.tensor,
        lambda X: torch.tensor(X, requires_grad=True),
        lambda X: torch.tensor(X).to(torch.bfloat16).to(torch.float64),
        lambda X: X.tolist(),
        np.asfortranarray,
        lambda X: X[::-1][::-1],
        lambda X: X.astype(">f8"),
        lambda X: pd.DataFrame(X),
    ],
)
def test_embeddings_of_any_make(into: Callable[[Any], Any]) -> None:
    X, y = world()
    given = into(X)
    plain = given.detach().numpy() if isinstance(given, torch.Tensor) else np.array(given, dtype=np.float64)
    expected = RidgeHeadClassifier(0.1).fit(plain, y).decision_function(plain)
    assert np.array_equal(RidgeHeadClassifier(0.1).fit(given, y).decision_function(given), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_rows_stay_narrow_and_answers_are_wide(dtype: torch.dtype) -> None:
    X, y = world()
    narrow = torch.tensor(X).to(dtype)
    model = RidgeHeadClassifier(0.1).fit(narrow, y)
    assert model.head_.G.dtype == torch.float32
    wide = RidgeHeadClassifier(0.1).fit(narrow.double(), y).decision_function(narrow.double())
    np.testing.assert_allclose(model.decision_function(narrow), wide, rtol=1e-11, atol=1e-11)
    if dtype == torch.float16:
        assert RidgeHeadClassifier(0.1).fit(narrow.numpy(), y).head_.G.dtype == torch.float32


def test_columns_have_names() -> None:
    X, y = world()
    frame = pd.DataFrame(X, columns=[f"g{i}" for i in range(X.shape[1])])
    model = RidgeHeadClassifier().fit(frame, y)
    assert model.feature_names_in_.tolist() == list(frame.columns)
    assert model.n_features_in_ == 8
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[frame.columns[::-1]])


def test_constant_columns_bring_nothing_and_break_nothing() -> None:
    X, y = world()
    flat = np.column_stack([X, np.full(len(X), 1e6), np.zeros(len(X))])
    for lam in (1.0, "loo"):
        model = RidgeHeadClassifier(lam).fit(flat, y)  # type: ignore[arg-type]
        plain = RidgeHeadClassifier(model.lam_).fit(X, y)
        assert np.abs(model.coef_[:, 8:]).max() < 1e-9
        np.testing.assert_allclose(model.decision_function(flat), plain.decision_function(X), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    X, y = world()
    X[3, 2] = bad
    for model in (RidgeHeadClassifier(), RidgeHeadRegressor()):
        with pytest.raises(ValueError, match="NaN" if np.isnan(bad) else "infinity"):
            model.fit(X, y)
    X, _ = world()
    targets = X[:, 0].copy()
    targets[0] = bad
    with pytest.raises(ValueError, match="NaN|infinity"):
        RidgeHeadRegressor().fit(X, targets)
    with pytest.raises(ValueError, match="`sample_weight` must be finite"):
        RidgeHeadClassifier().fit(X, y, sample_weight=np.where(np.arange(60) == 3, bad, 1.0))


def test_the_wrong_kind_of_target_is_told() -> None:
    X, y = world()
    with pytest.raises(ValueError, match="continuous"):
        RidgeHeadClassifier().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="'robin'.*RidgeHeadClassifier"):
        RidgeHeadRegressor().fit(X, np.array(["robin", "wren", "jay"])[y])
    with pytest.raises(ValueError, match="one class"):
        RidgeHeadClassifier().fit(X, np.zeros(60, dtype=int))
    with pytest.raises((TypeError, ValueError), match="one kind|NaN|missing"):
        RidgeHeadClassifier().fit(X, np.array(["a", None, "b"] * 20, dtype=object))
    with pytest.raises(ValueError, match="1d array"):
        RidgeHeadClassifier().fit(X, np.eye(3)[y])
    np.testing.assert_allclose(RidgeHeadRegressor().fit(X, y == 1).predict(X), Ridge().fit(X, y == 1).predict(X))


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lam": -1.0}, "lam"),
        ({"lam": "cv"}, "lam"),
        ({"class_weight": "heavy"}, "balanced"),
        ({"class_weight": {9: 2.0}}, "9 is none of 3"),
        ({"class_weight": {0: -2.0}}, "class_weight.*> 0"),
        ({"class_weight": {0: 0.0}}, "class_weight.*> 0"),
    ],
)
def test_parameters_out_of_range_are_refused_by_fit(given: dict[str, Any], message: str) -> None:
    X, y = world()
    with pytest.raises(ValueError, match=message):
        RidgeHeadClassifier(**given).fit(X, y)


# ---- weights


def test_a_weight_counts_rows_in_logits_and_in_probabilities() -> None:
    check_counts(RidgeHeadClassifier)


MUTANTS = {
    "all of a row left out": ("1.0 / self._counts.clamp(min=1.0)", "torch.ones_like(self._counts)"),
    "leverage for slack": ("q * head.slack", "q * head.leverage"),
    "rows counted once in T": ("dim=1), self._counts)", "dim=1))"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_damaged_copies_are_rejected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, instead = MUTANTS[name]
    source = Path(base.__file__).read_text()
    assert source.count(text) == 1
    module = ModuleType("carrot.estimators.damaged")
    exec(compile(source.replace(text, instead), "damaged", "exec"), module.__dict__)
    monkeypatch.setattr(base.Learnt, "temperature", module.Learnt.temperature)
    with pytest.raises(AssertionError):
        check_counts(RidgeHeadClassifier)


def check_counts(made: Any) -> None:
    """Hold a fit with weights against one where each row stands as often as it counts."""
    X, y = world()
    w = np.array([0.0, 1.0, 2.0, 3.0])[np.arange(60) % 4]
    for class_weight in (None, "balanced", {0: 2.5}):
        weighted = made(0.5, class_weight=class_weight).fit(X, y, w)
        times = w.astype(int)
        repeated = made(0.5, class_weight=class_weight).fit(X.repeat(times, axis=0), y.repeat(times))
        np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-9)
        assert weighted.rows_.tolist() == np.flatnonzero(w).tolist()
        assert np.array_equal(weighted.head_.G.numpy(), X[w > 0])


def test_class_weights_are_scikit_learns() -> None:
    X, y = world(50, 6, 3)
    y[:20] = 0
    for class_weight in ("balanced", {0: 3.0, 2: 0.5}):
        ours = RidgeHeadClassifier(0.5, class_weight=class_weight).fit(X, y)  # type: ignore[arg-type]
        theirs = RidgeClassifier(0.5, class_weight=class_weight, solver="cholesky").fit(X, y)
        np.testing.assert_allclose(2 * ours.decision_function(X) - 1, theirs.decision_function(X), atol=1e-12)


def test_a_class_of_no_weight_is_not_there() -> None:
    X, y = world()
    model = RidgeHeadClassifier().fit(X, y, sample_weight=(y != 1).astype(float))
    assert model.classes_.tolist() == [0, 2]
    np.testing.assert_array_equal(
        model.decision_function(X), RidgeHeadClassifier().fit(X[y != 1], y[y != 1]).decision_function(X)
    )


# ---- shards


def test_shards_in_any_order_are_one_fit() -> None:
    X, y = world(90, 8, 3)
    names = np.array(["wren", "robin", "jay"])[y]
    w = np.linspace(0.0, 2.0, 90)
    whole = RidgeHeadClassifier(0.2).fit(X, names, w)
    for order in (range(9), reversed(range(9))):
        model = RidgeHeadClassifier(0.2)
        for k in order:
            part = slice(10 * k, 10 * k + 10)
            model.partial_fit(X[part], names[part], classes=["wren", "robin", "jay"], sample_weight=w[part])
        np.testing.assert_allclose(model.decision_function(X), whole.decision_function(X), rtol=1e-11, atol=1e-12)
        assert model.classes_.tolist() == ["jay", "robin", "wren"]
        assert not hasattr(model, "rows_")
        with pytest.raises(CarrotError, match="predict_proba"):
            model.predict_proba(X)
    regression = RidgeHeadRegressor(0.2).fit(X[:50], X[:50] @ np.ones((8, 2)))
    regression.partial_fit(X[50:], X[50:] @ np.ones((8, 2)))
    expected = RidgeHeadRegressor(0.2).fit(X, X @ np.ones((8, 2))).predict(X)
    np.testing.assert_allclose(regression.predict(X), expected, rtol=1e-11, atol=1e-12)
    with pytest.raises(ValueError, match="as many axes"):
        regression.partial_fit(X, X[:, 0])
    assert regression.predict(X).shape == (90, 2)


def test_a_first_shard_of_one_class_waits_for_the_others() -> None:
    X, y = world()
    order = np.argsort(y, kind="stable")
    model = RidgeHeadClassifier()
    for part in np.array_split(order, 3):
        model.partial_fit(X[part], y[part], classes=[0, 1, 2])
    np.testing.assert_allclose(
        model.decision_function(X), RidgeHeadClassifier().fit(X, y).decision_function(X), atol=1e-12
    )


def test_what_shards_must_agree_on() -> None:
    X, y = world()
    with pytest.raises(ValueError, match="`classes`"):
        RidgeHeadClassifier().partial_fit(X, y)
    model = RidgeHeadClassifier().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="those of the first call"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="9 is none of them"):
        model.partial_fit(X, np.where(y == 0, 9, y))
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :3], y)
    for asked in ({"lam": "loo"}, {"class_weight": "balanced"}):
        model = RidgeHeadClassifier(**asked)  # type: ignore[arg-type]
        assert not hasattr(model, "partial_fit")
        with pytest.raises(AttributeError) as error:
            _ = model.partial_fit
        assert "call `fit`" in str(error.value.__cause__)


# ---- searches


def test_a_search_over_lam_with_loo_among_its_values() -> None:
    X, y = world(60, 8, 3)
    search = GridSearchCV(RidgeHeadClassifier(), {"lam": [1e-4, 1.0, 1e6, "loo"]}, cv=3).fit(X, y)
    assert search.best_params_["lam"] != 1e6
    assert cross_val_predict(RidgeHeadClassifier("loo"), X, y, cv=3, method="predict_proba").shape == (60, 3)


def test_importing_says_what_to_install_where_scikit_learn_is_not() -> None:
    script = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import carrot, carrot.estimators\n"
        "assert 'torch' not in sys.modules\n"
        "try: carrot.estimators.RidgeHeadClassifier\n"
        "except ImportError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install scikit-learn" in out.stdout
    assert ".[sklearn]" in out.stdout


@pytest.mark.parametrize("start", ["fit", "partial_fit"])
def test_a_fit_that_is_refused_leaves_the_one_before(start: str) -> None:
    """Names of classes and the shape of targets go with the head that is there."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4)), np.array(list("abc") * 10)
    names = {"classes": list("abc")} if start == "partial_fit" else {}
    found = getattr(RidgeHeadClassifier(), start)(X, y, **names)
    before = found.decision_function(X), found.predict(X)
    for lam, labels in ((1.0, ["z"] * 30), (-1.0, ["p", "q"] * 15), (1.0, rng.normal(size=30))):
        with pytest.raises(ValueError, match=r"lam|class|label type"):
            found.set_params(lam=lam).fit(X, np.array(labels))
        assert np.array_equal(found.decision_function(X), before[0])
        assert np.array_equal(found.predict(X), before[1])
    one = getattr(RidgeHeadRegressor(), start)(X, X[:, 0])
    expected = one.predict(X)
    with pytest.raises(ValueError, match="lam"):
        one.set_params(lam=-1.0).fit(X, X[:, :2])
    assert np.array_equal(one.predict(X), expected)
