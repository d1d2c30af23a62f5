"""What fitting leaves behind, never changed: forgetting or adding a picture makes another one."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from carrot._display.words import counted
from carrot.classifier.left_out import LeftOut
from carrot.classifier.records import TrainingRecord, training_records
from carrot.classifier.remembered import Places
from carrot.classifier.weighting import ClassWeight, row_weights
from carrot.data import open_dataset
from carrot.data.labels import Label, Labels, canonical, flat, label_kind, name_of_label, restored
from carrot.data.records import LabelKind, Subset
from carrot.embedding.cache import TokenCache
from carrot.embedding.kept import KeptTokens
from carrot.embedding.setting import Setting
from carrot.errors import CarrotError
from carrot.head import RidgeHead

COMPARED = 2**17  # ids that a mistyped one is compared with: some seconds


@dataclass(frozen=True, eq=False)
class Fitted:
    """A head, and what its rows and columns mean.

    Attributes:
        head: The ridge head.
        setting: What every embedding was made with.
        classes: Names of the classes, in the order of the logits.
        records: The training pictures, in the order of ``head.G``.
        temperature: Of the probabilities, fitted on exact leave-one-out logits.
        set_aside: What was wrong with pictures that could not be read, by id.
        selection: A line for each setting that was tried, if some were.
        kept: The token cache that it was fitted from, if it was kept.
        data: The folder or spec that the pictures came from, if it was one.
        label_kind: What labels were when they came in, and are when they go out.
        class_weight: What a class counts, by name.
        asked_lam: What ``lam`` was asked for: fitting again asks the same.
        penalties: What lam was chosen from, by leave-one-out; empty: it was given, or nobody kept them.
        figures: What ``leave_one_out`` returns, where it was asked for already; None: it was not.
    """

    head: RidgeHead
    setting: Setting
    classes: tuple[str, ...]
    records: Sequence[TrainingRecord]
    temperature: float
    set_aside: Mapping[str, str] = field(default_factory=dict)
    selection: tuple[Mapping[str, object], ...] = ()
    kept: KeptTokens | None = None
    data: str | None = None
    label_kind: LabelKind = "name"
    class_weight: ClassWeight = None
    asked_lam: float | Literal["loo"] = "loo"
    penalties: tuple[float, ...] = ()
    figures: Mapping[str, float] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"<Fitted on {self.counts}: {self.setting}>"

    @property
    def counts(self) -> str:
        """How many pictures of how many classes, in words."""
        return f"{counted(len(self.records), 'picture')} of {counted(len(self.classes), 'class', 'classes')}"

    @classmethod
    def of(
        cls,
        head: RidgeHead,
        setting: Setting,
        train: Subset,
        rows: list[int],
        own: Float[Tensor, " n"],
        cache: TokenCache,
        kept: KeptTokens | None,
        **given: Any,
    ) -> "Fitted":
        """Return what a fit on ``rows`` of a training set leaves.

        Args:
            head: Fitted on them.
            setting: What they were embedded with.
            train: The training set.
            rows: Those of its pictures that could be read.
            own: ``own_weights`` of all its pictures.
            cache: Their tokens.
            kept: Where these stay, if they do.
            given: ``data``, ``selection``, ``class_weight`` and ``asked_lam``.
        """
        records = training_records(train, rows, cache.sha256, own.tolist())
        skipped: dict[str, str] = getattr(train.dataset, "skipped", {})
        given |= {"set_aside": {**skipped, **cache.errors}, "kept": kept, "label_kind": train.label_kind}
        return cls.on(head, setting, tuple(train.classes), records, **given)

    @classmethod
    def on(
        cls,
        head: RidgeHead,
        setting: Setting,
        classes: tuple[str, ...],
        records: Sequence[TrainingRecord],
        **given: Any,
    ) -> "Fitted":
        """Return what fitting a head on the rows of some records leaves; ``given``: the other attributes."""
        penalties = () if head.loo_path is None else tuple(head.loo_path.lams.tolist())
        temperature = _temperature(head)
        return cls(head, setting, classes, records, temperature, penalties=penalties, **given)

    def with_head(self, head: RidgeHead, records: Sequence[TrainingRecord], classes: tuple[str, ...]) -> "Fitted":
        """Return the same with another head on other pictures; the temperature is fitted again."""
        temperature = _temperature(head)
        return replace(self, head=head, records=records, classes=classes, temperature=temperature, figures=None)

    def weights(self, records: Sequence[TrainingRecord], classes: Sequence[str]) -> Float[Tensor, " n"]:
        """Return what pictures of these classes count in a fit."""
        own = torch.tensor([record.weight for record in records], dtype=torch.float64)
        return row_weights(own, torch.tensor([record.label for record in records]), self.class_weight, classes)

    @property
    def class_weights(self) -> Float[Tensor, " C"] | None:
        """What a picture counts by its class; None where classes are balanced, anew with every change."""
        if self.class_weight == "balanced":
            return None
        C = len(self.classes)
        return row_weights(torch.ones(C, dtype=torch.float64), torch.arange(C), self.class_weight, self.classes)

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Class of each training picture."""
        return self.head.labels

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Row of each training picture, by id."""
        return Places(self.records)

    def row_of(self, name: str) -> int:
        """Return the row of a training picture.

        Raises:
            ValueError: There is none of that id; the message names one that may have been meant.
        """
        if name not in self.places:
            raise ValueError(f"{name!r} is no training picture of this model. {self.hint(name, False)}")
        return self.places[name]

    def hint(self, name: str, may_forget: bool) -> str:
        """Return what may have been meant by an id that there isn't; whole classes are for who ``may_forget`` them."""
        if name in self.classes:
            what = f"to forget all of it, classes=[{name!r}]" if may_forget else "give the ids of its pictures"
            return f"It is a class: {what}."
        if self._holds_out(name):
            return (
                "It is a held-out picture of its data set: the model doesn't hold it, so nothing of it can be changed "
                "here. If its label is wrong, move the file to its right folder, or correct the table, and measure "
                "again: carrot evaluate."
            )
        places = self.places
        near = [known for known in places if name.endswith(f"/{known}")]
        if not near and len(places) <= COMPARED:
            near = get_close_matches(name, list(places), 1)
        return f"Did you mean {near[0]!r}?" if near else f"Ids look like {next(iter(places))!r}."

    def _holds_out(self, name: str) -> bool:
        """Return whether it is a test picture of the data set that the model was fitted on, if that is still there."""
        if self.data is None:
            return False
        try:
            records = open_dataset(self.data, for_testing=True).records
        except (CarrotError, OSError):
            return False
        return any(r.split == "test" and (name == r.id or name.endswith(f"/{r.id}")) for r in records)

    def leave_one_out(self) -> dict[str, float]:
        """Return exact leave-one-out figures.

        They are accuracy, mean over classes, squared error, negative log likelihood, calibration error. The last two
        flatter a little: the one temperature of the probabilities is that which suits these very logits best.
        """
        if self.figures is None:
            object.__setattr__(self, "figures", self.left_out.figures(self.temperature))
        return dict(self.figures or {})

    @property
    def left_out(self) -> LeftOut:
        """What the heads fitted without each training picture say of it."""
        return LeftOut(self.head, self.labels)

    def labels_of(self, names: Sequence[str]) -> NDArray[Any]:
        """Return labels as they came in: text, whole numbers or truth values."""
        return restored(names, self.label_kind)

    def class_index(self, name: Label) -> int:
        """Return the index of a class given by its label, or, where labels are names that aren't numbers, by index.

        Raises:
            ValueError: There is no such class; the message names similar ones.
            TypeError: It is no label.
        """
        text, kind = name_of_label(name), label_kind(name)
        with suppress(ValueError):
            text = canonical(text, self.label_kind)
        if text in self.classes and (kind != "truth" or self.label_kind == "truth"):
            return self.classes.index(text)
        by_place = self.label_kind == "name" and not any(known.isdecimal() for known in self.classes)
        if kind == "number" and by_place and 0 <= int(text) < len(self.classes):
            return int(text)
        close, some = ", ".join(get_close_matches(text, self.classes)), ", ".join(self.classes[:5])
        hint = (
            f"Did you mean {close}?"
            if close
            else f"Its {len(self.classes)} classes: {some}{', ...' * (len(self.classes) > 5)}."
        )
        raise ValueError(f"{name!r} is no class of this model. {hint}")

    def class_names(self, labels: Labels, new: bool | None = None) -> list[str]:
        """Return the names of labels given by name or index.

        Args:
            labels: One or more.
            new: Whether they may be of classes that there aren't yet; None: that is no question.

        Raises:
            ValueError, TypeError: As ``class_index``; a new class is of another kind than the model's labels.
        """
        return [self._class_name(value, new) for value in flat(labels)]

    def _class_name(self, label: Any, new: bool | None) -> str:
        try:
            return self.classes[self.class_index(label)]
        except ValueError as error:
            if new is None:
                raise
            if not new:
                raise ValueError(f"{error} To make it a class: new_classes=True.") from None
        name, kind = name_of_label(label), label_kind(label)
        if kind not in ("name", self.label_kind):
            raise TypeError(f"A new class must be of the kind of the model's, {self.classes[0]!r}; got {label!r}.")
        return canonical(name, self.label_kind)  # a word among whole numbers is refused


def _temperature(head: RidgeHead) -> float:
    return LeftOut(head, head.labels).temperature()
