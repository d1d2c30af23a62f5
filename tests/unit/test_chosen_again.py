"""lam chosen again without each training picture, against real refits of every leave-one-out path."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import carrot
from carrot import RidgeHead
from tests import contract

pytestmark = pytest.mark.filterwarnings("ignore:lam = ")  # at an end of the path
FINE = [0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0]


@settings(max_examples=15)
@given(
    n=st.integers(6, 12),
    D=st.sampled_from([2, 5, 15]),
    intercept=st.booleans(),
    lams=st.sampled_from([FINE, [1e-3, 0.1, 1.0, 10.0, 100.0], [3.0]]),
    kind=st.sampled_from(["noise", "told"]),
)
def test_lam_is_what_a_real_path_without_the_picture_chooses(
    n: int, D: int, intercept: bool, lams: list[float], kind: str
) -> None:
    contract.check_chosen_again(carrot, n, D, intercept, lams, kind)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "D"), [(12, 5), (7, 9)])
@pytest.mark.parametrize("kind", ["copies", "alone"])
@pytest.mark.parametrize("lams", [[1e-8, 1e-2, 1.0], [1e-8, 1e6]])
def test_pictures_alone_in_a_direction(n: int, D: int, intercept: bool, kind: str, lams: list[float]) -> None:
    contract.check_chosen_again(carrot, n, D, intercept, lams, kind)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "D"), [(9, 20), (10, 3)])
@pytest.mark.parametrize("lam", [1e-3, 3e-5])
def test_pairs_that_are_nearly_alone_keep_their_digits(n: int, D: int, intercept: bool, lam: float) -> None:
    """Squares of differences that cancel are not sums of squares that cancel: these lose twice the digits."""
    contract.check_chosen_again(carrot, n, D, intercept, [lam, 3.0 * lam], "pairs")


def problem(n: int, D: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(n)
    labels = torch.arange(n) % 4
    return (torch.randn(n, D, generator=rng) + 0.8 * torch.eye(4, D)[labels]).to(dtype), labels


@pytest.mark.parametrize(("n", "D"), [(60, 10), (30, 80)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_it_is_what_the_head_itself_says_fitted_without_the_picture(n: int, D: int, dtype: torch.dtype) -> None:
    G, labels = problem(n, D, dtype)
    head = RidgeHead("loo", True).fit(G, labels)
    again = head.loo_again()
    accuracy = again.accuracy(labels)
    assert torch.equal(again.changed, again.lams != head.lam)
    assert "ChosenAgain" in repr(again)
    for i in range(0, n, 7):
        left, rest = head.without(i, again=True), torch.arange(n) != i
        assert left.lam == float(again.lams[i])
        assert torch.allclose(left.predict(head.G[i]), again.logits[i], atol=1e-10)
        right = left.loo_predict().argmax(dim=1) == labels[rest]
        assert abs(float(right.double().mean() - accuracy[i])) < 1e-12


def test_copies_of_every_picture() -> None:
    """Each has one, so that no pair's slack is its own."""
    G, labels = problem(8, 30)
    head = RidgeHead("loo", True).fit(torch.cat([G, G]), torch.cat([labels, labels]))
    again = head.loo_again()
    for i in (0, 5, 12):
        left = head.without(i, again=True)
        assert left.lam == float(again.lams[i])
        assert torch.allclose(left.predict(head.G[i]), again.logits[i], atol=1e-7)


def test_given_penalties_and_what_is_refused() -> None:
    G, labels = problem(20, 5)
    head = RidgeHead(1.0).fit(G, labels)
    with pytest.raises(ValueError, match="lam was not chosen by its fit"):
        head.loo_again()
    with pytest.raises(ValueError, match="lam was not chosen by its fit"):
        head.without(0, again=True)
    with pytest.raises(ValueError, match="`lams` must be a finite number > 0"):
        head.loo_again([-1.0])
    again, chosen = head.loo_again([1.0, 10.0]), RidgeHead("loo", lams=[10.0, 1.0]).fit(G, labels)
    assert torch.equal(again.lams, chosen.loo_again().lams)
    assert np.isclose(
        float(head.loo_again([1.0]).mse.mean()), float((head.Y - head.loo_predict()).square().mean()), 0.1
    )
    with pytest.raises(ValueError, match="at least three training pictures; got 2"):
        RidgeHead(1.0).fit(G[:2], labels[:2]).loo_again([1.0])
