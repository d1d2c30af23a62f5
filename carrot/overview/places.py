"""Where the regions of a model lie, in words."""

from carrot.classifier.classifier import Classifier
from carrot.tiling import Tiling


def places_of(classifier: Classifier) -> tuple[str, ...]:
    """Return where each region lies; rows and columns count from 0."""
    s = classifier.fitted.setting
    whole = ("the whole picture",) if s.global_share else ()
    if s.is_tiled:
        return (*Tiling.from_spec(s.regions).places, *whole)
    gh, gw = s.grid_hw(classifier.encoder.backbone.grid_hw)
    return (*(f"row {row}, column {column}" for row in range(gh) for column in range(gw)), *whole)
