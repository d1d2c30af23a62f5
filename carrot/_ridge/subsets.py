"""Which few of many, taken together, come to more than is needed: branch and bound, for ``carrot.edits.flips``.

A set U of n comes to

::

    effect(U) = a_U^T (I - E_UU)^{-1} b_U,    E symmetric with a diagonal of 0, I - E positive definite            (1)

so that a_i b_i is what i comes to alone. Let rho_i be the sum of the k - 1 largest |E_ij| of row i. For a set of k,
I - E_UU and I + E_UU are diagonally dominant: diag(1 - rho) <= I - E_UU <= diag(1 + rho) as forms, and the other way
round for their inverses. With 4 x^T A y = (x + y)^T A (x + y) - (x - y)^T A (x - y), every set of k with rho < 1 has,
whatever tau > 0,

::

    effect(U) <= sum_{i in U} h_i,    h_i = [a_i b_i + rho_i (tau a_i^2 + b_i^2 / tau) / 2] / (1 - rho_i^2)        (2)

No set of k comes to more than the k largest h_i do, and none that holds i to more than h_i and the k - 1 largest
others. Once i is in, (1) holds of the rest after one step of elimination, u = E_:i,

::

    a <- a + u a_i,    b <- b + u b_i,    I - E <- I - E - u u^T,    then scaled to a diagonal of 1                (3)

and a_i b_i less is needed. So sets are searched by their member of the largest h first, pairs at the end one by one.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ridge.systems import ALONE

SURE = 1.0 - 1e-9  # a bound that is this share of what is needed isn't told from it: rounding


class UndecidedError(Exception):
    """The budget is spent, or rounding doesn't let it be told."""


class Search:
    """Looks for sets of just k, where it is known that fewer don't do.

    Args:
        nodes: How many systems may be searched, by all calls together.
        tell: Called with the size of the set and the systems so far, now and then.
    """

    def __init__(self, nodes: int, tell: Callable[[int, int], None] | None) -> None:
        self._nodes, self._tell, self._size, self.count = nodes, tell, 0, 0

    def find(
        self, E: Float[Tensor, "n n"], a: Float[Tensor, " n"], b: Float[Tensor, " n"], need: float, k: int
    ) -> list[int] | None:
        """Return a set of k that comes to more than ``need``; None: there is none.

        Raises:
            UndecidedError: It can't be told.
        """
        self._size = k
        return self._find(E, a, b, need, k)

    def _find(self, E: Tensor, a: Tensor, b: Tensor, need: float, k: int) -> list[int] | None:
        self.count += 1
        if self.count > self._nodes:
            raise UndecidedError
        if self._tell is not None and self.count % 100 == 0:
            self._tell(self._size, self.count)
        if k == 1:
            i = int((a * b).argmax())
            return [i] if float(a[i] * b[i]) > need else None
        if k == 2:
            return _pair(E, a, b, need)
        rho = row_sums(E, k)
        fits = rho < 1.0
        if not bool(fits.all()):  # nothing is known of sets that hold one of these: look at each with it in
            rest, good = torch.ones_like(fits), fits.nonzero().flatten()
            for i in (~fits).nonzero().flatten().tolist():
                rest[i] = False
                if (found := self._with(E, a, b, need, k, i, rest.nonzero().flatten())) is not None:
                    return found
            return self._of_some(E, a, b, need, k, good)
        stay = possible(a, b, rho, k, need)
        if len(stay) < len(a):  # those that stay have smaller sums of rows: look again
            return self._of_some(E, a, b, need, k, stay)
        h = bound(a, b, rho, k)[0]
        order = h.argsort(descending=True, stable=True)
        h = h[order]
        for at in range(len(order) - k + 1):
            if float(h[at : at + k].sum()) <= need * SURE:
                return None
            if (found := self._with(E, a, b, need, k, int(order[at]), order[at + 1 :])) is not None:
                return found
        return None

    def _of_some(self, E: Tensor, a: Tensor, b: Tensor, need: float, k: int, some: Tensor) -> list[int] | None:
        """Return a set of k among some."""
        if len(some) < k:
            return None
        found = self._find(E[some][:, some], a[some], b[some], need, k)
        return None if found is None else some[found].tolist()

    def _with(self, E: Tensor, a: Tensor, b: Tensor, need: float, k: int, i: int, rest: Tensor) -> list[int] | None:
        """Return a set of k that holds i, and others of the rest: equation (3)."""
        if len(rest) < k - 1:
            return None
        u = E[rest, i]
        scale = scale_without(u)
        inner = inner_without(E[rest][:, rest], u, scale)
        left = need - float(a[i] * b[i])
        found = self._find(inner, (a[rest] + u * a[i]) * scale, (b[rest] + u * b[i]) * scale, left, k - 1)
        return None if found is None else [i, *rest[found].tolist()]


