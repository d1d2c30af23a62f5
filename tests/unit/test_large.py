"""An audit of too many pictures, or of too many classes, says what it leaves out; all else is what it is of few."""

from dataclasses import replace

import pytest
import torch

import carrot.classifier.large
from carrot import RidgeHead
from carrot.classifier.audit import Audit
from carrot.classifier.fitted import Fitted
from carrot.classifier.large import copies
from carrot.classifier.records import TrainingRecord
from carrot.embedding.setting import Setting

C, D = 3, 8


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % C
    G = torch.randn(60, D, generator=generator, dtype=torch.float64) + 2 * torch.nn.functional.one_hot(y, D)
    G[31], G[43] = G[4], G[4]  # three of one embedding
    y[10] = (y[10] + 1) % C
    content = {50: "7", 20: "7"}
    records = tuple(TrainingRecord(f"p{i}", int(c), f"{content.get(i, 100 + i):>064}") for i, c in enumerate(y))
    return Fitted.on(RidgeHead(1.0, True, copy=False).fit(G, y), Setting("identity"), ("a", "b", "c"), records)


def test_few_pictures_leave_nothing_out(fitted: Fitted) -> None:
    found = Audit.of(fitted)
    assert found.notes == ()
    assert "left_out" not in found.to_dict()
    assert (found.pictures, len(found.suspects)) == (60, 60)


def test_copies_are_found_each_with_the_next(fitted: Fitted) -> None:
    assert copies(fitted) == [(4, 31, 1.0), (20, 50, 1.0), (31, 43, 1.0)]
    alike = {(p.first, p.second) for p in Audit.of(fitted, 1.0).duplicates}
    assert {("p4", "p31"), ("p31", "p43")} <= alike, "as the search of all pairs has them"


def test_copies_don_t_lean_on_a_hash(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = copies(fitted)
    monkeypatch.setattr("carrot.classifier.large.hash", lambda _: 1, raising=False)
    assert copies(fitted) == expected


BOUNDS = {
    "PAIRS": "near duplicates were not looked for",
    "CLOUDS": "ordered by their margin",
    "WORTH": "worth was not worked out",
    "GROUPED": "groups that hide each other were not looked for",
    "LISTED": "and the 5 of highest leverage",
}


@pytest.mark.parametrize("name", BOUNDS)
def test_what_is_left_out_is_told_and_the_rest_stays(
    fitted: Fitted, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Audit.of(fitted)
    monkeypatch.setattr(carrot.classifier.large, "LEANED_ON", 5)
    monkeypatch.setattr(carrot.classifier.large, name, 3)
    monkeypatch.setattr(f"carrot.classifier.twins.{name}", 3, raising=name == "GROUPED")
    found = Audit.of(fitted)
    (note,) = found.notes
    assert BOUNDS[name] in note
    assert f"not asked: {note}" in str(found)
    assert found.to_dict()["left_out"] == [note]
    assert note.partition("'")[0] in found._repr_html_()
    assert "of 60 training labels" in str(found)
    assert {s.id for s in found.doubtful} == {s.id for s in whole.doubtful}
    told = {s.id: s for s in found.suspects}
    for suspect in whole.suspects:
        if suspect.id in told:
            ours, theirs = told[suspect.id], suspect
            if name == "CLOUDS":
                assert ours.suspicion == -ours.margin
                ours = replace(ours, suspicion=theirs.suspicion)
            if name == "WORTH":
                assert ours.relabel_right is None
                worth = ("relabel_right", "relabel_error", "remove_right", "remove_error")
                ours = replace(ours, **{key: getattr(theirs, key) for key in worth})
            assert ours == theirs
    assert (len(told) < 60) == (name == "LISTED")
    if name == "LISTED":
        assert [s.id for s in found.by_leverage[:5]] == [s.id for s in whole.by_leverage[:5]]
    assert [s.suspicion for s in found.suspects] == sorted((s.suspicion for s in found.suspects), reverse=True)


def test_an_audit_by_blocks_is_that_of_all_at_once(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Audit.of(fitted)
    monkeypatch.setattr("carrot._ridge.asked.HELD", 0)
    monkeypatch.setattr(RidgeHead, "loo_predict", None)
    found = Audit.of(fitted)
    assert len(found.notes) == 2
    assert {s.id for s in found.doubtful} == {s.id for s in whole.doubtful}
    theirs = {s.id: s for s in whole.suspects}
    for ours in found.suspects:
        assert ours.margin == pytest.approx(theirs[ours.id].margin, abs=1e-12)
        assert (ours.flagged, ours.suggested) == (theirs[ours.id].flagged, theirs[ours.id].suggested)
        assert ours.p_value == pytest.approx(theirs[ours.id].p_value, abs=2 / 60), "copies share a margin to rounding"
