"""FunnyBirds: does an explanation know which parts of a bird made the classifier say so? Importances in, numbers out.

A species is a variant of each of K parts; a picture can be rendered again without any part or object. With f the logit
of the true class c, x the picture, x - T the picture without the things T, and a threshold tau::

    a_p      importance of thing p: sum of the map inside p's mask, dilated by a 5 x 5 maximum                      (1)
    P        {p: a_p > tau sum(a map)}, what the map calls important                                                (2)
    CSDC     max_S |P & S| / |S|, S the minimal sufficient part sets of c; pictures classified rightly              (3)
    PC       1 if argmax(x - parts not in P) is still argmax(x);  DC: 1 if argmax(x - P) is not; map of argmax(x)   (4)
    D        1 - |P & I| / |I|, I = {parts and objects p: f(x) - f(x - p) < .05 |f(x)|}                             (5)
    SD       (1 + Spearman_p(a_p, f(x) - f(x - p))) / 2, over parts                                                 (6)
    TS       of classes c1, c2 that share parts A1, A2 with c, two each, disjoint: the mean of
             a^c1(A1) > a^c2(A1) and a^c2(A2) > a^c1(A2); pictures where removing A1 and A2 confirms it             (7)
    B.I.     1 - (objects that f needs, f(x) - f(x - o) >= .05 |f(x)|) / objects; no explanation asked              (8)
    tau*     the first of 80 thresholds, .01 to .5, with the largest mean (CSDC + PC + DC) / 3 + D                  (9)
    Com      ((CSDC + PC + DC) / 3 + D) / 2 at tau*;  Cor = SD;  Con = TS;  mX = (Com + Cor + Con) / 3             (10)

tau* is chosen on the pictures that it is reported on, as published: Com is a little optimistic.

What the definitions leave open, and what is done here:

- *Minimal* sufficient sets are those without a sufficient proper subset, as in the authors' code, not the smallest.
- A map that sums to 0 or less has no share of itself: by (2) all that is above a negative number is important. That is
  kept, as published (completeness is free then, and distractibility pays for it); ``not_positive`` counts the pictures.
  A map told relative to the mean training picture sums to logit less prior, which ridge on one-hot targets makes >= 0
  for the predicted class of balanced data.
- A thing of which no pixel can be seen, hidden by others, takes part in (2), (5), (6) and (8) no more: it has no
  importance and no effect, and every map would get that right. The authors' code counts such things;
  ``single_deletion_all`` is (6) in their way.
- A class without such a pair takes no part in TS, (7). What is constant has no Spearman: left out, as published.

Reference: Hesse, Schaub-Meyer & Roth, "FunnyBirds", ICCV 2023.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from carrot.utils import require_finite

THRESHOLDS = torch.linspace(0.01, 0.5, 80, dtype=torch.float64)
NEGLIGIBLE = 0.05  # of |f(x)|
DILATION = 5  # pixels

PartSet = frozenset[int]


def part_importance(attribution: Real[Tensor, "h w"], masks: Bool[Tensor, "T h w"]) -> Float[Tensor, " T"]:
    """Return the sum of a pixel map inside each thing's dilated mask, (1); 0 for an empty mask.

    Dilated masks overlap: what lies between two things counts for both.

    Raises:
        ValueError: Sizes differ, or the map isn't finite.
        TypeError: The masks aren't boolean.
    """
    if masks.dtype != torch.bool:
        raise TypeError(f"`masks` must be boolean, True where a thing is seen; got {masks.dtype}.")
    if attribution.ndim != 2 or masks.ndim != 3 or masks.shape[1:] != attribution.shape:
        raise ValueError(
            f"`attribution` must be (h, w), a number for each pixel of `masks` (T, h, w); got "
            f"{tuple(attribution.shape)} and {tuple(masks.shape)}. Enlarge the map to the picture first."
        )
    require_finite("attribution", attribution)
    dilated = torch.nn.functional.max_pool2d(masks.double()[:, None], DILATION, stride=1, padding=DILATION // 2)[:, 0]
    return (dilated * attribution.double()).sum(dim=(1, 2))


def important_parts(importance: Float[Tensor, " T"], total: float) -> Bool[Tensor, "80 T"]:
    """Return what is important at each of ``THRESHOLDS``, (2); ``total`` is the sum of the whole map."""
    return importance > THRESHOLDS[:, None] * total


def minimal_sufficient_sets(variants: Int[Tensor, "C K"], c: int) -> tuple[PartSet, ...]:
    """Return the sets of parts whose variants no class but c has together, and of which no proper subset does.

    Raises:
        ValueError: Another class has all of c's variants.
    """
    others = _shared(variants, c)
    found: list[PartSet] = []
    for size in range(1, variants.shape[1] + 1):
        for parts in map(frozenset, itertools.combinations(range(variants.shape[1]), size)):
            if not any(other >= parts for other in others.values()) and not any(known < parts for known in found):
                found.append(parts)
    if not found:
        raise ValueError(f"`variants` must tell class {c} from every other; another row is the same.")
    return tuple(found)


class DisjointPair(NamedTuple):
    """Two classes that share disjoint sets of parts with a third: see ``disjoint_pair``."""

    first: int
    second: int
    shared_first: PartSet
    shared_second: PartSet


def disjoint_pair(variants: Int[Tensor, "C K"], c: int, size: int = 2) -> DisjointPair | None:
    """Return the first two classes that share exactly ``size`` parts with class c and none of them both; or None."""
    sharing = {other: parts for other, parts in _shared(variants, c).items() if len(parts) == size}
    for (one, A), (two, B) in itertools.combinations(sharing.items(), 2):
        if not A & B:
            return DisjointPair(one, two, A, B)
    return None


def data_check(important: Bool[Tensor, "80 T"], sufficient: Sequence[PartSet]) -> Float[Tensor, " 80"]:
    """Return CSDC of one picture at each threshold, (3); parts are the first of the T things."""
    shares = [important[:, sorted(parts)].double().mean(dim=1) for parts in sufficient]
    return torch.stack(shares).amax(dim=0)


def distractibility(
    important: Bool[Tensor, "80 T"], effects: Float[Tensor, " T"], logit: float, seen: Bool[Tensor, " T"]
) -> Float[Tensor, " 80"]:
    """Return D of one picture at each threshold, (5); NaN where nothing is irrelevant.

    Args:
        important: Of parts and objects.
        effects: f(x) - f(x without the thing).
        logit: f(x).
        seen: Things of which a pixel is to be seen.
    """
    irrelevant = (effects < NEGLIGIBLE * abs(logit)) & seen
    return 1.0 - important[:, irrelevant].double().mean(dim=1)


def single_deletion(importance: Float[Tensor, " K"], effects: Float[Tensor, " K"]) -> float:
    """Return SD of one picture, (6); NaN where either is constant, or there are fewer than two parts."""
    a, b = (_ranks(values) for values in (importance, effects))
    size = math.sqrt(float((a @ a) * (b @ b)))
    return (1.0 + float(a @ b) / size) / 2.0 if size else math.nan


def target_sensitivity(
    pair: DisjointPair,
    importances: tuple[Float[Tensor, " K"], Float[Tensor, " K"]],
    logits: tuple[Float[Tensor, " C"], Float[Tensor, " C"]],
) -> float:
    """Return TS of one picture, (7): 0, 1/2 or 1; NaN if the removals don't confirm what it assumes.

    Confirmed is: the logit of c1 falls more when A1 is removed than when A2 is, and that of c2 the other way round.

    Args:
        pair: c1, c2, A1, A2.
        importances: Of the parts, from the maps for c1 and c2.
        logits: Of the picture without A1, and without A2.
    """
    c1, c2, A1, A2 = pair
    without_1, without_2 = logits
    if not (without_1[c1] < without_2[c1] and without_2[c2] < without_1[c2]):
        return math.nan
    first, second = ([float(values[sorted(A)].sum()) for A in (A1, A2)] for values in importances)
    return ((first[0] > second[0]) + (second[1] > first[1])) / 2.0


def needed_objects(effects: Float[Tensor, " O"], logit: float) -> int:
    """Return how many objects' removal lowers f by ``NEGLIGIBLE`` or more, (8)."""
    return int(((effects > 0.0) & (effects >= NEGLIGIBLE * abs(logit))).sum())


def _shared(variants: Tensor, c: int) -> dict[int, PartSet]:
    """Return which parts each other class shares with c."""
    same = (variants == variants[c]).tolist()
    return {k: frozenset(p for p, is_same in enumerate(row) if is_same) for k, row in enumerate(same) if k != c}


def _ranks(values: Tensor) -> Tensor:
    """Return twice the ranks less their mean; equal values share theirs."""
    return (values[:, None] - values[None, :]).sign().double().sum(dim=1)
