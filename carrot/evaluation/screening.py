"""Cosines of rows around their mean, quickly, and how far they may be off: what is open then is settled from the rows.

A product of M numbers of a type is right to (M + 8) eps of that type: 2e-3 at M = 18,528 in float32, whatever the order
of summation. Rows are centred in float64 and scaled to length 1 before they are narrowed.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.blocks import blocks, centred, weighted_mean
from carrot._ridge.gram import Gram

EPS = torch.finfo(torch.float64).eps
COARSEST = 1e-6  # of inner products at hand: beyond, the rows say more


@dataclass(frozen=True, eq=False)
class CentredRows:
    """Rows around their mean; ``of`` makes it.

    Attributes:
        G: The rows.
        mean: Of all.
        norm: How far each is from it.
        rounding: Of the mean: (n + 8) eps times the root mean square of |g|.
    """

    G: Float[Tensor, "n M"]
    mean: Float[Tensor, " M"]
    norm: Float[Tensor, " n"]
    rounding: float

    __repr__ = brief

    @classmethod
    def of(cls, G: Float[Tensor, "n M"]) -> "CentredRows":
        """Return them.

        Raises:
            ValueError: Squares of G leave float64.
        """
        n = len(G)
        mean = weighted_mean(G, torch.full((n,), 1 / n, dtype=torch.float64, device=G.device))
        norm = torch.cat([centred(G, mean, part).norm(dim=1) for part in blocks(*G.shape)])
        size = float(norm.square().mean() + mean.square().sum()) ** 0.5
        if not 1e-150 < size < 1e150 and bool(G.any()):
            raise ValueError(f"`G` must have rows of norms from 1e-150 to 1e150; got {size:g} on average. Scale it.")
        return cls(G, mean, norm, (n + 8) * EPS * size)

    @property
    def has_direction(self) -> Bool[Tensor, " n"]:
        """False where a row is the mean, but for its rounding."""
        return self.norm > self.rounding

    def apart(self, i: Int[Tensor, " k"], j: Int[Tensor, " k"]) -> Float[Tensor, " k"]:
        """Return |g_i - g_j|^2 of pairs, from differences."""
        found = [
            (self.G[i[b]].to(torch.float64) - self.G[j[b]].to(torch.float64)).square_().sum(dim=1)
            for b in blocks(len(i), self.G.shape[1])
        ]
        return torch.cat([self.norm[:0], *found])

    def cosines(self, i: Int[Tensor, " k"], j: Int[Tensor, " k"]) -> Float[Tensor, " k"]:
        """Return the cosine of pairs around the mean."""
        found = [
            (centred(self.G[i[b]], self.mean).mul_(centred(self.G[j[b]], self.mean))).sum(dim=1)
            for b in blocks(len(i), self.G.shape[1])
        ]
        return torch.cat([self.norm[:0], *found]) / self.norm[i] / self.norm[j]


class Screen(ABC):
    """Cosines of n rows, to ``margin``.

    Attributes:
        margin: How far each may be off.
        width: Numbers of a row that a block of cosines reads.
    """

    margin: float
    width: int

    @abstractmethod
    def block(self, left: slice, right: slice) -> Float[Tensor, "b k"]:
        """Return those of some rows with some."""

    @abstractmethod
    def lines(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b n"]:
        """Return those of some rows with all."""


class FromRows(Screen):
    """Of rows, narrowed to a type.

    Args:
        rows: The rows.
        dtype: float32 or float64.
    """

    def __init__(self, rows: CentredRows, dtype: torch.dtype) -> None:
        self._rows, self._dtype, self.width = rows, dtype, rows.G.shape[1]
        self._inverse = torch.where(rows.norm > 0, 1.0 / rows.norm, 0.0)
        self.margin = (self.width + 8) * torch.finfo(dtype).eps
        self._last: tuple[slice, Tensor] | None = None

    def block(self, left: slice, right: slice) -> Float[Tensor, "b k"]:
        """Return those of some rows with some: one product."""
        if self._last is None or self._last[0] != left:  # blocks of one left come one after another
            self._last = left, self._unit(left)
        U = self._last[1]
        return U @ (U if left == right else self._unit(right)).mT

    def lines(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b n"]:
        """Return those of some rows with all: a product, and a pass over the rows."""
        U = self._unit(rows)
        return torch.cat([U @ self._unit(part).mT for part in blocks(*self._rows.G.shape)], dim=1)

    def _unit(self, rows: slice | Tensor) -> Tensor:
        X = self._rows.G[rows].to(torch.float64) - self._rows.mean
        return X.mul_(self._inverse[rows].unsqueeze(-1)).to(self._dtype)


class FromGram(Screen):
    """Of inner products that are there: equation (2) of ``carrot._ridge.gram``, a block at a time.

    Subtracting costs digits where their centre c is far from the mean, or a row near it: |g_i - c| beside |g_i - gm|.

    Args:
        rows: The rows.
        gram: Of them.
    """

    def __init__(self, rows: CentredRows, gram: Gram) -> None:
        self._N, self.width = gram.N, 1
        self._u = gram.N.mean(dim=1)
        self._q = float(self._u.mean())
        self._inverse = 1.0 / rows.norm
        around_c = gram.N.diagonal().sqrt()
        share = (around_c + around_c.square().mean().sqrt()) * self._inverse
        self.margin = (sum(rows.G.shape) + 8) * EPS * float(share.square().max())  # infinite for a row at the mean
        self.margin += 4.0 * rows.rounding * float(self._inverse.max())  # their mean differs from the rows' by rounding

    def block(self, left: slice, right: slice) -> Float[Tensor, "b k"]:
        """Return those of some rows with some: no product."""
        N = self._N[left, right] - self._u[left].unsqueeze(-1)
        return N.sub_(self._u[right]).add_(self._q).mul_(self._inverse[left].unsqueeze(-1)).mul_(self._inverse[right])

    def lines(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b n"]:
        """Return those of some rows with all: no product."""
        N = self._N[rows] - self._u[rows].unsqueeze(-1)
        return N.sub_(self._u).add_(self._q).mul_(self._inverse[rows].unsqueeze(-1)).mul_(self._inverse)


def screens(rows: CentredRows, gram: Gram | None) -> Iterator[Screen]:
    """Yield ways to know their cosines, the quickest first, and at last as well as float64 has it."""
    if gram is not None and (known := FromGram(rows, gram)).margin <= COARSEST:
        yield known
    yield FromRows(rows, torch.float32)
    yield FromRows(rows, torch.float64)
