"""Going through suspects: what speaks for and against a label, and what each way to settle it does, before it is done.

Every training picture is asked of the head fitted without it (``carrot._ridge.edited``), on top of the edits that are
decided on already. Nothing is changed, and nothing fitted again; but class weights that an edit moves (balanced ones:
any edit) change all of the fit, and it is fitted.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from carrot._ambient import pinned_class
from carrot._ridge.edited import EditedLoo
from carrot.attribution import pair_contribution
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.evaluation.calibration import fit_temperature
from carrot.evaluation.suspects import LabelSuspects, label_suspects
from carrot.explanation.parts import strongest_pairs
from carrot.head import RidgeHead

AHEAD = 64  # edits whose columns are solved for together
REFITTED = 2_000_000  # logits of which the temperature is fitted again: a second; of more the model's is held


class Standing(NamedTuple):
    """How many training pictures are told right by the heads fitted without them.

    Attributes:
        right: That many.
        pictures: Of so many.
        own: Whether the picture in question is; None: it is left out, or there is none.
    """

    right: int
    pictures: int
    own: bool | None = None


class Opinion(NamedTuple):
    """What the heads fitted without them say of labels, as ``carrot audit`` will once the edits are made.

    Attributes:
        suggested: The class, other than its label, that the others say of the picture in question.
        doubtful: Rows of the pictures of which the others say another class than the label.
        flagged: Of these, those whose label looks wrong.
        temperature: Of the probabilities; of more than ``REFITTED`` logits the model's, as it was before the edits.
        p_value: Conformal, of its label.
    """

    suggested: str
    doubtful: frozenset[int]
    flagged: frozenset[int]
    temperature: float
    p_value: float


class Witness(NamedTuple):
    """What a training picture does to what is said of another one, without that.

    Attributes:
        row: It.
        effect: How far the question's logit would fall, had it not been there either.
    """

    row: int
    effect: float


@dataclass(frozen=True)
class Pair:
    """The region of one picture and that of a training picture which together bring most.

    Attributes:
        row: The training picture.
        region: Of the picture that is asked about.
        training_region: Of the training picture.
        contribution: What they bring to the question's logit.
        total: What all pairs with that training picture bring.
    """

    row: int
    region: int
    training_region: int
    contribution: float
    total: float


@pinned_class
class Review:
    """Training pictures as they are once some edits are made, and what one more would do.

    Args:
        fitted: The model, which stays.
        decided: New class by row, None for a picture to be left out: a decision for each. A class may be one that the
            model doesn't have.

    Attributes:
        classes: The model's, and then the new ones that a picture is given.

    Exactness: exact, real refits to rounding; ``tests/unit/test_review.py``.
    """

    def __init__(self, fitted: Fitted, decided: Mapping[int, str | None] | None = None) -> None:
        self.fitted, self.decided = fitted, dict(decided or {})
        self._start = fitted.head.edited_loo()
        self.classes, self._edited = self._classes(self.decided), self._after(self.decided)

    @property
    def standing(self) -> Standing:
        """How it is with what is decided."""
        return _standing(self._right, self._edited)

    def deciding(self, row: int, label: str | None) -> "Review":
        """Return it with one more decision, or another one."""
        return self._but(self._and(row, label), self._with(row, label))

    def having(self, decided: Mapping[int, str | None]) -> "Review":
        """Return it with other decisions: what was solved for is not solved for again."""
        return self._but(dict(decided), self._after(decided))

    def outcome(self, row: int, label: str | None) -> Standing:
        """Return how it would be with one more decision: the picture relabelled, or, None, left out.

        Without the only picture of a class nothing is fitted to that class: its logit is 0 there.
        """
        edited = self._with(row, label)
        return _standing(_right(edited), edited, row)

    def is_alone(self, row: int, label: str) -> bool:
        """Whether no other picture is of the class that this one would be of."""
        names = self.fitted.classes
        now = (self.decided.get(i, names[record.label]) for i, record in enumerate(self.fitted.records) if i != row)
        return label not in now

    def kept(self, row: int) -> Standing:
        """Return how it is, as if nothing were decided on this picture."""
        edited = self._base(row)
        return _standing(self._right if edited is self._edited else _right(edited), edited, row)

    def refusal(self, row: int, label: str | None) -> str | None:
        """Return why a decision can't be made, in words; None: it can."""
        own = self.fitted.classes[self.fitted.records[row].label]
        if label == own:
            return f"It is labelled {own} already: keep it."
        return self._emptied(row, label)

    def kept_refusal(self, row: int) -> str | None:
        """Return why what is decided on a picture can't be taken back, in words; None: it can."""
        return self._emptied(row, self.fitted.classes[self.fitted.records[row].label]) if row in self.decided else None

    def label(self, row: int) -> str:
        """Return the class of a picture that isn't left out, with what is decided."""
        return self.decided.get(row) or self.fitted.classes[self.fitted.records[row].label]

    def opinion(self, row: int) -> Opinion:
        """Return what the others say of labels, this picture's being what it was."""
        found, stay, T = self._judged if (edited := self._base(row)) is self._edited else self._seen(edited)
        doubtful, flagged = (frozenset(torch.tensor(stay)[who].tolist()) for who in (found.doubtful, found.flagged))
        suggested = self.classes[int(found.suggested[i := stay.index(row)])]
        return Opinion(suggested, doubtful, flagged, T, float(found.p_value[i]))

    def said(self, row: int) -> Float[Tensor, " C"]:
        """Return the logits of a picture, said by the head fitted without it."""
        return self._base(row).said(row)

    def witnesses(self, row: int, target: str, against: str, k: int = 3) -> tuple[list[Witness], list[Witness]]:
        """Return the training pictures that speak most for one class and against another, and those that speak back.

        Args:
            row: The picture.
            target: Class c, of logit_c - logit_a.
            against: Class a.
            k: How many of each.
        """
        question = torch.zeros_like((base := self._base(row)).Y[row])
        question[self.classes.index(target)], question[self.classes.index(against)] = 1.0, -1.0
        found = base.others(row, question)
        most, least = (found.topk(min(k, len(found)), largest=way) for way in (True, False))
        ours = zip(most.indices.tolist(), most.values.tolist(), strict=True)
        theirs = zip(least.indices.tolist(), least.values.tolist(), strict=True)
        return [Witness(i, x) for i, x in ours if x > 0], [Witness(i, x) for i, x in theirs if x < 0]

    def strongest_pair(
        self,
        classifier: Classifier,
        row: int,
        pictures: Mapping[int, Image.Image | str],
        target: str,
        against: str,
    ) -> Pair | None:
        """Return the pair of regions that brings most to logit_c - logit_a, said without the picture; None: none does.

        Args:
            classifier: Of the same model.
            row: The picture.
            pictures: Its own picture, and those of the training pictures to look at, by row, as found.
            target: Class c.
            against: Class a.
        """
        records, head = self.fitted.records, self.fitted.head
        tokens = {i: classifier.training_tokens(records[i], found) for i, found in pictures.items()}
        own = tokens.pop(row, None)
        if own is None:
            return None
        trace, without = classifier.pooling.trace(own), self._base(row).without(row)
        residual = without.residual[:, self.classes.index(target)] - without.residual[:, self.classes.index(against)]
        alpha = without.weights * residual / head.lam
        origin = without.g_mean if head.fit_intercept and not trace.is_additive else None
        best: Pair | None = None
        for i, there in tokens.items():
            if there is None:
                continue
            other = classifier.pooling.trace(there)
            found = pair_contribution(
                trace.H,
                trace.pi,
                other.H.unsqueeze(0),
                other.pi.unsqueeze(0),
                alpha[i].reshape(1, 1),
                target=0,
                lift=trace.lift,
                origin=origin,
            )[:, 0]
            region, training_region, brings = strongest_pairs(found, 1)[0]
            if brings > 0 and (best is None or brings > best.contribution):
                best = Pair(i, region, training_region, brings, float(found.sum()))
        return best

    # ---- inside

    def _emptied(self, row: int, label: str | None) -> str | None:
        """Return, in words, which class has no picture left once this one is of another class; None: none."""
        names, counts = self.fitted.classes, list(self._counts)
        for name, change in ((self.decided.get(row, names[self.fitted.records[row].label]), -1), (label, 1)):
            if name in names:
                counts[names.index(name)] += change
        return f"Class {names[counts.index(0)]} would be left without a training picture." if 0 in counts else None

    def _but(self, decided: dict[int, str | None], edited: EditedLoo) -> "Review":
        other = object.__new__(Review)
        other.fitted, other._start, other.decided, other._edited = self.fitted, self._start, decided, edited
        other.classes = self._classes(decided)
        return other

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        """Training pictures of each of the model's classes, as they are decided on."""
        counted = Counter(self._labels(self.decided)[1])
        return tuple(counted[c] for c in range(len(self.fitted.classes)))

    @cached_property
    def _judged(self) -> tuple[LabelSuspects, list[int], float]:
        return self._seen(self._edited)

    @cached_property
    def _right(self) -> Bool[Tensor, " n"]:
        return _right(self._edited)

    def _base(self, row: int) -> EditedLoo:
        """Return the pictures as they are decided on, this one as it was."""
        if row not in self.decided:
            return self._edited
        return self._after({place: label for place, label in self.decided.items() if place != row})

    def _and(self, row: int, label: str | None) -> dict[int, str | None]:
        """Return what is decided, with one more decision: the last."""
        return {**{i: name for i, name in self.decided.items() if i != row}, row: label}

    def _with(self, row: int, label: str | None) -> EditedLoo:
        """Return the pictures with one more decision."""
        decided = self._and(row, label)
        if row in self.decided or not self._keeps_weights(decided):
            return self._after(decided)
        classes = self._classes(decided)
        edited = self._edited.widened(1) if len(classes) > len(self.classes) else self._edited
        return _step(edited, row, None if label is None else classes.index(label))

    def _after(self, decided: Mapping[int, str | None]) -> EditedLoo:
        if not self._keeps_weights(decided):
            return self._fitted(decided)
        classes, rows = self._classes(decided), list(decided)
        edited = self._start.widened(len(classes) - len(self.fitted.classes))
        for place, row in enumerate(rows):
            if place % AHEAD == 0:
                edited.ahead(rows[place : place + AHEAD])
            label = decided[row]
            edited = _step(edited, row, None if label is None else classes.index(label))
        return edited

    def _classes(self, decided: Mapping[int, str | None]) -> tuple[str, ...]:
        """Return the model's classes and then new ones, in the order in which ``Carrot.apply`` makes them."""
        return tuple(dict.fromkeys([*self.fitted.classes, *(name for name in decided.values() if name is not None)]))

    def _keeps_weights(self, decided: Mapping[int, str | None]) -> bool:
        if self.fitted.class_weight is None:
            return True
        stay, labels = self._labels(decided)
        return torch.equal(self._weights(stay, labels, decided), self.fitted.head.sample_weight[stay].cpu())

    def _labels(self, decided: Mapping[int, str | None]) -> tuple[list[int], list[int]]:
        """Return the rows that stay, and the classes of these."""
        place = {name: c for c, name in enumerate(self._classes(decided))}
        to = {row: None if name is None else place[name] for row, name in decided.items()}
        now = {row: to.get(row, record.label) for row, record in enumerate(self.fitted.records)}
        stay = [row for row, label in now.items() if label is not None]
        return stay, [label for label in now.values() if label is not None]

    def _weights(self, stay: list[int], labels: list[int], decided: Mapping[int, str | None]) -> Float[Tensor, " m"]:
        records = [replace(self.fitted.records[row], label=label) for row, label in zip(stay, labels, strict=True)]
        return self.fitted.weights(records, self._classes(decided))

    def _fitted(self, decided: Mapping[int, str | None]) -> EditedLoo:
        """Return what a fit of the edited pictures gives, their weights moved."""
        head, (stay, labels), C = self.fitted.head, self._labels(decided), len(self._classes(decided))
        Y = torch.nn.functional.one_hot(torch.tensor(labels), C).to(head.Y)
        again = RidgeHead(head.lam, head.fit_intercept).fit(head.G[stay], Y, self._weights(stay, labels, decided))
        return EditedLoo.fitted(again, torch.tensor(stay), head.Y.new_zeros(len(head.Y), C))

    def _seen(self, edited: EditedLoo) -> tuple[LabelSuspects, list[int], float]:
        """Return how the others see labels, of which rows, and at which temperature."""
        stay = edited.there.nonzero().flatten()
        logits, labels = edited.logits[stay], edited.Y[stay].argmax(dim=1)
        T = fit_temperature(logits, labels) if logits.numel() <= REFITTED else self.fitted.temperature
        return label_suspects(logits, labels, T), stay.tolist(), T


def _step(edited: EditedLoo, row: int, label: int | None) -> EditedLoo:
    if label is None:
        return edited.without(row)
    y = torch.zeros_like(edited.Y[row])
    y[label] = 1.0
    return edited.relabelled(row, y)


def _right(edited: EditedLoo) -> Bool[Tensor, " n"]:
    """Return which pictures are told right; of those that are left out none."""
    return (edited.logits.argmax(dim=1) == edited.Y.argmax(dim=1)) & edited.there


def _standing(right: Bool[Tensor, " n"], edited: EditedLoo, row: int | None = None) -> Standing:
    own = None if row is None or not bool(edited.there[row]) else bool(right[row])
    return Standing(int(right.sum()), int(edited.there.sum()), own)
