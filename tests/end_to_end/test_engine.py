"""What a page answers by itself is what fitting again answers: random states, every kind of setting, and mutants."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carrot import Carrot
from carrot.data.toy import ToyBirds
from carrot.embedding.trace import Trace
from carrot.explanation import counterfactual
from carrot.explanation.payload import payload
from carrot.explanation.record import Explanation
from carrot.head import RidgeHead
from tests.engine import ENGINE, answers, needs_node

pytestmark = needs_node
BIRDS = ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=5)
PICTURE = len(BIRDS.records) - 1
SETTINGS: dict[str, dict[str, Any]] = {
    "tiles": {"regions": "tiles:2,3"},
    "diffused tiles and a told share": {"regions": "tiles:2,3", "t": 1.5, "global_share": 0.2},
    "sum": {"regions": "tiles:3", "readout": "sum"},
    "a diffused sum": {"regions": "tiles:3", "readout": "sum", "t": 0.7, "power": 2.0},
    "the guide's": {"t": 2.0, "lift": "identity", "fit_intercept": False, "lam": 1.0},
    "patches": {"lift": "identity", "tau": 0.5, "class_weight": {"00": 2.0}},
    "balanced": {"regions": "tiles:2", "class_weight": "balanced"},
}


def model_of(settings: dict[str, Any]) -> Carrot:
    weights = settings.get("class_weight")
    if isinstance(weights, dict):
        settings = {**settings, "class_weight": {BIRDS.classes[0]: 2.0}}
    return Carrot("toy", **settings).fit(BIRDS)


@pytest.fixture(scope="module", params=list(SETTINGS))
def asked(request: pytest.FixtureRequest) -> tuple[Carrot, Explanation, dict[str, Any]]:
    model = model_of(SETTINGS[request.param])
    e = model.explain(BIRDS.image(PICTURE), against=None if "sum" not in request.param else BIRDS.classes[0], k=3)
    found = payload(e)
    assert found is not None
    return model, e, json.loads(json.dumps(found))


def states(given: dict[str, Any], e: Explanation, count: int) -> list[dict[str, Any]]:
    """Return random states: the page offers no more than these."""
    rng, C, found = random.Random(0), len(given["classes"]), []
    assert e.counterfactuals is not None
    for _ in range(count):
        target, against = rng.sample(range(C), 2)
        places, N = range(len(given["training"])), len(e.parts.token)
        state: dict[str, Any] = {"target": target, "against": rng.choice([None, against]), "hidden": {}}
        state["dropped"] = rng.sample(range(N), rng.choice([0, 1, 2, N // 2, N]))
        if given["classWeights"] is not None:
            state["out"] = rng.sample(places, rng.choice([0, 0, 1, 3]))
            state["relabel"] = {str(k): rng.randrange(C) for k in rng.sample(places, rng.choice([0, 0, 1, 2]))}
        for k, trace in e.counterfactuals.traces.items():
            state["hidden"][str(k)] = rng.sample(range(len(trace.H)), rng.choice([0, 0, 1, len(trace.H) // 2]))
        found.append(state)
    return found


class Refit:
    """The model really fitted again, as a state has it."""

    def __init__(self, model: Carrot, e: Explanation, state: dict[str, Any]) -> None:
        c, head, fitted = e.counterfactuals, model.head_, model.fitted
        assert c is not None
        G, Y, w, labels = head.G.double().clone(), head.Y.clone(), head.sample_weight.clone(), fitted.labels.clone()
        for place, row in enumerate(c.rows):
            label = state.get("relabel", {}).get(str(place), int(labels[row]))
            if label != int(labels[row]):
                assert c.class_weights is not None
                w[row] *= c.class_weights[label] / c.class_weights[labels[row]]
                Y[row], labels[row] = torch.eye(len(Y[0]))[label], label
            if hidden := state["hidden"].get(str(place)):
                G[row] = shown(c.traces[place], hidden)
        gone = {c.rows[place] for place in state.get("out", [])}
        self.stay = [row for row in range(len(G)) if row not in gone]
        self.head = RidgeHead(head.lam, head.fit_intercept).fit(G[self.stay], Y[self.stay], w[self.stay])
        self.g, self.pi = shown(c.picture, state["dropped"]), weights(c.picture, state["dropped"])
        self.logits = self.head.predict(self.g)
        self.trace, self.state = c.picture, state

    def lead(self, values: torch.Tensor) -> torch.Tensor:
        target, against = self.state["target"], self.state["against"]
        return values[..., target] - (values[..., against] if against is not None else 0.0)

    def contributions(self) -> tuple[torch.Tensor, float]:
        """Return what each region brings, and what they are told from."""
        scores = self.trace.lift.scores(self.trace.H, self.head.W_star)
        if self.trace.is_additive:
            return self.pi * self.lead(scores), float(self.lead(self.head.bias))
        total = self.pi.sum()
        if not total:
            return torch.zeros_like(self.pi), float(self.lead(self.logits))
        return self.pi * self.lead(scores - self.head.g_mean @ self.head.W_star / total), float(
            self.lead(self.head.y_mean)
        )

    def without(self, row: int) -> float:
        """Return how far the logit would fall if a training picture had not been there besides."""
        return float(self.lead(self.logits - self.head.without([self.stay.index(row)]).predict(self.g)))

    def label_part(self, row: int) -> float:
        place = self.stay.index(row)
        return float(self.head.smoother(self.g)[place] * self.lead(self.head.Y[place]))


def kept(trace: Trace, gone: list[int]) -> torch.Tensor:
    there = torch.ones(len(trace.H), dtype=torch.bool)
    there[gone] = False
    return there


def shown(trace: Trace, gone: list[int]) -> torch.Tensor:
    return trace.shown(kept(trace, gone))


def weights(trace: Trace, gone: list[int]) -> torch.Tensor:
    there = kept(trace, gone).unsqueeze(-1)
    return trace.operator.pull_back_subsets(trace.graph, there, trace.r, trace.readout.rule)[:, 0]


def test_random_states(asked: tuple[Carrot, Explanation, dict[str, Any]]) -> None:
    model, e, given = asked
    random_ones = states(given, e, 16)
    for state, found in zip(random_ones, answers(given, [*random_ones]), strict=True):
        if found["refused"]:
            assert "would be left" in found["refused"]
            continue
        again = Refit(model, e, state)
        assert e.counterfactuals is not None
        close = {"rtol": 1e-8, "atol": 1e-8}
        np.testing.assert_allclose(found["logits"], again.logits, **close)
        p = torch.softmax(again.logits / model.temperature_, dim=0)
        np.testing.assert_allclose(found["probabilities"], p, atol=1e-6)
        brings, prior = again.contributions()
        np.testing.assert_allclose(found["contributions"], brings, **close)
        np.testing.assert_allclose(found["prior"], prior, **close)
        np.testing.assert_allclose(found["prior"] + sum(found["contributions"]), found["logit"], **close)
        parts = sum(one["label"] for one in found["training"]) + found["others"]
        np.testing.assert_allclose(parts, found["logit"], **close)
        for r in set(range(len(brings))) - set(state["dropped"]):
            less = again.head.predict(shown(again.trace, [*state["dropped"], r]))
            np.testing.assert_allclose(found["drops"][r], again.lead(again.logits - less), **close)
        for place, row in enumerate(e.counterfactuals.rows):
            one = found["training"][place]
            if place in state.get("out", []):
                assert one == {"without": 0, "label": 0}
            elif one["without"] is not None and given["classWeights"] is not None:
                np.testing.assert_allclose(one["without"], again.without(row), **close)
                np.testing.assert_allclose(one["label"], again.label_part(row), **close)


def test_the_start_is_the_explanation(asked: tuple[Carrot, Explanation, dict[str, Any]]) -> None:
    _, e, given = asked
    (found,) = answers(given, [{}])
    assert e.counterfactuals is not None
    np.testing.assert_allclose(found["logits"], e.parts.logits, atol=1e-10)
    np.testing.assert_allclose(found["contributions"], e.parts.token, atol=1e-10)
    np.testing.assert_allclose(found["drops"], e.parts.drop, atol=1e-10)
    np.testing.assert_allclose(found["probabilities"], e.probabilities, atol=1e-10)
    for place, row in enumerate(e.counterfactuals.rows):
        np.testing.assert_allclose(found["training"][place]["without"], e.parts.removal[row], atol=1e-8)
        np.testing.assert_allclose(found["training"][place]["label"], e.parts.label[row], atol=1e-8)


def test_what_the_model_answers(asked: tuple[Carrot, Explanation, dict[str, Any]]) -> None:
    model, _, given = asked
    image, ids = BIRDS.image(PICTURE), [one["id"] for one in given["training"]]
    label = next(c for c in range(len(given["classes"])) if c != given["training"][1]["label"])
    what_ifs = [model.what_if(image, regions=[0, 2])]
    asks: list[dict[str, Any] | str] = [{"dropped": [0, 2]}]
    if given["classWeights"] is not None:
        what_ifs += [
            model.what_if(image, [ids[0], ids[2]]),
            model.what_if(image, relabel={ids[1]: given["classes"][label]}),
        ]
        asks += [{"out": [0, 2]}, {"relabel": {"1": label}}]
    for found, what_if in zip(answers(given, asks), what_ifs, strict=True):
        np.testing.assert_allclose(found["logits"], what_if.logits, atol=1e-8)


def test_a_link_is_a_state(asked: tuple[Carrot, Explanation, dict[str, Any]]) -> None:
    _, e, given = asked
    random_ones = states(given, e, 20)
    found = answers(given, [*random_ones])
    again = answers(given, [one["hash"] for one in found])
    for a, b in zip(found, again, strict=True):
        assert a["hash"] == b["hash"]
        assert a.get("logits") == b.get("logits")
        assert a["refused"] == b["refused"]


@pytest.mark.parametrize(
    "text", ["#x=999", "c=-1", "c=1e9", "o=a.b", "h=0-", "h=9-1", "l=0", "%%%", "x=", "c=3&a=3", "<script>"]
)
def test_a_bad_link_is_the_start(asked: tuple[Carrot, Explanation, dict[str, Any]], text: str) -> None:
    start, found = answers(asked[2], [{} if "c=3" not in text else {"target": 3, "against": None}, text])
    assert found["logits"] == start["logits"]


def test_pictures_of_high_leverage() -> None:
    """At a penalty so small that every picture nearly decides its own logits."""
    model = Carrot("toy", regions="tiles:2", lam=1e-3).fit(BIRDS)
    e = model.explain(BIRDS.image(PICTURE))
    given = json.loads(json.dumps(payload(e)))
    state = {"target": 0, "against": None, "dropped": [], "hidden": {}, "out": [0, 1, 2], "relabel": {"3": 1}}
    (found,) = answers(given, [state])
    np.testing.assert_allclose(found["logits"], Refit(model, e, state).logits, atol=1e-8)


def test_a_page_stands_still_where_it_would_be_wrong() -> None:
    """Sums of embeddings of length 1e5 at this penalty: |g|^2 / lam is 1e13 and more, and a page was off by .1."""
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"lam": 1e-3}, False),
        ({"lam": 1e-3, "fit_intercept": False, "global_share": 0.5}, False),
        ({}, True),
    ]
    for settings, is_told in cases:
        e = Carrot("toy", regions="tiles:2", readout="sum", **settings).fit(BIRDS).explain(BIRDS.image(PICTURE))
        assert (payload(e) is not None) == is_told
        assert ("<script>" in e.to_html()) == is_told


def test_a_class_is_not_left_without_a_picture() -> None:
    model = Carrot("toy", regions="tiles:2", lam=1.0).fit(
        ToyBirds(n_train_per_class=1, n_test_per_class=1, n_species=3)
    )
    given = payload(model.explain(BIRDS.image(PICTURE)))
    assert given is not None
    out, relabelled = answers(given, [{"out": [0]}, {"relabel": {"0": (given["training"][0]["label"] + 1) % 3}}])
    name = given["classes"][given["training"][0]["label"]]
    assert out["refused"] == relabelled["refused"] == f"No training picture of {name} would be left."


def test_what_would_be_too_much_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = model_of(SETTINGS["tiles"]), BIRDS.image(PICTURE)
    whole = model.explain(image, k=4)
    assert whole.counterfactuals is not None
    assert set(whole.counterfactuals.traces) == {0, 1, 2, 3}
    monkeypatch.setattr(counterfactual, "CARRIED", whole.counterfactuals.kernel.numel() // 2)
    some = model.explain(image, k=4)
    assert some.counterfactuals is not None
    assert 0 < len(some.counterfactuals.traces) < 4
    (a,), (b,) = answers(payload(some) or {}, [{"out": [1]}]), answers(payload(whole) or {}, [{"out": [1]}])
    np.testing.assert_allclose(a["logits"], b["logits"], atol=1e-12)
    monkeypatch.setattr(counterfactual, "CARRIED", 1)
    none = model.explain(image)
    assert none.counterfactuals is None
    assert payload(none) is None


MUTANTS = {
    "the sign of what is taken out": ("c: -one.weight", "c: one.weight"),
    "removals don't see each other": (
        "(i === j ? 1 / found[i].c : 0)",
        "(i === j ? 1 / found[i].c : -inner(model, found[i].point, found[j].point))",
    ),
    "the zero vector is forgotten": ("point.set(ZERO, rest);", ""),
    "the old mean is kept": ("if (!data.intercept || !found.length) return point;", "return point;"),
    "weights aren't shared anew": ("return total > 0 ? left.map((x) => x / total) : left;", "return left;"),
    "class weights are forgotten": ("data.classWeights ? data", "false ? data"),
    "degrees of the whole graph": ("if (kept[j]) degree", "degree"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_damaged_engine_is_found(name: str, tmp_path: Path) -> None:
    source, (old, new) = ENGINE.read_text(), MUTANTS[name]
    assert source.count(old) == 1
    damaged = tmp_path / "engine.js"
    damaged.write_text(source.replace(old, new))
    of = {"class weights are forgotten": "patches", "the zero vector is forgotten": "sum"}.get(
        name, "diffused tiles and a told share"
    )
    model = model_of(SETTINGS[of])
    e = model.explain(BIRDS.image(PICTURE), k=3)
    given = json.loads(json.dumps(payload(e)))
    random_ones = states(given, e, 20)
    worst = 0.0
    for state, found in zip(random_ones, answers(given, [*random_ones], damaged), strict=True):
        if not found["refused"]:
            again = Refit(model, e, state)
            brings, prior = again.contributions()
            errors = [np.abs(np.array(found["logits"]) - again.logits.numpy()).max(), abs(found["prior"] - prior)]
            worst = max(worst, *errors, float(np.abs(np.array(found["contributions"]) - brings.numpy()).max()))
    assert worst > 1e-4
