"""Calibration against a dense grid, examples worked by hand, and loops over pictures."""

import math

import pytest
import torch
from torch import Tensor

from carrot.evaluation.calibration import (
    FLOOR,
    HIGHEST,
    LOWEST,
    brier,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
)

EPS = torch.finfo(torch.float64).eps


def problem(seed: int, n: int = 60, C: int = 5, skill: float = 1.0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(C, (n,), generator=rng)
    logits = torch.randn(n, C, generator=rng, dtype=torch.float64)
    logits[torch.arange(n), labels] += skill
    return logits, labels


def loss(logits: Tensor, labels: Tensor, T: float, smoothed: bool = True) -> float:
    """The definition, picture by picture: one label in n + 1 as if drawn at random."""
    total, smooth = 0.0, smoothed / (len(labels) + 1)
    for row, y in zip(logits.tolist(), labels.tolist(), strict=True):
        top = max(row)
        total += top / T + math.log(sum(math.exp((s - top) / T) for s in row))
        total -= ((1 - smooth) * row[y] + smooth * sum(row) / len(row)) / T
    return total / len(labels)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1.0, 0.02, 300.0])
def test_temperature_is_the_best_of_a_dense_grid(seed: int, scale: float) -> None:
    logits, labels = problem(seed)
    logits = scale * logits
    T = fit_temperature(logits, labels)
    grid = [scale * 10 ** (k / 100) for k in range(-200, 201)]
    losses = [loss(logits, labels, g) for g in grid]
    best = losses.index(min(losses))
    assert 0 < best < len(grid) - 1
    assert grid[best - 1] < T < grid[best + 1]
    assert loss(logits, labels, T) <= min(losses)


def test_the_slope_is_zero_at_the_temperature_to_rounding() -> None:
    logits, labels = problem(0)
    b = torch.tensor(1 / fit_temperature(logits, labels), dtype=torch.float64, requires_grad=True)
    f = torch.nn.functional.cross_entropy(b * logits, labels, label_smoothing=1 / (len(labels) + 1))
    (slope,) = torch.autograd.grad(f, b, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, b)
    step = float(
        (slope / curvature / b).detach()
    )  # what Newton would still change, relative: rounding of a sum of 300 numbers
    assert abs(step) < 100 * EPS


