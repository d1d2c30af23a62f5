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
from carrot._ridge.again import ChosenAgain, chosen_again, penalties_of
from carrot._ridge.conformal import Joining
from carrot._ridge.edited import EditedLoo
from carrot._ridge.logit import Logit
from carrot._ridge.loo import LooPath, loo_path
from carrot._ridge.removed import Removed, without
from carrot._ridge.replacement import Replacements
from carrot._ridge.restored import RestoredSystem
from carrot._ridge.rows import Given, Rows, check_indices, checked_weights, opened_rows
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
        copy: False: G of ``fit`` stays where it is, in any floating-point precision, and is read a block at a time:
            ``torch.from_numpy(np.load(path, mmap_mode="c"))`` stays on the disk. It must not change afterwards.

    Attributes (after ``fit``):
        lam: The penalty that was used.
        W_star, bias: (D, C) and (C,).
        G, Y: (n, D) and (n, C), copies of what it was trained on; labels one-hot, 0 and 1, made of the labels when it
            is asked for. Not to be written into. G keeps float32 or float64; everything else is float64.
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
        copy: bool = True,
    ) -> None:
        if isinstance(lam, str) and lam != "loo":
            raise ValueError(f"`lam` must be a number > 0 or 'loo'; got {lam!r}.")
        self._asked_lam: float | str = lam if isinstance(lam, str) else require_positive("lam", lam)
        self._asked_lams = None if lams is None else sorted(require_positive("lams", x) for x in lams)
        if self._asked_lams is not None and not self._asked_lams:
            raise ValueError("`lams` must hold at least one penalty; got none.")
        self.loo_path: LooPath | None = None
        self._copy = copy
        super().__init__(None if isinstance(self._asked_lam, str) else self._asked_lam, fit_intercept)

    # ---- fitting

    def fit(self, G: Given, Y: Tensor, sample_weight: Tensor | None = None) -> "RidgeHead":
        """Solve equation (1).

        Args:
            G: (n, D) training embeddings; or a function that opens them where they lie, which leaves them there. An
                engine that works (``carrot.engine.use``) then goes over them, now and for what is asked later: its
                workers call the function. No bit of an answer depends on it. Where n <= 32,768, n <= D or D > 4,096
                this process does.
            Y: (n,) integer labels 0 .. C - 1, each of which occurs, or any (n, C) matrix of real targets.
            sample_weight: (n,) weights > 0; default 1. A weight of 2 counts a picture twice.

        Raises:
            ValueError: Shapes disagree, values are not finite, labels have gaps or are of one class only, weights are
                not positive.
            IllConditionedError: K is singular in float64 at this lam.
            EngineError: The engine gave up, or a worker can't open the rows, or opened others.
        """
        rows = opened_rows(G, Y, sample_weight, copy=self._copy)
        known = moments(rows, self.fit_intercept)
        if not isinstance(self._asked_lam, str):
            return self._solve(rows, known, float(self._asked_lam), None)
        path = loo_path(rows, self.fit_intercept, self._asked_lams, known)
        if doubt := path.doubt(rows.Y):
            warnings.warn(doubt, stacklevel=3)  # `pinned` is one of them
        return self._solve(rows, known, float(path.lams[path.best]), path)

    def choose_lam(self, lams: Iterable[SupportsFloat]) -> "RidgeHead":
        """Choose lam again, by leave-one-out among some penalties; equals a fit with lam="loo" and these ``lams``.

        The moments, or inner products, of the rows are known: one eigendecomposition.

        Raises:
            ValueError, NotFittedError: As ``fit``, and where ``lams`` holds none.
        """
        rows, known = self._need_rows(), self.gram or self.statistics
        path = loo_path(rows, self.fit_intercept, penalties_of(self, lams).tolist(), known)
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
        """Return what ``from_state`` needs, by name: Y as labels, if it is; where n > D no alpha, which follows."""
        names = ("sample_weight", "W_star", "bias", "g_mean", "y_mean", *(("alpha",) if self.is_dual else ()))
        rows = self._need_rows()
        return {"G": rows.G, "Y": rows.Y.values, **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_state(cls, state: Mapping[str, Given], lam: float, fit_intercept: bool) -> "RidgeHead":
        """Return the head of a ``state``, the same logits bit for bit; nothing is solved, and G stays where it is.

        As in ``fit``, G may be a function that opens it.

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

        Of k pictures, few beside n or D: the system is corrected by k ranks, a solve with k columns; weights take k D C
        (n > D) or a pass over the rows when they are asked for, and what concerns single training pictures a solve.
        Else, and where that would cost a digit, a system is solved: n > D, their moments are subtracted, or taken from
        the rows that stay where they were ever more than 1e3 times what is left; n <= D, their rows and columns go from
        the inner products. ``loo_path`` is dropped: it knew the deleted pictures.

        Raises:
            ValueError: An index is out of range or given twice, or nothing would be left.
            NotFittedError: There is no fit to remove from.
        """
        gone, system = self._gone(indices), self._need_fit()
        left = (
            system.without(gone) if isinstance(system, Removed) else without(system, self._need_rows(), self.lam, gone)
        )
        if left is None:
            rows, stay = self._left(gone)
            return self._solve(rows, system.shrunk(stay, rows), self.lam, None)
        self._system, self._rows, self._statistics, self.loo_path = left, None, None, None
        return self

    def without(self, indices: Tensor | Iterable[SupportsIndex] | SupportsIndex, again: bool = False) -> "RidgeHead":
        """Return another head, really fitted again without some training pictures, at the same lam.

        It is what every formula is held against.

        Args:
            indices: The pictures.
            again: Choose lam again too, from the penalties that it was chosen from.

        Raises:
            ValueError, NotFittedError: As ``remove``; ``again`` where this fit chose no lam.
        """
        lams = penalties_of(self).tolist() if again else None
        rows, _ = self._left(self._gone(indices))
        return RidgeHead("loo" if again else self.lam, self.fit_intercept, lams=lams).fit(rows.G, rows.Y.dense, rows.w)

    def reweighted(self, sample_weight: Float[Tensor, " n"]) -> "RidgeHead":
        """Return another head, fitted on the same pictures with other weights, at the same lam.

        n <= D: their inner products are known, and stay.

        Raises:
            ValueError, NotFittedError: As ``fit``.
        """
        old = self._need_rows()
        rows = old._replace(w=checked_weights(sample_weight, len(old.G)).detach().to(old.w, copy=True))
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
        new = old.alike(old.G[changed], Y, old.w[changed]).Y
        rows = old._replace(Y=old.Y.put(changed, new))
        return self._solve(rows, self._need_fit().retargeted(changed, rows), self.lam, None)

    # ---- questions; answers for embeddings are in ``carrot._ridge.solution``

    def logit(self, target: SupportsIndex, against: SupportsIndex | None = None) -> Logit:
        """Return one logit, or with ``against`` the difference of two, as a head of one column: what is explained.

        Raises:
            ValueError: A class is out of range, or they are the same.
        """
        return Logit.of(self, target, against)

    def loo_again(self, lams: Iterable[SupportsFloat] | None = None) -> ChosenAgain:
        """Return what ``loo_predict`` would, were lam chosen again without each picture, and those lams: exactly.

        ``RidgeHead("loo", lams=...)`` fitted without the picture chooses and says the same. Cost: for each penalty
        n^2 (min(n, D) + C) multiplications, n min(n, D) numbers of memory.

        Args:
            lams: Penalties to choose from; default: those that lam was chosen from, which are held.

        Raises:
            ValueError: lam was not chosen by this fit and none are given, or there are fewer than three pictures.
        """
        rows = self._need_rows()
        return chosen_again(rows, self.fit_intercept, self.lam, penalties_of(self, lams), self.gram or self._statistics)

    def label_p_values(
        self, g: Float[Tensor, "*m D"], per_class: bool = False, weight: Float[Tensor, " C"] | None = None
    ) -> Float[Tensor, "*m C"]:
        """Return the full conformal p-value of every label of test pictures: ``p > alpha`` is a set that can be told.

        The picture joins the training pictures with the label, and p is the share of all n + 1 whose leave-one-out
        margin (own logit less the best other) is no larger than its own; exactly as n + 1 real refits have it. O(n C)
        for a picture, once for each different ``weight``.

        Exactness: exact. The true label has p > alpha with a probability of at least 1 - alpha, on average over
        training and test pictures, given that these are exchangeable and lam was chosen without the test picture;
        ``tests/claims/test_25_conformal.py``.

        Args:
            g: Embeddings.
            per_class: Compare with the training pictures of that label alone, so that what is said holds class by
                class.
            weight: What the picture counts in the fit, by its label; default 1.

        Raises:
            ValueError: The head was fitted on other targets than labels, every class has one picture, or with
                ``per_class`` one has.
        """
        return Joining(self).p_values(self._check_width("g", g).to(self.W_star), weight, per_class)

    def edited_loo(self) -> EditedLoo:
        """Return what ``loo_predict`` would return with pictures relabelled or left out, edit by edit: O(n C) each.

        Nothing is changed, and nothing is fitted again.
        """
        self._need_rows()
        return EditedLoo.of(self)

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

    def _gone(self, indices: Tensor | Iterable[SupportsIndex] | SupportsIndex) -> Tensor:
        """Return some pictures' numbers, checked, if others are left."""
        n = self._count()
        gone = check_indices(indices, n).to(self.g_mean.device)
        if len(gone) == n:
            raise ValueError(f"`indices` must leave at least one of {n} training pictures; got all of them.")
        return gone

    def _left(self, gone: Tensor) -> tuple[Rows, Tensor]:
        """Return the rows without some, and the places of those that stay."""
        old = self._need_rows()
        stay = old.others(gone)
        return old.at(stay), stay
