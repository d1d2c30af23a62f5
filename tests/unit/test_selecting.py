"""What ``select`` takes: rule (1), when a told share is offered, what it may cost, how many heads it holds."""

import gc
import weakref
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from carrot import RidgeHead
from carrot.classifier import selecting
from carrot.classifier.selecting import Plan, choose
from carrot.classifier.selection_table import table_lines
from carrot.embedding.encoder import Encoder
from carrot.embedding.setting import Setting
from carrot.evaluation.selection import Candidate
from tests import tiles

PATCHES, TILES, LADDER = Setting(), Setting(regions="tiles:2", power=8.0), Setting(regions="tiles:2,3", power=8.0)
N = 100  # pictures: a standard error of .9 is .03


@dataclass
class FakeCaches:
    """Embeddings that nobody looks at."""

    def of(self, _: Setting) -> "FakeCaches":
        return self

    def embed(self, rows: list[int], *_: Any) -> torch.Tensor:
        return torch.zeros(len(rows), 1)

    def pool(self, rows: list[int], settings: list[Setting]) -> list[torch.Tensor]:
        return [torch.zeros(len(rows), 1) for _ in settings]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> dict[Any, tuple[float, float]]:
    """Error and accuracy by setting or by (is_tiled, share); heads are empty."""
    answers: dict[Any, tuple[float, float]] = {}

    def candidate(G: torch.Tensor, labels: torch.Tensor, s: Setting, *_: Any) -> Candidate[Setting]:
        mse, accuracy = answers.get(s) or answers[s.is_tiled, s.global_share]
        return Candidate(s, RidgeHead(1.0), mse + 0.001 * s.t, accuracy)

    monkeypatch.setattr(selecting, "candidate", candidate)
    return answers


def plan(*plain: Setting, **given: Any) -> Plan:
    found: dict[str, Any] = {"costs": lambda s: 1.0 + bool(s.global_share), "shares": (0.1, 0.3), **given}
    return Plan(plain, ((0.5, 1.0),), found.pop("times", ()), **found)


def taken(p: Plan) -> tuple[Setting, list[dict[str, object]]]:
    best, lines = choose(FakeCaches(), range(N), torch.arange(N) % 2, p)  # type: ignore[arg-type]
    return best.setting, lines


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("accuracy", "is_tiled", "share"),
    [
        ({0.0: 0.90}, True, 0.0),
        ({0.0: 0.871}, True, 0.0),  # within a standard error of .9
        ({0.0: 0.869, 0.1: 0.872, 0.3: 0.95}, True, 0.3),  # .872 loses to .95 by more
        ({0.0: 0.869, 0.1: 0.872, 0.3: 0.89}, True, 0.1),  # the smallest that does not lose
        ({0.0: 0.869, 0.1: 0.60, 0.3: 0.70}, False, 0.0),
    ],
)
def test_tiles_unless_they_lose_more_than_a_standard_error(
    tried: dict[Any, tuple[float, float]], accuracy: dict[float, float], is_tiled: bool, share: float
) -> None:
    tried[False, 0.0] = (0.01, 0.90)
    tried.update({(True, told): (0.02, value) for told, value in accuracy.items()})
    chosen, lines = taken(plan(PATCHES, TILES))
    assert (chosen.is_tiled, chosen.global_share) == (is_tiled, share)
    assert len(lines) == 1 + len(accuracy), "a share is offered only where tiles alone lose"
    words = "\n".join(table_lines(lines, chosen, N))
    assert words.count("<- chosen") == 1
    assert ("Tiles are chosen, with" in words) == bool(share)
    lost = "Patches are chosen: tiles with 0.3 told to be the whole picture's would give up 0.2000"
    assert (lost in words) == (not is_tiled)
    assert ("Tiles are chosen" in words) == is_tiled
    loss = next(value for told, value in accuracy.items() if told == chosen.global_share) - 0.90
    how = f"({abs(loss):.4f} {'gained' if loss > 0 else 'lost'})" if loss else "(nothing lost)"
    assert (how in words) == is_tiled
    assert "not 1." in words, "what it costs is told too"


