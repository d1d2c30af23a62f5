"""Models without patch tokens: one feature of each tile, timm's own; a classifier made of them keeps every verb."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from carrot import BackboneError, Carrot, CheckpointError, ModelError, TimmPooledBackbone, TimmViTPatchBackbone
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds
from carrot.embedding.encoder import Encoder
from carrot.embedding.setting import Setting
from carrot.embedding.spec import BackboneSpec
from tests.unit.test_backbone import look_trained

BIRDS = ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=3)
SWIN = {"depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 1, 2, 2)}
MODELS = {  # name: D
    "test_resnet": 96,
    "test_convnext": 64,
    "test_efficientnet": 256,
    "swin_tiny_patch4_window7_224": 128,
}


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], tuple[Any, Path]]:
    """Return a small model that looks trained, running statistics and all, and the file of its weights."""
    create = timm.create_model

    def small(*args: Any, **given: Any) -> Any:
        name = given.get("model_name", args[0] if args else "")
        return create(*args, **given, **(SWIN if name.startswith("swin") else {}))

    monkeypatch.setattr(timm, "create_model", small)

    def made(name: str) -> tuple[Any, Path]:
        model = look_trained(timm.create_model(name))
        for key, value in model.named_buffers():
            if key.endswith("running_mean"):
                value.add_(0.1)
        save_file(model.state_dict(), path := tmp_path / f"{name}.safetensors")
        return model, path

    return made


@pytest.mark.parametrize("name", MODELS)
def test_the_feature_is_timms_own(name: str, weights: Callable[[str], tuple[Any, Path]]) -> None:
    model, path = weights(name)
    backbone = TimmPooledBackbone(name, checkpoint=path)
    assert backbone.embed_dim == MODELS[name]
    x = torch.randn(2, 3, *backbone.input_hw)
    backbone.train()  # a frozen model's batch norms stay as they are
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
        torch.testing.assert_close(model.get_classifier()(backbone.pooled(x)), model(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(backbone(x), expected, rtol=1e-5, atol=1e-5)
    assert backbone.pooled(x).requires_grad is False
    told = backbone.describe()
    assert (told["embed_dim"], told["weights"]) == (MODELS[name], f"file {path.name}")


@pytest.mark.parametrize("name", MODELS)
def test_patches_are_refused_and_tiles_are_named(name: str, weights: Callable[[str], tuple[Any, Path]]) -> None:
    _, path = weights(name)
    with pytest.raises(BackboneError, match=r'regions="tiles:3,4", or `TimmPooledBackbone`'):
        Carrot(name, checkpoint=path).fit(BIRDS)
    with pytest.raises(BackboneError, match=r'regions="tiles:3,4"'):
        Carrot(TimmPooledBackbone(name, checkpoint=path), regions="patches").fit(BIRDS)


def test_a_classifier_of_tiles_keeps_every_verb(weights: Callable[[str], tuple[Any, Path]], tmp_path: Path) -> None:
    _, path = weights("test_resnet")
    model = Carrot("test_resnet", checkpoint=path, regions="tiles:2", global_share=0.2, device="cpu").fit(BIRDS)
    assert isinstance(model.classifier.encoder.backbone, TimmPooledBackbone)
    image = BIRDS.image(len(BIRDS.records) - 1)
    e = model.explain(image)
    assert max(map(abs, e.residual.values())) < 1e-10
    dropped = model.what_if(image, regions=[1, 2]).logits
    np.testing.assert_allclose(dropped, model.shown(image, [0, 3, 4]), rtol=0, atol=2e-3)  # float16, another batch
    model.save(tmp_path / "m")
    again = Carrot.load(tmp_path / "m", device="cpu")
    np.testing.assert_array_equal(again.decision_function([image]), model.decision_function([image]))
    assert isinstance(again.encoder.backbone, TimmPooledBackbone)
    path.write_bytes(weights("test_convnext")[1].read_bytes())
    with pytest.raises(CheckpointError, match="test_resnet"):
        Carrot.load(tmp_path / "m").predict(image)
    path.unlink()
    with pytest.raises(ModelError, match="no such file"):
        Carrot.load(tmp_path / "m").predict(image)


def test_one_that_is_given_is_built_again_from_its_description(
    weights: Callable[[str], tuple[Any, Path]], tmp_path: Path
) -> None:
    backbone = TimmPooledBackbone("test_resnet", checkpoint=weights("test_resnet")[1])
    model = Carrot(backbone, regions="tiles:2").fit(BIRDS)
    model.save(tmp_path / "m")
    image = BIRDS.image(0)
    np.testing.assert_array_equal(
        Carrot.load(tmp_path / "m").decision_function([image]), model.decision_function([image])
    )
    with pytest.raises(ValueError, match="img_size=96"):
        Carrot(backbone, regions="tiles:2", tile_size=96).fit(BIRDS)
    with torch.no_grad():
        next(backbone.model.parameters()).mul_(1.01)
    with pytest.raises(ModelError, match="fingerprint"):
        Carrot.load(tmp_path / "m", backbone=backbone)


def test_tiles_are_chosen_within_what_they_may_cost(weights: Callable[[str], tuple[Any, Path]]) -> None:
    model = Carrot("test_resnet", checkpoint=weights("test_resnet")[1], device="cpu", dtype="float32")
    grid = {"regions": ["tiles:1", "tiles:2"], "lift": ["identity"], "t": [0.0], "power": [0.0]}
    model.select(BIRDS, grid=grid, passes=3.0, show=False)
    assert model.setting_.regions == "tiles:1"
    with pytest.raises(BackboneError, match=r'regions="tiles:3,4"'):
        model.select(BIRDS, grid={**grid, "regions": ["patches", "tiles:1"]}, show=False)
    model.select(BIRDS, grid={"lift": ["identity"], "t": [0.0]}, passes=10.0, show=False)
    assert {line["regions"] for line in model.selection_} == {"tiles:3"}  # patches are left out where nobody named them


def test_a_vision_transformer_stays_one(weights: Callable[[str], tuple[Any, Path]]) -> None:
    model, path = weights("test_vit2")  # which normalises after pooling: its pooled feature is another
    built = BackboneSpec("test_vit2", str(path)).build("cpu", tile_size=0)
    assert isinstance(built, TimmViTPatchBackbone)
    x = torch.randn(1, 3, *built.input_hw)
    pooled = TimmPooledBackbone("test_vit2", checkpoint=path)
    with torch.no_grad():
        torch.testing.assert_close(
            pooled(x), model.forward_head(model.forward_features(x), pre_logits=True), rtol=1e-4, atol=1e-5
        )
    assert pooled.fingerprint() != built.fingerprint()


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3"])
def test_a_vision_transformers_feature_is_its_class_token_or_the_mean_of_its_patches(
    name: str, weights: Callable[[str], tuple[Any, Path]]
) -> None:
    backbone = TimmViTPatchBackbone(name, checkpoint=weights(name)[1])
    x = torch.randn(3, 3, *backbone.input_hw)
    patches = backbone(x)
    led = backbone.bare_model.cls_token is not None
    assert led == (name == "test_vit"), "the others have a register, which is no class token"
    expected = patches.prefix[:, 0] if led else patches.H.mean(dim=1)
    assert torch.equal(backbone.pooled(x), expected)
    assert not backbone.pooled(x).requires_grad
    with pytest.raises(ValueError, match="finite"):
        backbone.pooled(x / 0.0)


def test_what_tiles_cost_goes_by_the_area_of_the_input() -> None:
    encoder = Encoder(TimmPooledBackbone("test_resnet", pretrained=False))
    assert encoder.passes(Setting(regions="tiles:2,3", global_share=0.1)) == 14


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"model_name": "resnet17"}, BackboneError, "Did you mean"),
        ({"model_name": "test_resnet", "img_size": 0}, ValueError, "`img_size`"),
        ({"model_name": "test_resnet", "crop": "none"}, ValueError, "`crop`"),
        ({"model_name": "test_resnet", "device": "abacus"}, ValueError, "`device`"),
        ({"model_name": "test_resnet", "checkpoint": "nowhere.pth"}, CheckpointError, "nowhere.pth"),
        ({"model_name": EMBEDDED_MODEL, "img_size": 100}, BackboneError, "pooled feature"),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_mistakes_are_told(given: dict, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        TimmPooledBackbone(**{"pretrained": False, **given})


def test_inputs_are_refused_as_everywhere() -> None:
    backbone = TimmPooledBackbone("test_resnet", pretrained=False, img_size=64)
    with pytest.raises(BackboneError, match="built for inputs of 64 x 64"):
        backbone(torch.zeros(1, 3, 96, 96))
    with pytest.raises(ValueError, match="finite"):
        backbone(torch.full((1, 3, 64, 64), torch.nan))
