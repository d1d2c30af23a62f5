"""A model of embeddings that are there already is the one that a fit makes of the pictures, bit for bit."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from carrot import Carrot, DataError, ModelError, RidgeHead
from carrot.classifier.classifier import Classifier
from carrot.classifier.files import save
from carrot.classifier.merging import fit_rows, stored_rows
from carrot.classifier.records import TrainingRecord
from carrot.data.toy import ToyBirds
from carrot.store.layout import load_config

BIRDS = ToyBirds(n_train_per_class=5, n_test_per_class=1, n_species=3)


@pytest.fixture(scope="module")
def model() -> Carrot:
    weight = {BIRDS.classes[0]: 2.0}
    w = [1.0 + 0.25 * (i % 3) for i in range(15)]
    return Carrot("toy", coarsen=2, lift="identity", class_weight=weight).fit(BIRDS, sample_weight=w)


def again(model: Carrot, records: Sequence[TrainingRecord] | None = None, **changed: object) -> Classifier:
    f = model.fitted
    given = {"set_aside": f.set_aside, "data": f.data, "class_weight": f.class_weight, **changed}
    classes, G = given.pop("classes", f.classes), given.pop("G", f.head.G)
    return fit_rows(model.encoder, f.setting, classes, f.label_kind, records or f.records, G, **given)  # type: ignore[arg-type]


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
    with pytest.raises(DataError, match="'none' has no training picture"):
        again(model, classes=(*model.fitted.classes, "none"))
    with pytest.raises(DataError, match="at least two classes.*got 1"):
        again(model, [replace(r, label=0) for r in records], classes=("one",), class_weight=None)


def test_one_hash_of_what_it_computes_with_whatever_the_way(model: Carrot, tmp_path: Path) -> None:
    """Rows by blocks from a file of the model's folder, saved and loaded: the hash of the fit."""
    G, folder = model.head_.G, tmp_path / "m"
    rows = stored_rows(folder, *G.shape, G.dtype, lambda: G.split(4))()
    file = [(p.name, p.stat().st_ino) for p in folder.glob("rows-*")]
    merged = again(model, data=None, set_aside={}, G=rows)
    assert merged.sha256 == model.sha256
    save(folder, merged)
    assert [(p.name, p.stat().st_ino) for p in folder.glob("rows-*")] == file, "rows are written once"
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    found = Carrot.load(moved)
    assert found.sha256 == model.sha256 == load_config(moved)["sha256"]
    model.save(tmp_path / "fitted")
    own = [(tmp_path / name).glob("[rm]*-*") for name in ("fitted", "m")]
    assert {p.name for p in own[0]} == {p.name for p in own[1]}, "the bytes are the model's, and no way's"


@pytest.mark.parametrize("what", ["label", "weight", "id", "content", "row", "lam", "temperature", "setting", "name"])
def test_another_model_has_another_hash(model: Carrot, what: str) -> None:
    now = model.classifier
    f, records = now.fitted, list(now.fitted.records)
    change = {"weight": {"weight": 9.0}, "id": {"id": "x"}, "content": {"sha256": "0" * 64}, "label": {"label": 2}}
    if what in change:
        records[0] = replace(records[0], **change[what])
        fitted = replace(f, records=tuple(records))
    elif what in ("row", "lam"):
        G = f.head.G.clone()
        G[3, 1] += 1e-9 * (what == "row")
        head = RidgeHead(f.head.lam * (2 if what == "lam" else 1), True).fit(G, f.labels, f.head.sample_weight)
        fitted = replace(f, head=head)
    elif what == "setting":
        fitted = replace(f, setting=replace(f.setting, t=0.5))
    else:
        fitted = replace(f, **{"temperature": {"temperature": 2.0}, "name": {"classes": ("x", *f.classes[1:])}}[what])
    assert replace(now, fitted=fitted).sha256 != now.sha256


def test_where_it_lies_and_where_it_came_from_is_no_matter(model: Carrot) -> None:
    now = model.classifier
    moved = tuple(replace(record, path="/elsewhere", row=None) for record in now.fitted.records)
    other = replace(now.fitted, records=moved, data="/elsewhere", kept=None, set_aside={"x": "gone"}, selection=({},))
    assert replace(now, fitted=other).sha256 == now.sha256


def test_a_folder_of_another_kind_gets_no_rows(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ModelError, match="holds other files"):
        stored_rows(tmp_path, 2, 2, torch.float32, lambda: [torch.ones(2, 2)])
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
