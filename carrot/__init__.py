"""CARROT: an image classifier that can be held to account.

Image -> patch tokens H (frozen timm ViT) -> complete region graph W, L -> diffusion exp(-tL) -> readout g -> closed-form ridge head.
Every logit splits exactly over regions and over training pictures, and "what if it had not been there" is answered as refitting would.

The theory, one module per mathematical object: ``regions``, ``graph``, ``operator``, ``readout``, ``lift``, ``head``, ``attribution``;
``backbone`` in front of it. Importing this package loads torch, but neither timm nor torchvision, matplotlib or scipy.
"""

from typing import TYPE_CHECKING, Any

from carrot.errors import (
    BackboneError,
    CarrotError,
    CheckpointError,
    DataError,
    HubUnreachableError,
    IllConditionedError,
    NotFittedError,
    StoreError,
    UnreadableImageError,
)
from carrot.graph import RegionGraph, RegionGraphBuilder
from carrot.head import RidgeHead
from carrot.lift import Lift, lift_from
from carrot.operator import DiffusionOperator
from carrot.readout import GraphReadout
from carrot.regions import RegionSet
from carrot.statistics import RidgeStatistics

if TYPE_CHECKING:
    from carrot.backbone import PatchOutput, TimmViTPatchBackbone

__version__ = "0.1.0"

__all__ = [
    "BackboneError",
    "CarrotError",
    "CheckpointError",
    "DataError",
    "DiffusionOperator",
    "GraphReadout",
    "HubUnreachableError",
    "IllConditionedError",
    "Lift",
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
    if name in ("TimmViTPatchBackbone", "PatchOutput"):
        from carrot import backbone

        return getattr(backbone, name)
    raise AttributeError(f"module 'carrot' has no attribute {name!r}")
