"""The stages wired: a picture's tokens, and a setting, to its embedding and to every object of the theory on the way.

::

    tokens -> regions [+ class token as a global region] -> r (mean, or by the class token's attention) -> W, L
           -> pi = exp(-tL) r -> g = sum_i pi_i phi(h_i)

In float64 from the tokens on, so that sums over regions and over pairs of regions are the logit to rounding of float64.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned, pinned_class
from carrot.backbone import TimmViTPatchBackbone
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from carrot.embedding.trace import Trace
from carrot.graph import RegionGraphBuilder
from carrot.lift import lift_from
from carrot.operator import DiffusionOperator
from carrot.readout import BoundReadout, GraphReadout, attention_source
from carrot.regions import RegionSet, grid_positions
from carrot.utils import whole_number


@pinned_class
class Pooling:
    """A setting made into the stages of the theory, once; numbers out of range are refused here.

    Args:
        setting: The setting.

    Attributes:
        builder, operator, readout, lift: The stages.

    Raises:
        TypeError, ValueError: A number is out of range, or there is no such lift.
    """

    def __init__(self, setting: Setting) -> None:
        s = self.setting = setting
        self.builder = RegionGraphBuilder(s.sigma_spatial, s.sigma_feature)
        self.operator = DiffusionOperator(s.t)
        self.readout = GraphReadout("source" if s.tau else "mean", s.tau, s.global_share)
        self.lift = lift_from(s.lift)
        whole_number("coarsen", s.coarsen, 1)

    def require(self, backbone: TimmViTPatchBackbone) -> "Pooling":
        """Refuse a backbone that it doesn't go with, before a picture is seen; return itself.

        Raises:
            ValueError: The backbone lacks a class token or an attention that is asked for, or its grid can't be
                coarsened so.
        """
        (gh, gw), D = backbone.grid_hw, backbone.embed_dim
        token = torch.zeros(1, D) if backbone.has_class_token else None
        self.stage(
            Tokens(torch.zeros(1, gh * gw, D), (gh, gw), token, torch.ones(1, gh * gw) if backbone.attention else None)
        )
        self.lift.dim(D)
        return self

    def stage(self, tokens: Tokens) -> tuple[RegionSet, BoundReadout]:
        """Return the regions of a batch of pictures, float64, and what each weighs in the readout, (B, N).

        Raises:
            ValueError: The tokens lack a class token or an attention that is asked for.
        """
        s = self.setting
        P = grid_positions(*tokens.grid_hw, dtype=torch.float64).to(tokens.H.device)
        regions = RegionSet(tokens.H.double(), P, tokens.grid_hw)
        if s.coarsen != 1:
            regions = regions.coarsen(s.coarsen)
        u = None
        if s.tau:
            if tokens.attention is None:
                raise ValueError(
                    f"`tau` = {s.tau:g} needs the class token's attention, which this backbone doesn't give. Set it to "
                    "0."
                )
            u = attention_source(_block_sums(tokens.attention.double(), tokens.grid_hw, s.coarsen))
        if s.global_share:
            if tokens.class_token is None:
                raise ValueError(
                    f"`global_share` = {s.global_share:g} needs a class token, which this backbone lacks. Set it to 0."
                )
            regions = regions.with_global(tokens.class_token.unsqueeze(-2))
        r = self.readout.at(regions.num_regions, u, regions.num_global).r.to(regions.features)
        return regions, BoundReadout(r.expand(regions.features.shape[:-1]))

    def pi(self, tokens: Tokens) -> Float[Tensor, "B n"]:
        """Return the pooling weights of each picture; no graph is built at t = 0."""
        return self._pi(*self.stage(tokens))

    def g(self, tokens: Tokens, pi: Float[Tensor, "B n"] | None = None) -> Float[Tensor, "B M"]:
        """Return the embedding of each picture, float64, by the collapsed path.

        Args:
            tokens: Of the pictures.
            pi: Their pooling weights, where they are at hand.
        """
        regions, readout = self.stage(tokens)
        if not len(tokens.H):
            return regions.features.new_empty(0, self.lift.dim(tokens.H.shape[-1]))
        return self.lift.embed(regions.features, self._pi(regions, readout) if pi is None else pi)

    def trace(self, tokens: Tokens) -> Trace:
        """Return every object of the theory for one picture, a batch of one.

        Raises:
            ValueError: There is not exactly one picture.
        """
        if len(tokens.H) != 1:
            raise ValueError(f"`tokens` must be of one picture; got {len(tokens.H)}.")
        batch, readout = self.stage(tokens)
        regions, one = batch.picture(0), BoundReadout(readout.r[0])
        return Trace.of(regions, self.builder.build(regions), self.operator, one, self.lift)

    def _pi(self, regions: RegionSet, readout: BoundReadout) -> Tensor:
        return self.operator.pull_back(readout.r, self.builder.build(regions)) if self.setting.t else readout.r


@pinned()
def pool(tokens: Tokens, settings: Sequence[Setting]) -> list[Float[Tensor, "B n"]]:
    """Return pi of each picture for each setting: each graph is built once, and all its t come from one recurrence."""
    pis: dict[Setting, Tensor] = {}
    lifts = {s.lift for s in settings}  # which pi doesn't depend on
    for s in settings:
        if s in pis:
            continue
        pooling = Pooling(s)
        regions, readout = pooling.stage(tokens)
        if not s.t:
            pis |= {replace(s, lift=lift): readout.r for lift in lifts}
            continue
        alike = sorted({other.t for other in settings if other.t and replace(other, t=s.t, lift=s.lift) == s})
        path = pooling.operator.pull_back_path(readout.r, pooling.builder.build(regions), alike)
        pis |= {replace(s, t=t, lift=lift): pi for t, pi in zip(alike, path, strict=True) for lift in lifts}
    return [pis[s] for s in settings]


def _block_sums(values: Tensor, grid_hw: tuple[int, int], factor: int) -> Tensor:  # (B, N) -> (B, N / factor^2)
    if factor == 1:
        return values
    gh, gw = grid_hw
    return values.unflatten(-1, (gh // factor, factor, gw // factor, factor)).sum(dim=(-3, -1)).flatten(-2)
