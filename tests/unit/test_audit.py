"""The audit of a model: what it lists is what really fitting without each picture says, and planted faults come first."""

import csv
import io
import json

import pytest
import torch

from carrot import Carrot, RidgeHead
from carrot.audit import Audit
from carrot.data.inputs import PictureList
from carrot.data.toy import ToyBirds
from carrot.evaluation.calibration import probabilities

BIRDS = ToyBirds(n_train_per_class=10, n_test_per_class=0, n_species=5, wrong_labels=0.1)


@pytest.fixture(scope="module")
def model() -> Carrot:
    return Carrot("toy").fit(BIRDS)


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
    assert [s.probability for s in audit.suspects] == sorted(s.probability for s in audit.suspects)
    assert all(s.margin < 0 for s in audit.contradicted)
    assert len(audit.contradicted) == sum(s.margin < 0 for s in audit.suspects)
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
