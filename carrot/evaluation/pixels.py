"""Which regions hold something of a mask: what measures by parts and masks ask for."""

import torch
from jaxtyping import Bool, Real
from torch import Tensor

from carrot.tiling import coverage


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
    rows, columns = ((covered > 0.0).double() for covered in coverage(boxes, (masks.shape[1], masks.shape[2])))
    return torch.einsum("nh,thn->tn", rows, masks.double() @ columns.T) > 0.0
