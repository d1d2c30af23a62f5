"""Leave-one-out of so many pictures, or so many classes, that n C numbers are too many: a block of pictures at a time.

::

    logit_{-i}(g_i)  =  y_i - R_i / (1 - leverage_i),      R_i = y_i - ym - W*^T (g_i - gm)                        (1)

n > D: R_i from the block's own rows, so that the dual weights, n C numbers too, aren't there either; n <= D: from them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ridge.blocks import blocks, each_block
from carrot._ridge.later import Later
from carrot._ridge.systems import PrimalSystem, System

if TYPE_CHECKING:
    from carrot.head import RidgeHead


def residual_at(head: "RidgeHead", at: Int[Tensor, " k"]) -> Float[Tensor, "k C"]:
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


def loo_at(head: "RidgeHead", at: Int[Tensor, " k"]) -> Float[Tensor, "k C"]:
    """Return equation (1) of some training pictures: as ``loo_blocks`` has it, to rounding."""
    wrong = residual_at(head, at) / head.slack[at].unsqueeze(-1)
    return head._need_rows().Y[at].minus(wrong, slice(None))


def _solved(head: "RidgeHead") -> System:
    system = head._need_fit()
    return system.solved if isinstance(system, Later) else system


def loo_blocks(head: "RidgeHead") -> Iterator[tuple[slice, Float[Tensor, "b C"]]]:
    """Yield training pictures, and equation (1) of each; see ``RidgeHead.loo_blocks``."""
    rows, slack, system = head._need_rows(), head.slack.unsqueeze(-1), _solved(head)
    if not isinstance(system, PrimalSystem):
        share = (head.lam / rows.w).unsqueeze(-1)
        for block in blocks(len(rows.w), rows.Y.C):
            yield block, rows.Y.minus(head.alpha[block] * share[block] / slack[block], block)
        return
    for block, A in each_block(rows.G, head.g_mean):
        wrong = rows.Y.minus(torch.mm(A, head.W_star).add_(head.y_mean), block).div_(slack[block])
        for i in system.alone.keys() & set(range(block.start, block.stop)):
            wrong[i - block.start] = system.alone[i][0]
        yield block, rows.Y.minus(wrong, block)
