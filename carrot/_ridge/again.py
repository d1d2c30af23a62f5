"""lam chosen again without each training picture, and what the head fitted so says of it: leave-two-out, every pair.

Let Q = I - S of the training pictures at one lam, S_ij = s_j(g_i) of the head, its equation (5); the slack is its
diagonal and Q Y = R. With weights, Q~_ij = sqrt(w_i / w_j) Q_ij is symmetric, R~ = sqrt(w) R. Picture i gone, picture j
is predicted by a head that has seen neither; all that leave-one-out asks of a path of lam follows, without picture i:

::

    a_ji = Q~_ji / Q~_ii            d_ji = Q~_jj - a_ji Q~_ji
    sqrt(w_j) (y_j - logit_{-i,-j}(g_j))  =  (R~_j - a_ji R~_i) / d_ji                                          (1)
    E_i(lam)  =  sum_{j != i} |R~_j - a_ji R~_i|^2 / d_ji^2                                                     (2)
    lam_{-i}  =  argmin E_i,  the larger of equal ones;   logit = y_i - R_i(lam_{-i}) / Q_ii(lam_{-i})          (3)

(1) is one step of elimination in Q, as in ``carrot._ridge.edited``; (2) needs two products of n x n numbers for each
lam: n^2 (min(n, D) + C) multiplications, from one eigendecomposition, by blocks. Most penalties are ruled out for n D
and no more, since d_ji <= Q~_jj, and by the triangle inequality:

::

    sqrt(E_i)  >=  sqrt(sum_{j != i} |R~_j|^2 / Q~_jj^2)                                                        (4)
                   - |R~_i| / Q~_ii  sqrt((Q~^2)_ii - Q~_ii^2) / min_j Q~_jj

The penalties themselves, which are around the mean eigenvalue of all pictures, are held, and so are weights.

A pair that is nearly alone in a direction cancels in d: what the others say is then less than E_i, and where that may
be the least, E_i is that of a path fitted without i.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, SupportsFloat

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.blocks import blocks, centred
from carrot._ridge.gram import Gram
from carrot._ridge.loo import loo_path
from carrot._ridge.rows import Rows
from carrot._ridge.squares import of_differences
from carrot._ridge.systems import ALONE, Moments, System, centre, moments, prefers_dual, solve, with_means
from carrot.utils import require_positive

if TYPE_CHECKING:
    from carrot.head import RidgeHead

TIE = 1e-12  # errors that are equal, as ``LooPath.best`` has it
SLIP = 1e-6  # of a bound, for its rounding


@dataclass(frozen=True, eq=False)
class ChosenAgain:
    """lam as leave-one-out chooses it without each training picture; ``RidgeHead.loo_again`` makes it.

    Attributes:
        lam: What was chosen with all of them.
        lams: lam_{-i}.
        mse: Weighted mean of the squared leave-one-out error of the others at it: E_i over their weight and C.
        logits: What is said of each picture by the head fitted without it at its lam.
        penalties: What was chosen from, ascending: held.

    Exactness: exact: what ``RidgeHead("loo", lams=penalties)`` fitted without the picture chooses and answers;
        ``tests/claims/test_26_chosen_again.py``.
    """

    lam: float
    lams: Float[Tensor, " n"]
    mse: Float[Tensor, " n"]
    logits: Float[Tensor, "n C"]
    penalties: Float[Tensor, " k"]
    _pairs: "_Pairs" = field(repr=False)

    __repr__ = brief

    @property
    def changed(self) -> Bool[Tensor, " n"]:
        """Whether another lam would have been chosen without the picture."""
        return self.lams != self.lam

    def accuracy(self, labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the leave-one-out accuracy of the others without each picture, at its lam: for labels of C classes.

        Most pairs can't change what is said of either: their change is bounded by four numbers. The rest are computed.
        """
        return self._pairs.accuracy(self.lams, labels)


