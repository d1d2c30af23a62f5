"""What every frozen timm model is to CARROT, whatever is read from it: weights, input, preprocessing, fingerprint."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carrot._ambient import pinned_class
from carrot._vit import compiling
from carrot._vit.blueprint import Blueprint
from carrot._vit.checkpoints import digest, named_weights, unwrapped, version_of, weights_file
from carrot._vit.geometry import Geometry
from carrot._vit.transform import Crop, PictureTransform
from carrot.errors import BackboneError
from carrot.utils import existing_device


@pinned_class
class TimmBackbone(nn.Module):
    """A timm model without its head, built from a blueprint; ``carrot.backbone`` has the two kinds.

    Attributes:
        transform: The preprocessing, :class:`PictureTransform`.
        checkpoint: The file that the weights came from, if they came from one.
        input_hw: Size of the input it was built for.
        grid_hw: Rows and columns of patches; (1, 1) where the input as a whole has one feature.
        patch_hw: Size of a patch, in input pixels.
        embed_dim: D.
        num_prefix_tokens: K.
        attention: Whether the class token's attention is read.
        out_norm: Whether features are those that the model's own head receives.
        freeze: Whether it never trains.
    """

    attention = False
    out_norm = True

    def __init__(
        self,
        plan: Blueprint,
        pretrained: bool,
        freeze: bool,
        device: str | torch.device | None,
        checkpoint: str | Path | None,
        crop: Crop,
    ) -> None:
        super().__init__()
        self.input_hw, self.grid_hw, self.patch_hw = plan.input_hw, plan.layout.grid_hw, plan.layout.patch_hw
        self.embed_dim, self.num_prefix_tokens = plan.layout.embed_dim, plan.layout.num_prefix_tokens
        self.freeze = freeze
        self.transform = PictureTransform.of(plan.config, plan.input_hw, crop)
        self._keys = tuple(plan.shapes)
        self.checkpoint = None if checkpoint is None else weights_file(checkpoint).absolute()
        self.model = plan.load(self.checkpoint) if self.checkpoint else plan.fetch() if pretrained else plan.build()
        self._weights = f"file {self.checkpoint.name}" if self.checkpoint else "pretrained" if pretrained else "random"
        self._name, self._license = plan.full_name, plan.config.get("license")
        self._fingerprint: tuple[object, str] = (None, "")
        self.model.to(existing_device(device) if isinstance(device, str) else device)
        self.model.requires_grad_(not freeze)
        self.train(False)

    @staticmethod
    def require_arguments(crop: str, device: str | torch.device | None) -> None:
        """Refuse what costs nothing to know.

        Raises:
            ValueError: There is no such crop, or the device isn't there.
        """
        if crop not in ("model", "squash", "border"):
            raise ValueError(f'`crop` must be "model", "squash" or "border"; got {crop!r}.')
        if isinstance(device, str):
            existing_device(device)

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where ``x`` must be."""
        return next(self.bare_model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights, and of ``x``."""
        return next(self.bare_model.parameters()).dtype

    @property
    def bare_model(self) -> nn.Module:
        """``model`` without what was put around it since (``torch.compile``, ``DataParallel``): what runs."""
        return unwrapped(self.model)

    @property
    def has_class_token(self) -> bool:
        """Whether the first prefix token is a class token (and not a register, say)."""
        return self.num_prefix_tokens > 0 and getattr(self.bare_model, "cls_token", None) is not None

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Set the training mode, as for any module; a frozen backbone stays in evaluation mode."""
        return super().train(mode and not self.freeze)

    @property
    def compiled(self) -> bool:
        """Whether its blocks run compiled; every pass must then have the same number of inputs."""
        return compiling.is_compiled(self.bare_model)

    def compile_blocks(self, inputs: int) -> str:
        """Compile its blocks, ``torch.compile``, for passes of ``inputs`` inputs, and check them against torch's own.

        Returns:
            Why it can't be, and then it runs as before; "" where it is done.
        """
        x = torch.randn(inputs, 3, *self.input_hw, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return compiling.compile_checked(self.bare_model, self.pooled, x.to(self.device, self.dtype))

    def __getstate__(self) -> dict[str, object]:
        state = {name: value for name, value in self.__dict__.items() if name != "_compiled_call_impl"}
        return {**state, "_compiled_blocks": self.compiled}

    def __setstate__(self, state: dict[str, object]) -> None:
        compiled = state.pop("_compiled_blocks", False)
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if compiled:  # a copy, or another process: the kernels stay behind, and are made again when it first runs
            compiling.start_compiling(self.bare_model)

    def pooled(self, x: Float[Tensor, "B 3 img_h img_w"]) -> Float[Tensor, "B D"]:
        """Return one feature of each input."""
        raise TypeError(f"{type(self).__name__} must say its own `pooled`.")

    def geometry(self, image_size: tuple[int, int]) -> Geometry:
        """Return the way of a picture of (width, height), PIL's ``size``, through :attr:`transform`."""
        return self.transform.geometry(image_size)

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of everything that features depend on.

        That is every weight and its precision, the architecture, the input size, the preprocessing and ``out_norm``;
        not the kernels that it runs by (a device's, compiled ones), nor where the weights came from. It is computed
        again only after the weights have changed.
        A ``model`` that lost some since is refused with a ``BackboneError``.
        """
        now = version_of(tensors := named_weights(self._name, self.bare_model, self._keys))
        if now is None or self._fingerprint[0] != now:
            context = {"model": self._name, **self._context(), "transform": asdict(self.transform)}
            self._fingerprint = (now, digest(tensors, json.dumps(context, sort_keys=True)))
        return self._fingerprint[1]

    def _context(self) -> dict[str, object]:
        """Return what features depend on beside weights and preprocessing."""
        return {"out_norm": self.out_norm}

    def describe(self) -> dict[str, object]:
        """Return what a report should say of the backbone, JSON-ready."""
        return {
            "model": self._name,
            "weights": self._weights,
            "license": self._license,
            "fingerprint": self.fingerprint(),
            "input_hw": list(self.input_hw),
            "grid_hw": list(self.grid_hw),
            "patch_hw": list(self.patch_hw),
            "embed_dim": self.embed_dim,
            "num_prefix_tokens": self.num_prefix_tokens,
            "transform": asdict(self.transform),
            "timm": version("timm"),
            "torch": str(torch.__version__),
        }

    def _check_input(self, x: Tensor) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"`x` must be a tensor; got {type(x).__name__}. Use backbone.transform(image)[None].")
        if x.dtype != self.dtype:
            raise TypeError(
                f"`x` must be {self.dtype}, as the weights are; got {x.dtype}. backbone.transform gives float32."
            )
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"`x` must be (B, 3, img_h, img_w); got {tuple(x.shape)}.")
        if x.device != self.device:
            raise ValueError(f"`x` must be on {self.device}, as the weights are; got {x.device}.")
        if not torch.isfinite(x).all():
            raise ValueError("`x` must be finite; got NaN or infinity. Look for the picture that brought them.")
        img_h, img_w = x.shape[2:]
        if (img_h, img_w) != self.input_hw and not self._takes(img_h, img_w):
            raise BackboneError(
                f"{self._name} was built for inputs of {self.input_hw[0]} x {self.input_hw[1]} pixels (height x width);"
                f" got {img_h} x {img_w}. Build it with img_size=({img_h}, {img_w})."
            )

    def _takes(self, img_h: int, img_w: int) -> bool:
        """Return whether it takes inputs of another size than it was built for."""
        return False
