"""FunnyBirds on the renderer: any classifier and any explainer, held against pictures rendered without their parts.

::

    birds = ToyBirds(n_species=24)
    world = Interventions.of(birds, logits)              # logits: list of pictures -> (m, C); kept, so asked once
    scores = measure(world, world.by_map(explain), test)  # explain: picture, class -> (h, w), signed

Three ways to say what a part is worth, never to be mixed:

``by_map``
    A map over pixels, summed inside the part's dilated mask: what FunnyBirds' scores are of.
``by_own_answer``
    What the model itself answers when it is asked for the part's pixels: with regions, the drop without every region
    that meets them. Another quantity, no map.
``by_measurement``
    The logit's real fall when the renderer leaves the part out: no explanation at all, but what knowing every single
    removal is worth. Its single deletion is 1; no bound for the rest, since parts work together.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from carrot._display.brief import brief
from carrot._progress import progress
from carrot.data.toy import PARTS, Rendered, ToyBirds
from carrot.evaluation.funnybirds import (
    DisjointPair,
    PartSet,
    data_check,
    disjoint_pair,
    distractibility,
    important_parts,
    minimal_sufficient_sets,
    needed_objects,
    part_importance,
    single_deletion,
    target_sensitivity,
)
from carrot.evaluation.funnybirds_scores import FunnyBirdsScores, PictureScores
from carrot.evaluation.inputs import as_tensor, checked_labels, checked_scores

BATCH = 32  # pictures that the classifier gets at once


class Importances(NamedTuple):
    """What an explanation of one class says of one picture.

    Attributes:
        values: Of every thing, parts first, then objects.
        total: What the thresholds are shares of: the sum of the map.
    """

    values: Float[Tensor, " T"]
    total: float

    def __repr__(self) -> str:
        return brief(self)


Logits = Callable[[list[Image.Image]], ArrayLike | Tensor]
Explain = Callable[[Image.Image, int], ArrayLike | Tensor]
Ask = Callable[[Image.Image, int, Bool[Tensor, "T h w"]], tuple[ArrayLike | Tensor, float]]
Says = Callable[[int, int], Importances]  # of picture, class


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture and what is to be seen in it.

    Attributes:
        image: The picture.
        things: Names of its parts, then of its objects.
        masks: Where each is on top, before dilation.
    """

    image: Image.Image
    things: tuple[str, ...]
    masks: Bool[Tensor, "T h w"]

    __repr__ = brief

    @classmethod
    def of(cls, rendered: Rendered, parts: Sequence[str]) -> "Seen":
        """Take what the renderer gives."""
        things = (*parts, *(name for name in rendered.names if name.startswith("object ")))
        masks = np.stack([rendered.mask(name) for name in things])
        return cls(rendered.image, things, torch.from_numpy(masks))

    @cached_property
    def is_seen(self) -> Bool[Tensor, " T"]:
        """Which things show a pixel."""
        return self.masks.any(dim=2).any(dim=1)


class Interventions:
    """A classifier's logits of rendered pictures without any of their parts and objects, each computed once.

    Args:
        render: Picture, names of what to leave out -> what ``carrot.data.toy.render`` returns.
        parts: Names of the K parts.
        variants: (C, K) integers: the variant of each part that a class has.
        labels: True class of each picture.
        logits: Pictures -> logits (m, C), whatever computes them.

    Raises:
        ValueError: Shapes don't match, a label is out of range, or two classes have the same variants.
    """

    def __init__(
        self,
        render: Callable[[int, Collection[str]], Rendered],
        parts: Sequence[str],
        variants: Int[Tensor, "C K"],
        labels: Sequence[int],
        logits: Logits,
    ) -> None:
        if variants.ndim != 2 or variants.shape[1] != len(parts) or not len(variants):
            raise ValueError(
                f"`variants` must be (C, {len(parts)}), a row for each class and a column for each part of "
                f"{tuple(parts)}; got {tuple(variants.shape)}."
            )
        self.parts, self.C = tuple(parts), len(variants)
        self.labels = checked_labels("labels", list(labels), len(labels), self.C).tolist()
        self.sufficient: list[tuple[PartSet, ...]] = [minimal_sufficient_sets(variants, c) for c in range(self.C)]
        self.pairs: list[DisjointPair | None] = [disjoint_pair(variants, c) for c in range(self.C)]
        self._render, self._classify = render, logits
        self._known: dict[tuple[int, frozenset[str]], Tensor] = {}
        self._last: tuple[int, Seen] | None = None

    @classmethod
    def of(cls, birds: ToyBirds, logits: Logits) -> "Interventions":
        """Ask a classifier of the toy's species; labels are the species that are shown, whatever the records say."""
        variants = torch.tensor([species.variants for species in birds.species])
        return cls(birds.rendered, PARTS, variants, birds.true_labels, logits)

    def seen(self, index: int) -> Seen:
        """Return picture ``index`` as it is."""
        if self._last is None or self._last[0] != index:  # one picture is asked about several times in a row
            self._last = index, Seen.of(self._render(index, ()), self.parts)
        return self._last[1]

    def logits(self, index: int, removals: Iterable[Collection[str]]) -> Float[Tensor, "m C"]:
        """Return the logits of picture ``index`` without the things of each removal.

        Raises:
            ValueError: The classifier returns something else than finite logits (m, C).
        """
        asked = [frozenset(removal) for removal in removals]
        missing = [removal for removal in dict.fromkeys(asked) if (index, removal) not in self._known]
        for start in range(0, len(missing), BATCH):
            block = missing[start : start + BATCH]
            found = self._classify([self._render(index, sorted(removal)).image for removal in block])
            rows = checked_scores("logits", found)
            if rows.shape != (len(block), self.C):
                raise ValueError(
                    f"`logits` must return ({len(block)}, {self.C}), a row for each picture and a column for each "
                    f"class; got {tuple(rows.shape)}."
                )
            self._known.update(((index, removal), row) for removal, row in zip(block, rows, strict=True))
        return torch.stack([self._known[index, removal] for removal in asked])

    def effects(self, index: int, things: Sequence[str]) -> Float[Tensor, "T C"]:
        """Return how much each logit falls when each thing alone is left out."""
        logits = self.logits(index, [(), *((thing,) for thing in things)])
        return logits[0] - logits[1:]

    def by_map(self, explain: Explain) -> Says:
        """Return what an explainer's maps say of things.

        Args:
            explain: Picture, class -> map (h, w) of signed attributions, as large as the picture.
        """

        def says(index: int, target: int) -> Importances:
            seen = self.seen(index)
            attribution = as_tensor(explain(seen.image, target)).double()
            return Importances(part_importance(attribution, seen.masks), float(attribution.sum()))

        return says

    def by_own_answer(self, ask: Ask) -> Says:
        """Return what a model answers when it is asked for things by their pixels: no map, another quantity.

        Args:
            ask: Picture, class, masks (T, h, w) -> importance of each thing, and what thresholds are shares of.
        """

        def says(index: int, target: int) -> Importances:
            seen = self.seen(index)
            values, total = ask(seen.image, target, seen.masks)
            return Importances(as_tensor(values).double(), float(total))

        return says

    def by_measurement(self) -> Says:
        """Return the logit's real falls, the total being their sum: no explanation, another quantity."""

        def says(index: int, target: int) -> Importances:
            effects = self.effects(index, self.seen(index).things)[:, target]
            return Importances(effects, float(effects.sum()))

        return says