def chosen_again(
    rows: Rows, fit_intercept: bool, lam: float, penalties: Float[Tensor, " k"], known: Moments | None = None
) -> ChosenAgain:
    """Return lam_{-i}, and what follows, for every training picture.

    Raises:
        ValueError: There are fewer than three: without one nothing could choose.
    """
    if len(rows.G) < 3:
        raise ValueError(
            f"Choosing lam again without a picture needs at least three training pictures; got {len(rows.G)}."
        )
    pairs = _Pairs(rows, fit_intercept, penalties.to(rows.w), known or moments(rows, fit_intercept))
    errors = pairs.errors()  # (n, k)
    ties = errors <= errors.amin(dim=1, keepdim=True) * (1.0 + TIE)
    best = ties.long().cumsum(dim=1).argmax(dim=1)  # the last of them
    lams, logits = pairs.penalties[best], torch.empty_like(rows.Y.dense)
    for one, system, at in pairs.systems(lams):
        logits[at] = rows.Y.dense[at] - pairs.residual(system, one)[at] / system.slack[at].unsqueeze(-1)
    others = (rows.w.sum() - rows.w) * rows.Y.C
    mse = errors.gather(1, best.unsqueeze(1))[:, 0] / others
    return ChosenAgain(lam, lams, mse, logits, pairs.penalties, pairs)


def penalties_of(head: "RidgeHead", lams: Iterable[SupportsFloat] | None = None) -> Float[Tensor, " k"]:
    """Return penalties, ascending: some, or those that a head's lam was chosen from.

    Raises:
        ValueError: There is none, one is not > 0, or lam was not chosen.
    """
    if lams is not None:
        given = sorted(require_positive("lams", lam) for lam in lams)
        if not given:
            raise ValueError("`lams` must hold at least one penalty; got none.")
        return head.sample_weight.new_tensor(given)
    if head.loo_path is None:
        raise ValueError(
            "This head's lam was not chosen by its fit, so there is nothing that it was chosen from. Fit it with "
            "lam='loo', or give `lams` to `loo_again`."
        )
    return head.loo_path.lams


