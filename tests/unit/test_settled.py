"""What settling a label is worth, and groups that vouch for each other: against real refits, over sizes and weights."""

import pytest
import torch

import carrot
from carrot import RidgeHead
from carrot._ridge.settled import Settled
from carrot._ridge.vouching import Among
from tests import contract


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "D", "C"), [(30, 6, 3), (12, 40, 4), (20, 20, 2), (9, 4, 5)])
@pytest.mark.parametrize("weighted", [True, False])
def test_what_a_fix_is_worth(n: int, D: int, C: int, intercept: bool, weighted: bool) -> None:
    contract.check_settled(carrot, n, D, C, intercept, weighted)
    contract.check_settled(carrot, n, D, C, intercept, weighted, lam=1e-3)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "D"), [(20, 5), (8, 30)])
def test_groups_are_left_out_together(n: int, D: int, intercept: bool) -> None:
    contract.check_groups(carrot, n, D, intercept)


@pytest.mark.parametrize(("n", "D"), [(12, 3), (6, 9)])
@pytest.mark.parametrize("lam", [1e-8, 1e-11])
def test_a_group_that_holds_a_direction_alone_is_asked_of_a_fit(n: int, D: int, lam: float) -> None:
    """Q_SS is singular to half of the digits or more: solving with it would say anything."""
    rng = torch.Generator().manual_seed(4)
    G = torch.randn(n, D, generator=rng, dtype=torch.float64)
    G[:-3, -1], G[-3:, -1] = 0.0, 30.0
    head = RidgeHead(lam, True).fit(G, torch.arange(n) % 3)
    group = [n - 3, n - 1, n - 2]
    expected = head.without(group).predict(G[group])
    assert torch.allclose(Among(head, range(n)).without(group), expected, rtol=1e-9, atol=1e-9)


def test_a_picture_whose_copy_goes_is_asked_of_a_fit() -> None:
    """Left alone in a direction at a tiny lam, its slack cancels: half of the digits are left, as with a fit."""
    rng = torch.Generator().manual_seed(0)
    G = torch.randn(12, 5, generator=rng, dtype=torch.float64)
    G[:10, -1], G[10:, -1] = 0.0, 30.0
    G[11] = G[10]
    head = RidgeHead(1e-8, True).fit(G, torch.arange(12) % 3)
    found = Settled.of(head, [11], [0])
    without = head.without(11)
    expected = float((without.Y - without.loo_predict()).square().mean())
    assert float(found.removed[0]) == pytest.approx(expected, rel=1e-7)
    assert int(found.removed_right[0]) == int((without.loo_predict().argmax(1) == without.Y.argmax(1)).sum())


@pytest.mark.parametrize("lam", [1e-3, 1e-4])
def test_copies_of_other_labels_keep_their_digits(lam: float) -> None:
    """Without one of them the other is nearly alone: |R_j - a R_i|^2 is small beside |R_j|^2, and so is its slack."""
    rng = torch.Generator().manual_seed(3)
    G = torch.randn(10, 24, generator=rng, dtype=torch.float64)
    G[5:] = G[:5]
    head = RidgeHead(lam, True).fit(G, torch.arange(10) % 3)
    found = Settled.of(head, list(range(10)), [0] * 10)
    for i in range(10):
        without = head.without(i)
        expected = float((without.Y - without.loo_predict()).square().mean())
        assert float(found.removed[i]) == pytest.approx(expected, rel=1e-13 / lam)


def test_float32_rows_and_blocks_of_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(1)
    G = torch.randn(25, 8, generator=rng)
    head = RidgeHead(0.5, True).fit(G, torch.arange(25) % 4)
    rows, labels = list(range(25)), [1] * 25
    whole = Settled.of(head, rows, labels)
    monkeypatch.setattr("carrot._ridge.settled.BLOCK", 1)
    apart = Settled.of(head, rows, labels)
    assert torch.allclose(whole.relabelled, apart.relabelled, rtol=1e-12)
    assert torch.allclose(whole.removed, apart.removed, rtol=1e-12)
    same = Settled.of(head, [5], [1])  # it is labelled so
    assert float(same.relabelled[0]) == pytest.approx(same.error, rel=1e-14)
    assert int(same.relabelled_right[0]) == same.right
    assert len(Settled.of(head, [], []).relabelled) == 0


@pytest.mark.parametrize(("n", "D"), [(20, 5), (8, 30)])
def test_other_weights_are_a_fit_with_them(n: int, D: int) -> None:
    rng = torch.Generator().manual_seed(2)
    G, y = torch.randn(n, D, generator=rng, dtype=torch.float64), torch.arange(n) % 3
    w = torch.rand(n, generator=rng, dtype=torch.float64) + 1e-3
    found = RidgeHead(0.4, True).fit(G, y, torch.full((n,), 2.0)).reweighted(w)
    expected = RidgeHead(0.4, True).fit(G, y, w)
    assert torch.allclose(found.W_star, expected.W_star, atol=1e-12)
    assert torch.allclose(found.loo_predict(), expected.loo_predict(), atol=1e-11)
    with pytest.raises(ValueError, match="sample_weight"):
        found.reweighted(-w)
