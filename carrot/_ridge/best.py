"""The k largest, or smallest, of many numbers that come block by block."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief


@dataclass(eq=False)
class Best:
    """The k best so far of each of m rows, best first.

    Attributes:
        k: How many.
        largest: False: the smallest ones.
        values: What they are.
        indices: Their numbers.
    """

    k: int
    largest: bool
    values: Float[Tensor, "m j"]
    indices: Int[Tensor, "m j"]

    __repr__ = brief

    @classmethod
    def none(cls, m: int, k: int, largest: bool, like: Tensor) -> "Best":
        """Return it before any came; ``like`` tells where numbers are."""
        return cls(k, largest, like.new_empty(m, 0), torch.empty(m, 0, dtype=torch.long, device=like.device))

    def take(self, numbers: Int[Tensor, " b"], values: Float[Tensor, "m b"]) -> None:
        """Look at some more: their numbers, and what each is in each row; NaN: it isn't to be named."""
        values = values.where(~values.isnan(), -torch.inf if self.largest else torch.inf)
        every = torch.cat([self.values, values], dim=1)
        indices = torch.cat([self.indices, numbers.expand(len(values), -1)], dim=1)
        self.values, place = every.topk(min(self.k, every.shape[1]), dim=1, largest=self.largest)
        self.indices = indices.gather(1, place)
