"""What is asked of one question alone, where n C numbers are too many; letters are those of ``carrot._ridge.systems``.

::

    alpha q  =  w (Y q - ym^T q - G~ W* q) / lam,   and one step of refinement as for all of them                  (1)
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ridge.blocks import times, transposed_times
from carrot._ridge.later import Later
from carrot._ridge.systems import PrimalSystem

if TYPE_CHECKING:
    from carrot.head import RidgeHead

HELD = 2**27  # numbers of all pictures and classes that are held: 1 GiB; of more, those that are asked for


def are_held(head: "RidgeHead") -> bool:
    """Return whether n C numbers are so few that they are worked out for all pictures and classes, and held."""
    return head._count() * len(head.bias) <= HELD


def alpha_of(head: "RidgeHead", question: Float[Tensor, "C q"]) -> Float[Tensor, "n q"]:
    """Return ``alpha question``, without the dual weights of other classes where these are many: equation (1)."""
    system = head._need_fit()
    system = system.solved if isinstance(system, Later) else system
    if not isinstance(system, PrimalSystem) or are_held(head):
        return head.alpha @ question
    rows, weights = head._need_rows(), head.W_star @ question
    G, w = rows.G, rows.w.unsqueeze(-1)
    R = rows.Y.times(question, slice(None)) - times(G, head.g_mean, weights).add_(head.y_mean @ question)
    alone = list(system.alone)
    known = torch.stack([slack * (error @ question) for error, slack in system.alone.values()]) if alone else R[:0]
    R[alone] = known
    alpha = w * R / head.lam
    missing = weights - transposed_times(G, head.g_mean, alpha)
    alpha += w * times(G, head.g_mean, system.solved_for(missing))
    alpha -= head.shift * w * alpha.sum(dim=0)
    alpha[alone] = w[alone] * known / head.lam
    return alpha
