"""The linear algebra under the head: one ridge system, solved in its primal (D x D) or its dual (n x n) form.

Both classes answer the same questions, equations (1) to (5) of ``carrot.head``; letters are the same. Write A = sqrt(w) (G - gm),
B = sqrt(w) (Y - ym). Then

::

    primal   K = A^T A + lam I = C C^T,       W* = K^{-1} A^T B,     k(a, z) = <C^{-1} a~, C^{-1} z~> + [intercept] / sum(w)
    dual     M = A A^T + lam I + c v v^T,     beta = M^{-1} B,       W* = A^T beta,   alpha = sqrt(w) beta

With intercept v = sqrt(w) / |sqrt(w)| spans what centring removed: A^T v = 0 and B^T v = 0, so c changes no answer. It is
there for the digits: without it M^{-1} holds v v^T / lam, and ``1 - leverage = lam (M^{-1}_ii - v_i^2 / (lam + c))`` cancels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from carrot.errors import IllConditionedError
from carrot.rows import Rows
from carrot.statistics import RidgeStatistics

LOO_DECADES = (-7.0, 3.0)  # default path: half decades around the mean eigenvalue of A^T A
LOO_POINTS = 21
ALONE = 1e-6  # slack below which a picture's own system is solved without it


@dataclass(frozen=True)
class LooPath:
    """Exact leave-one-out error along a path of lam.

    Attributes:
        lams: Penalties, ascending.
        mse: Weighted mean over pictures, and mean over classes, of the squared leave-one-out error at each lam.
    """

    lams: Float[Tensor, " k"]
    mse: Float[Tensor, " k"]

    @property
    def best(self) -> int:
        """Index of the smallest error; of equal ones (to 12 digits) that with the largest lam."""
        return int(torch.nonzero(self.mse <= self.mse.min() * (1.0 + 1e-12)).max())


class PrimalSystem:
    """K W* = A^T B by Cholesky of K (D x D). ``rows=None``: from statistics alone, without the per-picture answers."""

    def __init__(self, statistics: RidgeStatistics, lam: float, fit_intercept: bool, rows: Rows | None = None) -> None:
        S, Q = statistics.moments(centred=fit_intercept)
        self._factor = _cholesky(S + lam * torch.eye(S.shape[0], dtype=S.dtype, device=S.device), lam)
        self.statistics, self._lam, self._rows = statistics, lam, rows
        self._shift = 1.0 / statistics.weight if fit_intercept else 0.0
        self.g_mean = statistics.g_mean if fit_intercept else torch.zeros_like(statistics.g_mean)
        self.y_mean = statistics.y_mean if fit_intercept else torch.zeros_like(statistics.y_mean)
        self.W_star = torch.cholesky_solve(Q, self._factor)
        self.bias = self.y_mean - self.g_mean @ self.W_star

    def _whiten(self, g: Tensor) -> Tensor:  # (..., D) -> (..., D): C^{-1} (g - gm)
        return torch.linalg.solve_triangular(
            self._factor, (g - self.g_mean).reshape(-1, g.shape[-1]).mT, upper=False
        ).mT.reshape(g.shape)

    def kernel(self, a: Tensor, z: Tensor) -> Tensor:
        """k(a, z)."""
        return self._whiten(a) @ self._whiten(z).mT + self._shift

    @cached_property
    def _whitened_rows(self) -> Tensor:  # (n, D)
        return self._whiten(self._need_rows().G)

    def smoother(self, g: Tensor, rows: Tensor | slice) -> Tensor:
        """s(g)."""
        return (self._whiten(g) @ self._whitened_rows[rows].mT + self._shift) * self._need_rows().w[rows]

    @cached_property
    def alpha(self) -> Tensor:
        """Dual weights w R / lam."""
        G, Y, w = self._need_rows()
        R = Y - G @ self.W_star - self.bias
        for i, left in self._alone.items():  # R_i = (1 - leverage_i) (y_i - the prediction without i)
            R[i] = self.slack[i] * (Y[i] - G[i] @ left.W_star - left.bias)
        return R * (w / self._lam).unsqueeze(-1)

    @cached_property
    def slack(self) -> Tensor:
        """1 - leverage; of pictures that are nearly alone in a direction, 1 / (1 + w_i k_{-i}(g_i, g_i)), without cancellation."""
        G, _, w = self._need_rows()
        slack = 1.0 - self._leverage
        for i, left in self._alone.items():
            slack[i] = 1.0 / (1.0 + w[i] * left.kernel(G[i : i + 1], G[i : i + 1])[0, 0])
        return slack

    @cached_property
    def _leverage(self) -> Tensor:
        return self._need_rows().w * (self._whitened_rows.square().sum(dim=-1) + self._shift)

    @cached_property
    def _alone(self) -> "dict[int, RidgeSystem]":
        """Return the systems without each picture whose leverage is 1 to 6 digits: rare, and each a refit."""
        rows = self._need_rows()
        found: dict[int, RidgeSystem] = {}
        for i in torch.nonzero(1.0 - self._leverage < ALONE).flatten().tolist():
            stay = torch.arange(len(rows.G), device=rows.G.device) != i
            found[i] = solve(Rows(*(x[stay] for x in rows)), self._lam, self._shift > 0.0)
        return found

    def _need_rows(self) -> Rows:
        if self._rows is None:  # the head asks first, with a message for the user
            raise RuntimeError("this system was made from statistics alone")
        return self._rows


class DualSystem:
    """M beta = B by Cholesky of M (n x n), for n <= D: never forms a D x D matrix."""

    def __init__(self, rows: Rows, lam: float, fit_intercept: bool) -> None:
        self._rows, self._lam = rows, lam
        A, B, self.g_mean, self.y_mean, v = _centre(rows, fit_intercept)
        self._A, self._root = A, rows.w.sqrt()
        M = A @ A.mT
        c = float(M.diagonal().mean()) + lam
        self._v_share = v.square() / (lam + c)
        self._factor = _cholesky(
            M + lam * torch.eye(M.shape[0], dtype=M.dtype, device=M.device) + c * torch.outer(v, v), lam
        )
        self._shift = 1.0 / float(rows.w.sum()) if fit_intercept else 0.0
        beta = torch.cholesky_solve(B, self._factor)
        self.alpha = self._root.unsqueeze(-1) * beta
        self.W_star = A.mT @ beta
        self.bias = self.y_mean - self.g_mean @ self.W_star

    def kernel(self, a: Tensor, z: Tensor) -> Tensor:
        """k(a, z) by the Woodbury formula: K^{-1} = (I - A^T M^{-1} A) / lam."""
        a, z = a - self.g_mean, z - self.g_mean
        through = torch.cholesky_solve(self._A @ z.mT, self._factor)  # (n, k)
        return (a @ z.mT - (a @ self._A.mT) @ through) / self._lam + self._shift

    def smoother(self, g: Tensor, rows: Tensor | slice) -> Tensor:
        """s(g)."""
        products = (g - self.g_mean) @ self._A.mT  # (..., n)
        solved = torch.cholesky_solve(products.reshape(-1, products.shape[-1]).mT, self._factor).mT.reshape(
            products.shape
        )
        return (solved * self._root + self._shift * self._rows.w)[..., rows]

    @cached_property
    def slack(self) -> Tensor:
        """1 - leverage = lam (M^{-1}_ii - v_i^2 / (lam + c))."""
        return self._lam * (torch.cholesky_inverse(self._factor).diagonal() - self._v_share)


RidgeSystem = PrimalSystem | DualSystem


def prefers_dual(rows: Rows, fit_intercept: bool) -> bool:
    """Return whether rows are so few that every one may have leverage near 1: n <= D, or D + 1 with an intercept.

    There ``1 - leverage`` cancels in the primal form, and the dual one is no larger.
    """
    n, D = rows.G.shape
    return n <= D + int(fit_intercept)


def solve(rows: Rows, lam: float, fit_intercept: bool, statistics: RidgeStatistics | None = None) -> RidgeSystem:
    """Solve in the dual form if n is at most D, else in the primal (from ``statistics`` of the rows where they are at hand).

    Raises:
        IllConditionedError: The system is singular in float64.
    """
    if prefers_dual(rows, fit_intercept):
        return DualSystem(rows, lam, fit_intercept)
    return PrimalSystem(statistics or RidgeStatistics.from_rows(*rows), lam, fit_intercept, rows)


def loo_path(rows: Rows, fit_intercept: bool, lams: Sequence[float] | None = None) -> LooPath:
    """Return the exact leave-one-out error for every lam from one eigendecomposition.

    ::

        tall   A^T A = V diag(s) V^T, Z = A V            sqrt(w) R = B - Z (s + lam)^{-1} Z^T B
                                                         1 - leverage = 1 - h0 - Z^2 (s + lam)^{-1}
        wide   A A^T + c v v^T = U diag(s) U^T           sqrt(w) R = lam U (s + lam)^{-1} U^T B
                                                         1 - leverage = lam (U^2 (s + lam)^{-1} - v^2 / (c + lam))

    with h0 = w / sum(w) with intercept, else 0.

    Args:
        rows: Training rows, at least two.
        fit_intercept: Whether the head has an intercept.
        lams: Penalties; default 21 half decades, 1e-7 to 1e3 times the mean eigenvalue of the smaller Gram matrix.

    Raises:
        ValueError: There is one row only: nothing is left to predict it from.
    """
    n, D = rows.G.shape
    dual = prefers_dual(rows, fit_intercept)
    if n < 2:
        raise ValueError("lam='loo' needs at least two training pictures; got one. Give a number for `lam`.")
    A, B, _, _, v = _centre(rows, fit_intercept)
    scale, size = float(A.square().sum()) / min(n, D), float((rows.w @ rows.G.square()).sum()) / min(n, D)
    if scale <= (64.0 * torch.finfo(A.dtype).eps) ** 2 * size or scale == 0.0:  # all embeddings equal, to rounding
        scale = size or 1.0
    grid = (
        torch.logspace(*LOO_DECADES, LOO_POINTS, dtype=A.dtype) * scale
        if lams is None
        else torch.tensor(lams, dtype=A.dtype)
    )
    h0 = v.square()  # v = sqrt(w / sum(w)) with intercept, else 0
    if dual:
        M = A @ A.mT
        c = float(M.diagonal().mean()) + float(grid[0])
        s, U = torch.linalg.eigh(M + c * torch.outer(v, v))
        squares, target = U.square(), U.mT @ B
    else:
        s, V = torch.linalg.eigh(A.mT @ A)
        U = A @ V
        squares, target = U.square(), U.mT @ B
    s = s.clamp(min=0.0)  # positive semidefinite: anything below is rounding
    errors = []
    for lam in grid.tolist():
        shrink = 1.0 / (s + lam)
        fitted = U @ (shrink.unsqueeze(-1) * target)
        if dual:
            residual, slack = lam * fitted, lam * (squares @ shrink - h0 / (c + lam))
        else:
            residual, slack = B - fitted, 1.0 - h0 - squares @ shrink
        error = (residual / slack.unsqueeze(-1)).square().sum() / (rows.w.sum() * B.shape[1])
        errors.append(float(error) if bool((slack > 0).all()) else float("inf"))
    return LooPath(grid, torch.tensor(errors, dtype=A.dtype))


def _centre(rows: Rows, fit_intercept: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return A, B, gm, ym and v; means and v are 0 without an intercept."""
    G, Y, w = rows
    if fit_intercept:
        g_mean, y_mean, v = w @ G / w.sum(), w @ Y / w.sum(), (w / w.sum()).sqrt()
    else:
        g_mean, y_mean, v = torch.zeros_like(G[0]), torch.zeros_like(Y[0]), torch.zeros_like(w)
    root = w.sqrt().unsqueeze(-1)
    return root * (G - g_mean), root * (Y - y_mean), g_mean, y_mean, v


def _cholesky(K: Tensor, lam: float) -> Tensor:
    """Return the lower Cholesky factor, or raise with the condition number."""
    factor, info = torch.linalg.cholesky_ex(K)
    diagonal = factor.diagonal()
    # max/min of the factor's squared diagonal bounds the condition number from below
    if not bool(torch.isfinite(K).all()):
        raise IllConditionedError("The ridge system overflows float64: the embeddings are too large. Scale them down.")
    if int(info) == 0 and float(diagonal.min() / diagonal.max()) ** 2 > torch.finfo(K.dtype).eps:
        return factor
    eigenvalues = torch.linalg.eigvalsh(K)
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    what = (
        f"its condition number is {high / low:.1e}"
        if low > 0
        else f"its condition number is over {1 / torch.finfo(K.dtype).eps:.0e}"
    )
    raise IllConditionedError(
        f"The ridge system is singular in float64 at lam = {lam:.3g}: {what}. Raise `lam`, or use lam='loo'."
    )
