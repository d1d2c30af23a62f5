"""A model as libraries of explainers have one: tensors in, logits and attributions of their shape out."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from carrot import Carrot
from carrot.data.toy import ToyBirds
from carrot.explanation.parts import take_apart
from carrot.export.attribution import RegionAttribution

pytestmark = pytest.mark.filterwarnings("ignore:lam = .* is the end of the path")
BIRDS = ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=4)
PICTURES = [BIRDS.image(i) for i in (12, 13, 14)]
SETTINGS = {"patches": {}, "diffused": {"t": 2.0}, "tiles": {"regions": "tiles:2@0,3"}, "share": {"global_share": 0.4}}


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).movedim(-1, 0).float() / 255.0


X = torch.stack([tensor(image) for image in PICTURES])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Carrot]:
    folder = tmp_path_factory.mktemp("tokens")
    return {name: Carrot("toy", **setting).fit(BIRDS, tokens=folder) for name, setting in SETTINGS.items()}


@pytest.mark.parametrize("name", SETTINGS)
def test_logits_are_the_models_bit_for_bit(models: dict[str, Carrot], name: str) -> None:
    assert np.array_equal(RegionAttribution(models[name])(X).numpy(), models[name].decision_function(PICTURES))


@pytest.mark.parametrize("by", ["token", "node", "drop"])
@pytest.mark.parametrize("name", SETTINGS)
def test_attributions_sum_to_the_regions(models: dict[str, Carrot], name: str, by: str) -> None:
    model, target = models[name], torch.tensor([2, 0, 3])
    a = RegionAttribution(model, by).attribute(X.double(), target)
    assert a.shape == X.shape
    for i, image in enumerate(PICTURES):
        trace = model.trace(image)
        parts = take_apart(trace, model.head_.logit(int(target[i])))
        local = len(parts.token) - parts.num_global
        assert float(a[i].sum()) == pytest.approx(float(getattr(parts, by)[:local].sum()), abs=1e-5)
        assert torch.equal(a[i, 0], a[i, 2])
    if by == "token" and name != "share":
        prior = float(model.head_.logit(2).y_mean)
        assert float(a[0].sum()) + prior == pytest.approx(float(RegionAttribution(model)(X)[0, 2]), abs=1e-12)


def test_a_tiles_value_lies_on_its_pixels(models: dict[str, Carrot]) -> None:
    model = models["tiles"]
    parts = take_apart(model.trace(PICTURES[0]), model.head_.logit(1))
    a = RegionAttribution(model).attribute(X[:1].double(), 1)[0].sum(dim=0)
    corner = parts.token[0] / 80**2 + parts.token[4] / 80**2  # of 2 x 2, and of 3 x 3 that overlap by half
    assert float(a[3, 5]) == pytest.approx(float(corner), abs=1e-9)


def test_targets_of_any_kind_and_the_predicted_ones(models: dict[str, Carrot]) -> None:
    explain = RegionAttribution(models["tiles"]).attribute
    ones = explain(X, torch.tensor([1, 1, 1]))
    for target in (1, np.int64(1), torch.tensor(1), [1], np.array([1, 1, 1])):
        assert torch.equal(explain(X, target), ones)
    best = RegionAttribution(models["tiles"])(X).argmax(dim=1)
    assert torch.equal(explain(X), explain(X, best))
    assert ones.dtype == torch.float32
    assert torch.equal(explain((X,), 1)[0], ones)


def test_noise_is_clamped_and_what_was_normalised_is_refused(models: dict[str, Carrot]) -> None:
    asked = RegionAttribution(models["patches"])
    noisy = X + 0.1
    assert torch.equal(asked(noisy), asked(noisy.clamp(0, 1)))
    for bad, what in (
        (2 * X - 1, "before any normalisation"),
        (X[0], "must be \\(B, 3"),
        (X[:0], "at least one"),
        (X * torch.nan, "finite"),
    ):
        with pytest.raises(ValueError, match=what):
            asked(bad)
    with pytest.raises(TypeError, match="floating-point"):
        asked((255 * X).byte())
    for target, what in ((4, "in 0 .. 3"), ([0, 1], "one for each of 3"), (-1, "in 0 .. 3")):
        with pytest.raises(ValueError, match=what):
            asked.attribute(X, target)
    with pytest.raises(TypeError):
        asked.attribute(X, torch.tensor([0.5, 1.0, 2.0]))
    with pytest.raises(ValueError, match="`by` must be"):
        RegionAttribution(models["patches"], "gradient")


def test_captums_metrics_run_unchanged(models: dict[str, Carrot]) -> None:
    metrics = pytest.importorskip("captum.metrics", reason="pip install '.[bench]'")
    asked, target = RegionAttribution(models["tiles"]), torch.tensor([0, 1, 2])

    def corner_covered(inputs: Tensor) -> tuple[Tensor, Tensor]:
        change = torch.zeros_like(inputs)
        change[..., :40, :40] = inputs[..., :40, :40]
        return change, inputs - change

    found = metrics.infidelity(asked, corner_covered, X, asked.attribute(X, target), target=target, n_perturb_samples=2)
    assert found.shape == (3,)
    assert bool(torch.isfinite(found).all())
    moved = metrics.sensitivity_max(asked.attribute, X, target=target, n_perturb_samples=2)
    assert moved.shape == (3,)
    assert bool((moved > 0).all())


@pytest.mark.filterwarnings("ignore")  # theirs
def test_quantus_metrics_run_unchanged(models: dict[str, Carrot]) -> None:
    quantus = pytest.importorskip("quantus", reason="pip install quantus")
    asked, y = RegionAttribution(models["tiles"]), np.array([0, 1, 2])
    a = asked.attribute(X, y).numpy()
    flipping = quantus.PixelFlipping(features_in_step=160 * 40, perturb_baseline="mean", disable_warnings=True)
    curves = flipping(model=asked, x_batch=X.numpy(), y_batch=y, a_batch=a, softmax=False)
    assert np.isfinite(np.array(curves)).all()
    masks = np.stack([BIRDS.mask(i) for i in (12, 13, 14)])[:, None]
    inside = quantus.RelevanceRankAccuracy(disable_warnings=True)
    ranks = inside(model=asked, x_batch=X.numpy(), y_batch=y, a_batch=a.sum(1, keepdims=True), s_batch=masks)
    assert all(0.0 <= rank <= 1.0 for rank in ranks)


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_pages_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "explainers.md").read_text()
    ours, theirs = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(ours, "explainers.md", "exec"), names)
    sums, logits = (torch.tensor(eval(line)) for line in re.findall(r"\[.*?\]", capsys.readouterr().out))
    assert torch.allclose(sums, logits, atol=2e-4)  # as printed
    pytest.importorskip("captum", reason="pip install '.[bench]'")
    pytest.importorskip("quantus", reason="pip install quantus")
    exec(compile(theirs, "explainers.md", "exec"), names)
    assert "(2, 30)" in capsys.readouterr().out