COSTS = {"patches": 1.0, "tiles:2": 4.004, "tiles:3": 9.0, "tiles:2,3": 13.0}


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("accuracy", "says"),  # by passes; the ladder is chosen, by its error; a standard error of .9 is .03
    [
        ((0.90, 0.88, 0.89), "tiles:2 would take 4.01 passes a picture instead of 13 and loses 0.0200 of"),
        ((0.90, 0.91, 0.89), "tiles:2 would take 4.01 passes a picture instead of 13 and gains 0.0100 of"),
        ((0.90, 0.90, 0.89), "tiles:2 would take 4.01 passes a picture instead of 13 and loses nothing of"),
        ((0.90, 0.86, 0.89), "tiles:3 would take 9 passes a picture instead of 13 and loses 0.0100 of"),
        ((0.90, 0.871, 0.89), "tiles:2 would take 4.01 passes"),
        ((0.90, 0.87, 0.86), ""),  # a whole standard error is too much
    ],
)
def test_what_is_cheaper_and_as_accurate_is_told_and_its_limit_chooses_it(
    tried: dict[Any, tuple[float, float]], accuracy: tuple[float, float, float], says: str
) -> None:
    three = Setting(regions="tiles:3", power=8.0)
    worse = Setting(regions="tiles:2", power=4.0)  # of a larger error, if more accurate: it would not be taken
    tried.update({PATCHES: (0.05, 0.85), worse: (0.045, 0.90)})
    tried.update(zip((LADDER, TILES, three), zip((0.01, 0.04, 0.03), accuracy, strict=True), strict=True))
    every = (PATCHES, worse, TILES, three, LADDER)
    costs = {"costs": lambda s: COSTS[s.regions]}
    chosen, lines = taken(plan(*every, **costs))
    assert chosen == LADDER, "the rule is as it was"
    words = " ".join(table_lines(lines, chosen, N))
    assert says in words
    assert ("within a standard error (0.0300): --passes" in words) == bool(says)
    limit = float(words.rpartition("--passes ")[2].split()[0].rstrip(".")) if says else 100.0
    there, _ = taken(plan(*(s for s in every if COSTS[s.regions] <= limit), **costs))
    assert there.regions == (says.split()[0] if says else LADDER.regions)
    assert there != worse
    if limit < 9.0:
        assert "would take" not in " ".join(table_lines(lines, there, N)), "nothing is cheaper"


@pytest.mark.usefixtures("as_user")
def test_a_limit_is_not_named_where_patches_would_be_taken(tried: dict[Any, tuple[float, float]]) -> None:
    tried.update({PATCHES: (0.02, 0.92), LADDER: (0.01, 0.90), TILES: (0.03, 0.885)})  # .92 less its error is .893
    chosen, lines = taken(plan(PATCHES, TILES, LADDER, costs=lambda s: COSTS[s.regions]))
    assert chosen == LADDER
    assert "would take" not in " ".join(table_lines(lines, chosen, N))


@pytest.mark.parametrize("name", ["tau", "coarsen"])
def test_what_means_nothing_to_tiles_is_refused_where_tiles_alone_compete(name: str) -> None:
    encoder = Encoder(tiles.backbone())
    grid: dict[str, Any] = {"regions": ["tiles:2"], "lift": ["identity"], "t": [0.0], name: [2]}
    with pytest.raises(ValueError, match=rf"`{name}` means something to patches alone, and regions are tiles:2\."):
        Plan.of(grid, encoder, N)
    assert Plan.of({**grid, name: [Setting().to_dict()[name]]}, encoder, N).plain


@pytest.mark.usefixtures("as_user")
def test_among_tiles_the_error_chooses(tried: dict[Any, tuple[float, float]]) -> None:
    tried[PATCHES], tried[TILES], tried[LADDER] = (0.01, 0.9), (0.03, 0.9), (0.02, 0.88)
    assert taken(plan(PATCHES, TILES, LADDER))[0] == LADDER
    assert taken(plan(TILES, LADDER))[0] == LADDER


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("accuracy", [0.88, 0.86])  # a standard error below .9 is .87
def test_diffused_tiles_stay_within_the_rule(tried: dict[Any, tuple[float, float]], accuracy: float) -> None:
    graph = {"sigma_spatial": 0.5, "sigma_feature": 1.0, "t": 1.0}
    diffused = Setting(**{**TILES.to_dict(), **graph})
    tried.update({PATCHES: (0.01, 0.9), TILES: (0.03, 0.9), diffused: (0.02, accuracy)})
    chosen, lines = taken(plan(PATCHES, TILES, times=(1.0,)))
    assert chosen == (diffused if accuracy == 0.88 else TILES)
    assert len(lines) == 3, "it is told all the same"
    assert taken(plan(TILES, times=(1.0,)))[0] == diffused, "with nothing to hold it against, the error chooses"


@pytest.mark.usefixtures("as_user")
def test_a_share_that_costs_too_much_is_not_offered(tried: dict[Any, tuple[float, float]]) -> None:
    tried.update({(False, 0.0): (0.01, 0.9), (True, 0.0): (0.02, 0.5)})
    chosen, lines = taken(plan(PATCHES, TILES, limit=1.5))
    assert not chosen.is_tiled
    assert len(lines) == 2


