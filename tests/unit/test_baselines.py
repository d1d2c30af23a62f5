"""Baselines: neighbours against a loop, scikit-learn's ridge against ours, logistic regression against its gradient."""

import math
import sys

import pytest
import torch
from torch import Tensor

from carrot.evaluation import summary
from carrot.evaluation.baselines import knn, logistic_regression, sklearn_ridge
from carrot.head import RidgeHead


def problem(n: int = 40, D: int = 6, C: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(n) % C
    centres = 2 * torch.randn(C, D, generator=rng, dtype=torch.float64)
    G = centres[y] + torch.randn(n, D, generator=rng, dtype=torch.float64)
    return G, y, centres[y[:15]] + torch.randn(15, D, generator=rng, dtype=torch.float64), y[:15]


@pytest.mark.parametrize("k", [1, 5, 100])
def test_neighbours_vote_as_in_a_loop(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrot.evaluation.baselines.BLOCK", 4)
    G, y, g, _ = problem()
    found = knn(G, y, g, k=k, T=0.2)
    for row, test in zip(found, g.tolist(), strict=True):
        cosines = [
            sum(a * b for a, b in zip(test, train, strict=True)) / math.hypot(*test) / math.hypot(*train)
            for train in G.tolist()
        ]
        near = sorted(range(len(G)), key=lambda i, c=cosines: -c[i])[:k]  # type: ignore[misc]
        votes = [0.0, 0.0, 0.0]
        for i in near:
            votes[int(y[i])] += math.exp(cosines[i] / 0.2)
        torch.testing.assert_close(row, torch.tensor(votes, dtype=torch.float64) / sum(votes))


def test_neighbours_of_a_row_of_zeros_and_of_classes_unseen() -> None:
    G, y, g, _ = problem()
    found = knn(G, y, torch.cat([g[:1], 0 * g[:1]]), C=5)
    assert found.shape == (2, 5)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, dtype=torch.float64))
    assert not found[:, 3:].any()


def test_ridge_is_ours() -> None:
    G, y, g, _ = problem()
    lams = [0.1, 1.0, 10.0, 100.0, 1000.0]
    head = RidgeHead("loo", True, lams=lams).fit(G, y)
    torch.testing.assert_close(sklearn_ridge(G, y, g, lams=lams), head.predict(g), rtol=1e-9, atol=1e-9)


def test_logistic_regression_is_at_its_optimum() -> None:
    """Its probabilities: stationary weights of C * (sum of losses) + |w|^2 / 2, standardised rows, intercept free."""
    G, y, _, _ = problem()
    Z = (G - G.mean(dim=0)) / G.std(dim=0, correction=0)
    p = logistic_regression(G, y, G, penalties=(0.1,))
    error = p - torch.nn.functional.one_hot(y)
    # stationary: W = -C Z^T (p - Y), with an unpenalised intercept sum(p - Y) = 0; and p = softmax(Z W + b)
    assert float(error.sum(dim=0).abs().max()) < 1e-2
    scores = Z @ (-0.1 * Z.mT @ error)
    difference = p.log() - scores
    difference = difference - difference.mean(dim=1, keepdim=True)  # softmax knows no shift of a row
    spread = difference - difference.mean(dim=0)  # what is left is the intercept, the same in every row
    assert float(spread.abs().max()) < 1e-2


def test_they_classify() -> None:
    G, y, g, truth = problem()
    for method in (knn, logistic_regression, sklearn_ridge):
        assert summary(method(G, y, g), truth).top1 > 0.8


def test_logistic_regression_with_gaps_and_rare_classes() -> None:
    G, y, g, _ = problem()
    y = torch.where(y == 2, 4, y)
    p = logistic_regression(G, y, g, C=6)
    assert p.shape == (15, 6)
    assert not p[:, [2, 3, 5]].any()
    torch.testing.assert_close(p.sum(dim=1), torch.ones(15, dtype=torch.float64))
    y[0] = 5  # one picture of its class: no folds
    assert logistic_regression(G, y, g).shape == (15, 6)


