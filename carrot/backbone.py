"""Patch tokens of any timm vision transformer, and the place of each: image -> (H, P); one feature of any timm model.

The only module that imports timm, and only when a backbone is built. What it asks of a model is in
:mod:`carrot._vit.token_map`; how a model is found fit and given its weights, in :mod:`carrot._vit.blueprint`.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned_class
from carrot._display.brief import brief
from carrot._vit.base import TimmBackbone
from carrot._vit.blueprint import Blueprint
from carrot._vit.checkpoints import require_hub
from carrot._vit.class_attention import check_attention, last_attention
from carrot._vit.token_map import NoPatchTokensError, check_tokens, last_map, pooled_features, require_tiling
from carrot._vit.transform import Crop
from carrot.errors import BackboneError
from carrot.regions import grid_positions

_NO_NORM = ("Identity", "NoneType")


@dataclass(frozen=True)
class PatchOutput:
    """The patch tokens of a batch of pictures.

    Attributes:
        H: Patch tokens, row-major, without class, distillation or register tokens.
        P: Patch centres (x, y) in [-1, 1] on both axes of the model's input, in the order of the tokens.
        grid_hw: Rows and columns of patches.
        patch_hw: Height and width of a patch in input pixels: the stride of the tokens.
        prefix: The K tokens before the patches (class first), as the model's own head receives them (normalised, also
            where ``out_norm=False``); None if the model has none.
        attention: The class token's attention to every patch in the last block, mean over heads; sums to less than 1,
            the rest goes to the prefix. None unless the backbone was built with ``attention=True``.
    """

    H: Float[Tensor, "B N D"]
    P: Float[Tensor, "N 2"]
    grid_hw: tuple[int, int]
    patch_hw: tuple[int, int]
    prefix: Float[Tensor, "B K D"] | None = None
    attention: Float[Tensor, "B N"] | None = None

    __repr__ = brief


@pinned_class
class TimmViTPatchBackbone(TimmBackbone):
    """A timm vision transformer as a map from pictures to patch tokens, H = ViT(x) without its prefix tokens.

    Args:
        model_name: timm's name, ``architecture`` or ``architecture.tag``; the tag brings the preprocessing along.
        pretrained: Fetch timm's weights (through the hub's cache); False: fresh random weights.
        img_size: Input size in pixels, one number or (height, width); None: the model's own.
        freeze: Never trains: no gradients, and evaluation mode for ever, whatever a parent's ``train()`` says.
        out_norm: True: tokens as the model's own head receives them, normalised exactly once (or not at all where the
            model normalises only after pooling; see :meth:`describe`). False: before the final norm.
        device: Where the weights go; None: the processor.
        checkpoint: A file with weights for ``model_name``, or the folder of one, read without the hub; then
            ``pretrained`` has no effect. Position tables are resampled by timm where their grid differs.
        crop: ``"model"``: the model's own cropping, which often cuts the long side; ``"squash"`` or ``"border"``: the
            whole picture, stretched or padded.
        attention: Also read the class token's attention to the patches, ``PatchOutput.attention``; None: if the model
            has one that can be read (the attribute of that name says whether).

    Attributes:
        transform: The preprocessing, :class:`PictureTransform`.
        checkpoint: The file that the weights came from, if they came from one.
        input_hw: Size of the input it was built for.
        grid_hw: Rows and columns of patches.
        patch_hw: Size of a patch, in input pixels.
        embed_dim: D.
        num_prefix_tokens: K.

    Raises:
        BackboneError: Unknown model, a model without patch tokens, an input that the patches don't tile, or
            ``attention`` asked of a model without a class token or with another kind of last block.
        CheckpointError: The file can't be read, or holds another architecture's weights.
        HubUnreachableError: Weights were to be fetched, and the hub doesn't answer.
        ValueError: ``img_size`` or ``crop`` isn't one, or ``device`` isn't there.

    Exactness: H is exactly timm's ``forward_features`` without its prefix, to float rounding
        (``test_backbone.py::test_tokens_are_timms_own``).
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool = True,
        img_size: int | tuple[int, int] | None = None,
        freeze: bool = True,
        out_norm: bool = True,
        device: str | torch.device | None = None,
        checkpoint: str | Path | None = None,
        *,
        crop: Crop = "model",
        attention: bool | None = False,
    ) -> None:
        self.require_arguments(crop, device)
        import timm

        _require_known(model_name)
        plan = Blueprint.of(model_name, timm.create_model, _pair(img_size), out_norm)
        super().__init__(plan, pretrained, freeze, device, checkpoint, crop)
        self.out_norm = out_norm
        self._timm_norm = check_tokens(self._name, self.model, self.input_hw, self.num_prefix_tokens)
        self.attention = attention is not False and self._reads_attention(required=bool(attention))
        self.train(not freeze)

    def forward(self, x: Tensor) -> PatchOutput:
        """Return the patch tokens of a batch (B, 3, img_h, img_w), normalised as :attr:`transform` does.

        A model with a dynamic input size takes any size that its patches tile; every other one exactly ``input_hw``.

        Raises:
            TypeError: Not a tensor, or not of the weights' floating-point type.
            ValueError: Wrong shape or device, NaN or infinity.
            BackboneError: An input size that the model wasn't built for.
        """
        self._check_input(x)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            if self.attention:
                return self._with_attention(x)
            features, patches = last_map(self.bare_model, x, norm=self.out_norm and self._timm_norm)
        gh, gw = patches.shape[2:]
        H = patches.flatten(2).transpose(1, 2).contiguous()  # (B, N, D)
        prefix = features[:, : self.num_prefix_tokens].clone() if self.num_prefix_tokens else None
        return PatchOutput(H, grid_positions(gh, gw).to(x.device), (gh, gw), self.patch_hw, prefix)

    def pooled(self, x: Float[Tensor, "B 3 img_h img_w"]) -> Float[Tensor, "B D"]:
        """Return one feature of each input: its class token, or the mean of its patch tokens where there is none.

        Raises:
            TypeError, ValueError, BackboneError: As ``forward``.
        """
        if not self.has_class_token:
            return self(x).H.mean(dim=1)
        self._check_input(x)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            model: Any = self.bare_model
            features: Tensor = model.forward_features(x)  # the map of patches, which costs a tenth, is not asked for
        return features[:, 0]

    def _reads_attention(self, required: bool) -> bool:
        try:
            if not self.out_norm or not self._timm_norm:
                raise BackboneError("`attention` goes with `out_norm=True` and a model that normalises its tokens.")
            check_attention(self._name, self.model, self.input_hw, self.num_prefix_tokens)
        except BackboneError:
            if required:
                raise
            return False
        return True

    def _with_attention(self, x: Tensor) -> PatchOutput:
        features, A = last_attention(self.bare_model, x, self.num_prefix_tokens)
        K, (img_h, img_w), (patch_h, patch_w) = self.num_prefix_tokens, x.shape[2:], self.patch_hw
        gh, gw = img_h // patch_h, img_w // patch_w  # ``_check_input``: they tile it
        H, prefix = features[:, K:].contiguous(), features[:, :K].clone()
        return PatchOutput(H, grid_positions(gh, gw).to(x.device), (gh, gw), self.patch_hw, prefix, A)

    def pixel_boxes(self, image_size: tuple[int, int]) -> Float[Tensor, "N 4"]:
        """Return each patch's box (x0, y0, x1, y1) in pixels of an original of (width, height), PIL's ``size``."""
        return self.geometry(image_size).patch_boxes(self.grid_hw)

    def describe(self) -> dict[str, object]:
        """Return what a report should say of the backbone, JSON-ready."""
        return {**super().describe(), "token_norm": self._token_norm()}

    def _token_norm(self) -> str:
        names = ("norm", "neck", "fc_norm")  # SAM calls its final norm a neck
        norm, neck, after_pooling = (type(getattr(self.bare_model, name, None)).__name__ for name in names)
        last = neck if norm in _NO_NORM else norm
        if last not in _NO_NORM and self._timm_norm:
            return f"{last}, applied once" if self.out_norm else f"before the final {last}"
        return "none" if after_pooling in _NO_NORM else f"none; {after_pooling} after pooling"

    def _takes(self, img_h: int, img_w: int) -> bool:
        if not getattr(self.bare_model, "dynamic_img_size", False):
            return False
        require_tiling(self._name, (img_h, img_w), self.patch_hw)
        return True