def test_two_classes_by_hand() -> None:
    """Margin 1 in every picture, right in 3 of 4, one more at random.

    sigmoid(1 / T) = 3/4 4/5 + 1/2 1/5 = 7/10, so T = 1 / log(7/3).
    """
    logits = torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64)
    assert fit_temperature(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(1 / math.log(7 / 3), rel=20 * EPS)


@pytest.mark.parametrize("factor", [2.0**-200, 2.0**-5, 3.7, 1e6, 2.0**400])
def test_scaling_the_logits_scales_T_and_keeps_the_probabilities(factor: float) -> None:
    logits, labels = problem(1)
    T, scaled = fit_temperature(logits, labels), fit_temperature(factor * logits, labels)
    assert scaled == pytest.approx(factor * T, rel=100 * EPS)
    torch.testing.assert_close(
        probabilities(factor * logits, scaled), probabilities(logits, T), rtol=2000 * EPS, atol=1000 * EPS
    )


def test_shifting_the_logits_of_a_picture_changes_nothing() -> None:
    logits, labels = problem(2)
    shift = torch.arange(60.0, dtype=torch.float64)[:, None]
    # logits of 60 keep 60 eps of the differences
    assert fit_temperature(logits + shift, labels) == pytest.approx(fit_temperature(logits, labels), rel=1000 * EPS)


def spread_of(logits: Tensor) -> float:
    return float((logits - logits.mean(dim=1, keepdim=True)).square().mean().sqrt())


def test_no_better_than_chance_gives_the_upper_bound() -> None:
    logits, _ = problem(3)
    wrong, spread = logits.argmin(dim=1), spread_of(logits)
    assert fit_temperature(logits, wrong) == pytest.approx(HIGHEST * spread, rel=20 * EPS)
    assert loss(logits, wrong, HIGHEST * spread) < loss(logits, wrong, HIGHEST * spread / 2)


@pytest.mark.parametrize("n", [4, 40, 4000])
def test_all_right_is_not_certain(n: int) -> None:
    """Two classes, a lead of 1 each: what is said of them is 1 - s/2, Laplace's (n + 1/2) / (n + 1)."""
    labels = torch.arange(n) % 2
    logits = torch.nn.functional.one_hot(labels, 2).double()
    p = probabilities(logits, fit_temperature(logits, labels))
    assert p.amax(dim=1).tolist() == pytest.approx([(n + 0.5) / (n + 1)] * n, rel=100 * EPS)


def test_thousands_right_by_little_give_the_lower_bound() -> None:
    """A third class far below, so that the lead is a thousandth of the spread.

    Only there is p d more than s d at every T in reach.
    """
    labels = torch.arange(20_000) % 2
    logits = torch.tensor([[1.0, 0.999, -1.0]], dtype=torch.float64).expand(20_000, 3).clone()
    logits[labels == 1] = torch.tensor([0.999, 1.0, -1.0], dtype=torch.float64)
    low = LOWEST * spread_of(logits)
    assert fit_temperature(logits, labels) == pytest.approx(low, rel=20 * EPS)
    assert loss(logits, labels, low) < loss(logits, labels, 1.1 * low)


def test_all_wrong_but_close_is_not_a_bound() -> None:
    """Second by a little, far above the third: the true class still beats the mean of the logits."""
    logits, labels = torch.tensor([[1.0, 0.9, -5.0]] * 3, dtype=torch.float64), torch.tensor([1, 1, 1])
    T = fit_temperature(logits, labels)
    assert LOWEST * spread_of(logits) * 2 < T < HIGHEST * spread_of(logits) / 2
    assert loss(logits, labels, T) < min(loss(logits, labels, 0.9 * T), loss(logits, labels, 1.1 * T))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e300])
@pytest.mark.parametrize("C", [1, 3, 7])
def test_equal_logits_give_one(value: float, C: int) -> None:
    assert fit_temperature(torch.full((4, C), value, dtype=torch.float64), torch.zeros(4, dtype=torch.long)) == 1.0


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = problem(4)
    whole = fit_temperature(logits, labels)
    monkeypatch.setattr("carrot._ridge.blocks.ENTRIES", 35)  # 7 pictures at a time
    assert fit_temperature(logits, labels) == pytest.approx(whole, rel=100 * EPS)


def test_float32_logits_are_widened_first() -> None:
    logits, labels = problem(5)
    narrow = logits.float()
    assert fit_temperature(narrow, labels) == fit_temperature(narrow.double(), labels)
    p = probabilities(narrow, 0.3)
    assert p.dtype == torch.float64
    torch.testing.assert_close(p, probabilities(narrow.double(), 0.3), rtol=0, atol=0)


def test_probabilities_by_hand() -> None:
    p = probabilities(torch.tensor([[math.log(9.0), 0.0], [1e6, 0.0]], dtype=torch.float64), 2.0)
    torch.testing.assert_close(p, torch.tensor([[0.75, 0.25], [1.0, 0.0]], dtype=torch.float64), rtol=10 * EPS, atol=0)


def test_negative_log_likelihood_by_hand() -> None:
    p = torch.tensor([[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]], dtype=torch.float64)
    assert negative_log_likelihood(p[:2], torch.tensor([0, 1])) == pytest.approx(
        -(math.log(0.5) + math.log(0.8)) / 2, rel=10 * EPS
    )
    assert negative_log_likelihood(p[2:], torch.tensor([1])) == -math.log(FLOOR) < 709
    logits, labels = problem(6)
    assert negative_log_likelihood(probabilities(logits, 0.7), labels) == pytest.approx(
        loss(logits, labels, 0.7, smoothed=False), rel=1e-14
    )


