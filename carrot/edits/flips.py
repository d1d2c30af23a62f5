"""The smallest flip: the fewest training pictures without which, or with other labels, a prediction would be another.

Let c be what is predicted of g, r a rival, f = logit_c - logit_r > 0 its lead, R = R_c - R_r. Leaving out U takes
s_U Q_UU^{-1} R_U off it, Q = I - s(G). With weights made symmetric, D = diag(Q), a_i = s_i(g) / sqrt(w_i D_i) and
b_i = sqrt(w_i / D_i) R_i,

::

    effect(U) = a_U^T (I - E_UU)^{-1} b_U,     E_ij = s_j(g_i) sqrt(w_i / w_j) / sqrt(D_i D_j), i != j             (1)

which is equation (1) of ``carrot._ridge.subsets``: branch and bound by its (2) and (3), of every rival, size after
size, so that a set that is found has no smaller one beside it. Greedy steps along (3) give a set where the search would
be too long, and (2) alone tells how many pictures are needed at least.

Other labels: taking y' for y_i changes the lead by s_i(g) times the change of y_c - y_r, whatever the others' labels
are, since s doesn't depend on them. What a set of k takes off is a sum of k numbers, one for each picture, so the k
largest give the most: sorting finds the smallest set, of any size, and any rival.

Every step of what is returned is verified by group removal, or relabelling, of all classes (``carrot.edits.effects``).

Reference: Ilyas et al., ICML 2022 (datamodels), section on brittleness, for the question.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ambient import pinned, pinned_class
from carrot._display.brief import brief
from carrot._ridge import subsets
from carrot._ridge.subsets import Search, UndecidedError, bound, possible
from carrot._ridge.systems import ALONE
from carrot.edits.effects import Edit, edit_effects_by_class
from carrot.head import RidgeHead
from carrot.utils import require_tensor, whole_number

EXACT = 5  # sizes up to which is searched
NODES = 5_000  # systems that are conditioned in a search
LONGEST = 300  # greedy steps
KEPT = 1 << 24  # numbers of E that are kept
TOPS = 40  # largest entries of each row of E: how far (2) reaches
RIVALS = 3  # that greedy steps are tried against


@dataclass(frozen=True, eq=False)
class Flip:
    """A smallest set of training pictures, or how small it is at most and at least.

    Attributes:
        kind: "removal" or "relabelling".
        predicted: The class as it is.
        becomes: The class after the last step; None: no set was found.
        indices: The pictures, in the order of the steps.
        labels: Their new classes, of a relabelling.
        logits: As they are and after each step, each verified.
        least: No set of fewer pictures flips the prediction: proven.
        nodes: Systems that were searched.
    """

    kind: Literal["removal", "relabelling"]
    predicted: int
    becomes: int | None
    indices: tuple[int, ...]
    labels: tuple[int, ...]
    logits: Float[Tensor, "k C"]
    least: int
    nodes: int = 0

    __repr__ = brief

    @property
    def is_smallest(self) -> bool:
        """Whether it is proven that no smaller set does."""
        return self.becomes is not None and len(self.indices) == self.least


@pinned_class
class RemovalFlips:
    """Searches for smallest removals of one head: E is computed once, for all test pictures.

    n^2 D multiplications, and n^2 numbers where these are at most 2^24, else 40 n.

    Args:
        head: Fitted head.

    Exactness: exact to rounding where ``is_smallest``; else between ``least`` and the size that is returned, both
        proven; ``tests/claims/test_31_smallest_flip.py``.
    """

    def __init__(self, head: RidgeHead) -> None:
        self.head, n = head, len(head.G)
        self._root, self._D = head.sample_weight.sqrt(), head.slack.sqrt()
        keeps, count = n * n <= KEPT, min(TOPS, n - 1)
        self._E = head.Y.new_empty(n, n) if keeps else None
        self._tops = head.Y.new_empty(n, count)
        self._left: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        step = max(1, KEPT // n)
        for start in range(0, n, step):
            some = torch.arange(start, min(start + step, n), device=head.Y.device)
            columns = self._columns(some)
            if self._E is not None:
                self._E[:, some] = columns
            self._tops[some] = columns.abs().topk(count, dim=0).values.mT

    def __repr__(self) -> str:
        return f"<RemovalFlips of {len(self.head.G)} training pictures>"

    def of(
        self,
        g: Float[Tensor, " D"],
        exact: SupportsIndex = EXACT,
        nodes: SupportsIndex = NODES,
        tell: Callable[[int, int], None] | None = None,
    ) -> Flip:
        """Return the smallest set of training pictures without which another class is predicted of g.

        Args:
            g: Embedding.
            exact: Sizes up to which is searched; beyond, greedy steps give a set, and equation (2) what is needed at
                least.
            nodes: Systems that may be searched: where they run out, the size is told as between two numbers.
            tell: Called with the size that is searched and the systems so far.

        Raises:
            ValueError: There is one class only, or ``g`` is of another shape.
        """
        exact, nodes = whole_number("exact", exact, 1), whole_number("nodes", nodes, 0)
        logits, c = _predicted(self.head, g)
        every = _Rivals(self, g, logits, c)
        path = self._verified(g, logits, c, every.greedy())
        search = Search(nodes, tell)
        k, end = 1, len(path.indices) if path.becomes is not None else len(self.head.G)
        while k < end:
            tell and tell(k, search.count)
            bounds = every.bounds(k)
            open_ = [r for r in range(len(every.rivals)) if not bounds[r] <= float(every.need[r]) * subsets.SURE]
            if open_ and k > exact:
                break
            try:
                found = next(filter(None, (every.found(search, r, k) for r in open_)), None)
            except UndecidedError:
                break
            if found is not None:
                one = self._verified(g, logits, c, found)
                if one.becomes is None:  # it was a tie, to rounding
                    break
                return replace(one, least=k, nodes=search.count)
            k += 1
        return replace(path, least=k, nodes=search.count)

    # ---- inside

    def _columns(self, some: Int[Tensor, " k"]) -> Float[Tensor, "n k"]:
        """Return E_:k, from Q_:k."""
        Q = self.head.slack_columns(some)
        E = -Q * (self._root / self._D).unsqueeze(-1) / (self._root * self._D)[some]
        E[some, torch.arange(len(some), device=some.device)] = 0.0
        return E

    def column(self, i: int) -> Float[Tensor, " n"]:
        """Return E_:i."""
        if self._E is not None:
            return self._E[:, i]
        return self._columns(torch.tensor([i], device=self._D.device))[:, 0]

    def among(self, some: Int[Tensor, " k"]) -> Float[Tensor, "k k"]:
        """Return E among some.

        Raises:
            UndecidedError: They are too many.
        """
        if len(some) ** 2 > KEPT:
            raise UndecidedError
        if self._E is not None:
            return self._E[some][:, some]
        scale = self._root[some]
        E = -self.head.slack_among(some) * (scale / self._D[some]).unsqueeze(-1) / (scale * self._D[some])
        E.diagonal().zero_()
        return E

    def rho(self, k: int) -> Float[Tensor, " n"] | None:
        """Return the sum of the k - 1 largest entries of each row of |E|; None: so many aren't known."""
        return self._tops[:, : k - 1].sum(dim=1) if k - 1 <= self._tops.shape[1] else None

    def left_by(self, i: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is known of the others once i is out, for sets of k with it: u, scale, and their sums of rows.

        Raises:
            UndecidedError: E isn't kept.
        """
        if (i, k) not in self._left:
            if self._E is None:
                raise UndecidedError
            u = self._E[:, i]
            scale = subsets.scale_without(u)
            inner = subsets.inner_without(self._E, u, scale)
            inner[:, i] = 0.0
            self._left[i, k] = u, scale, subsets.row_sums(inner, k - 1)
        return self._left[i, k]

    def _verified(self, g: Tensor, logits: Tensor, c: int, found: Sequence[int]) -> Flip:
        """Return the path to the first step with another class, each step by group removal."""
        edits = [Edit(delete=found[: k + 1]) for k in range(len(found))]
        return _path("removal", self.head, g, logits, c, list(found), [], edits)


class _Rivals:
    """(1) of one test picture and every rival: a (n,), b (n, q), f (q,)."""

    def __init__(self, flips: RemovalFlips, g: Tensor, logits: Tensor, c: int) -> None:
        head, self.flips = flips.head, flips
        self.rivals = torch.tensor([r for r in range(len(logits)) if r != c], device=logits.device)
        self.need = logits[c] - logits[self.rivals]
        self.a = head.smoother(g) / (flips._root * flips._D)
        residual = head.residual[:, c : c + 1] - head.residual[:, self.rivals]
        self.b = (flips._root / flips._D).unsqueeze(-1) * residual

    def bounds(self, k: int) -> list[float]:
        """Return what no k pictures take more of each lead than; infinite where it isn't known."""
        rho = self.flips.rho(k)
        if rho is None:
            return [float("inf")] * len(self.rivals)
        return [bound(self.a, self.b[:, r], rho, k)[1] for r in range(len(self.rivals))]

    def found(self, search: Search, rival: int, k: int) -> list[int] | None:
        """Return k pictures that take more off a lead than it is; None: there are none."""
        a, b, need, rho = self.a, self.b[:, rival], float(self.need[rival]), self.flips.rho(k)
        if rho is None:
            raise UndecidedError
        fits = rho < 1.0
        rest, good = torch.ones_like(fits), fits.nonzero().flatten()
        for i in (~fits).nonzero().flatten().tolist():  # sets that hold one of these are bounded with it in
            rest[i] = False
            u, scale, rows = self.flips.left_by(i, k)
            inside, left = rest.nonzero().flatten(), need - float(a[i] * b[i])
            a_left, b_left = (a + u * a[i]) * scale, (b + u * b[i]) * scale
            stay = inside[possible(a_left[inside], b_left[inside], rows[inside], k - 1, left)]
            if len(stay):
                E = subsets.inner_without(self.flips.among(stay), u[stay], scale[stay])
                found = search.find(E, a_left[stay], b_left[stay], left, k - 1)
                if found is not None:
                    return [i, *stay[found].tolist()]
        stay = good[possible(a[good], b[good], rho[good], k, need)]
        found = search.find(self.flips.among(stay), a[stay], b[stay], need, k) if len(stay) else None
        return None if found is None else stay[found].tolist()

    def greedy(self) -> list[int]:
        """Return the shortest of a few rivals' greedy paths; none: there is none."""
        alone = (self.a.unsqueeze(-1) * self.b).clamp(min=0.0).sort(dim=0, descending=True).values.cumsum(dim=0)
        steps = (alone <= self.need).sum(dim=0)
        paths = [self._path(r) for r in steps.argsort(stable=True)[:RIVALS].tolist()]
        return min(filter(None, paths), key=len, default=[])

    def _path(self, rival: int) -> list[int]:
        a, b, need = self.a.clone(), self.b[:, rival].clone(), float(self.need[rival])
        slack, chosen = torch.ones_like(a), list[int]()
        columns = a.new_empty(len(a), min(LONGEST, len(a) - 1))
        for k in range(columns.shape[1]):
            score = (a * b / slack).where(slack > ALONE, -torch.inf)
            score[chosen] = -torch.inf
            i = int(score.argmax())
            if not float(score[i]) > 0.0:
                return []
            u = -self.flips.column(i)
            u[i] = 1.0
            u = (u - columns[:, :k] @ columns[i, :k]) / slack[i].sqrt()
            columns[:, k] = u
            need -= float(score[i])
            a, b = a - u * (a[i] / u[i]), b - u * (b[i] / u[i])
            slack = slack - u.square()
            chosen.append(i)
            if need < 0.0:
                return chosen
        return []


@pinned()
def smallest_relabelling(head: RidgeHead, g: Float[Tensor, " D"], to: SupportsIndex | None = None) -> Flip:
    """Return the smallest set of training pictures with other labels for which another class is predicted of g.

    Exact at any size: what a label takes off a lead doesn't depend on the others' (the module has the proof).

    Args:
        head: Fitted head.
        g: Embedding.
        to: The class that all of them get; default: whichever does most, each its own.

    Exactness: exact to rounding; ``tests/claims/test_31_smallest_flip.py``.

    Raises:
        ValueError: There is one class only, ``to`` is out of range, or ``g`` is of another shape.
    """
    logits, c = _predicted(head, g)
    to = None if to is None else whole_number("to", to, 0, len(logits) - 1, ", a class")
    s, best = head.smoother(g), Flip("relabelling", c, None, (), (), logits.unsqueeze(0), len(head.G) + 1)
    lead = 0.0  # of the rival in the end: of sets of one size, the one that leaves least doubt
    for r in [r for r in range(len(logits)) if r != c]:
        own = head.Y[:, c] - head.Y[:, r]
        label = torch.where(s > 0, r, c) if to is None else torch.full_like(s, to).long()
        gain = s * (own - (label == c).double() + (label == r).double())
        order = gain.argsort(descending=True, stable=True)
        taken = gain[order].clamp(min=0.0).cumsum(dim=0)
        k = int((taken <= logits[c] - logits[r]).sum()) + 1
        if k > int((gain > 0).sum()) or k > best.least:
            continue
        ahead = float(taken[k - 1] - logits[c] + logits[r])
        if k == best.least and ahead <= lead:
            continue
        rows, labels = order[:k].tolist(), label[order[:k]].tolist()
        edits = [Edit(relabel=dict(zip(rows[: j + 1], labels, strict=False))) for j in range(k)]
        found = _path("relabelling", head, g, logits, c, rows, labels, edits)
        if found.becomes is not None:
            best, lead = replace(found, least=len(found.indices)), ahead
    return best


def _path(
    kind: Literal["removal", "relabelling"],
    head: RidgeHead,
    g: Tensor,
    logits: Tensor,
    c: int,
    rows: list[int],
    labels: list[int],
    edits: list[Edit],
) -> Flip:
    """Return the path to the first step after which another class is predicted, every step verified."""
    if not rows:
        return Flip(kind, c, None, (), (), logits.unsqueeze(0), 1)
    after = logits + edit_effects_by_class(head, g.unsqueeze(0), edits)[0]
    flips = (after.argmax(dim=1) != c).nonzero().flatten().tolist()
    k = flips[0] + 1 if flips else len(rows)
    becomes = int(after[k - 1].argmax()) if flips else None
    steps = torch.cat([logits.unsqueeze(0), after[:k]])
    return Flip(kind, c, becomes, tuple(rows[:k]), tuple(labels[:k]), steps, 1)


def _predicted(head: RidgeHead, g: Tensor) -> tuple[Tensor, int]:
    """Return logits and the predicted class."""
    require_tensor("g", g)
    if g.ndim != 1:
        raise ValueError(f"`g` must be ({head.W_star.shape[0]},), one embedding; got {tuple(g.shape)}.")
    logits = head.predict(g)
    if len(logits) < 2:
        raise ValueError("A flip needs at least two classes; the head has one column.")
    return logits, int(logits.argmax())
