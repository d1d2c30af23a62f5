"""The smallest flip of one picture's answer: the fewest training pictures it stands on, and how that was proven."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from carrot._display.brief import one_line
from carrot._display.frame import by_column, data_frame
from carrot._display.html import Markup, card, said, shot, table
from carrot._progress import telling
from carrot.classifier.classifier import Classifier
from carrot.classifier.known import training_row
from carrot.data.inputs import PictureLike, as_picture, name_of
from carrot.data.labels import Label
from carrot.edits.effects import Edit, edited
from carrot.edits.flips import Flip, smallest_relabelling
from carrot.explanation.presenting import Presented

if TYPE_CHECKING:
    import pandas

Kind = Literal["removal", "relabelling"]
SHOWN = 10  # steps that are printed or pictured


class FlipStep(NamedTuple):
    """One training picture on the way.

    Attributes:
        training_id: The training picture.
        label: Its class.
        becomes: Its new class; None: it is left out.
        lead: Of the first class over the last, after it.
        prediction: What is predicted after it.
    """

    training_id: str
    label: str
    becomes: str | None
    lead: float
    prediction: str


@dataclass(frozen=True, eq=False, repr=False)
class SmallestFlip(Presented):
    """The fewest training pictures without which, or with other labels, another class would be predicted.

    lam, settings and the weights of the other pictures are held. Each step is the answer of a fit, by group removal.

    Attributes:
        picture: Its name.
        kind: "removal" or "relabelling".
        classes: Names, in the order of the logits.
        predicted: The class as it is.
        becomes: The class after the last step; None: no set was found.
        lead: Of the one over the other, as it is; over the runner-up where no set was found.
        steps: The training pictures, one after the other.
        least: No set of fewer does: proven.
        exact: Up to which size all sets were searched.
        logits: As they are, and after each step.
        emptied: Classes that would be left without a picture.
        is_balanced: Whether the model balances its classes: a real change would weigh the others anew.
        difference: Largest difference of a logit from a real fit without them; None: not measured.
        training_id: Which training picture it is itself; None: none.
    """

    picture: str
    kind: Kind
    classes: tuple[str, ...]
    predicted: str
    becomes: str | None
    lead: float
    steps: tuple[FlipStep, ...]
    least: int
    exact: int
    logits: Float[Tensor, "k C"]
    emptied: tuple[str, ...]
    is_balanced: bool
    difference: float | None
    _image: Image.Image
    _images: tuple[Image.Image | str, ...]
    training_id: str | None = None

    _format = "smallest flip"

    @property
    def is_smallest(self) -> bool:
        """Whether it is proven that no smaller set does."""
        return self.becomes is not None and len(self.steps) == self.least

    def __repr__(self) -> str:
        end = "no flip found" if self.becomes is None else f"{one_line(self.becomes)} by {len(self.steps)}"
        return f"<SmallestFlip of {one_line(self.picture)}: {one_line(self.predicted)}, {end}>"

    def __str__(self) -> str:
        """Return the answer in a sentence, how it was proven, and the steps."""
        lines = [self._sentence, f"  {self._proof}"]
        if self.steps:
            lines.append(f"  as it is, {self.predicted} leads {self.becomes or 'the runner-up'} by {self.lead:.4f}")
        for place, step in enumerate(self.steps[:SHOWN]):
            lines.append(f"    {step.lead:+9.4f}  {self._step(place)}")
        if len(self.steps) > SHOWN:
            lines.append(f"    and {len(self.steps) - SHOWN} more, to {self.steps[-1].lead:+.4f}")
        return "\n".join([*lines, *(f"  {line}" for line in self._notes)])

    @property
    def _sentence(self) -> str:
        n, of = len(self.steps), "removing" if self.kind == "removal" else "relabelling"
        if self.becomes is None:
            return f"{self.picture}: the model says {self.predicted}, and no flip by {of} training pictures was found."
        if self.kind == "removal":
            those = "this one training picture: without it" if n == 1 else f"these {n} training pictures: without them"
        else:
            those = "a new label for one picture" if n == 1 else f"new labels for {n} training pictures"
            those = f"{those}: with {'it' if n == 1 else 'them'}"
        most = "it takes" if self.is_smallest else "it takes no more than"
        return f"{self.picture}: {most} {those} the model says {self.becomes}, not {self.predicted}."

    @property
    def _proof(self) -> str:
        n, removal = len(self.steps), self.kind == "removal"
        if self.becomes is None:
            return f"proven: no fewer than {self.least} do" if removal else "proven: no labels do, of however many"
        steps = f"each step is the answer of {'group removal' if removal else 'a fit with those labels'}"
        if self.difference is not None:
            steps += f"; really fitted again, the last differs by {self.difference:.1e} at most"
        if self.is_smallest and n == 1:
            return f"one is the fewest there can be; {steps}"
        if self.is_smallest:
            how = "all sets were searched" if removal else "what labels do adds up, so sorting shows it"
            fewer = "no single picture does" if n == 2 else f"no {n - 1} or fewer do"
            return f"proven: {fewer} ({how}); {steps}"
        fewer = "no single picture does" if self.least == 2 else f"no {self.least - 1} or fewer do"
        return f"proven: {fewer}, so it takes {self.least} to {n}; {steps}"

    @property
    def _notes(self) -> list[str]:
        notes = [f"{name} would be left without a training picture" for name in self.emptied]
        if self.training_id is not None:
            notes.append(f"the model was fitted on this picture ({self.training_id}), which speaks for its own label")
        if self.is_balanced and self.steps:
            notes.append("the weights of the others are held; a real change balances the classes again")
        return notes

    def _step(self, place: int) -> str:
        step, also = self.steps[place], "and " if place else ""
        if step.becomes is None:
            return f"{also}without {step.training_id} ({step.label})"
        return f"{also}with {step.training_id} labelled {step.becomes}, not {step.label}"

    def _card(self) -> str:
        rows = [
            (
                Markup(shot(image, step.training_id)) if not isinstance(image, str) else image,
                self._step(place),
                step.lead,
                step.prediction,
            )
            for place, (step, image) in enumerate(zip(self.steps[:SHOWN], self._images, strict=True))
        ]
        more = len(self.steps) - SHOWN
        rest = [f"and {more} more; `to_frame` has all"] if more > 0 else []
        first = (Markup(shot(self._image, self.picture)), "as it is", self.lead, self.predicted)
        lead = f"lead over {self.becomes}" if self.becomes else "lead"
        parts = table(["", "training pictures, one after the other", lead, "the model says"], [first, *rows])
        return card("Smallest flip", said(self._sentence, self._proof), parts, said(*rest, *self._notes))

    def to_frame(self) -> "pandas.DataFrame":
        """Return a line for each training picture, in order, as a data frame of pandas (extra ``frames``).

        Raises:
            ImportError: pandas is absent.
        """
        return data_frame(by_column(list(FlipStep._fields), [step._asdict() for step in self.steps]))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "picture": self.picture,
            "by": self.kind,
            "training_id": self.training_id,
            "predicted": self.predicted,
            "becomes": self.becomes,
            "lead": self.lead,
            "size": len(self.steps) if self.becomes is not None else None,
            "at_least": self.least,
            "is_smallest": self.is_smallest,
            "searched_up_to": self.exact,
            "steps": [step._asdict() for step in self.steps],
            "classes": list(self.classes),
            "logits": self.logits.tolist(),
            "emptied": list(self.emptied),
            "classes_are_balanced": self.is_balanced,
            "largest_difference_from_a_fit": self.difference,
        }


def smallest_flip(
    classifier: Classifier,
    picture: PictureLike,
    by: Kind,
    to: Label | None,
    exact: SupportsIndex,
    nodes: SupportsIndex,
    verify: bool,
) -> SmallestFlip:
    """Answer it; see ``Carrot.smallest_flip``."""
    fitted, head = classifier.fitted, classifier.fitted.head
    if by not in ("removal", "relabelling"):
        raise ValueError(f"`by` must be 'removal' or 'relabelling'; got {by!r}.")
    if to is not None and by == "removal":
        raise ValueError("`to` is the new label of pictures: it goes with by='relabelling' alone.")
    label = None if to is None else fitted.class_index(to)
    image = as_picture(picture)
    g = classifier.trace(image).g
    if by == "removal":
        flip = classifier.flips.of(g, exact, nodes, telling("looking at sets of {} training pictures: {} so far"))
    else:
        flip = smallest_relabelling(head, g, label)
    rows, names, own = list(flip.indices), fitted.classes, training_row(fitted, picture, image)
    records = [fitted.records[row] for row in rows]
    other = flip.becomes if flip.becomes is not None else int(flip.logits[0].topk(2).indices[1])
    leads = (flip.logits[:, flip.predicted] - flip.logits[:, other]).tolist()
    steps = tuple(
        FlipStep(
            record.id,
            names[record.label],
            names[flip.labels[k]] if by == "relabelling" else None,
            leads[k + 1],
            names[int(flip.logits[k + 1].argmax())],
        )
        for k, record in enumerate(records)
    )
    return SmallestFlip(
        picture=name_of(picture, 0),
        kind=by,
        classes=names,
        predicted=names[flip.predicted],
        becomes=None if flip.becomes is None else names[flip.becomes],
        lead=leads[0],
        steps=steps,
        least=flip.least,
        exact=int(exact),
        logits=flip.logits,
        emptied=_emptied(classifier, flip),
        is_balanced=fitted.class_weight is not None,
        difference=_difference(classifier, flip, g) if verify and rows else None,
        training_id=None if own is None else fitted.records[own].id,
        _image=_small(image),
        _images=tuple(
            found if isinstance(found, str) else _small(found) for found in map(classifier.find, records[:SHOWN])
        ),
    )


def _small(image: Image.Image) -> Image.Image:
    """Return a copy that is as large as is shown."""
    small = image.convert("RGB")
    small.thumbnail((160, 160))
    return small


def _emptied(classifier: Classifier, flip: Flip) -> tuple[str, ...]:
    """Return the classes that would be left without a training picture."""
    fitted = classifier.fitted
    labels = {row: record.label for row, record in enumerate(fitted.records)}
    for k, row in enumerate(flip.indices):
        if flip.labels:
            labels[row] = flip.labels[k]
        else:
            del labels[row]
    left = set(labels.values())
    return tuple(name for label, name in enumerate(fitted.classes) if label not in left)


def _difference(classifier: Classifier, flip: Flip, g: Float[Tensor, " M"]) -> float:
    """Return the largest difference of the last step's logits from those of a real fit."""
    rows = list(flip.indices)
    edit = Edit(relabel=dict(zip(rows, flip.labels, strict=True))) if flip.labels else Edit(delete=rows)
    return float((edited(classifier.fitted.head, edit).predict(g) - flip.logits[-1]).abs().max())
