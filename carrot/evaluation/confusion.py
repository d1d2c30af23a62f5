"""Which classes are taken for which: arrays in, counts out.

Rows are true classes and columns predicted ones, as in scikit-learn. The dataclasses hold plain numbers and names only,
so ``dataclasses.asdict`` gives what JSON can hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Int
from torch import Tensor

from carrot.utils import require_tensor, whole_number


@dataclass(frozen=True)
class ClassResult:
    """How one class fared.

    Attributes:
        name: The class.
        n: Pictures of it.
        right: Those predicted as it.
        accuracy: ``right / n``; None where there is no picture.
        mistaken_for: The wrong class predicted most often for it, of equal ones the first; None where nothing was
            mistaken.
        mistaken: How often that was.
    """

    name: str
    n: int
    right: int
    accuracy: float | None
    mistaken_for: str | None
    mistaken: int


@dataclass(frozen=True)
class Confusion:
    """One class taken for another.

    Attributes:
        true: What the pictures show.
        predicted: What was said.
        count: How often.
        share: Of the pictures of the true class.
    """

    true: str
    predicted: str
    count: int
    share: float


def confusion_counts(
    predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"], C: SupportsIndex
) -> list[tuple[int, int, int]]:
    """Return how often class ``row`` was predicted as class ``column``, where it was: (row, column, count), row by row.

    They are the entries of the (C, C) matrix that aren't 0, as many as pictures at most; counts add up to n.

    Raises:
        ValueError: C is not an integer >= 1, shapes don't match, or a class index is not in 0 .. C-1.
        TypeError: Class indices are not integers.
    """
    C = whole_number("C", C, 1, what=", the number of classes")
    require_tensor("predicted", predicted)
    require_tensor("labels", labels)
    if predicted.ndim != 1 or predicted.shape != labels.shape:
        raise ValueError(
            f"`predicted` and `labels` must be (n,), one class index a picture; got {tuple(predicted.shape)} and "
            f"{tuple(labels.shape)}."
        )
    said, y = _indices("predicted", predicted, C), _indices("labels", labels, C).to(predicted.device)
    cells, counts = torch.unique(y * C + said, return_counts=True)
    return [(cell // C, cell % C, count) for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)]


def per_class(predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"], names: Sequence[str]) -> list[ClassResult]:
    """Return every class's result, in the order of ``names``, which name the C classes.

    Raises:
        ValueError: ``names`` are none; and as ``confusion_counts``.
        TypeError: As ``confusion_counts``, or ``names`` is one string.
    """
    C, counts = len(names), _counts(predicted, labels, names)
    n, right, mistaken = [0] * C, [0] * C, list[tuple[int, int | None]]([(0, None)] * C)
    for c, k, count in counts:
        n[c] += count
        if k == c:
            right[c] = count
        elif count > mistaken[c][0]:  # of equal ones the first
            mistaken[c] = count, k
    return [
        ClassResult(
            name=names[c],
            n=n[c],
            right=right[c],
            accuracy=right[c] / n[c] if n[c] else None,
            mistaken_for=None if k is None else names[k],
            mistaken=most,
        )
        for c, (most, k) in enumerate(mistaken)
    ]


def confusion_pairs(predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"], names: Sequence[str]) -> list[Confusion]:
    """Return every confusion that happened: most frequent first, then the larger share, then the order of ``names``.

    Raises:
        ValueError, TypeError: As ``per_class``.
    """
    counts, of_class = _counts(predicted, labels, names), [0] * len(names)
    for c, _, count in counts:
        of_class[c] += count
    pairs = [Confusion(names[c], names[k], count, count / of_class[c]) for c, k, count in counts if k != c]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share))  # a stable sort: equal ones stay in order


def _counts(predicted: Tensor, labels: Tensor, names: Sequence[str]) -> list[tuple[int, int, int]]:
    if isinstance(names, str):
        raise TypeError(f"`names` must be a sequence of names, one a class; got the string {names!r}.")
    if not names:
        raise ValueError("`names` must name at least one class; got none.")
    return confusion_counts(predicted, labels, len(names))


def _indices(name: str, values: Tensor, C: int) -> Tensor:
    if values.dtype == torch.bool or values.is_floating_point() or values.is_complex():
        raise TypeError(f"`{name}` must be integers, class indices; got {values.dtype}.")
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < C:
        raise ValueError(
            f"`{name}` must be from 0 to C - 1 = {C - 1}; got {int(values.min())} to {int(values.max())}. "
            "Number the classes from 0, and name every class."
        )
    return values.long()
