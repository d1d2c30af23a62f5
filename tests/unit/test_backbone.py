"""The backbone against timm's own features, on weights that look trained: fresh norms hide a second normalisation."""

import json
import pickle
import subprocess
import sys

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from carrot._vit.blueprint import Blueprint
from carrot._vit.token_map import looking_trained
from carrot.backbone import PatchOutput, TimmViTPatchBackbone
from carrot.errors import BackboneError, CheckpointError, HubUnreachableError, UnreadableImageError


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small models: threads that wait for each other on a busy machine cost more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# name: (K, grid, stride, D); "+" marks models built with two blocks, the rest is as timm has it
MODELS = {
    "test_vit": (1, (10, 10), 16, 64),
    "test_vit2": (1, (10, 10), 16, 64),
    "test_vit3": (1, (10, 10), 16, 96),
    "test_vit4": (1, (10, 10), 16, 96),
    "test_vit_relpos": (0, (10, 10), 16, 96),
    "deit_tiny_distilled_patch16_224+": (2, (14, 14), 16, 192),
    "vit_tiny_patch16_dinov3_qkvb+": (5, (16, 16), 16, 192),
    "vit_small_r26_s32_224+": (1, (7, 7), 32, 384),
    "eva02_tiny_patch14_224+": (1, (16, 16), 14, 192),
    "beit_base_patch16_224+": (1, (14, 14), 16, 768),
    "vit_base_patch32_siglip_256+": (0, (8, 8), 32, 768),
    "samvit_base_patch16_224+": (0, (14, 14), 16, 768),
}
NORMALISED_AFTER_POOLING = {
    "test_vit2", "test_vit4", "test_vit_relpos", "eva02_tiny_patch14_224+", "beit_base_patch16_224+"
}  # fmt: skip


def look_trained(model, seed=0):
    """Move every gain, bias, layer scale, special token and position away from its initial value, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim <= 1 or any(word in name for word in ("token", "pos_embed", "gamma")):
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return model.eval()


def create(monkeypatch, name, **options):
    """Build timm's model; for names with a "+", here and in the backbone, with two blocks."""
    name, shallow = name.rstrip("+"), name.endswith("+")
    if not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    if shallow:
        real_create = timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda *args, **kw: real_create(*args, **{"depth": 2, **kw}))
    return name, timm.create_model(name, **options)


@pytest.fixture(params=MODELS)
def case(request, monkeypatch, tmp_path):
    """A model that looks trained, head and all, and the backbone that its saved weights give."""
    name, model = create(monkeypatch, request.param)
    look_trained(model)
    file = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), file)
    return request.param, model, TimmViTPatchBackbone(name, checkpoint=file)


