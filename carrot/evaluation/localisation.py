"""Does a map over regions point at the object? Measured in the original picture's pixels, beside the level of chance.

A target is a mask (pixel (row i, column j) covers [j, j + 1) x [i, i + 1)), or a box, or a few points. What the model
didn't see, because the crop cut it off, counts nowhere: shares are of the seen area, the union of the regions' boxes.

::

    pointing   is the centre of the strongest region inside?             chance: the share of regions whose centre is
    energy     sum_i max(v_i, 0) |box_i and target| / |box_i|  /  sum_i max(v_i, 0)
                                                                         chance: |seen and target| / |seen|
    points     does the strongest region hold a part's point?            chance: the share of regions that hold one

Chance is what a random map gets, or a constant one. Areas are exact: the integral of a mask over a box is a bilinear
interpolation of the mask's cumulated sums. Regions that tie for the strongest share the hit, so a constant map points
nowhere in particular. A map without a positive value still has a strongest region, but no energy: None. A region that
shows nothing of the picture (padding) has an empty box: it never hits, its energy is outside, and chance doesn't count
it. Where chance is 0 (an empty mask, a target outside of the crop, one so small that no centre lies in it) no map could
hit: ``Localisation`` leaves the picture out and counts it.

Reference: Zhang et al., IJCV 126 (2018), for the pointing game; Wang et al., CVPR workshops 2020, for the energy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor

from carrot.data.records import Box
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.inputs import as_tensor
from carrot.utils import require_finite

Target = Box | ArrayLike | Tensor


class Chance(NamedTuple):
    """What a map that knows nothing gets on one picture, in [0, 1]."""

    pointing: float
    energy: float


@dataclass(frozen=True)
class Localisation:
    """What maps score on many pictures.

    Attributes:
        score: Mean of the values.
        chance: Mean of their levels of chance.
        gain: Mean of value less chance, picture by picture: its standard error knows that both belong together.
        undefined: How many pictures were left out, because chance was 0: no map could hit.
    """

    score: Estimate
    chance: Estimate
    gain: Estimate
    undefined: int

    @classmethod
    def of(cls, values: Iterable[tuple[float, float]]) -> "Localisation":
        """Average (value, chance) over pictures.

        Raises:
            ValueError: A number is not in [0, 1].
        """
        found = [(float(value), float(chance)) for value, chance in values]
        for pair in found:
            if not all(0.0 <= number <= 1.0 for number in pair):
                raise ValueError(f"`values` must be pairs (value, chance), each in [0, 1]; got {pair}.")
        there = [(value, chance) for value, chance in found if chance > 0.0]
        return cls(
            Estimate.of(value for value, _ in there),
            Estimate.of(chance for _, chance in there),
            Estimate.of(value - chance for value, chance in there),
            len(found) - len(there),
        )


def pointing_hit(values: ArrayLike | Tensor, boxes: Float[Tensor, "N 4"], target: Target) -> float:
    """Return 1 if the centre of the strongest region falls inside the target, else 0; the share of those that tie.

    Args:
        values: N numbers in any shape, row-major as the regions are; without global regions.
        boxes: (x0, y0, x1, y1) of each region in pixels of the original picture, ``Geometry.patch_boxes``; disjoint.
        target: Mask (img_h, img_w) of booleans, or ``carrot.data.records.Box``, of the original picture.

    Raises:
        ValueError: Numbers don't match, a box is turned inside out, leaves the mask, or is not finite.
        TypeError: The mask is not boolean.
    """
    return _shared(_values(values, boxes), _centre_in(boxes, target))


def energy_inside(values: ArrayLike | Tensor, boxes: Float[Tensor, "N 4"], target: Target) -> float | None:
    """Return the share of the positive values' sum whose area lies inside the target; None if no value is positive.

    A region half inside gives half. Negative values count as 0.

    Args:
        values: As for ``pointing_hit``.
        boxes: As for ``pointing_hit``.
        target: As for ``pointing_hit``.

    Raises:
        ValueError, TypeError: As ``pointing_hit``.
    """
    positive = _values(values, boxes).clamp(min=0.0)
    area, inside = _areas(boxes, target)
    largest = float(positive.max())
    if largest == 0.0:
        return None
    positive = positive / largest  # so that the sum can't overflow
    share = torch.where(area > 0, inside / area, 0.0).clamp(max=1.0)
    return min(1.0, float((positive @ share) / positive.sum()))


def chance(boxes: Float[Tensor, "N 4"], target: Target) -> Chance:
    """Return what a random map gets at ``pointing_hit``, and a constant one at ``energy_inside``.

    Raises:
        ValueError, TypeError: As ``pointing_hit``.
    """
    area, inside = _areas(boxes, target)
    hits = _centre_in(boxes, target)[area > 0].double()
    return Chance(float(hits.mean()), min(1.0, float(inside.sum() / area.sum())))


def points_hit(values: ArrayLike | Tensor, boxes: Float[Tensor, "N 4"], points: ArrayLike | Tensor) -> float:
    """Return 1 if the strongest region holds a point (x, y) of a visible part, else 0; the share of those that tie.

    Points that no region holds were cropped away, and can't be hit.

    Args:
        values: As for ``pointing_hit``.
        boxes: As for ``pointing_hit``.
        points: (K, 2) in pixels of the original picture; K may be 0.

    Raises:
        ValueError: Shapes are wrong, or a number is not finite.
    """
    return _shared(_values(values, boxes), _holds_point(boxes, points))


def points_chance(boxes: Float[Tensor, "N 4"], points: ArrayLike | Tensor) -> float:
    """Return what a random map gets at ``points_hit``: the share of the regions that hold a point.

    Raises:
        ValueError: As ``points_hit``.
    """
    return float(_holds_point(boxes, points)[_area(boxes) > 0].double().mean())


def box_mask(box: Box, image_hw: tuple[int, int]) -> Bool[Tensor, "img_h img_w"]:
    """Return the mask of the pixels whose centres lie in a box.

    The other functions take the ``Box`` itself too, to the fraction.

    Raises:
        ValueError: The box is not finite or of a negative size, or the picture has no pixel.
    """
    if min(image_hw) < 1:
        raise ValueError(f"`image_hw` must be (height, width), each at least 1; got {image_hw}.")
    x0, y0, x1, y1 = _corners(box)
    y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in image_hw)
    return ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None, :]


def centre_map(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """Return the map that knows only that objects are in the middle: a Gaussian there, a quarter of the seen size wide.

    The baseline that a map has to beat: photographers centre what they photograph. 0 for an empty box.
    """
    area = _area(boxes)
    low, high = _span(boxes)
    z = (_centres(boxes) - (low + high) / 2) / ((high - low) / 4)
    return torch.where(area > 0, torch.exp(-0.5 * z.square().sum(dim=1)), 0.0)


def _values(values: ArrayLike | Tensor, boxes: Tensor) -> Float[Tensor, " N"]:
    v = as_tensor(values)
    if v.dtype == torch.bool or v.is_complex() or v.numel() != len(boxes) or not len(boxes):
        raise ValueError(
            f"`values` must be one real number for each of the {len(boxes)} boxes; got {tuple(v.shape)} of {v.dtype}. "
            "Leave global regions out: they have no place in the picture."
        )
    require_finite("values", v)
    return v.double().flatten()


def _shared(v: Tensor, hit: Tensor) -> float:
    """Return the share of the strongest regions that hit."""
    return float(hit[v == v.max()].double().mean())


def _area(boxes: Tensor) -> Float[Tensor, " N"]:
    """Return each box's area, once the boxes are boxes."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"`boxes` must be (N, 4), (x0, y0, x1, y1) of each region; got {tuple(boxes.shape)}.")
    require_finite("boxes", boxes)
    size = (boxes[:, 2:] - boxes[:, :2]).double()
    area = size.prod(dim=1)
    if bool((size < 0).any()) or not bool((area > 0).any()):
        raise ValueError(
            "`boxes` must be (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1, and one of them must not be empty."
        )
    low, high = _span(boxes)
    if float(area.sum()) > float((high - low).prod()) * (1 + 1e-6):
        raise ValueError("`boxes` must not overlap: their areas add up to more than the rectangle around them.")
    return area


