"""Values of regions as a map over pixels: what pixel-level measures of any explainer ask for."""

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from carrot.utils import require_finite


def pixel_map(
    values: Real[Tensor, " N"], boxes: Real[Tensor, "N 4"], image_hw: tuple[int, int]
) -> Float[Tensor, "img_h img_w"]:
    """Return ``sum_i v_i |pixel and box_i| / |box_i|``: each value spread evenly over its box; overlaps add up.

    Its sum is that of the values whose boxes lie in the picture.

    Args:
        values: A number for each region, without global ones.
        boxes: (x0, y0, x1, y1) of each region in pixels of the picture, to the fraction. An empty one shows nothing of
            it.
        image_hw: Height and width of the picture.

    Raises:
        ValueError: Shapes don't match, or a number isn't finite.
    """
    if values.shape != (len(boxes),):
        raise ValueError(f"`values` must be ({len(boxes)},), one for each box; got {tuple(values.shape)}.")
    require_finite("values", values)
    rows, columns = _covered(boxes, image_hw)
    b = boxes.double()
    area = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])).clamp(min=0.0)
    density = torch.where(area > 0.0, values.double() / area.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    return (density[:, None] * rows).T @ columns


def boxes_meet(boxes: Real[Tensor, "N 4"], masks: Bool[Tensor, "T img_h img_w"]) -> Bool[Tensor, "T N"]:
    """Return which boxes hold something of a pixel of each mask.

    Raises:
        ValueError: Shapes don't match, or a number isn't finite.
        TypeError: The masks aren't boolean.
    """
    if masks.dtype != torch.bool:
        raise TypeError(f"`masks` must be boolean; got {masks.dtype}.")
    if masks.ndim != 3:
        raise ValueError(f"`masks` must be (T, img_h, img_w); got {tuple(masks.shape)}.")
    rows, columns = ((covered > 0.0).double() for covered in _covered(boxes, (masks.shape[1], masks.shape[2])))
    return torch.einsum("nh,thn->tn", rows, masks.double() @ columns.T) > 0.0


def _covered(boxes: Tensor, image_hw: tuple[int, int]) -> tuple[Float[Tensor, "N img_h"], Float[Tensor, "N img_w"]]:
    """Return how much of each row and of each column of pixels a box covers, in [0, 1]."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"`boxes` must be (N, 4), x0, y0, x1, y1 of each region; got {tuple(boxes.shape)}.")
    require_finite("boxes", boxes)
    b = boxes.double()

    def along(low: Tensor, high: Tensor, n: int) -> Tensor:
        edge = torch.arange(n, dtype=torch.float64)
        return (torch.minimum(high[:, None], edge + 1.0) - torch.maximum(low[:, None], edge)).clamp(min=0.0)

    return along(b[:, 1], b[:, 3], image_hw[0]), along(b[:, 0], b[:, 2], image_hw[1])