@pytest.mark.usefixtures("as_user")
def test_one_head_is_held_at_a_time(tried: dict[Any, tuple[float, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    tried.update(
        {(False, 0.0): (0.01, 0.9), (True, 0.0): (0.02, 0.5), (True, 0.1): (0.02, 0.6), (True, 0.3): (0.02, 0.89)}
    )
    alive, most, made = weakref.WeakSet[RidgeHead](), 0, selecting.candidate

    def counted(*given: Any) -> Candidate[Setting]:
        nonlocal most
        found = made(*given)
        alive.add(found.head)
        gc.collect()
        most = max(most, len(alive))
        return found

    monkeypatch.setattr(selecting, "candidate", counted)
    gc.collect()
    gc.freeze()  # what other tests left is not looked through each time
    try:
        chosen, lines = taken(plan(PATCHES, TILES, LADDER, times=(0.5, 1.0, 2.0)))
    finally:
        gc.unfreeze()
    assert chosen.global_share == 0.3
    assert len(lines) == 3 + 2 + 3
    assert most == 1


@pytest.mark.usefixtures("as_user")
def test_what_is_no_number_and_no_list_is_refused() -> None:
    encoder = Encoder(tiles.backbone())
    with pytest.raises(TypeError, match="`passes` must be a number; got '3'"):
        Plan.of({}, encoder, 4, passes="3")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must hold a list for 'regions'; got 'tiles:2'. Write \['tiles:2'\]"):
        Plan.of({"regions": "tiles:2"}, encoder, 4)


def test_costs_and_limits() -> None:
    encoder = Encoder(tiles.backbone())
    grid: dict[str, Any] = {"regions": ["patches", "tiles:2", "tiles:2,3"], "lift": ["identity"], "t": [0.0]}
    every = Plan.of(grid, encoder, N)
    assert {s.regions: every.costs(s) for s in every.plain} == {"patches": 1.0, "tiles:2": 4.0, "tiles:2,3": 13.0}
    assert every.costs(Setting(regions="tiles:2", global_share=0.1)) == 5.0, "the whole picture is a pass too"
    four = Plan.of(grid, encoder, N, passes=4.0)
    assert {s.regions for s in four.plain} == {"patches", "tiles:2"}
    assert four.beyond == (("tiles:2,3", 13.0),)
    assert every.beyond == ()
    with pytest.raises(ValueError, match=r"`passes` = 0.5 leaves nothing: the least, patches, costs 1"):
        Plan.of(grid, encoder, N, passes=0.5)
    with pytest.raises(ValueError, match="`passes` must be"):
        Plan.of(grid, encoder, N, passes=float("nan"))


@pytest.mark.parametrize(
    ("grid", "kinds"),
    [
        ({}, {"patches", "tiles:3", "tiles:3,4"}),
        ({"power": [8.0]}, {"tiles:3", "tiles:3,4"}),
        ({"coarsen": [1]}, {"patches"}),
        ({"tau": [0.0], "power": [4.0]}, {"patches", "tiles:3", "tiles:3,4"}),
        ({"regions": ["tiles:2", "patches"]}, {"patches", "tiles:2"}),
    ],
)
def test_who_names_what_means_nothing_to_the_others_means_these(grid: dict[str, Any], kinds: set[str]) -> None:
    found = Plan.of({"lift": ["identity"], **grid}, Encoder(tiles.backbone()), N)
    assert {s.regions for s in found.plain} == kinds


@pytest.mark.usefixtures("as_user")
def test_what_costs_too_much_is_said_under_the_table(tried: dict[Any, tuple[float, float]]) -> None:
    tried[False, 0.0], tried[True, 0.0] = (0.01, 0.90), (0.01, 0.90)
    chosen, lines = taken(plan(PATCHES, TILES))
    told = list(table_lines(lines, chosen, N, limit=4.0, beyond=(("tiles:2,3", 13.0), ("tiles:3,4", 25.0))))
    assert (
        "Not tried, for they cost more than the 4 passes that --passes allows: tiles:2,3 (13 passes); tiles:3,4 "
        "(25 passes)."
    ) in told
    assert not any("Not tried" in line for line in table_lines(lines, chosen, N))


def test_a_choice_at_the_end_of_its_list_is_told() -> None:
    def told(chosen: Setting, powers: tuple[float, ...] = (0.0, 4.0, 16.0)) -> list[str]:
        tried = [replace(chosen, power=power) for power in powers] + [Setting(tau=tau) for tau in (0.0, 0.5)]
        lines = [
            {**s.to_dict(), "lam": 1.0, "loo_mse": 0.1 + (s != chosen), "loo_accuracy": 0.9, "passes": 1.0}
            for s in tried
        ]
        found = [line for line in table_lines(lines, chosen, N) if line.startswith("At the end of what was tried")]
        return [end for line in found for end in line.removesuffix(".").partition(" beyond: ")[2].split("; ")]

    tiles = Setting(regions="tiles:3")
    assert told(replace(tiles, power=16.0)) == ["power 16 (--power 0 4 16 32)"]
    assert told(replace(tiles, power=4.0)) == []
    assert told(replace(tiles, power=0.0)) == [], "nothing is below no power"
    assert told(replace(tiles, power=16.0), (16.0,)) == [], "nothing else was asked for"
    assert [line.split()[0] for line in told(Setting(tau=0.5), ())] == ["tau"]
    (line,) = told(replace(tiles, power=2.0), (2.0, 4.0))
    assert line == "power 2 (--power 1 2 4)"
