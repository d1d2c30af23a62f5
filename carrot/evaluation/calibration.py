"""Probabilities from logits by one temperature, and how far they can be trusted: arrays in, numbers out.

Ridge logits are in units of the targets, not log-odds. One number makes them probabilities, p = softmax(logits / T),
and changes no ranking. With b = 1/T and d_ic = logit_ic - logit_i,y(i), minimise over b

::

    f(b)  = 1/n sum_i [ log sum_c exp(b d_ic) - b s/C sum_c d_ic ]        convex in b
    f'(b) = 1/n sum_i sum_c (p_ic - s/C) d_ic                             rises with b: at most one zero

the mean negative log likelihood where each label counts 1 - s and each class s/C, s = 1 / (n + 1): as if one label in
n + 1 were drawn at random, Laplace's rule of succession. Without it (s = 0) n pictures that are all right would make
every later one certain: T = 0. The best T is the zero of f', found in log b, and where f' keeps its sign a bound of T:

::

    f' < 0 for every b in reach: thousands right by very little     T = LOWEST spread
    f' > 0 for every b: on average the true class is no             T = HIGHEST spread
        higher than the mean of its picture's logits

``spread`` is the root mean square of the logits around the mean of their picture, so scaling the logits scales T.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import SupportsFloat, SupportsIndex

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot._ridge.blocks import blocks
from carrot.utils import require_finite, require_positive, require_tensor, whole_number

EPS = torch.finfo(torch.float64).eps
LOWEST, HIGHEST = 1e-3, 1e3  # bounds of T, in units of the logits' spread
FLOOR = torch.finfo(torch.float64).tiny  # 2.2e-308: the least probability whose logarithm is taken, -708.4
NEAR = 1e-6  # a step of Newton's method so small, of b, leaves its square
PASSES = 60  # at most, of logits so far from any guess that halves are taken
ROW_SUM = 1e-4  # how far from 1 the sum of a row of probabilities may be: float32 over many classes


def fit_temperature(
    logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"], counts: Float[Tensor, " n"] | None = None
) -> float:
    """Return the T that minimises the negative log likelihood of ``softmax(logits / T)``, to rounding.

    Labels are smoothed by 1 / (n + 1). T lies in [1e-3, 1e3] times the spread of the logits; no better than chance
    gives the upper bound (see above). Logits that are equal within every picture say nothing: T = 1.

    Exactness: exact given the bounds; ``test_temperature_is_the_best_of_a_dense_grid``.

    Args:
        logits: Of pictures that the model was not fitted on, such as leave-one-out logits.
        labels: Class indices in 0 .. C-1.
        counts: How many pictures each row stands for, > 0; default: 1. n is their sum.

    Raises:
        ValueError: Shapes don't match, there is no picture, a logit is NaN or infinite, or a label is out of range.
        TypeError: Logits are not floating point, or labels not integers.
    """
    from scipy.optimize import brentq

    y = _checked("logits", logits, labels)
    pieces = blocks(*logits.shape)
    size = max(float(logits.max()), -float(logits.min()))  # squares are taken of numbers in [-1, 1]
    if size == 0:
        return 1.0
    m = torch.ones(len(logits), dtype=torch.float64, device=logits.device) if counts is None else counts.to(y.device)
    n = float(m.sum())
    squares = sum(float(m[rows] @ _around_mean(logits[rows], size).square().sum(dim=1)) for rows in pieces)
    spread = size * math.sqrt(squares / (n * logits.shape[1]))
    if spread <= 8 * EPS * size:  # the rounding of the means
        return 1.0

    smoothing = 1.0 / ((n + 1) * logits.shape[1])

    def slope(log_b: float) -> float:
        """Return f' where b is in units of 1 / spread."""
        total = 0.0
        for rows in pieces:
            z = logits[rows].double()
            d = (z - z.gather(1, y[rows, None])) / spread  # (b, C)
            total += float(m[rows] @ torch.softmax(math.exp(log_b) * d, dim=1).sub_(smoothing).mul_(d).sum(dim=1))
        return total

    low, high = -math.log(HIGHEST), -math.log(LOWEST)
    if slope(low) >= 0:
        return HIGHEST * spread
    if slope(high) <= 0:
        return LOWEST * spread
    return spread * math.exp(-float(brentq(slope, low, high, xtol=1e-15, rtol=4 * EPS)))


