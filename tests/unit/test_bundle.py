"""A model's folder: damage is named and refused, all else comes back bit for bit, what is not ours is not touched."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from carrot import Carrot, ModelError, StoreError, TimmViTPatchBackbone
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds
from carrot.store.bundle import load_bundle, save_bundle
from carrot.store.files import locked, write_atomically
from carrot.store.layout import load_config

ROOT = Path(__file__).resolve().parents[2]
TENSORS = {"G": torch.arange(12, dtype=torch.float64).reshape(3, 4) / 7, "b": torch.tensor([1.5])}
RECORDS = [{"id": "a/é.png", "label": 0}, {"id": "b", "label": 1}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_bundle(tmp_path / "m", {"names": ["x", "ÿ"], "lam": 0.1}, TENSORS, RECORDS)
    return tmp_path / "m"


def test_it_comes_back(folder: Path) -> None:
    found = load_bundle(folder)
    assert found.config["names"] == ["x", "ÿ"]
    assert found.config["lam"] == 0.1
    assert list(found.records) == RECORDS
    assert set(found.tensors) == set(TENSORS)
    assert all(torch.equal(found.tensors[name], x) for name, x in TENSORS.items())
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".jsonl", ".safetensors", ".safetensors"]


def same_json(a: bytes | bytearray, b: bytes) -> bool:
    try:
        return bool(json.loads(bytes(a)) == json.loads(b))
    except ValueError:
        return False


def test_every_flipped_byte_is_named_and_refused(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        step = max(1, len(whole) // 150)
        for place in range(0, len(whole), step):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << (place % 8)
            path.write_bytes(damaged)
            if path.name == "config.json" and same_json(damaged, whole):  # a blank for another: nothing was damaged
                assert list(load_bundle(folder).records) == RECORDS
                continue
            with pytest.raises(ModelError, match=r"config\.json|" + path.name):
                load_bundle(folder)
        path.write_bytes(whole)
    assert list(load_bundle(folder).records) == RECORDS


def test_every_truncation_is_refused(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for length in {0, 1, len(whole) // 2, len(whole) - 2}:
            path.write_bytes(whole[:length])
            with pytest.raises(ModelError, match=r"config\.json|" + path.name):
                load_bundle(folder)
        path.unlink()
        with pytest.raises(ModelError):
            load_bundle(folder)
        path.write_bytes(whole)


def test_newer_formats_and_other_folders(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(ModelError, match="Upgrade"):
        load_bundle(folder)
    other = tmp_path / "transformers"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="not that of a CARROT model"):
        save_bundle(other, {}, TENSORS, RECORDS)
    assert (other / "config.json").read_text() == '{"model_type": "vit"}'
    with pytest.raises(ModelError, match="holds no model"):
        load_config(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="is a file"):
        save_bundle(tmp_path / "file", {}, TENSORS, RECORDS)


def test_a_path_in_the_configuration_never_leaves_the_folder(folder: Path) -> None:
    import hashlib

    from carrot.store.settings import canonical

    config = json.loads((folder / "config.json").read_text())
    secret = folder.parent / "model-secret.safetensors"
    secret.write_bytes(b"x")
    config.pop("checksum")
    config["files"]["model"]["name"] = "../model-secret.safetensors"
    sealed = {**config, "checksum": hashlib.sha256(canonical(config)).hexdigest()}
    (folder / "config.json").write_text(json.dumps(sealed))
    with pytest.raises(ModelError, match="no file of a model"):
        load_bundle(folder)


def test_a_new_model_replaces_the_old_one_and_leaves_nothing_of_it(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "tokens").mkdir()
    before = {p.name for p in folder.iterdir()}
    save_bundle(folder, {"names": ["x"]}, {"G": torch.ones(2, 2)}, RECORDS[:1])
    after = {p.name for p in folder.iterdir()}
    assert len(after) == len(before) == 6
    assert {"notes.txt", "tokens", "config.json"} <= after
    assert list(load_bundle(folder).records) == RECORDS[:1]


def test_a_model_gives_the_same_bits_in_a_fresh_process(tmp_path: Path) -> None:
    birds = ToyBirds(n_train_per_class=5, n_test_per_class=2, n_species=3)
    model = Carrot("toy", t=1.0, global_share=0.25, coarsen=2).fit(birds)
    model.save(tmp_path / "m")
    script = (
        "import sys, numpy as np, torch; torch.set_num_threads(int(sys.argv[2])); from carrot import Carrot;"
        "from carrot.data.toy import ToyBirds; b = ToyBirds(n_train_per_class=5, n_test_per_class=2, n_species=3);"
        "m = Carrot.load(sys.argv[1] + '/m');"
        "np.savez(sys.argv[1] + '/out.npz', logits=m.decision_function([b.image(i) for i in range(15, 21)]),"
        " g=m.head_.predict(m.head_.G).numpy(), loo=m.head_.loo_predict().numpy())"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(torch.get_num_threads())]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    there = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(there["logits"], model.decision_function([birds.image(i) for i in range(15, 21)]))
    np.testing.assert_array_equal(there["g"], model.head_.predict(model.head_.G).numpy())
    np.testing.assert_allclose(there["loo"], model.head_.loo_predict().numpy(), rtol=0, atol=1e-11)


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from carrot.data.toy import EMBEDDED_MODEL, embedded_checkpoint

    birds = ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=2)
    model = Carrot(EMBEDDED_MODEL, checkpoint=embedded_checkpoint(), lift="identity").fit(birds)
    model.save(tmp_path / "m")
    weights = load_file(embedded_checkpoint())
    name = next(key for key in weights if key.endswith("weight"))
    weights[name] = weights[name] * 1.001
    save_file(weights, tmp_path / "other.safetensors")
    changed = Carrot.load(tmp_path / "m", checkpoint=tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="fingerprint"):
        changed.predict(birds.image(0))
    gone = Carrot.load(tmp_path / "m", checkpoint=tmp_path / "nowhere.safetensors")
    assert gone.audit().suspects, "what needs no backbone works without it"
    with pytest.raises(ModelError, match="`checkpoint=`"):
        gone.predict(birds.image(0))


@pytest.mark.parametrize("folder", sorted((ROOT / "tests" / "fixtures").glob("model_v*")), ids=lambda path: path.name)
def test_a_model_that_an_older_version_saved_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    weights = folder / "backbone.safetensors"  # what the embedded ones were then
    then = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, crop="squash", attention=None)
    model = Carrot.load(folder, backbone=then)
    expected = np.array(json.loads((folder / "logits.json").read_text()))
    np.testing.assert_allclose(
        model.head_.predict(model.head_.G).numpy(), expected, rtol=0, atol=1e-12
    )  # another machine
    assert len(model.records_) == len(expected) == 11
    assert len(model.audit().suspects) == 11
    bird = ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=3).image(12)
    e = model.explain(bird)
    assert max(map(abs, e.residual.values())) < 1e-10
    model.forget(model.records_[0].id)
    model.save(tmp_path / "now")
    assert len(Carrot.load(tmp_path / "now").records_) == 10


THEIRS = (
    "model-best.safetensors",
    "model-00001-of-00002.safetensors",
    "model-0123456789ab.safetensors",  # twelve hexadecimal digits, and not those of its content
    "model-final.safetensors.1-0123.tmp",
    "records-2024.jsonl",
    "config.json.bak.tmp",
    "notes.txt",
)


def test_saving_deletes_what_models_wrote_and_nothing_else(folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    for name in THEIRS:
        (folder / name).write_text("the user's")
    (folder / "model-dir.safetensors").mkdir()
    killed = folder / "config.json.4711-0badcafe.tmp"
    killed.write_text("cut off")
    save_bundle(folder, {"names": ["x"], "lam": 0.2}, {"G": torch.ones(2, 2)}, RECORDS[:1])
    after = {path.name for path in folder.iterdir()}
    assert after >= {*THEIRS, "model-dir.safetensors"}
    assert all((folder / name).read_text() == "the user's" for name in THEIRS)
    assert not killed.exists()
    assert (before & after) == {"config.json"}, "the files of the model before are gone"


@pytest.mark.parametrize("name", [*THEIRS, "folder/inside.txt", "config.json"])
def test_a_folder_of_other_files_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"format": "another"}' if name == "config.json" else "the user's")
    is_ours = name == "model-0123456789ab.safetensors"  # by its name: a save that was killed may have left it
    if is_ours:
        save_bundle(tmp_path / "m", {}, TENSORS, RECORDS)
        assert path.read_text() == "the user's"
        return
    with pytest.raises(ModelError, match="holds other files|is of 'another'|is damaged"):
        save_bundle(tmp_path / "m", {}, TENSORS, RECORDS)
    assert [p for p in (tmp_path / "m").rglob("*") if p.is_file()] == [path]


def test_ids_may_hold_what_other_programs_take_for_line_ends(tmp_path: Path) -> None:
    ids = ["a\u2028b", "c\u0085d", "e\x0bf\x0cg", "h\x1ci", "j\rk", "l\nm", "n\u2029"]
    save_bundle(tmp_path / "m", {}, TENSORS, [{"id": name} for name in ids])
    assert [record["id"] for record in load_bundle(tmp_path / "m").records] == ids


def test_save_pretrained_keeps_what_is_there(tmp_path: Path) -> None:
    """The hub's own mixin deletes config.json first, whose ever it is."""
    model = Carrot("toy", lift="identity").fit(ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=2))
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="not that of a CARROT model"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"model_type": "vit"}'
    (tmp_path / "config.json").unlink()
    model.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("my card")
    (tmp_path / "notes.txt").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my card"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_lock_that_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("the user's")
    model = Carrot("toy", lift="identity").fit(ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=2))
    with pytest.raises(StoreError, match="no lock of ours"):
        model.save(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the user's"]


def test_a_place_where_nothing_can_be_made_is_no_other_process() -> None:
    with pytest.raises(StoreError, match="nothing can be made"), locked(Path("/proc/m")):
        pass
    with pytest.raises(StoreError, match="nothing can be made in /proc"):
        write_atomically(Path("/proc/m"), b"x")
