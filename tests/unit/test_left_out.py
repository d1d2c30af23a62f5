"""Leave-one-out by blocks says what it says of all logits at once; Newton's method finds the best temperature."""

from collections.abc import Callable, Iterator

import pytest
import torch

import carrot.classifier.left_out
from carrot import RidgeHead
from carrot._ridge.streamed import loo_at
from carrot.classifier.left_out import LeftOut
from carrot.evaluation.accuracy import summary
from carrot.evaluation.calibration import (
    HIGHEST,
    LOWEST,
    NewtonSums,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
    streamed_temperature,
)
from carrot.evaluation.suspects import label_suspects


def problem(n: int = 120, D: int = 12, C: int = 7, alone: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(n) % C
    G = torch.randn(n, D, generator=generator) + torch.nn.functional.one_hot(y, D)
    G[5, -1] = alone  # nearly alone in a direction
    return G.double(), y


@pytest.fixture(params=[(120, 12), (30, 40)], ids=["tall", "wide"])
def head(request: pytest.FixtureRequest) -> RidgeHead:
    G, y = problem(*request.param, alone=1e7)
    return RidgeHead(1.0, True).fit(G, y)


def sums_of(logits: torch.Tensor, y: torch.Tensor, size: int = 13) -> Callable[[float], Iterator[NewtonSums]]:
    each = list(zip(logits.split(size), y.split(size), strict=True))
    return lambda b: (NewtonSums.of(*some, b, len(y)) for some in each)


def test_some_rows_are_those_of_all(head: RidgeHead) -> None:
    at = torch.tensor([7, 5, 0, 29])
    torch.testing.assert_close(loo_at(head, at), head.loo_predict()[at], rtol=1e-9, atol=1e-9)


def test_by_blocks_it_is_what_it_is_at_once(head: RidgeHead, monkeypatch: pytest.MonkeyPatch) -> None:
    held = LeftOut(head, head.labels)
    T, figures, suspects = held.temperature(), held.figures(0.3), held.suspects(0.3)
    logits, y = head.loo_predict(), head.labels
    assert fit_temperature(logits, y) == T
    p, found = probabilities(logits, 0.3), summary(logits, y)
    assert (figures["loo_accuracy"], figures["loo_mean_per_class"]) == (found.top1, found.mean_per_class)
    assert figures["loo_negative_log_likelihood"] == negative_log_likelihood(p, y)
    assert figures["loo_calibration_error"] == expected_calibration_error(p, y)
    assert figures["loo_squared_error"] == pytest.approx(float((logits - head.Y).square().mean()), rel=1e-14)

    monkeypatch.setattr("carrot._ridge.asked.HELD", 0)
    monkeypatch.setattr(carrot.classifier.left_out, "SAMPLE", 100)
    monkeypatch.setattr("carrot._ridge.blocks.LINES", 16)
    monkeypatch.setattr("carrot._ridge.blocks.CACHED", 64)
    monkeypatch.setattr(RidgeHead, "loo_predict", None)  # never all of them
    streamed = LeftOut(head, head.labels)
    assert len(list(streamed.blocks())) > 1, "the premise"
    assert streamed.temperature() == pytest.approx(T, rel=1e-9)
    assert streamed.figures(0.3) == pytest.approx(figures, rel=1e-9, abs=1e-12)
    ours, theirs = streamed.suspects(0.3), suspects
    for name in ("self_confidence", "margin", "normalised_margin", "thresholds"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-9)
    assert torch.equal(ours.suggested, theirs.suggested)
    assert torch.equal(ours.flagged, theirs.flagged)
    assert torch.equal(theirs.margin, label_suspects(logits, y, 0.3).margin)


@pytest.mark.parametrize("factor", [1e-3, 0.5, 1.0 - 1e-9, 1.0, 1.0 + 1e-9, 1.05, 30.0])
def test_newton_finds_the_best_temperature_from_anywhere(factor: float) -> None:
    G, y = problem()
    logits = RidgeHead(1.0).fit(G, y).loo_predict()
    best = fit_temperature(logits, y)
    before = logits.clone()
    found = streamed_temperature(sums_of(logits, y), len(y), best * factor)
    assert found == pytest.approx(best, rel=1e-9)
    assert torch.equal(logits, before)


def test_few_passes_are_taken_from_a_good_guess() -> None:
    G, y = problem()
    logits, asked = RidgeHead(1.0).fit(G, y).loo_predict(), list[int]()

    def counted(b: float) -> Iterator[NewtonSums]:
        asked.append(1)
        return sums_of(logits, y)(b)

    streamed_temperature(counted, len(y), 1.03 * fit_temperature(logits, y))
    assert len(asked) <= 4


@pytest.mark.parametrize("guess", [1e-6, 0.1, 1e6])
@pytest.mark.parametrize("kind", ["right by little", "worse than chance", "equal"])
def test_bounds_are_those_of_the_whole(kind: str, guess: float) -> None:
    n, C = 20_000, 3
    y = torch.arange(n) % C
    one = torch.nn.functional.one_hot(y, C).double()
    logits = {"right by little": 1e-9 * one + torch.tensor([0.0, 0, 0]), "worse than chance": -one, "equal": 0 * one}
    x = logits[kind]
    expected = fit_temperature(x, y)
    assert streamed_temperature(sums_of(x, y, 5000), n, guess) == pytest.approx(expected, rel=1e-9)
    spread = float((x - x.mean(dim=1, keepdim=True)).square().mean().sqrt())
    if kind == "worse than chance":
        assert expected == pytest.approx(HIGHEST * spread)
    assert LOWEST * spread <= expected


def test_what_can_have_no_temperature_is_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        streamed_temperature(lambda b: iter(()), 0, 1.0)
    with pytest.raises(ValueError, match="guess"):
        streamed_temperature(lambda b: iter(()), 1, 0.0)


@pytest.mark.parametrize("against", [None, 2])
def test_one_question_is_asked_without_the_dual_weights_of_other_classes(
    head: RidgeHead, against: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    logit = head.logit(4, against)
    alpha, residual, Y = logit.alpha, logit.residual, logit.column(head.Y)
    assert torch.equal(logit.Y, Y)
    monkeypatch.setattr("carrot._ridge.asked.HELD", 0)
    if not head.is_dual:
        monkeypatch.setattr(type(head), "alpha", None)
    torch.testing.assert_close(logit.alpha, alpha, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logit.residual, residual, rtol=1e-9, atol=1e-9)
    sums = logit.W_star - (head.G - head.g_mean).mT @ logit.alpha
    assert float(sums.abs().max()) < 1e-9, "the sum over pictures is the weight, to rounding"
    assert float(logit.alpha.sum()) == pytest.approx(0.0, abs=1e-9)
