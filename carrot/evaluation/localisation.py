"""Does a map over regions point at the object? Measured in the original picture's pixels, beside the level of chance.

A target is a mask (pixel (row i, column j) covers [j, j + 1) x [i, i + 1)), or a box, or a few points. What the model
didn't see, because the crop cut it off, counts nowhere: shares are of the seen area, the union of the regions' boxes.

::

    pointing   is the centre of the strongest region inside?             chance: the share of regions whose centre is
    energy     sum_i max(v_i, 0) |box_i and target| / |box_i|  /  sum_i max(v_i, 0)
                                                                         chance: |seen and target| / |seen|
    points     does the strongest region hold a part's point?            chance: the share of regions that hold one
    parts      is a part near the centre of the strongest region?        chance: the share of regions that one is near

Chance is what a random map gets, or a constant one. Areas are exact (``carrot.evaluation.targets``). Regions that tie
for the strongest share the hit, so a constant map points nowhere in particular. A map without a positive value still
has a strongest region, but no energy: None. A region that shows nothing of the picture (padding) has an empty box: it
never hits, its energy is outside, and chance doesn't count it. Where chance is 0 (an empty mask, a target outside of
the crop, one so small that no centre lies in it) no map could hit: ``Localisation`` leaves the picture out and counts
it.

Boxes that overlap (tiles) are cut into cells of constant density, and read "cell" for "region"
(``carrot.evaluation.cells``): v_i is the integral of the map over cell i, the strongest cell is that of the highest
density, cells that tie share by area. Disjoint regions are compared by value as ever, whatever their areas: the two
differ only for boxes of unlike sizes. Chance then is, of pointing, points and parts, the mean hit of ``RANDOM_MAPS``
maps whose regions have independent normal values (drawn once and for all; the standard error is at most 0.008): where
more or smaller tiles lie, a random map peaks more often, and objects stand in the middle. Of energy it is the share
sum_r |box_r and target| / sum_r |box_r|: what a map gets that has the same density in each region.

Reference: Zhang et al., IJCV 126 (2018), for the pointing game; Wang et al., CVPR workshops 2020, for the energy; Huang
et al., ICCV 2023, for the reach around a part (there, of prototypes).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, SupportsFloat

import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor

from carrot._display.brief import brief
from carrot.evaluation.cells import Places, areas
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.inputs import as_tensor
from carrot.evaluation.targets import Target, area_inside, box_mask, centre_inside, checked_points, require_pixels
from carrot.utils import require_finite, require_positive

__all__ = [
    "Chance",
    "Localisation",
    "Parts",
    "box_mask",
    "centre_map",
    "chance",
    "energy_inside",
    "parts_chance",
    "parts_hit",
    "pointing_hit",
    "points_chance",
    "points_hit",
]

RANDOM_MAPS = 4096  # of which chance is the mean, where boxes overlap
REACH = 36 / 224  # of the picture's sides: half the side of the box around a peak in which a part counts as hit


class Chance(NamedTuple):
    """What a map that knows nothing gets on one picture, in [0, 1]."""

    pointing: float
    energy: float


class Parts(NamedTuple):
    """How well the parts of an object were hit, each in [0, 1].

    Attributes:
        each: By part, in the order of the points.
        any: Whether one of them was.
    """

    each: Float[Tensor, " K"]
    any: float

    def __repr__(self) -> str:
        return brief(self)


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
        boxes: (x0, y0, x1, y1) of each region in pixels of the original picture, such as ``Geometry.patch_boxes``.
        target: Mask (img_h, img_w) of booleans, or ``carrot.data.records.Box``, of the original picture.

    Raises:
        ValueError: Numbers don't match, a box is turned inside out, leaves the mask, or is not finite.
        TypeError: The mask is not boolean.
    """
    places = Places.of(boxes)
    return _mean(centre_inside(places.boxes, target), _peak(values_of(values, boxes), places))


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
    v, places = values_of(values, boxes), Places.of(boxes)
    positive = places.masses(v).clamp(min=0.0)
    inside = area_inside(places.boxes, target)
    largest = float(positive.max())
    if largest == 0.0:
        return None
    positive = positive / largest  # so that the sum can't overflow
    share = torch.where(places.area > 0, inside / places.area, 0.0).clamp(max=1.0)
    return min(1.0, float((positive @ share) / positive.sum()))


def chance(boxes: Float[Tensor, "N 4"], target: Target) -> Chance:
    """Return what a random map gets at ``pointing_hit``, and a constant one at ``energy_inside``.

    Raises:
        ValueError, TypeError: As ``pointing_hit``.
    """
    places, area = Places.of(boxes), areas(boxes)
    pointing = _mean(centre_inside(places.boxes, target), _random_peak(places))
    return Chance(pointing, min(1.0, float(area_inside(boxes, target).sum() / area.sum())))


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
    places = Places.of(boxes)
    return _mean(_holds_point(places, points), _peak(values_of(values, boxes), places))


