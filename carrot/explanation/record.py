"""One prediction taken apart, as a user meets it: the parts with their names, pictures and places.

``carrot.explanation.parts`` has the numbers; this adds what is needed to read them, and the ways to look at them: text,
figure, JSON, page.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from carrot._choices import WHOLE, cell, region_name
from carrot._display.brief import brief, one_line
from carrot._display.frame import chosen, data_frame
from carrot.explanation.counterfactual import Counterfactuals
from carrot.explanation.level import Level, level_of
from carrot.explanation.parts import LogitParts, strongest_pairs
from carrot.explanation.pieces import Own, RegionPair, Shapley, TrainingPart, called
from carrot.explanation.presenting import Presented, figure_forms, framed, stored
from carrot.regions import kept
from carrot.removal import EXACT_SHAPLEY_MAX_REGIONS, Coalitions
from carrot.utils import whole_number

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

ORDERS = 40  # of a sampled Shapley value, where nobody says


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, and where its regions lie in it.

    Attributes:
        id: Its name.
        image: Upright RGB.
        boxes: Of its regions, (x0, y0, x1, y1) in pixels of ``image``, row-major; global regions have none.
        grid_hw: Rows and columns of patches; None for tiles, which may overlap.
        label: The class that it is labelled with, if that is known.
        places: Where each region lies, in words; default: row and column.
        kind: What a region is, as ``Setting.region_kind`` has it.
        drawn: Where a map has its regions, of tiles their middles; default: ``boxes``.
    """

    id: str
    image: Image.Image
    boxes: Float[Tensor, "n_local 4"]
    grid_hw: tuple[int, int] | None
    label: str | None = None
    places: tuple[str, ...] = ()
    kind: str = "patch"
    drawn: Float[Tensor, "n_local 4"] | None = None

    __repr__ = brief

    @property
    def on_map(self) -> Float[Tensor, "n_local 4"]:
        """Where a map has its regions."""
        return self.boxes if self.drawn is None else self.drawn

    def place(self, region: int) -> str:
        """Return where a region lies, in words; rows and columns count from 0."""
        if region >= len(self.boxes):
            return WHOLE
        if self.places or self.grid_hw is None:
            return self.places[region]
        return cell(*divmod(region, self.grid_hw[1]))

    def called(self, region: int) -> str:
        """Return what it is called beside where it lies: "tile 4 of 3 x 3", of several grids "tile 13 (of 3 x 3)"."""
        return called(self.places, region, self.kind) if self.places else f"{self.kind} {region}"

    def name(self, region: int) -> str:
        """Return what a region is called: what it is, its number, and where it lies."""
        return region_name(self.kind if region < len(self.boxes) else "region", region, self.place(region))


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Presented):
    """What made one logit, or the difference of two: exact for tokens -> logit; of tiles, exact for the picture.

    Attributes:
        parts: All the numbers.
        classes: Names, in the order of the logits.
        picture: What was classified.
        probabilities: (C,), softmax of the logits at the calibrated temperature.
        training_ids, training_labels: Of all n training pictures, in the order of ``parts.dual``.
        shown: Rows of the training pictures without which the logit would fall most, best first.
        shown_pictures: Those of ``shown`` whose pictures are at hand, by row.
        missing: Why the others of ``shown`` are not, in words, by row: not found, changed, or not to be read.
        pair_maps: (N, K) contribution of each pair of regions with the training pictures of ``shown`` whose tokens are
            at hand, by row; sums to that picture's dual contribution.
        facts: What the model was made with, JSON-ready.
        coalitions: What the logit would be with any regions dropped.
        counterfactuals: What a page needs to answer "what if" by itself.
        others: Pictures of ``counterfactuals.rows`` beside ``shown``, those that are at hand, by row.
        doubtful: What the model says of training pictures of a page when fitted without them, where that is another
            class than their label, as in ``Audit.doubtful``, by row.
        own: Set where the picture is one of the training pictures: what the model says of it when fitted without it.
    """

    parts: LogitParts
    classes: tuple[str, ...]
    picture: Picture
    probabilities: Float[Tensor, " C"]
    training_ids: tuple[str, ...]
    training_labels: tuple[str, ...]
    shown: tuple[int, ...]
    shown_pictures: Mapping[int, Picture] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    pair_maps: Mapping[int, Float[Tensor, "N K"]] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    coalitions: Coalitions | None = None
    counterfactuals: Counterfactuals | None = None
    others: Mapping[int, Picture] = field(default_factory=dict)
    doubtful: Mapping[int, str] = field(default_factory=dict)
    own: Own | None = None

    _format = "explanation"

    @property
    def level(self) -> Level:
        """What its numbers are exact for."""
        return level_of(self.picture.kind)

    @property
    def target(self) -> str:
        """Class that is explained."""
        return self.classes[self.parts.target]

    @property
    def against(self) -> str | None:
        """Class that it is held against, if any."""
        return None if self.parts.against is None else self.classes[self.parts.against]

    @property
    def regions(self) -> Float[Tensor, " N"]:
        """What each region's own features bring; with ``parts.prior`` sums to the logit."""
        return self.parts.token

    @property
    def drops(self) -> Float[Tensor, " N"]:
        """How much the logit falls when each region alone is dropped."""
        return self.parts.drop

    @property
    def removals(self) -> Float[Tensor, " N"]:
        """``drops`` by its former name: training pictures are removed, regions are dropped."""
        return self.drops

    @property
    def training(self) -> tuple[TrainingPart, ...]:
        """What each of the ``shown`` training pictures did."""
        p = self.parts
        return tuple(
            TrainingPart(
                self.training_ids[i], self.training_labels[i], float(p.dual[i]), float(p.label[i]), float(p.removal[i])
            )
            for i in self.shown
        )

    def region_name(self, region: int) -> str:
        """Return what a region is called; those of training pictures are called alike."""
        return self.picture.name(region)

    def pairs(self, k: SupportsIndex = 10) -> tuple[RegionPair, ...]:
        """Return the k pairs of regions that bring most, over the pictures of ``pair_maps``, best first.

        Raises:
            TypeError, ValueError: k is no whole number, or less than 1.
        """
        k = whole_number("k", k, 1)
        found = [
            RegionPair(region, self.training_ids[i], there, brings)
            for i, pairs in self.pair_maps.items()
            for region, there, brings in strongest_pairs(pairs, k)
        ]
        return tuple(sorted(found, key=lambda pair: -pair.contribution)[:k])

    def shapley(self, n_samples: SupportsIndex | None = None, seed: SupportsIndex = 0) -> Shapley:
        """Return each region's Shapley value, its fair share of what the picture adds to the bias, and standard errors.

        Args:
            n_samples: Number of sampled orders of the regions; None: all coalitions up to 16 regions, exactly, else 40
                orders; where regions are an additive game, exactly, however many.
            seed: Of the sampled orders.

        Raises:
            ValueError: ``n_samples`` is below 4; the explanation was not made by a model.
        """
        if n_samples is None and self._asked.N > EXACT_SHAPLEY_MAX_REGIONS and not self._asked.is_additive:
            n_samples = ORDERS
        values, errors = self._asked.shapley(n_samples, seed)
        return Shapley(values[:, 0], errors[:, 0])

    def interactions(self) -> Float[Tensor, "N N"]:
        """Return for every pair of regions how much more, or less, they bring together: ``drop_i + drop_j - drop_ij``.

        0: the two act independently. Negative: either stands in for the other. Positive: each needs the other.
        N (N - 1) / 2 pairs are dropped.

        Raises:
            ValueError: There is one region only; the explanation was not made by a model.
        """
        return self._asked.interactions()[..., 0]

    def without(self, regions: Tensor | NDArray[Any] | Iterable[SupportsIndex] | SupportsIndex) -> float:
        """Return what the logit would be with some regions dropped; the backbone does not run again.

        Args:
            regions: Indices of those to drop, or a mask, True for them.

        Raises:
            ValueError: A region is out of range; the explanation was not made by a model.
        """
        return float(self._asked.logits(kept(regions, self._asked.N).unsqueeze(-1)))

    @property
    def _asked(self) -> Coalitions:
        if self.coalitions is None:
            raise ValueError("This explanation holds numbers alone: take one from `Carrot.explain` to ask further.")
        return self.coalitions

    @property
    def residual(self) -> dict[str, float]:
        """Each sum less the logit that it must be: rounding."""
        residual = {name: total - self.parts.logit for name, total in self.parts.sums.items()}
        for i, pairs in self.pair_maps.items():
            residual[f"pairs of regions with {self.training_ids[i]}"] = float(pairs.sum() - self.parts.dual[i])
        return residual

    def __repr__(self) -> str:
        less = "" if self.against is None else f" less {self.against}"
        what = f"{self.target}{less}"
        return f"<Explanation of {one_line(self.picture.id)}: {one_line(what)}, {self.parts.logit:+.6f}>"

    def __str__(self) -> str:
        """Return it in a few lines: what is said, what speaks for it, and whom it would miss."""
        from carrot.explanation.text import plain_lines

        return "\n".join(plain_lines(self))

    def proof(self) -> str:
        """Return all of it as text: every sum beside what it must be, and each part of the training pictures shown."""
        from carrot.explanation.text import story_lines

        return "\n".join(story_lines(self))

    def plot(self, maps: bool = False) -> "Figure":
        """Return what its page opens with as a figure, or every map of it; save it with ``figure.savefig(path)``."""
        from carrot.explanation.figure import plot_explanation

        return plot_explanation(self, maps)

    def to_frame(self, what: str = "regions") -> "pandas.DataFrame":
        """Return one of its tables as a data frame of pandas (extra ``frames``).

        Args:
            what: "regions": of the picture, with their boxes and maps. "training": all training pictures, the one that
                the logit would miss most first. "pairs": of regions, with the training pictures whose tokens are at
                hand. "classes": logits and probabilities.

        Raises:
            ValueError: ``what`` is something else.
            ImportError: pandas is absent.
        """
        from carrot.explanation import tables

        return data_frame(
            chosen(
                what,
                {
                    "regions": lambda: tables.regions_table(self),
                    "training": lambda: tables.training_table(self),
                    "pairs": lambda: tables.pairs_table(self),
                    "classes": lambda: tables.classes_table(self),
                },
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every number, JSON-ready; ``carrot.explanation.as_json`` lists the keys.

        Raises:
            TypeError: ``facts`` holds what JSON has no word for.
            ValueError: A number is NaN or infinite.
        """
        from carrot.explanation.as_json import explanation_data

        return explanation_data(self)

    def to_json(self, path: Path | str | None = None) -> str:
        """Return it as JSON, and write it where a path is given; numbers are kept to the last bit.

        Raises:
            TypeError, ValueError: As ``to_dict``.
            StoreError: The disk refuses.
        """
        return stored(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", path)

    def to_html(self, path: Path | str | None = None) -> str:
        """Return it as one self-contained page that answers "what if", and write it where a path is given.

        Raises:
            StoreError: The disk refuses.
        """
        from carrot.explanation.page import explanation_page

        return stored(explanation_page(self), path)

    def _repr_html_(self) -> str:
        return framed(self.to_html())

    def _forms(self) -> dict[str, Callable[[], bytes]]:
        return {**super()._forms(), **figure_forms(self.plot)}
