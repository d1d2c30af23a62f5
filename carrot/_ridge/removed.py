"""A ridge system without a few of its pictures: the old one and a correction of as many ranks, nothing solved anew.

With S_ij = s_j(g_i) of the old system, Q = I - S, U the pictures that go, and X = Q_UU^{-1} R_U, which is what the head
fitted without them misses each of them by:

::

    W*'  =  W* - K^{-1} (G_U - gm)^T w_U X          n > D: two triangular solves for each of U                    (1)
         =  W* - G~^T (w / lam) Q_:U X              n <= D: one pass over the rows, with |U| columns               (2)
    gm'  =  gm - sum_U w_u (g_u - gm) / w',         b' = ym' - gm'^T W*',         w' = what weight is left          (3)

Rows are gathered, and what else a head answers is solved, when it is asked for. Removals add up in U; the correction is
measured from the system that was solved last. It is refused, and a system is solved anew, where under a tenth is left
of something, which costs a digit: of the largest target; n > D, of K in some direction (Q_UU, which says so, is at
hand); n <= D, of squared distances, of duals, or of the slack of those that lose most of it.

Reference: Sherman and Morrison (1950), Woodbury (1950); Hager, SIAM Review 31 (1989).
"""

from functools import cached_property

import torch
from torch import Tensor

from carrot._ridge.blocks import transposed_times
from carrot._ridge.later import Later
from carrot._ridge.rows import Rows
from carrot._ridge.systems import DualSystem, System, prefers_dual, solve

LEFT = 0.1  # of what was there, at least: a digit is lost
DENSEST = 4  # U is at most this part of the system: beyond, another factor costs no more
LOOKED_AT = 8  # pictures whose slack is looked at after (2): those that lose most


class Removed(Later):
    """The system that is left; ``without`` makes it. Letters are those of ``carrot._ridge.systems``."""

    def __init__(self, base: System, rows: Rows, lam: float, gone: Tensor, step: Tensor, X: Tensor) -> None:
        self._base: System | None = base
        self._old, self._lam, self.gone, self._step, self._X = rows, lam, gone, step, X
        self.fit_intercept, self.stay = base._shift > 0.0, rows.others(gone)
        w, w_gone = rows.w, rows.w[gone]
        left = w.sum() - w_gone.sum()
        self._shift = float(1.0 / left) if self.fit_intercept else 0.0
        moved = w_gone @ (rows.G[gone].to(torch.float64) - base.g_mean) / left
        self.g_mean = base.g_mean - moved if self.fit_intercept else base.g_mean
        self.y_mean = rows.Y[self.stay].mean(w[self.stay]) if self.fit_intercept else base.y_mean

    @property
    def n(self) -> int:
        """How many pictures are left."""
        return len(self.stay)

    @cached_property
    def rows(self) -> Rows:
        """The rows that are left, gathered."""
        return self._old.at(self.stay)

    @cached_property
    def W_star(self) -> Tensor:  # type: ignore[override]  # attributes that are computed when they are asked for
        """Equations (1) and (2)."""
        base, old, change = self._base, self._old, self._step
        if base is None:
            return self.solved.W_star
        if isinstance(base, DualSystem):
            few = change.shape[1] <= self._X.shape[1]
            share = (old.w / self._lam).unsqueeze(-1)
            change = transposed_times(old.G, base.g_mean, share * (change if few else change @ self._X))
            return (base.W_star - (change @ self._X if few else change)).contiguous()
        return (base.W_star - change @ self._X).contiguous()

    @cached_property
    def bias(self) -> Tensor:  # type: ignore[override]
        """Equation (3)."""
        return self.y_mean - self.g_mean @ self.W_star

    @cached_property
    def alpha(self) -> Tensor:  # type: ignore[override]
        """Dual weights."""
        return self.solved.alpha

    @cached_property
    def solved(self) -> System:
        """The system solved for the rows that are left, from the old one's moments, which is let go."""
        base, rows, _ = self._base, self.rows, self.bias  # what it answers stays as it is
        system = solve(rows, self._lam, self.fit_intercept, None if base is None else base.shrunk(self.stay, rows))
        self.__dict__["solved"], self._base, self._old = system, None, rows  # in this order: threads may share it
        return system

    def without(self, gone: Tensor) -> "Removed | None":
        """Return what is left without more, by their numbers now; None: see ``without``."""
        base, old = self._base, self._old
        if base is None or "solved" in self.__dict__:
            return without(self.solved, self.rows, self._lam, gone)
        return without(base, old, self._lam, torch.cat([self.gone, self.stay[gone]]))


