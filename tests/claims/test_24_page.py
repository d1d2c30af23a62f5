"""Claim 24: what a page answers by itself, whatever a hand does on it, is what fitting again answers."""

import json
from typing import Any

import numpy as np

import carrot
from carrot.embedding.trace import Trace
from carrot.explanation import Explanation
from carrot.explanation.payload import payload
from tests import reference as ref
from tests import tiles
from tests.engine import answers, needs_node

STATEMENT = (
    "What a page computes by itself (regions dropped, training pictures left out, relabelled, or regions of theirs "
    "hidden, all at once) is the logits of refitting and rebuilding"
)
FORMULA = "F_pc + K_pU (C^{-1} + K_UU)^{-1} (Y_U - F_U), p = sum_r pi_r phi(h_r)"
ASSUMPTION = (
    "lam held; of training pictures those that the page shows; in any browser, "
    "[benchmarks/page.py](../benchmarks/page.py)"
)
C, STATES, T = 3, 24, 1.5


def world() -> tuple[carrot.Carrot, Explanation]:
    """A model of noise, and an explanation."""
    given: dict[str, Any] = {"power": 2.0, "t": T, "lift": "identity", "lam": 0.1}
    model = carrot.Carrot(tiles.backbone(), regions=tiles.SPEC, dtype="float32", **given)
    model.fit([np.asarray(tiles.noise(seed)) for seed in range(12)], list("abc" * 4))
    return model, model.explain(np.asarray(tiles.noise(99)))


def states(e: Explanation) -> list[dict[str, Any]]:
    """Return random states, in which no class is left without a picture."""
    assert e.counterfactuals is not None
    rng, found = np.random.default_rng(0), []
    for _ in range(STATES):
        hidden = {
            str(k): rng.choice(len(t.H), rng.integers(0, 6), replace=False).tolist()
            for k, t in e.counterfactuals.traces.items()
        }
        out, moved = np.split(rng.permutation(len(e.counterfactuals.rows))[: rng.integers(0, 4)], [1])
        dropped = rng.choice(len(e.parts.token), rng.integers(0, 9), replace=False).tolist()
        relabel = {str(k): int(rng.integers(C)) for k in moved}
        found.append({"dropped": dropped, "out": out.tolist(), "relabel": relabel, "hidden": hidden})
    return found


def refitted(model: carrot.Carrot, e: Explanation, state: dict[str, Any]) -> np.ndarray:
    """Return the logits by least squares on the training pictures as they are then, and the graph of what is left."""
    c, head = e.counterfactuals, model.head_
    assert c is not None

    def g(trace: Trace, gone: list[int]) -> np.ndarray:
        H, W, r = (x.double().numpy() for x in (trace.H, trace.graph.W, trace.r))
        return ref.embed_subset(H, W, T, ~np.isin(np.arange(len(H)), gone), r)

    G, Y = head.G.double().numpy().copy(), head.Y.numpy().copy()
    for place, label in state["relabel"].items():
        Y[c.rows[int(place)]] = np.eye(C)[label]
    for place, gone in state["hidden"].items():
        if gone:
            G[c.rows[int(place)]] = g(c.traces[int(place)], gone)
    out = [c.rows[place] for place in state["out"]]
    G, Y = ref.without(G, out), ref.without(Y, out)
    return ref.predict(G, Y, head.lam, head.fit_intercept, g(c.picture, state["dropped"]))


def measure() -> float:
    """Return the largest difference of a logit, relative to the largest of the brute-force answer."""
    (model, e), worst = world(), 0.0
    asked = states(e)
    for state, found in zip(asked, answers(json.loads(json.dumps(payload(e))), [*asked]), strict=True):
        assert not found["refused"], found["refused"]
        expected = refitted(model, e, state)
        worst = max(worst, float(np.abs(np.array(found["logits"]) - expected).max() / np.abs(expected).max()))
    return worst


@needs_node
def test_claim() -> None:
    head = world()[0].head_
    condition = ref.condition(head.G.double().numpy(), head.lam, head.fit_intercept)
    least = float(head.slack.min())  # what a removal divides by
    assert measure() <= 10 * np.finfo(np.float64).eps * condition / least
