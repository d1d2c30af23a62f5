"""Training pictures, and others that might have stood in their places: what refitting with each would answer.

Let z stand in the place of g_i, whose weight w and target y stay: equation (3) of ``carrot.influence`` with U = (i, z)
and C = diag(-w, w), a system of two unknowns, written out. With k of the head, its equation (4),

::

    c = k(g_i, z)      q = k(z, z)      s = 1 - leverage_i      R = y - logit(g_i)      R_z = y - logit(z)
    d = s (1 + w q) + (w c)^2                                                                                   (1)
    logit'(g) - logit(g) = w [ k(g, z) (w c R + s R_z) - k(g, g_i) ((1 + w q) R - w c R_z) ] / d                 (2)

d > 0 is a sum of what is not negative: nothing cancels in it. c, q and s are the model's, and are solved for once;
k(g, .) is the picture's that is asked about, R and R_z the question's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.blocks import blocks
from carrot._ridge.logit import Logit
from carrot._ridge.rows import check_indices
from carrot.utils import require_shape

if TYPE_CHECKING:
    from carrot.head import RidgeHead


@dataclass(frozen=True, eq=False)
class Replacements:
    """R embeddings for the place of each of b training pictures, one at a time; ``RidgeHead.replacements`` makes it.

    Attributes:
        head: The fitted head.
        index: The training pictures.
        cross: c, of each picture with each of its R.
        own: q.

    Exactness: exact, a real refit to rounding, with intercept and weights;
        ``tests/claims/test_19_hidden_regions.py``.
    """

    head: "RidgeHead"
    index: Int[Tensor, " b"]
    cross: Float[Tensor, "b R"]
    own: Float[Tensor, "b R"]

    __repr__ = brief

    @classmethod
    def of(cls, head: "RidgeHead", indices: Tensor, G_new: Tensor) -> "Replacements":
        """Return them; see ``RidgeHead.replacements``."""
        n, D = head.G.shape
        index = check_indices(indices, n).to(head.G.device)
        require_shape("G_new", G_new, (D,), "the training embeddings")
        if G_new.ndim != 3 or len(G_new) != len(index):
            raise ValueError(
                f"`G_new` must be ({len(index)}, R, {D}), R embeddings for each of the pictures; got "
                f"{tuple(G_new.shape)}."
            )
        b, R, _ = G_new.shape
        cross, own = G_new.new_empty(2, b, R, dtype=torch.float64).to(head.G.device)
        for some in blocks(b, R * D):
            z = G_new[some].to(head.W_star)
            solved = head.inverse_times(z).mT.unflatten(0, z.shape[:2])  # K^{-1} (z - gm)
            old = head.G[index[some]].to(torch.float64) - head.g_mean
            cross[some] = (solved @ old.unsqueeze(-1)).squeeze(-1) + head.shift
            own[some] = (solved * (z - head.g_mean)).sum(dim=-1) + head.shift
        return cls(head, index, cross, own)

    def effects(
        self,
        logit: Logit,
        k_old: Float[Tensor, " b"],
        k_new: Float[Tensor, "b R"],
        logits_new: Float[Tensor, "b R"],
    ) -> Float[Tensor, "b R"]:
        """Return ``logit fitted with the one in place of the other - logit``: equation (2).

        Args:
            logit: The question.
            k_old: k(g, g_i) of the picture that is asked about.
            k_new: k(g, z).
            logits_new: The question's answer for each z, as it is now.
        """
        w, s = (x[self.index].unsqueeze(-1) for x in (self.head.sample_weight, self.head.slack))
        R, R_new = logit.residual[self.index], logit.Y[self.index] - logits_new
        wc, wq = w * self.cross, 1.0 + w * self.own
        return w * (k_new * (wc * R + s * R_new) - k_old.unsqueeze(-1) * (wq * R - wc * R_new)) / (s * wq + wc.square())
