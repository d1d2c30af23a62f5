"""Where a patch lies in the original picture: the evaluation transform, followed backwards.

The transform of a timm model resizes the picture, then cuts the middle out of it (or pads it). Both are affine, and the
axes never mix, so a point x of the original and its place u in the model's input are tied by

    u = x * resized / original - offset,        x = (u + offset) * original / resized                       (1)

once per axis, where ``offset`` is what the crop removes at the left or the top (negative: what the padding adds).

Coordinates are continuous and in pixels: pixel i covers [i, i + 1) and its centre is i + 0.5. Points are (x, y), sizes
(height, width), boxes (x0, y0, x1, y1).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Real
from torch import Tensor

from carrot._ambient import pinned_class

CropMode = Literal["center", "squash", "border"]


@pinned_class
@dataclass(frozen=True)
class Geometry:
    """The way of one picture to the model's input, and back (equation 1 of the module).

    Attributes:
        original_hw: Size of the picture, in pixels.
        resized_hw: Its size after the resizing, before the crop.
        input_hw: Size of the model's input.
        offset_hw: Rows and columns that the crop removes at the top and the left; negative where padding adds them.

    Exactness: exact for the affine map; a patch's mean coordinate under the real transform is within 0.02 model
        pixels of it, and 0.2 at the picture's border, where the interpolation clamps
        (``test_geometry.py::test_matches_the_real_transform``).
    """

    original_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    input_hw: tuple[int, int]
    offset_hw: tuple[int, int]

    @classmethod
    def of(
        cls, original_hw: tuple[int, int], input_hw: tuple[int, int], crop_pct: float, crop_mode: CropMode = "center"
    ) -> "Geometry":
        """Return the geometry of timm's evaluation transform for a picture of this size.

        Args:
            original_hw: Size of the picture, in pixels.
            input_hw: Size of the model's input, in pixels.
            crop_pct: Share of the resized side that the crop keeps; above 1 the crop pads.
            crop_mode: ``"center"`` keeps the shape and cuts the long side, ``"squash"`` stretches both sides to the
                input's, ``"border"`` keeps the shape and pads the short side.

        Raises:
            ValueError: For sizes or a ``crop_pct`` that aren't positive, an unknown mode, and a picture so long and
                narrow that its short side vanishes.
        """
        if min(*original_hw, *input_hw) < 1 or not crop_pct > 0:
            raise ValueError(
                f"Sizes and `crop_pct` must be positive; got original_hw={original_hw}, input_hw={input_hw}, "
                f"crop_pct={crop_pct}."
            )
        scale_hw = (math.floor(input_hw[0] / crop_pct), math.floor(input_hw[1] / crop_pct))
        resized_hw = _resized(original_hw, scale_hw, crop_mode)
        if min(resized_hw) < 1:
            raise ValueError(
                f"A picture of {original_hw[0]} x {original_hw[1]} pixels (height x width) is too long and narrow for "
                f'crop_mode="{crop_mode}": its short side would become zero pixels. Cut it, or use "squash".'
            )
        offset_h, offset_w = (_offset(r, i) for r, i in zip(resized_hw, input_hw, strict=True))
        return cls(original_hw, resized_hw, input_hw, (offset_h, offset_w))

    def to_original(self, points: Real[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Return where (x, y) points of the model's input lie in the original, in its pixels and float64."""
        original, resized, offset = self._xy(points.device)
        return (points.to(torch.float64) + offset) * original / resized

    def patch_boxes(self, grid_hw: tuple[int, int]) -> Float[Tensor, "N 4"]:
        """Return each patch's box (x0, y0, x1, y1) in original pixels, row-major, float64.

        Boxes end where the picture ends: a patch made of padding alone has an empty box.

        Raises:
            ValueError: If the grid doesn't tile the model's input.
        """
        patch_h, patch_w = self._patch_hw(grid_hw)
        y, x = torch.meshgrid(
            torch.arange(grid_hw[0], dtype=torch.float64) * patch_h,
            torch.arange(grid_hw[1], dtype=torch.float64) * patch_w,
            indexing="ij",
        )
        corner = torch.stack([x, y], dim=-1).reshape(-1, 2)  # (N, 2), the upper left one
        size = torch.tensor([patch_w, patch_h], dtype=torch.float64)
        limit = torch.tensor(self.original_hw[::-1], dtype=torch.float64)
        corners = [self.to_original(c).clamp(min=0).minimum(limit) for c in (corner, corner + size)]
        return torch.cat(corners, dim=-1)  # (N, 4)

    @property
    def coverage(self) -> float:
        """The share of the original's area that the model sees, in (0, 1]."""
        x0, y0, x1, y1 = self.patch_boxes((1, 1))[0].tolist()
        return float((x1 - x0) * (y1 - y0) / (self.original_hw[0] * self.original_hw[1]))

    def _patch_hw(self, grid_hw: tuple[int, int]) -> tuple[int, int]:
        (gh, gw), (img_h, img_w) = grid_hw, self.input_hw
        if gh < 1 or gw < 1 or img_h % gh or img_w % gw:
            raise ValueError(
                f"`grid_hw` must tile the model's input of {img_h} x {img_w} pixels; got {gh} x {gw} patches."
                " Use the grid_hw of the backbone that this geometry belongs to."
            )
        return img_h // gh, img_w // gw

    def _xy(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        sizes = (self.original_hw, self.resized_hw, self.offset_hw)
        original, resized, offset = (torch.tensor(s[::-1], dtype=torch.float64, device=device) for s in sizes)
        return original, resized, offset


def _resized(original_hw: tuple[int, int], scale_hw: tuple[int, int], crop_mode: str) -> tuple[int, int]:
    """Return the size after resizing: ``scale_hw`` exactly, or the picture's shape fitted inside it or around it."""
    (img_h, img_w), (scale_h, scale_w) = original_hw, scale_hw
    if crop_mode == "squash":
        return scale_hw
    if crop_mode == "border":
        ratio = max(img_h / scale_h, img_w / scale_w)
    elif crop_mode == "center" and scale_h == scale_w:  # torchvision's rule: the long side is cut to whole pixels
        short, long = min(original_hw), max(original_hw)
        fitted = int(scale_h * long / short)
        return (scale_h, fitted) if img_h <= img_w else (fitted, scale_h)
    elif crop_mode == "center":
        ratio = min(img_h / scale_h, img_w / scale_w)
    else:
        raise ValueError(f'`crop_mode` must be "center", "squash" or "border"; got "{crop_mode}".')
    return round(img_h / ratio), round(img_w / ratio)


def _offset(resized: int, wanted: int) -> int:
    """Return what a centred crop removes before the picture, or minus what a centred padding adds."""
    return round((resized - wanted) / 2.0) if resized >= wanted else -((wanted - resized) // 2)
