"""One suspect argues its case: who speaks for its label and who against, where in the picture, and what a fix is worth.

Every number is of heads that were not fitted on the picture, exactly (``carrot.classifier.review``); nothing is fitted
again.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from carrot._display.brief import one_line
from carrot._display.frame import by_column, data_frame
from carrot._display.html import Markup, beside, card, said, shot, table
from carrot._display.words import percent
from carrot._ridge.settled import Settled
from carrot.classifier.classifier import Classifier
from carrot.classifier.review import Review, Witness
from carrot.classifier.suspects import SURE, UNSURE, Doubt, Suspect
from carrot.classifier.twins import Duplicates, Group, hidden_groups, training_duplicates, training_pairs
from carrot.explanation.presenting import Presented

if TYPE_CHECKING:
    import pandas

WITNESSES = 3
SIDE = 132  # pixels of the longer side of a picture on a card
LINE = (214, 60, 30)  # around the tile that mattered

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Speaker:
    """A training picture that speaks for a label, or against it.

    Attributes:
        id: It.
        label: Its own label.
        effect: How far the lead of the label over the suggestion would fall without it, said without the suspect;
            below 0: it speaks against the label.
        doubtful: Whether its own label is doubtful.
        region: Where in the suspect the pair of regions lies that brings most, in words; None: the tokens are gone.
        training_region: Where in it.
        boxes: Both, as shares of the sides, x0, y0, x1, y1; None: not at hand, or a region is the whole.
    """

    id: str
    label: str
    effect: float
    doubtful: bool
    region: str | None = None
    training_region: str | None = None
    boxes: tuple[Box | None, Box | None] = (None, None)


@dataclass(frozen=True, repr=False)
class Argument(Presented):
    """What there is to say of one training picture's label.

    Attributes:
        suspect: It, as the audit lists it.
        pictures: Training pictures.
        right: How many of them are told right by the heads fitted without them, as it is.
        error: The squared leave-one-out error of all, as it is.
        relabelled: Both, were it labelled as suggested.
        removed: Both, of the others, were it left out.
        for_label: The training pictures that speak most for its label, strongest first.
        against_label: Those that speak most against it, for the suggestion.
        group: Those that it hides with, if it does: alone it is believed for they are there.
        copies: The training pictures that are nearly the same picture, as pairs.
        images: Pictures by id, as found: a picture, or in words why it isn't at hand.
    """

    suspect: Suspect
    pictures: int
    right: int
    error: float
    relabelled: tuple[int, float]
    removed: tuple[int, float]
    for_label: tuple[Speaker, ...]
    against_label: tuple[Speaker, ...]
    group: Group | None = None
    copies: tuple[Duplicates, ...] = ()
    images: "dict[str, Image.Image | str]" = field(default_factory=dict, compare=False)

    _format = "argument"

    def __repr__(self) -> str:
        s = self.suspect
        return f"<Argument: {one_line(s.id)}, labelled {one_line(s.label)}: {s.verdict or 'not doubtful'}>"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return it as text: the verdict first, numbers after."""
        s, lines = self.suspect, self._said()
        for what, found in self._sides(f"for {s.label}", f"against {s.label}, for {s.suggested}"):
            lines.append(f"{what}:" if found else f"{what}: no picture")
            lines += [f"  {one.id:<48} {one.label:<24} {one.effect:+.3f}{_where(one)}" for one in found]
        return [*lines, f"({self._numbers})"]

    def _sides(self, ours: str, theirs: str) -> list[tuple[str, tuple[Speaker, ...]]]:
        """Return who speaks on either side, under its heading, which says where nobody has the label spoken for."""
        s = self.suspect
        sides = ((ours, s.label, s.suggested, self.for_label), (theirs, s.suggested, s.label, self.against_label))
        return [
            (what + f" (none is labelled so: they speak against {other})" * _strangers(found, label), found)
            for what, label, other, found in sides
        ]

    @property
    def _numbers(self) -> str:
        s = self.suspect
        return (
            f"numbers: how far the lead of {s.label} over {s.suggested}, {s.margin:+.3f} now, would fall without that "
            "picture"
        )

    def _said(self) -> list[str]:
        """Return the sentences: the verdict, how unusual that is, and what either fix is worth."""
        s = self.suspect
        verdict = (s.verdict + (SURE if s.flagged else UNSURE)) if s.is_doubtful else "not doubtful"
        says = s.suggested if s.is_doubtful else s.label
        usual = (
            ""
            if s.p_value is None
            else (
                f"; {percent(s.p_value)} of the training pictures have a lead as small or smaller (conformal p-value "
                f"{s.p_value:.4f})"
            )
        )
        hides = [] if self.group is None else [f"{', '.join(self.group.ids)}: {self.group}"]
        told, copies = () if self.group is None else self.group.ids, dict[str, list[str]]()
        for pair in self.copies:
            other = int(pair.first == s.id)
            if (name := (pair.first, pair.second)[other]) not in told:
                copies.setdefault(pair.labels[other], []).append(name)
        same = [f"nearly the same picture as {', '.join(sorted(c))}, labelled {name}" for name, c in copies.items()]
        return [
            f"{s.id} is labelled {s.label}; without it the model says {says}: {verdict}",
            *hides,
            *same,
            f"probability of {s.label}: {percent(s.probability)}{usual}",
            f"relabelled {s.suggested}: {self._worth(*self.relabelled, 0)}",
            f"left out: {self._worth(*self.removed, 1)}",
        ]

    def _worth(self, right: int, error: float, less: int) -> str:
        n, before = self.pictures - less, self.right
        change = 100 * (error / self.error - 1) if self.error else 0.0
        way = "less" if change < 0 else "more"
        more = right - before
        than = f"{abs(more)} {'more' if more > 0 else 'fewer'}" if more else "as many"
        return f"{right:,} of {n:,} right ({than}), squared error {abs(change):.2f} % {way}"

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON."""
        return {
            "suspect": asdict(self.suspect),
            "pictures": self.pictures,
            "now": {"right": self.right, "error": self.error},
            "relabelled": dict(zip(("right", "error"), self.relabelled, strict=True)),
            "removed": dict(zip(("right", "error"), self.removed, strict=True)),
            "for": [asdict(one) for one in self.for_label],
            "against": [asdict(one) for one in self.against_label],
            "group": None if self.group is None else list(self.group.ids),
            "copies": [{**asdict(pair), "labels": list(pair.labels)} for pair in self.copies],
        }

    def to_frame(self) -> "pandas.DataFrame":
        """Return a line for each picture that speaks, as a data frame of pandas (extra ``frames``).

        Raises:
            ImportError: pandas is absent.
        """
        columns = [name for name in Speaker.__dataclass_fields__ if name != "boxes"]
        rows = [
            {"side": side, **asdict(one)}
            for side, found in (("for", self.for_label), ("against", self.against_label))
            for one in found
        ]
        return data_frame(by_column(["side", *columns], rows))

    def _card(self) -> str:
        s, (verdict, *rest) = self.suspect, self._said()
        own = next((one.boxes[0] for one in self.against_label if one.boxes[0]), None)
        parts = [beside(self._shot(s.id, own), f'<div style="flex:1 1 16em">{said(*rest)}</div>')]
        for what, found in self._sides(f"For {s.label}", f"Against, for {s.suggested}"):
            rows = [
                (Markup(self._shot(s.id, one.boxes[0], 72) + " " + self._shot(one.id, one.boxes[1], 72)),
                 f"{one.effect:+.3f}", one.label + " (doubtful itself)" * one.doubtful, one.id)
                for one in found
            ]  # fmt: skip
            heads = ["tiles, here and there", "lead falls by", "labelled", "picture"]
            parts.append(said(what) + table(heads, rows) if rows else said(f"{what}: no picture"))
        return card(verdict, *parts, said(self._numbers))

    def _shot(self, name: str, box: Box | None, side: int = SIDE) -> str:
        found = self.images.get(name)
        if not isinstance(found, Image.Image):
            return ""
        small = found.convert("RGB")
        small.thumbnail((2 * side, 2 * side))
        if box is not None:
            w, h = small.size
            ImageDraw.Draw(small).rectangle(
                (box[0] * w, box[1] * h, box[2] * w - 1, box[3] * h - 1), outline=LINE, width=max(2, side // 24)
            )
        return shot(small, f"the picture {name}", side)


def case_of(classifier: Classifier, name: str, threshold: float = 0.95) -> Argument:
    """Return what there is to say of the label of a training picture, given by its id: as the audit's ``argue`` has it.

    Raises:
        ValueError: There is none of that id, or ``threshold`` is not in (0, 1].
    """
    fitted = classifier.fitted
    known, doubt = fitted.records[fitted.row_of(name)].id, Doubt(fitted)
    suspect = next(one for one in doubt.training() if one.id == known)
    pairs = training_pairs(fitted, threshold)
    groups = hidden_groups(fitted, doubt.judged, pairs)
    return argue(classifier, suspect, groups, training_duplicates(fitted, pairs))


def argue(
    classifier: Classifier, suspect: Suspect, groups: Sequence[Group], duplicates: Sequence[Duplicates]
) -> Argument:
    """Return what there is to say of a training picture's label, given what hides and is doubled; ``Audit.argue``."""
    fitted = classifier.fitted
    row, records = fitted.row_of(suspect.id), fitted.records
    review = Review(fitted)
    against, ours = review.witnesses(row, suspect.suggested, suspect.label, WITNESSES)
    doubtful = review.opinion(row).doubtful
    rows = (row, *(one.row for one in (*ours, *against)))
    images: dict[int, Image.Image | str] = {i: classifier.find(records[i]) for i in rows}

    def speakers(found: Sequence[Witness], target: str, other: str, sign: float) -> tuple[Speaker, ...]:
        return tuple(
            Speaker(
                records[one.row].id,
                fitted.classes[records[one.row].label],
                sign * one.effect,
                one.row in doubtful,
                *_pair(classifier, review, row, one.row, images, target, other),
            )
            for one in found
        )

    settled = Settled.of(fitted.head, [row], [fitted.class_index(suspect.suggested)])
    return Argument(
        suspect,
        len(records),
        settled.right,
        settled.error,
        (int(settled.relabelled_right[0]), float(settled.relabelled[0])),
        (int(settled.removed_right[0]), float(settled.removed[0])),
        speakers(ours, suspect.label, suspect.suggested, -1.0),
        speakers(against, suspect.suggested, suspect.label, -1.0),
        next((group for group in groups if suspect.id in group.ids), None),
        tuple(pair for pair in duplicates if suspect.id in (pair.first, pair.second)),
        {records[i].id: found for i, found in images.items()},
    )