@dataclass
class NewtonSums:
    """What some pictures add to a step of Newton's method at one b: equation (1)'s derivatives, and the spread."""

    C: int
    slope: float = 0.0
    curve: float = 0.0
    squares: float = 0.0
    size: float = 0.0

    @classmethod
    def of(cls, logits: Float[Tensor, "b C"], labels: Int[Tensor, " b"], b: float, n: int) -> "NewtonSums":
        """Return those of pictures, of n."""
        sums = cls(logits.shape[1])
        smoothing = 1.0 / ((n + 1) * sums.C)
        for rows in blocks(len(logits), sums.C, 1):  # so many stay near the processor
            z = logits[rows].double()
            d = z - z.gather(1, labels[rows, None])
            pd = torch.softmax(b * d, dim=1).mul_(d)
            first = pd.sum(dim=1)
            slope = float(first.sum() - smoothing * d.sum())
            curve = float(pd.mul_(d).sum() - first.square().sum())
            squares = float((z - z.mean(dim=1, keepdim=True)).square_().sum())
            sums.add(cls(sums.C, slope, curve, squares, max(float(z.max()), -float(z.min()))))
        return sums

    def add(self, other: "NewtonSums") -> None:
        """Add those of other pictures."""
        self.C, self.size = other.C, max(self.size, other.size)
        self.slope, self.curve = self.slope + other.slope, self.curve + other.curve
        self.squares += other.squares


def streamed_temperature(sums_at: Callable[[float], Iterable[NewtonSums]], n: int, guess: SupportsFloat) -> float:
    """Return ``fit_temperature`` of so many logits that they are never there together, by Newton's method.

    Each step is a pass over all of them. The error of a step is about the square of the one before: from a guess that
    is right to a few percent three are taken.

    Exactness: ``fit_temperature`` to 1e-9 of it; ``tests/unit/test_calibration.py``.

    Args:
        sums_at: Gives, at some b, what some pictures add, until all came; a pass over them.
        n: How many pictures there are.
        guess: About what T is: that of some of them.

    Raises:
        ValueError: There is no picture, or the guess is not a number > 0.
    """
    if n < 1:
        raise ValueError("There must be a picture; got none.")
    b, low, high = 1.0 / require_positive("guess", guess), 0.0, math.inf
    for _ in range(PASSES):
        sums = NewtonSums(1)
        for some in sums_at(b):
            sums.add(some)
        spread = math.sqrt(sums.squares / (n * sums.C))
        if spread <= 8 * EPS * sums.size:
            return 1.0
        least, most = 1.0 / (HIGHEST * spread), 1.0 / (LOWEST * spread)
        low, high = (b, high) if sums.slope < 0 else (low, b)
        if (sums.slope >= 0 and b <= least) or (sums.slope <= 0 and b >= most):
            return 1.0 / min(max(b, least), most)
        step = b - sums.slope / sums.curve if sums.curve > 0 else 0.0
        if abs(step - b) <= NEAR * b:
            b = min(max(step, least), most)
            break
        if not max(low, least) < step < min(high, most):  # to a bound that wasn't looked at, or half the way there
            ends = [end for end, known in ((least, low), (most, high)) if end != known and low < end < high]
            toward = least if sums.slope > 0 else most
            step = toward if toward in ends else math.sqrt(max(low, least) * min(high, most))
        b = step
    return 1.0 / b


def probabilities(logits: Float[Tensor, "m C"], T: SupportsFloat) -> Float[Tensor, "m C"]:
    """Return ``softmax(logits / T)``, float64.

    Raises:
        ValueError: ``logits`` is not (m, C) with C >= 1, holds NaN or infinity, or T is not a finite number > 0.
        TypeError: Logits are not floating point.
    """
    _require_matrix("logits", logits)
    z = logits.double()
    return torch.softmax((z - z.amax(dim=1, keepdim=True)) / require_positive("T", T), dim=1)