def points_chance(boxes: Float[Tensor, "N 4"], points: ArrayLike | Tensor) -> float:
    """Return what a random map gets at ``points_hit``: the share of the regions that hold a point.

    Raises:
        ValueError: As ``points_hit``.
    """
    places = Places.of(boxes)
    return _mean(_holds_point(places, points), _random_peak(places))


def parts_hit(
    values: ArrayLike | Tensor,
    boxes: Float[Tensor, "N 4"],
    points: ArrayLike | Tensor,
    image_hw: tuple[int, int],
    reach: SupportsFloat = REACH,
) -> Parts:
    """Return which visible parts lie near the map's peak, the centre of the strongest region, and whether one does.

    Near is within ``reach`` of the picture's width and height on either side of the peak, borders included: 36 of 224
    pixels, the box of 72 in which Huang et al. look for a prototype's part.

    Args:
        values: As for ``pointing_hit``.
        boxes: As for ``pointing_hit``.
        points: (K, 2), (x, y) of each visible part in pixels of the original picture; K may be 0.
        image_hw: Height and width of the original picture.
        reach: Share of the sides, above 0.

    Raises:
        ValueError: Shapes are wrong, a number is not finite, the picture has no pixel, or ``reach`` is not above 0.
    """
    places = Places.of(boxes)
    return _parts(places, _peak(values_of(values, boxes), places), points, image_hw, reach)


def parts_chance(
    boxes: Float[Tensor, "N 4"], points: ArrayLike | Tensor, image_hw: tuple[int, int], reach: SupportsFloat = REACH
) -> Parts:
    """Return what a random map gets at ``parts_hit``.

    Raises:
        ValueError: As ``parts_hit``.
    """
    places = Places.of(boxes)
    return _parts(places, _random_peak(places), points, image_hw, reach)


def centre_map(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """Return the map that knows only that objects are in the middle: a Gaussian there, a quarter of the seen size wide.

    The baseline that a map has to beat: photographers centre what they photograph. 0 for an empty box.
    """
    area, b = areas(boxes), boxes.detach().cpu().double()
    low, high = b[area > 0, :2].amin(dim=0), b[area > 0, 2:].amax(dim=0)
    z = ((b[:, :2] + b[:, 2:]) / 2 - (low + high) / 2) / ((high - low) / 4)
    return torch.where(area > 0, torch.exp(-0.5 * z.square().sum(dim=1)), 0.0)


def values_of(values: ArrayLike | Tensor, boxes: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """Return a number for each region in float64, row-major.

    Raises:
        ValueError: They are not one real, finite number for each box.
    """
    v = as_tensor(values)
    if v.dtype == torch.bool or v.is_complex() or v.numel() != len(boxes) or not len(boxes):
        raise ValueError(
            f"`values` must be one real number for each of the {len(boxes)} boxes; got {tuple(v.shape)} of {v.dtype}. "
            "Leave global regions out: they have no place in the picture."
        )
    require_finite("values", v)
    return v.double().flatten()


def random_heights(places: Places) -> Float[Tensor, "K RANDOM_MAPS"]:
    """Return ``RANDOM_MAPS`` maps over regions with independent normal values, always the same."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(places.regions, RANDOM_MAPS, generator=generator, dtype=torch.float64)
    return places.heights(z)


def _peak(v: Tensor, places: Places) -> Float[Tensor, " K"]:
    """Return the weights of the places at which a map is highest: equal ones of regions, areas of cells."""
    height = places.heights(v[:, None])[:, 0]
    is_highest = (height == height.max()).double()
    return is_highest if places.share is None else is_highest * places.area


def _random_peak(places: Places) -> Float[Tensor, " K"]:
    """Return how often each place is where a random map is highest, up to a factor."""
    if places.share is None:
        return (places.area > 0).double()
    height = random_heights(places)
    highest = (height == height.amax(dim=0)) * places.area[:, None]
    return (highest / highest.sum(dim=0)).sum(dim=1)


def _mean(hit: Tensor, weights: Tensor) -> float:
    return float((hit * weights).sum() / weights.sum())


def _holds_point(places: Places, points: ArrayLike | Tensor) -> Bool[Tensor, " K"]:
    p, b = checked_points(points), places.boxes[:, None]
    return ((p >= b[..., :2]) & (p < b[..., 2:])).all(dim=2).any(dim=1)


def _parts(
    places: Places, weights: Tensor, points: ArrayLike | Tensor, image_hw: tuple[int, int], reach: SupportsFloat
) -> Parts:
    p, near = checked_points(points), require_positive("reach", reach)
    require_pixels(image_hw)
    limit = near * torch.tensor(image_hw[::-1], dtype=torch.float64)
    hit = ((places.centres[:, None] - p).abs() <= limit).all(dim=2) & (places.area > 0)[:, None]  # (K, points)
    each = torch.tensor([_mean(h, weights) for h in hit.unbind(dim=1)], dtype=torch.float64)
    return Parts(each, _mean(hit.any(dim=1), weights))
