"""A map as a ranking of the picture's pixels: are the highest ones those of the object? With the level of chance.

::

    top area        |the highest share q of the seen area, and target| / (q |seen|)                               (1)
    rank accuracy   |the highest |target| of the seen area, and target| / |target|                                (2)
    AUC             P(map(x) > map(x')) + P(map(x) = map(x')) / 2,  x in the target, x' outside of it             (3)

All are exact for the picture of a map that is constant in each place (``carrot.evaluation.cells``), without drawing it:
a place is as many equal pixels as it has area, in the target and outside of it. Equal pixels are taken in every order,
and the mean is given. What the crop cut off, target or not, counts nowhere.

Chance: 1/2 for (3), whatever the boxes. For (1) and (2) what a constant map gets, |seen and target| / |seen|; where
boxes overlap, the mean of random maps (``localisation.RANDOM_MAPS``), which rank the middle highest, and lowest, more
often. (2) is 0, as is its chance, where nothing of the target was seen; (3) is None there, and where nothing else was.

Reference: Fawcett, Pattern Recognition Letters 27 (2006), for (3) with ties; Arras et al., Information Fusion 81
(2022), for (2); (1) is the mask relevance of the library CaBRNet (Xu-Darme et al., xAI 2024).
"""

from typing import SupportsFloat

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from carrot.evaluation.cells import Places
from carrot.evaluation.localisation import random_heights, values_of
from carrot.evaluation.targets import Target, area_inside
from carrot.utils import require_positive

AUC_CHANCE = 0.5
ROUNDING = 1e-9  # of the seen area: what areas that are nothing may come to, differences of sums over the mask


def rank_accuracy(values: ArrayLike | Tensor, boxes: Float[Tensor, "N 4"], target: Target) -> float:
    """Return the share of the target's seen area that the map's highest pixels, as many, find: equation (2).

    Args:
        values: N numbers in any shape, row-major as the regions are; without global regions.
        boxes: (x0, y0, x1, y1) of each region in pixels of the original picture.
        target: Mask (img_h, img_w) of booleans, or ``carrot.data.records.Box``, of the original picture.

    Raises:
        ValueError: Numbers don't match, a box is turned inside out, leaves the mask, or is not finite.
        TypeError: The mask is not boolean.
    """
    places, inside = _seen(boxes, target)
    return _found(places.heights(values_of(values, boxes)[:, None]), places.area, inside, float(inside.sum()))


def rank_accuracy_chance(boxes: Float[Tensor, "N 4"], target: Target) -> float:
    """Return what a map that knows nothing gets at ``rank_accuracy``.

    Raises:
        ValueError, TypeError: As ``rank_accuracy``.
    """
    places, inside = _seen(boxes, target)
    return _chance(places, inside, float(inside.sum()))


def top_area_inside(
    values: ArrayLike | Tensor, boxes: Float[Tensor, "N 4"], target: Target, q: SupportsFloat = 0.1
) -> float:
    """Return the share of the map's highest pixels that lie in the target: equation (1).

    Args:
        values: As for ``rank_accuracy``.
        boxes: As for ``rank_accuracy``.
        target: As for ``rank_accuracy``.
        q: Which share of the seen area counts as highest, in (0, 1].

    Raises:
        ValueError, TypeError: As ``rank_accuracy``; ``q`` is out of range.
    """
    places, inside = _seen(boxes, target)
    taken = _share(q) * float(places.area.sum())
    return _found(places.heights(values_of(values, boxes)[:, None]), places.area, inside, taken)


def top_area_chance(boxes: Float[Tensor, "N 4"], target: Target, q: SupportsFloat = 0.1) -> float:
    """Return what a map that knows nothing gets at ``top_area_inside``.

    Raises:
        ValueError, TypeError: As ``top_area_inside``.
    """
    places, inside = _seen(boxes, target)
    return _chance(places, inside, _share(q) * float(places.area.sum()))


def localisation_auc(values: ArrayLike | Tensor, boxes: Float[Tensor, "N 4"], target: Target) -> float | None:
    """Return the area under the ROC curve of the map as a score for the target, equation (3); chance is 1/2.

    None where the seen picture is all target, or none of it.

    Args:
        values: As for ``rank_accuracy``.
        boxes: As for ``rank_accuracy``.
        target: As for ``rank_accuracy``.

    Raises:
        ValueError, TypeError: As ``rank_accuracy``.
    """
    places, inside = _seen(boxes, target)
    heights = places.heights(values_of(values, boxes)[:, None])
    outside = places.area - inside
    if min(float(inside.sum()), float(outside.sum())) <= ROUNDING * float(places.area.sum()):
        return None
    p, n = _by_height(heights, inside)[:, 0], _by_height(heights, outside)[:, 0]
    lower = n.sum() - n.cumsum(dim=0)
    return min(1.0, float(p @ (lower + n / 2) / (p.sum() * n.sum())))


def _seen(boxes: Tensor, target: Target) -> tuple[Places, Float[Tensor, " K"]]:
    """Return the places of a map, and the area of each inside the target."""
    places = Places.of(boxes)
    return places, area_inside(places.boxes, target).minimum(places.area)


def _by_height(heights: Tensor, amounts: Tensor) -> Float[Tensor, "K n"]:
    """Return amounts (K,) of n maps' places summed by height, the highest first; equal heights are one entry."""
    order = heights.argsort(dim=0, descending=True)
    ranked = heights.gather(0, order)
    is_lower = torch.cat([torch.zeros_like(ranked[:1], dtype=torch.long), (ranked.diff(dim=0) != 0).long()])
    return torch.zeros_like(heights).scatter_add_(0, is_lower.cumsum(dim=0), amounts[order])


def _found(heights: Tensor, area: Tensor, inside: Tensor, taken: float) -> float:
    """Return the share that is inside of so much area, taken where maps are highest: the mean over maps."""
    if taken <= 0.0:
        return 0.0
    a, p = _by_height(heights, area), _by_height(heights, inside)
    before = a.cumsum(dim=0) - a
    part = torch.where(a > 0, ((taken - before) / a).clamp(0.0, 1.0), 0.0)
    return min(1.0, float((part * p).sum(dim=0).mean()) / taken)


def _chance(places: Places, inside: Tensor, taken: float) -> float:
    if places.share is None:
        return float(inside.sum() / places.area.sum()) if taken > 0.0 else 0.0
    return _found(random_heights(places), places.area, inside, taken)


def _share(q: SupportsFloat) -> float:
    number = require_positive("q", q)
    if number > 1.0:
        raise ValueError(f"`q` must be a share of the seen area, in (0, 1]; got {number}.")
    return number
