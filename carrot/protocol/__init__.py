"""The evaluation protocol: a model on the test pictures of a data set, everything in one JSON-ready answer."""

from typing import TYPE_CHECKING

from carrot._lazy import face

if TYPE_CHECKING:
    from carrot.protocol.measure import evaluate

__all__ = ["evaluate"]

__getattr__, __dir__ = face(__name__, {"measure": ("evaluate",)})
