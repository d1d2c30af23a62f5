"""A model's own preprocessing, as timm's configuration states it: a picture to the model's input."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from carrot._ambient import pinned_class
from carrot._images import upright_rgb
from carrot._vit.geometry import CropMode, Geometry

Crop = Literal["model", "squash", "border"]

MAX_RESIZED_PIXELS = 2**27  # 400 MB of RGB: what a very long picture would become before its middle is cut out


@pinned_class
@dataclass(frozen=True)
class PictureTransform:
    """A model's own preprocessing: resize, crop, scale to [0, 1], normalise. Called on a PIL picture."""

    input_hw: tuple[int, int]
    crop_pct: float
    crop_mode: CropMode
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any], input_hw: tuple[int, int], crop: Crop) -> "PictureTransform":
        """Return the preprocessing that timm's configuration states, at this input size."""
        mode, pct = (config["crop_mode"], float(config["crop_pct"])) if crop == "model" else (crop, 1.0)
        return cls(input_hw, pct, mode, config["interpolation"], tuple(config["mean"]), tuple(config["std"]))

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 img_h img_w"]:
        """Return the model's input for one picture, made upright and RGB first as ``carrot.data.open_image`` does.

        Raises:
            TypeError: Not a PIL image.
            UnreadableImageError: It can't be decoded, or has no defined white.
            ValueError: A picture too long and narrow for the crop.
        """
        if not isinstance(image, Image.Image):
            raise TypeError(f"`image` must be a PIL image; got {type(image).__name__}.")
        image = upright_rgb(image, "`image`")
        resized_h, resized_w = self.geometry(image.size).resized_hw
        if resized_h * resized_w > MAX_RESIZED_PIXELS:
            raise ValueError(
                f"A picture of {image.width} x {image.height} pixels would be resized to {resized_w} x {resized_h}"
                ' before its middle is cut out. Cut it, or build the backbone with crop="squash".'
            )
        tensor: Tensor = self._timm(image)
        return tensor

    def geometry(self, image_size: tuple[int, int]) -> Geometry:
        """Return the way of a picture of (width, height), PIL's ``size``, through this transform."""
        return Geometry.of((image_size[1], image_size[0]), self.input_hw, self.crop_pct, self.crop_mode)

    @cached_property
    def _timm(self) -> Any:
        from timm.data.transforms_factory import create_transform

        return create_transform(
            input_size=(3, *self.input_hw),
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
        )
