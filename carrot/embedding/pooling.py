"""The stages wired: a picture's tokens, and a setting, to its embedding and to every object of the theory on the way.

::

    tokens -> regions [+ class token as a global region] -> r (mean, or by the class token's attention) -> W, L
           -> pi = exp(-tL) r -> g = sum_i pi_i phi(h_i)

In float64 from the tokens on, so that sums over regions and over pairs of regions are the logit to rounding of float64.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned
from carrot.backbone import TimmViTPatchBackbone
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from carrot.embedding.trace import Trace
from carrot.graph import RegionGraph, RegionGraphBuilder
from carrot.lift import lift_from
from carrot.operator import DiffusionOperator
from carrot.readout import BoundReadout, GraphReadout, attention_source
from carrot.regions import RegionSet, grid_positions


@pinned()
def stage(tokens: Tokens, s: Setting) -> tuple[RegionSet, BoundReadout]:
    """Return the regions of a batch of pictures, float64, and what each weighs in the readout, (B, N).

    Raises:
        ValueError: The setting asks for a class token or an attention that the tokens lack, or a number is out of range.
    """
    H, P = tokens.H.double(), grid_positions(*tokens.grid_hw, dtype=torch.float64)
    regions = RegionSet(H, P.to(H.device), tokens.grid_hw)
    if s.coarsen != 1:
        regions = regions.coarsen(s.coarsen)
    u = None
    if s.tau:
        if tokens.attention is None:
            raise ValueError(
                f"`tau` = {s.tau:g} needs the class token's attention, which this backbone doesn't give. Set it to 0."
            )
        u = attention_source(_block_sums(tokens.attention.double(), tokens.grid_hw, s.coarsen))
    if s.global_share:
        if tokens.class_token is None:
            raise ValueError(
                f"`global_share` = {s.global_share:g} needs a class token, which this backbone lacks. Set it to 0."
            )
        regions = regions.with_global(tokens.class_token.unsqueeze(-2))
    readout = GraphReadout("source" if s.tau else "mean", s.tau, s.global_share)
    r = readout.at(regions.num_regions, u, regions.num_global).r.to(regions.features)
    return regions, BoundReadout(r.expand(regions.features.shape[:-1]))


@pinned()
def build_graph(regions: RegionSet, s: Setting) -> RegionGraph:
    """Return the graph of a setting."""
    return RegionGraphBuilder(s.sigma_spatial, s.sigma_feature).build(regions)


@pinned()
def refuse_impossible(backbone: TimmViTPatchBackbone, settings: Iterable[Setting]) -> None:
    """Refuse settings that are out of range or don't go with a backbone, before a picture is embedded.

    Raises:
        ValueError: There is one.
    """
    N, D = math.prod(backbone.grid_hw), backbone.embed_dim
    blank = Tokens(
        torch.zeros(1, N, D),
        backbone.grid_hw,
        torch.zeros(1, D) if backbone.has_class_token else None,
        torch.ones(1, N) if backbone.attention else None,
    )
    for s in settings:
        stage(blank, s)
        lift_from(s.lift).dim(D)
        RegionGraphBuilder(s.sigma_spatial, s.sigma_feature)
        DiffusionOperator(s.t)


@pinned()
def pooling_weights(tokens: Tokens, settings: Sequence[Setting]) -> list[Float[Tensor, "B n"]]:
    """Return pi of each picture for each setting: each graph is built once, and all its t come from one recurrence."""
    pis: dict[Setting, Tensor] = {}
    for s in settings:
        if s in pis:
            continue
        regions, readout = stage(tokens, s)
        if not s.t:
            pis[s] = readout.r
            continue
        alike = sorted({other.t for other in settings if other._replace(t=s.t, lift=s.lift) == s and other.t})
        path = DiffusionOperator(s.t).pull_back_path(readout.r, build_graph(regions, s), alike)
        lifts = {other.lift for other in settings}
        pis |= {s._replace(t=t, lift=lift): pi for t, pi in zip(alike, path, strict=True) for lift in lifts}
    return [pis[s] for s in settings]


@pinned()
def embed_tokens(tokens: Tokens, s: Setting, pi: Float[Tensor, "B n"] | None = None) -> Float[Tensor, "B M"]:
    """Return g of each picture, float64, by the collapsed path; no graph is built at t = 0.

    Args:
        tokens: Of the pictures.
        s: How they are embedded.
        pi: Their ``pooling_weights``, where they are at hand.
    """
    regions, _ = stage(tokens, s)
    lift = lift_from(s.lift)
    if not len(tokens.H):
        return regions.features.new_empty(0, lift.dim(tokens.H.shape[-1]))
    return lift.embed(regions.features, pooling_weights(tokens, [s])[0] if pi is None else pi)


@pinned()
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


def _block_sums(values: Tensor, grid_hw: tuple[int, int], factor: int) -> Tensor:  # (B, N) -> (B, N / factor^2)
    if factor == 1:
        return values
    gh, gw = grid_hw
    return values.unflatten(-1, (gh // factor, factor, gw // factor, factor)).sum(dim=(-3, -1)).flatten(-2)
