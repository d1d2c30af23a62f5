"""Reviewing labels: what each decision would do to leave-one-out accuracy, against as many real refits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carrot import Carrot, RidgeHead
from carrot._ridge import edited
from carrot.classifier.review import Review, Standing
from carrot.data.toy import ToyBirds
from carrot.explanation.parts import region_to_region

BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=1, n_species=4, wrong_labels=0.1)
NAMES = BIRDS.classes
DECIDED: dict[int, int | None] = {2: 1, 9: None, 11: 0}


@pytest.fixture(scope="module")
def models() -> dict[int, Carrot]:
    names = BIRDS.classes
    weights = (None, "balanced", {names[0]: 3.0})
    settings: dict[str, Any] = {"t": 1.0, "lift": "identity", "lam": 0.1}
    return {k: Carrot("toy", class_weight=weight, **settings).fit(BIRDS) for k, weight in enumerate(weights)}


def named(decided: dict[int, int | None]) -> dict[int, str | None]:
    """Return decisions with classes by name, those beyond the model's called "new 4" and so on."""
    return {row: name_of(label) for row, label in decided.items()}


def name_of(label: int | None) -> str | None:
    return None if label is None else NAMES[label] if label < len(NAMES) else f"new {label}"


def really(model: Carrot, decided: dict[int, int | None]) -> tuple[list[int], Tensor, Tensor]:
    """Return the rows that stay, their labels, and what real fits without each of them say of it."""
    f = model.fitted
    C = 1 + max([len(NAMES) - 1, *(label for label in decided.values() if label is not None)])
    classes = [str(name_of(label)) for label in range(C)]
    labels = {row: decided.get(row, record.label) for row, record in enumerate(f.records)}
    stay = [row for row, label in labels.items() if label is not None]
    y = torch.tensor([labels[row] for row in stay])
    records = [replace(f.records[row], label=int(label)) for row, label in zip(stay, y, strict=True)]
    w = f.weights(records, classes)
    G, Y = f.head.G[stay], torch.nn.functional.one_hot(y, len(classes)).double()
    said = []
    for i in range(len(stay)):
        others = [j for j in range(len(stay)) if j != i]
        head = RidgeHead(f.head.lam, f.head.fit_intercept).fit(G[others], Y[others], w[others])
        said.append(head.predict(G[i]))
    return stay, y, torch.stack(said)


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize(("row", "label"), [(0, 2), (0, None), (9, 3), (11, None), (13, 1), (13, 4), (11, 4)])
def test_an_outcome_is_that_of_real_refits(models: dict[int, Carrot], k: int, row: int, label: int | None) -> None:
    model, decided = models[k], {**DECIDED, row: label}
    review, name = Review(model.fitted, named(DECIDED)), name_of(label)
    stay, y, said = really(model, decided)
    after = review._with(row, name)
    assert after.there.nonzero().flatten().tolist() == stay
    assert float((after.logits[stay] - said).abs().max()) < 1e-10
    right = said.argmax(dim=1) == y
    own = None if label is None else bool(right[stay.index(row)])
    assert review.outcome(row, name) == Standing(int(right.sum()), len(stay), own)
    assert review.deciding(row, name).standing == Standing(int(right.sum()), len(stay))
    assert label != 4 or (review.is_alone(row, str(name)) and float(said[stay.index(row), 4]) == 0.0)
    _, y, said = really(model, {i: c for i, c in DECIDED.items() if i != row})
    assert review.kept(row).right == int((said.argmax(dim=1) == y).sum())


@pytest.mark.parametrize("k", [0, 1, 2])
def test_before_any_decision_it_is_the_models_own_leave_one_out(models: dict[int, Carrot], k: int) -> None:
    review, f = Review(models[k].fitted), models[k].fitted
    assert review.standing.right / review.standing.pictures == pytest.approx(f.leave_one_out()["loo_accuracy"])
    torch.testing.assert_close(review.said(3), f.head.loo_predict()[3])


