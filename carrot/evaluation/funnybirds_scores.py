"""FunnyBirds' scores of many pictures: means, the threshold that is best for them all, and standard errors.

The rules of one picture, and the numbers of these equations, are ``carrot.evaluation.funnybirds``'s.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._display.brief import brief
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.funnybirds import THRESHOLDS

COM = {"data_check": 1 / 6, "preservation": 1 / 6, "deletion": 1 / 6, "distractibility": 1 / 2}  # (10); and (9), twice


@dataclass(frozen=True, eq=False)
class PictureScores:
    """One picture's part in every score; NaN where a score isn't defined for it.

    Attributes:
        is_correct: Whether it is classified rightly.
        data_check: CSDC at each threshold; so PC, DC and D.
        preservation, deletion, distractibility: See there.
        single_deletion: SD over the parts that can be seen.
        single_deletion_all: SD over all parts, hidden ones too.
        target_sensitivity: TS.
        objects: How many objects can be seen.
        needed: How many of those the logit needs.
        total: Sum of the map for the predicted class.
    """

    is_correct: bool
    data_check: Float[Tensor, " 80"]
    preservation: Float[Tensor, " 80"]
    deletion: Float[Tensor, " 80"]
    distractibility: Float[Tensor, " 80"]
    single_deletion: float
    single_deletion_all: float
    target_sensitivity: float
    objects: int
    needed: int
    total: float

    __repr__ = brief


@dataclass(frozen=True)
class FunnyBirdsScores:
    """All scores of one classifier and one explainer; the n of each says how many pictures it is defined for.

    Attributes:
        accuracy: Top-1.
        data_check, preservation, deletion, distractibility: CSDC, PC, DC and D at ``threshold``.
        single_deletion, single_deletion_all: SD over the parts that can be seen, and over all.
        target_sensitivity: TS.
        background_independence: B.I.
        threshold: tau*.
        completeness: Com.
        mean: mX of Com, SD and TS.
        not_positive: Pictures whose map for the predicted class sums to 0 or less.
    """

    accuracy: Estimate
    data_check: Estimate
    preservation: Estimate
    deletion: Estimate
    distractibility: Estimate
    single_deletion: Estimate
    single_deletion_all: Estimate
    target_sensitivity: Estimate
    background_independence: Estimate
    threshold: float
    completeness: Estimate
    mean: Estimate
    not_positive: int

    @classmethod
    def of(cls, pictures: Sequence[PictureScores]) -> "FunnyBirdsScores":
        """Average over pictures, (9) and (10).

        Standard errors are those of means of independent pictures, tau* held; a mean of scores knows that they come
        from the same pictures.

        Raises:
            ValueError: There is no picture.
        """
        if not pictures:
            raise ValueError("`pictures` must hold the scores of at least one picture; got none.")

        def column(of: Callable[[PictureScores], float]) -> Tensor:
            return torch.tensor([float(of(picture)) for picture in pictures], dtype=torch.float64)

        curves = {
            name: torch.stack([getattr(picture, name) for picture in pictures])
            for name in ("data_check", "preservation", "deletion", "distractibility")
        }
        means = [w * curves[name].nanmean(dim=0).nan_to_num(0.0) for name, w in COM.items()]
        best = int(torch.stack(means).sum(dim=0).argmax())
        at_best = {name: _mean(curve[:, best]) for name, curve in curves.items()}
        com = [(at_best[name], w) for name, w in COM.items()]
        sd, ts = _mean(column(lambda p: p.single_deletion)), _mean(column(lambda p: p.target_sensitivity))
        objects, needed = column(lambda p: p.objects), column(lambda p: p.needed)
        return cls(
            accuracy=_estimate((_mean(column(lambda p: p.is_correct)), 1.0)),
            data_check=_estimate((at_best["data_check"], 1.0)),
            preservation=_estimate((at_best["preservation"], 1.0)),
            deletion=_estimate((at_best["deletion"], 1.0)),
            distractibility=_estimate((at_best["distractibility"], 1.0)),
            single_deletion=_estimate((sd, 1.0)),
            single_deletion_all=_estimate((_mean(column(lambda p: p.single_deletion_all)), 1.0)),
            target_sensitivity=_estimate((ts, 1.0)),
            background_independence=_estimate((_Ratio.of(objects - needed, objects), 1.0)),
            threshold=float(THRESHOLDS[best]),
            completeness=_estimate(*com),
            mean=_estimate(*((score, w / 3) for score, w in com), (sd, 1 / 3), (ts, 1 / 3)),
            not_positive=sum(picture.total <= 0.0 for picture in pictures),
        )


class _Ratio(NamedTuple):
    """sum(x) / sum(n) over pictures: a mean, or a share of objects."""

    value: float
    pull: Tensor  # of each picture: how much less it would be without it, to first order
    n: int  # pictures with n > 0

    @classmethod
    def of(cls, x: Tensor, n: Tensor) -> "_Ratio":
        value = float(x.sum() / n.sum())
        return cls(value, (x - value * n) / n.sum(), int((n > 0).sum()))


def _mean(values: Tensor) -> _Ratio:
    """Return the mean of what is defined."""
    return _Ratio.of(values.nan_to_num(0.0), (~values.isnan()).double())


def _estimate(*weighted: tuple[_Ratio, float]) -> Estimate:
    """Return a weighted sum of means over the same pictures, and its standard error; n is that of the rarest."""
    n = min(score.n for score, _ in weighted)
    if n == 0:
        return Estimate(None, None, 0)
    value = math.fsum(w * score.value for score, w in weighted)
    pull = torch.stack([w * score.pull for score, w in weighted]).sum(dim=0)
    return Estimate(value, math.sqrt(float(pull @ pull) * n / (n - 1)) if n > 1 else None, n)
