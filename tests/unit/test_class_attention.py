"""The class token's attention: the model's, by a literal copy of its last block; whatever can't be read is refused."""

import copy
import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers.attention import Attention
from torch import nn

from carrot._vit.class_attention import check_attention, last_attention
from carrot.backbone import TimmViTPatchBackbone
from carrot.data.toy import EMBEDDED_MODEL, embedded_checkpoint
from carrot.errors import BackboneError
from tests.conftest import RealFiles
from tests.unit.test_backbone import create, look_trained


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small models: threads that wait for each other on a busy machine cost more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The embedded weights with gains, biases and tokens moved: fresh ones hide mistakes."""
    model = timm.create_model(EMBEDDED_MODEL, num_classes=0)
    model.load_state_dict(load_file(embedded_checkpoint()))
    save_file(look_trained(model).state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@torch.no_grad()
def literal(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return (B, T, T), mean over heads: the last block's attention by loops over heads, from what a hook saw enter."""
    seen: list[torch.Tensor] = []
    handle = model.blocks[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.forward_features(x)
    handle.remove()
    block, attn = model.blocks[-1], model.blocks[-1].attn
    y = block.norm1(seen[0])
    D, d = y.shape[-1], y.shape[-1] // attn.num_heads
    q, k, _ = (y @ attn.qkv.weight.mT + (0.0 if attn.qkv.bias is None else attn.qkv.bias)).split(D, dim=-1)
    total = torch.zeros(len(x), y.shape[1], y.shape[1], dtype=x.dtype)
    for h in range(attn.num_heads):
        q_h, k_h = attn.q_norm(q[..., h * d : (h + 1) * d]), attn.k_norm(k[..., h * d : (h + 1) * d])
        for b in range(len(x)):
            scores = q_h[b] @ k_h[b].mT / math.sqrt(d)
            rows = (scores - scores.amax(dim=1, keepdim=True)).exp()
            total[b] += rows / rows.sum(dim=1, keepdim=True) / attn.num_heads
    return total


@torch.no_grad()
def hooked(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return (B, T, T), mean over heads: what enters dropout in a copy of the model that writes its attention out."""
    model, seen = copy.deepcopy(model), []
    attn = model.blocks[-1].attn
    attn.fused_attn = False
    attn.attn_drop.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.forward_features(x)
    return seen[0].mean(dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_the_models_own(weights: Path, dtype: torch.dtype) -> None:
    backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, attention=True).to(dtype)
    x = torch.randn(3, 3, 160, 160, dtype=dtype)
    A = backbone(x).attention
    assert A.shape == (3, 100)
    assert A.dtype == dtype
    assert not A.requires_grad
    assert bool((A >= 0).all())
    assert bool((A.sum(dim=1) < 1).all())  # the rest is the class token's attention to itself
    close = {"rtol": 0, "atol": 100 * torch.finfo(dtype).eps}
    for other in (literal(backbone.model, x), hooked(backbone.model, x)):
        torch.testing.assert_close(A, other[:, 0, 1:], **close)
        torch.testing.assert_close(A.sum(dim=1), 1.0 - other[:, 0, 0], **close)
        mutants = {
            "of the patches to the class token": other[:, 1:, 0],
            "of the first patch": other[:, 1, 1:],
            "shifted by one": other[:, 0, :-1],
            "renormalised": other[:, 0, 1:] / other[:, 0, 1:].sum(dim=1, keepdim=True),
        }
        for name, mutant in mutants.items():
            assert (A - mutant).abs().max() > 1e-3 * A.max(), name


def test_everything_else_is_as_without(weights: Path) -> None:
    plain, reading = (TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, attention=a) for a in (False, True))
    x = torch.randn(2, 3, 160, 160)
    without, with_ = plain(x), reading(x)
    assert without.attention is None
    assert torch.equal(with_.H, without.H)
    assert torch.equal(with_.prefix, without.prefix)
    assert torch.equal(with_.P, without.P)
    assert (with_.grid_hw, with_.patch_hw) == (without.grid_hw, without.patch_hw)
    assert with_.H.is_contiguous()
    assert reading.fingerprint() == plain.fingerprint()  # the tokens are the same
    for name in ("H", "prefix", "attention"):  # of its own memory: what is done to one is not done to another
        getattr(with_, name).zero_()
        assert torch.equal(getattr(reading(x), name), getattr(reading(x), name))
    assert torch.equal(reading(x).H, without.H)


def test_a_dynamic_size_has_attention_to_its_own_patches(weights: Path) -> None:
    backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, attention=True)
    x = torch.randn(2, 3, 96, 160)
    out = backbone(x)
    assert (out.grid_hw, tuple(out.H.shape), tuple(out.attention.shape)) == ((6, 10), (2, 60, 64), (2, 60))
    torch.testing.assert_close(out.attention, literal(backbone.model, x)[:, 0, 1:], rtol=0, atol=1e-5)
    plain = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights)(x)
    assert torch.equal(out.H, plain.H)
    assert torch.equal(out.P, plain.P)


def test_a_batch_is_its_pictures(weights: Path) -> None:
    backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, attention=True)
    x = torch.randn(3, 3, 160, 160)
    for picture, A in zip(x, backbone(x).attention, strict=True):
        torch.testing.assert_close(backbone(picture[None]).attention[0], A, rtol=0, atol=1e-5)


def test_an_unfrozen_model_lets_gradients_through(weights: Path) -> None:
    backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, attention=True, freeze=False)
    out = backbone(torch.randn(1, 3, 160, 160))
    (out.H.sum() + out.attention.square().sum()).backward()
    assert backbone.model.blocks[-1].attn.qkv.weight.grad is not None


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224+", "vit_small_patch14_reg4_dinov2+"])
def test_prefixes_of_other_lengths(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distillation and register tokens come before the patches, and aren't any."""
    name, _ = create(monkeypatch, name)
    backbone = TimmViTPatchBackbone(name, pretrained=False, img_size=(56, 84) if "14" in name else None, attention=True)
    look_trained(backbone.model)
    x = torch.randn(1, 3, *backbone.input_hw)
    out, K = backbone(x), backbone.num_prefix_tokens
    assert K in (2, 5)
    torch.testing.assert_close(out.attention, literal(backbone.model, x)[:, 0, K:], rtol=0, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(out.H, backbone.model.forward_features(x)[:, K:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"qk_norm": True}, {"init_values": 0.5}, {"scale_attn_norm": True}, {"qkv_bias": False}, {"num_heads": 1}],
)
def test_variants_of_the_block(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms of queries and keys, layer scale, a norm of the values' mean, no biases, one head."""
    real_create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, **kw: look_trained(real_create(*args, **{**kw, **options})))
    backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, pretrained=False, attention=True)
    x = torch.randn(1, 3, 160, 160)
    for other in (literal(backbone.model, x), hooked(backbone.model, x)):
        torch.testing.assert_close(backbone(x).attention, other[:, 0, 1:], rtol=0, atol=1e-5)


def test_a_gated_block(weights: Path) -> None:
    if "gated" not in inspect.signature(Attention).parameters:
        pytest.skip(f"timm {timm.__version__} has no gates")
    model = timm.create_model(EMBEDDED_MODEL, num_classes=0)
    attn = model.blocks[-1].attn
    model.blocks[-1].attn = Attention(
        64, attn.num_heads, qkv_bias=True, qk_norm=True, scale_norm=True, gated=True, norm_layer=nn.LayerNorm
    )
    look_trained(model)
    check_attention("it", model, (160, 160), 1)
    x = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        features, A = last_attention(model, x, 1)
        assert torch.equal(features, model.forward_features(x))
    torch.testing.assert_close(A, literal(model, x)[:, 0, 1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test_vit_relpos", "no class token"),
        ("test_vit2", "no class token"),
        ("test_vit3", "no class token"),
        ("vit_base_patch32_siglip_256+", "no class token"),
        ("eva02_tiny_patch14_224+", "last block is none whose attention"),
        ("vit_tiny_patch16_dinov3_qkvb+", "last block is none whose attention"),
        ("beit_base_patch16_224+", "last block is none whose attention"),
    ],
)
def test_other_models_are_refused(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = create(monkeypatch, name)
    with pytest.raises(BackboneError, match=words):
        TimmViTPatchBackbone(name, pretrained=False, attention=True)


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "beit_base_patch16_224"])
def test_rotary_and_relative_positions_are_found_out(name: str) -> None:
    """They turn queries and keys, or add to their products."""
    model = look_trained(timm.create_model(name, depth=2, num_classes=0))
    with pytest.raises(BackboneError, match="last block.*`cosine_source`"):
        check_attention(name, model, (224, 224), 1)