def _pair(
    classifier: Classifier,
    review: Review,
    row: int,
    other: int,
    images: dict[int, Image.Image | str],
    target: str,
    against: str,
) -> tuple[str | None, str | None, tuple[Box | None, Box | None]]:
    """Return where the pair of regions lies that brings most: in words, and the boxes."""
    pair = review.strongest_pair(classifier, row, {i: images[i] for i in (row, other)}, target, against)
    if pair is None:
        return None, None, (None, None)
    places, regions = classifier.region_places, (pair.region, pair.training_region)
    boxes = tuple(_box(classifier, images[i], r) for i, r in zip((row, other), regions, strict=True))
    return places[regions[0]], places[regions[1]], (boxes[0], boxes[1])


def _box(classifier: Classifier, found: Image.Image | str, region: int) -> Box | None:
    if isinstance(found, str):
        return None
    boxes = classifier.encoder.view.boxes(found.size, classifier.fitted.setting.coarsen)
    if region >= len(boxes):
        return None
    (wide, high), (x0, y0, x1, y1) = found.size, boxes[region].tolist()
    return x0 / wide, y0 / high, x1 / wide, y1 / high


def _where(one: Speaker) -> str:
    if one.region is None:
        return ""
    return f"   {one.region} with {one.training_region} there" + ", doubtful itself" * one.doubtful


def _strangers(found: Sequence[Speaker], label: str) -> bool:
    return bool(found) and all(one.label != label for one in found)
