"""The k training pictures that contribute most to each test picture's logit, or least: n pictures, block by block.

What picture i contributes to the question of test picture g is a product of a weight and a factor:

::

    dual       <g - o, g_i - o>  alpha_i            alpha_i = w_i R_i / lam, refined                             (1)
    label      s_i(g)            y_i
    removal    s_i(g)            R_i / slack_i      R_i = y_i - ym - W*^T (g_i - gm)

of the question's column alone. n > D: both come from the rows of a block, two products with D x m and D x q numbers for
the q different questions, so that neither n C nor n m numbers are ever there; it is a pass, whoever goes over the rows.
n <= D: they are known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.blocks import each_block, times
from carrot._ridge.later import Later
from carrot._ridge.passes import added, found
from carrot._ridge.questions import Questions
from carrot._ridge.rows import Rows, indices_of_each
from carrot._ridge.systems import PrimalSystem
from carrot.utils import require_shape, require_tensor, whole_number

if TYPE_CHECKING:
    from carrot.head import RidgeHead

KINDS = ("dual", "label", "removal")


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

    def take(self, numbers: Int[Tensor, "*m b"], values: Float[Tensor, "m b"]) -> None:
        """Look at some more: their numbers, and what each is in each row; NaN: it isn't to be named."""
        numbers = numbers.expand(values.shape)
        if self.values.shape[1] < self.k:
            self._join(slice(None), numbers, values)
            return
        first, last = values.amax(dim=1) if self.largest else values.amin(dim=1), self.values[:, -1]
        behind = (first <= last) if self.largest else (first >= last)  # with a NaN in the row it isn't
        some = (~behind).nonzero().flatten()
        if len(some):  # after some blocks of many these are few
            self._join(some, numbers[some], values[some])

    def _join(self, rows: Tensor | slice, numbers: Tensor, values: Tensor) -> None:
        values = values.where(~values.isnan(), -torch.inf if self.largest else torch.inf)
        every = torch.cat([self.values[rows], values], dim=1)
        indices = torch.cat([self.indices[rows], numbers], dim=1)
        best, place = every.topk(min(self.k, every.shape[1]), dim=1, largest=self.largest)
        if isinstance(rows, slice):
            self.values, self.indices = best, indices.gather(1, place)
        else:
            self.values[rows], self.indices[rows] = best, indices.gather(1, place)


def best_training(
    head: "RidgeHead",
    g_test: Tensor,
    k: SupportsIndex,
    kind: str,
    target: Tensor | SupportsIndex | None,
    against: Tensor | SupportsIndex | None,
    origin: Tensor | None,
    exclude: Tensor | None,
    ways: tuple[bool, ...],
) -> list[Best]:
    """Check what is asked; return the best of each of some ways, the largest (True) or the smallest."""
    rows = head._need_rows()
    n = len(rows.w)
    require_tensor("g_test", g_test)
    others = n if exclude is None else n - 1
    k = whole_number("k", k, 1, others, ", the number of training pictures" + " but the excluded one" * (others < n))
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {KINDS}; got {kind!r}.")
    if origin is not None and kind != "dual":
        raise ValueError(f"`origin` must go with kind='dual' alone; got kind={kind!r}.")
    asked = Questions.of(head, g_test, target, against)
    if exclude is not None:
        exclude = indices_of_each(exclude, len(g_test), n, "exclude").to(rows.w.device)
    if origin is not None:
        require_shape("origin", origin, g_test.shape[-1:], "the width of g_test")
    questions, which = asked.apart(len(head.bias))
    weight, factor = _weight_and_factor(head, g_test.to(head.W_star), kind, origin, questions)
    work = _Top(k, ways, exclude, which, head.g_mean, weight, factor)
    best = [Best.none(len(g_test), k, largest, head.W_star) for largest in ways]
    for _, some in found(rows._replace(open=None) if isinstance(factor, _Known) else rows, work):
        for mine, theirs in zip(best, some, strict=True):
            mine.take(theirs.indices, theirs.values)
    return best


def products(G_train: Tensor, g_test: Tensor, origin: Tensor | None) -> Tensor:
    """Return <g - o, g_i - o>, (m, n)."""
    if origin is not None:
        require_shape("origin", origin, g_test.shape[-1:], "the width of g_test")
        g_test = g_test - origin
    return times(G_train, origin, g_test.mT).mT


# ---- inside: weights and factors of equation (1), of pictures ``own`` whose rows are A, around the mean


@dataclass(frozen=True, eq=False)
class _Known:
    """A column of what is there for all pictures."""

    table: Tensor  # (n, C)
    asked: Questions

    def __call__(self, A: Tensor, rows: Rows, own: slice) -> Tensor:
        return self.asked.columns(self.table[own])


@dataclass(frozen=True, eq=False)
class _Smoothed:
    """s of all pictures, where it is there."""

    smoother: Tensor  # (m, n)

    def __call__(self, A: Tensor, own: slice, room: Tensor) -> Tensor:
        return room.copy_(self.smoother[:, own])


@dataclass(frozen=True, eq=False)
class _Product:
    """<right, g_i - gm> + shift."""

    right: Tensor  # (m, D)
    shift: Tensor  # (m, 1), or one number

    def __call__(self, A: Tensor, own: slice, room: Tensor) -> Tensor:
        return torch.mm(self.right, A.mT, out=room).add_(self.shift)


@dataclass(frozen=True, eq=False)
class _Label:
    """w_i y_i: a weight is without w_i, which s_i has."""

    asked: Questions

    def __call__(self, A: Tensor, rows: Rows, own: slice) -> Tensor:
        return self.asked.targets(rows.Y).mul_(rows.w)


