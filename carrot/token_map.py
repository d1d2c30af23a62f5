"""What makes a model one of patch tokens: a map of them whose places are known.

Two calls are asked of a model, both public in timm: ``forward_intermediates(output_fmt="NCHW")``, which strips the
prefix tokens and hands over the grid as (B, D, gh, gw), and ``forward_features``, which is what the model's own head
receives. A model is accepted if the last map equals the features without their prefix. One that isn't is refused, with
what it gave instead: a grid is never guessed.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from carrot.errors import BackboneError

KINDS_THAT_WORK = (
    "Models that work give one token for each cell of a grid: ViT, DeiT, BEiT, EVA, CLIP, SigLIP, DINO, DINOv2, DINOv3,"
    " MAE, FlexiViT, PE, RADIO, RoPE and relative-position ViTs, hybrids, CaiT, TNT, VOLO, ConViT, Twins, MViTv2,"
    " Hiera, SAM-ViT, NaFlexViT, MLP-Mixer. CNNs, hierarchical feature maps (Swin, ConvNeXt), several scales (CrossViT,"
    " CoaT) and pooled outputs (PiT) do not."
)
TOLERANCE = 1e-4  # relative, float32: equal models differ by 1e-6 at most, a second norm by 0.3


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


def count_prefix_tokens(name: str, model: Any, features: object, patches: Tensor) -> int:
    """Return K = T - N, the tokens before the patches; refuse a model whose features are no patch tokens.

    Args:
        name: The model's name, for the error.
        model: A timm model.
        features: What ``forward_features`` gave.
        patches: The last map, (B, D, gh, gw).

    Raises:
        BackboneError: Several scales; a feature map, unless its cells are the patches themselves; pooled features;
            tokens of another width; tokens that the model doesn't declare as its prefix.
    """
    _, width, gh, gw = patches.shape
    if not isinstance(features, Tensor):
        raise BackboneError(f"{name} gives features at several scales, not one token a patch. {KINDS_THAT_WORK}")
    if features.ndim == 4:
        patch_size, stride = getattr(getattr(model, "patch_embed", None), "patch_size", None), stride_of(model)
        if patch_size != (stride, stride) or features.numel() != patches.numel():
            raise BackboneError(f"{name} gives a feature map whose cells are not patches. {KINDS_THAT_WORK}")
        return 0
    if features.ndim != 3 or features.shape[2] != width or features.shape[1] < gh * gw:
        shape = tuple(features.shape)
        raise BackboneError(f"{name} gives features of shape {shape}, not one token a patch. {KINDS_THAT_WORK}")
    extra = features.shape[1] - gh * gw
    if extra != getattr(model, "num_prefix_tokens", extra):
        raise BackboneError(
            f"{name} gives {extra} tokens beside its patches but declares {model.num_prefix_tokens}, so the places of"
            f" the patches are unknown. {KINDS_THAT_WORK}"
        )
    return extra


@torch.no_grad()
def check_tokens(name: str, model: Any, input_hw: tuple[int, int], num_prefix_tokens: int) -> bool:
    """Compare the last map with what the model's own head receives, on one random picture.

    Returns:
        Whether those tokens go through the final norm (not in Hiera, for one, which has none for tokens).

    Raises:
        BackboneError: They differ by more than rounding: the model rewrites its patch tokens after the last map.
    """
    weight = next(model.parameters())
    x = torch.randn(1, 3, *input_hw, generator=torch.Generator().manual_seed(0)).to(weight)
    features = model.forward_features(x)
    smallest = float("inf")
    for norm in (True, False):
        try:
            final, patches = last_map(model, x, norm=norm)
        except AssertionError:  # how timm says that this model has no norm for tokens
            continue
        expected = _as_tokens(features, patches)[:, num_prefix_tokens:]
        difference = (patches.flatten(2).transpose(1, 2) - expected).norm() / expected.norm()
        difference = torch.maximum(difference, (final - features).norm() / features.norm())
        if difference <= TOLERANCE:
            return norm
        smallest = min(smallest, difference.item())
    raise BackboneError(
        f"{name} changes its patch tokens after its last feature map (by {smallest:.1e} of their size), so what its"
        f" head receives is not one token a patch. {KINDS_THAT_WORK}"
    )


def stride_of(model: Any) -> int | None:
    """Return the input pixels per token, if the model states them."""
    info = getattr(model, "feature_info", None)
    return int(info[-1]["reduction"]) if info else None


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
        f" (height x width) does not fit. Choose img_size with a height of {height} and a width of {width}."
    )


def patch_centres(grid_hw: tuple[int, int]) -> Float[Tensor, "N 2"]:
    """Return patch centres (x, y) in [-1, 1], row-major, float32 whatever type the tokens have."""
    y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) * 2 / n - 1 for n in grid_hw)
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([xx, yy], dim=-1).reshape(-1, 2).float()


def _as_tokens(features: Tensor, patches: Tensor) -> Tensor:
    """Return features as (B, T, D): they are that already, or a map with its channels first or last."""
    if features.ndim == 3:
        return features
    return features.flatten(2).transpose(1, 2) if features.shape == patches.shape else features.flatten(1, 2)