def scale_without(u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return what scales the rest to a diagonal of 1 after a step of elimination.

    Raises:
        UndecidedError: Of one of them nothing is left but rounding.
    """
    room = 1.0 - u.square()
    if len(u) and float(room.min()) < ALONE:
        raise UndecidedError
    return room.rsqrt()


def inner_without(E: Float[Tensor, "n n"], u: Float[Tensor, " n"], scale: Float[Tensor, " n"]) -> Float[Tensor, "n n"]:
    """Return E of the rest after a step of elimination: equation (3)."""
    inner = torch.addr(E, u, u).mul_(scale.unsqueeze(-1)).mul_(scale)
    inner.diagonal().zero_()
    return inner


def row_sums(E: Float[Tensor, "n n"], k: int) -> Float[Tensor, " n"]:
    """Return rho for sets of k."""
    return E.abs().topk(min(k - 1, len(E)), dim=1).values.sum(dim=1)


def bound(
    a: Float[Tensor, " n"], b: Float[Tensor, " n"], rho: Float[Tensor, " n"], k: int
) -> tuple[Float[Tensor, " n"], float]:
    """Return h of equation (2), with the best of a few tau, and the sum of the k largest; infinite where rho >= 1."""
    products, A, B = a * b, a.square(), b.square()
    some, least = products.topk(min(k, len(a))).indices, 1e-150
    ratios = torch.stack([B[some].sum() / A[some].sum().clamp(min=least), B.sum() / A.sum().clamp(min=least)]).sqrt()
    tau = torch.cat([ratios, ratios.prod().sqrt().unsqueeze(0)]).clamp(min=least).unsqueeze(-1)
    room = (1.0 - rho.square()).where(rho < 1.0, 1.0)
    h = ((products + 0.5 * rho * (tau * A + B / tau)) / room).where(rho < 1.0, torch.inf)
    sums = h.topk(min(k, len(a)), dim=1).values.sum(dim=1)
    best = int(sums.argmin())
    return h[best], float(sums[best])


def possible(
    a: Float[Tensor, " n"], b: Float[Tensor, " n"], rho: Float[Tensor, " n"], k: int, need: float
) -> Int[Tensor, " j"]:
    """Return who may be in a set of k that comes to more than ``need``; nobody where there are fewer than k."""
    if len(a) < k:
        return torch.empty(0, dtype=torch.long, device=a.device)
    h, most = bound(a, b, rho, k)
    top = h.topk(k).values
    with_it = torch.where(h >= top[-1], most, h + top[:-1].sum())
    return (~(with_it <= need * SURE)).nonzero().flatten()


def _pair(E: Tensor, a: Tensor, b: Tensor, need: float) -> list[int] | None:
    """Return two that come to more than ``need``: (1) of every pair, written out."""
    if len(a) < 2:
        return None
    alone, cross = a * b, torch.outer(a, b)
    room = (1.0 - E.square()).fill_diagonal_(1.0)
    if float(room.min()) < ALONE:
        raise UndecidedError
    effect = ((alone.unsqueeze(-1) + alone + E * (cross + cross.mT)) / room).fill_diagonal_(-torch.inf)
    i, j = divmod(int(effect.argmax()), len(a))
    return [i, j] if float(effect[i, j]) > need else None