class _Pairs:
    """Training pictures, two of them left out, at any of some penalties."""

    def __init__(self, rows: Rows, fit_intercept: bool, penalties: Tensor, known: Moments) -> None:
        self.rows, self.fit_intercept, self.penalties, self.known = rows, fit_intercept, penalties, known
        self.is_dual = prefers_dual(len(rows.G), rows.G.shape[1], fit_intercept)

    def errors(self) -> Float[Tensor, "n k"]:
        """Return E_i at every penalty, equation (2); infinite where (4) says that it is not the least."""
        n, device = len(self.rows.G), self.rows.w.device
        found = torch.full((n, len(self.penalties)), torch.inf, dtype=torch.float64, device=device)
        unsure = torch.zeros_like(found, dtype=torch.bool)
        spectrum = _Spectrum(self.rows, self.fit_intercept, float(self.penalties[0]), self.known)
        bounds = torch.stack([self._bound(spectrum, lam) for lam in self.penalties.tolist()], dim=1)  # (n, k)
        least, places = found[:, 0].clone(), torch.arange(n, device=device)
        for k in bounds.sum(dim=0).argsort().tolist():  # the likeliest first: they rule out the others
            lam = float(self.penalties[k])
            index = (bounds[:, k] <= least * (1.0 + TIE)).nonzero().flatten()
            if not len(index):
                continue
            R, q = spectrum.residual(lam), spectrum.slack(lam)
            limit = self._least(q).unsqueeze(-1)
            for some in blocks(len(index), 6 * n):
                i = index[some]
                Q = spectrum.slack_columns(lam, i)  # (n, b)
                a = Q / q[i]
                d = q.unsqueeze(-1) - a * Q
                own = places.unsqueeze(-1) == i
                alone = (d < limit) & ~own
                square = of_differences(R, R[i], a).div_(d.square_()).masked_fill_(own | alone, 0.0)
                without = ~(q[i] > (0.0 if self.is_dual else ALONE))  # picture i itself: nothing of its row is sure
                found[i, k] = square.sum(dim=0).masked_fill(without, 0.0)
                unsure[i, k] = alone.any(dim=0) | without
            least = torch.minimum(least, found[:, k].masked_fill(unsure[:, k], torch.inf))
        self._settle(found, unsure)
        return found

    def _bound(self, spectrum: "_Spectrum", lam: float) -> Float[Tensor, " n"]:
        """Return the right-hand side of (4), less its rounding; 0 where a picture is nearly alone."""
        q = spectrum.slack(lam)
        if not bool((q > (0.0 if self.is_dual else ALONE)).all()):
            return torch.zeros_like(q)
        size = spectrum.residual(lam).square().sum(dim=1) / q.square()  # |R~_j|^2 / Q~_jj^2
        off = (spectrum.square_diagonal(lam) * (1.0 + SLIP) - q.square()).clamp_(min=0.0).sqrt_()
        low = (size.sum() - size).clamp_(min=0.0).sqrt_() - size.sqrt() * off / q.min()
        return low.clamp_(min=0.0).square_() * (1.0 - SLIP)

    def _least(self, q: Tensor) -> Float[Tensor, " n"]:
        """Return slack below which a step has cancelled: the dual form has every digit of a small one."""
        return ALONE * (q if self.is_dual else torch.ones_like(q))

    def _settle(self, found: Tensor, unsure: Tensor) -> None:
        """Put what a path fitted without the picture says where that may be the least, or equal to it."""
        least = found.masked_fill(unsure, torch.inf).amin(dim=1, keepdim=True)
        ask = unsure & (found <= least * (1.0 + TIE))
        for i in ask.any(dim=1).nonzero().flatten().tolist():
            left = self.rows.without(torch.tensor([i]))
            mse = loo_path(left, self.fit_intercept, self.penalties[ask[i]].tolist()).mse.to(found)
            found[i, ask[i]] = mse * (left.w.sum() * left.Y.C)
        found.masked_fill_(unsure & ~ask, torch.inf)

    def systems(self, lams: Tensor) -> Iterator[tuple[float, System, Int[Tensor, " m"]]]:
        """Yield each lam, its system, and the pictures whose lam it is."""
        for lam in lams.unique().tolist():
            yield lam, solve(self.rows, lam, self.fit_intercept, self.known), (lams == lam).nonzero().flatten()

    def residual(self, system: System, lam: float) -> Float[Tensor, "n C"]:
        """Return R."""
        return system.alpha * (lam / self.rows.w).unsqueeze(-1)

    def accuracy(self, lams: Tensor, labels: Tensor) -> Float[Tensor, " n"]:
        """Return the share of the others that is right; see ``ChosenAgain.accuracy``."""
        Y, w, n = self.rows.Y.dense, self.rows.w, len(lams)
        right, labels = torch.empty_like(lams), labels.to(Y.device)
        for lam, system, at in self.systems(lams):
            R, q = self.residual(system, lam), system.slack
            logits = Y - R / q.unsqueeze(-1)
            is_right = logits.argmax(dim=1) == labels
            best = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(dim=1)
            apart = (logits.gather(1, labels.unsqueeze(1))[:, 0] - best).abs()
            largest = R.abs().amax(dim=1)
            least = self._least(q)
            for some in blocks(len(at), 4 * n):
                i = at[some]
                Q = system.slack_columns(i)  # (n, b)
                a = Q / q[i]
                d = q.unsqueeze(-1) - a * Q * w.unsqueeze(-1) / w[i]
                own = torch.arange(n, device=i.device).unsqueeze(-1) == i
                moved = a.abs() * largest[i] / d + largest.unsqueeze(-1) * (1.0 / d - 1.0 / q.unsqueeze(-1)).abs()
                gains = torch.zeros_like(right[i])
                maybe = ~(2.0 * moved < apart.unsqueeze(-1)) & ~own
                for j, column in _pieces(maybe.nonzero(), Y.shape[1]):
                    x = a[j, column].unsqueeze(-1)
                    said = Y[j] - (R[j] - x * R[i[column]]) / d[j, column].unsqueeze(-1)
                    gain = (said.argmax(dim=1) == labels[j]).double() - is_right[j].double()
                    gains.index_add_(0, column, gain)
                right[i] = (is_right.sum() - is_right[i].double() + gains) / (n - 1)
                unsure = ((d < least.unsqueeze(-1)) & ~own).any(dim=0) | ~(q[i] > (0.0 if self.is_dual else ALONE))
                for column in unsure.nonzero().flatten().tolist():
                    right[i[column]] = self._right_without(int(i[column]), lam, labels)
        return right

    def _right_without(self, i: int, lam: float, labels: Tensor) -> Tensor:
        """Return that share of a fit without picture i."""
        stay = self.rows.others(torch.tensor([i]))
        left = self.rows.at(stay)
        system = solve(left, lam, self.fit_intercept)
        residual = system.alpha * (lam / left.w).unsqueeze(-1)
        return ((left.Y.dense - residual / system.slack.unsqueeze(-1)).argmax(dim=1) == labels[stay]).double().mean()


