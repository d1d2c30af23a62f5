"""A backbone as a model remembers it: what builds it again."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from carrot._vit.base import TimmBackbone
from carrot._vit.transform import Crop
from carrot.backbone import TimmPooledBackbone, TimmViTPatchBackbone, backbone_for_tiles, own_input
from carrot.embedding.setting import TILE_SIZE
from carrot.errors import BackboneError, ModelError

DEFAULT_MODEL = "vit_small_patch14_reg4_dinov2.lvd142m"
TOY = "toy"
PRECISIONS = {name: getattr(torch, name) for name in ("float16", "float32", "bfloat16", "float64")}
Precision = Literal["float32", "bfloat16", "float16", "float64"]


@dataclass(frozen=True)
class BackboneSpec:
    """The arguments of ``TimmViTPatchBackbone``, or ``TimmPooledBackbone``, that tokens depend on, JSON-ready.

    Attributes:
        name: timm's name, or "toy": the small model with weights in this package, which knows toy birds only.
        checkpoint: File of local weights, absolute; None: timm fetches them.
        img_size: Side of the input in pixels, or (height, width); None: the model's own.
        crop: As ``TimmViTPatchBackbone`` has it; "toy" is always "squash".
        out_norm: As ``TimmViTPatchBackbone`` has it.
        precision: Of the weights, and of all that the backbone computes.
    """

    name: str = DEFAULT_MODEL
    checkpoint: str | None = None
    img_size: int | tuple[int, int] | None = None
    crop: Crop = "model"
    out_norm: bool = True
    precision: str = "float32"

    @classmethod
    def of(cls, backbone: TimmBackbone) -> "BackboneSpec":
        """Return what is known of a backbone built elsewhere; ``Encoder.rebuilds`` says whether that is all."""
        mode = backbone.transform.crop_mode
        crop: Crop = "squash" if mode == "squash" else "border" if mode == "border" else "model"
        path = None if backbone.checkpoint is None else str(backbone.checkpoint)
        precision = str(backbone.dtype).removeprefix("torch.")
        return cls(str(backbone.describe()["model"]), path, backbone.input_hw, crop, backbone.out_norm, precision)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "BackboneSpec":
        """Return the spec that ``to_json`` wrote."""
        size = found["img_size"]
        return cls(
            found["name"],
            found["checkpoint"],
            tuple(size) if isinstance(size, list) else size,
            found["crop"],
            found.get("out_norm", True),
            found.get("precision", "float32"),
        )

    def to_json(self) -> dict[str, object]:
        """Return it as plain JSON."""
        return {**asdict(self), "img_size": list(self.img_size) if isinstance(self.img_size, tuple) else self.img_size}

    def build(
        self, device: str | torch.device, attention: bool | None = None, tile_size: int | None = None
    ) -> TimmViTPatchBackbone | TimmPooledBackbone:
        """Return the backbone, which reads its attention if it has one.

        Args:
            device: Where it runs.
            attention: As ``TimmViTPatchBackbone`` has it, for patches.
            tile_size: For tiles: side of the input instead of ``img_size``; 0: ``TILE_SIZE``, or the backbone's own
                where that is smaller, or where it takes no other. A model without patch tokens is then a
                ``TimmPooledBackbone``.

        Raises:
            BackboneError, CheckpointError, HubUnreachableError: As ``TimmViTPatchBackbone``.
            ModelError: The checkpoint is not there any more.
        """
        dtype = PRECISIONS.get(self.precision)
        if dtype is None:
            raise ModelError(
                f"{self.name} in {self.precision!r}: this CARROT knows the precisions {', '.join(PRECISIONS)}."
            )
        if self.name == TOY:
            from carrot.data.toy import EMBEDDED_MODEL, embedded_checkpoint

            weights = embedded_checkpoint()
            toy = TimmViTPatchBackbone(
                EMBEDDED_MODEL,
                device=device,
                checkpoint=weights,
                crop="squash",
                attention=attention if tile_size is None else False,
            )
            return toy.to(dtype)
        if self.checkpoint is not None and not Path(self.checkpoint).exists():
            raise ModelError(
                f"{self.checkpoint}: there is no such file. Give the weights of {self.name}: `checkpoint=`."
            )
        if tile_size is not None:
            return self._for_tiles(device, tile_size).to(dtype)
        built = TimmViTPatchBackbone(
            self.name,
            img_size=self.img_size,
            out_norm=self.out_norm,
            device=device,
            checkpoint=self.checkpoint,
            crop=self.crop,
            attention=attention,
        )
        return built.to(dtype)

    @property
    def own_input(self) -> tuple[int, int]:
        """(height, width) of the input for whole pictures, in pixels."""
        if self.img_size is not None:
            return (self.img_size, self.img_size) if isinstance(self.img_size, int) else self.img_size
        return own_input(self.name)

    def _for_tiles(self, device: str | torch.device, tile_size: int) -> TimmViTPatchBackbone | TimmPooledBackbone:
        build = partial(
            backbone_for_tiles,
            self.name,
            out_norm=self.out_norm,
            device=device,
            checkpoint=self.checkpoint,
            crop=self.crop,
        )
        if tile_size:
            try:
                return build(img_size=tile_size)
            except BackboneError as error:
                raise BackboneError(f"`tile_size` = {tile_size}: {error}") from error
        if min(self.own_input) > TILE_SIZE:
            with suppress(BackboneError):
                return build(img_size=TILE_SIZE)
        return build(img_size=self.img_size)