def test_tokens_are_timms_own(case):
    key, model, backbone = case
    K, grid_hw, stride, D = MODELS[key]
    x = torch.randn(2, 3, *backbone.input_hw)
    with torch.no_grad():
        features = model.forward_features(x)
    tokens = features.flatten(2).mT if features.ndim == 4 else features
    out = backbone(x)
    assert out.grid_hw == backbone.grid_hw == grid_hw
    assert out.patch_hw == backbone.patch_hw == (stride, stride)
    assert (backbone.num_prefix_tokens, backbone.embed_dim) == (K, D)
    assert out.H.shape == (2, grid_hw[0] * grid_hw[1], D)
    assert out.H.is_contiguous()
    assert not out.H.requires_grad
    close = {"rtol": 0, "atol": 1e-5 * tokens.abs().max().item()}  # the same operations; 80 float32 roundings
    torch.testing.assert_close(out.H, tokens[:, K:], **close)
    if K:
        torch.testing.assert_close(out.prefix, tokens[:, :K], **close)
    else:
        assert out.prefix is None

    if key not in NORMALISED_AFTER_POOLING | {"samvit_base_patch16_224+"}:
        with torch.no_grad():
            twice = model.norm(out.H)
        assert (twice - out.H).norm() > 0.2 * out.H.norm()  # the mutant: normalised a second time
    if key in NORMALISED_AFTER_POOLING:  # the mean of H (diffusion at t = 0) is what the model's own head starts from
        with torch.no_grad():
            pooled = model.forward_head(features, pre_logits=True)
            torch.testing.assert_close(model.fc_norm(out.H.mean(1)), pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("key", ["test_vit", "test_vit2", "test_vit3", "samvit_base_patch16_224+"])
def test_before_the_final_norm(key, monkeypatch, tmp_path):
    """One application of the norm, where there is one, turns ``out_norm=False`` tokens into ``out_norm=True`` ones."""
    name, model = create(monkeypatch, key)
    save_file(look_trained(model).state_dict(), tmp_path / "w.safetensors")
    before, after = (
        TimmViTPatchBackbone(name, checkpoint=tmp_path / "w.safetensors", out_norm=n) for n in (False, True)
    )
    x = torch.randn(1, 3, *after.input_hw)
    H, grid_hw = before(x).H, before.grid_hw
    with torch.no_grad():
        on_map = key.startswith("samvit")  # its norm works on the map
        once = model.neck(H.mT.reshape(1, -1, *grid_hw)).flatten(2).mT if on_map else model.norm(H)
    torch.testing.assert_close(once, after(x).H, rtol=0, atol=1e-5)
    assert torch.equal(H, after(x).H) == (key in NORMALISED_AFTER_POOLING)
    if not on_map:
        assert torch.equal(before(x).prefix, after(x).prefix)


@pytest.mark.parametrize("name", ["test_vit", "test_vit3", "test_vit_relpos", "vit_tiny_patch16_dinov3_qkvb+"])
def test_order_is_row_major_on_a_non_square_input(name, monkeypatch):
    name, _ = create(monkeypatch, name)
    backbone = TimmViTPatchBackbone(name, pretrained=False, img_size=(96, 160))
    look_trained(backbone.model)
    assert backbone.input_hw == (96, 160)
    assert backbone.grid_hw == (6, 10)
    blank = torch.zeros(1, 3, 96, 160)
    for row, column in [(0, 0), (0, 9), (5, 0), (5, 9), (2, 7), (4, 1)]:
        impulse = blank.clone()
        impulse[..., row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 5.0
        out = backbone(impulse)
        changed = (out.H - backbone(blank).H).norm(dim=-1).argmax().item()
        assert changed == row * 10 + column
        centre = [(column * 16 + 8) / 160 * 2 - 1, (row * 16 + 8) / 96 * 2 - 1]  # (x, y)
        assert out.P[changed].tolist() == pytest.approx(centre, abs=1e-7)


def test_positions_do_not_lose_precision_with_the_tokens():
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False)
    expected = backbone(torch.zeros(1, 3, 160, 160)).P
    backbone.to(torch.bfloat16)
    out = backbone(torch.zeros(1, 3, 160, 160, dtype=torch.bfloat16))
    assert out.H.dtype == torch.bfloat16
    assert out.P.dtype == torch.float32
    assert torch.equal(out.P, expected)
    assert out.P.abs().max().item() == pytest.approx(0.9)


def test_frozen_stays_frozen_in_a_parent_that_trains(monkeypatch):
    name, real_create = "test_vit3", timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, **kw: real_create(*args, drop_path_rate=0.9, **kw))
    x = torch.randn(2, 3, 160, 160)
    frozen = TimmViTPatchBackbone(name, pretrained=False)
    look_trained(frozen.model)
    parent = nn.Sequential(frozen)
    expected = frozen(x).H
    parent.train()
    assert not any(module.training for module in frozen.modules())
    assert torch.equal(frozen(x).H, expected)
    assert not any(p.requires_grad for p in frozen.parameters())
    free = TimmViTPatchBackbone(name, pretrained=False, freeze=False)
    free.load_state_dict(frozen.state_dict())
    assert free.training
    assert not torch.allclose(free(x).H, expected, rtol=0.01)  # what being put into training mode would do
    free.eval()
    torch.testing.assert_close(free(x).H, expected, rtol=1e-4, atol=1e-4)


def test_unfrozen_lets_gradients_flow():
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False, freeze=False)
    backbone(torch.randn(1, 3, 160, 160)).H.square().sum().backward()
    assert all(p.grad is not None for name, p in backbone.model.named_parameters() if "head" not in name)
    frozen = TimmViTPatchBackbone("test_vit", pretrained=False)
    out = frozen(torch.randn(1, 3, 160, 160, requires_grad=True))
    assert not out.H.requires_grad
    assert not out.H.is_inference()  # may be saved for a backward pass elsewhere


