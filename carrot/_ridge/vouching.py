"""Pictures that vouch for each other's label: alone each is believed, for the others of its group are still there.

::

    c_ij = -Q_ij / sqrt(Q_ii Q_jj)                           how much of what is said of i stands on j, and back  (1)
    logits_{-S}(g_i) = y_i - (Q_SS^{-1} R_S)_i,   i in S     said by the head fitted without all of S            (2)

Q = I - S of ``carrot._ridge.edited``; (1) is a partial correlation: near 1 for copies at a small lam, less where lam
doesn't let any one picture say much, below 0 where one speaks against the other. (2) is leave-one-out's formula for a
group, exact: what really fitting without it says; where Q_SS is singular to 6 digits, that is asked.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ridge.streamed import residual_at
from carrot._ridge.systems import ALONE

if TYPE_CHECKING:
    from carrot.head import RidgeHead

LARGEST = 12  # pictures of a group at most


class Among:
    """Some training pictures of a head, and what they say of each other.

    Args:
        head: The head.
        rows: The pictures.
        Q: ``head.slack_among(rows)``, where it is at hand.

    Exactness: (2) is exact, a real refit to rounding; ``tests/claims/test_30_hidden_groups.py``.
    """

    def __init__(self, head: "RidgeHead", rows: Sequence[int], Q: Float[Tensor, "k k"] | None = None) -> None:
        self._head, self.rows, at = head, list(rows), torch.tensor(list(rows), device=head.G.device)
        self._place = {row: place for place, row in enumerate(self.rows)}
        self._Q = head.slack_among(at) if Q is None else Q
        self._Y, self._R = head._need_rows().Y[at].dense, residual_at(head, at)

    def without(self, group: Sequence[int]) -> Float[Tensor, "k C"]:
        """Return what the head fitted without all of a group says of them: equation (2)."""
        at = torch.tensor([self._place[row] for row in group], device=self._Q.device)
        Q = self._Q[at[:, None], at]
        if is_singular(Q, self._head.is_dual):
            rows = [self.rows[place] for place in at.tolist()]
            return self._head.without(rows).predict(self._head.G[rows])
        return self._Y[at] - torch.linalg.solve(Q, self._R[at])

    def tied(self, least: float) -> list[tuple[int, int, float]]:
        """Return the pairs whose tie (1) is at least so strong, strongest first."""
        says = (-self._Q).clamp(min=0.0)  # weights make Q lopsided: a tie is the geometric mean of both ways
        root = self._Q.diagonal().sqrt()
        ties = ((says * says.mT).sqrt() / root / root[:, None]).triu(1)
        i, j = (ties >= least).nonzero(as_tuple=True)
        found = [
            (self.rows[a], self.rows[b], tie)
            for a, b, tie in zip(i.tolist(), j.tolist(), ties[i, j].tolist(), strict=True)
        ]
        return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))


def is_singular(Q_SS: Float[Tensor, "k k"], is_dual: bool) -> bool:
    """Return whether (2) would lose more than 6 digits.

    Args:
        Q_SS: Q among the group.
        is_dual: The dual form has every digit of small entries, the primal one only those behind the point.
    """
    inverse, failed = torch.linalg.inv_ex(Q_SS)
    size = torch.linalg.matrix_norm(Q_SS, 1).clamp(min=0.0 if is_dual else 1.0)
    return bool(failed) or not float(torch.linalg.matrix_norm(inverse, 1) * size) <= 1.0 / ALONE


def merged(ties: Iterable[tuple[int, int, float]]) -> list[tuple[int, ...]]:
    """Return every group that pairs form as they join, strongest first: of ``LARGEST`` at most, each ascending."""
    group, found = dict[int, set[int]](), list[tuple[int, ...]]()
    for i, j, _ in sorted(ties, key=lambda pair: (-pair[2], pair[0], pair[1])):
        a, b = group.setdefault(i, {i}), group.setdefault(j, {j})
        if a is b or len(a) + len(b) > LARGEST:
            continue
        a |= b
        for row in b:
            group[row] = a
        found.append(tuple(sorted(a)))
    return found
