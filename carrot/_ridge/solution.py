"""What a solved ridge system holds, by the letters of ``carrot.head``, whose verbs make it."""

from collections.abc import Callable, Iterable, Iterator
from typing import SupportsIndex, TypeVar

from jaxtyping import Float, Int
from torch import Tensor

from carrot._ambient import pinned_class
from carrot._ridge.blocks import ENTRIES, sum_of, times
from carrot._ridge.gram import Gram
from carrot._ridge.later import Later
from carrot._ridge.removed import Removed
from carrot._ridge.rows import Rows, check_indices
from carrot._ridge.statistics import RidgeStatistics
from carrot._ridge.streamed import loo_blocks, loo_map
from carrot._ridge.systems import DualSystem, PrimalSystem, System, prefers_dual
from carrot.errors import NotFittedError
from carrot.utils import require_finite, require_tensor

Result = TypeVar("Result")


@pinned_class
class Solution:
    """Answers of a fit, refused before there is one. ``RidgeHead`` says what each attribute is and its shape."""

    def __init__(self, lam: float | None, fit_intercept: bool) -> None:
        self.fit_intercept = fit_intercept
        self._lam = lam
        self._system: System | None = None
        self._rows: Rows | None = None
        self._statistics: RidgeStatistics | None = None

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._system is None:
            return f"<{name}, not fitted>"
        D, C = len(self.g_mean), len(self.bias)
        on = "" if self._rows is None and not isinstance(self._system, Removed) else f" on {self._count()} embeddings"
        return f"<{name} lam {self.lam:.4g}, fitted{on}: {D} features, {C} targets>"

    @property
    def lam(self) -> float:
        """The penalty in use; before ``fit`` with lam="loo" there is none."""
        if self._lam is None:
            raise NotFittedError("`lam` is chosen by `fit`: call `fit(G, Y)` first.")
        return self._lam

    @property
    def W_star(self) -> Float[Tensor, "D C"]:
        """Primal weights, equation (1)."""
        return self._need_fit().W_star

    @property
    def bias(self) -> Float[Tensor, " C"]:
        """Intercept b; zeros without one."""
        return self._need_fit().bias

    @property
    def g_mean(self) -> Float[Tensor, " D"]:
        """Weighted mean of the training embeddings, gm; zeros without an intercept."""
        return self._need_fit().g_mean

    @property
    def y_mean(self) -> Float[Tensor, " C"]:
        """Weighted mean of the targets, ym: the logits at ``g_mean``; zeros without an intercept."""
        return self._need_fit().y_mean

    @property
    def alpha(self) -> Float[Tensor, "n C"]:
        """Dual weights, equation (3)."""
        self._need_rows()
        return self._need_fit().alpha

    @property
    def residual(self) -> Float[Tensor, "n C"]:
        """R = Y - logits of the training pictures, equation (2)."""
        return self.alpha * (self.lam / self.sample_weight).unsqueeze(-1)

    @property
    def slack(self) -> Float[Tensor, " n"]:
        """``1 - leverage``, without the subtraction where it would cancel (few pictures, or one alone in a direction).

        Raises:
            ValueError: There is one training picture and an intercept: nothing is left without it.
        """
        if self._count() == 1 and self.fit_intercept:
            raise ValueError("Leave-one-out needs at least two training pictures with an intercept; got one.")
        return self._need_fit().slack

    def slack_among(self, indices: Int[Tensor, " k"] | Iterable[SupportsIndex]) -> Float[Tensor, "k k"]:
        """Return ``I - s`` among some training pictures, whose diagonal is ``slack``.

        It is what removing them together is solved with.
        """
        rows = self._need_rows()
        return self._need_fit().slack_among(check_indices(indices, len(rows.G)).to(rows.G.device))

    def slack_columns(self, indices: Int[Tensor, " k"] | Iterable[SupportsIndex]) -> Float[Tensor, "n k"]:
        """Return ``I - s`` of all training pictures against some: what an edit of these does to all, left out or not.

        A solve for each of the k, and one pass over the rows where n > D.
        """
        rows = self._need_rows()
        return self._need_fit().slack_columns(check_indices(indices, len(rows.G)).to(rows.G.device))

    def slack_within(self, groups: Iterable[Tensor]) -> list[Tensor]:
        """Return ``slack_among`` of each of several groups of training pictures; n <= D: one inverse for all."""
        rows = self._need_rows()
        return self._need_fit().slack_within([check_indices(at, len(rows.G)).to(rows.G.device) for at in groups])

    @property
    def gram(self) -> Gram | None:
        """Inner products of the training embeddings, where the system is made of them (``is_dual``); else None."""
        system = self._need_fit()
        system = system.solved if isinstance(system, Later) else system
        return system.gram if isinstance(system, DualSystem) else None

    @property
    def shift(self) -> float:
        """What an intercept adds to k, whatever it is of: 1 / sum(w), the last term of equation (4); 0 without one."""
        return 1.0 / float(sum_of(self.sample_weight)) if self.fit_intercept else 0.0

    @property
    def is_dual(self) -> bool:
        """Whether the system is the pictures' (n x n), not the features': for n <= D, or D + 1 with an intercept."""
        return prefers_dual(self._count(), len(self.g_mean), self.fit_intercept)

    @property
    def leverage(self) -> Float[Tensor, " n"]:
        """How much each training picture's own label counts in its own logits, in (0, 1]: equation (5)."""
        return 1.0 - self.slack

    @property
    def G(self) -> Float[Tensor, "n D"]:
        """Training embeddings."""
        return self._need_rows().G

    @property
    def Y(self) -> Float[Tensor, "n C"]:
        """Targets; labels one-hot."""
        return self._need_rows().Y.dense

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Labels of the training pictures.

        Raises:
            ValueError: The head was fitted on other targets than labels.
        """
        Y = self._need_rows().Y
        if not Y.are_labels:
            raise ValueError("`labels` are of a head that was fitted on labels; this one was on a matrix of targets.")
        return Y.values

    @property
    def sample_weight(self) -> Float[Tensor, " n"]:
        """Weight of each training picture."""
        return self._need_rows().w

    @property
    def statistics(self) -> RidgeStatistics:
        """Sufficient statistics of the training set."""
        system = self._need_fit()
        if isinstance(system, Removed):
            system = system.solved
        if isinstance(system, PrimalSystem):
            return system.statistics
        if self._statistics is None:  # the dual form did without
            self._statistics = RidgeStatistics.of(self._need_rows())
        return self._statistics

    # ---- leave-one-out of the training pictures

    def loo_predict(self) -> Float[Tensor, "n C"]:
        """Return for every training picture the logits of the head fitted without it, exactly: equation (6)."""
        return self.Y - self.residual / self.slack.unsqueeze(-1)

    def loo_blocks(self) -> Iterator[tuple[slice, Float[Tensor, "b C"]]]:
        """Yield ``loo_predict`` a block of training pictures at a time, where n C numbers, or n D, are too many.

        n > D: neither these nor the dual weights are ever there as a whole.
        """
        return loo_blocks(self)

    def loo_map(self, of: Callable[[slice, Float[Tensor, "b C"]], Result]) -> Iterator[tuple[slice, Result]]:
        """Yield what a function makes of each of ``loo_blocks``; an engine's workers are sent it, as in ``fit``.

        Args:
            of: A function of pictures and their logits, which it may overwrite. What it makes of 32,768 pictures is
                held at a time.
        """
        return loo_map(self, of)

    # ---- answers for embeddings

    def predict(self, g: Float[Tensor, "*m D"]) -> Float[Tensor, "*m C"]:
        """Return logits: ridge scores in units of the targets, not log-odds. float64. Gradients pass to g.

        Raises:
            ValueError: The width differs from the training embeddings', or a value is not finite.
            NotFittedError: ``fit`` comes first.
        """
        W_star = self.W_star
        self._check_width("g", g)
        shape, g = g.shape, g.to(W_star.device).reshape(-1, len(W_star))
        logits = g.to(W_star) @ W_star if g.numel() <= ENTRIES else times(g, None, W_star)  # torch differentiates one
        return logits.reshape(*shape[:-1], W_star.shape[1]) + self.bias

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

    # ---- inside

    def _need_fit(self) -> System:
        if self._system is None:
            raise NotFittedError("This RidgeHead is not fitted yet: call `fit(G, Y)` first.")
        return self._system

    def _count(self) -> int:
        """How many training pictures there are; rows that were left by a removal stay where they are."""
        return self._system.n if isinstance(self._system, Removed) else len(self._need_rows().w)

    def _need_rows(self) -> Rows:
        system = self._need_fit()
        if isinstance(system, Removed):
            return system.rows
        if self._rows is None:
            raise NotFittedError(
                "This head was made from statistics alone and knows no training picture: call `fit(G, Y)`."
            )
        return self._rows

    def _check_width(self, name: str, g: Tensor) -> Tensor:
        D = self.W_star.shape[0]
        require_tensor(name, g)
        if g.ndim == 0 or g.shape[-1] != D:
            raise ValueError(f"`{name}` must be (..., {D}) to match the training embeddings; got {tuple(g.shape)}.")
        require_finite(name, g)
        return g.detach()  # products are written into memory that is there