def measure(world: Interventions, says: Says, pictures: Sequence[int]) -> FunnyBirdsScores:
    """Return all scores of an explainer on some pictures.

    Args:
        world: The classifier, and what it says of pictures without their parts.
        says: ``world.by_map(...)``, or one of its siblings.
        pictures: Which ones; each is explained for up to four classes.

    Raises:
        ValueError: There is no picture, or the classifier or the explainer returns what it mustn't.
    """
    names = progress(pictures, "FunnyBirds", len(pictures), "pictures")
    return FunnyBirdsScores.of([picture_scores(world, says, index) for index in names])


def picture_scores(world: Interventions, says: Says, index: int) -> PictureScores:
    """Return one picture's part in every score.

    Raises:
        ValueError: The classifier or the explainer returns what it mustn't.
    """
    seen, c, K = world.seen(index), world.labels[index], len(world.parts)
    f = world.logits(index, [()])[0]
    predicted = int(f.argmax())
    effects = world.effects(index, seen.things)[:, c]
    said = cache(partial(says, index))  # of a class
    important, chosen = (important_parts(*said(k)) & seen.is_seen for k in (c, predicted))
    chosen = chosen[:, :K]
    kept = world.logits(index, [_names(world.parts, ~row) for row in chosen]).argmax(dim=1) == predicted
    removed = world.logits(index, [_names(world.parts, row) for row in chosen]).argmax(dim=1) != predicted
    undefined = torch.full((len(chosen),), torch.nan, dtype=torch.float64)
    importance, part_effects, is_seen = said(c).values[:K], effects[:K], seen.is_seen[:K]
    return PictureScores(
        is_correct=predicted == c,
        data_check=data_check(important, world.sufficient[c]) if predicted == c else undefined,
        preservation=kept.double(),
        deletion=removed.double(),
        distractibility=distractibility(important, effects, float(f[c]), seen.is_seen),
        single_deletion=single_deletion(importance[is_seen], part_effects[is_seen]),
        single_deletion_all=single_deletion(importance, part_effects),
        target_sensitivity=_target_sensitivity(world, said, index),
        objects=int(seen.is_seen[K:].sum()),
        needed=needed_objects(effects[K:][seen.is_seen[K:]], float(f[c])),
        total=said(predicted).total,
    )


def _target_sensitivity(world: Interventions, said: Callable[[int], Importances], index: int) -> float:
    pair, K = world.pairs[world.labels[index]], len(world.parts)
    if pair is None:
        return float("nan")
    removals = [[world.parts[p] for p in shared] for shared in (pair.shared_first, pair.shared_second)]
    without = world.logits(index, removals)
    first, second = (said(target).values[:K] for target in (pair.first, pair.second))
    return target_sensitivity(pair, (first, second), (without[0], without[1]))


def _names(parts: Sequence[str], chosen: Tensor) -> list[str]:
    return [part for part, is_chosen in zip(parts, chosen.tolist(), strict=True) if is_chosen]
