"""What a map foretells against loops over subsets, numpy, scipy, and games whose answer is known.

Held once against Captum 0.9.0 and Quantus 0.6.0, on the same subsets of games of 20 regions: Captum's `infidelity` as
it is and with `normalize=True`, 20 maps, equal to 4e-16 relative; `FaithfulnessCorrelation`, the Pearson correlation
of one picture over random subsets of one size, to 4e-8 on a float32 model (their `SensitivityN` correlates over
pictures: another number); `Sparseness` on 50 maps to 6e-8 (they add 1e-7 to every value).
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from carrot.evaluation.agreement import (
    infidelity,
    random_subsets,
    sensitivity_n,
    single_deletion_correlation,
    sparseness,
)
from carrot.removal import Coalitions
from tests.unit.test_attribution import Setting

EPS = torch.finfo(torch.float64).eps


def game(seed: int, N: int = 7) -> tuple[Tensor, Tensor, Tensor, float]:
    """A map and a game of pairs: values of 40 subsets without three regions."""
    rng = torch.Generator().manual_seed(seed)
    a, pairs = torch.randn(N, generator=rng).double(), torch.randn(N, N, generator=rng).double()
    keep = random_subsets(N, 3, 40, seed)
    k = keep.double()
    return a, keep, (k * (pairs @ k)).sum(dim=0), float(pairs.sum())


@pytest.mark.parametrize("seed", range(4))
def test_both_are_their_loops(seed: int) -> None:
    a, keep, values, whole = game(seed)
    foretold = [sum(float(a[i]) for i in range(7) if not keep[i, r]) for r in range(40)]
    drops = [whole - float(v) for v in values]
    expected = stats.pearsonr(foretold, drops).statistic
    assert sensitivity_n(a, keep, values, whole) == pytest.approx(expected, abs=1e-12)
    errors = [(f - d) ** 2 for f, d in zip(foretold, drops, strict=True)]
    assert infidelity(a, keep, values, whole) == pytest.approx(sum(errors) / 40, rel=1e-12)
    factors = np.linspace(-20, 20, 400_001)  # the best one, to 1e-4
    mean_f2, mean_fd = np.mean(np.square(foretold)), np.mean(np.multiply(foretold, drops))
    curve = factors**2 * mean_f2 - 2 * factors * mean_fd + np.mean(np.square(drops))
    scaled = infidelity(a, keep, values, whole, is_scaled=True)
    assert scaled <= curve.min() * (1 + 1e-12)
    assert scaled == pytest.approx(curve.min(), abs=1e-8 * mean_f2)
    assert infidelity(100 * a, keep, values, whole, is_scaled=True) == pytest.approx(scaled, rel=1e-10)


def test_additive_games_are_foretold_without_error() -> None:
    a, keep, _, _ = game(0)
    values = a @ keep.double() + 2.0
    whole = float(a.sum()) + 2.0
    assert sensitivity_n(a, keep, values, whole) == pytest.approx(1.0, abs=1e3 * EPS)
    assert sensitivity_n(-a, keep, values, whole) == pytest.approx(-1.0, abs=1e3 * EPS)
    assert infidelity(a, keep, values, whole) < 1e-28
    assert infidelity(-a, keep, values, whole, is_scaled=True) < 1e-28
    assert infidelity(torch.zeros(7), keep, values, whole, is_scaled=True) == infidelity(a * 0, keep, values, whole)
    assert single_deletion_correlation(a, a) == pytest.approx(1.0, abs=10 * EPS)


def test_tokens_that_are_really_dropped() -> None:
    """Every subset of two of six regions."""
    s = Setting(2, 3)
    c = Coalitions(*s.stages)
    whole = float(c.logits(torch.ones(6, 1, dtype=torch.bool))[0, 1])
    columns = [[i not in pair for i in range(6)] for pair in itertools.combinations(range(6), 2)]
    keep = torch.tensor(columns).T
    values, drop = c.logits(keep)[:, 1], c.each()[:, 1]
    foretold = [float(drop[i] + drop[j]) for i, j in itertools.combinations(range(6), 2)]
    expected = np.corrcoef(foretold, whole - values)[0, 1]
    assert sensitivity_n(drop, keep, values, whole) == pytest.approx(expected, abs=1e-12)
    assert infidelity(drop, keep, values, whole) == pytest.approx(
        float(np.mean((np.array(foretold) - whole + values.numpy()) ** 2)), rel=1e-12
    )
    assert single_deletion_correlation(drop, drop) == pytest.approx(1.0, abs=10 * EPS)


@pytest.mark.parametrize("seed", range(4))
def test_single_deletion_is_scipys_spearman_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, d = rng.integers(0, 5, 30), rng.integers(-3, 3, 30) + (0.0 if seed % 2 else rng.standard_normal(30))
    expected = stats.spearmanr(a, d).statistic
    assert single_deletion_correlation(a, d) == pytest.approx(expected, abs=1e-12)
    assert single_deletion_correlation(a.reshape(5, 6), torch.from_numpy(d)) == pytest.approx(expected, abs=1e-12)
    assert single_deletion_correlation(a**3, d) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("N", [1, 2, 5, 30])
def test_sparseness_is_the_mean_difference_of_pairs(N: int) -> None:
    a = torch.randn(N, generator=torch.Generator().manual_seed(N), dtype=torch.float64)
    size = a.abs()
    expected = float((size[:, None] - size[None]).abs().sum() / (2 * N * size.sum()))  # Gini's definition
    for scale in (1.0, 1e307, 1e-305):
        assert sparseness(a * scale) == pytest.approx(expected, abs=1e-12)
    assert sparseness(torch.ones(N)) == pytest.approx(0.0, abs=1e-15)
    assert sparseness(torch.eye(N)[0]) == pytest.approx(1 - 1 / N)


def test_what_is_undefined_is_none() -> None:
    a, keep, values, whole = game(1)
    for dtype in (torch.float32, torch.float64):  # equal numbers, whose sums and differences are so but for rounding
        even = torch.full((7,), 0.1, dtype=dtype)
        assert sensitivity_n(even, keep, values, whole) is None
        still = torch.full((40,), 123.456, dtype=dtype) * (1 + torch.finfo(dtype).eps * (torch.arange(40) % 2))
        assert sensitivity_n(a, keep, still, 123.456) is None
    assert sensitivity_n(a * 1e-200, keep, values * 1e-200, whole * 1e-200) == pytest.approx(
        sensitivity_n(a, keep, values, whole), abs=1e-9
    )
    assert single_deletion_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert single_deletion_correlation([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]) is None
    assert single_deletion_correlation([1.0], [2.0]) is None
    assert sparseness(torch.zeros(4)) is None


def test_random_subsets_lack_each_region_equally_often() -> None:
    keep = random_subsets(9, 4, 5000, seed=2)
    assert keep.shape == (9, 5000)
    assert ((~keep).sum(dim=0) == 4).all()
    share = (~keep).double().mean(dim=1)
    assert ((share - 4 / 9).abs() < 4 * math.sqrt(4 / 9 * 5 / 9 / 5000)).all()
    assert torch.equal(keep, random_subsets(9, 4, 5000, seed=2))
    assert not torch.equal(keep, random_subsets(9, 4, 5000, seed=3))
    assert not random_subsets(3, 3, 2).any()
    pairs = {tuple(column) for column in random_subsets(4, 2, 300).T.tolist()}
    assert len(pairs) == 6, "every pair is drawn"


@pytest.mark.usefixtures("as_user")
def test_bad_input() -> None:
    a, keep, values, whole = game(2)
    for measure in (sensitivity_n, infidelity):
        for arguments, error, match in (
            ((a[:5], keep, values, whole), ValueError, r"`keep` must be \(5, 40\)"),
            ((a, keep.T, values, whole), ValueError, r"`keep` must be \(7, 40\)"),
            ((a, keep.float(), values, whole), TypeError, "`keep` must be booleans"),
            ((a, keep, values[:3], whole), ValueError, r"`keep` must be \(7, 3\)"),
            ((a * math.nan, keep, values, whole), ValueError, "`attributions` must be finite"),
            ((a, keep, values * math.inf, whole), ValueError, "`values` must be finite"),
            ((a, keep, values, math.inf), ValueError, "`whole` must be finite"),
            ((a, keep, values, "much"), TypeError, "`whole` must be a number"),
            ((a > 0, keep, values, whole), TypeError, "`attributions` must be real numbers"),
            ((a, keep[:, :0], values[:0], whole), ValueError, "`values` must hold at least one number"),
        ):
            with pytest.raises(error, match=match):
                measure(*arguments)
    mixed = keep.clone()
    mixed[:, 0] = torch.arange(7) > 0
    for bad in (mixed, torch.ones_like(keep)):
        with pytest.raises(ValueError, match="the same number n >= 1"):
            sensitivity_n(a, bad, values, whole)
    with pytest.raises(ValueError, match="at least two columns"):
        sensitivity_n(a, keep[:, :1], values[:1], whole)
    with pytest.raises(ValueError, match="one number for each of the 7"):
        single_deletion_correlation(a, values)
    for numbers in ((3, 4, 5), (3, 0, 5), (0, 1, 5), (3, 1, 0)):
        with pytest.raises(ValueError, match="must be a whole number"):
            random_subsets(*numbers)