def without(base: System, rows: Rows, lam: float, gone: Tensor) -> Removed | None:
    """Return the system without some pictures, which leave others; None where it had better be solved anew.

    Args:
        base: The system; it is not changed.
        rows: Its rows.
        lam: Its penalty.
        gone: Numbers of the pictures.
    """
    if isinstance(base, Later):
        base = base.solved
    n, D = rows.G.shape
    if rows.Y[rows.others(gone)].reach < LEFT * rows.Y.reach:
        return None
    is_dual = isinstance(base, DualSystem)
    if len(gone) > max(3, min(n, D) // DENSEST) or is_dual != prefers_dual(n - len(gone), D, base._shift > 0.0):
        return None
    found = _dual(base, rows, lam, gone) if isinstance(base, DualSystem) else _primal(base, rows, gone)
    return None if found is None else Removed(base, rows, lam, gone, *found)


def _primal(base: System, rows: Rows, gone: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return ``K^{-1} (G_U - gm)^T w_U`` and X; None where it would cost digits."""
    G, w = rows.G[gone].to(torch.float64), rows.w[gone]
    solved = base.inverse_times(G)
    k = (G - base.g_mean) @ solved + base._shift
    root = w.sqrt()
    Q = torch.eye(len(w)).to(k) - root.unsqueeze(-1) * k * root  # symmetric: sqrt(w) Q_UU / sqrt(w)
    s, V = torch.linalg.eigh(Q)
    if not float(s.min()) >= LEFT:
        return None
    R = root.unsqueeze(-1) * (rows.Y[gone].dense - (G - base.g_mean) @ base.W_star - base.y_mean)
    return solved * root, V @ ((V.mT @ R) / s.unsqueeze(-1))


def _dual(base: DualSystem, rows: Rows, lam: float, gone: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return Q_:U and X; None where it would cost digits."""
    w, stay, distances, alpha = rows.w, rows.others(gone), base.gram.N.diagonal(), base.alpha
    moved = (w[gone] @ (rows.G[gone].to(torch.float64) - base.g_mean)).square().sum() / w[stay].sum()
    around = w[stay] @ distances[stay] - (moved if base._shift > 0.0 else 0.0)  # of what is left, its own mean
    if not float(around) >= LEFT * float(w @ distances):
        return None
    Q = base.slack_columns(gone)
    X = torch.linalg.lu_solve(*torch.linalg.lu_factor(Q[gone]), lam * alpha[gone] / w[gone].unsqueeze(-1))
    left = alpha - (w / lam).unsqueeze(-1) * (Q @ X)
    norms = left[stay].norm(dim=0), alpha[stay].norm(dim=0)
    if not bool((norms[0] >= LEFT * norms[1]).all()):
        return None
    lost = (Q * torch.linalg.solve(Q[gone], Q.mT * (w / w[gone].unsqueeze(-1))).mT).sum(dim=1)
    least = lam / (lam + w * distances)  # what slack there is, about, where nobody shares a direction
    most = stay[(lost / least)[stay].topk(min(LOOKED_AT, len(stay))).indices]
    slack = base.slack_among(most).diagonal()
    return (Q, X) if bool((slack - lost[most] >= LEFT * slack).all()) else None
