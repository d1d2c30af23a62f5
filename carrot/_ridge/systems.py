"""The linear algebra under the head: one ridge system, solved in its primal (D x D) or its dual (n x n) form.

Both forms are a ``System``: they answer the same questions, equations (1) to (5) of ``carrot.head``; letters are the
same. Write A = sqrt(w) (G - gm), B = sqrt(w) (Y - ym). Then

::

    primal   K = A^T A + lam I = C C^T,     W* = K^{-1} A^T B,   k(a, z) = <C^{-1} a~, C^{-1} z~> + [intercept] / sum(w)
    dual     M = A A^T + lam I + c v v^T,   beta = M^{-1} B,     W* = A^T beta,   alpha = sqrt(w) beta

With intercept v = sqrt(w) / |sqrt(w)| spans what centring removed: A^T v = 0 and B^T v = 0, so c changes no answer. It
is there for the digits: without it M^{-1} holds v v^T / lam, and ``1 - leverage = lam (M^{-1}_ii - v_i^2 / (lam + c))``
cancels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from carrot._ridge.blocks import sum_of, times, transposed_times, weighted_mean
from carrot._ridge.factor import Whitened, cholesky, solve_alike, solve_factored
from carrot._ridge.gram import Gram
from carrot._ridge.passes import found
from carrot._ridge.rows import Rows
from carrot._ridge.statistics import RidgeStatistics

ALONE = 1e-6  # slack below which a picture's own system is solved without it
Moments = RidgeStatistics | Gram  # what a form needs to know of the rows before lam comes in


class System(ABC):
    """A solved ridge system: what it answers, of n rows, D features and C targets; everything is float64.

    No ``Protocol``: whether an object has its attributes is asked of types in tests, and would compute them.

    Attributes:
        W_star: (D, C), equation (1).
        bias: (C,), b.
        g_mean: (D,), gm; zeros without intercept.
        y_mean: (C,), ym; zeros without intercept.
        alpha: (n, C), equation (3).
    """

    _shift: float
    W_star: Tensor
    bias: Tensor
    g_mean: Tensor
    y_mean: Tensor
    alpha: Tensor

    @property
    @abstractmethod
    def slack(self) -> Tensor:
        """1 - leverage, (n,)."""

    @abstractmethod
    def slack_columns(self, rows: Tensor, at: Tensor | slice = slice(None)) -> Tensor:
        """(I - s) at some rows, all by default, against k: (m, k)."""

    def slack_among(self, rows: Tensor) -> Tensor:
        """(I - s) among some rows, (k, k)."""
        return self.slack_columns(rows, rows)

    def slack_within(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """(I - s) among the rows of each group, (k, k) each."""
        return [self.slack_among(rows) for rows in groups]

    @abstractmethod
    def inverse_times(self, z: Tensor) -> Tensor:
        """K^{-1} (z - gm), (..., D) -> (D, k): a column for each."""

    def kernel(self, a: Tensor, z: Tensor) -> Tensor:
        """k(a, z), equation (4), (..., k)."""
        return (a - self.g_mean) @ self.inverse_times(z) + self._shift

    @abstractmethod
    def smoother(self, g: Tensor, rows: Tensor | slice) -> Tensor:
        """s(g), equation (5), of some rows: (..., k)."""

    @abstractmethod
    def account(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """<g - gm, g_i - gm> and s(g), of all rows, (..., n) each: one pass over them."""

    @abstractmethod
    def grown(self, new: Rows, rows: Rows) -> Moments | None:
        """Return the moments of ``rows``, which are those of this system and ``new`` ones; None: afresh."""

    @abstractmethod
    def shrunk(self, stay: Tensor, rows: Rows) -> Moments | None:
        """Return the moments of ``rows``, those numbered ``stay``; None: afresh."""

    @abstractmethod
    def retargeted(self, changed: Tensor, rows: Rows) -> Moments | None:
        """Return the moments of ``rows``, which have other targets where numbered ``changed``; None: afresh."""


class PrimalSystem(System):
    """K W* = A^T B by Cholesky of K (D x D). ``rows=None``: from statistics alone, without the per-picture answers."""

    def __init__(self, statistics: RidgeStatistics, lam: float, fit_intercept: bool, rows: Rows | None = None) -> None:
        S, Q = statistics.moments(centred=fit_intercept)
        self._factor = cholesky(S.clone() if fit_intercept else S, lam)
        self.statistics, self._lam, self._rows = statistics, lam, rows
        self._shift = 1.0 / statistics.weight if fit_intercept else 0.0
        self.g_mean = statistics.g_mean if fit_intercept else torch.zeros_like(statistics.g_mean)
        self.y_mean = statistics.y_mean if fit_intercept else torch.zeros_like(statistics.y_mean)
        # contiguous, as it comes back from a file: the layout decides the last bit of a product
        self.W_star = self.solved_for(Q).contiguous()
        self.bias = self.y_mean - self.g_mean @ self.W_star

    def grown(self, new: Rows, rows: Rows) -> RidgeStatistics:
        """Return the statistics of ``rows``, which are those of this system and ``new`` ones."""
        return self.statistics + RidgeStatistics.of(new)

    def shrunk(self, stay: Tensor, rows: Rows) -> RidgeStatistics | None:
        """Return the statistics of ``rows``, those numbered ``stay``; None where subtraction leaves rounding behind."""
        gone = self._need_rows().without(stay)
        left_over = self.statistics - RidgeStatistics.of(gone)
        return None if left_over.is_rounded(rows.Y.reach) else left_over

    def retargeted(self, changed: Tensor, rows: Rows) -> RidgeStatistics | None:
        """Return the statistics of ``rows``, which have other targets than this system's where numbered ``changed``."""
        before, after = (RidgeStatistics.of(side.at(changed)) for side in (self._need_rows(), rows))
        if before.n == self.statistics.n:
            return after
        moved = self.statistics - before + after
        return None if moved.is_rounded(rows.Y.reach) else moved

    def solved_for(self, X: Tensor) -> Tensor:
        """K^{-1} X, (D, k)."""
        return solve_alike(self._factor, X)

    def _whiten(self, g: Tensor) -> Tensor:  # (..., D) -> (D, m): C^{-1} (g - gm), a column for each
        centred_g = (g - self.g_mean).reshape(-1, g.shape[-1])
        return torch.linalg.solve_triangular(self._factor, centred_g.mT, upper=False)

    def inverse_times(self, z: Tensor) -> Tensor:
        """K^{-1} (z - gm), by two triangular solves."""
        return torch.linalg.solve_triangular(self._factor.mT, self._whiten(z), upper=True)

    def smoother(self, g: Tensor, rows: Tensor | slice) -> Tensor:
        """s(g): K^{-1} (g - gm) for the few test rows, then one product with the training rows, by blocks."""
        G, w = self._need_rows().G, self._need_rows().w
        s = (times(G[rows], self.g_mean, self.inverse_times(g)) + self._shift).mT * w[rows]
        return s.reshape(*g.shape[:-1], s.shape[-1])

    def account(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """<g - gm, g_i - gm> and s(g), of all rows: one pass over them."""
        G, w = self._need_rows().G, self._need_rows().w
        columns = torch.cat([(g - self.g_mean).reshape(-1, g.shape[-1]).mT, self.inverse_times(g)], dim=1)  # (D, 2 m)
        products, s = times(G, self.g_mean, columns).chunk(2, dim=1)
        shape = (*g.shape[:-1], len(G))
        return products.mT.reshape(shape), ((s + self._shift).mT * w).reshape(shape)

    @cached_property
    def alpha(self) -> Tensor:  # type: ignore[override]  # an attribute that is computed when it is asked for
        """Dual weights w R / lam, such that (G - gm)^T alpha is W* to rounding, and with an intercept their sum 0.

        R is a difference, and 1 / lam makes its rounding large. What of it would reach a sum over pictures is taken out
        by one step of refinement, alpha + A~ K^{-1} (W* - G~^T alpha) with A~ = w G~: it leaves lam K^{-1} of the
        error, rounding again.
        """
        G, Y, w, *_ = self._need_rows()
        per_lam = (w / self._lam).unsqueeze(-1)
        alone, known = list(self.alone), [slack * error for error, slack in self.alone.values()]
        R = Y.minus(times(G, self.g_mean, self.W_star).add_(self.y_mean), slice(None))
        for i, R_i in zip(alone, known, strict=True):  # (1 - leverage_i) (y_i - the prediction without i)
            R[i] = R_i
        alpha = R * per_lam
        missing = self.W_star - transposed_times(G, self.g_mean, alpha)
        alpha += w.unsqueeze(-1) * times(G, self.g_mean, self.solved_for(missing))
        alpha -= self._shift * w.unsqueeze(-1) * alpha.sum(dim=0)
        for i, R_i in zip(alone, known, strict=True):
            alpha[i] = R_i * per_lam[i]
        return alpha

    def slack_columns(self, rows: Tensor, at: Tensor | slice = slice(None)) -> Tensor:
        """(I - s) against some rows; the diagonal without cancellation."""
        G, w = self._need_rows().G, self._need_rows().w
        columns = -(times(G[at], self.g_mean, self.inverse_times(G[rows].to(torch.float64))) + self._shift) * w[rows]
        own = at if isinstance(at, Tensor) else torch.arange(len(w), device=w.device)[at]
        return torch.where(own.unsqueeze(-1) == rows, self.slack[rows], columns)

    @cached_property
    def slack(self) -> Tensor:
        """1 - leverage; of pictures nearly alone in a direction, 1 / (1 + w_i k_{-i}(g_i, g_i)), without cancelling."""
        slack = 1.0 - self._leverage
        for i, (_, alone) in self.alone.items():
            slack[i] = alone
        return slack

    @cached_property
    def _leverage(self) -> Tensor:
        """w_i k(g_i, g_i), whoever goes over the rows."""
        rows, work = self._need_rows(), Whitened.by(self._factor, self.g_mean)
        squares = torch.cat([squares for _, squares in found(rows, work)])
        return rows.w * (squares + self._shift)

    @cached_property
    def alone(self) -> dict[int, tuple[Tensor, float]]:
        """Return y_i - the prediction without i, and 1 - leverage, of each picture whose leverage is 1 to 6 digits.

        These are rare: a refit each.
        """
        rows = self._need_rows()
        found: dict[int, tuple[Tensor, float]] = {}
        for i in torch.nonzero(1.0 - self._leverage < ALONE).flatten().tolist():
            left = solve(rows.without(torch.tensor([i])), self._lam, self._shift > 0.0)
            g = rows.G[i : i + 1].to(torch.float64)
            slack = 1.0 / (1.0 + float(rows.w[i] * left.kernel(g, g)[0, 0]))
            found[i] = (rows.Y.row(i) - g[0] @ left.W_star - left.bias, slack)
        return found

    def _need_rows(self) -> Rows:
        if self._rows is None:
            raise RuntimeError("this system was made from statistics alone")  # the head asks first, with words
        return self._rows


class DualSystem(System):
    """M beta = B by Cholesky of M (n x n), for n <= D: never forms a D x D matrix, nor a centred copy of G."""

    def __init__(self, rows: Rows, lam: float, fit_intercept: bool, gram: Gram) -> None:
        self._rows, self._lam, self.gram = rows, lam, gram
        self.g_mean, self.y_mean, v = centre(rows, fit_intercept)
        self._root = rows.w.sqrt()
        B = (rows.Y.dense - self.y_mean).mul_(self._root.unsqueeze(-1))
        M, c = with_means(gram.weighted(rows.w), v, lam)
        self._v_share = v.square() / (lam + c)
        self._factor = cholesky(M, lam)
        self._shift = 1.0 / float(sum_of(rows.w)) if fit_intercept else 0.0
        self.alpha = (self._root.unsqueeze(-1) * solve_alike(self._factor, B)).contiguous()

    @cached_property
    def W_star(self) -> Tensor:  # type: ignore[override]  # a pass over the rows, when somebody asks
        """Weights, A^T beta."""
        return transposed_times(self._rows.G, self.g_mean, self.alpha)

    @cached_property
    def bias(self) -> Tensor:  # type: ignore[override]
        """Intercept."""
        return self.y_mean - self.g_mean @ self.W_star

    def grown(self, new: Rows, rows: Rows) -> Gram:
        """Return the inner products of ``rows``, which are those of this system and ``new`` ones."""
        return self.gram.border(rows)

    def shrunk(self, stay: Tensor, rows: Rows) -> Gram:
        """Return the inner products of ``rows``, those numbered ``stay``."""
        return self.gram.keep(stay, rows)

    def retargeted(self, changed: Tensor, rows: Rows) -> Gram:
        """Return the inner products of ``rows``, which differ from this system's in their targets alone."""
        return self.gram

    def _products(self, g: Tensor) -> Tensor:  # (m, D), centred -> (n, m): A g
        return self._root.unsqueeze(-1) * times(self._rows.G, self.g_mean, g.mT)

    def _transposed(self, u: Tensor) -> Tensor:  # (n, k) -> (D, k): A^T u
        return transposed_times(self._rows.G, self.g_mean, self._root.unsqueeze(-1) * u)

    def inverse_times(self, z: Tensor) -> Tensor:
        """K^{-1} z by the Woodbury formula: (z - A^T u) / lam with u = M^{-1} A z.

        A difference again that 1 / lam makes large; one step of refinement, K^{-1} z + A^T M^{-1} (u - A K^{-1} z),
        leaves no more of its rounding than lies outside the training pictures.
        """
        z = (z - self.g_mean).reshape(-1, z.shape[-1])
        u = solve_factored(self._factor, self._products(z))  # (n, k)
        solved = (z.mT - self._transposed(u)) / self._lam  # (D, k)
        solved += self._transposed(solve_factored(self._factor, u - self._products(solved.mT)))
        return solved

    def smoother(self, g: Tensor, rows: Tensor | slice) -> Tensor:
        """s(g)."""
        s = self._smoothed(self._products((g - self.g_mean).reshape(-1, g.shape[-1])))[:, rows]
        return s.reshape(*g.shape[:-1], s.shape[-1])

    def account(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """<g - gm, g_i - gm> and s(g), of all rows: one pass over them."""
        products, shape = self._products((g - self.g_mean).reshape(-1, g.shape[-1])), (*g.shape[:-1], len(self._root))
        return (products.mT / self._root).reshape(shape), self._smoothed(products).reshape(shape)

    def _smoothed(self, products: Tensor) -> Tensor:  # A g of each, (n, m) -> s(g), (m, n)
        return solve_factored(self._factor, products).mT * self._root + self._shift * self._rows.w

    def slack_columns(self, rows: Tensor, at: Tensor | slice = slice(None)) -> Tensor:
        """(I - s) against some rows, lam root_i^{-1} (M^{-1}_ij - v_i v_j / (lam + c)) root_j: no entry cancels."""
        unit = torch.nn.functional.one_hot(rows, len(self._root)).mT.to(self._factor)
        return self._slack_of(solve_factored(self._factor, unit)[at], rows, at)

    def slack_within(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """(I - s) among the rows of each group: from all of M^{-1}, which is let go."""
        inverse = torch.cholesky_inverse(self._factor)
        return [self._slack_of(inverse[rows.unsqueeze(-1), rows], rows, rows) for rows in groups]

    def _slack_of(self, inverse: Tensor, rows: Tensor, at: Tensor | slice) -> Tensor:
        v, root = self._v_share.sqrt(), self._root
        return self._lam * (inverse - torch.outer(v[at], v[rows])) * root[rows] / root[at].unsqueeze(-1)

    @cached_property
    def slack(self) -> Tensor:
        """1 - leverage = lam (M^{-1}_ii - v_i^2 / (lam + c))."""
        return self._lam * (torch.cholesky_inverse(self._factor).diagonal() - self._v_share)


def prefers_dual(n: int, D: int, fit_intercept: bool) -> bool:
    """Return whether rows are so few that every one may have leverage near 1: n <= D, or D + 1 with an intercept.

    There ``1 - leverage`` cancels in the primal form, and the dual one is no larger.
    """
    return n <= D + int(fit_intercept)


def moments(rows: Rows, fit_intercept: bool) -> Moments:
    """Return what the preferred form needs to know of the rows, for any lam: the cost of a fit is here."""
    is_dual = prefers_dual(len(rows.G), rows.G.shape[1], fit_intercept)
    return Gram.from_rows(rows, fit_intercept) if is_dual else RidgeStatistics.of(rows)


def solve(rows: Rows, lam: float, fit_intercept: bool, known: Moments | None = None) -> System:
    """Solve in the dual form if n <= D, else in the primal (from the rows' ``known`` moments if they are of that form).

    Raises:
        IllConditionedError: The system is singular in float64.
    """
    if known is None or isinstance(known, Gram) != prefers_dual(len(rows.G), rows.G.shape[1], fit_intercept):
        known = moments(rows, fit_intercept)
    if isinstance(known, Gram):
        return DualSystem(rows, lam, fit_intercept, known)
    return PrimalSystem(known, lam, fit_intercept, rows)


def centre(rows: Rows, fit_intercept: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return gm, ym and v; all are 0 without an intercept."""
    G, Y, w, _ = rows
    if fit_intercept:
        return weighted_mean(G, w), Y.mean(w), (w / sum_of(w)).sqrt()
    return w.new_zeros(G.shape[1]), w.new_zeros(Y.C), torch.zeros_like(w)


def with_means(M: Tensor, v: Tensor, lam: float) -> tuple[Tensor, float]:
    """Return M + c v v^T, in place, and c: of the size of M's other eigenvalues."""
    c = float(M.diagonal().mean()) + lam
    return M.addr_(v, v, alpha=c), c