def test_a_dynamic_model_follows_its_input_and_others_say_img_size():
    dynamic = TimmViTPatchBackbone("test_vit", pretrained=False)
    out = dynamic(torch.zeros(1, 3, 96, 160))
    assert (out.grid_hw, out.patch_hw, tuple(out.H.shape)) == ((6, 10), (16, 16), (1, 60, 64))
    assert out.P[1].tolist() == pytest.approx([-0.7, -5 / 6])
    for img_hw in ((96, 150), (8, 160)):
        with pytest.raises(BackboneError, match=r"must tile the input.*144 or 160|must tile.*height of 16"):
            dynamic(torch.zeros(1, 3, *img_hw))
    fixed = TimmViTPatchBackbone("test_vit3", pretrained=False)
    with pytest.raises(BackboneError, match=r"got 96 x 160\. Build it with img_size=\(96, 160\)"):
        fixed(torch.zeros(1, 3, 96, 160))


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "test_vit", "vit_small_r26_s32_224", "samvit_base_patch16_224"]
)
def test_an_input_that_patches_do_not_tile_is_refused_before_weights_are_fetched(name, monkeypatch):
    monkeypatch.setattr("carrot._vit.blueprint.require_hub", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(BackboneError, match=r"must tile the input; 239 x 239.*224 or (240|256)"):
        TimmViTPatchBackbone(name, img_size=239)


def test_a_model_whose_own_size_is_not_tiled_says_which_size_is():
    with pytest.raises(BackboneError, match="384 x 384.*378 or 392"):  # 14 does not divide 384
        TimmViTPatchBackbone("vit_so400m_patch14_siglip_384")


def test_a_neck_that_changes_the_width_counts_as_the_norm(monkeypatch):
    name, _ = create(monkeypatch, "samvit_base_patch16+")
    for out_norm, width in ((True, 256), (False, 768)):
        backbone = TimmViTPatchBackbone(name, pretrained=False, img_size=224, out_norm=out_norm)
        out = backbone(torch.randn(1, 3, 224, 224))
        assert out.H.shape == (1, 196, width)
        assert backbone.embed_dim == width


def test_models_that_the_meta_device_can_not_build_are_built_for_real(monkeypatch):
    real_device = torch.device

    def device(kind):
        if kind == "meta":
            raise RuntimeError("Tensor.item() cannot be called on meta tensors")
        return real_device(kind)

    monkeypatch.setattr("carrot._vit.blueprint.torch.device", device)
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False)
    monkeypatch.undo()
    assert backbone(torch.zeros(1, 3, 160, 160)).H.shape == (1, 100, 64)


def test_a_size_that_the_model_itself_can_not_take():
    with pytest.raises(BackboneError, match=r"mvitv2_tiny.* can't take inputs of 224 x 256 pixels"):
        TimmViTPatchBackbone("mvitv2_tiny", pretrained=False, img_size=(224, 256))


def test_a_model_whose_patches_change_with_its_size_is_refused():
    def create(model_name, **options):
        return timm.create_model(model_name, patch_size=8 if "img_size" in options else 16, **options)

    with pytest.raises(BackboneError, match="has patches of 16 x 16 pixels but gives 12 x 20 tokens"):
        Blueprint.of("test_vit3", create, (96, 160))


def test_sizes_that_only_seem_to_be_tiled():
    with pytest.raises(BackboneError, match="must tile"):  # timm gives a 1 x 1 grid, and 1 divides 30
        TimmViTPatchBackbone("test_vit3", pretrained=False, img_size=30)
    with pytest.raises(BackboneError, match="224 or 256"):  # a hybrid pads 240 to 256, and states 8 patches of 30
        TimmViTPatchBackbone("vit_small_r26_s32_224", pretrained=False, img_size=240)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18", "cells are not patches"),
        ("test_convnext", "cells are not patches"),
        ("swin_tiny_patch4_window7_224", "cells are not patches"),
        ("levit_conv_128s", "cells are not patches"),
        ("pit_ti_224", r"features of shape \(1, 1, 256\)"),
        ("pit_ti_distilled_224", r"features of shape \(1, 2, 256\)"),
        ("crossvit_tiny_240", "(several scales|gives no map of patch tokens)"),  # timm up to 1.0.29 has none
        ("coat_tiny", "(several scales|gives no map of patch tokens)"),
        ("fastvit_t8", "cells are not patches"),
    ],
)
def test_models_without_patch_tokens_are_refused_with_the_kinds_that_work(name, reason):
    with pytest.raises(BackboneError, match=rf"{name}.*{reason}.*Models that work .*ViT, DeiT"):
        TimmViTPatchBackbone(name, pretrained=False)


