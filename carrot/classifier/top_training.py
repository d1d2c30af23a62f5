"""For each of many pictures the training pictures that its answer leans on: what it would be without each, exactly.

::

    effect_i  =  logit(g) - logit_{-i}(g)  =  s_i(g) R_i / (1 - leverage_i)                                        (1)

The k largest, without which the logit would fall most, and the k smallest, without which it would rise most, from one
pass over the training set for many pictures together (``carrot.influence``): never a number for each pair.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._display.brief import one_line
from carrot._display.frame import by_column, data_frame
from carrot._display.html import card, said, table
from carrot._display.words import counted
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.classifier.suspects import doubted
from carrot.data.given import pictures_of
from carrot.data.inputs import name_of
from carrot.data.labels import Label
from carrot.explanation.presenting import Presented
from carrot.influence import supporters_and_opposers
from carrot.utils import whole_number

if TYPE_CHECKING:
    import pandas

SHOWN = 20  # pictures on a card or in a text
ROOM = 2**26  # numbers in the embeddings of pictures that share a pass: 512 MiB


@dataclass(frozen=True)
class Missed:
    """A training picture that an answer leans on, or that holds it down.

    Attributes:
        id: The picture.
        label: Its label.
        effect: How much the logit would fall in a model fitted without it; below 0: it would rise.
        doubtful: Another class that the others say, where its label is doubtful.
    """

    id: str
    label: str
    effect: float
    doubtful: str | None = None

    def __str__(self) -> str:
        doubt = "" if self.doubtful is None else f", a doubtful label: the others say {self.doubtful}"
        return f"{self.id} ({self.label}{doubt}) by {abs(self.effect):.3f}"


@dataclass(frozen=True)
class Leaning:
    """One picture's answer, and the training pictures that it would move most without.

    Attributes:
        picture: Its name.
        target: The class that is asked of.
        against: Another class, of the lead over which it is; None: of the logit itself.
        fall: Without which the logit would fall, most first.
        rise: Without which it would rise, most first.
    """

    picture: str
    target: str
    against: str | None
    fall: tuple[Missed, ...]
    rise: tuple[Missed, ...]

    def lines(self) -> list[str]:
        """Return it in words."""
        what = f"score of {self.target}" if self.against is None else f"lead of {self.target} over {self.against}"
        lines = [
            f"the {what} would {way} most without the training pictures {'; '.join(map(str, some))}"
            for way, some in (("fall", self.fall), ("rise", self.rise))
            if some
        ]
        return lines or [f"the {what} would not move without any training picture"]


@dataclass(frozen=True, repr=False)
class TopTraining(Presented):
    """For each picture the training pictures without which its answer would fall most, and rise most.

    Each effect is that of really fitting again without that training picture, with lam held; effects don't add up.

    Attributes:
        k: How many are named each way, at most: one without which the logit would not fall is not among those that it
            would fall without.
        answers: Of each picture.
    """

    k: int
    answers: tuple[Leaning, ...]

    _format = "top training"

    def __repr__(self) -> str:
        return f"<TopTraining of {counted(len(self.answers), 'picture')}: up to {self.k} each way>"

    def __str__(self) -> str:
        """Return what is said of each picture."""
        lines = [f"{one_line(a.picture)}: {line}" for a in self.answers[:SHOWN] for line in map(one_line, a.lines())]
        return "\n".join([*lines, *self._more])

    @property
    def _more(self) -> list[str]:
        more = len(self.answers) - SHOWN
        return [f"and {more:,} more pictures; `to_frame` has all"] if more > 0 else []

    def _card(self) -> str:
        rows = [(a.picture, line) for a in self.answers[:SHOWN] for line in a.lines()]
        told, rest = "Exactly as a fit without that training picture would have it; one at a time.", said(*self._more)
        return card("Training pictures that answers lean on", said(told), table(["picture", ""], rows), rest)

    def to_frame(self) -> "pandas.DataFrame":
        """Return a row for each picture and training picture as a data frame of pandas (extra ``frames``).

        Raises:
            ImportError: pandas is absent.
        """
        columns = ["picture", "target", "against", "way", "rank", *Missed.__dataclass_fields__]
        return data_frame(by_column(columns, list(self._rows())))

    def _rows(self) -> Iterator[dict[str, object]]:
        for a in self.answers:
            for way, some in (("fall", a.fall), ("rise", a.rise)):
                for rank, one in enumerate(some, 1):
                    own = {"picture": a.picture, "target": a.target, "against": a.against}
                    yield {**own, "way": way, "rank": rank, **asdict(one)}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {"k": self.k, "pictures": [asdict(answer) for answer in self.answers]}


class Collected:
    """Pictures as their embeddings come: asked together, as many as there is ``ROOM`` for.

    Args:
        fitted: The model.
        k: How many training pictures each way; of fewer, all.
        target: Class of all; None: the predicted one of each.
        against: Another class.
    """

    def __init__(self, fitted: Fitted, k: int, target: int | None = None, against: int | None = None) -> None:
        self._fitted, self._k, self._target, self._against = fitted, min(k, len(fitted.records)), target, against
        self._names, self._waiting, self._numbers = list[str](), list[Tensor](), 0
        self._answers = list[Leaning]()

    def add(self, names: list[str], g: Float[Tensor, "B M"]) -> None:
        """Take some.

        Raises:
            ValueError: ``against`` is what is predicted of one, and no target was given.
        """
        if self._against is not None and self._target is None:
            same = (self._fitted.head.predict(g).argmax(dim=1) == self._against).nonzero().flatten().tolist()
            if same:
                raise ValueError(
                    f"`against` is {self._fitted.classes[self._against]!r}, which is the predicted class of "
                    f"{names[same[0]]}: give another, or a `target` too."
                )
        self._names += names
        self._waiting.append(g)
        self._numbers += g.numel()
        if self._numbers >= ROOM:
            self._ask()

    def asked(self) -> TopTraining:
        """Return what is said of all."""
        if self._names:
            self._ask()
        return TopTraining(self._k, tuple(self._answers))

    def _ask(self) -> None:
        fitted, head, g = self._fitted, self._fitted.head, torch.cat(self._waiting)
        target = head.predict(g).argmax(dim=1) if self._target is None else torch.full((len(g),), self._target)
        both = supporters_and_opposers(head, g, self._k, "removal", target, self._against)
        rows = sorted({i for _, indices in both for i in indices.flatten().tolist()})
        doubtful = doubted(fitted, rows)
        known = {i: (fitted.records[i].id, fitted.classes[fitted.records[i].label]) for i in rows}
        against = None if self._against is None else fitted.classes[self._against]
        sides = [list(zip(values.tolist(), indices.tolist(), strict=True)) for values, indices in both]
        for name, c, fall, rise in zip(self._names, target.tolist(), *sides, strict=True):
            named = [
                tuple(Missed(*known[i], x, doubtful.get(i)) for x, i in zip(*side, strict=True) if sign * x > 0)
                for sign, side in ((1, fall), (-1, rise))
            ]
            self._answers.append(Leaning(name, fitted.classes[c], against, *named))
        self._names, self._waiting, self._numbers = [], [], 0


def top_training(
    classifier: Classifier,
    pictures: Any,
    k: SupportsIndex = 4,
    target: Label | None = None,
    against: Label | None = None,
) -> TopTraining:
    """Answer it; see ``Carrot.top_training``."""
    k, fitted = whole_number("k", k, 1), classifier.fitted
    c, a = (None if label is None else fitted.class_index(label) for label in (target, against))
    if c is not None and c == a:
        raise ValueError(
            f"`target` and `against` are both {fitted.classes[c]!r}: give two classes, or leave `against` out."
        )
    given = pictures_of(pictures)
    names, found = [name_of(picture, i) for i, picture in enumerate(given)], Collected(fitted, k, c, a)
    for g in classifier.embedded(given):
        some, names = names[: len(g)], names[len(g) :]
        found.add(some, g)
    return found.asked()
