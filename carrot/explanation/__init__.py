"""One prediction taken apart, as a user meets it: its parts, and its faces as text, figure, JSON and page."""

from typing import TYPE_CHECKING

from carrot._lazy import face

if TYPE_CHECKING:
    from carrot.explanation.parts import LogitParts, region_to_region, strongest_pairs, take_apart
    from carrot.explanation.pieces import RegionPair, TrainingPart
    from carrot.explanation.record import Explanation, Picture

__all__ = [
    "Explanation",
    "LogitParts",
    "Picture",
    "RegionPair",
    "TrainingPart",
    "region_to_region",
    "strongest_pairs",
    "take_apart",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "parts": (
            "LogitParts",
            "region_to_region",
            "strongest_pairs",
            "take_apart",
        ),
        "record": (
            "Explanation",
            "Picture",
        ),
        "pieces": (
            "RegionPair",
            "TrainingPart",
        ),
    },
)
