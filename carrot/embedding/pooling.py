"""The stages wired: a picture's tokens, and a setting, to its embedding and to every object of the theory on the way.

::

    tokens -> regions [+ class token as a global region] -> r (mean, or by the class token's attention, or by the
           region's own norm) -> W, L -> pi = exp(-tL) r -> g = sum_i pi_i phi(h_i)

In float64 from the tokens on, so that sums over regions and over pairs of regions are the logit to rounding of float64.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned, pinned_class
from carrot._choices import PATCHES, read_readout, read_regions
from carrot.backbone import TimmViTPatchBackbone
from carrot.embedding.setting import AXES, Setting
from carrot.embedding.tokens import Tokens
from carrot.embedding.trace import Trace
from carrot.embedding.view import PatchView, View
from carrot.graph import RegionGraphBuilder
from carrot.lift import lift_from
from carrot.operator import DiffusionOperator
from carrot.readout import BoundReadout, GraphReadout, attention_source, norm_source
from carrot.regions import RegionSet, grid_positions
from carrot.tiling import Tiling
from carrot.utils import real_number, whole_number


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
        self.tiling = Tiling.from_spec(s.regions) if s.is_tiled else None
        if read_regions(s.regions) != PATCHES:
            _require_local(s)
        self.builder = RegionGraphBuilder(s.sigma_spatial, s.sigma_feature, "direction" if s.is_tiled else "median")
        self.operator = DiffusionOperator(s.t)
        read_readout(s.readout)
        for name in ("tau", "power"):
            if not AXES[name].holds(real_number(name, getattr(s, name))):
                raise ValueError(f"`{name}` must be a finite number {AXES[name].rule}; got {getattr(s, name)!r}.")
        kind = "sum" if s.readout == "sum" else "source" if s.tau or s.power else "mean"
        self.readout = GraphReadout(kind, s.tau if kind == "source" and not s.power else 1.0, s.global_share)
        self.lift = lift_from(s.lift)
        whole_number("coarsen", s.coarsen, 1)
        whole_number("tile_size", s.tile_size, 0)

    def __repr__(self) -> str:
        return f"<Pooling {self.setting}>"

    def require(self, view: View | TimmViTPatchBackbone) -> "Pooling":
        """Refuse a backbone that it doesn't go with, before a picture is seen; return itself.

        Args:
            view: How it looks at a picture; a backbone: at its patches.

        Raises:
            ValueError: The backbone lacks a class token or an attention that is asked for, or its grid can't be
                coarsened so.
        """
        if isinstance(view, TimmViTPatchBackbone):
            view = PatchView(view, torch.float32)
        self.stage(view.blank)
        self.lift.dim(view.backbone.embed_dim)
        return self

    def stage(self, tokens: Tokens) -> tuple[RegionSet, BoundReadout]:
        """Return the regions of a batch of pictures, float64, and what each weighs in the readout, (B, N).

        Raises:
            ValueError: The tokens lack a class token or an attention that is asked for.
        """
        s = self.setting
        if tokens.tiling != self.tiling:
            found = "patches" if tokens.tiling is None else tokens.tiling.spec
            raise ValueError(f"`tokens` must be of {s.regions}, as the setting says; got those of {found}.")
        if tokens.tiling is not None:
            regions = RegionSet.from_boxes(tokens.H.double(), tokens.tiling.shares.to(tokens.H.device))
        else:
            P = grid_positions(*_grid(tokens), dtype=torch.float64).to(tokens.H.device)
            regions = RegionSet(tokens.H.double(), P, tokens.grid_hw)
        if s.coarsen != 1:
            regions = regions.coarsen(s.coarsen)
        u = self._scores(tokens, regions)
        if s.global_share:
            if tokens.class_token is None:
                raise ValueError(
                    f"`global_share` = {s.global_share:g} needs a class token, which this backbone lacks. Set it to 0."
                )
            regions = regions.with_global(tokens.class_token.unsqueeze(-2))
        bound = self.readout.at(regions.num_regions, u, regions.num_global)
        return regions, replace(bound, r=bound.r.to(regions.features).expand(regions.features.shape[:-1]))

    def _scores(self, tokens: Tokens, regions: RegionSet) -> Tensor | None:
        """Return u of the readout: the attention's, the norms', or both; None: every region alike."""
        s = self.setting
        if s.tau and tokens.attention is None:
            raise ValueError(
                f"`tau` = {s.tau:g} needs the class token's attention, which this backbone doesn't give. Set it to 0."
            )
        attention = norms = None
        if s.tau and tokens.attention is not None:
            attention = attention_source(_block_sums(tokens.attention.double(), _grid(tokens), s.coarsen))
            if self.readout.kind == "source" and not s.power:
                return attention  # its power is the readout's own
        if s.power or self.readout.kind == "sum":
            norms = s.power * norm_source(regions.features)
        if attention is not None and norms is not None:
            return s.tau * attention + norms
        return norms

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
        regions, one = batch.picture(0), replace(readout, r=readout.r[0])
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


def _require_local(s: Setting) -> None:
    """Refuse what would let a tile see beyond its box.

    Raises:
        ValueError: It would.
    """
    if s.tau:
        raise ValueError(
            f"`tau` = {s.tau:g} weighs regions by the whole picture's attention, and {s.regions} must see nothing "
            "beyond their boxes. Set tau to 0; `power` weighs a tile by its own norm."
        )
    if s.coarsen != 1:
        raise ValueError(f"`coarsen` = {s.coarsen} joins patches, and regions are {s.regions}. Use a coarser tiling.")


def _grid(tokens: Tokens) -> tuple[int, int]:
    if tokens.grid_hw is None:
        raise ValueError("`tokens` must be of patches.")
    return tokens.grid_hw


def _block_sums(values: Tensor, grid_hw: tuple[int, int], factor: int) -> Tensor:  # (B, N) -> (B, N / factor^2)
    if factor == 1:
        return values
    gh, gw = grid_hw
    return values.unflatten(-1, (gh // factor, factor, gw // factor, factor)).sum(dim=(-3, -1)).flatten(-2)
