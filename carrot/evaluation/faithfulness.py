"""Does the logit fall when what a map calls important goes away? At token level exactly, at pixel level by occlusion.

Two families of numbers, never to be compared with each other:

token level
    Regions are dropped from the graph (``carrot.removal``); the other tokens have still seen them. Exact for
    tokens -> logit.
pixel level
    Patches of the model's input are replaced by a fill and the backbone runs again. It depends on the fill, and on
    how the backbone takes to pictures that it has never seen the like of.

::

    area = sum_k (f_{k+1} - f_k) (c_k + c_{k+1}) / 2      c over the fraction f in [0, 1] dropped or inserted      (1)

The area is the mean of the curve over fractions: in units of what the curve holds (logits, here), whatever the number
of regions. Deletion: lower is better; insertion: higher. Only differences between maps, or from orders drawn at random,
say something.

Reference: Samek et al., IEEE TNNLS 28 (2017); Petsiuk et al., BMVC 2018; Bluecher et al., TMLR 2024, for the gain.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from carrot._display.brief import brief
from carrot.utils import require_finite, whole_number

BATCH = 16  # pictures that the backbone gets at once
TIES = 0  # seed of the order in which equal values come

Predict = Callable[[Tensor], Tensor]


def area(curve: Float[Tensor, " K"], fractions: Float[Tensor, " K"] | None = None) -> float:
    """Return the area under a curve, equation (1): its mean over fractions, by the trapezoid rule.

    Args:
        curve: One class's logits (or probabilities) after each step, K >= 2.
        fractions: Where the steps are, from 0 to 1, increasing; default: equally spaced.

    Raises:
        ValueError: There are fewer than two steps, values are not finite, or fractions don't run from 0 to 1.
    """
    if curve.ndim != 1 or len(curve) < 2:
        raise ValueError(f"`curve` must be (R + 1,), one class after each of R >= 1 steps; got {tuple(curve.shape)}.")
    require_finite("curve", curve)
    c = curve.double()
    f = torch.linspace(0.0, 1.0, len(c), dtype=torch.float64) if fractions is None else fractions.double()
    if f.shape != c.shape or float(f[0]) != 0.0 or float(f[-1]) != 1.0 or not bool((f.diff() > 0).all()):
        raise ValueError(
            f"`fractions` must be {len(c)} increasing numbers from 0 to 1, as the curve has; got {f.tolist()[:10]}."
        )
    return float(f.diff().to(c.device) @ (c[1:] + c[:-1])) / 2


def order_of(values: Real[Tensor, "..."]) -> Int[Tensor, " N"]:
    """Return the regions by value, the largest first; equal ones in an order that is arbitrary but always the same.

    In reading order a map with many equal values would be scored for where the picture's top is.

    Args:
        values: A number for each region, row-major in any shape.

    Raises:
        ValueError: There is no value, or one is NaN or infinite.
    """
    v = values.flatten()
    if not len(v):
        raise ValueError("`values` must hold a number for each region; got none.")
    require_finite("values", v)
    mixed = torch.randperm(len(v), generator=torch.Generator().manual_seed(TIES)).to(v.device)
    return mixed[torch.argsort(v[mixed], descending=True, stable=True)]


def random_areas(
    curve: Callable[[Tensor], Tensor], N: SupportsIndex, n_orders: SupportsIndex = 20, seed: SupportsIndex = 0
) -> tuple[float, float]:
    """Return the mean area under the curves of random orders, and its standard error: what knowing nothing gets.

    Args:
        curve: Order (N,) -> curve (R + 1,), at token or at pixel level.
        N: Number of regions.
        n_orders: How many orders, at least 2.
        seed: Of the orders.

    Raises:
        ValueError: ``n_orders`` is below 2, or N below 1.
    """
    n_orders, N = whole_number("n_orders", n_orders, 2, what=", for a standard error"), whole_number("N", N, 1)
    generator = torch.Generator().manual_seed(whole_number("seed", seed))
    areas = [area(curve(torch.randperm(N, generator=generator))) for _ in range(n_orders)]
    return statistics.fmean(areas), statistics.stdev(areas) / math.sqrt(n_orders)


def relevance_gain(
    deletion: Float[Tensor, " K"], insertion: Float[Tensor, " K"], fractions: Float[Tensor, " K"] | None = None
) -> float:
    """Return the area between two deletion curves, least important first less most important first: higher is better.

    The former is the insertion curve read backwards, so one order's two curves are enough. It is 0 for a map that knows
    nothing. What a fill does to every picture alike cancels, which makes it the number to report at pixel level.

    Args:
        deletion: Of an order, most important first.
        insertion: Of the same order.
        fractions: Of both, as for ``area``.

    Raises:
        ValueError: As ``area``.
    """
    return area(insertion, fractions) - area(deletion, fractions)


@dataclass(frozen=True, eq=False)
class OcclusionCurves:
    """Pixel level: all logits while patches of the input are filled in, or uncovered.

    Attributes:
        fractions: Share of the regions that the step has dealt with, from 0 to 1.
        deletion: Logits with the first ones of the order filled; the last row is a picture of fill alone.
        insertion: Logits with only the first ones of the order to be seen; the last row is the picture.
    """

    fractions: Float[Tensor, " K"]
    deletion: Float[Tensor, "K C"]
    insertion: Float[Tensor, "K C"]

    __repr__ = brief


def occlusion_curves(
    predict: Predict,
    x: Float[Tensor, "3 img_h img_w"],
    boxes_in_input: Real[Tensor, "N 4"],
    order: Int[Tensor, " N"],
    steps: SupportsIndex,
    fill: Float[Tensor, "3 #img_h #img_w"] | None = None,
) -> OcclusionCurves:
    """Return the logits while regions of the model's input are filled in and uncovered, **at pixel level**.

    The backbone runs on 2 steps pictures: insertion begins where deletion ends.

    Args:
        predict: Batch of inputs -> logits (B, C).
        x: The input, after the transform.
        boxes_in_input: (x0, y0, x1, y1) of each region in whole pixels of the input; ``input_boxes``.
        order: The regions, most important first.
        steps: In how many steps, 1 .. N; the regions are dealt out as evenly as whole numbers allow.
        fill: What stands for nothing; default 0, the mean colour after normalisation.

    Raises:
        ValueError: The input or the fill is not finite, or the fill's shape doesn't fit; boxes leave the input, are
            empty or not in whole pixels; ``order`` is no permutation; ``steps`` is out of range.
        TypeError: ``order`` is not made of integers.
    """
    masks, counts = _masks(x, boxes_in_input, order, steps)
    gone = _logits(predict, x, fill, masks)
    shown = _logits(predict, x, fill, ~masks[1:-1]) if len(masks) > 2 else gone[:0]  # no backbone takes an empty batch
    return OcclusionCurves(counts.double() / len(order), gone, torch.cat([gone[-1:], shown, gone[:1]]))


def input_boxes(grid_hw: tuple[int, int], input_hw: tuple[int, int]) -> Int[Tensor, "N 4"]:
    """Return the box (x0, y0, x1, y1) of each patch of a grid in pixels of the model's input, row-major.

    Raises:
        ValueError: The grid doesn't tile the input.
    """
    (gh, gw), (img_h, img_w) = grid_hw, input_hw
    if gh < 1 or gw < 1 or img_h % gh or img_w % gw:
        raise ValueError(f"`grid_hw` must tile the input of {img_h} x {img_w} pixels; got {gh} x {gw} patches.")
    row, column = torch.meshgrid(torch.arange(gh), torch.arange(gw), indexing="ij")
    size = torch.tensor([img_w // gw, img_h // gh])
    corner = torch.stack([column, row], dim=-1).reshape(-1, 2) * size
    return torch.cat([corner, corner + size], dim=1)


def _masks(
    x: Tensor, boxes: Tensor, order: Tensor, steps: SupportsIndex
) -> tuple[Bool[Tensor, "K h w"], Int[Tensor, " K"]]:
    """Return what is filled in after each step, (steps + 1, img_h, img_w), and how many regions that is."""
    N, (img_h, img_w) = len(boxes), x.shape[-2:]
    require_finite("x", x)
    if order.is_floating_point() or order.dtype == torch.bool:
        raise TypeError(f"`order` must be integers, indices of regions; got {order.dtype}. Use `order_of(values)`.")
    if not torch.equal(order.cpu().sort().values, torch.arange(N)):
        raise ValueError(
            f"`order` must be a permutation of the regions 0 .. {N - 1}; got {order.tolist()[:10]}, {len(order)} in "
            "all."
        )
    steps = whole_number("steps", steps, 1, N, ", the number of regions")
    b = boxes.cpu().long()
    limit = torch.tensor([img_w, img_h])
    fits = (b[:, :2] >= 0).all() and (b[:, :2] < b[:, 2:]).all() and (b[:, 2:] <= limit).all()
    if not bool(fits) or not torch.equal(b.double(), boxes.cpu().double()):
        raise ValueError(
            f"`boxes_in_input` must be (x0, y0, x1, y1) in whole pixels of the input, {img_h} x {img_w}, none of them "
            "empty. Boxes in the original picture's pixels belong to localisation."
        )
    counts = torch.round(torch.linspace(0, N, steps + 1, dtype=torch.float64)).long()
    masks = torch.zeros(steps + 1, img_h, img_w, dtype=torch.bool)
    for step in range(1, steps + 1):
        masks[step] = masks[step - 1]
        for region in order[int(counts[step - 1]) : int(counts[step])].tolist():
            x0, y0, x1, y1 = b[region].tolist()
            masks[step, y0:y1, x0:x1] = True
    return masks, counts


def _logits(predict: Predict, x: Tensor, fill: Tensor | None, masks: Tensor) -> Float[Tensor, "K C"]:
    """Return the logits of x with the fill where each mask is True; float64, on the processor."""
    nothing = torch.zeros_like(x[:, :1, :1]) if fill is None else fill.to(x)
    require_finite("fill", nothing)
    if nothing.ndim != 3 or any(n not in (1, m) for n, m in zip(nothing.shape, x.shape, strict=True)):
        raise ValueError(f"`fill` must be {tuple(x.shape)}, or 1 where it doesn't vary; got {tuple(nothing.shape)}.")
    found = []
    for block in masks.split(BATCH):
        logits = predict(torch.where(block[:, None].to(x.device), nothing, x))
        if logits.ndim != 2 or len(logits) != len(block):
            raise ValueError(
                f"`predict` must return logits ({len(block)}, C), a row for each input; got {tuple(logits.shape)}."
            )
        found.append(logits.detach().double().cpu())
    return torch.cat(found)
