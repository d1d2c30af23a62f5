"""Single answers of an explanation, each a few named numbers."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from carrot._choices import WHOLE, region_name
from carrot._display.brief import brief
from carrot._display.words import percent


class Own(NamedTuple):
    """What is known of a picture that the model was fitted on: explained as it is, it is a reason of its own.

    Attributes:
        row: Which training picture it is.
        says: What the model fitted without it says of it; None: no picture of its class would be left.
        probability: Of that class.
    """

    row: int
    says: str | None
    probability: float | None

    @property
    def told(self) -> str:
        """It in a sentence."""
        if self.says is None or self.probability is None:
            return "The model was fitted on this picture, the only one of its class; without it, the class is gone."
        return f"The model was fitted on this picture; without it, it says {self.says} ({percent(self.probability)})."


class TrainingPart(NamedTuple):
    """What one training picture did to the logit: three answers to three questions (``carrot.influence``)."""

    id: str
    label: str
    dual: float
    label_part: float
    removal: float


class RegionPair(NamedTuple):
    """What one region of the picture brings because of one region of a training picture."""

    region: int
    training_id: str
    training_region: int
    contribution: float


class Shapley(NamedTuple):
    """Shapley values of regions; they sum to the logit less the bias.

    They do whatever the standard errors, which are 0 where exact.
    """

    values: Float[Tensor, " N"]
    standard_errors: Float[Tensor, " N"]

    def __repr__(self) -> str:
        return brief(self)


def called(places: Sequence[str], region: int, kind: str) -> str:
    """Return what a region is called beside where it lies: "tile 4 of 3 x 3", of several grids "tile 13 (of 3 x 3)".

    Without the row and the column: they count from 0, which only a list can say.
    """
    name, (_, _, grid) = f"{kind} {region}", places[region].partition(" of ")
    if places[region] == WHOLE:
        return region_name(kind, region, WHOLE)
    grids = {place.partition(" of ")[2] for place in places[: len(places) - (places[-1] == WHOLE)]}
    return name if not grid else f"{name} of {grid}" if len(grids) == 1 else f"{name} (of {grid})"
