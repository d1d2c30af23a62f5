"""One explained picture, as metrics ask of it."""

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from carrot._ridge.logit import Logit
from carrot.classifier.classifier import Classifier
from carrot.data.records import Subset
from carrot.embedding.trace import Trace
from carrot.explanation.parts import LogitParts
from carrot.removal import Coalitions

MAPS = ("token", "node", "drop")  # without diffusion "node" is "token"
TOKEN, TILE = "token level", "tile level"


@dataclass(frozen=True, eq=False)
class Case:
    """One explained picture.

    Attributes:
        classifier: The model.
        test: Test pictures.
        place: Which of them.
        trace: Its objects.
        logit: The predicted class's.
        parts: That logit, taken apart.
    """

    classifier: Classifier
    test: Subset
    place: int
    trace: Trace
    logit: Logit
    parts: LogitParts

    @property
    def maps(self) -> dict[str, Float[Tensor, " n_local"]]:
        """Maps of the regions that have a place, by name."""
        local = len(self.parts.token) - self.parts.num_global
        return {name: getattr(self.parts, name)[:local] for name in maps_of(self.classifier)}

    @cached_property
    def coalitions(self) -> Coalitions:
        """What the logit would be without regions."""
        return self.trace.coalitions(self.logit)

    @cached_property
    def image(self) -> Image.Image:
        """The picture."""
        return self.test.image(self.place)

    @property
    def level(self) -> str:
        """What regions are exact for: ``TOKEN`` or ``TILE``."""
        return TILE if self.classifier.fitted.setting.is_tiled else TOKEN

    @property
    def drawn(self) -> Float[Tensor, "n_local 4"]:
        """Where a map has the regions, in pixels of the picture."""
        return self.classifier.encoder.view.drawn(self.image.size, self.classifier.fitted.setting.coarsen)

    @property
    def boxes(self) -> Float[Tensor, "n_local 4"]:
        """Of the regions, in pixels of the picture."""
        return self.classifier.encoder.view.boxes(self.image.size, self.classifier.fitted.setting.coarsen)


def maps_of(classifier: Classifier) -> tuple[str, ...]:
    """Return the maps that differ."""
    return MAPS if classifier.fitted.setting.t else ("token", "drop")