def test_a_model_that_rewrites_its_tokens_after_the_last_map_is_refused(monkeypatch, tmp_path):
    name, model = create(monkeypatch, "xcit_nano_12_p16_224+")
    file = tmp_path / "xcit.safetensors"
    save_file(look_trained(model).state_dict(), file)
    with pytest.raises(BackboneError, match="changes its patch tokens after its last feature map"):
        TimmViTPatchBackbone(name, checkpoint=file)


def test_it_is_refused_without_weights_too(monkeypatch):
    """At d8bafd7 it passed: with gains of one and biases of zero a second norm changes nothing."""
    name, _ = create(monkeypatch, "xcit_nano_12_p16_224+")
    with pytest.raises(BackboneError, match="changes its patch tokens after its last feature map"):
        TimmViTPatchBackbone(name, pretrained=False)


def test_what_the_checks_move_is_put_back(monkeypatch):
    """Also where the check fails; and with it the rest of a model: constant tables, scales."""
    _, model = create(monkeypatch, "beit_base_patch16_224+")
    before = {name: x.clone() for name, x in model.state_dict().items()}
    moved = []

    def look_and_fail():
        with looking_trained(model):
            moved.extend(name for name, x in model.state_dict().items() if not torch.equal(x, before[name]))
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        look_and_fail()
    assert {"blocks.0.norm1.weight", "blocks.1.norm2.bias", "blocks.0.gamma_1", "cls_token"} <= set(moved)
    assert not any(name.endswith(("qkv.weight", "fc1.weight")) for name in moved)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


# Where a token looks: mean of (y, x) of the energy of its gradient, minus the centre that P and pixel_boxes state, in
# patches.
LOOKS_AT = {  # as docs/backbones.md says
    "vit_tiny_patch16_224+": 0.0,
    "vit_small_r26_s32_224+": -0.39,
    "convit_tiny": 0.0,
    "hiera_tiny_224": -0.04,
    "vit_tiny_r_s16_p8_224": 0.05,
    "mvitv2_tiny": -0.34,
    "tnt_s_legacy_patch16_224": -0.12,
    "vitamin_small_224": -0.40,
}
DEFAULT = ("vit_tiny_patch16_224+", "vit_small_r26_s32_224+")