def test_before_the_final_norm_there_is_none(weights: Path) -> None:
    with pytest.raises(BackboneError, match="`out_norm=True`"):
        TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, out_norm=False, attention=True)


def scaled(block: Any) -> None:
    block.attn.scale = 1.01 * block.attn.scale  # fused attention never looks at it


def biased(block: Any) -> None:
    forward = block.attn.forward
    block.attn.forward = lambda x, **options: forward(x, **options) + 0.1 * x


def parallel(block: Any) -> None:
    block.forward = lambda x, **_: x + block.attn(block.norm1(x)) + block.mlp(block.norm2(x))


def not_a_number(block: Any) -> None:
    nn.init.constant_(block.attn.qkv.bias, math.nan)


def without_a_part(block: Any) -> None:
    del block.attn.qkv


@pytest.mark.parametrize("tamper", [scaled, biased, parallel, not_a_number, without_a_part])
def test_a_block_that_does_something_else_is_refused(weights: Path, tamper: Any) -> None:
    model = timm.create_model(EMBEDDED_MODEL, num_classes=0)
    model.load_state_dict(load_file(weights))
    model.eval()
    check_attention("it", model, (160, 160), 1)
    tamper(model.blocks[-1])
    with pytest.raises(BackboneError, match="it's last block"):
        check_attention("it", model, (160, 160), 1)


def test_the_backbone_runs_the_check(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_create = timm.create_model

    def create_tampered(*arguments: Any, **options: Any) -> nn.Module:
        model = real_create(*arguments, **options)
        model.blocks[-1].attn.scale *= 2.0
        return model

    monkeypatch.setattr(timm, "create_model", create_tampered)
    TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights)
    with pytest.raises(BackboneError, match="reading it gives something else"):
        TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, attention=True)


def test_a_model_of_one_block_is_refused_or_read_right() -> None:
    model = look_trained(timm.create_model(EMBEDDED_MODEL, depth=1, num_classes=0))
    with pytest.raises(BackboneError, match="last block"):
        check_attention("it", model, (160, 160), 1)


def test_of_a_real_model(real: RealFiles) -> None:
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    backbone = TimmViTPatchBackbone(name, checkpoint=real.weights / name / "model.safetensors", attention=True)
    x = torch.randn(1, 3, 224, 224)
    out = backbone(x)
    torch.testing.assert_close(out.attention, literal(backbone.model, x)[:, 0, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(out.attention, hooked(backbone.model, x)[:, 0, 1:], rtol=0, atol=1e-5)
    assert 0.0 < float(out.attention.sum()) < 1.0
