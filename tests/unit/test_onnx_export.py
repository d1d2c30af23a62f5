"""An ONNX file gives the model's logits and probabilities for any batch; what it can't hold is refused, not written."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from carrot import Carrot, ModelError, __version__, cli
from carrot.backbone import TimmViTPatchBackbone
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from carrot.embedding.encoder import DTYPES
from carrot.export import onnx_file as onnx_export
from carrot.export.onnx_file import Deployed, export_onnx
from tests.unit.test_backbone import look_trained

pytestmark = [
    pytest.mark.usefixtures("surveyed_once"),
    pytest.mark.filterwarnings("ignore:lam = .* is the end of the path"),
]

onnx = pytest.importorskip("onnx", reason="pip install '.[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install '.[onnx]'")
pytest.importorskip("onnxscript", reason="pip install '.[onnx]'")

BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=2, n_species=3)
SETTINGS = [
    pytest.param({"lift": "quadratic", "tau": 0.5, "t": 2.0, "global_share": 0.3, "coarsen": 2}, id="all at once"),
    pytest.param({"lift": "identity", "tau": 0.0, "t": 2.0}, id="the guide's", marks=pytest.mark.slow),
    pytest.param({"lift": "quadratic", "tau": 0.5}, id="the default", marks=pytest.mark.slow),
    pytest.param({"lift": "identity", "t": 2.0, "global_share": 0.3}, id="class token", marks=pytest.mark.slow),
    pytest.param({"lift": "identity", "t": 2.0, "coarsen": 2}, id="blocks", marks=pytest.mark.slow),
    pytest.param({"lift": "relu:64", "t": 0.5, "dtype": "float32"}, id="relu, float32", marks=pytest.mark.slow),
    pytest.param({"lift": "quadratic", "fit_intercept": False}, id="no intercept", marks=pytest.mark.slow),
    pytest.param(  # float32: a feature that another runtime puts on the other side of a float16 step moves by all of it
        {"regions": "tiles:2", "lift": "quadratic", "t": 2.0, "global_share": 0.3, "dtype": "float32"}, id="tiles"
    ),
    pytest.param({"regions": "tiles:1,2@0", "lift": "identity", "readout": "sum"}, id="sum", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def model() -> Carrot:
    return Carrot("toy", lift="identity", tau=0.0).fit(BIRDS)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_file_gives_the_models_logits(settings: dict, tmp_path: Path) -> None:
    model = Carrot("toy", device="cpu", **settings).fit(BIRDS)
    path = tmp_path / "folder" / "model.onnx"
    facts = export_onnx(model.classifier, path)
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"], "nothing is left beside it"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = [BIRDS.image(i) for i in range(18, 24)]
    view = model.classifier.encoder.view
    x = torch.stack([view.transform(image) for image in images]).numpy()
    expected = model.decision_function(images)
    for n in (1, 2, 5, 6):
        logits, p = session.run(None, {"pixels": x[:n]})
        np.testing.assert_allclose(logits, expected[:n], rtol=0, atol=1e-5 * np.abs(expected).max())
        np.testing.assert_allclose(p, model.predict_proba(images[:n]), rtol=0, atol=1e-4)
    held = {
        entry.key: json.loads(entry.value)
        for entry in onnx.load(str(path)).metadata_props
        if entry.key.startswith("carrot.")
    }
    assert held["carrot.classes"] == list(BIRDS.classes) == facts["classes"]
    assert held["carrot.fingerprint"] == model.encoder.fingerprint
    assert held["carrot.input"] == ["batch", *x.shape[1:]]
    if "regions" in settings:
        assert len(held["carrot.boxes"]) + held["carrot.whole_picture_last"] == x.shape[1]
        assert held["carrot.crop"] == "squash"
    assert held["carrot.version"] == __version__


def apart(model: Carrot, x: torch.Tensor) -> float:
    """Largest difference of the formulas' logits from the model's, of the largest logit."""
    with torch.inference_mode():
        encoder = model.classifier.encoder
        ours, p = Deployed(encoder.backbone, DTYPES[encoder.dtype], model.fitted).eval()(x)
        logits = model.classifier.logits_of(encoder.encode(x))
    assert torch.allclose(p.sum(dim=1), torch.ones(len(x)), atol=1e-5)
    return float((ours - logits).abs().max() / logits.abs().max())


@pytest.mark.parametrize(
    "settings",
    [
        {"lift": "identity", "tau": 0.0, "t": 2.0},
        {"lift": "quadratic", "tau": 0.5},
        {"lift": "identity", "t": 2.0, "global_share": 0.3},
        {"lift": "identity", "t": 2.0, "coarsen": 2},
        {"lift": "identity", "t": 2.0, "coarsen": 10},
        {"lift": "relu:64", "fit_intercept": False, "dtype": "float32"},
        {"lift": "identity", "power": 4.0, "t": 2.0},
        {"lift": "quadratic", "power": 4.0, "tau": 0.5, "readout": "sum", "global_share": 0.3},
        {"regions": "tiles:2,3", "lift": "quadratic"},
        {"regions": "tiles:2", "lift": "identity", "t": 2.0, "power": 0.0, "global_share": 0.3},
        {"regions": "tiles:3@0", "lift": "identity", "t": 0.5, "readout": "sum"},
        {"regions": "boxes:0,0,0.5,1;0.2,0.1,0.9,0.8", "lift": "quadratic", "t": 2.0},
    ],
    ids=str,
)
def test_the_formulas_give_the_models_logits(settings: dict) -> None:
    model = Carrot("toy", device="cpu", **settings).fit(BIRDS)
    view = model.classifier.encoder.view
    x = torch.randn(5, *view.inputs, 3, *view.backbone.input_hw, generator=torch.Generator().manual_seed(1))
    assert apart(model, x) < 1e-6
    assert apart(model, torch.zeros_like(x[:1])) < 1e-6


@pytest.mark.parametrize("name", ["test_resnet", "test_vit_relpos"])
def test_tiles_of_models_without_a_class_token_are_pooled_as_the_model_does(name: str, tmp_path: Path) -> None:
    backbone = look_trained(timm.create_model(name))
    save_file(backbone.state_dict(), path := tmp_path / "w.safetensors")
    model = Carrot(name, checkpoint=path, regions="tiles:2", t=2.0, device="cpu").fit(BIRDS)
    view = model.classifier.encoder.view
    x = torch.randn(3, *view.inputs, 3, *view.backbone.input_hw, generator=torch.Generator().manual_seed(1))
    assert apart(model, x) < 1e-6


def test_regions_that_mostly_coincide_have_no_bandwidth_of_rounding() -> None:
    model = Carrot("toy", device="cpu", lift="identity", tau=0.0, t=2.0)
    with torch.no_grad():
        model.encoder.backbone.model.pos_embed.zero_()  # then equal patches are equal tokens
    x = torch.zeros(2, 3, *model.encoder.backbone.input_hw)
    x[0, :, :8, :8] = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(2))
    assert apart(model.fit(BIRDS), x) < 1e-6


def test_tokens_before_the_final_norm_stay_so() -> None:
    backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=embedded_checkpoint(), crop="squash", out_norm=False)
    model = Carrot(backbone, lift="identity").fit(BIRDS)
    x = torch.randn(2, 3, *backbone.input_hw, generator=torch.Generator().manual_seed(3))
    assert apart(model, x) < 1e-6


def test_a_lift_that_is_not_offered_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Carrot("toy", lift="fourier:16").fit(BIRDS)
    model.save(tmp_path / "m")
    with pytest.raises(ModelError, match="fourier:16"):
        export_onnx(model.classifier, tmp_path / "x.onnx")
    assert cli.main(["export", str(tmp_path / "m"), str(tmp_path / "x.onnx")]) == 1
    assert "fourier:16" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


def test_without_the_package_it_says_what_to_install(
    model: Carrot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"onnxruntime: pip install"):
        export_onnx(model.classifier, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_one_file_are_refused(model: Carrot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 1000)
    with pytest.raises(ModelError, match="less than 2 GiB"):
        export_onnx(model.classifier, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_not_kept(model: Carrot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.onnx").write_bytes(b"before")
    monkeypatch.setattr(onnx_export, "TOLERANCE", 0.0)
    with pytest.raises(ModelError, match="would differ by"):
        export_onnx(model.classifier, tmp_path / "x.onnx")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.onnx", b"before")]


def test_a_backbone_that_torch_cannot_write_is_named(
    model: Carrot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no translation\nand a long trace")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ModelError, match=r"^toy can't be written as ONNX \(RuntimeError: no translation\)\.$"):
        export_onnx(model.classifier, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
