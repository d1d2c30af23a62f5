"""The exact leave-one-out error at every penalty of a path, from one eigendecomposition.

Letters are those of ``carrot._ridge.systems``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned
from carrot._display.brief import brief
from carrot._ridge.blocks import blocks, each_block, sum_of
from carrot._ridge.factor import spectrum
from carrot._ridge.gram import Gram
from carrot._ridge.passes import found
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
    return LooPath(grid.cpu(), (errors / (sum_of(rows.w) * rows.Y.C)).cpu())


def _wide(
    rows: Rows, fit_intercept: bool, lams: Sequence[float] | None, known: Gram
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Return the penalties, and the sum of squared errors at each."""
    g_mean, y_mean, v = centre(rows, fit_intercept)
    B = (rows.Y.dense - y_mean).mul_(rows.w.sqrt().unsqueeze(-1))
    M = known.weighted(rows.w)
    grid = _grid(lams, float(M.trace()), g_mean, rows)
    M, c = with_means(M, v, float(grid[0]))
    s, V = spectrum(M)
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
    s, V = spectrum(S)
    tall = _Tall(rows, fit_intercept, known, s.clamp(min=0.0), V, V.mT @ Q)
    if not pays(Q.shape[0], Q.shape[1], len(grid)):
        return grid, tall.errors(grid)
    squares = Squares.of(tall.s, tall.target)
    errors, noise = tall.screened(grid, squares)
    unsure = (noise > SETTLED * errors) | (errors - noise <= (errors + noise).min())
    if int(unsure.sum()) > 1 or bool((noise > SETTLED * errors).any()):
        errors[unsure] = tall.errors(grid[unsure])
    return grid, errors


class _Tall:
    """The sums of a path over the rows, whoever goes over them; what a pass leaves open is settled by fits, here."""

    def __init__(
        self, rows: Rows, fit_intercept: bool, known: RidgeStatistics, s: Tensor, V: Tensor, target: Tensor
    ) -> None:
        self.rows, self.s, self.V, self.target = rows, s, V, target
        self._shift = 1.0 / sum_of(rows.w) if fit_intercept else torch.zeros_like(rows.w[0])
        share = float(fit_intercept)
        self._means = share * known.g_mean, share * known.y_mean
        self._left_out = _LeftOut(rows, fit_intercept)

    def errors(self, grid: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        """Return the sum of squared errors at each penalty: a product with D x C numbers each."""
        return self._sums(_Errors(self.V, _shrink(self.s, grid), *self._means, self._shift, self.target), grid)[0]

    def screened(self, grid: Float[Tensor, " k"], squares: Squares) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
        """Return the same by ``Squares``, and how far it may be off."""
        shrink = _shrink(self.s, grid)
        errors, noise = self._sums(_Screened(self.V, shrink, *self._means, self._shift, squares, grid), grid)
        return errors, noise

    def _sums(self, work: "_Spread", grid: Float[Tensor, " k"]) -> Float[Tensor, "2 k"]:
        total, alone = torch.zeros(2, len(grid), dtype=torch.float64, device=grid.device), list[tuple[int, int]]()
        for part, (sums, some) in found(self.rows, work):
            total += sums
            alone += [(part.start + i, j) for i, j in some]
        for i, j in alone:
            total[0, j] += self.rows.w[i] * self._left_out.error(i, float(grid[j])).square().sum()
        return total


@dataclass(frozen=True, eq=False)
class _Spread(ABC):
    """A pass over rows in the eigenvectors of their moments, a block at a time.

    Z is never there as a whole, nor are residuals.
    """

    V: Tensor
    shrink: Tensor
    g_mean: Tensor
    y_mean: Tensor
    shift: Tensor

    @property
    def columns(self) -> int:
        """How many columns a block meets."""
        return len(self.V)

    def __call__(self, rows: Rows, start: int) -> tuple[Tensor, list[tuple[int, int]]]:
        """Return two sums at each penalty, errors and noise; and which rows, at which, are in neither."""
        total, alone, room = self.shrink.new_zeros(2, self.shrink.shape[1]), list[tuple[int, int]](), None
        for block, A in each_block(rows.G, self.g_mean, self.columns):
            room = torch.empty_like(A) if room is None else room
            Z, w = torch.mm(A, self.V, out=room[: len(A)]), rows.w[block].unsqueeze(-1)
            slack = 1.0 - self.shift * w - (Z.square() @ self.shrink).mul_(w)
            is_alone = slack < ALONE
            alone += [(block.start + i, j) for i, j in is_alone.nonzero().tolist()]
            total += self.sums(rows, block, Z, slack.masked_fill_(is_alone, torch.inf))
        return total, alone

    @abstractmethod
    def sums(self, rows: Rows, block: slice, Z: Tensor, slack: Tensor) -> Tensor:
        """Return what a block adds, (2, k); rows whose slack is infinite add no error."""


@dataclass(frozen=True, eq=False)
class _Errors(_Spread):
    """By the residuals; no noise."""

    target: Tensor

    @property
    def columns(self) -> int:
        """Residuals, of every class, may be more."""
        return max(self.target.shape)

    def sums(self, rows: Rows, block: slice, Z: Tensor, slack: Tensor) -> Tensor:
        errors, w = self.shrink.new_zeros(2, self.shrink.shape[1]), rows.w[block]
        for j in range(errors.shape[1]):
            residual = rows.Y.minus((Z @ (self.shrink[:, j : j + 1] * self.target)).add_(self.y_mean), block)
            errors[0, j] = (residual.square_().sum(dim=1) / slack[:, j].square()) @ w
        return errors


@dataclass(frozen=True, eq=False)
class _Screened(_Spread):
    """By ``Squares``, and what these may be off by."""

    squares: Squares
    grid: Tensor

    def sums(self, rows: Rows, block: slice, Z: Tensor, slack: Tensor) -> Tensor:
        sizes, T = rows.Y.squares(self.y_mean, block), self.squares.target.mT
        along = rows.Y.times(T, block).sub_(self.y_mean @ T)
        squares, w, per_slack = self.squares.at(Z, along, sizes, self.grid), rows.w[block], slack.square().reciprocal()
        return torch.stack([w @ (squares * per_slack), NOISE * ((w * sizes) @ per_slack)])


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
    scale, size = trace / few, (trace + float(sum_of(w) * mean.square().sum())) / few
    if scale <= (64.0 * torch.finfo(w.dtype).eps) ** 2 * size or scale == 0.0:  # all embeddings equal, to rounding
        scale = size or 1.0
    return torch.logspace(*LOO_DECADES, LOO_POINTS, dtype=w.dtype, device=w.device) * scale
