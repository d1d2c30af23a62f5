"""The exact leave-one-out error at every penalty of a path, from one eigendecomposition.

Letters are those of ``carrot._ridge.systems``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned
from carrot._display.brief import brief
from carrot._ridge.blocks import blocks, centred, square_sum
from carrot._ridge.gram import Gram
from carrot._ridge.rows import Rows
from carrot._ridge.systems import ALONE, Moments, centre, moments, solve, with_means
from carrot.errors import IllConditionedError

LOO_DECADES = (-7.0, 3.0)  # default path: half decades around the mean eigenvalue of A^T A
LOO_POINTS = 21
HELD = 2**27  # numbers in moments without one picture that are kept from one penalty to the next: 1 GiB


@dataclass(frozen=True)
class LooPath:
    """Exact leave-one-out error along a path of lam.

    Attributes:
        lams: Penalties, ascending.
        mse: Weighted mean over pictures, and mean over classes, of the squared leave-one-out error at each lam.
    """

    lams: Float[Tensor, " k"]
    mse: Float[Tensor, " k"]

    __repr__ = brief

    @property
    def best(self) -> int:
        """Index of the smallest error; of equal ones (to 12 digits) that with the largest lam."""
        return int(torch.nonzero(self.mse <= self.mse.min() * (1.0 + 1e-12)).max())

    @property
    def settled(self) -> bool:
        """Whether the smallest lam is best by less than 1 %: interpolation's limit, which smaller ones don't change."""
        return self.best == 0 and len(self.lams) > 1 and float(self.mse[1]) <= 1.01 * float(self.mse[0])

    def doubt(self, Y: Float[Tensor, "n C"]) -> str | None:
        """Return why the best lam of the path is no choice to rely on, for a user to read; None where it is."""
        if len(self.lams) < 2:
            return None
        lam = f"lam = {float(self.lams[self.best]):.3g}"
        if int((Y != 0).sum(dim=0).max()) == 1:
            return (
                "Every class has one training picture: without it nothing of its class is left, so leave-one-out can't "
                f"choose lam. {lam} is no measured choice. Fit with more pictures of a class, or with a `lam` of your "
                "own."
            )
        if self.best in (0, len(self.lams) - 1) and not self.settled:
            return (
                f"{lam} is the end of the path that leave-one-out chose from: a better one may lie beyond it. Fit with "
                "a `lam` of your own there (RidgeHead takes `lams` too)."
            )
        return None


@pinned()
def loo_path(
    rows: Rows, fit_intercept: bool, lams: Sequence[float] | None = None, known: Moments | None = None
) -> LooPath:
    """Return the exact leave-one-out error for every lam from one eigendecomposition.

    ::

        tall   A^T A = V diag(s) V^T, Z = A V            sqrt(w) R = B - Z (s + lam)^{-1} Z^T B,   Z^T B = V^T A^T B
                                                         1 - leverage = 1 - h0 - Z^2 (s + lam)^{-1}
        wide   A A^T + c v v^T = Z diag(s) Z^T           sqrt(w) R = lam Z (s + lam)^{-1} Z^T B
                                                         1 - leverage = lam (Z^2 (s + lam)^{-1} - v^2 / (c + lam))

    with h0 = w / sum(w) with intercept, else 0. Z is never there as a whole where it is tall: blocks of rows outside,
    lams inside. There 1 - leverage of a picture nearly alone in a direction would be rounding: the system is solved
    without it.

    Args:
        rows: Training rows, at least two.
        fit_intercept: Whether the head has an intercept.
        lams: Penalties; default 21 half decades, 1e-7 to 1e3 times the mean eigenvalue of the smaller Gram matrix.
        known: ``moments`` of the rows, where they are at hand.

    Raises:
        ValueError: There is one row only: nothing is left to predict it from.
    """
    n = len(rows.G)
    if n < 2:
        raise ValueError("lam='loo' needs at least two training pictures; got one. Give a number for `lam`.")
    known = known or moments(rows, fit_intercept)
    B, g_mean, _, v = centre(rows, fit_intercept)
    h0 = v.square()  # v = sqrt(w / sum(w)) with intercept, else 0
    if isinstance(known, Gram):
        M = known.weighted(rows.w)
        grid = _grid(lams, float(M.trace()), rows)
        M, c = with_means(M, v, float(grid[0]))
        s, V = torch.linalg.eigh(M)
        target = V.mT @ B
    else:
        S, Q = known.moments(centred=fit_intercept)
        grid, c = _grid(lams, float(S.trace()), rows), 0.0
        s, V = torch.linalg.eigh(S)
        target = V.mT @ Q
    s = s.clamp(min=0.0)  # positive semidefinite: anything below is rounding
    shrink = 1.0 / (s.unsqueeze(-1) + grid)  # (min(n, D), k)
    errors, worst = torch.zeros_like(grid), torch.full_like(grid, float("inf"))
    root = rows.w.sqrt().unsqueeze(-1)
    left_out = _LeftOut(rows, fit_intercept)
    for block in blocks(n, V.shape[1]):
        Z = V[block] if isinstance(known, Gram) else centred(rows.G, g_mean, block).mul_(root[block]) @ V
        spread = Z.square() @ shrink  # (b, k)
        for j, lam in enumerate(grid.tolist()):
            fitted = Z @ (shrink[:, j : j + 1] * target)
            if isinstance(known, Gram):
                residual, slack = lam * fitted, lam * (spread[:, j] - h0[block] / (c + lam))
            else:
                residual, slack = B[block] - fitted, 1.0 - h0[block] - spread[:, j]
                for i in torch.nonzero(slack < ALONE).flatten().tolist():
                    residual[i] = root[block][i] * left_out.error(block.start + i, lam)
                    slack[i] = 1.0
            errors[j] += (residual / slack.unsqueeze(-1)).square().sum()
            worst[j] = torch.minimum(worst[j], slack.min())
    mse = torch.where(worst > 0, errors / (rows.w.sum() * B.shape[1]), float("inf"))
    return LooPath(grid.cpu(), mse.cpu())


class _LeftOut:
    """y_i - what a fit without picture i says of it, by a real fit: for the rare picture whose 1 - leverage cancels."""

    def __init__(self, rows: Rows, fit_intercept: bool) -> None:
        self.rows, self.fit_intercept = rows, fit_intercept
        self.left: dict[int, tuple[Rows, Moments]] = {}

    def error(self, i: int, lam: float) -> Tensor:
        """Return it at one penalty, (C,); the moments of the others are formed once.

        Infinite where their system is singular.
        """
        if i not in self.left:
            left = self.rows.without(torch.tensor([i]))
            if len(self.left) * left.G.shape[1] ** 2 > HELD:
                self.left.clear()
            self.left[i] = left, moments(left, self.fit_intercept)
        left, known = self.left[i]
        try:
            system = solve(left, lam, self.fit_intercept, known)
        except IllConditionedError:
            return torch.full_like(self.rows.Y[i], torch.inf)
        return self.rows.Y[i] - self.rows.G[i].to(torch.float64) @ system.W_star - system.bias


def _grid(lams: Sequence[float] | None, trace: float, rows: Rows) -> Tensor:
    """Return the penalties of a path; by default around the mean eigenvalue, ``trace`` over min(n, D)."""
    if lams is not None:
        return torch.tensor(lams, dtype=rows.w.dtype, device=rows.w.device)
    few = min(rows.G.shape)
    scale, size = trace / few, square_sum(rows.G, rows.w) / few
    if scale <= (64.0 * torch.finfo(rows.w.dtype).eps) ** 2 * size or scale == 0.0:  # all embeddings equal, to rounding
        scale = size or 1.0
    return torch.logspace(*LOO_DECADES, LOO_POINTS, dtype=rows.w.dtype, device=rows.w.device) * scale
