"""Squared residuals along a path, by partial fractions, against products at each penalty; the path against refits."""

import numpy as np
import pytest
import torch
from torch import Tensor

import carrot
from carrot._ridge import loo, squares
from carrot._ridge.loo import loo_path
from carrot._ridge.rows import checked_rows
from carrot._ridge.squares import Squares, pays
from tests import contract
from tests import reference as ref

F64 = torch.float64


def problem(gap: float | None, n: int = 300, D: int = 24, C: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows and targets; their eigenvalues are within ``gap`` of each other, relatively, or as they come."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(n, D, generator=generator, dtype=F64)
    if gap is not None:
        A = torch.linalg.qr(A)[0] * (1.0 + gap * torch.rand(D, generator=generator, dtype=F64))
    Y = torch.nn.functional.one_hot(torch.arange(n) % C, C).to(F64)
    A[:, : min(C, D)] += 0.1 * Y[:, : min(C, D)] * (0.0 if gap is not None else 1.0)
    return A, Y


def spectral(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    s, V = torch.linalg.eigh(A.mT @ A)
    return s.clamp(min=0.0), A @ V, V.mT @ (A.mT @ B)


@pytest.mark.parametrize("gap", [None, 0.0, 1e-13, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
def test_they_are_those_of_products_however_close_eigenvalues_are(gap: float | None) -> None:
    A, B = problem(gap)
    s, Z, T = spectral(A, B)
    lams = torch.logspace(-9, 4, 27, dtype=F64) * s.mean()
    direct = torch.stack([(B - Z @ (T / (s.unsqueeze(-1) + lam))).square().sum(dim=1) for lam in lams], dim=1)
    found = Squares.of(s, T).at(Z, B @ T.mT, B.square().sum(dim=1), lams)
    assert float((found - direct).abs().max()) < 0.1 * squares.NOISE  # |b|^2 = 1
    if gap is None:
        assert float((found - direct).abs().max()) < 1e-13


@pytest.mark.parametrize("rank", [3, 23])
def test_directions_without_rows_cost_no_digits(rank: int) -> None:
    A, B = problem(None)
    A[:, rank:] = A[:, :rank] @ torch.randn(rank, 24 - rank, generator=torch.Generator().manual_seed(1), dtype=F64)
    s, Z, T = spectral(A, B)
    lams = torch.logspace(-7, 3, 21, dtype=F64) * s.mean()
    direct = torch.stack([(B - Z @ (T / (s.unsqueeze(-1) + lam))).square().sum(dim=1) for lam in lams], dim=1)
    assert float((Squares.of(s, T).at(Z, B @ T.mT, B.square().sum(dim=1), lams) - direct).abs().max()) < 1e-12


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["labels", "targets", "fitted without error", "one alone in its direction"])
def test_a_path_of_many_classes_is_that_of_refits(
    intercept: bool, weighted: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    n, D, C = 60, 7, 12
    G = rng.normal(size=(n, D)) + 0.5
    Y = np.eye(C)[np.arange(n) % C]
    if kind == "targets":
        Y = rng.normal(size=(n, C)) + 0.3
    elif kind == "fitted without error":
        Y = G @ rng.normal(size=(D, C))
    elif kind == "one alone in its direction":
        G[:, 3] = 0.0
        G[5, 3] = 1e5
    w = rng.uniform(0.5, 2.0, size=n) if weighted else np.ones(n)
    lams = [1e-4, 1e-3, 1e-1, 1.0, 10.0, 1e3]
    assert pays(D, C, len(lams))
    asked, screened = list[int](), loo._Tall.screened
    monkeypatch.setattr(loo._Tall, "screened", lambda self, *given: asked.append(1) or screened(self, *given))
    path = loo_path(checked_rows(torch.tensor(G), torch.tensor(Y), torch.tensor(w)), intercept, lams)
    assert asked, "nothing was screened"
    for lam, mse in zip(lams, path.mse.tolist(), strict=True):
        wrong = (Y - ref.loo(G, Y, lam, intercept, w)) ** 2
        expected = float((w[:, None] * wrong).sum() / (w.sum() * C))
        assert mse == pytest.approx(expected, rel=3e-6 if kind.startswith("one") else 1e-8)


def test_penalties_that_it_can_not_tell_apart_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    A, Y = problem(None)
    asked, errors = list[int](), loo._Tall.errors
    monkeypatch.setattr(loo._Tall, "errors", lambda self, grid: asked.append(len(grid)) or errors(self, grid))
    rows = checked_rows(A, Y, None)
    lams = [1e-2, 1.0, 100.0, 1e3, 1e5]
    apart = loo_path(rows, True, lams)
    assert not asked
    best = lams[apart.best]
    same = loo_path(rows, True, sorted([*lams, best * (1 + 1e-13)]))
    assert asked == [2]
    assert same.best == apart.best + 1, "of equal ones the larger"


def test_a_path_of_many_classes_by_blocks() -> None:
    contract.check_path_of_many_classes(carrot)


def test_few_classes_are_asked_one_penalty_at_a_time() -> None:
    assert not pays(2000, 20, 21)
    assert pays(512, 100, 21)
    assert pays(768, 1000, 21)
    assert not pays(10, 2, 1)