@pytest.mark.parametrize("key", [k if k in DEFAULT else pytest.param(k, marks=pytest.mark.slow) for k in LOOKS_AT])
def test_where_a_token_looks(key, monkeypatch):
    """A stem of overlapping, padded convolutions looks up and left of the patch.

    Near the patch alone: attention looks everywhere.
    """
    name, _ = create(monkeypatch, key)
    backbone = TimmViTPatchBackbone(name, pretrained=False, freeze=False).eval()
    (gh, gw), (patch_h, patch_w) = backbone.grid_hw, backbone.patch_hw
    img_h, img_w = backbone.input_hw
    x = torch.randn(1, 3, img_h, img_w, requires_grad=True)
    scores = backbone(x).H[0] @ torch.randn(backbone.embed_dim)
    found = []
    for row, column in [(gh // 2, gw // 2), (gh // 2 - 1, gw // 2), (gh // 2, gw // 2 - 1), (gh // 3, gw // 3)]:
        (gradient,) = torch.autograd.grad(scores[row * gw + column], x, retain_graph=True)
        dy = (torch.arange(img_h) + 0.5) / patch_h - (row + 0.5)
        dx = (torch.arange(img_w) + 0.5) / patch_w - (column + 0.5)
        energy = gradient.square().sum((0, 1)) * (dy.abs() <= 1.5)[:, None] * (dx.abs() <= 1.5)
        found.append(
            [float((energy.sum(1) * dy).sum() / energy.sum()), float((energy.sum(0) * dx).sum() / energy.sum())]
        )
    offset = torch.tensor(found).mean(0)
    torch.testing.assert_close(offset, torch.full((2,), LOOKS_AT[key]), rtol=0, atol=0.1)  # over weights: 0.02 to 0.07


def test_names_that_timm_does_not_know():
    with pytest.raises(
        BackboneError, match=r"no model named 'vit_tiny_patch16_225'. Did you mean vit_tiny_patch16_224"
    ):
        TimmViTPatchBackbone("vit_tiny_patch16_225")
    with pytest.raises(
        BackboneError, match=r"no weights tagged 'nope' for vit_tiny_patch16_224; it has .*augreg_in21k"
    ):
        TimmViTPatchBackbone("vit_tiny_patch16_224.nope")
    for img_size in (0, (160,), (160, 160, 3)):
        with pytest.raises((ValueError, TypeError), match="img_size"):
            TimmViTPatchBackbone("test_vit", pretrained=False, img_size=img_size)
    with pytest.raises((ValueError, TypeError), match="crop"):
        TimmViTPatchBackbone("test_vit", pretrained=False, crop="middle")


def test_the_door_refuses_what_is_not_a_batch_of_pictures():
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False)
    good = torch.zeros(2, 3, 160, 160)
    for bad in (good.to(torch.uint8), good.double(), good.half()):
        with pytest.raises(TypeError, match=r"must be torch\.float32"):
            backbone(bad)
    for bad in (good[0], good[:, :1], good.permute(0, 2, 3, 1), good[None]):
        with pytest.raises(ValueError, match=r"must be \(B, 3, img_h, img_w\)"):
            backbone(bad)
    for value in (float("nan"), float("inf"), -float("inf")):
        bad = good.clone()
        bad[1, 2, 3, 4] = value
        with pytest.raises(ValueError, match="finite"):
            backbone(bad)
    with pytest.raises(ValueError, match="on cpu"):
        backbone(good.to("meta"))


# Weights


@pytest.fixture
def saved(tmp_path):
    """A model that looks trained, with its head, and its state dict."""
    model = look_trained(timm.create_model("test_vit"))
    return model, model.state_dict(), tmp_path


def tokens_of(model, x):
    with torch.no_grad():
        return model.forward_features(x)[:, model.num_prefix_tokens :]


@pytest.mark.parametrize(
    ("how", "suffix"),
    [(how, suffix) for how in ("plain", "no head", "other head", "half", "ddp") for suffix in (".safetensors", ".pth")]
    + [("model", ".pth"), ("state_dict", ".pt")],  # safetensors holds tensors by name only
)
def test_checkpoints_in_every_usual_wrapping(how, suffix, saved):
    model, state, folder = saved
    content = {
        "plain": state,
        "no head": {key: value for key, value in state.items() if not key.startswith("head.")},
        "model": {"model": state, "epoch": 3},
        "state_dict": {"state_dict": state, "optimizer": {"lr": 0.1}},
        "other head": {**state, "head.weight": torch.randn(7, 64), "head.bias": torch.randn(7)},
        "half": {key: value.half() for key, value in state.items()},
        "ddp": {f"module.{key}": value for key, value in state.items()},
    }[how]
    file = folder / f"weights{suffix}"
    save_file(content, file) if suffix == ".safetensors" else torch.save(content, file)
    backbone = TimmViTPatchBackbone("test_vit", checkpoint=file)
    if how == "half":
        model.half().float()
    x = torch.randn(1, 3, 160, 160)
    torch.testing.assert_close(backbone(x).H, tokens_of(model, x), rtol=0, atol=1e-5)
    assert "state_dict" not in backbone.model.pretrained_cfg


def test_position_tables_are_resampled_for_another_size(saved):
    _, state, folder = saved
    save_file(state, folder / "w.safetensors")
    backbone = TimmViTPatchBackbone("test_vit", checkpoint=folder / "w.safetensors", img_size=(96, 224))
    oracle = timm.create_model("test_vit", img_size=(96, 224), num_classes=0).eval()
    headless = {key: value for key, value in state.items() if not key.startswith("head.")}
    oracle.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(headless, oracle))
    x = torch.randn(1, 3, 96, 224)
    assert backbone.grid_hw == (6, 14)
    torch.testing.assert_close(backbone(x).H, tokens_of(oracle, x), rtol=0, atol=1e-5)


