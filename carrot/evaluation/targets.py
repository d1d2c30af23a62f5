"""What a map should point at: a mask (pixel (row i, column j) covers [j, j + 1) x [i, i + 1)), a box, or a few points.

Areas are exact: the integral of a mask over a box is a bilinear interpolation of the mask's cumulated sums.
"""

import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor

from carrot.data.records import Box
from carrot.evaluation.inputs import as_tensor
from carrot.utils import require_finite

Target = Box | ArrayLike | Tensor


def box_mask(box: Box, image_hw: tuple[int, int]) -> Bool[Tensor, "img_h img_w"]:
    """Return the mask of the pixels whose centres lie in a box.

    The measures take the ``Box`` itself too, to the fraction.

    Raises:
        ValueError: The box is not finite or of a negative size, or the picture has no pixel.
    """
    require_pixels(image_hw)
    x0, y0, x1, y1 = _corners(box)
    y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in image_hw)
    return ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None, :]


def area_inside(boxes: Float[Tensor, "K 4"], target: Target) -> Float[Tensor, " K"]:
    """Return the area of each box's part inside the target.

    Raises:
        ValueError: A box leaves the mask, or the target is no mask and no box of a size >= 0.
        TypeError: The mask is not boolean.
    """
    b = boxes.detach().cpu().double()
    if not isinstance(target, Box):
        return _integral(_mask(target, b), b)
    x0, y0, x1, y1 = _corners(target)
    width = (b[:, 2].clamp(max=x1) - b[:, 0].clamp(min=x0)).clamp(min=0)
    height = (b[:, 3].clamp(max=y1) - b[:, 1].clamp(min=y0)).clamp(min=0)
    return width * height


def centre_inside(boxes: Float[Tensor, "K 4"], target: Target) -> Bool[Tensor, " K"]:
    """Return whose centre lies inside the target; an empty box has none.

    Raises:
        ValueError, TypeError: As ``area_inside``.
    """
    b = boxes.detach().cpu().double()
    is_seen = (b[:, 2:] > b[:, :2]).all(dim=1)
    x, y = ((b[:, :2] + b[:, 2:]) / 2).unbind(dim=1)
    if isinstance(target, Box):
        x0, y0, x1, y1 = _corners(target)
        return is_seen & (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    mask = _mask(target, b)
    img_h, img_w = mask.shape
    return is_seen & mask[y.long().clamp(max=img_h - 1), x.long().clamp(max=img_w - 1)]


def require_pixels(image_hw: tuple[int, int]) -> None:
    """Refuse a size that no picture has.

    Raises:
        ValueError: It is not two numbers, each at least 1.
    """
    if len(image_hw) != 2 or min(image_hw) < 1:
        raise ValueError(f"`image_hw` must be (height, width), each at least 1; got {image_hw}.")


def checked_points(points: ArrayLike | Tensor) -> Float[Tensor, "K 2"]:
    """Return points (x, y) in float64; there may be none.

    Raises:
        ValueError: They are not (K, 2), or not finite.
    """
    p = as_tensor(points).double()
    if p.numel() and (p.ndim != 2 or p.shape[1] != 2):
        raise ValueError(f"`points` must be (K, 2), (x, y) of each part; got {tuple(p.shape)}.")
    require_finite("points", p)
    return p.reshape(-1, 2)


def _corners(box: Box) -> tuple[float, float, float, float]:
    x, y, width, height = (float(u) for u in box)
    if not (all(abs(u) < float("inf") for u in (x, y, width, height)) and width >= 0 and height >= 0):
        raise ValueError(f"A target's box must be finite and of a size >= 0; got {box}.")
    return x, y, x + width, y + height


def _mask(target: ArrayLike | Tensor, boxes: Tensor) -> Bool[Tensor, "img_h img_w"]:
    """Return the mask, once the boxes lie in it."""
    mask = as_tensor(target)
    if mask.dtype != torch.bool:
        raise TypeError(f"`target` must be a mask of booleans, or a Box; got {mask.dtype}. Compare it: `mask > 0`.")
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(f"`target` must be a mask (img_h, img_w); got {tuple(mask.shape)}.")
    (img_h, img_w), (x, y) = mask.shape, (float(boxes[:, k].max()) for k in (2, 3))
    if float(boxes.min()) < 0 or x > img_w + 1e-6 or y > img_h + 1e-6:
        raise ValueError(
            f"`boxes` must lie in the mask's {img_h} x {img_w} pixels (height x width); got x up to {x:.1f}, y up to "
            f"{y:.1f}. Give both in the original picture's pixels."
        )
    return mask


def _integral(mask: Tensor, b: Tensor) -> Float[Tensor, " N"]:
    """Return the mask's area in each box: S(x1, y1) - S(x0, y1) - S(x1, y0) + S(x0, y0), S bilinear between pixels."""
    img_h, img_w = mask.shape
    S = torch.zeros(img_h + 1, img_w + 1, dtype=torch.float64)
    S[1:, 1:] = mask.double().cumsum(dim=0).cumsum(dim=1)

    def at(x: Tensor, y: Tensor) -> Tensor:
        i, j = y.long().clamp(max=img_h - 1), x.long().clamp(max=img_w - 1)
        u, v = x - j, y - i
        return (1 - v) * ((1 - u) * S[i, j] + u * S[i, j + 1]) + v * ((1 - u) * S[i + 1, j] + u * S[i + 1, j + 1])

    x0, y0, x1, y1 = b.unbind(dim=1)
    return (at(x1, y1) - at(x0, y1) - at(x1, y0) + at(x0, y0)).clamp(min=0.0)
