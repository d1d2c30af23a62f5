"""The closed-form head: ridge regression, its exact leave-one-out, and the smoother that every "what if" is made of.

With weights w_i (1 unless given), weighted means gm, ym (0 without intercept), and centred rows g~_i = g_i - gm:

::

    K = sum_i w_i g~_i g~_i^T + lam I,   W* = K^{-1} sum_i w_i g~_i (y_i - ym)^T,   b = ym - W*^T gm       (1)
    logit(g) = W*^T g + b
    R_i      = y_i - logit(g_i)                                                                            (2)
    alpha_i  = w_i R_i / lam,   W* = G^T alpha        (sum_i alpha_i = 0 with intercept)                   (3)
    k(a, z)  = (a - gm)^T K^{-1} (z - gm) + [intercept] / sum(w)                                           (4)
    s_i(g)   = k(g, g_i) w_i,   logit(g) = sum_i s_i(g) y_i,   leverage_i = s_i(g_i)                       (5)
    y_i - logit_{-i}(g_i) = R_i / (1 - leverage_i)                                                         (6)

(6) is what really refitting without picture i gives, with lam held: the Sherman-Morrison formula. n > D solves with K
(D x D, primal), n <= D with sqrt(w) G~ G~^T sqrt(w) + lam I (n x n, dual), where alpha comes first and
R = lam alpha / w after it, so that a small lam doesn't amplify rounding; the primal form takes what of its rounding
would reach a sum out again. Everything is computed in float64: at a small lam a float32 solve loses most of its digits.
Rows that came as float32 stay so in memory, and are widened by blocks (``carrot._ridge.blocks``).

Reference: Hoerl and Kennard, Technometrics 12 (1970); Allen, Technometrics 16 (1974), for (6); Rifkin and Lippert,
MIT-CSAIL-TR-2007-025, for one eigendecomposition that serves every lam.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Literal, SupportsFloat, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ambient import pinned_class
from carrot._ridge.blocks import times
from carrot._ridge.edited import EditedLoo
from carrot._ridge.logit import Logit
from carrot._ridge.loo import LooPath, loo_path
from carrot._ridge.replacement import Replacements
from carrot._ridge.restored import RestoredSystem
from carrot._ridge.rows import Rows, check_indices, checked_rows
from carrot._ridge.solution import Solution
from carrot._ridge.statistics import RidgeStatistics
from carrot._ridge.systems import Moments, PrimalSystem, moments, solve
from carrot.utils import require_positive


@pinned_class
class RidgeHead(Solution):
    """Closed-form ridge classifier on embeddings: no ``nn.Module``, no SGD. ``fit`` returns self, as in scikit-learn.

    Args:
        lam: Penalty > 0, or "loo": the minimiser of the exact leave-one-out squared error over ``lams``
            (ties: the larger).
        fit_intercept: False is the guide's formula. True centres G and Y exactly; decompositions then have a bias term.
        lams: Penalties to choose from with lam="loo"; default 21 half decades, from 1e-7 to 1e3 times the mean
            eigenvalue of the centred G^T G, so that the choice doesn't depend on the scale of the features.

    Attributes (after ``fit``):
        lam: The penalty that was used.
        W_star, bias: (D, C) and (C,).
        G, Y: (n, D) and (n, C), copies of what it was trained on; labels are stored one-hot, 0 and 1. Not to be written
            into. G keeps float32 or float64; everything else is float64.
        sample_weight: (n,).
        loo_path: The leave-one-out error at each of ``lams``; None with a fixed lam.
        statistics: ``RidgeStatistics``, mergeable over shards.

    Exactness: exact, to about eps x condition number; ``tests/unit/test_head.py``.
    """

    def __init__(
        self,
        lam: SupportsFloat | Literal["loo"] = 1.0,
        fit_intercept: bool = False,
        *,
        lams: Iterable[SupportsFloat] | None = None,
    ) -> None:
        if isinstance(lam, str) and lam != "loo":
            raise ValueError(f"`lam` must be a number > 0 or 'loo'; got {lam!r}.")
        self._asked_lam: float | str = lam if isinstance(lam, str) else require_positive("lam", lam)
        self._asked_lams = None if lams is None else sorted(require_positive("lams", x) for x in lams)
        if self._asked_lams is not None and not self._asked_lams:
            raise ValueError("`lams` must hold at least one penalty; got none.")
        self.loo_path: LooPath | None = None
        super().__init__(None if isinstance(self._asked_lam, str) else self._asked_lam, fit_intercept)

    # ---- fitting

    def fit(self, G: Tensor, Y: Tensor, sample_weight: Tensor | None = None) -> "RidgeHead":
        """Solve equation (1).

        Args:
            G: (n, D) training embeddings.
            Y: (n,) integer labels 0 .. C - 1, each of which occurs, or any (n, C) matrix of real targets.
            sample_weight: (n,) weights > 0; default 1. A weight of 2 counts a picture twice.

        Raises:
            ValueError: Shapes disagree, values are not finite, labels have gaps or are of one class only, weights are
                not positive.
            IllConditionedError: K is singular in float64 at this lam.
        """
        rows = checked_rows(G, Y, sample_weight)
        known = moments(rows, self.fit_intercept)
        if not isinstance(self._asked_lam, str):
            return self._solve(rows, known, float(self._asked_lam), None)
        path = loo_path(rows, self.fit_intercept, self._asked_lams, known)
        if doubt := path.doubt(rows.Y):
            warnings.warn(doubt, stacklevel=3)  # `pinned` is one of them
        return self._solve(rows, known, float(path.lams[path.best]), path)

    @classmethod
    def from_statistics(
        cls, statistics: RidgeStatistics, lam: SupportsFloat | str = 1.0, fit_intercept: bool = False
    ) -> "RidgeHead":
        """Return a head fitted from sufficient statistics alone: it predicts, but knows no single training picture.

        Raises:
            ValueError: ``lam`` is not a number > 0 ("loo" needs the rows).
            IllConditionedError: K is singular in float64 at this lam.
        """
        if isinstance(lam, str):
            raise ValueError(f"`lam` must be a number > 0 here: 'loo' needs the rows; got {lam!r}.")
        head = cls(lam, fit_intercept)
        head._system, head._statistics = PrimalSystem(statistics, head.lam, fit_intercept), statistics
        return head

    def state(self) -> dict[str, Tensor]:
        """Return what ``from_state`` needs beside lam and the intercept's flag: rows and solution, by name."""
        names = ("G", "Y", "sample_weight", "W_star", "bias", "g_mean", "y_mean", "alpha")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], lam: float, fit_intercept: bool) -> "RidgeHead":
        """Return the head that ``state`` was taken from: the same logits, bit for bit, without solving anything.

        Raises:
            ValueError: A tensor is missing, or shapes or kinds don't fit together.
        """
        head = cls(lam, fit_intercept)
        restored = RestoredSystem.of(state, float(lam), fit_intercept)
        head._system, head._rows = restored, restored.rows
        return head

    def add(self, G: Tensor, Y: Tensor, sample_weight: Tensor | None = None) -> "RidgeHead":
        """Add training pictures; equals a refit on all of them with the same lam. Labels are class indices, or targets.

        Their moments, or inner products, are added to those of the fit: k D^2 or k n D for k pictures, and a Cholesky
        factor. ``loo_path`` is dropped: it doesn't know the new pictures.

        Raises:
            TypeError: Something is not a tensor.
            ValueError: Shapes disagree with what was fitted, values are not finite, or a label is not a known class.
            NotFittedError: There is no fit to add to.
        """
        old = self._need_rows()
        new = old.alike(G, Y, sample_weight)
        rows = old.then(new)
        return self._solve(rows, self._need_fit().grown(new, rows), self.lam, None)

    def remove(self, indices: Tensor | Iterable[SupportsIndex] | SupportsIndex) -> "RidgeHead":
        """Delete training pictures for good; equals a refit without them with the same lam. Later indices move up.

        n > D: their moments are subtracted. Where the moments were ever more than 1e3 times what is left, subtraction
        would leave their rounding behind, and they are taken from the rows that stay instead. n <= D: their rows and
        columns go from the inner products. ``loo_path`` is dropped: it knew the deleted pictures.

        Raises:
            ValueError: An index is out of range or given twice, or nothing would be left.
            NotFittedError: There is no fit to remove from.
        """
        rows, stay = self._left(indices)
        return self._solve(rows, self._need_fit().shrunk(stay, rows), self.lam, None)

    def without(self, indices: Tensor | Iterable[SupportsIndex] | SupportsIndex) -> "RidgeHead":
        """Return another head, really fitted again without some training pictures, at the same lam.

        It is what every formula is held against.

        Raises:
            ValueError, NotFittedError: As ``remove``.
        """
        return RidgeHead(self.lam, self.fit_intercept).fit(*self._left(indices)[0])

    def reweighted(self, sample_weight: Float[Tensor, " n"]) -> "RidgeHead":
        """Return another head, fitted on the same pictures with other weights, at the same lam.

        n <= D: their inner products are known, and stay.

        Raises:
            ValueError, NotFittedError: As ``fit``.
        """
        old = self._need_rows()
        rows = old._replace(w=checked_rows(old.G[:, :1], old.Y, sample_weight).w)  # G is not copied
        every = torch.arange(len(old.G), device=old.G.device)
        known = self._need_fit().shrunk(every, rows) if self.is_dual else None
        return RidgeHead(self.lam, self.fit_intercept)._solve(rows, known, self.lam, None)

    def relabel(self, indices: Tensor | Iterable[SupportsIndex] | SupportsIndex, Y: Tensor) -> "RidgeHead":
        """Give k training pictures other targets, (k,) labels or (k, C); equals a refit with them and the same lam.

        K stays: n > D moves ``G^T Y`` by the k pictures' share, k D^2; n <= D keeps the inner products. ``loo_path`` is
        dropped.

        Raises:
            TypeError, ValueError, NotFittedError: As ``add`` and ``remove``.
        """
        old = self._need_rows()
        changed = check_indices(indices, old.G.shape[0]).to(old.G.device)
        new = old.alike(old.G[changed], Y, old.w[changed]).Y.to(old.Y)
        rows = old._replace(Y=old.Y.index_copy(0, changed, new))
        return self._solve(rows, self._need_fit().retargeted(changed, rows), self.lam, None)

    # ---- predictions

    def predict(self, g: Float[Tensor, "*m D"]) -> Float[Tensor, "*m C"]:
        """Return logits: ridge scores in units of the targets, not log-odds. float64.

        Raises:
            ValueError: The width differs from the training embeddings', or a value is not finite.
            NotFittedError: ``fit`` comes first.
        """
        W_star = self.W_star
        g = self._check_width("g", g).to(W_star.device)
        return times(g.reshape(-1, len(W_star)), None, W_star).reshape(*g.shape[:-1], W_star.shape[1]) + self.bias

    def logit(self, target: SupportsIndex, against: SupportsIndex | None = None) -> Logit:
        """Return one logit, or with ``against`` the difference of two, as a head of one column: what is explained.

        Raises:
            ValueError: A class is out of range, or they are the same.
        """
        return Logit.of(self, target, against)

    def loo_predict(self) -> Float[Tensor, "n C"]:
        """Return for every training picture the logits of the head fitted without it, exactly: equation (6)."""
        return self.Y - self.residual / self.slack.unsqueeze(-1)

    def edited_loo(self) -> EditedLoo:
        """Return what ``loo_predict`` would return with pictures relabelled or left out, edit by edit: O(n C) each.

        Nothing is changed, and nothing is fitted again.
        """
        self._need_rows()
        return EditedLoo.of(self)

    def smoother(
        self, g: Float[Tensor, "*m D"], indices: Int[Tensor, " k"] | Iterable[SupportsIndex] | None = None
    ) -> Float[Tensor, "*m k"]:
        """Return s(g), equation (5): how much each training picture's label counts in the logits of g.

        ``smoother(g) @ Y`` is ``predict(g)``. Weights may be negative.

        Args:
            g: Embeddings.
            indices: The training pictures that are asked for; default: all n.
        """
        n = len(self._need_rows().G)
        rows = slice(None) if indices is None else check_indices(indices, n).to(self.G.device)
        return self._need_fit().smoother(self._check_width("g", g).to(self.W_star), rows)

    def account(self, g: Float[Tensor, "*m D"]) -> tuple[Float[Tensor, "*m n"], Float[Tensor, "*m n"]]:
        """Return ``<g - gm, g_i - gm>`` and s_i(g) of every training picture, in one pass over their embeddings.

        What its dual and its label part are made of, and what the logit would be without it.
        """
        self._need_rows()
        return self._need_fit().account(self._check_width("g", g).to(self.W_star))

    def kernel(self, a: Float[Tensor, "*m D"], z: Float[Tensor, "k D"]) -> Float[Tensor, "*m k"]:
        """Return k(a, z), equation (4): the inner product in which adding a picture z moves the prediction at a."""
        a, z = self._check_width("a", a), self._check_width("z", z)
        return self._need_fit().kernel(a.to(self.W_star), z.to(self.W_star))

    def inverse_times(self, z: Float[Tensor, "*m D"]) -> Float[Tensor, "D m"]:
        """Return K^{-1} (z - gm), a column for each z: ``k(a, z)`` is its product with a - gm, and the constant of (4).

        For products with many a, or of each z with itself.
        """
        return self._need_fit().inverse_times(self._check_width("z", z).to(self.W_star))

    def replacements(
        self, indices: Int[Tensor, " b"] | Iterable[SupportsIndex], G_new: Float[Tensor, "b R D"]
    ) -> Replacements:
        """Return what a refit would answer with other pictures in the places of some, one at a time: all b R at once.

        Args:
            indices: The training pictures.
            G_new: R embeddings for the place of each; weights and targets stay.

        Raises:
            TypeError, ValueError: An index is out of range or comes twice, or shapes disagree.
        """
        return Replacements.of(self, check_indices(indices, len(self._need_rows().G)), G_new)

    # ---- inside

    def _solve(self, rows: Rows, known: Moments | None, lam: float, path: LooPath | None) -> "RidgeHead":
        system = solve(rows, lam, self.fit_intercept, known)  # raises before anything of an earlier fit is lost
        self._statistics = system.statistics if isinstance(system, PrimalSystem) else None
        self._system, self._rows, self._lam, self.loo_path = system, rows, lam, path
        return self

    def _left(self, indices: Tensor | Iterable[SupportsIndex] | SupportsIndex) -> tuple[Rows, Tensor]:
        """Return the rows without some, and the places of those that stay."""
        old = self._need_rows()
        stay = old.others(check_indices(indices, old.G.shape[0]).to(old.G.device))
        if not len(stay):
            raise ValueError(f"`indices` must leave at least one of {len(old.G)} training pictures; got all of them.")
        return old.at(stay), stay
