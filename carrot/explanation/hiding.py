"""Regions of training pictures hidden, one at a time: a logit, had region k of training picture i never been shown.

Hiding a region is dropping it there, as ``carrot.removal`` has it; the picture then stands among the training pictures
as what is left of it, and all else stays. For every region of every training picture at once:

::

    z_ik   = sum_{m != k} pi_im(k) phi(h_im)          the picture without region k, weights of the rest            (1)
    k(g, z_ik)  = sum_{m != k} pi_im(k) <phi(h_im), v> - <gm, v> + [intercept] / sum(w),    v = K^{-1} (g - gm)    (2)
    logit(z_ik) = sum_{m != k} pi_im(k) <phi(h_im), w_c> + b                                                       (3)

and equation (2) of ``carrot._ridge.replacement`` is the answer of a refit with z_ik in the place of g_i. What it asks
of z_ik alone is solved once for a model, n N columns, block by block; a further picture costs (2) and (3), which the
lift scores token by token.

At the level of regions: a patch token has seen what is hidden; the rest of a picture's tiles never did, so that with
tiles it is the level of pixels.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned_class
from carrot._ridge.blocks import blocks
from carrot._ridge.logit import Logit
from carrot._ridge.replacement import Replacements
from carrot.embedding.pooling import Pooling
from carrot.embedding.tokens import Tokens
from carrot.head import RidgeHead


class _Block(NamedTuple):
    """Some pictures, and what a refit asks of each with a region hidden."""

    tokens: Tokens
    replacements: Replacements


@pinned_class
class Hiding:
    """Every region of some training pictures hidden, one at a time.

    Tokens are held as they come (rounded, n N D numbers), embeddings z_ik only while a block is solved for.

    Args:
        head: The fitted head.
        pooling: What its embeddings were made with.
        pictures: Training index and tokens of each, a batch of one.

    Attributes:
        index: The training pictures.

    Exactness: exact, a real refit to rounding; ``tests/claims/test_19_hidden_regions.py``.
    """

    def __init__(self, head: RidgeHead, pooling: Pooling, pictures: Iterable[tuple[int, Tokens]]) -> None:
        self.head, self._pooling, self._blocks = head, pooling, list[_Block]()
        waiting: list[tuple[int, Tokens]] = []
        for picture in pictures:
            waiting.append(picture)
            H = picture[1].H
            if len(waiting) == blocks(len(head.G), H.shape[1] * head.G.shape[1])[0].stop:
                self._solve(waiting)
                waiting = []
        if waiting:
            self._solve(waiting)
        self.index = [int(i) for block in self._blocks for i in block.replacements.index]

    def __repr__(self) -> str:
        return f"<Hiding of the regions of {len(self.index)} training pictures>"

    def effects(self, logit: Logit, g: Float[Tensor, " M"]) -> Float[Tensor, "b N"]:
        """Return ``logit fitted with the region never shown - logit``, of each picture and each of its regions.

        Args:
            logit: The question.
            g: The embedding that it is asked of.
        """
        head, g = self.head, g.to(torch.float64)
        if not self._blocks:
            return g.new_empty(0, 0)
        v = head.inverse_times(g)  # (M, 1)
        k_old = head.smoother(g) / head.sample_weight
        offset = head.shift - head.g_mean @ v[:, 0]
        effects = []
        for tokens, replacements in self._blocks:
            H, pi = self._hidden(tokens)
            found = pi.mT @ self._pooling.lift.scores(H, torch.cat([v, logit.W_star], dim=1))  # (b, N, 2)
            k_new, logits_new = found.unbind(dim=-1)
            effects.append(
                replacements.effects(logit, k_old[replacements.index], k_new + offset, logits_new + logit.bias)
            )
        return torch.cat(effects)

    def without(self, place: int, region: int) -> Float[Tensor, " M"]:
        """Return z_ik, equation (1): the embedding of picture ``index[place]`` with a region hidden."""
        for tokens, _ in self._blocks:
            if place < len(tokens.H):
                H, pi = self._hidden(tokens[place : place + 1])
                return self._pooling.lift.embed(H[0], pi[0, :, region])
            place -= len(tokens.H)
        raise IndexError(f"`place` must be one of {len(self.index)} pictures.")

    def _solve(self, pictures: list[tuple[int, Tokens]]) -> None:
        tokens = Tokens.joined([tokens for _, tokens in pictures])
        H, pi = self._hidden(tokens)
        index = torch.tensor([i for i, _ in pictures])
        phi = self._pooling.lift.features(H)  # (b, N, M)
        columns = blocks(pi.shape[-1], phi.shape[0] * phi.shape[2])
        parts = [self.head.replacements(index, pi[..., k].mT @ phi) for k in columns]
        cross, own = (torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("cross", "own"))
        self._blocks.append(_Block(tokens, Replacements(self.head, parts[0].index, cross, own)))

    def _hidden(self, tokens: Tokens) -> tuple[Float[Tensor, "b N D"], Float[Tensor, "b N N"]]:
        """Return the regions of some pictures, and their weights with each hidden: column k lacks region k."""
        regions, readout = self._pooling.stage(tokens)
        N = regions.num_regions
        keep = ~torch.eye(N, dtype=torch.bool, device=regions.features.device).expand(len(regions.features), N, N)
        if not self._pooling.setting.t:
            return regions.features, readout.restricted(keep)
        graph = self._pooling.builder.build(regions)
        return regions.features, self._pooling.operator.pull_back_subsets(graph, keep, readout.r, readout.rule)
