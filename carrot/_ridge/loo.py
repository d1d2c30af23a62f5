"""The exact leave-one-out error at every penalty of a path, from one eigendecomposition.

Letters are those of ``carrot._ridge.systems``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned
from carrot._display.brief import brief
from carrot._ridge.blocks import blocks, each_block
from carrot._ridge.gram import Gram
from carrot._ridge.rows import Rows
from carrot._ridge.squares import NOISE, Squares, pays
from carrot._ridge.statistics import RidgeStatistics
from carrot._ridge.systems import ALONE, Moments, centre, moments, solve, with_means
from carrot._ridge.targets import Targets
from carrot.errors import IllConditionedError

LOO_DECADES = (-7.0, 3.0)  # default path: half decades around the mean eigenvalue of A^T A
LOO_POINTS = 21
SETTLED = 1e-6  # relative error of a sum of squares that is taken as it was screened
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

    def doubt(self, Y: Targets) -> str | None:
        """Return why the best lam of the path is no choice to rely on, for a user to read; None where it is."""
        if len(self.lams) < 2:
            return None
        lam = f"lam = {float(self.lams[self.best]):.3g}"
        if Y.most_of_a_class == 1:
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
    lams inside; of many classes not even residuals, but their squared norms alone (``Squares``). There 1 - leverage of
    a picture nearly alone in a direction would be rounding: the system is solved without it.

    Args:
        rows: Training rows, at least two.
        fit_intercept: Whether the head has an intercept.
        lams: Penalties; default 21 half decades, 1e-7 to 1e3 times the mean eigenvalue of the smaller Gram matrix.
        known: ``moments`` of the rows, where they are at hand.

    Raises:
        ValueError: There is one row only: nothing is left to predict it from.
    """
    if len(rows.G) < 2:
        raise ValueError("lam='loo' needs at least two training pictures; got one. Give a number for `lam`.")
    known = known or moments(rows, fit_intercept)
    if isinstance(known, Gram):
        grid, errors = _wide(rows, fit_intercept, lams, known)
    else:
        grid, errors = _tall(rows, fit_intercept, lams, known)
    return LooPath(grid.cpu(), (errors / (rows.w.sum() * rows.Y.C)).cpu())