def _span(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners of the seen rectangle: what all boxes that aren't empty span."""
    b = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)].double()
    return b[:, :2].min(dim=0).values, b[:, 2:].max(dim=0).values


def _centres(boxes: Tensor) -> Float[Tensor, "N 2"]:
    return (boxes[:, :2] + boxes[:, 2:]).double() / 2


def _areas(boxes: Tensor, target: Target) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Return each box's area, and that of its part inside the target."""
    area, b = _area(boxes), boxes.double()
    if not isinstance(target, Box):
        return area, _integral(_mask(target, boxes), b)
    x0, y0, x1, y1 = _corners(target)
    width = (b[:, 2].clamp(max=x1) - b[:, 0].clamp(min=x0)).clamp(min=0)
    height = (b[:, 3].clamp(max=y1) - b[:, 1].clamp(min=y0)).clamp(min=0)
    return area, width * height


def _centre_in(boxes: Tensor, target: Target) -> Bool[Tensor, " N"]:
    """Return whose centre lies inside; an empty box has none."""
    is_seen = _area(boxes) > 0
    x, y = _centres(boxes).unbind(dim=1)
    if isinstance(target, Box):
        x0, y0, x1, y1 = _corners(target)
        return is_seen & (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    mask = _mask(target, boxes)
    img_h, img_w = mask.shape
    return is_seen & mask[y.long().clamp(max=img_h - 1), x.long().clamp(max=img_w - 1)]


def _holds_point(boxes: Tensor, points: ArrayLike | Tensor) -> Bool[Tensor, " N"]:
    p = as_tensor(points).double()
    if p.numel() and (p.ndim != 2 or p.shape[1] != 2):
        raise ValueError(f"`points` must be (K, 2), (x, y) of each part; got {tuple(p.shape)}.")
    require_finite("points", p)
    _area(boxes)
    p, b = p.reshape(-1, 2), boxes[:, None].double()
    return ((p >= b[..., :2]) & (p < b[..., 2:])).all(dim=2).any(dim=1)


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

    x0, y0, x1, y1 = b.cpu().unbind(dim=1)
    return (at(x1, y1) - at(x0, y1) - at(x1, y0) + at(x0, y0)).clamp(min=0.0)
