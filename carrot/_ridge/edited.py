"""Leave-one-out after edits: what is said of every training picture by the head fitted without it, and without others.

Let Q = I - S, S_ij = s_j(g_i) of the head, its equation (5): Q Y = R, and its diagonal is the slack. One column of Q
is one solve; S_ij w_i = S_ji w_j gives its row. With it every training picture is answered for at once, O(n C):

::

    k gets targets y'     Y_k = y',                     R  <-  R + Q_:k (y' - y_k)                                  (1)
    k is left out         R  <-  R - Q_:k R_k / Q_kk,   slack_i  <-  slack_i - Q_ik Q_ki / Q_kk                     (2)
    any other column      Q_:m  <-  Q_:m - Q_:k Q_km / Q_kk                                                         (3)
    a class is new        Y  <-  (Y, 0),                R  <-  (R, Q 0) = (R, 0)                                   (1')
    logit_{-i}(g_i)  =  y_i - R_i / slack_i                                                                         (4)

(2) and (3) are one step of elimination in Q; edits add up step by step, and (4) is then what really fitting the edited
pictures without i gives, lam held. Of a picture k, what it would be told without j besides:

::

    logit_{-k}(g_k) - logit_{-kj}(g_k)  =  -Q_kj (slack_k R_j - Q_jk R_k) / (slack_k (slack_k slack_j - Q_kj Q_jk))  (5)

Where a picture would be left nearly alone in a direction, (2) and (5) cancel: a fit answers instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.blocks import weighted_mean
from carrot._ridge.systems import ALONE

if TYPE_CHECKING:
    from carrot.head import RidgeHead

KEPT = 2**28  # bytes of columns of Q that are kept for another time


class Columns:
    """Columns of Q of one head, before any edit: each is a pass over the rows, so those asked for last are kept.

    Threads may share one.

    Args:
        head: The head.
    """

    def __init__(self, head: "RidgeHead") -> None:
        self._head, self._kept, self._lock = head, dict[int, Tensor](), Lock()
        self._most = max(1, KEPT // (8 * len(head.Y)))

    def of(self, rows: Sequence[int]) -> list[Float[Tensor, " n"]]:
        """Return the columns of some rows; those that aren't kept are solved for together."""
        with self._lock:
            found = {row: self._kept[row] for row in rows if row in self._kept}
        missing = [row for row in dict.fromkeys(rows) if row not in found]
        if missing:
            solved = self._head.slack_columns(missing).mT.contiguous()
            found |= {row: column.clone() for row, column in zip(missing, solved, strict=True)}
        with self._lock:
            self._kept = {**{row: q for row, q in self._kept.items() if row not in found}, **found}
            for row in list(self._kept)[: -self._most]:
                del self._kept[row]
        return [found[row] for row in rows]


