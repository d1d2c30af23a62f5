"""Leave-one-out of so many pictures, or so many classes, that n C numbers are too many: a block of pictures at a time.

::

    logit_{-i}(g_i)  =  y_i - R_i / (1 - leverage_i),      R_i = y_i - ym - W*^T (g_i - gm)                        (1)

n > D: R_i from the block's own rows, so that the dual weights, n C numbers too, aren't there either; n <= D: from them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ridge.blocks import blocks, each_block
from carrot._ridge.later import Later
from carrot._ridge.passes import found, groups
from carrot._ridge.rows import Rows
from carrot._ridge.systems import PrimalSystem, System

if TYPE_CHECKING:
    from carrot._ridge.solution import Solution

Result = TypeVar("Result")


def residual_at(head: "Solution", at: Int[Tensor, " k"]) -> Float[Tensor, "k C"]:
    """Return R of some training pictures, without those of the others."""
    rows, system = head._need_rows(), _solved(head)
    if not isinstance(system, PrimalSystem):
        return head.alpha[at] * (head.lam / rows.w[at]).unsqueeze(-1)
    A = rows.G[at].to(torch.float64) - head.g_mean
    R = rows.Y[at].minus(torch.mm(A, head.W_star).add_(head.y_mean), slice(None))
    for place, i in enumerate(at.tolist()):
        if i in system.alone:
            error, slack = system.alone[i]
            R[place] = slack * error
    return R


def loo_at(head: "Solution", at: Int[Tensor, " k"]) -> Float[Tensor, "k C"]:
    """Return equation (1) of some training pictures: as ``loo_blocks`` has it, to rounding."""
    wrong = residual_at(head, at) / head.slack[at].unsqueeze(-1)
    return head._need_rows().Y[at].minus(wrong, slice(None))


def _solved(head: "Solution") -> System:
    system = head._need_fit()
    return system.solved if isinstance(system, Later) else system


def loo_blocks(head: "Solution") -> Iterator[tuple[slice, Float[Tensor, "b C"]]]:
    """Yield training pictures, and equation (1) of each; see ``RidgeHead.loo_blocks``."""
    rows, slack, system = head._need_rows(), head.slack, _solved(head)
    if not isinstance(system, PrimalSystem):
        share = (head.lam / rows.w).unsqueeze(-1)
        for block in blocks(len(rows.w), rows.Y.C):
            yield block, rows.Y.minus(head.alpha[block] * share[block] / slack[block].unsqueeze(-1), block)
        return
    work = _LeftOut.of(head, system, _logits)
    for part in groups(*rows.G.shape):
        yield from work.blocks(rows.group(part), part.start)


def loo_map(head: "Solution", of: Callable[[slice, Float[Tensor, "b C"]], Result]) -> Iterator[tuple[slice, Result]]:
    """Yield what a function makes of each block, in order; see ``RidgeHead.loo_map``."""
    rows, system = head._need_rows(), _solved(head)
    if not isinstance(system, PrimalSystem):
        for block, logits in loo_blocks(head):
            yield block, of(block, logits)
        return
    for _, results in found(rows, _LeftOut.of(head, system, of)):
        yield from results


@dataclass(frozen=True, eq=False)
class _LeftOut:
    """A pass: equation (1), and what somebody makes of it."""

    g_mean: Tensor
    W_star: Tensor
    y_mean: Tensor
    slack: Tensor
    alone: Mapping[int, Tensor]
    map: Callable[[slice, Tensor], Any]

    @classmethod
    def of(cls, head: "Solution", system: PrimalSystem, map: Callable[[slice, Tensor], Any]) -> "_LeftOut":
        alone = {i: error for i, (error, _) in system.alone.items()}
        return cls(head.g_mean, head.W_star, head.y_mean, head.slack, alone, map)

    def __call__(self, rows: Rows, start: int) -> list[tuple[slice, Any]]:
        return [(block, self.map(block, logits)) for block, logits in self.blocks(rows, start)]

    def blocks(self, rows: Rows, start: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield pictures, by their numbers among all, and equation (1) of each."""
        for block, A in each_block(rows.G, self.g_mean, self.W_star.shape[1]):
            own = slice(start + block.start, start + block.stop)
            logits = torch.mm(A, self.W_star).add_(self.y_mean)
            wrong = rows.Y.minus(logits, block).div_(self.slack[own].unsqueeze(-1))
            for i, error in self.alone.items():
                if own.start <= i < own.stop:
                    wrong[i - own.start] = error
            yield own, rows.Y.minus(wrong, block)


def _logits(_: slice, logits: Tensor) -> Tensor:
    return logits
