"""What every section of the page needs: the explanation, its pictures as sheets and the words for what is explained."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from carrot.evaluation.cells import cells
from carrot.explanation.drawing import FILTERS, MARKS, Sheet, data_uri, name
from carrot.explanation.parts import is_unmixed
from carrot.explanation.payload import payload

if TYPE_CHECKING:
    from carrot.explanation.record import Explanation, Picture


PER_AREA = " (per hundredth of the area)"
OVERLAP = "Where boxes overlap, the map adds up what they bring."
MIDDLES = "Each {} is coloured at its middle{}; its frame shows all that it saw."
RIM = ", so that the rim has no colour of its own"


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
    def rows(self) -> tuple[int, ...]:
        """Training pictures on the page, those without which the answer would lose most first."""
        c = self.e.counterfactuals
        return self.e.shown if c is None else c.rows

    @cached_property
    def pictures(self) -> "dict[int, Picture]":
        """The training pictures that could be read, by row."""
        at_hand = {**self.e.others, **self.e.shown_pictures}
        return {i: at_hand[i] for i in self.rows if i in at_hand}

    @cached_property
    def training(self) -> dict[int, Sheet]:
        """The same as sheets."""
        return {i: _sheet(f"training-{i}", picture) for i, picture in self.pictures.items()}

    @cached_property
    def payload(self) -> dict[str, Any] | None:
        """What the page computes with; None: the explanation holds numbers alone, and the page stands still."""
        return payload(self.e)

    @property
    def definitions(self) -> str:
        """Every picture, once."""
        found = [self.test.embedded(data_uri(self.e.picture.image))]
        found += [sheet.embedded(data_uri(self.pictures[i].image)) for i, sheet in self.training.items()]
        return "".join(found) + FILTERS

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
    def is_tiled(self) -> bool:
        """Whether regions are tiles, which may overlap."""
        return self.e.picture.grid_hw is None

    @property
    def opposite(self) -> str:
        """What blue speaks for, as HTML."""
        return f"for {self.against}" if self.against else "against it"

    @property
    def ends(self) -> tuple[str, str]:
        """What the two ends of a map speak for, as raw text."""
        return ("against", "for") if self.e.against is None else (f"for {self.e.against}", f"for {self.e.target}")

    def spread(self, values: Tensor) -> tuple[Sheet, Tensor, list[str]]:
        """Return where a map over regions is drawn, how high it is there, and what each place is called.

        Tiles are drawn as a density on their middles, per hundredth of the picture's area.
        """
        local, picture = values[: self.num_local], self.e.picture
        if not self.is_tiled:
            return self.test, local, self.region_names
        boxes, share = cells(picture.on_map)
        size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        width, height = picture.image.size
        heights = share @ local.double() / size * (width * height / 100.0)
        return replace(self.test, boxes=boxes), heights, ["per hundredth of the picture"] * len(heights)

    @property
    def middles(self) -> str:
        """Where a tile is drawn, in words, or that boxes of one's own add up; nothing where it is told by the map."""
        picture = self.e.picture
        if picture.kind == "box" and bool((cells(picture.on_map).share > 0).sum(dim=1).max() > 1):
            return OVERLAP
        is_part = len(picture.boxes) and bool((picture.on_map - picture.boxes).abs().max() > 1.0)
        return MIDDLES.format(self.e.level.one, RIM if self._has_bare_rim else "") if is_part else ""

    @property
    def _has_bare_rim(self) -> bool:
        """Whether the map ends before what was seen does."""
        seen, drawn = self.e.picture.boxes, self.e.picture.on_map
        inwards = torch.cat([drawn[:, :2].amin(0) - seen[:, :2].amin(0), seen[:, 2:].amax(0) - drawn[:, 2:].amax(0)])
        return bool((inwards > 1.0).all())

    @property
    def legend_of(self) -> str:
        """What the colours of the map say, as HTML."""
        return f"Red speaks for {self.target}, blue {self.opposite}{PER_AREA if self.is_tiled else ''}."

    @property
    def because(self) -> str:
        """What stands above the terms of the score, as HTML."""
        return f"What speaks for {self.target}, and for {self.against}" if self.against else "What speaks for it"

    def mark(self, k: int) -> str:
        """Return the number of a marked region, from 0, as it stands in a table."""
        return f'<span class="mark" style="background:{MARKS[k]}">{k + 1}</span>'

    @property
    def unmixed(self) -> bool:
        """Whether regions keep to themselves, so that the first two maps are one."""
        return is_unmixed(self.e.parts)

    @property
    def is_one_map(self) -> bool:
        """Whether what a region brings is what its loss takes."""
        p = self.e.parts
        size = max(float(p.token.abs().max()), float(p.drop.abs().max()))
        return float((p.token - p.drop).abs().max()) <= 1e-9 * size

    @property
    def padding(self) -> list[int]:
        """Regions that lie in the padding around the picture."""
        return [i for i in range(self.num_local) if self.test.box(i) is None]


def _sheet(sheet_id: str, picture: "Picture") -> Sheet:
    return Sheet(sheet_id, picture.image.size, picture.boxes)