@dataclass(frozen=True, eq=False)
class EditedLoo:
    """Training pictures, edited; ``RidgeHead.edited_loo`` makes it. Each edit gives another one.

    Attributes:
        head: What was fitted last.
        place: Which of its rows each picture is; -1: it had been left out before that.
        Y: Targets after the edits.
        residual: R.
        slack: 1 - leverage.
        left: The pictures that were left out since, each with its column of Q when it was.
        columns: Q of the head.

    Exactness: exact, a real refit to rounding; ``tests/claims/test_23_edited_leave_one_out.py``.
    """

    head: "RidgeHead"
    place: Int[Tensor, " n"]
    Y: Float[Tensor, "n C"]
    residual: Float[Tensor, "n C"]
    slack: Float[Tensor, " n"]
    left: tuple[tuple[int, Float[Tensor, " n"]], ...] = ()
    columns: Columns = field(repr=False, kw_only=True)
    _last: dict[int, Float[Tensor, " n"]] = field(default_factory=dict, repr=False)  # column that was asked for

    __repr__ = brief

    @classmethod
    def of(cls, head: "RidgeHead") -> "EditedLoo":
        """Return it before any edit."""
        place = torch.arange(len(head.Y), device=head.Y.device)
        return cls(head, place, head.Y, head.residual, head.slack, columns=Columns(head))

    @classmethod
    def fitted(cls, head: "RidgeHead", rows: Int[Tensor, " m"], Y: Float[Tensor, "n C"]) -> "EditedLoo":
        """Return it of a head that was fitted on the pictures of these numbers, of all that Y are the targets of."""
        place = rows.new_full((len(Y),), -1).index_copy(0, rows, torch.arange(len(rows), device=rows.device))
        slack = torch.ones_like(Y[:, 0]).index_copy(0, rows, head.slack)
        residual = torch.zeros_like(Y).index_copy(0, rows, head.residual)
        return cls(head, place, Y.index_copy(0, rows, head.Y), residual, slack, columns=Columns(head))

    @property
    def weights(self) -> Float[Tensor, " n"]:
        """What each picture counts; 0 where it was left out."""
        return self.head.sample_weight[self.place].where(self.there, 0.0)

    @property
    def g_mean(self) -> Float[Tensor, " D"]:
        """Weighted mean of the embeddings of the pictures that are there."""
        rows = self.place[self.there]
        w = torch.zeros_like(self.head.sample_weight).index_copy(0, rows, self.head.sample_weight[rows])
        return weighted_mean(self.head.G, w)

    @property
    def there(self) -> Bool[Tensor, " n"]:
        """False for the pictures that were left out: what is said of these is to be passed over."""
        mask = self.place >= 0
        mask[[k for k, _ in self.left]] = False
        return mask

    @property
    def logits(self) -> Float[Tensor, "n C"]:
        """Of every picture, said by the head fitted without it: equation (4)."""
        return self.Y - self.residual / self.slack.unsqueeze(-1)

    def ahead(self, pictures: Sequence[int]) -> None:
        """Have what edits of some pictures will ask for: one pass over the rows for all of them, not one for each."""
        self.columns.of([int(row) for row in self.place[list(pictures)] if row >= 0])

    def said(self, k: int) -> Float[Tensor, " C"]:
        """Return equation (4) of one picture."""
        return self.Y[k] - self.residual[k] / self.slack[k]

    def relabelled(self, k: int, y: Float[Tensor, " C"]) -> "EditedLoo":
        """Return it with other targets of picture k: equation (1)."""
        change, at = y.to(self.Y) - self.Y[k], torch.tensor([k], device=self.Y.device)
        Y = self.Y.index_add(0, at, change.unsqueeze(0))
        residual = self.residual + torch.outer(self._column(k), change)
        return replace(self, Y=Y, residual=residual)

    def widened(self, k: int) -> "EditedLoo":
        """Return it with k more classes, last, that no picture is of yet: equation (1')."""
        zero = self.Y.new_zeros(len(self.Y), k)
        return replace(self, Y=torch.cat([self.Y, zero], dim=1), residual=torch.cat([self.residual, zero], dim=1))

    def without(self, k: int) -> "EditedLoo":
        """Return it with picture k left out: equation (2)."""
        q = self._column(k)
        slack = self.slack - q * self._row(k, q) / q[k]
        stay = self.there
        stay[k] = False
        if bool((slack < self._least)[stay].any()):
            return self._fitted(k)
        residual = self.residual - torch.outer(q, self.residual[k] / q[k])
        return replace(self, residual=residual, slack=slack.where(stay, 1.0), left=(*self.left, (k, q)), _last={})

    def others(self, k: int, question: Float[Tensor, " C"]) -> Float[Tensor, " n"]:
        """Return what each other picture does to what is said of k without it: equation (5); 0 for k itself.

        Args:
            k: The picture.
            question: What is asked of the classes' logits: 1 for one class, or that and -1 for another.
        """
        q, R = self._column(k), self.residual @ question
        row, s = self._row(k, q), self.slack[k]
        pair = self.slack - row * q / s  # slack of j, were k not there
        effect = -row * (s * R - q * R[k]) / (s * s * pair)
        there = self.there
        there[k] = False
        for j in torch.nonzero(there & (pair < self._least)).flatten().tolist():
            effect[j] = (self.said(k) - self._fitted(j).said(k)) @ question
        return effect.where(there, 0.0)

    def _column(self, k: int) -> Float[Tensor, " n"]:
        """Return Q_:k of the edited pictures: equation (3); 0 for those that were left out."""
        if k in (last := self._last):
            return last[k]
        known = self.place >= 0
        q = torch.zeros_like(self.slack)
        q[known] = self.columns.of([int(self.place[k])])[0][self.place[known]]
        for d, q_d in self.left:
            q = q - q_d * (q[d] / q_d[d])
            q[d] = 0.0
        q[k] = self.slack[k]
        object.__setattr__(self, "_last", {k: q})
        return q

    def _row(self, k: int, q: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return Q_k: from the column."""
        w = self.head.sample_weight[self.place]  # of those that aren't there it is another's: q is 0
        return q * w / w[k]

    @property
    def _least(self) -> Float[Tensor, " n"]:
        """Slack below which a step has cancelled: the dual form has every digit of a small one, the primal doesn't."""
        return ALONE * (self.slack if self.head.is_dual else torch.ones_like(self.slack))

    def _fitted(self, k: int) -> "EditedLoo":
        """Return it with picture k left out, by a fit."""
        stay = self.there
        stay[k] = False
        rows = self.place[stay]
        head = type(self.head)(self.head.lam, self.head.fit_intercept)
        head.fit(self.head.G[rows], self.Y[stay], self.head.sample_weight[rows])
        return EditedLoo.fitted(head, stay.nonzero().flatten(), self.Y)