def _wide(
    rows: Rows, fit_intercept: bool, lams: Sequence[float] | None, known: Gram
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Return the penalties, and the sum of squared errors at each."""
    g_mean, y_mean, v = centre(rows, fit_intercept)
    B = (rows.Y.dense - y_mean).mul_(rows.w.sqrt().unsqueeze(-1))
    M = known.weighted(rows.w)
    grid = _grid(lams, float(M.trace()), g_mean, rows)
    M, c = with_means(M, v, float(grid[0]))
    s, V = torch.linalg.eigh(M)
    shrink, target = _shrink(s, grid), V.mT @ B
    errors, worst = torch.zeros_like(grid), torch.full_like(grid, torch.inf)
    for block in blocks(*V.shape):
        spread = V[block].square() @ shrink  # (b, k)
        for j, lam in enumerate(grid.tolist()):
            slack = lam * (spread[:, j] - v[block].square() / (c + lam))
            residual = lam * (V[block] @ (shrink[:, j : j + 1] * target))
            errors[j] += (residual / slack.unsqueeze(-1)).square().sum()
            worst[j] = torch.minimum(worst[j], slack.min())
    return grid, torch.where(worst > 0, errors, torch.inf)


def _tall(
    rows: Rows, fit_intercept: bool, lams: Sequence[float] | None, known: RidgeStatistics
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Return the penalties, and the sum of squared errors at each.

    Where ``Squares`` are less work, they say all of it, and what they can't settle is asked again.
    """
    S, Q = known.moments(centred=fit_intercept)
    mean = known.g_mean if fit_intercept else torch.zeros_like(known.g_mean)
    grid = _grid(lams, float(S.trace()), mean, rows)
    s, V = torch.linalg.eigh(S)
    tall = _Tall(rows, fit_intercept, s.clamp(min=0.0), V, V.mT @ Q)
    if not pays(Q.shape[0], Q.shape[1], len(grid)):
        return grid, tall.errors(grid)
    squares = Squares.of(tall.s, tall.target)
    errors, noise = tall.screened(grid, squares)
    unsure = (noise > SETTLED * errors) | (errors - noise <= (errors + noise).min())
    if int(unsure.sum()) > 1 or bool((noise > SETTLED * errors).any()):
        errors[unsure] = tall.errors(grid[unsure])
    return grid, errors


class _Tall:
    """Rows in the eigenvectors of their moments, a block at a time: Z is never there as a whole, nor are residuals."""

    def __init__(self, rows: Rows, fit_intercept: bool, s: Tensor, V: Tensor, target: Tensor) -> None:
        self.rows, self.s, self.V, self.target = rows, s, V, target
        self._g_mean, self._y_mean, v = centre(rows, fit_intercept)
        self._h0 = v.square()  # v = sqrt(w / sum(w)) with intercept, else 0
        self._left_out = _LeftOut(rows, fit_intercept)

    def errors(self, grid: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        """Return the sum of squared errors at each penalty: a product with D x C numbers each."""
        shrink, errors = _shrink(self.s, grid), torch.zeros_like(grid)
        weights = [shrink[:, j : j + 1] * self.target for j in range(len(grid))]
        for block, Z in self._blocks():
            slack, w = self._slack(block, Z, shrink), self.rows.w[block]
            for j, lam in enumerate(grid.tolist()):
                residual, apart = self.rows.Y.minus((Z @ weights[j]).add_(self._y_mean), block), slack[:, j]
                for i in torch.nonzero(apart < ALONE).flatten().tolist():
                    residual[i], apart[i] = self._left_out.error(block.start + i, lam), 1.0
                errors[j] += (residual.square_().sum(dim=1) / apart.square()) @ w
        return errors

    def screened(self, grid: Float[Tensor, " k"], squares: Squares) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
        """Return the same by ``Squares``, and how far it may be off."""
        shrink, errors, noise = _shrink(self.s, grid), torch.zeros_like(grid), torch.zeros_like(grid)
        for block, Z in self._blocks():
            sizes, slack = self.rows.Y.squares(self._y_mean, block), self._slack(block, Z, shrink)
            along = self.rows.Y.times(squares.target.mT, block).sub_(self._y_mean @ squares.target.mT)
            found, w = squares.at(Z, along, sizes, grid), self.rows.w[block]
            for i, j in torch.nonzero(slack < ALONE).tolist():
                found[i, j] = self._left_out.error(block.start + i, float(grid[j])).square().sum()
                slack[i, j] = 1.0
            per_slack = slack.square().reciprocal()
            errors += w @ (found * per_slack)
            noise += NOISE * ((w * sizes) @ per_slack)
        return errors, noise

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows, and (g - gm) V of each: weights come in where squares are summed."""
        room = None
        for block, A in each_block(self.rows.G, self._g_mean):
            room = torch.empty_like(A) if room is None else room
            yield block, torch.mm(A, self.V, out=room[: len(A)])

    def _slack(self, block: slice, Z: Tensor, shrink: Tensor) -> Tensor:
        leverage = (Z.square() @ shrink).mul_(self.rows.w[block].unsqueeze(-1))
        return 1.0 - self._h0[block].unsqueeze(-1) - leverage


def _shrink(s: Float[Tensor, " r"], grid: Float[Tensor, " k"]) -> Float[Tensor, "r k"]:
    """Return (s + lam)^{-1}; s is that of a positive semidefinite matrix: anything below 0 is rounding."""
    return 1.0 / (s.clamp(min=0.0).unsqueeze(-1) + grid)


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
            return torch.full_like(self.rows.Y.row(i), torch.inf)
        return self.rows.Y.row(i) - self.rows.G[i].to(torch.float64) @ system.W_star - system.bias


def _grid(lams: Sequence[float] | None, trace: float, mean: Float[Tensor, " D"], rows: Rows) -> Tensor:
    """Return the penalties of a path; by default around the mean eigenvalue, ``trace`` over min(n, D).

    Args:
        lams: The caller's own.
        trace: Sum of w |g - mean|^2.
        mean: Where that was measured from.
        rows: The rows.
    """
    w, few = rows.w, min(rows.G.shape)
    if lams is not None:
        return torch.tensor(lams, dtype=w.dtype, device=w.device)
    scale, size = trace / few, (trace + float(w.sum() * mean.square().sum())) / few
    if scale <= (64.0 * torch.finfo(w.dtype).eps) ** 2 * size or scale == 0.0:  # all embeddings equal, to rounding
        scale = size or 1.0
    return torch.logspace(*LOO_DECADES, LOO_POINTS, dtype=w.dtype, device=w.device) * scale