def test_checkpoints_that_do_not_belong_are_refused_by_key(saved):
    _, state, folder = saved
    file = folder / "w.safetensors"

    def refused(content, match, name="test_vit"):
        save_file(content, file)
        with pytest.raises(CheckpointError, match=match):
            TimmViTPatchBackbone(name, checkpoint=file)

    some = {key: value for key, value in state.items() if not key.startswith("blocks.1.")}
    refused(some, r"weights of test_vit\.r160_in1k: missing: blocks\.1\.norm1\.weight, .* and \d+ more")
    refused({**state, "blocks.99.norm1.weight": torch.ones(64)}, r"unexpected: blocks\.99\.norm1\.weight")
    renamed = {key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: v for key, v in state.items()}
    refused(renamed, r"missing: norm\.weight, norm\.bias; unexpected: fc_norm\.bias, fc_norm\.weight")
    refused(state, r"of another shape: patch_embed\.proj\.weight", name="test_vit3")
    refused({"nonsense": torch.ones(3)}, "missing: .*; unexpected: nonsense")
    patch32 = {**state, "patch_embed.proj.weight": torch.randn(64, 3, 32, 32)}  # timm alone would resample it, silently
    refused(patch32, r"of another shape: patch_embed\.proj\.weight")
    refused({**state, "norm.bias": torch.full((64,), float("nan"))}, r"NaN or infinity in 'norm\.bias'")


def test_what_pretrained_means_with_a_checkpoint(saved):
    _, state, folder = saved
    save_file(state, folder / "w.safetensors")
    prints = {
        TimmViTPatchBackbone("test_vit", pretrained, checkpoint=folder / "w.safetensors").fingerprint()
        for pretrained in (True, False)
    }
    assert len(prints) == 1


def fake_download(monkeypatch, state):
    """Let timm's own loader take ``state`` for what the hub sent."""
    monkeypatch.setattr("carrot._vit.blueprint.require_hub", lambda *_: None)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(state))


def test_fetched_weights_are_loaded_whole_or_refused(saved, monkeypatch):
    model, state, folder = saved
    fake_download(monkeypatch, state)
    backbone = TimmViTPatchBackbone("test_vit")
    x = torch.randn(1, 3, 160, 160)
    torch.testing.assert_close(backbone(x).H, tokens_of(model, x), rtol=0, atol=1e-5)
    save_file(state, folder / "w.safetensors")
    assert backbone.fingerprint() == TimmViTPatchBackbone("test_vit", checkpoint=folder / "w.safetensors").fingerprint()
    assert not any(key.startswith("head.") for key in backbone.model.state_dict())
    fake_download(monkeypatch, {key: value for key, value in state.items() if key != "norm.weight"})
    with pytest.raises(BackboneError, match=r"norm\.weight"):  # with num_classes=0, timm only logs this
        TimmViTPatchBackbone("test_vit")


@pytest.mark.parametrize("kind", ["connection", "httpx", "cause", "cache"])
def test_a_hub_that_fails_midway_names_the_ways_on(kind, monkeypatch):
    import huggingface_hub

    transport = type("ConnectError", (type("TransportError", (Exception,), {}),), {"__module__": "httpx"})
    wrapped = RuntimeError("retries exhausted")
    wrapped.__cause__ = TimeoutError("timed out")
    error = {
        "connection": ConnectionResetError("reset by peer"),
        "httpx": transport("no route"),
        "cause": wrapped,
        "cache": huggingface_hub.errors.LocalEntryNotFoundError("not in the cache"),
    }[kind]

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("carrot._vit.blueprint.require_hub", lambda *_: None)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    with pytest.raises(HubUnreachableError, match=r"`checkpoint=` FILE.*toy") as caught:
        TimmViTPatchBackbone("test_vit")
    assert caught.value.__cause__ is error


def test_a_failure_that_is_not_the_networks_is_not_called_one(monkeypatch):
    def fail(*_, **__):
        raise PermissionError("cache folder is read-only")

    monkeypatch.setattr("carrot._vit.blueprint.require_hub", lambda *_: None)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    with pytest.raises(BackboneError, match="read-only") as caught:
        TimmViTPatchBackbone("test_vit")
    assert not isinstance(caught.value, HubUnreachableError)


def test_models_without_published_weights_say_so():
    with pytest.raises(BackboneError, match="publishes no weights for vit_small_patch16_36x1_224"):
        TimmViTPatchBackbone("vit_small_patch16_36x1_224")


