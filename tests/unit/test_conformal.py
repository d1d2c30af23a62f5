"""Full conformal p-values against n + 1 real refits for each candidate label, over sizes, weights and precisions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import carrot
from carrot import RidgeHead
from tests import contract
from tests import reference as ref


@settings(max_examples=25)
@given(
    n=st.integers(7, 14),
    D=st.sampled_from([2, 6, 20]),
    C=st.integers(2, 3),
    lam=st.sampled_from([1e-3, 1.0, 100.0]),
    intercept=st.booleans(),
)
def test_p_values_are_those_of_real_refits(n: int, D: int, C: int, lam: float, intercept: bool) -> None:
    contract.check_conformal(carrot, n, D, C, lam, intercept)


@pytest.mark.parametrize(("n", "D"), [(20, 5), (8, 12)])
def test_a_condition_of_1e12(n: int, D: int) -> None:
    contract.check_conformal(carrot, n, D, 3, 1e-10, True)


@pytest.mark.parametrize("intercept", [True, False])
def test_a_picture_alone_in_a_direction(intercept: bool) -> None:
    contract.check_conformal(carrot, 12, 5, 3, 1e-8, intercept, alone=True)


def problem(n: int = 30, D: int = 6, C: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % C
    return torch.randn(n, D, generator=rng, dtype=torch.float64) + 0.6 * labels.unsqueeze(1), labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_of_less_precision(dtype: torch.dtype) -> None:
    G, labels = problem()
    G = G.to(dtype)
    head = RidgeHead(0.5, True).fit(G[:-1], labels[:-1])
    rows, one = G.double().numpy(), np.ones(29)
    expected = ref.conformal(rows[:-1], labels[:-1].numpy(), 3, 0.5, True, rows[-1], one, np.ones(3), False)
    assert np.allclose(head.label_p_values(G[-1:])[0].numpy(), expected, atol=1e-12)


def test_a_copy_of_a_training_picture_ties_with_it() -> None:
    """Of the same label both have the same margin, and rounding must not tell them apart."""
    G, labels = problem()
    head = RidgeHead(0.5, True).fit(G, labels)
    p = head.label_p_values(G)
    for i in range(len(G)):
        expected = ref.conformal(
            G.numpy(), labels.numpy(), 3, 0.5, True, G[i].numpy(), np.ones(30), np.ones(3), per_class=False
        )
        assert np.allclose(p[i].numpy(), expected, atol=1e-12)


def test_of_a_picture_left_out_it_is_the_share_of_leave_one_out_margins() -> None:
    """A training picture that comes back with its own label: no margin but those of the fit on all."""
    G, labels = problem()
    head = RidgeHead(0.5, True).fit(G, labels)
    loo = head.loo_predict()
    margin = np.array([ref.margin(row, int(y)) for row, y in zip(loo.numpy(), labels, strict=True)])
    for i in (0, 7, 29):
        p = head.without(i).label_p_values(G[i : i + 1])[0, labels[i]]
        assert abs(float(p) - (margin <= margin[i] + 1e-10).mean()) < 1e-12


def test_coverage_of_exchangeable_pictures() -> None:
    """The smallest chance that the true label is in, over draws, is what was promised; and it is not all labels."""
    held, sizes = [], []
    for seed in range(60):
        G, labels = problem(40, 5, 4, seed)
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        G, labels = G[order], labels[order]
        p = RidgeHead(1.0, True).fit(G[:30], labels[:30]).label_p_values(G[30:])
        held.append((p.gather(1, labels[30:, None]) > 0.2).double().mean())
        sizes.append((p > 0.2).double().sum(dim=1).mean())
    coverage = torch.stack(held)
    error = float(coverage.std() / len(coverage) ** 0.5)
    assert 0.8 - 3 * error <= float(coverage.mean()) <= 0.8 + 1 / 31 + 3 * error  # .783 to .848
    assert float(torch.stack(sizes).mean()) < 3.0


def test_a_restored_head_says_the_same() -> None:
    G, labels = problem()
    head = RidgeHead(0.5, True).fit(G[:-3], labels[:-3])
    again = RidgeHead.from_state(head.state(), 0.5, True)
    assert torch.equal(head.label_p_values(G[-3:]), again.label_p_values(G[-3:]))


def test_what_is_refused() -> None:
    G, labels = problem(6, 3, 6)
    alone = RidgeHead(1.0).fit(G, labels)
    with pytest.raises(ValueError, match="classes of more than one training picture: each has one"):
        alone.label_p_values(G[:1])
    G, labels = problem(7, 3, 6)
    head = RidgeHead(1.0).fit(G, labels)
    assert torch.equal(head.label_p_values(G[:1])[0], head.label_p_values(G[0]))
    with pytest.raises(ValueError, match=r"class 1 has 1 \(5 such classes\)"):
        head.label_p_values(G[:1], per_class=True)
    with pytest.raises(ValueError, match=r"`weight` must be \(6,\) numbers > 0"):
        head.label_p_values(G[:1], weight=torch.zeros(6))
    with pytest.raises(ValueError, match=r"`g` must be \(\.\.\., 3\)"):
        head.label_p_values(G[:1, :2])
    targets = RidgeHead(1.0).fit(G, torch.randn(7, 2))
    with pytest.raises(ValueError, match="need labels of at least two classes"):
        targets.label_p_values(G[:1])
    with pytest.raises(ValueError, match="finite"):
        head.label_p_values(G[:1] * torch.nan)
