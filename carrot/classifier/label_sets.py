"""Sets of labels with a promise: of new pictures, at least 1 - alpha have their true label in their set.

Full conformal prediction (``carrot._ridge.conformal``): every training picture is used for fitting and for the promise,
and each picture's p-values are those of real refits with it.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from carrot._display.brief import one_line
from carrot._display.frame import by_column, data_frame
from carrot._display.html import card, said, table
from carrot._display.words import counted, percent
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.data.given import pictures_of
from carrot.data.inputs import PictureLike, as_picture, content_of, name_of
from carrot.evaluation.calibration import probabilities
from carrot.explanation.presenting import Presented
from carrot.utils import real_number

if TYPE_CHECKING:
    import pandas

SHOWN = 20  # pictures on a card or in a text
NAMED = 8  # labels of one picture there


@dataclass(frozen=True, eq=False, repr=False)
class LabelSets(Presented):
    """For each picture the labels that can't be excluded: at least 1 - alpha of new pictures have their true one there.

    That holds on average over training and new pictures, where new ones come as the training pictures came
    (exchangeable), and lam and settings were chosen without them. An empty set says that with any label the picture
    would be among the oddest share alpha: it is unlike the training pictures, or between classes. A set of all labels
    says that nothing can be excluded.

    Attributes:
        pictures: Their names.
        classes: Names of the labels, in the order of the columns.
        alpha: The share of new pictures whose set may miss their label.
        per_class: Whether the promise holds class by class.
        p: The p-value of each label: the share of all pictures, this one with that label among them, that fit no
            better.
        probabilities: As ``predict_proba`` has them; a set holds the labels of p > alpha, whatever these are.
        counts: How many training pictures each p-value compares with.
        fitted_on: Of the pictures, those that the model was fitted on: nothing is promised of these.
        is_weighted: Whether training pictures count by weights of their own, not of their class: they are not
            exchangeable with a new picture, which has none, and nothing is proven.
    """

    pictures: tuple[str, ...]
    classes: tuple[str, ...]
    alpha: float
    per_class: bool
    p: Float[Tensor, "m C"]
    probabilities: Float[Tensor, "m C"]
    counts: Int[Tensor, " C"]
    fitted_on: tuple[str, ...] = ()
    is_weighted: bool = False

    _format = "label sets"

    @property
    def sets(self) -> NDArray[np.bool_]:
        """Which labels each set holds, (m, C)."""
        return (self.p > self.alpha).numpy()

    @property
    def labels(self) -> list[tuple[str, ...]]:
        """The labels of each set, the most probable first."""
        return [self.named(row) for row in range(len(self.pictures))]

    def named(self, row: int) -> tuple[str, ...]:
        """Return the labels of one set, the most probable first."""
        order = self.probabilities[row].argsort(descending=True, stable=True)
        return tuple(self.classes[c] for c in order.tolist() if self.p[row, c] > self.alpha)

    @property
    def promise(self) -> str:
        """What the sets say, in a sentence."""
        sure = percent(1.0 - self.alpha, 0 if round(100 * self.alpha, 6).is_integer() else 1)
        whose = "of new pictures of each class" if self.per_class else "of new pictures"
        told = (
            f"At least {sure} {whose} have their true label in their set, on average, if they come as the training "
            "pictures came and settings were chosen without them."
        )
        never = int((1.0 / (1.0 + self.counts) > self.alpha).sum())
        if never:
            which = "every label is" if never == len(self.classes) else f"{counted(never, 'label')} are"
            told += f" So few training pictures tell at this alpha that {which} in every set."
        if self.is_weighted:
            told += " Training pictures have weights of their own, which a new one has not: with these it isn't proven."
        return told

    def __repr__(self) -> str:
        size = float(self.sets.sum(axis=1).mean()) if self.pictures else 0.0
        of = counted(len(self.pictures), "picture")
        return f"<LabelSets of {of} at alpha {self.alpha:g}: {size:.3g} labels each>"

    def __str__(self) -> str:
        """Return a line for each picture, and what the sets promise."""
        lines = [f"{name}   {self.in_words(i)}" for i, name in enumerate(map(one_line, self.pictures[:SHOWN]))]
        more = [f"and {len(self.pictures) - SHOWN:,} more"] if len(self.pictures) > SHOWN else []
        return "\n".join([*lines, *more, self.promise, *self._notes])

    @property
    def _notes(self) -> list[str]:
        told = f"The model was fitted on {len(self.fitted_on):,} of these {counted(len(self.pictures), 'picture')}"
        return [f"{told}, of which that is no promise: there it says what it was told."] if self.fitted_on else []

    def in_words(self, row: int) -> str:
        """Return one picture's set in words."""
        names = self.named(row)
        if not names:
            return "empty (with any label it would be among the oddest pictures)"
        if len(names) == len(self.classes):
            return f"all {len(names)} labels (none can be excluded)"
        rest = len(names) - NAMED
        return ", ".join(names[:NAMED]) + (f", and {rest} more" if rest > 0 else "")

    def _card(self) -> str:
        rows = [(name, self.in_words(i)) for i, name in enumerate(self.pictures[:SHOWN])]
        more = len(self.pictures) - SHOWN
        rest = [f"and {more:,} more; `to_frame` has all"] if more > 0 else []
        return card("Label sets", said(self.promise), table(["picture", "set"], rows), said(*rest, *self._notes))

    def to_frame(self) -> "pandas.DataFrame":
        """Return a row for each picture and label as a data frame of pandas (extra ``frames``).

        Raises:
            ImportError: pandas is absent.
        """
        rows = [{"picture": item["picture"], **one} for item in self.to_dict()["pictures"] for one in item["labels"]]
        return data_frame(by_column(["picture", "label", "p_value", "in_set", "probability"], rows))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "alpha": self.alpha,
            "per_class": self.per_class,
            "promise": self.promise,
            "fitted_on": list(self.fitted_on),
            "pictures": [
                {
                    "picture": name,
                    "set": list(held),
                    "labels": [
                        {"label": label, "p_value": p, "in_set": p > self.alpha, "probability": probability}
                        for label, p, probability in zip(self.classes, ps, probable, strict=True)
                    ],
                }
                for name, held, ps, probable in zip(
                    self.pictures, self.labels, self.p.tolist(), self.probabilities.tolist(), strict=True
                )
            ],
        }


