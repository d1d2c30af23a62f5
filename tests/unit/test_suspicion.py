"""The order of an audit: by its definition, on planted wrong labels, and where there is little to say."""

import math

import numpy as np
import pytest
import torch

from carrot.evaluation.calibration import fit_temperature
from carrot.evaluation.ranking import auroc
from carrot.evaluation.suspects import label_suspects
from carrot.evaluation.suspicion import LEAST, ClassClouds, belief
from carrot.head import RidgeHead
from tests import reference as ref

F64 = torch.float64


@pytest.mark.parametrize(("n", "C"), [(30, 3), (12, 2), (40, 6)])
def test_by_definition(n: int, C: int) -> None:
    rng = np.random.default_rng(n)
    logits, y = rng.normal(size=(n, C)), np.arange(n) % C
    w = rng.uniform(0.1, 1.0, size=n)
    labels, weights = torch.tensor(y), torch.tensor(w)
    clouds = ClassClouds.of(torch.tensor(logits), labels, weights)
    found = clouds.suspicion(torch.tensor(logits), labels, weights)
    assert found.tolist() == pytest.approx(ref.suspicion(logits, y.tolist(), w), rel=1e-10, abs=1e-10)


def test_others_are_held_against_the_clouds_as_they_are() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(20, 3, generator=rng, dtype=F64), torch.arange(20) % 3
    clouds = ClassClouds.of(logits, labels, torch.ones(20, dtype=F64))
    at_a_mean = clouds.means[[1]]
    right, wrong = (float(clouds.suspicion(at_a_mean, torch.tensor([c]))[0]) for c in (1, 2))
    assert right < 0 < wrong
    shifted = ClassClouds.of(3.0 * logits + 7.0, labels, torch.ones(20, dtype=F64))
    assert torch.allclose(shifted.suspicion(3.0 * logits + 7.0, labels), clouds.suspicion(logits, labels), atol=1e-10)


def test_belief_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0], [50.0, 0.0]], dtype=F64)
    found = belief(logits, torch.tensor([0, 1, 1, 1]), 1.0)
    assert found.tolist() == pytest.approx([1.0, math.exp(-1.0), 1.0, LEAST])


def test_what_can_say_nothing_says_nothing() -> None:
    same = torch.zeros(6, 3, dtype=F64)
    w, labels = torch.ones(6, dtype=F64), torch.tensor([0, 0, 0, 1, 1, 2])
    assert ClassClouds.of(same, labels, w).suspicion(same, labels, w).tolist() == [0.0] * 6
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    alone = ClassClouds.of(logits, labels, w).suspicion(logits, labels, w)
    assert bool(alone.isfinite().all())
    assert float(alone[5]) <= 0.0, "the only picture of its class is nobody's suspect"
    one = torch.zeros(6, dtype=torch.long)
    assert ClassClouds.of(logits, one, w).suspicion(logits, one, w).tolist() == [0.0] * 6, "no other class has pictures"


@pytest.mark.parametrize("kind", ["uniform", "next"])
def test_planted_wrong_labels_come_before_where_the_margin_has_them(kind: str) -> None:
    """A fifth of the labels is wrong: mean over draws, of the area under the ROC curve."""
    C, n, gain = 8, 320, list[float]()
    for seed in range(4):
        rng = torch.Generator().manual_seed(seed)
        true = torch.arange(n) % C
        G = 0.5 * torch.randn(C, 24, generator=rng, dtype=F64)[true] + torch.randn(n, 24, generator=rng, dtype=F64)
        wrong = torch.rand(n, generator=rng) < 0.2
        step = 1 if kind == "next" else 1 + torch.randint(C - 1, (n,), generator=rng)
        labels = torch.where(wrong, (true + step) % C, true)
        head = RidgeHead("loo", True).fit(G, labels)
        loo = head.loo_predict()
        T = fit_temperature(loo, labels)
        w = belief(loo, labels, T)
        again = head.reweighted(w).loo_predict()
        found = ClassClouds.of(again, labels, w).suspicion(again, labels, w)
        gain.append(auroc(found, wrong) - auroc(-label_suspects(loo, labels, T).margin, wrong))
        assert auroc(found, wrong) > 0.85
    assert sum(gain) / len(gain) > 0.005


def test_p_values_are_ranks_of_the_margin() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 1.0], [0.0, 1.0]], dtype=F64)
    found = label_suspects(logits, torch.tensor([0, 0, 1, 1]), 1.0)
    assert found.margin.tolist() == [1.0, -3.0, 0.0, 1.0]
    assert found.p_value.tolist() == [1.0, 0.25, 0.5, 1.0], "ties count"


def test_p_values_of_right_labels_are_no_smaller_than_they_say() -> None:
    """The share of pictures at or below any p is p at most, but for ties: over draws of exchangeable pictures."""
    rng = torch.Generator().manual_seed(3)
    y = torch.arange(200) % 4
    G = torch.randn(4, 10, generator=rng, dtype=F64)[y] + torch.randn(200, 10, generator=rng, dtype=F64)
    loo = RidgeHead(1.0, True).fit(G, y).loo_predict()
    p = label_suspects(loo, y, 1.0).p_value
    for alpha in (0.01, 0.05, 0.2, 0.5):
        assert float((p <= alpha).double().mean()) == pytest.approx(alpha, abs=1e-12)
