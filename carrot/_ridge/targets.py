"""Targets of the training rows: real numbers, or labels, each of which stands for a row of zeros with a one in it.

With labels l_i and e_c a row of the identity, the products that a fit asks for are sums and look-ups:

::

    sum_i x_i e_{l_i}^T  =  for each class the sum of its x        e_{l_i} T  =  row l_i of T                     (1)
    |e_{l_i} - m|^2      =  (1 - m_{l_i})^2 + |m|^2 - m_{l_i}^2                                                   (2)

n C numbers, and n D C multiplications, that are never there; a dense matrix is made when one is asked for.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.blocks import blocks, sum_of, weighted_mean


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets of n rows for C classes or outputs.

    Attributes:
        values: Labels 0 .. C - 1, int64, or real targets, float64.
        C: Number of columns.

    Exactness: exact; ``tests/unit/test_targets.py``.
    """

    values: Float[Tensor, "n C"] | Int[Tensor, " n"]
    C: int

    __repr__ = brief

    @classmethod
    def of(cls, Y: Float[Tensor, "n C"]) -> "Targets":
        """Return targets of a matrix, as labels where each row is one of the identity's."""
        one = Y == 1.0
        if bool(((Y != 0.0).sum(dim=1) == 1).all()) and bool((one.sum(dim=1) == 1).all()):
            return cls(one.to(torch.uint8).argmax(dim=1), Y.shape[1])
        return cls(Y.detach().to(torch.float64, copy=True), Y.shape[1])

    @property
    def are_labels(self) -> bool:
        """Whether each row is a class."""
        return self.values.ndim == 1

    @cached_property
    def dense(self) -> Float[Tensor, "n C"]:
        """The matrix, float64; labels one-hot."""
        return self.block(slice(None))

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.values)

    def __getitem__(self, index: Tensor | slice) -> "Targets":
        """Return some rows."""
        return Targets(self.values[index], self.C)

    def block(self, rows: slice) -> Float[Tensor, "b C"]:
        """Return some rows as a matrix, float64."""
        if not self.are_labels:
            return self.values[rows]
        labels = self.values[rows].unsqueeze(-1)
        return torch.zeros(len(labels), self.C, dtype=torch.float64, device=labels.device).scatter_(1, labels, 1.0)

    def row(self, i: int) -> Float[Tensor, " C"]:
        """Return one row."""
        return self.block(slice(i, i + 1))[0]

    def to(self, device: torch.device) -> "Targets":
        """Return them on a device."""
        return Targets(self.values.to(device), self.C)

    def then(self, new: "Targets") -> "Targets":
        """Return these and others after them."""
        a, b = self._alike(new)
        return Targets(torch.cat([a, b]), self.C)

    def put(self, index: Int[Tensor, " k"], new: "Targets") -> "Targets":
        """Return them with others at some places."""
        a, b = self._alike(new)
        return Targets(a.index_copy(0, index, b), self.C)

    def _alike(self, new: "Targets") -> tuple[Tensor, Tensor]:
        both = self, new.to(self.values.device)
        a, b = (t.values if self.are_labels == new.are_labels else t.dense for t in both)
        return a, b

    @property
    def reach(self) -> float:
        """Largest target, in absolute value."""
        return 1.0 if self.are_labels else float(self.values.abs().max())

    @property
    def most_of_a_class(self) -> int:
        """How many rows have something in the column where most have."""
        return int((torch.bincount(self.values) if self.are_labels else (self.values != 0.0).sum(dim=0)).max())

    def mean(self, w: Float[Tensor, " n"]) -> Float[Tensor, " C"]:
        """Return ``sum_i w_i y_i / sum(w)``."""
        if not self.are_labels:
            return weighted_mean(self.values, w)
        if w.is_cuda:  # there the order of additions would change from run to run
            total = torch.zeros(self.C, dtype=torch.float64, device=w.device)
            for rows in blocks(len(w), self.C):
                total += w[rows] @ self.block(rows)
            return total / sum_of(w)
        return torch.bincount(self.values, weights=w, minlength=self.C).to(w) / sum_of(w)

    def add_products(
        self, total: Float[Tensor, "C k"], X: Float[Tensor, "b k"], rows: slice, mean: Float[Tensor, " C"]
    ) -> None:
        """Add ``(Y[rows] - mean)^T X``, but for ``mean (sum of X)^T`` of labels: these are sums of a class."""
        if not self.are_labels:
            total.addmm_((self.values[rows] - mean).mT, X)  # a large mean would cost the digits of the rest
        elif X.is_cuda:  # as in ``mean``
            total.addmm_(self.block(rows).mT, X)
        else:
            total.index_add_(0, self.values[rows], X)

    def times(self, T: Float[Tensor, "C k"], rows: slice) -> Float[Tensor, "b k"]:
        """Return ``Y[rows] T``."""
        return T[self.values[rows]] if self.are_labels else self.values[rows] @ T

    def minus(self, X: Float[Tensor, "b C"], rows: slice) -> Float[Tensor, "b C"]:
        """Return ``Y[rows] - X``, in the memory of X."""
        if not self.are_labels:
            return X.neg_().add_(self.values[rows])
        here = torch.arange(len(X), device=X.device), self.values[rows]
        X[here] -= 1.0
        return X.neg_()

    def squares(self, mean: Float[Tensor, " C"], rows: slice) -> Float[Tensor, " b"]:
        """Return ``|y_i - mean|^2``: equation (2)."""
        if not self.are_labels:
            return (self.values[rows] - mean).square().sum(dim=1)
        m = mean.square()
        others = m.sum() - m  # of numbers in [0, 1], of which it can be all but one: no digit of the sum is lost
        return ((1.0 - mean).square() + others)[self.values[rows]]