def test_the_penalty_is_chosen_by_cross_validation() -> None:
    """Unequal classes: at the two small penalties everything is called the largest class."""
    G, _, g, _ = problem(60)
    G[:, 0] += (y := (torch.arange(60) % 5).clamp(max=2) * 2 % 3)  # 12, 36 and 12 pictures of classes 0, 1, 2
    penalties = (3.0, 1e-6, 1e-5)

    def accuracy(penalty: float) -> float:
        """Three folds, each the next third of every class."""
        right = 0
        for fold in range(3):
            held = torch.zeros(60, dtype=torch.bool)
            for c in range(3):
                held[torch.nonzero(y == c).flatten().chunk(3)[fold]] = True
            p = logistic_regression(G[~held], y[~held], G[held], penalties=(penalty,))
            right += int((p.argmax(dim=1) == y[held]).sum())
        return right / 60

    assert accuracy(3.0) > 0.05 + max(map(accuracy, penalties[1:]))
    chosen = logistic_regression(G, y, g, penalties=penalties)
    torch.testing.assert_close(chosen, logistic_regression(G, y, g, penalties=(3.0,)))


def test_few_pictures_of_a_class_lower_the_folds_and_one_takes_the_middle_penalty() -> None:
    G, y, g, _ = problem()
    y[:2] = 3
    assert logistic_regression(G, y, g).shape == (15, 4)  # three folds of two pictures would warn
    y[1] = 2
    found = logistic_regression(G, y, g, penalties=(1.0, 0.01, 0.1))
    torch.testing.assert_close(found, logistic_regression(G, y, g, penalties=(0.1,)))


def test_float32_and_gradients() -> None:
    G, y, g, _ = problem()
    for method in (knn, logistic_regression, sklearn_ridge):
        expected = method(G.float(), y, g.float())
        found = method(G.float().requires_grad_(), y.to(torch.int32), g.float().requires_grad_())
        assert not found.requires_grad
        torch.testing.assert_close(found, expected)


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    G, y, g, _ = problem()
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for method in (logistic_regression, sklearn_ridge):
        with pytest.raises(ModuleNotFoundError, match="pip install"):
            method(G, y, g)
    assert knn(G, y, g).shape == (15, 3)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("method", [knn, logistic_regression, sklearn_ridge])
def test_bad_input(method) -> None:  # type: ignore[no-untyped-def]
    G, y, g, _ = problem()
    for arguments, match in (
        ((G[0], y, g), r"`G_train` must be \(n, D\)"),
        ((G, y, g[:0]), r"`G_test` must be \(n, D\)"),
        ((G, y, g[:, :3]), r"`G_test` must be \(m, 6\)"),
        ((G * math.nan, y, g), "`G_train` must be finite"),
        ((G, y[:-1], g), "integer labels"),
        ((G, y.double(), g), "integer labels"),
        ((G, y - 1, g), "must be from 0"),
        ((G, y, g, 2), r"must be from 0 to C - 1 = 1; got 0 to 2"),
    ):
        with pytest.raises(ValueError, match=match):
            method(*arguments)


@pytest.mark.usefixtures("as_user")
def test_bad_settings() -> None:
    G, y, g, _ = problem()
    with pytest.raises(ValueError, match="`k` must be a whole number >= 1"):
        knn(G, y, g, k=0)
    with pytest.raises(TypeError, match="`k` must be a whole number"):
        knn(G, y, g, k=2.5)  # type: ignore[arg-type]
    for folds in (1, 0, -1, True):
        with pytest.raises(TypeError if folds is True else ValueError, match="`folds` must be a whole number >= 2"):
            logistic_regression(G, y, g, folds=folds)
    with pytest.raises(ValueError, match="`T` must be"):
        knn(G, y, g, T=0.0)
    with pytest.raises(ValueError, match="at least two classes"):
        logistic_regression(G, 0 * y, g)
    with pytest.raises(ValueError, match="`penalties`"):
        logistic_regression(G, y, g, penalties=())
    with pytest.raises(ValueError, match="`lams`"):
        sklearn_ridge(G, y, g, lams=())
