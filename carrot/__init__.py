"""CARROT: an image classifier that can be held to account.

Image -> patch tokens H (frozen timm ViT) -> complete region graph W, L -> diffusion exp(-tL) -> readout g -> closed-form ridge head.
Every logit splits exactly over regions and over training pictures, and "what if it had not been there" is answered as refitting would.

The theory, one module per mathematical object: ``regions``, ``graph``, ``operator``, ``readout``, ``lift``, ``head``, ``attribution``;
``backbone`` in front of it. Importing this package loads nothing: each name brings its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrot.backbone import PatchOutput, TimmViTPatchBackbone
    from carrot.errors import (
        BackboneError,
        CarrotError,
        CheckpointError,
        DataError,
        HubUnreachableError,
        IllConditionedError,
        ModelError,
        NotFittedError,
        StoreError,
        UnreadableImageError,
    )
    from carrot.explanation import Explanation
    from carrot.graph import RegionGraph, RegionGraphBuilder
    from carrot.head import RidgeHead
    from carrot.lift import Lift, lift_from
    from carrot.model import Carrot
    from carrot.operator import DiffusionOperator
    from carrot.readout import GraphReadout
    from carrot.regions import RegionSet
    from carrot.statistics import RidgeStatistics

__version__ = "0.1.0"

_HOME = {
    "backbone": ("PatchOutput", "TimmViTPatchBackbone"),
    "errors": (
        "BackboneError",
        "CarrotError",
        "CheckpointError",
        "DataError",
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
    "statistics": ("RidgeStatistics",),
}
_MODULE_OF = {name: f"carrot.{module}" for module, names in _HOME.items() for name in names}

__all__ = [
    "BackboneError",
    "Carrot",
    "CarrotError",
    "CheckpointError",
    "DataError",
    "DiffusionOperator",
    "Explanation",
    "GraphReadout",
    "HubUnreachableError",
    "IllConditionedError",
    "Lift",
    "ModelError",
    "NotFittedError",
    "PatchOutput",
    "RegionGraph",
    "RegionGraphBuilder",
    "RegionSet",
    "RidgeHead",
    "RidgeStatistics",
    "StoreError",
    "TimmViTPatchBackbone",
    "UnreadableImageError",
    "__version__",
    "lift_from",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'carrot' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
