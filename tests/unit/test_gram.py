"""Inner products of the dual form: whatever comes and goes, they are those of the rows around their own mean."""

import pytest
import torch

from carrot import RidgeHead
from carrot._ridge import gram
from carrot._ridge.gram import Gram
from carrot._ridge.rows import Rows

F64 = torch.float64


def rows(n: int, seed: int = 0, shift: float = 0.0) -> Rows:
    g = torch.Generator().manual_seed(seed)
    G = torch.randn(n, 12, generator=g, dtype=F64) + shift
    return Rows(G, torch.randn(n, 2, generator=g, dtype=F64), torch.rand(n, generator=g, dtype=F64) + 0.5)


def part(r: Rows, index: torch.Tensor | slice) -> Rows:
    return Rows(*(x[index] for x in r[:3]))


def direct(r: Rows, fit_intercept: bool) -> torch.Tensor:
    A = r.w.sqrt()[:, None] * (r.G - (r.w @ r.G / r.w.sum() if fit_intercept else 0.0))
    return A @ A.mT


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_every_update_is_the_product_of_the_rows(fit_intercept: bool) -> None:
    every = rows(10, shift=0.5)
    first = part(every, slice(0, 7))
    known = Gram.from_rows(first, fit_intercept)
    torch.testing.assert_close(known.weighted(first.w), direct(first, fit_intercept), rtol=0, atol=1e-13)
    known = known.border(every)
    torch.testing.assert_close(known.weighted(every.w), direct(every, fit_intercept), rtol=0, atol=1e-13)
    stay = torch.tensor([1, 2, 4, 8, 9])
    left = part(every, stay)
    torch.testing.assert_close(known.keep(stay, left).weighted(left.w), direct(left, fit_intercept), rtol=0, atol=1e-13)


def test_a_large_mean_costs_no_digits() -> None:
    """Centred before the product: G G^T around 0 would lose twelve digits of sixteen."""
    near, far = rows(6), rows(6, shift=1e6)
    torch.testing.assert_close(
        Gram.from_rows(far, True).weighted(far.w), direct(near, True), rtol=0, atol=1e-8
    )  # the rows themselves are rounded to 1e-10


def test_they_are_formed_afresh_before_a_digit_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A giant picture drew c to itself; without it the others are all on one side."""
    every = rows(6)
    every.G[0] *= 1e8
    stay = torch.arange(1, 6)
    left = part(every, stay)
    known = Gram.from_rows(every, True)
    afresh = known.keep(stay, left)
    assert not torch.equal(afresh.c, known.c)
    torch.testing.assert_close(afresh.weighted(left.w), direct(left, True), rtol=0, atol=1e-13)
    monkeypatch.setattr(gram, "DIGIT", float("inf"))
    spoilt = known.keep(stay, left)
    assert (spoilt.weighted(left.w) - direct(left, True)).abs().max() > 0.1
    # a few of many move the mean little, and nothing is formed again
    monkeypatch.undo()
    known = Gram.from_rows(rows(6), True)
    assert known.keep(stay, part(rows(6), stay)).c is known.c


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("n", "D"), [(12, 40), (40, 12)])
def test_slack_within_groups_is_that_among_each(n: int, D: int, intercept: bool) -> None:
    G, w = torch.randn(n, D, dtype=torch.float64), torch.linspace(0.2, 3.0, n, dtype=torch.float64)
    head = RidgeHead(0.5, intercept).fit(G, torch.arange(n) % 3, w)
    assert (head.gram is None) == (n > D)
    restored = RidgeHead.from_state(head.state(), 0.5, intercept)
    groups = [torch.arange(0, n, 3), torch.tensor([n - 1, 1])]
    for one in (head, restored):
        for rows, Q in zip(groups, one.slack_within(groups), strict=True):
            torch.testing.assert_close(Q, head.slack_among(rows), rtol=0, atol=1e-12)