@pinned_class
class TimmPooledBackbone(TimmBackbone):
    """Any timm model as a map from inputs to one pooled feature each: CNNs and hierarchical models serve tiles so.

    The feature is what the model's own classifier receives: ``forward_head(forward_features(x), pre_logits=True)``.
    It never trains. Cells of a CNN's map are no patch tokens, but a tile that it sees alone is all that its feature is
    made from.

    Args:
        model_name: As ``TimmViTPatchBackbone`` has it.
        pretrained: As ``TimmViTPatchBackbone`` has it.
        img_size: As ``TimmViTPatchBackbone`` has it.
        device: As ``TimmViTPatchBackbone`` has it.
        checkpoint: As ``TimmViTPatchBackbone`` has it.
        crop: As ``TimmViTPatchBackbone`` has it; a tile is seen whole whatever it is.

    Raises:
        BackboneError: Unknown model, or one that gives no single feature of an input of this size.
        CheckpointError: The file can't be read, or holds another architecture's weights.
        HubUnreachableError: Weights were to be fetched, and the hub doesn't answer.
        ValueError: ``img_size`` or ``crop`` isn't one, or ``device`` isn't there.

    Exactness: exactly timm's own, to float rounding (``test_pooled.py::test_the_feature_is_timms_own``).
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool = True,
        img_size: int | tuple[int, int] | None = None,
        device: str | torch.device | None = None,
        checkpoint: str | Path | None = None,
        *,
        crop: Crop = "model",
    ) -> None:
        self.require_arguments(crop, device)
        import timm

        _require_known(model_name)
        plan = Blueprint.of_pooled(model_name, timm.create_model, _pair(img_size))
        super().__init__(plan, pretrained, True, device, checkpoint, crop)

    def forward(self, x: Tensor) -> Float[Tensor, "B D"]:
        """Return one feature of each input (B, 3, img_h, img_w), normalised as :attr:`transform` does.

        Raises:
            TypeError: Not a tensor, or not of the weights' floating-point type.
            ValueError: Wrong shape or device, NaN or infinity.
            BackboneError: An input size that the model wasn't built for.
        """
        self._check_input(x)
        with torch.no_grad():
            return pooled_features(self.bare_model, x)

    def pooled(self, x: Float[Tensor, "B 3 img_h img_w"]) -> Float[Tensor, "B D"]:
        """Return one feature of each input, as ``forward``.

        Raises:
            TypeError, ValueError, BackboneError: As ``forward``.
        """
        return self.forward(x)

    def _context(self) -> dict[str, object]:
        return {"pooled": True}


def backbone_for_tiles(
    model_name: str,
    img_size: int | tuple[int, int] | None = None,
    out_norm: bool = True,
    device: str | torch.device | None = None,
    checkpoint: str | Path | None = None,
    crop: Crop = "model",
) -> TimmViTPatchBackbone | TimmPooledBackbone:
    """Return the backbone of a name for tiles: a vision transformer where it is one, else its pooled feature.

    Raises:
        BackboneError, CheckpointError, HubUnreachableError, ValueError: As the classes.
    """
    try:
        return TimmViTPatchBackbone(
            model_name, img_size=img_size, out_norm=out_norm, device=device, checkpoint=checkpoint, crop=crop
        )
    except NoPatchTokensError:
        return TimmPooledBackbone(model_name, img_size=img_size, device=device, checkpoint=checkpoint, crop=crop)


def own_input(model_name: str) -> tuple[int, int]:
    """Return the (height, width) that a model has by itself, in pixels; nothing is built or fetched.

    Raises:
        BackboneError: As the classes, of a model that is neither.
    """
    import timm

    _require_known(model_name)
    try:
        return Blueprint.of(model_name, timm.create_model).input_hw
    except NoPatchTokensError:
        return Blueprint.of_pooled(model_name, timm.create_model).input_hw


def _require_known(name: str) -> None:
    import timm

    source, colon, repo_id = name.partition(":")
    if colon:  # "hf-hub:" and "local-dir:" name a source of their own
        if source == "hf-hub":
            require_hub(repo_id, name)
        return
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"Did you mean {', '.join(close)}?" if close else 'Look through timm.list_models("*vit*").'
        raise BackboneError(f"timm {timm.__version__} has no model named {architecture!r}. {hint}")
    tags = [known.partition(".")[2] for known in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        has = ", ".join(tags) or "none"
        raise BackboneError(f"timm {timm.__version__} has no weights tagged {tag!r} for {architecture}; it has {has}.")


def _pair(img_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    pair = (img_size, img_size) if isinstance(img_size, int) else img_size
    if pair is not None and (len(pair) != 2 or min(pair) < 1):
        raise ValueError(f"`img_size` must be a positive number of pixels or (height, width); got {img_size}.")
    return pair
