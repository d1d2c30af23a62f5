"""A model's audit: what it lists is what really fitting without each picture says, and planted faults come first."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from carrot import Carrot, RidgeHead, TimmViTPatchBackbone
from carrot.classifier.audit import Audit
from carrot.classifier.suspects import SURE, Suspect
from carrot.data import ImageFolder
from carrot.data.counts import FITTED_ON
from carrot.data.inputs import PictureList
from carrot.data.records import Subset
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds
from carrot.evaluation.calibration import probabilities
from tests.reference import flagged_labels

pytestmark = pytest.mark.usefixtures("surveyed_once")

BIRDS = ToyBirds(n_train_per_class=10, n_test_per_class=0, n_species=5, wrong_labels=0.1)


@pytest.fixture(scope="module")
def model() -> Carrot:
    """A model of weights that don't move with the package's: what is found is a matter of the audit alone."""
    weights = Path(__file__).resolve().parents[1] / "fixtures" / "model_v1" / "backbone.safetensors"
    return Carrot(TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, crop="squash", attention=None)).fit(BIRDS)


def test_suspects_are_what_real_refits_say(model: Carrot) -> None:
    audit, head = model.audit(), model.head_
    by_id = {suspect.id: suspect for suspect in audit.suspects}
    assert len(by_id) == len(model.records_) == 50
    for row in (0, 13, 29, 44):
        stay = torch.arange(50) != row
        refit = RidgeHead(head.lam, True).fit(head.G[stay], head.Y[stay])
        logits, label = refit.predict(head.G[row]), model.records_[row].label
        others = logits.clone()
        others[label] = -torch.inf
        suspect = by_id[model.records_[row].id]
        assert suspect.margin == pytest.approx(float(logits[label] - others.max()), abs=1e-10)
        assert suspect.suggested == model.classes_[int(others.argmax())]
        p = probabilities(logits.unsqueeze(0), model.temperature_)[0, label]
        assert suspect.probability == pytest.approx(float(p), abs=1e-10)
        assert suspect.leverage == pytest.approx(float(head.leverage[row]), abs=1e-12)


def test_planted_wrong_labels_come_first(model: Carrot) -> None:
    audit, wrong = model.audit(), {BIRDS.records[i].id for i in BIRDS.wrong}
    assert len(wrong) == 5
    first = {suspect.id for suspect in audit.suspects[:5]}
    assert len(first & wrong) >= 4
    assert [s.suspicion for s in audit.suspects] == sorted((s.suspicion for s in audit.suspects), reverse=True)
    loo = model.head_.loo_predict()
    flags = flagged_labels(probabilities(loo, model.temperature_), model.fitted.labels.tolist())
    expected = {record.id for record, flag in zip(model.records_, flags, strict=True) if flag}
    assert {s.id for s in audit.contradicted} == expected
    assert expected
    assert expected <= wrong, "nothing that is right is flagged"
    unsure = [s.id for s in audit.suspects if s.margin < 0 and not s.flagged]
    assert unsure
    assert [s.id for s in audit.uncertain] == unsure
    said = str(audit).splitlines()
    n = len(expected) + len(unsure)
    assert f"{n} of 50 training labels are doubtful: " in said[0]
    assert f"{len(expected)} look wrong, {len(unsure)} may be wrong" in said[0].replace(SURE, "")
    doubtful = [s for s in audit.suspects if s.margin < 0]
    assert [line.split("  ")[1] for line in said[1 : n + 1]] == [s.id for s in doubtful], "the order of the table"
    assert all(f"  {s.verdict}  " in line for s, line in zip(doubtful, said[1 : n + 1], strict=True))
    assert f"  and {n - 1} more" in audit.lines(1)
    assert [s.leverage for s in audit.by_leverage] == sorted((s.leverage for s in audit.suspects), reverse=True)


def test_a_copy_under_another_label_is_found() -> None:
    images = [BIRDS.image(i) for i in range(30)]
    labels = [BIRDS.classes[BIRDS.true_labels[i]] for i in range(30)]
    images.append(images[3])
    labels.append(next(name for name in sorted(set(labels)) if name != labels[3]))
    model = Carrot("toy", lift="identity").fit(PictureList(images, labels))
    audit = Audit.of(model.fitted, threshold=0.9999)
    pair = audit.duplicates[0]
    assert {pair.first, pair.second} == {"picture 3", "picture 30"}
    assert pair.same_file
    assert pair.cosine == pytest.approx(1.0, abs=1e-4)
    assert set(pair.labels) == {labels[3], labels[30]}


def test_the_table_and_the_json_hold_everything(model: Carrot) -> None:
    audit = model.audit()
    found = json.loads(json.dumps(audit.to_dict(), allow_nan=False))
    assert [s["id"] for s in found["suspects"]] == [s.id for s in audit.suspects]
    rows = list(csv.DictReader(io.StringIO(audit.to_csv())))
    assert [row["id"] for row in rows] == [s.id for s in audit.suspects]
    assert float(rows[0]["margin"]) == audit.suspects[0].margin
    assert audit.suspects[0].id in str(audit)


def test_held_out_pictures_are_judged_by_the_model(tmp_path: Path) -> None:
    """Wrong labels among the fifth that is held out used to be looked for by nobody."""
    wrong = set()
    for i in range(30):
        species = BIRDS.true_labels[i]
        held_out, moved = i % 5 == 4, i in (4, 14)
        folder = tmp_path / f"species {(species + 1) % 3 if moved else species}"
        folder.mkdir(exist_ok=True)
        name = f"{90 + i if held_out else i:02d}.png"
        BIRDS.image(i).save(folder / name)
        if moved:
            wrong.add(f"{folder.name}/{name}")
    data = ImageFolder(tmp_path, test_every=None)
    held = {record.id for record in data.records if int(Path(record.id).stem) >= 90}
    train = Subset(data, [i for i, record in enumerate(data.records) if record.id not in held])
    model = Carrot("toy").fit(train)
    assert not model.audit().held_out
    audit = model.audit(tmp_path)
    assert {suspect.id for suspect in audit.held_out} == held
    assert wrong <= held
    assert {suspect.id for suspect in audit.held_out[: len(wrong)]} == wrong
    assert wrong & {suspect.id for suspect in audit.held_out_contradicted}
    assert audit.counts is not None
    assert audit.counts.to_dict() == {"pictures": 30, "used": 6, "left_out": {FITTED_ON: 24}, "set_aside": 0}
    assert audit.suspects == model.audit().suspects
    for suspect in audit.held_out[:2]:
        assert model.predict(tmp_path / suspect.id)[0] == suspect.suggested
        assert (suspect.leverage, suspect.split) == (None, "test")
    rows = list(csv.DictReader(io.StringIO(audit.to_csv())))
    assert [row["id"] for row in rows if row["split"] == "test"] == [suspect.id for suspect in audit.held_out]
    unlike = {name for name in held if model.predict(tmp_path / name)[0] != name.split("/")[0]}
    assert {s.id for s in audit.held_out_doubtful} == unlike
    assert f"{len(unlike)} of 6 held-out labels {'is' if len(unlike) == 1 else 'are'} doubtful" in str(audit)
    assert "mended in the data" in str(audit)
    assert audit.to_html().count("<img ") == min(20, len(audit.doubtful) + len(unlike)), "small pictures, at hand"


def test_held_out_labels_are_doubtful_by_the_rule_of_training_labels() -> None:
    """One that may be wrong, told 1 % of its own class, used to be listed nowhere where others of 2 % were."""
    train = (Suspect("a", "x", "y", -0.5, 0.01, 0.1, True), Suspect("b", "x", "y", -0.1, 0.2, 0.1, False))
    held = tuple(replace(s, id=f"held {s.id}", leverage=None, split="test") for s in train)
    for k, (ours, theirs) in enumerate([(train, held), (train[1:], held[1:]), (train[:1], held[:1])]):
        lines = Audit(ours, (), 0.95, theirs).lines()
        assert lines[0].split(" doubtful: ")[1].removeprefix("fitted without the picture, ") in lines[1 + len(ours)]
        assert [s.id for s in theirs] == [line[2:8] for line in lines[2 + len(ours) : 2 + 2 * len(ours)]], k
    assert [s.verdict for s in (*train, replace(train[1], margin=0.1))] == ["looks wrong", "may be wrong", ""]