# Preprocessing


def picture(size=(300, 200), mode="RGB"):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy()).convert(mode)


@pytest.mark.parametrize("name", ["test_vit", "vit_base_patch32_siglip_256+", "vit_pe_core_tiny_patch16_384+"])
def test_the_transform_is_timms_own(name, monkeypatch):
    name, model = create(monkeypatch, name)
    backbone = TimmViTPatchBackbone(name, pretrained=False)
    own = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    assert torch.equal(backbone.transform(picture()), own(picture()))


def test_the_transform_follows_img_size_and_the_whole_picture_modes():
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False, img_size=(96, 160))
    x = backbone.transform(picture())
    assert x.shape == (3, 96, 160)  # timm's resolver would say 160 x 160
    assert backbone(x[None]).grid_hw == (6, 10)
    for crop in ("squash", "border"):
        whole = TimmViTPatchBackbone("test_vit", pretrained=False, crop=crop)
        geometry = whole.geometry((300, 200))
        assert geometry.coverage == pytest.approx(1.0)
        assert geometry.patch_boxes(whole.grid_hw).amin(dim=0)[:2].tolist() == pytest.approx([0.0, 0.0])
        assert whole.transform(picture()).shape == (3, 160, 160)
    boxes = whole.geometry((300, 200)).patch_boxes(whole.grid_hw)
    assert (boxes[:, 2:] == boxes[:, :2]).any()  # "border" pads
    cut = TimmViTPatchBackbone("test_vit", pretrained=False)
    assert cut.geometry((300, 200)).coverage < 0.7
    assert cut.geometry((300, 200)).patch_boxes(cut.grid_hw).amin() > 0.5


def test_boxes_lie_where_the_pixels_are():
    """Paint one patch's box in the original, and its token's input is what lights up."""
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False, img_size=(96, 160))
    boxes = backbone.pixel_boxes((1000, 700))
    assert boxes.shape == (60, 4)
    for index in (0, 9, 23, 50, 59):
        image = Image.new("RGB", (1000, 700))
        image.paste((255, 255, 255), tuple(round(edge) for edge in boxes[index].tolist()))
        x = backbone.transform(image) - backbone.transform(Image.new("RGB", (1000, 700)))
        energy = x.sum(0).reshape(6, 16, 10, 16).sum(dim=(1, 3)).flatten()
        assert energy.argmax().item() == index
        assert energy[index] > 0.9 * energy.sum()


def test_pictures_of_any_mode_and_what_is_refused():
    transform = TimmViTPatchBackbone("test_vit", pretrained=False).transform
    for mode in ("L", "LA", "RGBA", "P", "CMYK", "1", "YCbCr", "HSV"):
        assert transform(picture(mode=mode)).shape == (3, 160, 160)
    for mode in ("I", "F"):
        with pytest.raises(UnreadableImageError, match="8 or 16 bits"):
            transform(picture(mode="L").convert(mode))
    with pytest.raises(ValueError, match="Cut it"):
        transform(Image.new("L", (60_000, 8)))
    with pytest.raises(TypeError, match="PIL"):
        transform(torch.zeros(3, 160, 160))
    again = pickle.loads(pickle.dumps(transform))  # noqa: S301  (for data loader workers)
    assert torch.equal(again(picture()), transform(picture()))


# Identity


def test_the_fingerprint_changes_with_everything_that_tokens_depend_on(saved):
    _, state, folder = saved
    file = folder / "w.safetensors"
    save_file(state, file)

    def build(**options):
        return TimmViTPatchBackbone("test_vit", checkpoint=file, **options)

    base = build()
    first = base.fingerprint()
    assert len(first) == 64
    assert first == base.fingerprint() == build().fingerprint()
    assert first == TimmViTPatchBackbone("test_vit.r160_in1k", checkpoint=file).fingerprint()
    others = [build(out_norm=False), build(crop="squash"), build(img_size=(96, 160)), build().to(torch.bfloat16)]
    changed = build()
    assert changed.fingerprint() == first
    with torch.no_grad():
        changed.model.blocks[0].attn.qkv.weight[0, 0] += 1e-6
    save_file({**state, "head.bias": state["head.bias"] + 1}, file)
    assert build().fingerprint() == first  # the head is none of the backbone
    prints = [other.fingerprint() for other in [base, *others, changed]]
    assert len(set(prints)) == len(prints)


