"""A ridge system that was solved before: its answers come from where they were kept, bit for bit.

The rest is solved again when asked. Predictions need W* and b alone, so a model that was read from a file predicts at
once. Smoother, kernel, leverage and updates need a factor of the system; it is computed from the rows the first time
one of them is used, and equals the old one to rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.later import Later
from carrot._ridge.rows import Given, Rows, opened_rows
from carrot._ridge.systems import PrimalSystem, System, prefers_dual, solve
from carrot.utils import require_finite


@dataclass(frozen=True, eq=False)
class RestoredSystem(Later):
    """A ``System`` whose answers were kept; letters are the same. Where n > D, dual weights follow from the others."""

    rows: Rows
    lam: float
    fit_intercept: bool
    W_star: Float[Tensor, "D C"]
    bias: Float[Tensor, " C"]
    g_mean: Float[Tensor, " D"]
    y_mean: Float[Tensor, " C"]
    kept: Float[Tensor, "n C"] | None

    __repr__ = brief

    @classmethod
    def of(cls, state: Mapping[str, Given], lam: float, fit_intercept: bool) -> "RestoredSystem":
        """Return the system whose rows and solution are ``state``, by name.

        Raises:
            ValueError: A tensor is missing, or shapes or kinds don't fit together.
        """
        try:
            given, own = state["G"], {name: x for name, x in state.items() if isinstance(x, Tensor)}
            rows = opened_rows(given, own["Y"], own["sample_weight"], own["W_star"].shape[-1], copy=False)
            needs_alpha = prefers_dual(len(rows.w), rows.G.shape[1], fit_intercept)
            names = ("W_star", "bias", "g_mean", "y_mean", *(("alpha",) if needs_alpha or "alpha" in own else ()))
            solution = {name: own[name] for name in names}
        except KeyError as error:
            raise ValueError(f"`state` must hold {error.args[0]!r}; take it from `RidgeHead.state()`.") from None
        (n, D), C = rows.G.shape, rows.Y.C
        shapes = {"W_star": (D, C), "bias": (C,), "g_mean": (D,), "y_mean": (C,), "alpha": (n, C)}
        for name, x in solution.items():
            if tuple(x.shape) != shapes[name] or x.dtype != torch.float64:
                raise ValueError(
                    f"`state` must hold {name} as {shapes[name]} of float64; got {tuple(x.shape)} of {x.dtype}."
                )
            require_finite(name, x)
        return cls(rows, lam, fit_intercept, kept=solution.pop("alpha", None), **solution)

    @cached_property
    def alpha(self) -> Tensor:  # type: ignore[override]  # worked out when it is asked for
        """Dual weights."""
        return self.solved.alpha if self.kept is None else self.kept

    @cached_property
    def solved(self) -> System:
        """The system, solved again; what it says of its weights is what was kept."""
        system = solve(self.rows, self.lam, self.fit_intercept)
        if isinstance(system, PrimalSystem):
            system.W_star, system.bias, system.g_mean, system.y_mean = self.W_star, self.bias, self.g_mean, self.y_mean
        return system
