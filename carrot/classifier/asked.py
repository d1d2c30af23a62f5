"""What a change of a model's training pictures asks for and what it comes to; refused here, before anything is done."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from carrot._display.brief import brief
from carrot.classifier.fitted import Fitted
from carrot.data.inputs import PictureList
from carrot.data.reporting import warn_of_twins


@dataclass(frozen=True)
class Edits:
    """What to change, all at once or not at all. A picture stands in it once.

    Attributes:
        forget: Ids of training pictures to delete.
        classes: Names of classes to delete whole, with all their pictures.
        relabel: New class by id.
        add: Pictures to add; ids and names of classes are theirs.
        weights: What each of them counts beside its class; default 1.
        new_classes: Whether ``relabel`` and ``add`` may name classes that the model doesn't know.
        imagined: Whether nothing is changed: whole classes can't go then, and no refusal advises it.
    """

    forget: Sequence[str] = ()
    classes: Sequence[str] = ()
    relabel: Mapping[str, str] = field(default_factory=dict)
    add: PictureList | None = None
    weights: Sequence[float] | None = None
    new_classes: bool = False
    imagined: bool = False

    __repr__ = brief


class Asked(NamedTuple):
    """What it comes to.

    Attributes:
        gone: Rows to delete.
        moved: New class by row.
        classes: Names of the classes afterwards, new ones last.
        added_classes: The new ones.
        stay: The rows that stay, ascending.
        labels: Index of the class of each of those, afterwards.
    """

    gone: set[int]
    moved: dict[int, str]
    classes: tuple[str, ...]
    added_classes: tuple[str, ...]
    stay: list[int]
    labels: list[int]


def ids_of(name: str, ids: object) -> list[str]:
    """Return ids of training pictures, one or several, each once.

    Raises:
        TypeError: One is no text.
    """
    found: dict[str, None] = {}
    for one in [ids] if isinstance(ids, str) or not isinstance(ids, Iterable) else ids:
        if not isinstance(one, str):
            raise TypeError(f"`{name}` must be ids of training pictures, as in `records_`; got {one!r}.")
        found[one] = None
    return list(found)


def resolve(fitted: Fitted, edits: Edits) -> Asked:
    """Return what edits come to on a model.

    Raises:
        ValueError: An id or a class is unknown, an id stands in two edits, a class would be left without a picture,
            fewer than two classes would be left, or there is nothing to do.
    """
    place = fitted.places
    gone = _gone(fitted, edits, place)
    moved = _moved(fitted, edits, place, gone)
    if not (gone or moved or edits.add is not None):
        raise ValueError(
            "`ids` must name at least one training picture, or there must be something else to do; got nothing."
        )
    classes, added = _classes(fitted, edits, moved)
    label_of = {name: label for label, name in enumerate(classes)}
    label, stay = fitted.labels.tolist(), [row for row in range(len(fitted.records)) if row not in gone]
    labels = [label_of[moved.get(row, fitted.classes[label[row]])] for row in stay]
    coming = [] if edits.add is None else [label_of[edits.add.classes[record.label]] for record in edits.add.records]
    _refuse_empty(classes, labels + coming, edits.imagined)
    return Asked(gone, moved, classes, added, stay, labels)


def _gone(fitted: Fitted, edits: Edits, place: Mapping[str, int]) -> set[int]:
    """Return the rows to delete."""
    for name in [*edits.forget, *edits.relabel]:
        if name not in place:
            unknown = sum(other not in place for other in [*edits.forget, *edits.relabel])
            such = f" ({unknown} such)" if unknown > 1 else ""
            hint = fitted.hint(name, not edits.imagined)
            raise ValueError(f"{name!r} is no training picture of this model{such}. {hint}")
    wrong = [name for name in edits.classes if name not in fitted.classes]
    if wrong:
        fitted.class_index(wrong[0])  # refuses it, with a hint
    of_class = {fitted.classes.index(name) for name in edits.classes}
    rows = {place[name] for name in edits.forget}
    return rows | {row for row, label in enumerate(fitted.labels.tolist()) if label in of_class} if of_class else rows


def _moved(fitted: Fitted, edits: Edits, place: Mapping[str, int], gone: set[int]) -> dict[int, str]:
    """Return the new class by row."""
    moved = {place[name]: label for name, label in edits.relabel.items()}
    for name, label in edits.relabel.items():
        if fitted.classes[fitted.records[place[name]].label] == label:
            raise ValueError(f"{name!r} is labelled {label!r} already; leave it out.")
        if place[name] in gone:
            raise ValueError(f"{name!r} is to be forgotten and relabelled; ask for one.")
    return moved


def _classes(fitted: Fitted, edits: Edits, moved: Mapping[int, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes after the change, new ones last, and the new ones."""
    given = list(moved.values())
    if edits.add is not None:
        given += [edits.add.classes[record.label] for record in edits.add.records]
    new = tuple(dict.fromkeys(name for name in given if name not in fitted.classes))
    if new and not edits.new_classes:
        fitted.class_names(new, False)  # refuses the first
    back = [name for name in given if name in edits.classes]
    if back:
        raise ValueError(f"Class {back[0]!r} is to be forgotten, and given to a picture; ask for one.")
    classes = (*(name for name in fitted.classes if name not in edits.classes), *new)
    if len(classes) < 2:
        raise ValueError(
            f"At least two classes must be left; got {list(classes)}. There would be nothing to tell apart."
        )
    fitted.labels_of(new)  # an "owl" among whole numbers is refused
    if new:
        warn_of_twins(classes, "the model's classes")
    return classes, new


def _refuse_empty(classes: Sequence[str], labels: Sequence[int], imagined: bool) -> None:
    there = set(labels)
    for label, name in enumerate(classes):
        if label not in there:
            advice = "Leave it at least one" if imagined else f"Forget the class itself: classes=[{name!r}]"
            raise ValueError(f"Class {name!r} would be left without a training picture. {advice}.")