def test_the_description_is_json_and_says_what_the_norm_is():
    said = {name: TimmViTPatchBackbone(name, pretrained=False).describe() for name in ("test_vit", "test_vit2")}
    assert json.loads(json.dumps(said))["test_vit"]["timm"] == timm.__version__
    assert said["test_vit"]["token_norm"] == "LayerNorm, applied once"
    assert said["test_vit2"]["token_norm"] == "none; LayerNorm after pooling"
    assert said["test_vit"]["model"] == "test_vit.r160_in1k"
    before = TimmViTPatchBackbone("test_vit", pretrained=False, out_norm=False)
    assert before.describe()["token_norm"] == "before the final LayerNorm"


def test_importing_the_module_stays_light():
    code = "import sys, carrot.backbone; print([m for m in ('timm', 'torchvision', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_patch_output_is_what_it_says():
    out = TimmViTPatchBackbone("test_vit", pretrained=False)(torch.zeros(1, 3, 160, 160))
    assert isinstance(out, PatchOutput)
    with pytest.raises(AttributeError):
        out.H = None  # frozen


# Real weights


def test_real_weights(real):
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    file = real.weights / name / "model.safetensors"
    backbone = TimmViTPatchBackbone(name, checkpoint=file)
    assert backbone.transform.mean == backbone.transform.std == (0.5, 0.5, 0.5)
    assert backbone.transform.crop_pct == 0.9
    oracle = timm.create_model("vit_tiny_patch16_224").eval()
    oracle.load_state_dict(load_file(file))
    image = Image.open(next((real.data / "cub100").rglob("*.jpg")))
    x = backbone.transform(image)[None]
    out = backbone(x)
    torch.testing.assert_close(out.H, tokens_of(oracle, x), rtol=0, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(oracle.head(out.prefix[:, 0]), oracle(x), rtol=0, atol=1e-4)
    assert backbone.fingerprint() == TimmViTPatchBackbone("vit_tiny_patch16_224", checkpoint=file).fingerprint()
    assert (oracle.norm(out.H) - out.H).norm() > 0.2 * out.H.norm()


# Every family


FAMILIES = {
    "vision_transformer": "vit_wee_patch16_reg1_gap_256", "deit": "deit3_small_patch16_224",
    "eva": "eva02_tiny_patch14_224", "beit": "beitv2_base_patch16_224", "cait": "cait_xxs24_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "volo": "volo_d1_224", "convit": "convit_tiny", "twins": "twins_svt_small", "mvitv2": "mvitv2_small_cls",
    "hiera": "hiera_tiny_224", "vision_transformer_sam": "samvit_base_patch16_224", "mlp_mixer": "gmlp_s16_224",
    "vision_transformer_relpos": "vit_relpos_small_patch16_224", "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "naflexvit": "naflexvit_base_patch16_gap", "vitamin": "vitamin_small_224",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES.values())
def test_a_whole_member_of_each_family(name, tmp_path):
    model = look_trained(timm.create_model(name))
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    backbone = TimmViTPatchBackbone(name, checkpoint=tmp_path / "w.safetensors")
    x = torch.randn(1, 3, *backbone.input_hw)
    with torch.no_grad():
        features = model.forward_features(x)
    tokens = (features.flatten(2).mT if features.ndim == 4 else features)[:, backbone.num_prefix_tokens :]
    torch.testing.assert_close(backbone(x).H, tokens, rtol=0, atol=1e-5 * tokens.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("module", FAMILIES)
def test_every_member_of_a_family_is_accepted_or_refused_in_words(module):
    """Shapes only: each name's grid tiles its input, and its K is what timm declares."""
    accepted, refusals = [], []
    for name in timm.list_models(module=module):
        try:
            plan = Blueprint.of(name, timm.create_model)
        except BackboneError as refusal:
            refusals.append(str(refusal))
        else:
            accepted.append(plan)
    assert accepted
    assert all("Models that work" in text or "must tile" in text for text in refusals)
    for plan in accepted:
        (gh, gw), (patch_h, patch_w) = plan.layout.grid_hw, plan.layout.patch_hw
        assert (gh * patch_h, gw * patch_w) == plan.input_hw
