"""The stages wired: a picture's tokens, and a setting, to its embedding and to every object of the theory on the way.

::

    tokens -> regions [+ class token as a global region] -> r (mean, or by the class token's attention) -> W, L
           -> pi = exp(-tL) r -> g = sum_i pi_i phi(h_i)

In float64 from the tokens on, so that sums over regions and over pairs of regions are the logit to rounding of float64.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carrot.ambient import pinned
from carrot.backbone import TimmViTPatchBackbone
from carrot.errors import BackboneError
from carrot.graph import RegionGraph, RegionGraphBuilder
from carrot.lift import lift_from
from carrot.operator import DiffusionOperator
from carrot.readout import BoundReadout, GraphReadout, attention_source
from carrot.regions import RegionSet, grid_positions
from carrot.trace import Trace


class Setting(NamedTuple):
    """What a picture's embedding is made with. Its defaults are mean pooling of the tokens as they are.

    Attributes:
        lift: As ``carrot.lift.lift_from`` reads it.
        tau: Power of the class token's attention in the readout; 0 is the mean.
        sigma_spatial, sigma_feature: Bandwidths of the graph; without effect at t = 0.
        t: Diffusion time; 0 is no diffusion.
        global_share: Weight of the class token as a global region; 0: regions only.
        coarsen: Blocks of ``coarsen`` x ``coarsen`` patches are averaged into one region each; 1: every patch is a region.
    """

    lift: str = "identity"
    tau: float = 0.0
    sigma_spatial: float = 0.5
    sigma_feature: float = 1.0
    t: float = 0.0
    global_share: float = 0.0
    coarsen: int = 1

    def __str__(self) -> str:
        """Return it in a few words."""
        graph = f", sigma_s {self.sigma_spatial:g}, sigma_f {self.sigma_feature:g}, t {self.t:g}" if self.t else ", t 0"
        share = f", class token {self.global_share:g}" if self.global_share else ""
        blocks = f", blocks of {self.coarsen} x {self.coarsen}" if self.coarsen > 1 else ""
        return f"{self.lift}, tau {self.tau:g}{graph}{share}{blocks}"


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

    def __post_init__(self) -> None:
        B, N, D = self.H.shape
        for name, shape in (("class_token", (B, D)), ("attention", (B, N))):
            values = getattr(self, name)
            if values is not None and values.shape != shape:
                raise ValueError(f"`{name}` must be {shape}, as `H` is {(B, N, D)}; got {tuple(values.shape)}.")

    @classmethod
    @pinned()
    def of(
        cls, backbone: TimmViTPatchBackbone, x: Float[Tensor, "B 3 img_h img_w"], dtype: torch.dtype = torch.float32
    ) -> "Tokens":
        """Run the backbone; return its tokens on the processor, rounded to ``dtype``.

        Whatever mode it is in, it answers as in evaluation.

        Rounding is a map of each token alone: what is exact for tokens -> logit stays so, as long as all pictures are rounded alike. The
        attention stays float32. A picture alone and in a batch differ by the backbone's own rounding.

        Raises:
            BackboneError: A token is NaN or infinite, or too large for ``dtype``; the message names the place in the batch.
        """
        with torch.no_grad(), _evaluating(backbone):
            patches = backbone(x.to(backbone.device, backbone.dtype))
        token = None if patches.prefix is None or not backbone.has_class_token else patches.prefix[:, 0]
        found = {"H": patches.H, "class_token": token, "attention": patches.attention}
        rows = {name: values for name, values in found.items() if values is not None}
        kept = {name: v.to("cpu", torch.float32 if name == "attention" else dtype) for name, v in rows.items()}
        for name, values in kept.items():
            bad = (~torch.isfinite(values.flatten(1)).all(dim=1)).nonzero().flatten().tolist()
            if bad and bool(torch.isfinite(rows[name][bad]).all()):
                raise BackboneError(
                    f"{dtype} can't hold the backbone's tokens (picture {bad[0]} of the batch). Use float32."
                )
            if bad:
                raise BackboneError(
                    f"The backbone gave NaN or infinity for picture {bad[0]} of the batch. Look at its weights."
                )
        return cls(grid_hw=patches.grid_hw, **kept)

    def rows(self) -> dict[str, Tensor]:
        """Return the tensors there are, by name: one row a picture."""
        named = {"H": self.H, "class_token": self.class_token, "attention": self.attention}
        return {name: values for name, values in named.items() if values is not None}


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


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Keep every module in evaluation mode for a while: dropout, and norms over a batch, would answer another way each time."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _block_sums(values: Tensor, grid_hw: tuple[int, int], factor: int) -> Tensor:  # (B, N) -> (B, N / factor^2)
    if factor == 1:
        return values
    gh, gw = grid_hw
    return values.unflatten(-1, (gh // factor, factor, gw // factor, factor)).sum(dim=(-3, -1)).flatten(-2)