def test_what_is_taken_back_is_as_it_was_and_solved_for_once(
    models: dict[int, Carrot], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, solve = list[int](), RidgeHead.slack_columns

    def counted(head: RidgeHead, rows: list[int]) -> Tensor:
        asked.append(len(rows))
        return solve(head, rows)

    monkeypatch.setattr(RidgeHead, "slack_columns", counted)
    review = Review(models[0].fitted, named(DECIDED))
    for label in (NAMES[2], None):
        review.outcome(0, label)
    more = review.deciding(0, NAMES[2]).deciding(5, None)
    again = more.having(named(DECIDED))
    assert asked == [len(DECIDED), 1, 1]
    assert torch.equal(again._edited.residual, review._edited.residual)
    assert again.decided == named(DECIDED)


def test_columns_that_are_no_longer_kept_are_solved_for_again(
    models: dict[int, Carrot], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Review(models[0].fitted, named(DECIDED))._edited.logits
    monkeypatch.setattr(edited, "KEPT", 1)
    review = Review(models[0].fitted, named(DECIDED))
    assert len(review._start.columns._kept) == 1
    torch.testing.assert_close(review._edited.logits, kept, rtol=0.0, atol=1e-12)


def test_witnesses_are_what_leaving_them_out_does(models: dict[int, Carrot]) -> None:
    model = models[0]
    f, row, decided = model.fitted, 5, DECIDED
    review = Review(f, named(decided))
    labels = {i: decided.get(i, record.label) for i, record in enumerate(f.records)}
    stay = [i for i, label in labels.items() if label is not None and i != row]
    Y = torch.nn.functional.one_hot(torch.tensor([labels[i] for i in stay]), 4).double()
    head = RidgeHead(f.head.lam, f.head.fit_intercept).fit(f.head.G[stay], Y)
    lead = {}
    for i in range(len(stay)):
        said = head.predict(f.head.G[row]) - head.without(i).predict(f.head.G[row])
        lead[stay[i]] = float(said[3] - said[1])
    ours, theirs = review.witnesses(row, NAMES[3], NAMES[1])
    order = sorted(lead, key=lambda i: -lead[i])
    assert [one.row for one in ours] == order[:3]
    assert [one.row for one in theirs] == order[::-1][:3]
    assert all(abs(one.effect - lead[one.row]) < 1e-10 for one in (*ours, *theirs))


def test_the_strongest_pair_is_of_the_head_without_the_picture(models: dict[int, Carrot]) -> None:
    model = models[0]
    f, row = model.fitted, 5
    own = model.classifier
    pictures = {i: own.find(f.records[i]) for i in (row, 0, 7)}
    found = Review(f).strongest_pair(own, row, pictures, NAMES[3], NAMES[1])
    stay = [i for i in range(len(f.records)) if i != row]
    head = RidgeHead(f.head.lam, f.head.fit_intercept).fit(f.head.G[stay], f.head.Y[stay])
    traces = {i: own.trace(picture) for i, picture in pictures.items()}
    pairs = {i: region_to_region(traces[row], traces[i], head.logit(3, 1), stay.index(i)) for i in (0, 7)}
    best = max(pairs, key=lambda i: float(pairs[i].max()))
    assert found is not None
    assert found.row == best
    assert found.contribution == pytest.approx(float(pairs[best].max()), rel=1e-8)
    assert float(pairs[best][found.region, found.training_region]) == pytest.approx(found.contribution, rel=1e-8)
    assert found.total == pytest.approx(float(pairs[best].sum()), rel=1e-6, abs=1e-9)


def test_what_cannot_be_decided_is_said(models: dict[int, Carrot]) -> None:
    f = models[0].fitted
    first = [row for row, record in enumerate(f.records) if record.label == 0]
    review = Review(f, dict.fromkeys(first[1:]))
    assert "would be left without a training picture" in str(review.refusal(first[0], None))
    assert "labelled" in str(review.refusal(first[0], NAMES[0]))
    assert Review(f).refusal(first[0], NAMES[1]) is None
    assert Review(f).refusal(first[0], "a new class") is None


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_new_class_of_several_pictures_is_that_of_the_model_that_apply_makes(
    models: dict[int, Carrot], k: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leave-one-out, what it says of every label, and its temperature."""
    models[k].save(tmp_path)
    model = Carrot.load(tmp_path)
    f = model.fitted
    decided: dict[int, str | None] = {0: "owl", 3: "owl", 8: None, 14: NAMES[0], 19: "wren"}
    review = Review(f)
    for row, label in decided.items():
        review = review.deciding(row, label)
    once = Review(f, decided)
    assert review.classes == once.classes == (*NAMES, "owl", "wren")
    ids = [record.id for record in f.records]
    model.relabel({ids[row]: label for row, label in decided.items() if label}, new_classes=True, verify=False)
    model.forget([ids[8]], verify=False)
    assert model.fitted.classes == review.classes
    loo = model.fitted.leave_one_out()["loo_accuracy"]
    audited = {s.id: s for s in model.audit().suspects}
    for one in (review, once):
        assert one.standing.right / one.standing.pictures == pytest.approx(loo)
        opinion = one.opinion(1)
        assert opinion.temperature == pytest.approx(model.fitted.temperature, rel=1e-6)
        assert {ids[row] for row in opinion.flagged} == {name for name, s in audited.items() if s.flagged}
        assert {ids[row] for row in opinion.doubtful} == {name for name, s in audited.items() if s.is_doubtful}
        for row in set(range(len(ids))) - decided.keys():
            assert one.opinion(row).suggested == audited[ids[row]].suggested
            assert one.opinion(row).p_value == audited[ids[row]].p_value
    monkeypatch.setattr("carrot.classifier.review.REFITTED", 0)
    assert Review(f, decided).opinion(1).temperature == f.temperature
    assert review.deciding(19, NAMES[1]).classes == (*NAMES, "owl"), "nobody is a wren any more"
