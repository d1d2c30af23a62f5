"""Full conformal p-values of every label of a picture, by rank-one updates: no calibration split, no approximation.

A picture g joins the n training pictures with weight w and a label y of the C: then each of the n + 1 is predicted by
the head fitted without it. With f = logit(g), k_i = k(g_i, g), kappa = k(g, g) of the head, its equation (4), and
e_y the targets of label y,

::

    c = w / (1 + w kappa)
    R_i  <-  R_i - c k_i (e_y - f)            slack_i  <-  slack_i + c w_i k_i^2                                (1)
    logit_{-i}(g_i)  =  base_i + a_i e_y      base_i = y_i - R_i / slack_i - a_i f,   a_i = c k_i / slack_i     (2)
    logit_{-g}(g)    =  f,                    whatever y is                                                     (3)
    margin           =  logit of the own label - the best of the others
    p(y)             =  (1 + #{i: margin_i <= margin_g}) / (n + 1)                                              (4)

(1) is the Sherman-Morrison formula; (2) is what a real refit of n + 1 pictures gives. Only column y of base moves with
the candidate, so the two best of each row answer for all C: O(n C) for a picture, not O(n C^2). The n + 1 margins are a
symmetric function of n + 1 pictures, so where these are exchangeable p(y) of the true label is <= alpha with a
probability of at most alpha. By class, (4) counts pictures of label y alone.

A training picture nearly alone in a direction is asked of the head fitted without it: there (1) would cancel.

Reference: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005), chapters 2 to 4.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ridge.blocks import blocks
from carrot._ridge.systems import ALONE
from carrot.utils import require_finite

if TYPE_CHECKING:
    from carrot.head import RidgeHead

PIECE = 1 << 16  # logits that are looked at together: few enough to stay near the processor
TIE = 1e-10  # margins as close as this are equal: it only ever raises p


class Joined(NamedTuple):
    """Leave-one-out of the training pictures once a picture has joined them: equation (2).

    Attributes:
        f: Logits of the picture.
        slack: As it is then.
        a: What is added in the column of the candidate label.
        alone: base of those that (1) would cancel for.
    """

    f: Float[Tensor, " C"]
    slack: Float[Tensor, " n"]
    a: Float[Tensor, " n"]
    alone: dict[int, Tensor]


class Joining:
    """A head that a test picture may join; what it knows of pictures that are alone is fitted once.

    Args:
        head: The head.

    Raises:
        ValueError: It was not fitted on labels, or every class has one picture.
    """

    def __init__(self, head: "RidgeHead") -> None:
        self.head, self.labels, self._R = head, labels_of(head.Y), head.residual
        self.counts = torch.bincount(self.labels, minlength=head.Y.shape[1])
        if int(self.counts.max()) == 1:
            raise ValueError(
                "Conformal label sets need classes of more than one training picture: each has one, and without it "
                "nothing of its class is left. Fit with more pictures of a class."
            )
        self._few = None if head.is_dual else torch.nonzero(head.slack < ALONE).flatten().tolist()
        self._left: dict[int, RidgeHead] = {}

    def p_values(
        self, g: Float[Tensor, "*m D"], weight: Float[Tensor, " C"] | None, per_class: bool
    ) -> Float[Tensor, "*m C"]:
        """Return equation (4); see ``RidgeHead.label_p_values``."""
        if per_class:
            require_enough(self.counts)
        w_of = checked_weight(weight, len(self.counts)).to(self.labels.device)
        heavy = [(w, torch.nonzero(w_of == w).flatten()) for w in w_of.unique().tolist()]
        flat = g.reshape(-1, g.shape[-1])
        f = self.head.predict(flat)
        mine, counts = margins(f), torch.ones_like(f)
        for row, k, kappa in self._kernels(flat):
            for w, candidates in heavy:
                joined = self._joined(flat[row], f[row], k, kappa, w)
                counts[row, candidates] += self._below(joined, mine[row], per_class)[candidates]
        p = counts / (1.0 + (self.counts if per_class else len(self.labels)))
        return p.reshape(*g.shape[:-1], len(w_of))

    def _kernels(self, g: Tensor) -> Iterator[tuple[int, Tensor, float]]:
        """Yield of each picture its place, k_i and kappa."""
        head = self.head
        for some in blocks(len(g), max(head.G.shape)):
            k = head.smoother(g[some]) / head.sample_weight
            own = ((g[some].to(head.g_mean) - head.g_mean).mT * head.inverse_times(g[some])).sum(dim=0) + head.shift
            yield from zip(range(some.start, some.stop), k, own.tolist(), strict=True)

    def _joined(self, g: Tensor, f: Tensor, k: Tensor, kappa: float, w: float) -> Joined:
        """Return equation (2)."""
        head, c = self.head, w / (1.0 + w * kappa)
        slack, alone = head.slack + c * head.sample_weight * k.square(), dict[int, Tensor]()
        a = c * k / slack
        for i in self._few or ():
            if float(slack[i]) < ALONE:
                left, z = self._without(i), g.unsqueeze(0)
                g_i = head.G[i : i + 1]
                c_i = w / (1.0 + w * float(left.kernel(z, z)))
                a[i] = c_i * left.kernel(g_i, z)[0, 0]
                alone[i] = left.predict(g_i)[0] - a[i] * left.predict(z)[0]
        return Joined(f, slack, a, alone)

    def _base(self, joined: Joined, some: slice) -> Float[Tensor, "b C"]:
        """Return base of some training pictures."""
        base = self.head.Y[some] - self._R[some] / joined.slack[some].unsqueeze(-1)
        base.addr_(joined.a[some], joined.f, alpha=-1.0)
        for i, row in joined.alone.items():
            if some.start <= i < some.stop:
                base[i - some.start] = row
        return base

    def _below(self, joined: Joined, mine: Tensor, per_class: bool) -> Float[Tensor, " C"]:
        """Return for each candidate label how many training pictures have no larger a margin than the picture."""
        found = torch.zeros_like(mine)
        n, C = self._R.shape
        step = max(1, PIECE // C)
        for some in (slice(start, min(start + step, n)) for start in range(0, n, step)):
            base, a, own = self._base(joined, some), joined.a[some].unsqueeze(-1), self.labels[some].unsqueeze(-1)
            others = base.scatter(1, own, -torch.inf)
            first, place = others.max(dim=1, keepdim=True)
            if per_class:  # of label y: column y is its own
                is_below = base.gather(1, own) + a - first <= mine[own] + TIE
                found.index_add_(0, own[:, 0], is_below[:, 0].to(found))
                continue
            second = others.scatter(1, place, -torch.inf).amax(dim=1, keepdim=True)
            rest = first.expand_as(base).scatter(1, place, second)  # the best of the others but the candidate
            margin = base.gather(1, own) - torch.maximum(rest, others + a)
            margin.scatter_add_(1, own, a)
            found += (margin <= mine + TIE).sum(dim=0)
        return found

    def _without(self, i: int) -> "RidgeHead":
        if i not in self._left:
            self._left[i] = self.head.without(i)
        return self._left[i]


def margins(logits: Float[Tensor, "m C"]) -> Float[Tensor, "m C"]:
    """Return of each label its logit less the best of the others."""
    best, place = logits.topk(2, dim=1)
    return logits - best[:, :1].expand_as(logits).scatter(1, place[:, :1], best[:, 1:])


def labels_of(Y: Float[Tensor, "n C"]) -> Int[Tensor, " n"]:
    """Return the labels that targets of 0 and 1 stand for.

    Raises:
        ValueError: They are other targets, or there is one class.
    """
    labels = Y.argmax(dim=1)
    if Y.shape[1] < 2 or not torch.equal(torch.nn.functional.one_hot(labels, Y.shape[1]).to(Y), Y):
        raise ValueError(
            "Conformal label sets need labels of at least two classes; this head was fitted on other targets. Fit it "
            "with (n,) whole numbers."
        )
    return labels


def checked_weight(weight: Tensor | None, C: int) -> Float[Tensor, " C"]:
    """Return what a picture counts by its label; 1 by default.

    Raises:
        ValueError: It is no number > 0 for each label.
    """
    if weight is None:
        return torch.ones(C, dtype=torch.float64)
    require_finite("weight", weight)
    if weight.shape != (C,) or not bool((weight > 0).all()):
        raise ValueError(f"`weight` must be ({C},) numbers > 0, one for each class; got {tuple(weight.shape)}.")
    return weight.to(torch.float64)


def require_enough(counts: Int[Tensor, " C"]) -> None:
    """Refuse to compare by class where a class has one picture.

    Raises:
        ValueError: One has.
    """
    few = torch.nonzero(counts < 2).flatten().tolist()
    if few:
        raise ValueError(
            f"`per_class` compares a picture with the training pictures of each class alone, and class {few[0]} has "
            f"{int(counts[few[0]])} ({len(few)} such classes). Give two of each class at least, or leave `per_class` "
            "out."
        )