@dataclass(frozen=True, eq=False)
class _Residual:
    """R_i, times what it counts for."""

    asked: Questions
    W: Tensor  # (q, D)
    y_mean: Tensor  # (q, 1)
    scale: Tensor  # (n,)
    alone: dict[int, Tensor]  # what it comes to, (q,), where R_i would cancel

    def __call__(self, A: Tensor, rows: Rows, own: slice) -> Tensor:
        R = self.asked.targets(rows.Y).sub_(torch.mm(self.W, A.mT).add_(self.y_mean)).mul_(self.scale[own])
        for i, known in self.alone.items():
            if own.start <= i < own.stop:
                R[:, i - own.start] = known
        return R


@dataclass(frozen=True, eq=False)
class _Dual:
    """alpha_i = w_i R_i / lam, and what refines it: ``PrimalSystem.alpha``."""

    rough: _Residual
    step: Tensor  # (q, D)
    less: Tensor  # (q, 1)

    def __call__(self, A: Tensor, rows: Rows, own: slice) -> Tensor:
        alpha = torch.mm(self.step, A.mT).sub_(self.less).mul_(rows.w)
        for i in self.rough.alone:
            if own.start <= i < own.stop:
                alpha[:, i - own.start] = 0.0
        return alpha.add_(self.rough(A, rows, own))


@dataclass(frozen=True, eq=False)
class _Missing:
    """A pass: sums over pictures of alpha_i g_i, alpha_i and w_i g_i around the mean, of rough duals."""

    g_mean: Tensor
    rough: _Residual

    def __call__(self, rows: Rows, start: int) -> tuple[Tensor, Tensor, Tensor]:
        q, D = self.rough.W.shape
        products, sums, left = (self.g_mean.new_zeros(shape) for shape in ((q, D), (q, 1), (D,)))
        for block, A in each_block(rows.G, self.g_mean, q):
            alpha = self.rough(A, rows.group(block), slice(start + block.start, start + block.stop))
            products.addmm_(alpha, A)
            sums += alpha.sum(dim=1, keepdim=True)
            left += rows.w[block] @ A
        return products, sums, left


@dataclass(frozen=True, eq=False)
class _Top:
    """A pass: the best of a group of pictures, for each test picture."""

    k: int
    ways: tuple[bool, ...]
    exclude: Tensor | None
    which: Tensor  # (m,), the question of each
    g_mean: Tensor
    weight: _Product | _Smoothed
    factor: Callable[[Tensor, Rows, slice], Tensor]

    def __call__(self, rows: Rows, start: int) -> list[Best]:
        m, room = len(self.which), None
        best = [Best.none(m, self.k, largest, self.g_mean) for largest in self.ways]
        for block, A in each_block(rows.G, self.g_mean, m):
            own, b = slice(start + block.start, start + block.stop), len(A)
            room = self.g_mean.new_empty(2, m * b) if room is None else room
            values = self.weight(A, own, room[0, : m * b].view(m, b))
            factor = self.factor(A, rows.group(block), own)
            values.mul_(torch.index_select(factor, 0, self.which, out=room[1, : m * b].view(m, b)))
            numbers = torch.arange(own.start, own.stop, device=values.device)
            if self.exclude is not None:
                here = ((self.exclude >= own.start) & (self.exclude < own.stop)).nonzero().flatten()
                values[here, self.exclude[here] - own.start] = torch.nan
            for each in best:
                each.take(numbers, values)
        return best


def _weight_and_factor(
    head: "RidgeHead", g: Tensor, kind: str, origin: Tensor | None, asked: Questions
) -> tuple[_Product | _Smoothed, Callable[[Tensor, Rows, slice], Tensor]]:
    """Return both, of what is known, or n > D from the rows of a block."""
    rows, system = head._need_rows(), head._need_fit()
    if kind == "dual" and (head.is_dual or "alpha" in vars(system)):  # of a system that was kept: nothing is solved
        return _dual_weight(head, g, origin), _Known(head.alpha, asked)
    system = system.solved if isinstance(system, Later) else system
    if not isinstance(system, PrimalSystem):
        per_class = head.Y if kind == "label" else head.residual / head.slack.unsqueeze(-1)
        return _Smoothed(head.smoother(g)), _Known(per_class, asked)
    weight = _Product(system.solved_for((g - system.g_mean).mT).mT.contiguous(), g.new_tensor(head.shift))
    if kind == "label":
        return weight, _Label(asked)
    W, y_mean = asked.columns(system.W_star).contiguous(), asked.columns(system.y_mean.unsqueeze(0))
    errors = {i: asked.columns(error.unsqueeze(0))[:, 0] for i, (error, _) in system.alone.items()}
    if kind == "removal":
        return weight, _Residual(asked, W, y_mean, rows.w / system.slack, {i: rows.w[i] * errors[i] for i in errors})
    scale = rows.w / head.lam
    alone = {i: errors[i] * (slack * scale[i]) for i, (_, slack) in system.alone.items()}
    rough = _Residual(asked, W, y_mean, scale, alone)
    there, sums, left = added(rows, _Missing(head.g_mean, rough))
    step = system.solved_for((W - there).mT).mT.contiguous()
    less = head.shift * (sums + (step @ left).unsqueeze(-1))
    return _dual_weight(head, g, origin), _Dual(rough, step, less)


def _dual_weight(head: "RidgeHead", g: Tensor, origin: Tensor | None) -> _Product:
    """Return <g - o, g_i - o>."""
    o = torch.zeros_like(head.g_mean) if origin is None else origin.to(g)
    return _Product(g - o, ((g - o) @ (head.g_mean - o)).unsqueeze(-1))