def test_brier_by_hand() -> None:
    p = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.3, 0.2]], dtype=torch.float64)
    assert [brier(p[i : i + 1], torch.tensor([y])) for i, y in enumerate((0, 1, 1))] == pytest.approx([0, 2, 0.78])
    assert brier(p, torch.tensor([0, 1, 1])) == pytest.approx(2.78 / 3)
    assert p[0, 0] == 1.0  # the caller's probabilities are left alone


def test_calibration_error_by_hand() -> None:
    """Two bins, split at one half; three classes so that the highest may lie below it.

    Lower: 0.4 right, 0.45 wrong: |1 - 0.85| = 0.15.  Upper: 0.5 right, 0.9 right, 1.0 wrong: |2 - 2.4| = 0.4.
    """
    p = [[0.4, 0.3, 0.3], [0.45, 0.3, 0.25], [0.5, 0.25, 0.25], [0.05, 0.9, 0.05], [0, 0, 1.0]]
    labels = torch.tensor([0, 2, 0, 1, 0])
    assert expected_calibration_error(torch.tensor(p, dtype=torch.float64), labels, 2) == pytest.approx(0.55 / 5)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_error_agrees_with_a_loop(bins: int) -> None:
    logits, labels = problem(7, n=200)
    p = probabilities(logits, 0.4)
    expected = 0.0
    for b in range(bins):
        held = [
            (max(row), float(row.index(max(row)) == y))
            for row, y in zip(p.tolist(), labels.tolist(), strict=True)
            if b / bins <= max(row) < (b + 1) / bins or (b == bins - 1 and max(row) >= 1)
        ]
        if held:
            accuracy, confidence = sum(r for _, r in held) / len(held), sum(c for c, _ in held) / len(held)
            expected += len(held) / len(p) * abs(accuracy - confidence)
    assert expected > 0.01
    assert expected_calibration_error(p, labels, bins) == pytest.approx(expected, abs=1e-13)


def test_calibration_error_extremes() -> None:
    certain = torch.eye(3, dtype=torch.float64)
    assert expected_calibration_error(certain, torch.tensor([0, 1, 2])) == 0
    assert expected_calibration_error(certain, torch.tensor([1, 2, 0])) == 1


GOOD = torch.full((2, 2), 0.5, dtype=torch.float64)
ZEROS = torch.tensor([0, 0])


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("measure", [fit_temperature, negative_log_likelihood, brier, expected_calibration_error])
@pytest.mark.parametrize(
    ("values", "labels", "error", "match"),
    [
        (GOOD, torch.tensor([0, 2]), ValueError, "`labels` must be from 0 to C - 1 = 1; got 0 to 2"),
        (GOOD, torch.tensor([-1, 0]), ValueError, "got -1 to 0"),
        (GOOD, torch.tensor([0]), ValueError, "one class index for each row"),
        (GOOD, GOOD, TypeError, "`labels` must be integers"),
        (GOOD[:0], ZEROS[:0], ValueError, "one at least"),
        (GOOD[0], ZEROS, ValueError, r"must be \(pictures, classes\)"),
        (GOOD.long(), ZEROS, TypeError, "must be floating point"),
        (GOOD * math.nan, ZEROS, ValueError, "must be finite"),
    ],
)
def test_bad_input(  # type: ignore[no-untyped-def]
    measure, values: Tensor, labels: Tensor, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        measure(values, labels)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("measure", [negative_log_likelihood, brier, expected_calibration_error])
@pytest.mark.parametrize("p", [2 * GOOD, torch.tensor([[1.5, -0.5], [0.5, 0.5]])])
def test_what_is_no_probability_is_refused(measure, p: Tensor) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="`p` must be probabilities"):
        measure(p, ZEROS)


@pytest.mark.usefixtures("as_user")
def test_bad_temperature_and_bins() -> None:
    for T in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="`T` must be a finite number > 0"):
            probabilities(GOOD, T)
    for bins in (0, 1.5, True):
        with pytest.raises((TypeError, ValueError), match="`bins` must be a whole number >= 1"):
            expected_calibration_error(GOOD, ZEROS, bins)  # type: ignore[arg-type]