def negative_log_likelihood(p: Float[Tensor, "m C"], labels: Int[Tensor, " m"]) -> float:
    """Return the mean of ``-log p`` of the true class, in nats.

    A probability below 2.2e-308 counts as that: a picture whose true class got 0 costs 708.4 nats, not infinity.

    Raises:
        ValueError: Shapes don't match, there is no picture, p are not probabilities, or a label is out of range.
        TypeError: p is not floating point, or labels are not integers.
    """
    y = _checked_probabilities(p, labels)
    return float(p.double().gather(1, y[:, None]).clamp(min=FLOOR).log().mean().neg() + 0.0)  # 0, not -0


def brier(p: Float[Tensor, "m C"], labels: Int[Tensor, " m"]) -> float:
    """Return the mean over pictures of ``sum_c (p_c - [c = y])^2``: 0 for certain and right, 2 for certain and wrong.

    Raises:
        ValueError, TypeError: As ``negative_log_likelihood``.
    """
    y = _checked_probabilities(p, labels)
    error = p.double().clone()
    error[torch.arange(len(y), device=y.device), y] -= 1
    return float(error.square().sum(dim=1).mean())


def expected_calibration_error(p: Float[Tensor, "m C"], labels: Int[Tensor, " m"], bins: SupportsIndex = 15) -> float:
    """Return ``sum_b (m_b / m) |accuracy_b - confidence_b|`` over bins of equal width of the highest probability.

    Bin b holds the pictures whose highest probability is in [b / bins, (b + 1) / bins), the last bin 1 as well;
    confidence is the mean of these probabilities, and of equal ones the class of the lowest index counts as predicted.
    The value depends on ``bins``, and is biased upwards where bins hold few pictures: compare it at equal m and
    ``bins`` only.

    Raises:
        ValueError: ``bins`` is not an integer >= 1; and as ``negative_log_likelihood``.
        TypeError: As ``negative_log_likelihood``.
    """
    bins = whole_number("bins", bins, 1)
    y = _checked_probabilities(p, labels)
    return binned_error(p.double().amax(dim=1), p.argmax(dim=1) == y, bins)


def binned_error(best: Float[Tensor, " m"], right: Bool[Tensor, " m"], bins: int = 15) -> float:
    """Return ``expected_calibration_error`` of pictures whose highest probability, and whose being right, is known."""
    gap = right.double() - best  # (m,)
    place = (best * bins).long().clamp(max=bins - 1)
    total = torch.zeros(bins, dtype=torch.float64, device=best.device).index_add_(0, place, gap)
    return float(total.abs().sum() / len(best))


def _around_mean(logits: Tensor, size: float) -> Tensor:
    z = logits.double() / size
    return z - z.mean(dim=1, keepdim=True)  # (b, C)


def _require_matrix(name: str, values: Tensor) -> None:
    require_tensor(name, values)
    if not values.is_floating_point():
        raise TypeError(f"`{name}` must be floating point; got {values.dtype}. Convert it with `.double()`.")
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"`{name}` must be (pictures, classes), with a class at least; got {tuple(values.shape)}.")
    require_finite(name, values)


def _checked(name: str, values: Tensor, labels: Tensor) -> Tensor:
    """Return the labels, int64, on the device of ``values``."""
    _require_matrix(name, values)
    require_tensor("labels", labels)
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"`labels` must be integers, class indices; got {labels.dtype}.")
    if labels.ndim != 1 or len(labels) != len(values) or len(labels) == 0:
        raise ValueError(
            f"`labels` must hold one class index for each row of `{name}`, and one at least; got {tuple(labels.shape)} "
            f"for {tuple(values.shape)}. Give one row and one label per picture."
        )
    y, n_classes = labels.to(values.device, torch.long), values.shape[1]
    if int(y.min()) < 0 or int(y.max()) >= n_classes:
        raise ValueError(
            f"`labels` must be from 0 to C - 1 = {n_classes - 1}; got {int(y.min())} to {int(y.max())}. "
            f"Number the classes from 0, in the order of the columns of `{name}`."
        )
    return y


def _checked_probabilities(p: Tensor, labels: Tensor) -> Tensor:
    y = _checked("p", p, labels)
    worst = float((p.double().sum(dim=1) - 1).abs().max())
    if float(p.min()) < 0 or worst > ROW_SUM:
        raise ValueError(
            f"`p` must be probabilities: no entry below 0, each row adding up to 1 within {ROW_SUM:g}; the lowest "
            f"entry is {float(p.min()):g}, the worst sum is off by {worst:g}. Use `probabilities(logits, T)`."
        )
    return y
