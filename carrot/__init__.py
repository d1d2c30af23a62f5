"""CARROT: an image classifier that can be held to account.

Image -> patch tokens H (frozen timm ViT) -> complete region graph W, L -> diffusion exp(-tL) -> readout g ->
closed-form ridge head. Every logit splits exactly over regions and over training pictures, and "what if it had not been
there" is answered as refitting would.

The theory, one module per mathematical object: ``regions``, ``graph``, ``operator``, ``readout``, ``lift``, ``head``,
``attribution``; ``backbone`` in front of it. Importing this package loads nothing: each name brings its module when it
is first used.
"""

from typing import TYPE_CHECKING

from carrot._lazy import face

if TYPE_CHECKING:
    from carrot._ridge.logit import Logit
    from carrot._ridge.statistics import RidgeStatistics
    from carrot.backbone import PatchOutput, TimmPooledBackbone, TimmViTPatchBackbone
    from carrot.errors import (
        BackboneError,
        CarrotError,
        CheckpointError,
        DataError,
        EngineError,
        HubUnreachableError,
        IllConditionedError,
        ModelError,
        NotFittedError,
        StoreError,
        UnreadableImageError,
    )
    from carrot.explanation.record import Explanation
    from carrot.graph import RegionGraph, RegionGraphBuilder
    from carrot.head import RidgeHead
    from carrot.lift import Lift, lift_from
    from carrot.model import Carrot
    from carrot.operator import DiffusionOperator
    from carrot.readout import GraphReadout
    from carrot.regions import RegionSet
    from carrot.tiling import Tiling

__version__ = "0.1.0"

_HOME = {
    "backbone": ("PatchOutput", "TimmPooledBackbone", "TimmViTPatchBackbone"),
    "errors": (
        "BackboneError",
        "CarrotError",
        "CheckpointError",
        "DataError",
        "EngineError",
        "HubUnreachableError",
        "IllConditionedError",
        "ModelError",
        "NotFittedError",
        "StoreError",
        "UnreadableImageError",
    ),
    "graph": ("RegionGraph", "RegionGraphBuilder"),
    "explanation": ("Explanation",),
    "head": ("RidgeHead",),
    "lift": ("Lift", "lift_from"),
    "model": ("Carrot",),
    "operator": ("DiffusionOperator",),
    "readout": ("GraphReadout",),
    "regions": ("RegionSet",),
    "tiling": ("Tiling",),
    "_ridge.logit": ("Logit",),
    "_ridge.statistics": ("RidgeStatistics",),
}
__all__ = [
    "BackboneError",
    "Carrot",
    "CarrotError",
    "CheckpointError",
    "DataError",
    "DiffusionOperator",
    "EngineError",
    "Explanation",
    "GraphReadout",
    "HubUnreachableError",
    "IllConditionedError",
    "Lift",
    "Logit",
    "ModelError",
    "NotFittedError",
    "PatchOutput",
    "RegionGraph",
    "RegionGraphBuilder",
    "RegionSet",
    "RidgeHead",
    "RidgeStatistics",
    "StoreError",
    "Tiling",
    "TimmPooledBackbone",
    "TimmViTPatchBackbone",
    "UnreadableImageError",
    "__version__",
    "lift_from",
]

__getattr__, __dir__ = face(__name__, _HOME)
