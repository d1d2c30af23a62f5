"""What makes a model one of patch tokens: a map of them whose places are known.

Two calls are asked of a model, both public in timm: ``forward_intermediates(output_fmt="NCHW")``, which strips the
prefix tokens and hands over the grid as (B, D, gh, gw), and ``forward_features``, which is what the model's own head
receives. A model is accepted if the last map equals the features without their prefix. One that isn't is refused, with
what it gave instead: a grid is never guessed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carrot.errors import BackboneError

KINDS_THAT_WORK = (
    "Models that work give one token for each cell of a grid: ViT, DeiT, BEiT, EVA, CLIP, SigLIP, DINO, DINOv2, DINOv3,"
    " MAE, FlexiViT, PE, RADIO, RoPE and relative-position ViTs, hybrids, CaiT, TNT, VOLO, ConViT, Twins, MViTv2,"
    " Hiera, SAM-ViT, NaFlexViT, MLP-Mixer. CNNs, hierarchical feature maps (Swin, ConvNeXt), several scales (CrossViT,"
    " CoaT) and pooled outputs (PiT) do not; tiles, which need one feature each, can be seen by these too:"
    ' regions="tiles:3,4", or `TimmPooledBackbone`.'
)
TOLERANCE = 1e-4  # relative, float32: equal models differ by 1e-6 at most, a second norm by 0.3


class NoPatchTokensError(BackboneError):
    """The model has no patch tokens at all, whatever its input."""


def last_map(model: Any, x: Tensor, *, norm: bool) -> tuple[Tensor, Float[Tensor, "B D gh gw"]]:
    """Return the model's final features and its last map of patch tokens, from one pass.

    Args:
        model: A timm model.
        x: Pictures (B, 3, img_h, img_w).
        norm: Whether the map is to go through the model's final norm; the features always do.
    """
    features, maps = model.forward_intermediates(
        x, indices=[-1], norm=norm, output_fmt="NCHW", intermediates_only=False
    )
    return features, maps[-1]


@dataclass(frozen=True)
class Layout:
    """Where a model's patch tokens are among its features."""

    grid_hw: tuple[int, int]
    patch_hw: tuple[int, int]
    embed_dim: int
    num_prefix_tokens: int

    def require_tiles(self, name: str, input_hw: tuple[int, int]) -> None:
        """Refuse an input that the patches don't tile exactly.

        Raises:
            BackboneError: With the nearest sizes that fit.
        """
        require_tiling(name, input_hw, self.patch_hw)
        (gh, gw), (patch_h, patch_w) = self.grid_hw, self.patch_hw
        if (gh * patch_h, gw * patch_w) != input_hw:
            raise BackboneError(
                f"{name} has patches of {patch_h} x {patch_w} pixels but gives {gh} x {gw} tokens for an input of"
                f" {input_hw[0]} x {input_hw[1]} pixels. {KINDS_THAT_WORK}"
            )