class _Spectrum:
    """R~ and Q~ of training rows at any lam, from one eigendecomposition: ``carrot._ridge.loo`` has the formulas."""

    def __init__(self, rows: Rows, fit_intercept: bool, lam: float, known: Moments) -> None:
        mean, y_mean, self.v = centre(rows, fit_intercept)
        self.B = (rows.Y.dense - y_mean).mul_(rows.w.sqrt().unsqueeze(-1))
        self.c = torch.inf  # primal: Q~ = I - v v^T - Z (s + lam)^{-1} Z^T
        self.is_dual = isinstance(known, Gram)
        if isinstance(known, Gram):
            M, self.c = with_means(known.weighted(rows.w), self.v, lam)
            self.s, self.Z = torch.linalg.eigh(M)
            self.T = self.Z.mT @ self.B
        else:
            S, Q = known.moments(centred=fit_intercept)
            self.s, V = torch.linalg.eigh(S)
            self.Z, root = rows.w.new_empty(rows.G.shape), rows.w.sqrt().unsqueeze(-1)
            for some in blocks(*rows.G.shape):
                self.Z[some] = centred(rows.G, mean, some).mul_(root[some]) @ V
            self.T = V.mT @ Q
        self.s.clamp_(min=0.0)

    def residual(self, lam: float) -> Float[Tensor, "n C"]:
        """Return R~."""
        fitted = self.Z @ (self.T / (self.s + lam).unsqueeze(-1))
        return lam * fitted if self.is_dual else self.B - fitted

    def slack(self, lam: float) -> Float[Tensor, " n"]:
        """Return the diagonal of Q~, which is that of Q."""
        spread = torch.cat([self.Z[some].square() @ (1.0 / (self.s + lam)) for some in blocks(*self.Z.shape)])
        return lam * (spread - self.v.square() / (self.c + lam)) if self.is_dual else 1.0 - self.v.square() - spread

    def square_diagonal(self, lam: float) -> Float[Tensor, " n"]:
        """Return the diagonal of Q~^2; v, which centring removed, is in its null space, and A^T v = 0."""
        f = 1.0 / (self.s + lam)
        gain = f.square() if self.is_dual else 2.0 * f - self.s * f.square()
        spread = torch.cat([self.Z[some].square() @ gain for some in blocks(*self.Z.shape)])
        if self.is_dual:
            return lam**2 * (spread - self.v.square() / (self.c + lam) ** 2)
        return 1.0 - self.v.square() - spread

    def slack_columns(self, lam: float, some: Tensor) -> Float[Tensor, "n b"]:
        """Return Q~ against some pictures; of the primal form without the 1 of its diagonal."""
        product = self.Z @ (self.Z[some] / (self.s + lam)).mT
        if self.is_dual:
            return product.addr_(self.v, self.v[some], alpha=-1.0 / (self.c + lam)).mul_(lam)
        return product.addr_(self.v, self.v[some]).neg_()


def _pieces(pairs: Tensor, C: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs (j, column) so many at a time that their logits fit into a block."""
    for some in blocks(len(pairs), C):
        yield pairs[some, 0], pairs[some, 1]
