"""Suspicious labels by their definitions, picture by picture, and on planted wrong labels."""

import math

import pytest
import torch
from torch import Tensor

from carrot.evaluation.calibration import fit_temperature, probabilities
from carrot.evaluation.ranking import auroc
from carrot.evaluation.suspects import label_suspects
from carrot.head import RidgeHead
from tests.reference import flagged_labels

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 3.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1])


def test_by_hand() -> None:
    found = label_suspects(LOGITS, LABELS, 0.5)
    assert found.margin.tolist() == [1.0, -3.0, 0.0]
    assert found.suggested.tolist() == [1, 1, 0]  # of equal ones the lowest
    assert found.flagged.tolist() == [False, True, False]
    assert found.thresholds.tolist() == pytest.approx(
        [(math.exp(4) / (math.exp(4) + math.exp(2) + 1) + 1 / (1 + 2 * math.exp(6))) / 2, 1 / 3, math.inf]
    )
    for i, (row, y) in enumerate(zip(LOGITS.tolist(), LABELS.tolist(), strict=True)):
        e = [math.exp(s / 0.5) for s in row]
        p = [x / sum(e) for x in e]
        assert float(found.self_confidence[i]) == pytest.approx(p[y])
        assert float(found.normalised_margin[i]) == pytest.approx(p[y] - max(q for c, q in enumerate(p) if c != y))
    assert found.order().tolist() == [1, 2, 0]
    assert found.order("margin").tolist() == [1, 2, 0]
    assert label_suspects(LOGITS[[2, 2]], LABELS[[2, 2]], 1.0).order("normalised_margin").tolist() == [0, 1]


def planted(seed: int, n: int = 300, D: int = 20, C: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    true = torch.arange(n) % C
    G = 1.2 * torch.randn(C, D, generator=rng, dtype=torch.float64)[true]
    G += torch.randn(n, D, generator=rng, dtype=torch.float64)
    wrong = torch.rand(n, generator=rng) < 0.05
    labels = torch.where(wrong, (true + 1 + torch.randint(C - 1, (n,), generator=rng)) % C, true)
    return G, labels, wrong


@pytest.mark.parametrize("seed", range(3))
def test_planted_wrong_labels_come_first(seed: int) -> None:
    G, labels, wrong = planted(seed)
    loo = RidgeHead("loo", True).fit(G, labels).loo_predict()
    found = label_suspects(loo, labels, fit_temperature(loo, labels))
    for score in (found.margin, found.self_confidence, found.normalised_margin):
        assert auroc(-score, wrong) > 0.95
    first = found.order()[: int(wrong.sum())]
    assert float(wrong[first].double().mean()) > 0.7


def imbalanced(seed: int, many: int, few: int, wrong: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two classes that hardly overlap, one of them rare; leave-one-out logits, probabilities, labels, true classes."""
    rng = torch.Generator().manual_seed(seed)
    means = 0.45 * torch.randn(2, 64, generator=rng, dtype=torch.float64)
    true = torch.tensor([0] * many + [1] * few)
    G = means[true] + torch.randn(many + few, 64, generator=rng, dtype=torch.float64)
    labels = true.clone()
    labels[torch.randperm(many, generator=rng)[:wrong]] = 1
    loo = RidgeHead("loo", True).fit(G, labels).loo_predict()
    return loo, probabilities(loo, fit_temperature(loo, labels)), labels, true


@pytest.mark.parametrize("few", [5, 10, 20, 200])
def test_a_rare_class_is_not_flagged_whole(few: int) -> None:
    """All labels are right. A margin below 0, one threshold for all classes, flagged the rare class whole."""
    below, flagged = 0, torch.zeros(2)
    for seed in range(10):
        loo, _, labels, _ = imbalanced(seed, 200, few)
        found = label_suspects(loo, labels, fit_temperature(loo, labels))
        below += int((found.margin[labels == 1] < 0).sum())
        flagged += torch.tensor([int(found.flagged[labels == c].sum()) for c in (0, 1)])
    assert float(flagged.max()) / 10 <= 0.5, "right labels flagged, a draw and class"
    if few <= 10:
        assert below / 10 > 0.5 * few, "the premise"


def test_wrong_labels_among_a_rare_class_are_flagged() -> None:
    found_wrong = flagged_right = 0
    for seed in range(10):
        loo, _, labels, true = imbalanced(seed, 200, 20, wrong=4)
        flagged = label_suspects(loo, labels, fit_temperature(loo, labels)).flagged
        found_wrong += int(flagged[labels != true].sum())
        flagged_right += int(flagged[labels == true].sum())
    assert found_wrong >= 25, "of 40"
    assert flagged_right <= 5, "of 2,200"


@pytest.mark.parametrize("seed", range(4))
def test_flags_are_those_of_the_oracle(seed: int) -> None:
    for loo, labels in (imbalanced(seed, 60, 6, wrong=2)[::2], _many_classes(seed)):
        T = fit_temperature(loo, labels)
        found = label_suspects(loo, labels, T)
        assert found.flagged.tolist() == flagged_labels(probabilities(loo, T), labels.tolist())
        rest = torch.arange(len(labels)) % 2 == 0
        again = label_suspects(loo[rest], labels[rest], T, found.thresholds)
        assert again.flagged.tolist() == found.flagged[rest].tolist(), "by the thresholds of others"


@pytest.mark.parametrize("seed", range(2))
def test_flags_are_those_of_cleanlab(seed: int) -> None:
    cleanlab = pytest.importorskip("cleanlab.filter", reason="pip install cleanlab")
    for loo, labels in (imbalanced(seed, 60, 6, wrong=2)[::2], _many_classes(seed)):
        T = fit_temperature(loo, labels)
        theirs = cleanlab.find_label_issues(
            labels.numpy(), probabilities(loo, T).numpy(), filter_by="confident_learning", n_jobs=1
        )
        assert label_suspects(loo, labels, T).flagged.tolist() == theirs.tolist()


def _many_classes(seed: int) -> tuple[Tensor, Tensor]:
    G, labels, _ = planted(seed, n=120)
    return RidgeHead("loo", True).fit(G, labels).loo_predict(), labels


@pytest.mark.usefixtures("as_user")
def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"`loo_logits` must be \(m, C\)"):
        label_suspects(LOGITS[0], LABELS, 1.0)
    with pytest.raises(ValueError, match="`loo_logits` must be finite"):
        label_suspects(LOGITS * math.nan, LABELS, 1.0)
    with pytest.raises(TypeError, match="`loo_logits` must be real"):
        label_suspects(LOGITS > 1, LABELS, 1.0)
    with pytest.raises(ValueError, match="at least two classes"):
        label_suspects(LOGITS[:, :1], 0 * LABELS, 1.0)
    with pytest.raises(ValueError, match=r"`labels` must be \(3,\)"):
        label_suspects(LOGITS, LABELS[:2], 1.0)
    with pytest.raises(ValueError, match="from 0 to C - 1 = 2; got 0 to 3"):
        label_suspects(LOGITS, torch.tensor([0, 1, 3]), 1.0)
    with pytest.raises(TypeError, match="`labels` must be integers"):
        label_suspects(LOGITS, LABELS.double(), 1.0)
    with pytest.raises(ValueError, match="`T` must be"):
        label_suspects(LOGITS, LABELS, 0.0)
    with pytest.raises(ValueError, match="`by` must be"):
        label_suspects(LOGITS, LABELS, 1.0).order("leverage")  # type: ignore[arg-type]
