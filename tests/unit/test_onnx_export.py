"""An ONNX file gives the model's own logits and probabilities, for any batch; what it can't hold is refused and not written."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from carrot import Carrot, ModelError, cli
from carrot.data.toy import ToyBirds
from carrot.onnx_export import export_onnx

onnx = pytest.importorskip("onnx", reason="pip install 'carrot-attribution[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'carrot-attribution[onnx]'")
pytest.importorskip("onnxscript", reason="pip install 'carrot-attribution[onnx]'")

BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=2, n_species=3)
SETTINGS = [
    pytest.param({"lift": "quadratic", "tau": 0.5, "t": 2.0, "global_share": 0.3, "coarsen": 2}, id="all at once"),
    pytest.param({"lift": "identity", "tau": 0.0, "t": 2.0}, id="the guide's", marks=pytest.mark.slow),
    pytest.param({"lift": "relu:64", "t": 0.5, "dtype": "float32"}, id="relu, float32", marks=pytest.mark.slow),
    pytest.param({"lift": "quadratic", "fit_intercept": False}, id="no intercept", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_file_gives_the_models_logits(settings: dict, tmp_path: Path) -> None:
    model = Carrot("toy", **settings).fit(BIRDS)
    path = tmp_path / "folder" / "model.onnx"
    facts = export_onnx(model.encoder, model.fitted, path)
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"], "nothing is left beside it"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = [BIRDS.image(i) for i in range(18, 24)]
    x = torch.stack([model.encoder.backbone.transform(image) for image in images]).numpy()
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


def test_a_lift_that_is_not_offered_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Carrot("toy", lift="fourier:16").fit(BIRDS)
    model.save(tmp_path / "m")
    with pytest.raises(ModelError, match="fourier:16"):
        export_onnx(model.encoder, model.fitted, tmp_path / "x.onnx")
    assert cli.main(["export", str(tmp_path / "m"), str(tmp_path / "x.onnx")]) == 1
    assert "fourier:16" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()
