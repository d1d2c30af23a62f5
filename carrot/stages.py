"""The stages wired: a picture's tokens, and a setting, to its embedding and to every object of the theory on the way.

::

    tokens -> regions [+ class token as a global region] -> r (mean, or by the class token's attention) -> W, L
           -> pi = exp(-tL) r -> g = sum_i pi_i phi(h_i)

In float64 from the tokens on, so that sums over regions and over pairs of regions are the logit to rounding of float64.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from carrot.graph import RegionGraph, RegionGraphBuilder
from carrot.lift import lift_from
from carrot.operator import DiffusionOperator
from carrot.parts import Trace
from carrot.readout import BoundReadout, GraphReadout, attention_source
from carrot.regions import RegionSet, grid_positions


class Setting(NamedTuple):
    """What a picture's embedding is made with. Its defaults are mean pooling of the tokens as they are.

    Attributes:
        lift: As ``carrot.lift.lift_from`` reads it.
        tau: Power of the class token's attention in the readout; 0 is the mean.
        sigma_spatial, sigma_feature: Bandwidths of the graph; without effect at t = 0.
        t: Diffusion time; 0 is no diffusion.
        global_share: Weight of the class token as a global region; 0: regions only.
    """

    lift: str = "identity"
    tau: float = 0.0
    sigma_spatial: float = 0.5
    sigma_feature: float = 1.0
    t: float = 0.0
    global_share: float = 0.0

    def __str__(self) -> str:
        """Return it in a few words."""
        graph = f", sigma_s {self.sigma_spatial:g}, sigma_f {self.sigma_feature:g}, t {self.t:g}" if self.t else ", t 0"
        share = f", class token {self.global_share:g}" if self.global_share else ""
        return f"{self.lift}, tau {self.tau:g}{graph}{share}"


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of a batch of pictures, as a backbone gave them.

    Attributes:
        H: Patch tokens.
        grid_hw: Their grid, row-major.
        class_token: None if the backbone has none.
        attention: The class token's to each patch; None if the backbone doesn't give it.
    """

    H: Float[Tensor, "B N D"]
    grid_hw: tuple[int, int]
    class_token: Float[Tensor, "B D"] | None = None
    attention: Float[Tensor, "B N"] | None = None


def stage(tokens: Tokens, s: Setting) -> tuple[RegionSet, BoundReadout]:
    """Return the regions of a batch of pictures, float64, and what each weighs in the readout, (B, N).

    Raises:
        ValueError: The setting asks for a class token or an attention that the tokens lack, or a number is out of range.
    """
    regions = RegionSet(tokens.H.double(), grid_positions(*tokens.grid_hw, dtype=torch.float64), tokens.grid_hw)
    u = None
    if s.tau:
        if tokens.attention is None:
            raise ValueError(
                f"`tau` = {s.tau:g} needs the class token's attention, which this backbone doesn't give. Set it to 0."
            )
        u = attention_source(tokens.attention.double())
    if s.global_share:
        if tokens.class_token is None:
            raise ValueError(
                f"`global_share` = {s.global_share:g} needs a class token, which this backbone lacks. Set it to 0."
            )
        regions = regions.with_global(tokens.class_token.unsqueeze(-2))
    readout = GraphReadout("source" if s.tau else "mean", s.tau, s.global_share)
    r = readout.at(regions.num_regions, u, regions.num_global).r.to(regions.features)
    return regions, BoundReadout(r.expand(regions.features.shape[:-1]))


def build_graph(regions: RegionSet, s: Setting) -> RegionGraph:
    """Return the graph of a setting."""
    return RegionGraphBuilder(s.sigma_spatial, s.sigma_feature).build(regions)


def embed_tokens(tokens: Tokens, s: Setting) -> Float[Tensor, "B M"]:
    """Return g of each picture, float64, by the collapsed path; no graph is built at t = 0."""
    regions, readout = stage(tokens, s)
    pi = readout.r
    if s.t:
        pi = DiffusionOperator(s.t).pull_back(pi, build_graph(regions, s))
    return lift_from(s.lift).embed(regions.features, pi)


def trace_tokens(tokens: Tokens, s: Setting) -> Trace:
    """Return every object of the theory for one picture, a batch of one.

    Raises:
        ValueError: There is not exactly one picture.
    """
    if len(tokens.H) != 1:
        raise ValueError(f"`tokens` must be of one picture; got {len(tokens.H)}.")
    batch, readout = stage(tokens, s)
    regions = RegionSet(batch.features[0], batch.positions, batch.grid_hw, batch.num_global)
    one = BoundReadout(readout.r[0])
    return Trace.of(regions, build_graph(regions, s), DiffusionOperator(s.t), one, lift_from(s.lift))
