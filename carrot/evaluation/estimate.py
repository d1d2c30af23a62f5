"""A mean, and how sure we are of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """The mean of n independent numbers.

    Attributes:
        mean: None if there is no number.
        standard_error: Standard deviation (n - 1) over sqrt(n); None with fewer than two.
        n: How many numbers.
    """

    mean: float | None
    standard_error: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Estimate":
        """Return the mean of ``values`` and its standard error.

        Raises:
            ValueError: A value is NaN or infinite.
        """
        numbers = [float(v) for v in values]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(
                "`values` must be finite; got NaN or infinity. Leave out what is undefined, and say how many."
            )
        n = len(numbers)
        if n == 0:
            return cls(None, None, 0)
        mean = math.fsum(numbers) / n
        if n == 1:
            return cls(mean, None, 1)
        variance = math.fsum((v - mean) ** 2 for v in numbers) / (n - 1)
        return cls(mean, math.sqrt(variance / n), n)

    def __str__(self) -> str:
        """Return it as text, "0.912 ± 0.004"."""
        if self.mean is None:
            return "none"
        return f"{self.mean:.3f}" if self.standard_error is None else f"{self.mean:.3f} ± {self.standard_error:.3f}"
