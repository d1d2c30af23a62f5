"""A model comes back with the backbone it was fitted with, or says what it needs: whatever was done to that."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from carrot import Carrot, CheckpointError, ModelError, TimmViTPatchBackbone
from carrot.classifier.records import NOT_FOUND
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from carrot.embedding.encoder import Encoder
from carrot.embedding.spec import BackboneSpec

pytestmark = pytest.mark.usefixtures("surveyed_once")

SPECIES, N = 3, 4


@pytest.fixture(scope="module")
def birds() -> ToyBirds:
    return ToyBirds(n_train_per_class=N, n_test_per_class=1, n_species=SPECIES)


@pytest.fixture(scope="module")
def pictures(birds: ToyBirds) -> list[Image.Image]:
    return [birds.image(i) for i in range(SPECIES * N, len(birds))]


def build(**given: Any) -> TimmViTPatchBackbone:
    return TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=embedded_checkpoint(), **{"crop": "squash", **given})


def touched(backbone: TimmViTPatchBackbone) -> TimmViTPatchBackbone:
    with torch.no_grad():
        next(backbone.model.parameters()).mul_(1.01)
    return backbone


def whole_crop(backbone: TimmViTPatchBackbone) -> TimmViTPatchBackbone:
    from dataclasses import replace

    backbone.transform = replace(backbone.transform, mean=(0.4, 0.5, 0.6))
    return backbone


REBUILT: dict[str, Callable[[], TimmViTPatchBackbone]] = {
    "as it is": build,
    "another crop": lambda: build(crop="model"),
    "another size": lambda: build(img_size=128),
    "not square": lambda: build(img_size=(96, 160)),
    "before its norm": lambda: build(out_norm=False),
    "with its attention": lambda: build(attention=True),
    "float64": lambda: build().double(),
    "bfloat16": lambda: build().bfloat16(),
    "float16": lambda: build().half(),
    "not frozen": lambda: build(freeze=False),
    "compiled": lambda: _compiled(build()),
}
BY_HAND: dict[str, Callable[[], TimmViTPatchBackbone]] = {
    "weights set by hand": lambda: touched(build()),
    "weights drawn at random": lambda: TimmViTPatchBackbone(EMBEDDED_MODEL, pretrained=False, crop="squash"),
    "another mean": lambda: whole_crop(build()),
    "half of what was set by hand": lambda: touched(build()).bfloat16(),
}


def _compiled(backbone: TimmViTPatchBackbone) -> TimmViTPatchBackbone:
    backbone.model = torch.compile(backbone.model)
    return backbone


@pytest.mark.parametrize("name", REBUILT)
def test_a_backbone_comes_back_from_its_description(
    name: str, birds: ToyBirds, pictures: list[Image.Image], tmp_path: Path
) -> None:
    model = Carrot(REBUILT[name](), lift="identity", tau=0.0, lam=1.0).fit(birds)
    model.save(tmp_path / "m")
    again = Carrot.load(tmp_path / "m")
    assert again.encoder.rebuilds
    assert np.array_equal(again.decision_function(pictures), model.decision_function(pictures))
    again.save(tmp_path / "again")
    third = Carrot.load(tmp_path / "again")
    assert np.array_equal(third.decision_function(pictures), model.decision_function(pictures))


@pytest.mark.parametrize("name", BY_HAND)
def test_a_backbone_that_no_description_builds_is_given_again(
    name: str, birds: ToyBirds, pictures: list[Image.Image], tmp_path: Path
) -> None:
    backbone = BY_HAND[name]()
    model = Carrot(backbone, lift="identity", lam=1.0).fit(birds)
    with pytest.warns(UserWarning, match="can't be built again.*backbone="):
        model.save(tmp_path / "m")
    alone = Carrot.load(tmp_path / "m")
    assert not alone.encoder.rebuilds
    assert len(alone.audit().suspects) == SPECIES * N, "what needs no backbone works without it"
    with pytest.raises(ModelError, match="fingerprint|doesn't build.*`backbone=`"):
        alone.predict(pictures)
    again = Carrot.load(tmp_path / "m", backbone=backbone)
    assert np.array_equal(again.decision_function(pictures), model.decision_function(pictures))
    with pytest.raises(ModelError, match="fingerprint"):
        Carrot.load(tmp_path / "m", backbone=build(img_size=128))


def test_a_precision_is_part_of_what_a_model_is(birds: ToyBirds, pictures: list[Image.Image], tmp_path: Path) -> None:
    plain, narrow = (Carrot("toy", lift="identity", lam=1.0, precision=p) for p in ("float32", "bfloat16"))
    for model, name in ((plain, "p"), (narrow, "n")):
        model.fit(birds, tokens=tmp_path / "tokens").save(tmp_path / name)
    assert narrow.encoder.backbone.dtype == torch.bfloat16
    assert narrow.encoder.fingerprint != plain.encoder.fingerprint
    assert len(list((tmp_path / "tokens").iterdir())) == 2, "their tokens are never mixed"
    off = np.abs(narrow.decision_function(pictures) - plain.decision_function(pictures)).max()
    assert 0.0 < off < 0.1
    again = Carrot.load(tmp_path / "n")
    assert np.array_equal(again.decision_function(pictures), narrow.decision_function(pictures))
    assert again.facts()["precision"] == "bfloat16"
    assert again.get_params()["precision"] == "bfloat16"
    with pytest.raises(ModelError, match="fingerprint"):
        Carrot.load(tmp_path / "n", backbone=plain.encoder.backbone)


@pytest.mark.usefixtures("as_user")
def test_a_precision_is_refused_where_it_is_not_the_backbones() -> None:
    with pytest.raises(ValueError, match=r'`precision` must be one of .*"bfloat16".*; got \'float8\''):
        Encoder("toy", precision="float8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'"bfloat16", and the backbone that was given computes in float32. Cast it'):
        Encoder(build(), precision="bfloat16")
    assert Encoder(build().bfloat16(), precision="bfloat16").spec.precision == "bfloat16"
    assert Encoder(build().bfloat16()).spec.precision == "bfloat16", "a backbone has its own"


def test_descriptions_of_older_models_are_read() -> None:
    old = {"name": "toy", "checkpoint": None, "img_size": None, "crop": "squash"}
    assert BackboneSpec.from_json(old) == BackboneSpec("toy", crop="squash")
    with pytest.raises(ModelError, match="float8"):
        BackboneSpec(EMBEDDED_MODEL, str(embedded_checkpoint()), precision="float8").build("cpu")


def test_a_folder_of_weights_is_that_of_its_file(tmp_path: Path, birds: ToyBirds) -> None:
    (tmp_path / "hub").mkdir()
    shutil.copy(embedded_checkpoint(), tmp_path / "hub" / "model.safetensors")
    (tmp_path / "hub" / "config.json").write_text("{}")
    encoder = Encoder(EMBEDDED_MODEL, tmp_path / "hub", crop="squash")
    assert encoder.fingerprint == build().fingerprint()
    for files, message in (((), "it has none"), (("a.pth", "b.pth"), "several: a.pth, b.pth")):
        folder = tmp_path / f"of {len(files)}"
        folder.mkdir()
        for name in files:
            (folder / name).write_bytes(b"")
        with pytest.raises(CheckpointError, match=message):
            Encoder(EMBEDDED_MODEL, folder).fingerprint  # noqa: B018


@pytest.mark.usefixtures("as_user")
def test_what_the_toy_backbone_brings_along_is_not_asked_for() -> None:
    for given in ({"checkpoint": "x.pth"}, {"img_size": 7}):
        with pytest.raises(ValueError, match="comes with its weights"):
            Carrot("toy", **given)  # type: ignore[arg-type]


def test_training_pictures_are_found_where_they_are_now(birds: ToyBirds, tmp_path: Path) -> None:
    for i in range(SPECIES * N):
        folder = tmp_path / "data" / f"c{birds.records[i].label}"
        folder.mkdir(parents=True, exist_ok=True)
        birds.image(i).save(folder / f"{i}.png")
    model = Carrot("toy", lift="identity", lam=1.0).fit(tmp_path / "data")
    birds.image(SPECIES * N).save(tmp_path / "more.png")
    model.add(tmp_path / "more.png", ["c0"], ["more"])
    newest = model.explain(birds.image(SPECIES * N), target="c0", k=len(model.records_))
    assert not newest.missing, "that of the data set at hand, and the one that was added to it"
    model.save(tmp_path / "m")
    (tmp_path / "data").rename(tmp_path / "moved")
    lost = Carrot.load(tmp_path / "m").explain(birds.image(0), k=2)
    assert set(lost.missing.values()) == {NOT_FOUND}
    found = Carrot.load(tmp_path / "m", data=tmp_path / "moved")
    assert not found.explain(birds.image(0), k=2).missing
    assert found.facts()["data"] == str(tmp_path / "moved")
