"""A ridge system whose weights are known, and the rest of whose answers are worked out when one is asked for."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

from torch import Tensor

from carrot._ridge.rows import Rows
from carrot._ridge.systems import Moments, System


class Later(System):
    """Answers of ``solved``, a system of the same rows; what is known without it is a subclass's."""

    @property
    @abstractmethod
    def solved(self) -> System:
        """The system, solved."""

    @cached_property
    def slack(self) -> Tensor:
        """1 - leverage."""
        return self.solved.slack

    def slack_columns(self, rows: Tensor, at: Tensor | slice = slice(None)) -> Tensor:
        """(I - s) against some rows."""
        return self.solved.slack_columns(rows, at)

    def slack_within(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """(I - s) among the rows of each group."""
        return self.solved.slack_within(groups)

    def inverse_times(self, z: Tensor) -> Tensor:
        """K^{-1} (z - gm)."""
        return self.solved.inverse_times(z)

    def kernel(self, a: Tensor, z: Tensor) -> Tensor:
        """k(a, z)."""
        return self.solved.kernel(a, z)

    def smoother(self, g: Tensor, rows: Tensor | slice) -> Tensor:
        """s(g)."""
        return self.solved.smoother(g, rows)

    def account(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """<g - gm, g_i - gm> and s(g)."""
        return self.solved.account(g)

    def grown(self, new: Rows, rows: Rows) -> Moments | None:
        """Return the moments of ``rows``, which are those of this system and ``new`` ones."""
        return self.solved.grown(new, rows)

    def shrunk(self, stay: Tensor, rows: Rows) -> Moments | None:
        """Return the moments of ``rows``, those numbered ``stay``."""
        return self.solved.shrunk(stay, rows)

    def retargeted(self, changed: Tensor, rows: Rows) -> Moments | None:
        """Return the moments of ``rows``, which have other targets where they are numbered ``changed``."""
        return self.solved.retargeted(changed, rows)