def label_sets(classifier: Classifier, pictures: Any, alpha: SupportsFloat = 0.1, per_class: bool = False) -> LabelSets:
    """Answer it; see ``Carrot.predict_set``."""
    alpha, fitted, given = checked_alpha(alpha), classifier.fitted, pictures_of(pictures)
    weight, counts = weight_by_class(fitted), torch.bincount(fitted.labels, minlength=len(fitted.classes))
    names, p, logits = list[str](), list[Tensor](), list[Tensor]()
    if per_class and int(counts.min()) < 2:
        few = [name for name, count in zip(fitted.classes, counts.tolist(), strict=True) if count < 2]
        raise ValueError(
            f"`per_class` compares a picture with the training pictures of each class alone, and {few[0]!r} has one "
            f"({counted(len(few), 'such class', 'such classes')}). Add pictures to it, or leave `per_class` out."
        )
    for g in classifier.embedded(given):
        p.append(fitted.head.label_p_values(g, per_class, weight))
        logits.append(fitted.head.predict(g))
    names = [name_of(picture, i) for i, picture in enumerate(given)]
    known = {record.sha256 for record in fitted.records}
    nothing = torch.empty(0, len(fitted.classes), dtype=torch.float64)
    return LabelSets(
        pictures=tuple(names),
        classes=fitted.classes,
        alpha=alpha,
        per_class=per_class,
        p=torch.cat([nothing, *p]),
        probabilities=probabilities(torch.cat([nothing, *logits]), fitted.temperature),
        counts=counts if per_class else torch.full_like(counts, len(fitted.records)),
        fitted_on=tuple(name for name, picture in zip(names, given, strict=True) if _content(picture) in known),
        is_weighted=len({record.weight for record in fitted.records}) > 1,
    )


def _content(picture: PictureLike) -> str:
    return content_of(picture, None if isinstance(picture, str | os.PathLike) else as_picture(picture))


def checked_alpha(alpha: SupportsFloat) -> float:
    """Return the share of pictures whose set may miss their label.

    Raises:
        TypeError: It is no number.
        ValueError: It is not between 0 and 1.
    """
    number = real_number("alpha", alpha)
    if not 0.0 < number < 1.0:
        raise ValueError(
            f"`alpha` must be between 0 and 1, neither of them: the share of pictures whose set may miss their label, "
            f"0.1 say; got {number:g}."
        )
    return number


def weight_by_class(fitted: Fitted) -> Float[Tensor, " C"]:
    """Return what a picture counts by its class: class weights, which are held where they were balanced."""
    own = torch.tensor([record.weight for record in fitted.records], dtype=torch.float64)
    return torch.ones(len(fitted.classes), dtype=torch.float64).index_copy(
        0, fitted.labels, fitted.head.sample_weight.cpu() / own
    )
