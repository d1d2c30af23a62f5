"""What a region is: a feature vector and a place. Nothing after this module asks where they came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from carrot._ambient import pinned, pinned_class
from carrot._display.brief import brief
from carrot.utils import require_finite, require_float, require_tensor, whole_number


@runtime_checkable
class Patches(Protocol):
    """What a backbone hands over: see ``carrot.backbone.PatchOutput``."""

    @property
    def H(self) -> Tensor: ...  # noqa: D102
    @property
    def P(self) -> Tensor: ...  # noqa: D102
    @property
    def grid_hw(self) -> tuple[int, int]: ...  # noqa: D102


@pinned_class
@dataclass(frozen=True, eq=False)
class RegionSet:
    """The regions of a picture, or of a batch of pictures that share their places.

    Attributes:
        features: ``H``, one feature vector a region; float32 or float64, finite.
        positions: ``P``, region centres (x, y) in [-1, 1] on both axes of the model's input.
        grid_hw: (gh, gw) where the regions (the global ones aside) are a row-major grid of square patches, else None.
        num_global: How many of them, the last ones, stand for the whole picture, such as a class token: they have no
            place, and no edge to any other in the graph.
        boxes: (x0, y0, x1, y1) of each of the others, in shares of the original picture's width and height, where that
            is what it was made from alone (``carrot.tiling``); None for patches, which have seen the whole picture.

    Raises:
        TypeError: Features are neither float32 nor float64, or a number is no whole one.
        ValueError: Shapes disagree, there is no region, or an entry is NaN or infinite.
    """

    features: Float[Tensor, "*b N D"]
    positions: Float[Tensor, "N 2"]
    grid_hw: tuple[int, int] | None = None
    num_global: int = 0
    boxes: Float[Tensor, "n_local 4"] | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        H, P = self.features, self.positions
        require_float("features", H)
        require_tensor("positions", P)
        if H.ndim < 2 or H.shape[-2] < 1 or H.shape[-1] < 1:
            raise ValueError(f"`features` must be (..., N, D) with N, D >= 1; got {tuple(H.shape)}.")
        if P.shape != (H.shape[-2], 2):
            raise ValueError(
                f"`positions` must be ({H.shape[-2]}, 2) to match features with N = {H.shape[-2]} regions; "
                f"got {tuple(P.shape)}. Take both from the same backbone output."
            )
        object.__setattr__(self, "num_global", whole_number("num_global", self.num_global))
        n_local = H.shape[-2] - self.num_global
        if self.num_global < 0 or n_local < 1:
            raise ValueError(f"`num_global` must leave at least one of {H.shape[-2]} regions; got {self.num_global}.")
        if self.grid_hw is not None:
            gh, gw = (whole_number("grid_hw", side) for side in self.grid_hw)
            object.__setattr__(self, "grid_hw", (gh, gw))
        if self.grid_hw is not None and (min(self.grid_hw) < 1 or self.grid_hw[0] * self.grid_hw[1] != n_local):
            raise ValueError(f"`grid_hw` must hold N = {n_local} regions; got {self.grid_hw}.")
        if self.boxes is not None:
            _require_boxes(self.boxes, n_local)
        require_finite("features", H)
        require_finite("positions", P)
        if float(P.abs().max()) > 1.0 + 1e-6:
            raise ValueError(f"`positions` must be in [-1, 1], not pixels; got up to {float(P.abs().max()):g}.")

    @classmethod
    def from_patches(cls, patches: Patches) -> "RegionSet":
        """Make each patch token a region."""
        return cls(patches.H, patches.P, patches.grid_hw)

    @classmethod
    def from_boxes(cls, features: Float[Tensor, "*b R D"], boxes: Float[Tensor, "R 4"]) -> "RegionSet":
        """Make each box of the picture a region, placed at its centre.

        Args:
            features: One vector a box.
            boxes: In shares of the picture's width and height.
        """
        require_tensor("boxes", boxes)
        return cls(features, (boxes[:, :2] + boxes[:, 2:]).to(features) - 1.0, boxes=boxes)

    @property
    def num_regions(self) -> int:
        """N."""
        return self.features.shape[-2]

    @property
    def local(self) -> "RegionSet":
        """The regions that have a place: all but the global ones."""
        if not self.num_global:
            return self
        n_local = self.num_regions - self.num_global
        return self._made_of(self.features[..., :n_local, :], self.positions[:n_local], 0)

    def picture(self, index: SupportsIndex) -> "RegionSet":
        """Return the regions of one picture of a batch.

        Raises:
            ValueError: There is no such picture, or no batch.
        """
        if self.features.ndim != 3:
            raise ValueError(f"`picture` needs a batch (B, N, D); these regions are {tuple(self.features.shape)}.")
        place = whole_number("index", index, 0, len(self.features) - 1, ", a picture")
        return self._made_of(self.features[place], self.positions, self.num_global)

    def _made_of(self, features: Tensor, positions: Tensor, num_global: int) -> "RegionSet":
        """Return regions made of these, which were checked when they came in."""
        made = object.__new__(RegionSet)
        for name, value in (("features", features), ("positions", positions), ("num_global", num_global)):
            object.__setattr__(made, name, value)
        object.__setattr__(made, "grid_hw", self.grid_hw)
        object.__setattr__(made, "boxes", self.boxes)
        return made

    def with_global(self, tokens: Float[Tensor, "*b K D"]) -> "RegionSet":
        """Return these regions with K more that stand for the whole picture, at the end.

        Raises:
            ValueError: ``tokens`` are not as wide as the regions, or not of the same pictures.
        """
        require_tensor("tokens", tokens)
        *pictures, _, D = self.features.shape
        if tokens.ndim != self.features.ndim or list(tokens.shape[:-2]) != pictures or tokens.shape[-1] != D:
            raise ValueError(
                f"`tokens` must be {(*pictures, 'K', D)} to match the regions; got {tuple(tokens.shape)}. For a class "
                "token use `patches.prefix[:, :1]`."
            )
        K = tokens.shape[-2]
        features = torch.cat([self.features, tokens.to(self.features)], dim=-2)
        positions = torch.cat([self.positions, self.positions.new_zeros(K, 2)])
        require_finite("tokens", tokens)
        return self._made_of(features, positions, self.num_global + K)

    @property
    def isotropic_positions(self) -> Float[Tensor, "N 2"]:
        """P in units that are the same on both axes: half of the picture's longer side.

        P runs over [-1, 1] on both axes, which stretches space on a grid that is not square. Where the grid is known
        (its patches are square) each axis is scaled by its share of the longer one; elsewhere P is returned as it is.
        """
        if self.grid_hw is None:
            return self.positions
        gh, gw = self.grid_hw
        share = torch.tensor([gw, gh], dtype=self.positions.dtype, device=self.positions.device) / max(gh, gw)
        return self.positions * share

    def coarsen(self, factor: SupportsIndex) -> "RegionSet":
        """Average ``factor`` x ``factor`` blocks of patches into one region each; global regions stay.

        The mean of all patches stays what it was, so mean pooling (t = 0) of tokens as they are doesn't change.

        Raises:
            ValueError: The grid is unknown, or ``factor`` doesn't divide both of its sides.
        """
        if self.grid_hw is None:
            raise ValueError("`coarsen` needs regions on a grid; this RegionSet has grid_hw=None.")
        gh, gw = self.grid_hw
        factor = whole_number("factor", factor)
        if factor < 1 or gh % factor or gw % factor:
            fits = [f for f in range(1, min(gh, gw) + 1) if gh % f == 0 and gw % f == 0]
            raise ValueError(
                f"The blocks of `coarsen` must divide the grid {gh} x {gw}; got {factor}. Choose one of {fits}."
            )

        def block_mean(x: Tensor) -> Tensor:  # (..., gh * gw, K) -> (..., gh * gw / factor^2, K)
            x = x.unflatten(-2, (gh // factor, factor, gw // factor, factor))
            return x.mean(dim=(-4, -2)).flatten(-3, -2)

        local = self.local
        coarse = RegionSet(block_mean(local.features), block_mean(local.positions), (gh // factor, gw // factor))
        return coarse.with_global(self.features[..., local.num_regions :, :]) if self.num_global else coarse


def _require_boxes(boxes: Tensor, n_local: int) -> None:
    require_tensor("boxes", boxes)
    if boxes.shape != (n_local, 4):
        raise ValueError(f"`boxes` must be ({n_local}, 4), one for each region; got {tuple(boxes.shape)}.")
    require_finite("boxes", boxes)
    inside = (boxes >= 0.0).all() and (boxes <= 1.0).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    if not bool(inside):
        raise ValueError(
            "`boxes` must be (x0, y0, x1, y1) in shares of the picture's width and height, 0 <= x0 < x1 <= 1 and "
            f"0 <= y0 < y1 <= 1; got from {float(boxes.min()):g} to {float(boxes.max()):g}."
        )


@pinned()
def grid_positions(gh: SupportsIndex, gw: SupportsIndex, dtype: torch.dtype = torch.float32) -> Float[Tensor, "N 2"]:
    """Return the centres (x, y) in [-1, 1] of a row-major ``gh`` x ``gw`` grid.

    Raises:
        ValueError: A side is smaller than 1.
    """
    gh, gw = whole_number("gh", gh, 1), whole_number("gw", gw, 1)
    y = (torch.arange(gh, dtype=torch.float64) + 0.5) * (2.0 / gh) - 1.0
    x = (torch.arange(gw, dtype=torch.float64) + 0.5) * (2.0 / gw) - 1.0
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([xx.flatten(), yy.flatten()], dim=-1).to(dtype)


def kept(regions: Tensor | NDArray[Any] | Iterable[SupportsIndex] | SupportsIndex, N: int) -> Bool[Tensor, " N"]:
    """Return which of N regions stay, from those to drop: by index, or True in a mask of all.

    Raises:
        TypeError, ValueError: An index is no whole number or out of range, or the mask is of another number of regions.
    """
    given = torch.as_tensor(regions) if isinstance(regions, np.ndarray) else regions
    if isinstance(given, Tensor) and given.dtype == torch.bool:
        if given.shape != (N,):
            raise ValueError(f"`regions` must be ({N},), a truth value for each region; got {tuple(given.shape)}.")
        return ~given
    if isinstance(given, Tensor) and given.dtype == torch.uint8:
        raise TypeError(
            "`regions` must be whole numbers or bool; got uint8, which may be either. Use `.long()` or `.bool()`."
        )
    keep = torch.ones(N, dtype=torch.bool)
    items = given.tolist() if isinstance(given, Tensor) else given
    for region in items if isinstance(items, Iterable) else [items]:
        keep[whole_number("regions", region, 0, N - 1, ", a region; or a mask, an array of bool")] = False
    return keep
