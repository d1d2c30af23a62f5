"""A model of embeddings that are there already is the one that a fit makes of the pictures, bit for bit."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from carrot import Carrot, DataError
from carrot.classifier.classifier import Classifier
from carrot.classifier.merging import fit_rows
from carrot.classifier.records import TrainingRecord
from carrot.data.toy import ToyBirds

BIRDS = ToyBirds(n_train_per_class=5, n_test_per_class=1, n_species=3)


@pytest.fixture(scope="module")
def model() -> Carrot:
    weight = {BIRDS.classes[0]: 2.0}
    w = [1.0 + 0.25 * (i % 3) for i in range(15)]
    return Carrot("toy", coarsen=2, lift="identity", class_weight=weight).fit(BIRDS, sample_weight=w)


def again(model: Carrot, records: Sequence[TrainingRecord] | None = None, **changed: object) -> Classifier:
    f = model.fitted
    given = {"set_aside": f.set_aside, "data": f.data, "class_weight": f.class_weight, **changed}
    classes = given.pop("classes", f.classes)
    return fit_rows(model.encoder, f.setting, classes, f.label_kind, records or f.records, f.head.G, **given)  # type: ignore[arg-type]


def test_rows_give_the_model_of_the_fit_bit_for_bit(model: Carrot) -> None:
    ours, theirs = again(model).fitted, model.fitted
    for name, x in theirs.head.state().items():
        assert torch.equal(ours.head.state()[name], x), name
    for name in ("temperature", "records", "classes", "penalties", "class_weight", "asked_lam", "set_aside", "data"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.head.lam == theirs.head.lam
    assert ours.leave_one_out() == theirs.leave_one_out()


def test_what_is_no_training_set_is_refused(model: Carrot) -> None:
    records = model.fitted.records
    with pytest.raises(ValueError, match="one for each of 15 rows"):
        again(model, records[:-1])
    with pytest.raises(DataError, match="'none' has none"):
        again(model, classes=(*model.fitted.classes, "none"))
    with pytest.raises(DataError, match="at least two classes.*got 1"):
        again(model, [replace(r, label=0) for r in records], classes=("one",), class_weight=None)