@torch.no_grad()
def survey(name: str, model: Any, input_hw: tuple[int, int], out_norm: bool) -> Layout:
    """Return the layout of a model's tokens; refuse a model that has no patch tokens.

    Only shapes are looked at: built on the meta device, a model costs neither memory nor computing.

    Args:
        name: The model's name, for errors.
        model: A timm model.
        input_hw: Size of its input, in pixels.
        out_norm: Whether tokens are wanted after the final norm, which may change their width (SAM's neck).

    Raises:
        BackboneError: No map of tokens; several scales; a feature map, unless its cells are the patches themselves;
            pooled features; tokens that the model doesn't declare as its prefix.
    """
    if not hasattr(model, "forward_intermediates"):
        raise NoPatchTokensError(f"{name} gives no map of patch tokens. {KINDS_THAT_WORK}")
    x = torch.empty(1, 3, *input_hw, device=next(model.parameters()).device)
    try:
        features = model.forward_features(x)
        if not isinstance(features, Tensor):
            raise NoPatchTokensError(
                f"{name} gives features at several scales, not one token a patch. {KINDS_THAT_WORK}"
            )
        before = patches = last_map(model, x, norm=False)[1]
        if patches.numel() != features.numel() and features.ndim == 4:
            patches = last_map(model, x, norm=True)[1]
    except BackboneError:
        raise
    except Exception as error:  # timm and torch raise many kinds
        raise NoPatchTokensError(
            f"{name} gives no map of patch tokens for inputs of {input_hw[0]} x {input_hw[1]} pixels:"
            f" {str(error) or type(error).__name__}. {KINDS_THAT_WORK}"
        ) from error
    _, width, gh, gw = patches.shape
    stated = _stated_stride(model)
    patch_hw = (stated, stated) if stated else (input_hw[0] // gh, input_hw[1] // gw)
    num_prefix_tokens = features.shape[1] - gh * gw if features.ndim == 3 else 0
    if features.ndim == 4:
        patch_size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
        if patch_size != patch_hw or features.numel() != patches.numel():
            raise NoPatchTokensError(f"{name} gives a feature map whose cells are not patches. {KINDS_THAT_WORK}")
    elif features.ndim != 3 or features.shape[2] != width or num_prefix_tokens < 0:
        shape = tuple(features.shape)
        raise NoPatchTokensError(f"{name} gives features of shape {shape}, not one token a patch. {KINDS_THAT_WORK}")
    elif num_prefix_tokens != getattr(model, "num_prefix_tokens", num_prefix_tokens):
        raise NoPatchTokensError(
            f"{name} gives {num_prefix_tokens} tokens beside its patches but declares {model.num_prefix_tokens}, so the"
            f" places of the patches are unknown. {KINDS_THAT_WORK}"
        )
    return Layout((gh, gw), patch_hw, width if out_norm else before.shape[1], num_prefix_tokens)


def pooled_features(model: Any, x: Tensor) -> Float[Tensor, "B D"]:
    """Return what a model's own classifier receives."""
    features: Tensor = model.forward_head(model.forward_features(x), pre_logits=True)
    return features


@torch.no_grad()
def survey_pooled(name: str, model: Any, input_hw: tuple[int, int]) -> Layout:
    """Return the layout of a model's pooled feature: one for the whole input.

    Args:
        name: The model's name, for errors.
        model: A timm model.
        input_hw: Size of its input, in pixels.

    Raises:
        BackboneError: It can't take an input of this size, or gives something else than one vector.
    """
    x = torch.empty(1, 3, *input_hw, device=next(model.parameters()).device)
    try:
        shape = tuple(pooled_features(model, x).shape)
    except Exception as error:  # timm and torch raise many kinds
        raise BackboneError(
            f"{name} gives no pooled feature for inputs of {input_hw[0]} x {input_hw[1]} pixels"
            f" ({type(error).__name__}: {error}). Leave img_size out for its own size, or choose another model."
        ) from error
    if len(shape) != 2:
        raise BackboneError(f"{name} gives features of shape {shape}, not one vector an input. Choose another model.")
    return Layout((1, 1), input_hw, shape[1], 0)


@contextmanager
def looking_trained(model: nn.Module) -> Iterator[None]:
    """Move every gain, bias, scale and constant table of a model while a check lasts; then they are back, bit for bit.

    As they start out, ones and zeros hide what a check is for: a second norm changes nothing, a scale of 1e-5 switches
    its branch off.
    """
    generator, before = torch.Generator().manual_seed(0), []
    try:
        with torch.no_grad():
            for x in model.parameters():
                if x.numel() and (x.numel() == max(x.shape, default=1) or bool(x.min() == x.max())):
                    before.append((x, x.clone()))
                    x.add_(0.3 * torch.randn(x.shape, generator=generator).to(x))
        yield
    finally:
        with torch.no_grad():
            for x, value in before:
                x.copy_(value)


@torch.no_grad()
def check_tokens(name: str, model: Any, input_hw: tuple[int, int], num_prefix_tokens: int) -> bool:
    """Compare the last map with what the model's own head receives, on one random picture, whatever its norms are.

    Returns:
        Whether those tokens go through the final norm (not in Hiera, for one, which has none for tokens).

    Raises:
        BackboneError: They differ by more than rounding: the model rewrites its patch tokens after the last map; or
            it can't take an input of this size at all.
    """
    weight = next(model.parameters())
    x = torch.randn(1, 3, *input_hw, generator=torch.Generator().manual_seed(0)).to(weight)
    with looking_trained(model):
        return _goes_through_the_norm(name, model, x, num_prefix_tokens)


def _goes_through_the_norm(name: str, model: Any, x: Tensor, num_prefix_tokens: int) -> bool:
    try:
        features = model.forward_features(x)
    except Exception as error:  # timm and torch raise many kinds
        raise BackboneError(
            f"{name} can't take inputs of {x.shape[2]} x {x.shape[3]} pixels ({type(error).__name__}: {error}). Leave"
            " img_size out for its own size."
        ) from error
    smallest = float("inf")
    for norm in (True, False):
        try:
            final, patches = last_map(model, x, norm=norm)
        except AssertionError:  # how timm says that this model has no norm for tokens
            continue
        if norm is False and patches.shape[1] not in features.shape[1:]:  # before SAM's neck tokens have another width
            continue
        expected = _as_tokens(features, patches)[:, num_prefix_tokens:]
        difference = (patches.flatten(2).transpose(1, 2) - expected).norm() / expected.norm()
        difference = torch.maximum(difference, (final - features).norm() / features.norm())
        if difference <= TOLERANCE:
            return norm
        smallest = min(smallest, difference.item())
    raise NoPatchTokensError(
        f"{name} changes its patch tokens after its last feature map (by {smallest:.1e} of their size), so what its"
        f" head receives is not one token a patch. {KINDS_THAT_WORK}"
    )


def require_tiling(name: str, input_hw: tuple[int, int], patch_hw: tuple[int, int]) -> None:
    """Refuse an input that the patches don't tile; timm would silently drop the last rows and columns.

    Raises:
        BackboneError: With the nearest sizes that fit.
    """
    if all(i >= p and i % p == 0 for i, p in zip(input_hw, patch_hw, strict=True)):
        return
    near = [sorted({max(i // p, 1) * p, -(-i // p) * p}) for i, p in zip(input_hw, patch_hw, strict=True)]
    height, width = (" or ".join(map(str, sizes)) for sizes in near)
    raise BackboneError(
        f"{name}'s patches of {patch_hw[0]} x {patch_hw[1]} pixels must tile the input; {input_hw[0]} x {input_hw[1]}"
        f" (height x width) does not fit. Choose a size with a height of {height} and a width of {width}."
    )


def _as_tokens(features: Tensor, patches: Tensor) -> Tensor:
    """Return features as (B, T, D): they are that already, or a map with its channels first or last."""
    if features.ndim == 3:
        return features
    return features.flatten(2).transpose(1, 2) if features.shape == patches.shape else features.flatten(1, 2)


def _stated_stride(model: Any) -> int | None:
    """Return the input pixels per token, if the model states them."""
    info = getattr(model, "feature_info", None)
    return int(info[-1]["reduction"]) if info else None
