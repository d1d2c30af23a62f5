"""Sufficient statistics add, subtract, and mean what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrot._ridge.statistics import RidgeStatistics
from carrot.head import RidgeHead

F64 = torch.float64


def rows(n: int, seed: int = 0, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    G = torch.randn(n, 5, generator=g, dtype=F64) + shift
    return G, torch.randn(n, 3, generator=g, dtype=F64), torch.rand(n, generator=g, dtype=F64) + 0.1


def test_moments_are_the_products() -> None:
    G, Y, w = rows(20)
    statistics = RidgeStatistics.from_rows(G, Y, w)
    GtG, GtY = statistics.moments(centred=False)
    torch.testing.assert_close(GtG, sum(w[i] * torch.outer(G[i], G[i]) for i in range(20)), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(GtY, sum(w[i] * torch.outer(G[i], Y[i]) for i in range(20)), rtol=1e-13, atol=1e-13)
    S, _ = statistics.moments(centred=True)
    np.testing.assert_allclose(S.numpy(), np.cov(G.numpy().T, aweights=w.numpy(), ddof=0) * float(w.sum()), atol=1e-13)


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 999), intercept=st.booleans())
@settings(max_examples=40)
def test_shards_in_any_order_give_the_fit_of_the_whole(sizes: list[int], seed: int, intercept: bool) -> None:
    G, Y, w = rows(sum(sizes), seed, shift=3.0)
    parts = [RidgeStatistics.from_rows(*p) for p in zip(G.split(sizes), Y.split(sizes), w.split(sizes), strict=True)]
    order = np.random.default_rng(seed).permutation(len(parts))
    merged = parts[order[0]]
    for i in order[1:]:
        merged = merged + parts[i]
    assert merged.n == len(G)
    streamed = RidgeHead.from_statistics(merged, 0.1, intercept)
    whole = RidgeHead(0.1, intercept).fit(G, Y, w)
    torch.testing.assert_close(streamed.W_star, whole.W_star, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(streamed.bias, whole.bias, rtol=1e-9, atol=1e-10)


def test_subtracting_undoes_adding() -> None:
    a, b = RidgeStatistics.from_rows(*rows(12, 1)), RidgeStatistics.from_rows(*rows(7, 2))
    back = (a + b) - b
    assert back.n == 12
    for name in ("g_mean", "y_mean", "S", "Q"):
        torch.testing.assert_close(getattr(back, name), getattr(a, name), rtol=0, atol=1e-13)


def test_means_far_from_zero_keep_their_digits() -> None:
    """Why moments are kept centred: with a mean 1e6 times the spread, G^T G - n m m^T would lose 12 digits of S."""
    G, Y, _ = rows(40, shift=0.0)
    near = RidgeStatistics.from_rows(G, Y)
    far = RidgeStatistics.from_rows(G[:15] + 1e6, Y[:15]) + RidgeStatistics.from_rows(G[15:] + 1e6, Y[15:])
    torch.testing.assert_close(far.S, near.S, rtol=0, atol=1e-6)
    naive = (G + 1e6).mT @ (G + 1e6) - 40 * torch.outer((G + 1e6).mean(0), (G + 1e6).mean(0))
    assert (naive - near.S).abs().max() > 1e-4


def test_float32_rows_have_the_statistics_of_their_values() -> None:
    """Widened before the means are taken out: with a mean 1000 times the spread, float32 would keep four digits."""
    G, Y, w = rows(40, shift=1000.0)
    narrow, wide = RidgeStatistics.from_rows(G.float(), Y, w), RidgeStatistics.from_rows(G.float().double(), Y, w)
    for name in ("g_mean", "y_mean", "S", "Q"):
        assert torch.equal(getattr(narrow, name), getattr(wide, name))
        assert getattr(narrow, name).dtype == F64


def test_widths_and_emptiness_are_checked() -> None:
    G, Y, _ = rows(4)
    a = RidgeStatistics.from_rows(G, Y)
    with pytest.raises(ValueError, match="different widths"):
        a + RidgeStatistics.from_rows(G[:, :2], Y)
    with pytest.raises(ValueError, match="at least one"):
        a - a
    with pytest.raises(ValueError, match="at least one picture"):
        RidgeStatistics.from_rows(G[:0], Y[:0])
