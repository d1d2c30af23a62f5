"""What every section of the page needs: the explanation, its pictures as sheets and the words for what is explained."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from carrot.explanation.drawing import Sheet, faint, name
from carrot.explanation.parts import is_unmixed

if TYPE_CHECKING:
    from carrot.explanation.record import Explanation, Picture


@dataclass(frozen=True, eq=False)
class View:
    """An explanation, ready to be written down.

    Attributes:
        e: The explanation.
    """

    e: "Explanation"

    @cached_property
    def test(self) -> Sheet:
        """The picture, in colour."""
        return _sheet("test", self.e.picture)

    @cached_property
    def faint(self) -> Sheet:
        """The picture in light grey, to lay colours on."""
        return _sheet("faint", self.e.picture)

    @cached_property
    def training(self) -> dict[int, Sheet]:
        """The training pictures that could be read, by row."""
        return {i: _sheet(f"training-{i}", picture) for i, picture in self.e.shown_pictures.items()}

    @property
    def definitions(self) -> str:
        """Every picture, once."""
        picture = self.e.picture.image
        found = [self.test.embedded(picture), self.faint.embedded(faint(picture))]
        found += [sheet.embedded(self.e.shown_pictures[i].image) for i, sheet in self.training.items()]
        return "".join(found)

    @property
    def num_local(self) -> int:
        """How many regions have a place; the others stand for the whole picture."""
        return len(self.e.picture.boxes)

    @property
    def predicted(self) -> int:
        """Class of the highest logit."""
        return int(self.e.parts.logits.argmax())

    @property
    def target(self) -> str:
        """Class that is explained, as HTML."""
        return name(self.e.target)

    @property
    def against(self) -> str:
        """Class that it is held against, as HTML; nothing if there is none."""
        return "" if self.e.against is None else name(self.e.against)

    @property
    def score(self) -> str:
        """What is taken apart, as HTML, in the middle of a sentence."""
        return f"score of {self.target}" if not self.against else f"lead of {self.target} over {self.against}"

    @property
    def short(self) -> str:
        """The same in a word."""
        return "lead" if self.against else "score"

    @cached_property
    def region_names(self) -> list[str]:
        """What each region is called, as raw text."""
        return [self.e.region_name(i) for i in range(len(self.e.parts.token))]

    @property
    def unmixed(self) -> bool:
        """Whether regions keep to themselves, so that the first two maps are one."""
        return is_unmixed(self.e.parts)

    @property
    def padding(self) -> list[int]:
        """Regions that lie in the padding around the picture."""
        return [i for i in range(self.num_local) if self.test.box(i) is None]


def _sheet(sheet_id: str, picture: "Picture") -> Sheet:
    return Sheet(sheet_id, picture.image.size, picture.boxes)
