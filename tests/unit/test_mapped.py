"""Files of tensors are written in a stream and mapped; a model's folder of format 2 holds nothing n x C, and loads.

The oracle of the file format is the library ``safetensors``.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import carrot.store.mapped
from carrot import Carrot, RidgeHead, StoreError, TimmViTPatchBackbone
from carrot.classifier.merging import fit_rows
from carrot.classifier.records import TrainingRecord
from carrot.classifier.remembered import Places, RememberedRecords
from carrot.data.records import Window
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds
from carrot.store.lines import Lines
from carrot.store.mapped import PAGE, Planned, map_tensors, sha256_of, write_tensors

TENSORS = {
    "half": torch.arange(6, dtype=torch.float16).reshape(2, 3),
    "wide": torch.arange(35, dtype=torch.float64).reshape(5, 7) / 3,
    "label": torch.tensor([3, -1, 2]),
    "flag": torch.tensor([True, False, True]),
    "none": torch.empty(0, 4),
    "turned": torch.arange(12.0).reshape(3, 4).mT,
    "bf": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
}


def test_the_library_reads_what_is_written_and_both_read_the_same_bits(tmp_path: Path) -> None:
    stored = write_tensors(tmp_path, "x", TENSORS)
    path = tmp_path / stored.name
    data = path.read_bytes()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (stored.sha256, stored.bytes)
    assert stored.name == f"x-{stored.sha256[:12]}.safetensors"
    for found in (safetensors.torch.load_file(path), map_tensors(path)):
        assert found.keys() == TENSORS.keys()
        for name, x in TENSORS.items():
            assert found[name].dtype == x.dtype
            assert torch.equal(found[name], x), name
    assert map_tensors(path)["label"].data_ptr() % PAGE == 0, "numbers begin where a page does"
    theirs = tmp_path / "theirs.safetensors"
    safetensors.torch.save_file({name: x.contiguous() for name, x in TENSORS.items()}, theirs, {"made": "by it"})
    assert all(torch.equal(x, TENSORS[name]) for name, x in map_tensors(theirs).items())


def test_a_mapped_tensor_can_be_written_into_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / write_tensors(tmp_path, "x", TENSORS).name
    before = path.read_bytes()
    map_tensors(path)["wide"].zero_()
    assert path.read_bytes() == before


def test_blocks_give_the_file_of_the_whole_and_are_never_held_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrot.store.mapped, "BLOCK", 64)
    G, asked = torch.randn(50, 6), list[int]()

    def blocks() -> Iterator[torch.Tensor]:
        for start in range(0, 50, 7):
            asked.append(start)
            yield G[start : start + 7].double()

    planned = Planned((50, 6), torch.float32, blocks)
    one, two = write_tensors(tmp_path, "rows", {"G": G}), write_tensors(tmp_path, "rows", {"G": planned}, look=True)
    assert one == two
    assert len(asked) == 8, "it was there: asked once, to be hashed"
    (tmp_path / one.name).write_bytes(b"damaged")
    assert write_tensors(tmp_path, "rows", {"G": planned}, look=True) == one
    assert sha256_of(tmp_path / one.name) == one.sha256, "what only has the name is replaced"
    with pytest.raises(ValueError, match=r"must hold \(51, 6\)"):
        write_tensors(tmp_path, "other", {"G": Planned((51, 6), torch.float32, blocks)})
    assert [path.name for path in tmp_path.iterdir()] == [one.name], "nothing is left of it"


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\xff" * 8, (4).to_bytes(8, "little") + b"null", b"\2" + b"\0" * 7])
def test_what_is_no_such_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=r"no safetensors file|empty file|Expecting value|codec can't decode"):
        map_tensors(tmp_path / "x")


# ---- a model's folder

BIRDS = ToyBirds(n_train_per_class=40, n_test_per_class=1, n_species=3)


@pytest.fixture(scope="module")
def tall() -> Carrot:
    """More pictures than features: dual weights follow from the rest."""
    few = Carrot("toy", coarsen=2, lift="identity", global_share=0.25).fit(BIRDS)
    assert not few.head_.is_dual, "the premise"
    return few


def names(folder: Path) -> dict[str, list[str]]:
    return {p.name.split("-")[0]: sorted(map_tensors(p)) for p in folder.glob("*.safetensors")}


def test_no_file_holds_a_number_for_each_picture_and_class(tall: Carrot, tmp_path: Path) -> None:
    tall.save(tmp_path / "m")
    assert names(tmp_path / "m") == {
        "rows": ["G"],
        "model": ["W_star", "Y", "bias", "g_mean", "sample_weight", "y_mean"],
    }
    found = Carrot.load(tmp_path / "m")
    pictures = [BIRDS.image(i) for i in range(4)]
    np.testing.assert_array_equal(found.decision_function(pictures), tall.decision_function(pictures))
    for name in ("W_star", "bias", "g_mean", "y_mean", "alpha", "residual", "slack", "Y", "G", "sample_weight"):
        assert torch.equal(getattr(found.head_, name), getattr(tall.head_, name)), name
    assert torch.equal(found.head_.loo_predict(), tall.head_.loo_predict())
    assert list(found.records_) == list(tall.records_)
    assert found.records_ == tall.records_
    before = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}
    found.save(tmp_path / "m")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}
    found.save(tmp_path / "again")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()}, "the bytes are of the model"


def test_a_wide_model_keeps_its_dual_weights(tmp_path: Path) -> None:
    birds = ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=2)
    wide = Carrot("toy", coarsen=2).fit(birds)
    wide.save(tmp_path / "m")
    assert "alpha" in names(tmp_path / "m")["model"]
    assert torch.equal(Carrot.load(tmp_path / "m").head_.alpha, wide.head_.alpha)


def test_a_changed_label_leaves_the_rows_where_they_are(tall: Carrot, tmp_path: Path) -> None:
    tall.save(tmp_path / "m")
    (rows,) = (tmp_path / "m").glob("rows-*")
    before = rows.stat()
    model = Carrot.load(tmp_path / "m")
    one = model.records_[0]
    model.relabel({one.id: BIRDS.classes[(one.label + 1) % 3]})
    model.save(tmp_path / "m")
    assert [p for p in (tmp_path / "m").glob("rows-*")] == [rows]
    assert (rows.stat().st_ino, rows.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert Carrot.load(tmp_path / "m").records_[0].label == (one.label + 1) % 3


def test_what_is_forgotten_is_in_no_file(tall: Carrot, tmp_path: Path) -> None:
    tall.save(tmp_path / "m")
    model = Carrot.load(tmp_path / "m")
    gone, row = model.records_[7].id, model.head_.G[7].numpy().tobytes()
    assert any(row in p.read_bytes() for p in (tmp_path / "m").iterdir()), "the premise"
    certificate = model.forget(gone)
    assert certificate.largest_difference is not None
    assert certificate.largest_difference < 1e-9
    model.save(tmp_path / "m")
    assert not any(row in p.read_bytes() or gone.encode() in p.read_bytes() for p in (tmp_path / "m").iterdir())
    fresh = tall.fitted
    stay = [i for i in range(len(fresh.records)) if i != 7]
    left = fit_rows(
        tall.encoder, fresh.setting, fresh.classes, "name", [fresh.records[i] for i in stay], fresh.head.G[stay],
        lam=fresh.head.lam,
    )  # fmt: skip
    torch.testing.assert_close(Carrot.load(tmp_path / "m").head_.W_star, left.fitted.head.W_star, rtol=0, atol=1e-9)


def test_what_is_forgotten_in_a_file_behind_a_link_is_told(tall: Carrot, tmp_path: Path) -> None:
    """As in a cache of downloads: the link goes, and where the row still is is said."""
    tall.save(tmp_path / "m")
    (rows,) = (tmp_path / "m").glob("rows-*")
    blob = rows.rename(tmp_path / "blob")
    rows.symlink_to(blob)
    model = Carrot.load(tmp_path / "m")
    model.forget(model.records_[7].id)
    with pytest.warns(UserWarning, match=r"blob: still holds what the model had before: .*rows-.* was a link to it"):
        model.save(tmp_path / "m")
    assert blob.exists(), "it may serve others"
    assert not rows.is_symlink()
    assert Carrot.load(tmp_path / "m").sha256 == model.sha256


def test_a_model_of_the_first_format_loads_and_is_written_as_the_second(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).resolve().parents[1] / "fixtures" / "model_v1", tmp_path / "m")
    weights = tmp_path / "m" / "backbone.safetensors"
    then = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, crop="squash", attention=None)
    model = Carrot.load(tmp_path / "m", backbone=then)
    old = safetensors.torch.load_file(next((tmp_path / "m").glob("model-*")))
    for name, x in old.items():
        assert torch.equal(getattr(model.head_, name), x), name
    model.save(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["format_version"] == 2
    new = Carrot.load(tmp_path / "new", backbone=then)
    for name, x in old.items():
        torch.testing.assert_close(getattr(new.head_, name), x, rtol=0, atol=0 if name != "alpha" else 1e-9)
    assert new.records_ == model.records_


def test_a_full_disk_is_told_and_leaves_the_model(
    tall: Carrot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tall.save(tmp_path / "m")
    before = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}
    model = Carrot.load(tmp_path / "m")
    model.forget(model.records_[0].id)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StoreError, match=r"rows\.safetensors: can't be written: No space left.*Free the disk"):
            model.save(tmp_path / "m")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir() if not p.name.startswith(".")}


# ---- records

RECORDS = tuple(
    TrainingRecord(f"a/{i}é\u2028.png", i % 3, f"{i:064x}", None if i % 2 else f"/x/{i}", i, 1.0 + i, None)
    for i in range(9)
)


def remembered(tmp_path: Path) -> RememberedRecords:
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(r.to_json(), ensure_ascii=False) + "\n" for r in RECORDS), encoding="utf-8")
    return RememberedRecords(Lines.of(path))


def test_records_of_a_file_are_those_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrot.store.lines.PIECE", 100)
    found = remembered(tmp_path)
    assert found == RECORDS
    assert list(found) == list(RECORDS)
    assert (found[-1], found[2:5]) == (RECORDS[-1], RECORDS[2:5])
    with pytest.raises(IndexError):
        found[9]
    data = (tmp_path / "records.jsonl").read_bytes()
    assert b"".join(line + b"\n" for line in found.written()) == data
    (tmp_path / "records.jsonl").unlink()
    assert found == RECORDS, "a file that is deleted is there as long as somebody reads it"


def test_some_of_them_with_other_labels_and_more(tmp_path: Path) -> None:
    found, more = remembered(tmp_path), replace(RECORDS[0], id="new", window=Window(1, 2, 3, 4))
    some = found.at([7, 0, 3], [2, 0, 1], [more])
    expected = (replace(RECORDS[7], label=2), RECORDS[0], replace(RECORDS[3], label=1), more)
    assert some == expected
    assert [TrainingRecord.from_json(json.loads(line)) for line in some.written()] == list(expected)
    again = some.at([2, 0], [0, 2])
    assert again == (replace(RECORDS[3], label=0), replace(RECORDS[7], label=2))
    assert some[:3] != again
    assert some != expected[:3]


def test_places_are_those_of_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {record.id: row for row, record in enumerate(RECORDS)}
    for records in (RECORDS, remembered(tmp_path)):
        found = Places(records)
        assert dict(found) == expected
        assert len(found) == len(expected)
        assert "no" not in found
        assert found.get("no") is None
    monkeypatch.setattr("carrot.classifier.remembered.hash", lambda _: 7, raising=False)  # all collide
    found = Places(RECORDS)
    assert dict(found) == expected
    assert "no" not in found


def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"id": 1}\n{"id"')
    with pytest.raises(ValueError, match="no end"):
        Lines.of(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"")
    assert len(Lines.of(tmp_path / "x")) == 0


def test_a_head_of_statistics_of_labels_says_its_labels() -> None:
    G, y = torch.randn(9, 3), torch.arange(9) % 3
    assert torch.equal(RidgeHead(1.0).fit(G, y).labels, y)
    with pytest.raises(ValueError, match="matrix of targets"):
        _ = RidgeHead(1.0).fit(G, torch.randn(9, 2)).labels
