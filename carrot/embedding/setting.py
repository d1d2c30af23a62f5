"""What an embedding is made with, beside the backbone: each number's default, range, meaning and grid, in one place.

``Carrot``'s arguments, the flags of ``carrot fit`` and ``carrot select``, what ``select`` chooses from, the page's
labels and the model's file run over ``AXES``. Nothing here loads torch, so that help is quick.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from carrot._choices import (
    LIFTS,
    MANY,
    PATCHES,
    READOUTS,
    REGIONS,
    WHOLE,
    cells,
    forms,
    read_regions,
    region_name,
    tile_places,
)

ATTENTIVE = 0.5  # tau where nobody asked and the backbone gives the class token's attention
POWER = 8.0  # of a tile's norm, where nobody asked
TILE_SIZE = 224  # pixels at which a tile enters, where nobody asked and the backbone's own input is larger
RULES: dict[str, Callable[[float], bool]] = {
    "> 0": lambda x: x > 0,
    ">= 0": lambda x: x >= 0,
    ">= 1": lambda x: x >= 1,
    "in [0, 1]": lambda x: 0 <= x <= 1,
}


class Axis(NamedTuple):
    """One setting.

    Attributes:
        what: Its meaning, in a sentence.
        label: Its name on a page.
        default: In ``Setting``: all of them together are mean pooling of tokens as they are.
        asked: In ``Carrot`` and ``carrot fit``; None: it depends on the backbone.
        grid: What ``select`` chooses from unless told otherwise.
        rule: Which numbers it may be, a key of ``RULES``; None: it is no number.
        is_graph: Whether it is the graph's, and without effect at t = 0.
        depends: Where ``asked`` is None: what it is then, and when; as ``Setting.asked`` has it.
    """

    what: str
    label: str
    default: Any
    asked: Any
    grid: tuple[Any, ...]
    rule: str | None = None
    is_graph: bool = False
    depends: str = ""

    def holds(self, value: float | int) -> bool:
        """Return whether a number is in range."""
        return self.rule is None or (math.isfinite(value) and RULES[self.rule](value))


def _axis(axis: Axis) -> Any:
    return field(default=axis.default, metadata={"axis": axis})


@dataclass(frozen=True)
class Setting:
    """What a picture's embedding is made with. Its defaults are mean pooling of the tokens as they are.

    Attributes:
        lift: As ``carrot.lift.lift_from`` reads it.
        tau: Power of the class token's attention in the readout; 0 is the mean.
        sigma_spatial, sigma_feature: Bandwidths of the graph; without effect at t = 0.
        t: Diffusion time; 0 is no diffusion.
        global_share: Weight of the class token as a global region; 0: regions only.
        coarsen: Blocks of ``coarsen`` x ``coarsen`` patches are averaged into one region each; 1: every patch is a
            region.
        regions: "patches": tokens of the whole picture; or tiles that see only themselves, as ``carrot.Tiling`` has it.
        power: Power of a region's own norm in the readout; 0 is the mean.
        readout: "mean": weights are shares of what is there; "sum": they don't depend on other regions.
        tile_size: Side in pixels at which a tile enters the backbone; 0: 224, or the backbone's own where it is
            smaller, or the only one that it takes.
    """

    lift: str = _axis(
        Axis(
            f"Map of each token before pooling: {forms(LIFTS)}",
            "Lift (function of a region's numbers that is scored)",
            "identity",
            "quadratic",
            ("identity", "quadratic"),
        )
    )
    tau: float | int = _axis(
        Axis(
            "Power of the class token's attention in the readout; 0 is the mean",
            "Power of the attention (0: every region alike)",
            0.0,
            None,
            (0.0, ATTENTIVE),
            ">= 0",
            depends=f"{ATTENTIVE:g} for patches where the backbone gives it, else 0",
        )
    )
    sigma_spatial: float | int = _axis(
        Axis("Bandwidth in space", "Reach of sharing in space", 0.5, 0.5, (0.2, 0.5), "> 0", True)
    )
    sigma_feature: float | int = _axis(
        Axis("Bandwidth among features", "Reach of sharing in likeness", 1.0, 1.0, (0.7, 1.0), "> 0", True)
    )
    t: float | int = _axis(
        Axis(
            "Diffusion time; 0 is none", "Diffusion time (0: no sharing)", 0.0, 0.0, (0.0, 0.5, 2.0, 8.0), ">= 0", True
        )
    )
    global_share: float | int = _axis(
        Axis(
            "Weight of the class token as one more, global region",
            "Weight of the whole picture, as one more region",
            0.0,
            0.0,
            (0.0,),
            "in [0, 1]",
        )
    )
    coarsen: int = _axis(
        Axis("Blocks of this many patches a side become one region", "Patches on a region's side", 1, 1, (1,), ">= 1")
    )
    regions: str = _axis(
        Axis(
            f"What a region is: {REGIONS}",
            "Regions",
            PATCHES,
            PATCHES,
            (PATCHES, "tiles:3", "tiles:3,4"),
        )
    )
    power: float | int = _axis(
        Axis(
            "Power of a region's own norm in the readout; 0 is the mean",
            "Power of a region's norm (0: every region alike)",
            0.0,
            None,
            (0.0, 4.0, 8.0, 16.0),
            ">= 0",
            depends=f"{POWER:g} for tiles, 0 for patches",
        )
    )
    readout: str = _axis(
        Axis(
            'How regions are weighed: "mean", shares of what is there, or "sum", each by itself',
            "Weights of regions",
            READOUTS[0],
            READOUTS[0],
            READOUTS[:1],
        )
    )
    tile_size: int = _axis(
        Axis(
            f"Side in pixels at which a tile enters the backbone; 0: {TILE_SIZE}, or its own where that is smaller",
            f"Side of a region's input (0: {TILE_SIZE} or the backbone's)",
            0,
            0,
            (0,),
            ">= 0",
        )
    )

    def __post_init__(self) -> None:
        for f in fields(self):  # a number of numpy, or a tensor of one, is one of Python: it goes into JSON
            value: Any = getattr(self, f.name)
            if getattr(value, "ndim", None) == 0:
                object.__setattr__(self, f.name, value.item())

    @classmethod
    def asked(cls, given: Mapping[str, Any], has_attention: bool) -> "Setting":
        """Return the setting asked for, by name; what is None or absent is as a user would have it on this backbone."""
        values = {name: axis.asked if given.get(name) is None else given[name] for name, axis in AXES.items()}
        values["regions"] = getattr(values["regions"], "spec", values["regions"])  # of a ``carrot.Tiling``
        is_tiled = values["regions"] != PATCHES
        if values["tau"] is None:
            values["tau"] = ATTENTIVE if has_attention and not is_tiled else 0.0
        if values["power"] is None:
            values["power"] = POWER if is_tiled else 0.0
        return cls(**values)

    @property
    def is_tiled(self) -> bool:
        """Whether regions are tiles, each seen by the backbone alone."""
        return self.regions != PATCHES

    def to_dict(self) -> dict[str, Any]:
        """Return it by name."""
        return asdict(self)

    def grid_hw(self, patches_hw: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of the regions of a grid of patches."""
        return patches_hw[0] // self.coarsen, patches_hw[1] // self.coarsen

    @property
    def region_kind(self) -> str:
        """What a region is, in a word: a key of ``carrot._choices.MANY``."""
        if self.is_tiled:
            return "box" if self.regions.startswith("boxes:") else "tile"
        return "patch" if self.coarsen == 1 else "block"

    def region_places(self, patches_hw: tuple[int, int] | None = None) -> tuple[str, ...]:
        """Return where each region lies, in words, a global one last.

        Args:
            patches_hw: Rows and columns of the backbone's patches; tiles don't depend on it.
        """
        items = read_regions(self.regions)
        own = cells(*self.grid_hw(patches_hw or (0, 0))) if isinstance(items, str) else tile_places(items)
        return (*own, *([WHOLE] if self.global_share else []))

    def region_names(self, patches_hw: tuple[int, int] | None = None) -> tuple[str, ...]:
        """Return what each region is called; as ``region_places``."""
        places = self.region_places(patches_hw)
        local = len(places) - bool(self.global_share)
        return tuple(
            region_name(self.region_kind if i < local else "region", i, place) for i, place in enumerate(places)
        )

    def regions_in_words(self, size: int = 0) -> str:
        """Return what a region is, and what the whole picture weighs beside them.

        Args:
            size: Side of a tile's input in pixels, where it is known.
        """
        share = f" has a share of {self.global_share:g}" if self.global_share else ""
        if not self.is_tiled:
            blocks = f", in blocks of {self.coarsen} x {self.coarsen}" if self.coarsen > 1 else ""
            return f"patches{blocks}, each of which has seen the whole picture" + (
                share and f"; its class token{share}"
            )
        n, kind = len(self.region_places()) - bool(self.global_share), self.region_kind
        at = f", at {size} pixels" if size else ""
        tiles = f"{n} {MANY[kind]}, each seen alone" if n > 1 else f"one {kind}, seen alone"
        return f"{tiles}{at} ({self.regions})" + (share and f"; the whole picture{share}")

    def __str__(self) -> str:
        """Return it in a few words."""
        graph = f", sigma_s {self.sigma_spatial:g}, sigma_f {self.sigma_feature:g}, t {self.t:g}" if self.t else ", t 0"
        whole = "whole picture" if self.is_tiled else "class token"
        share = f", {whole} {self.global_share:g}" if self.global_share else ""
        blocks = f", blocks of {self.coarsen} x {self.coarsen}" if self.coarsen > 1 else ""
        power = f", power {self.power:g}" if self.power else ""
        how = ", sum" if self.readout != READOUTS[0] else ""
        if self.is_tiled:
            size = f", at {self.tile_size} px" if self.tile_size else ""
            return f"{short_regions(self.regions)}, {self.lift}, power {self.power:g}{how}{graph}{share}{size}"
        return f"{self.lift}, tau {self.tau:g}{power}{how}{graph}{share}{blocks}"


def short_regions(spec: str) -> str:
    """Return regions in a few words: boxes are counted, not written out."""
    return spec if not spec.startswith("boxes:") else f"{len(read_regions(spec))} boxes"


AXES: dict[str, Axis] = {f.name: f.metadata["axis"] for f in fields(Setting)}
