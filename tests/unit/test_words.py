"""Numbers in words: counts, intervals against the test that they invert, and the verdicts made of figures."""

import math

import pytest

from carrot._display.words import Z, between, counted, percent, wilson
from carrot.evaluation.verdict import beside, honest, how_often, of_maps


def test_one_is_one() -> None:
    said = [counted(n, "picture") for n in (0, 1, 2, 1234)]
    assert said == ["0 pictures", "1 picture", "2 pictures", "1,234 pictures"]
    assert counted(1, "class", "classes") == "1 class"
    assert counted(3, "class", "classes") == "3 classes"
    shares = [percent(p) for p in (0.0, 0.0001, 0.5, 0.9999, 1.0)]
    assert shares == ["0.0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100.0 %"]
    assert [percent(p, digits) for p, digits in ((0.125, 0), (0.0625, 1), (0.1875, 1))] == ["13 %", "6.3 %", "18.8 %"]


@pytest.mark.parametrize(("right", "n"), [(0, 1), (28, 28), (51, 52), (5, 10), (1, 1000)])
def test_an_interval_holds_the_shares_that_a_score_test_does_not_reject(right: int, n: int) -> None:
    p = right / n
    low, high = wilson(p, n)
    for bound in (low, high):
        if 0 < bound < 1:  # the score of the bound is the quantile: (p - q) / sqrt(q (1 - q) / n) = +-z
            assert abs(p - bound) / math.sqrt(bound * (1 - bound) / n) == pytest.approx(Z)
    assert low <= p <= high
    assert high - low > 0, "of 28 right of 28 nobody is certain"


def test_an_interval_is_told_no_narrower_than_it_is() -> None:
    assert between(1.0, 10_000) == "99.9 to 100.0 %"
    assert between(0.0, 10_000) == "0.0 to 0.1 %"
    for n in (3, 52, 777):
        low, high = (float(end) / 100 for end in between(0.5, n).removesuffix(" %").split(" to "))
        assert low <= wilson(0.5, n)[0] < wilson(0.5, n)[1] <= high


def figures(top1: float, n: int = 100, **more: object) -> dict[str, object]:
    return {"top1": top1, "top1_se": math.sqrt(top1 * (1 - top1) / n), "n": n, **more}


def test_a_baseline_is_beaten_only_by_more_than_its_error() -> None:
    def said(gap: float, error: float) -> str:
        best = figures(0.80, ahead={"mean": gap, "standard_error": error, "n": 100})
        return beside(figures(0.80 + gap), {"worse": figures(0.7), "plain": best, "absent": {"not_measured": "why"}})

    assert said(0.05, 0.02) == (
        "Better than the best of 2 plain ways with the same vision model (plain: 80.0 %), by 5.0 ± 3.9 points."
    )
    assert said(-0.05, 0.02).startswith("Worse than the best of 2")
    assert said(0.05, 0.03).startswith("As good as the best of 2")
    assert "as far as 100 pictures can tell: 5.0 ± 5.9 points apart" in said(0.05, 0.03)
    assert said(0.0, 0.0).endswith("right on the same pictures.")
    assert beside(figures(0.9), {"plain": figures(0.5)}).startswith("Better than the plain way"), "an older file"
    assert beside(figures(0.9), {"baselines": {"not_measured": "why"}}) == ""
    assert how_often(1.0, 28, "picture") == "right in 100.0 % of 28 pictures (95 % interval 87.9 to 100.0 %)"


@pytest.mark.parametrize(
    ("gain", "says"), [(0.05, "find what"), (-0.05, "mislead about what"), (0.01, "12 pictures can't tell")]
)
def test_maps_find_what_drives_the_score_only_beyond_their_error(gain: float, says: str) -> None:
    tiles = {"tile level, gain by token": {"mean": gain, "standard_error": 0.01, "n": 12}}
    where = {
        f"where: pointing in the mask by {name}": {"score": {"mean": score}, "chance": {"mean": 0.4}}
        for name, score in (("token", 0.75), ("the centre", 0.8))
    }
    said = of_maps({"pictures": 12, "occluded": 0, "tile_level": tiles, "localisation": where})
    assert says in said
    assert f"{abs(gain):.3f} ± 0.020 {'lower' if gain < 0 else 'higher'} than" in said
    assert said.endswith(
        "on the object in 75 %; of maps that know nothing, in 40 %, of one that always says the middle, in 80 %."
    )
    assert of_maps({"pictures": 0, "tile_level": {}}) == ""


@pytest.mark.parametrize(("n", "is_told"), [(1, False), (2, False), (5, False), (6, True)])
def test_a_verdict_needs_pictures(n: int, is_told: bool) -> None:
    """Of one there is no error, and of few that agree it is none: neither is certainty."""
    error = None if n == 1 else 0.0
    ours, plain = figures(1.0, n), figures(0.0, n, ahead={"mean": 1.0, "standard_error": error, "n": n})
    for said in (
        beside(ours, {"plain": plain}),
        beside(plain, {"ours": {**ours, "ahead": {"mean": -1.0, "standard_error": error, "n": n}}}),
        of_maps({"pictures": n, "tile_level": {"tile level, gain by token": {"mean": 0.2, "standard_error": error}}}),
        of_maps({"pictures": n, "tile_level": {"tile level, gain by token": {"mean": -0.2, "standard_error": error}}}),
    ):
        assert ("can't tell" not in said) == is_told
    assert beside(ours, {"plain": {**ours, "ahead": {"mean": 0.0, "standard_error": error}}}).startswith("As good as")


@pytest.mark.parametrize(
    ("promised", "came", "n", "word"),
    [
        (0.9, 0.84, 25, "a difference that 25 pictures can't tell from chance"),
        (0.9, 0.84, 2500, "it is too sure of itself"),
        (0.8, 0.84, 2500, "it is too modest"),
        (0.85, 0.84, 2500, "it keeps its promises"),
        (0.85, 1.0, 5, "5 pictures can't tell whether it keeps its promises"),
    ],
)
def test_whether_promises_are_kept(promised: float, came: float, n: int, word: str) -> None:
    said = honest({"top1": came, "n": n}, {"promised": promised})
    assert said.startswith(f"On average it promises {100 * promised:.1f} %, and is right in {100 * came:.1f} %: ")
    assert said.endswith(f": {word}.")
    assert honest({"top1": came, "n": n}, {}) == "", "an older version noted no promise"
