"""Is what is called exact so on this head and these pictures? Sums beside their logits, formulas beside real refits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ridge.rows import check_indices
from carrot.explanation.parts import LogitParts
from carrot.head import RidgeHead
from carrot.influence import group_removal_effect
from carrot.utils import require_tensor, whole_number


@dataclass(frozen=True)
class Difference:
    """How far two ways to the same numbers are apart.

    Attributes:
        n: How many cases were compared: pictures, or groups.
        largest: The largest absolute difference of any of their numbers.
        relative: That over the largest of the numbers themselves (over 1 if all are 0).
    """

    n: int
    largest: float
    relative: float

    @classmethod
    def of(cls, found: Tensor, expected: Tensor, n: int) -> "Difference":
        """Compare two tensors of one shape."""
        if found.shape != expected.shape:
            raise ValueError(
                f"`found` must have the shape of `expected`, {tuple(expected.shape)}; got {tuple(found.shape)}."
            )
        largest, size = float((found - expected).abs().max()), float(expected.abs().max())
        return cls(n, largest, largest / (size or 1.0))


def sums_check(parts: Iterable[LogitParts]) -> dict[str, Difference]:
    """Return how far each additive answer's sum is from the logit, over all pictures; keys as in ``LogitParts.sums``.

    Raises:
        ValueError: There is no picture.
    """
    sums: dict[str, list[float]] = {}
    logits = []
    for picture in parts:
        logits.append(picture.logit)
        for name, total in picture.sums.items():
            sums.setdefault(name, []).append(total)
    if not logits:
        raise ValueError("`parts` must hold at least one picture taken apart; got none.")
    expected = torch.tensor(logits, dtype=torch.float64)
    return {name: Difference.of(torch.tensor(v, dtype=torch.float64), expected, len(v)) for name, v in sums.items()}


def leave_one_out_check(head: RidgeHead, k: SupportsIndex = 5, seed: SupportsIndex = 0) -> Difference:
    """Return how far ``head.loo_predict()`` is from really fitting again without k training pictures drawn by ``seed``.

    k refits; with k > n, n.

    Raises:
        ValueError: k is below 1, or there is only one training picture.
    """
    n = len(head.G)
    k, seed = whole_number("k", k, 1), whole_number("seed", seed)
    if n < 2:
        raise ValueError("`head` must have at least two training pictures, to leave one out; got one.")
    drawn = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:k]
    refitted = torch.stack([head.without(i).predict(head.G[i]) for i in drawn.tolist()])
    return Difference.of(head.loo_predict()[drawn], refitted, len(drawn))


def group_removal_check(
    head: RidgeHead, groups: Sequence[Iterable[SupportsIndex]], g_test: Float[Tensor, "m D"]
) -> Difference:
    """Return how far ``group_removal_effect`` is from really fitting again without each group, in ``g_test``'s logits.

    Compared are the logits without the group, not the effect, which may be tiny.

    Raises:
        ValueError: There is no group or no test picture, an index is out of range or comes twice, or a group is
            everything.
    """
    if not groups:
        raise ValueError("`groups` must hold at least one group of training indices; got none.")
    require_tensor("g_test", g_test)
    if not g_test.numel():
        raise ValueError(f"`g_test` must be (m, D) with at least one test picture; got {tuple(g_test.shape)}.")
    logits = head.predict(g_test)
    found, refitted = [], []
    for group in groups:
        indices = check_indices(group, len(head.G))
        found.append(logits - group_removal_effect(head, g_test, indices))
        refitted.append(head.without(indices).predict(g_test))
    return Difference.of(torch.stack(found), torch.stack(refitted), len(groups))
