"""Who looks wrong: labels that the training pictures contradict, near duplicates, and pictures of high leverage."""

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from carrot._display.frame import Table, by_column, chosen, data_frame
from carrot._display.html import Markup, card, said, shot, table
from carrot._display.words import counted, percent
from carrot.classifier.arguing import Argument, argue
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.classifier.held_out import HeldOut, held_out
from carrot.classifier.large import left_out
from carrot.classifier.suspects import Doubt, Suspect, levels, with_worth
from carrot.classifier.twins import Duplicates, Group, hidden_groups, leaks, training_duplicates, training_pairs
from carrot.data.counts import Counts
from carrot.errors import CarrotError
from carrot.explanation.presenting import Presented
from carrot.store.outputs import csv_text

if TYPE_CHECKING:
    import pandas
    from PIL import Image

SHOWN = 20  # of each kind, on a card; and pictures, of all kinds
MEND = (
    "held-out labels are mended in the data, for the model holds none of these pictures: move the file to its right "
    "folder, or correct the table, and measure again (carrot evaluate)"
)


@dataclass(frozen=True, repr=False)
class Audit(Presented):
    """Every training picture, most suspicious label first; pairs that are nearly the same; and pictures held out.

    Attributes:
        suspects: All training pictures, unless ``notes`` say otherwise, most suspicious label first: the order that
            finds most planted wrong labels (``carrot.evaluation.suspicion``).
        duplicates: Pairs of a cosine of at least ``threshold``, highest first.
        threshold: That cosine.
        held_out: Pictures that were not fitted on, in the same order; empty unless they are asked for.
        counts: What became of the pictures that were asked for; None: none were.
        groups: Pictures that hide each other: alone each is believed, left out together they are not.
        leaks: Held-out pictures that nearly are a training picture.
        find: Where pictures are looked for when it is shown: a picture, or why it isn't at hand; None: nowhere.
        case: What ``argue`` asks; None: nobody.
        doubt: What orders pictures, until those held out are there.
        pictures: How many training pictures there are; 0: those that are listed.
        notes: What was left out, for there are so many pictures or classes (``carrot.classifier.large``).
    """

    suspects: tuple[Suspect, ...]
    duplicates: tuple[Duplicates, ...]
    threshold: float
    held_out: tuple[Suspect, ...] = ()
    counts: Counts | None = None
    groups: tuple[Group, ...] = ()
    leaks: tuple[Duplicates, ...] = ()
    find: "Callable[[Suspect], Image.Image | str] | None" = field(default=None, compare=False)
    case: Callable[[Suspect | str], Argument] | None = field(default=None, compare=False)
    doubt: Doubt | None = field(default=None, compare=False)
    pictures: int = 0
    notes: tuple[str, ...] = ()

    _format = "audit"

    def __repr__(self) -> str:
        held_out = f", {len(self.held_out):,} held out" if self.held_out else ""
        of = counted(self._pictures, "training picture") + held_out
        doubtful = (*self.doubtful, *self.held_out_doubtful)
        labels = f"{counted(len(doubtful), 'label')} doubtful" + (f" ({levels(doubtful)})" if doubtful else "")
        pairs, hide = f"{counted(len(self.duplicates), 'pair')} nearly the same", len(self.groups)
        found = [labels, *[f"{counted(hide, 'group')} of hidden ones"] * bool(hide), pairs]
        return f"<Audit of {of}: {', '.join([*found, *[counted(len(self.leaks), 'leak')] * bool(self.leaks)])}>"

    @property
    def _pictures(self) -> int:
        return self.pictures or len(self.suspects)

    @classmethod
    def of(cls, fitted: Fitted, threshold: float = 0.95) -> "Audit":
        """Audit a model's training pictures; exact leave-one-out; one more fit, for their order.

        Raises:
            ValueError: ``threshold`` is not in (0, 1].
        """
        doubt = Doubt(fitted)
        pairs = training_pairs(fitted, threshold)
        return cls(
            with_worth(fitted, doubt.training()),
            training_duplicates(fitted, pairs),
            threshold,
            groups=hidden_groups(fitted, doubt.judged, pairs),
            doubt=doubt,
            pictures=len(fitted.records),
            notes=left_out(fitted, int(doubt.judged.doubtful.sum())),
        )

    def with_held_out(self, fitted: Fitted, found: HeldOut) -> "Audit":
        """Return it with pictures that were not fitted on: their labels against the model, by the same thresholds."""
        doubt = self.doubt or Doubt(fitted)
        found_twice = leaks(fitted, found, self.threshold)
        return replace(self, held_out=doubt.held_out(found), leaks=found_twice, counts=found.counts, doubt=None)

    def argue(self, id: str) -> Argument:
        """Return one training picture's case: who speaks for its label and who against, where, and what a fix is worth.

        Args:
            id: Of the picture.

        Raises:
            ValueError: There is no training picture of that id, or the audit was made of a head alone.
        """
        if self.case is None:
            raise ValueError("`argue` needs the pictures: ask an audit that `Carrot.audit` returned.")
        suspect = next((one for one in self.suspects if one.id == id), None)
        return self.case(id if suspect is None else suspect)

    @property
    def doubtful(self) -> tuple[Suspect, ...]:
        """The training pictures of which the others say another class than the label, most suspicious first."""
        return tuple(suspect for suspect in self.suspects if suspect.is_doubtful)

    @property
    def contradicted(self) -> tuple[Suspect, ...]:
        """Of these, those whose label looks wrong: the others are sure."""
        return tuple(suspect for suspect in self.suspects if suspect.flagged)

    @property
    def uncertain(self) -> tuple[Suspect, ...]:
        """Of these, those whose label may be wrong: the others are no surer than is usual of right labels."""
        return tuple(suspect for suspect in self.doubtful if not suspect.flagged)

    @property
    def held_out_doubtful(self) -> tuple[Suspect, ...]:
        """The held-out pictures of which the model says another class than the label, most suspicious first."""
        return tuple(suspect for suspect in self.held_out if suspect.is_doubtful)

    @property
    def held_out_contradicted(self) -> tuple[Suspect, ...]:
        """Of these, those whose label looks wrong."""
        return tuple(suspect for suspect in self.held_out_doubtful if suspect.flagged)

    @property
    def by_leverage(self) -> tuple[Suspect, ...]:
        """The training pictures, highest leverage first: those that the model could least do without."""
        return tuple(sorted(self.suspects, key=lambda suspect: -(suspect.leverage or 0.0)))

    def to_frame(self, what: str = "suspects") -> "pandas.DataFrame":
        """Return one of its tables as a data frame of pandas (extra ``frames``).

        Args:
            what: "suspects": all training pictures, most suspicious first, then those held out, as ``to_csv`` has them.
                "duplicates": pairs that are nearly the same. "groups": a line for each picture of those that hide
                each other. "leaks": pairs of a training and a held-out picture that are nearly the same.

        Raises:
            ValueError: ``what`` is something else.
            ImportError: pandas is absent.
        """
        tables = {"suspects": self._suspects, "duplicates": self._pairs, "groups": self._groups, "leaks": self._leaks}
        return data_frame(chosen(what, tables))

    def _suspects(self) -> Table:
        return by_column(list(Suspect.__dataclass_fields__), list(map(asdict, (*self.suspects, *self.held_out))))

    def _pairs(self) -> Table:
        return _pair_table(self.duplicates)

    def _leaks(self) -> Table:
        return _pair_table(self.leaks)

    def _groups(self) -> Table:
        rows = [{**asdict(group), "group": k, "id": name} for k, group in enumerate(self.groups) for name in group.ids]
        return by_column(["group", "id", *(n for n in Group.__dataclass_fields__ if n != "ids")], rows)

    def _card(self) -> str:
        parts, left = [said(f"not asked: {note}") for note in self.notes], SHOWN
        for what, found in self._sides():
            some = found[:SHOWN]
            parts.append(said(what, *_more(found)))
            if some:
                parts.append(_suspects_table(some, [self._shot(s) for s in some[:left]]))
                left = max(0, left - len(some))
        if self.held_out_doubtful:
            parts.append(said(MEND))
        if self.groups:
            parts.append(said(f"{_hiding(len(self.groups))} each other's label", *_more(self.groups)))
            parts.append(said(*(f"{', '.join(group.ids)}: {group}" for group in self.groups[:SHOWN])))
        parts.append(said(f"{_pairs(len(self.duplicates))} nearly the same", *_more(self.duplicates)))
        if self.duplicates:
            rows = [(p.first, p.second, p.cosine, p.same_file, *p.labels) for p in self.duplicates[:SHOWN]]
            parts.append(table(["one", "the other", "cosine", "same file", "label", "label"], rows))
        if self.leaks:
            parts.append(said(_leaking(len(self.leaks)), *_more(self.leaks)))
            rows = [(p.first, p.second, p.cosine, p.same_file, *p.labels) for p in self.leaks[:SHOWN]]
            parts.append(table(["training", "held out", "cosine", "same file", "label", "label"], rows))
        return card("Audit", *parts)

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON."""
        counts = Counts(self._pictures).to_dict()
        return {
            **({"left_out": list(self.notes)} if self.notes else {}),
            "threshold": self.threshold,
            "counts": counts,
            "suspects": [asdict(suspect) for suspect in self.suspects],
            "duplicates": [{**asdict(pair), "labels": list(pair.labels)} for pair in self.duplicates],
            "groups": [{**asdict(group), "ids": list(group.ids)} for group in self.groups],
            "leaks": [{**asdict(pair), "labels": list(pair.labels)} for pair in self.leaks],
            "held_out": [asdict(suspect) for suspect in self.held_out],
            "held_out_counts": None if self.counts is None else self.counts.to_dict(),
        }

    def to_csv(self) -> str:
        """Return a line for each picture, most suspicious first; training pictures, then those held out."""
        return csv_text(Suspect.__dataclass_fields__, map(asdict, (*self.suspects, *self.held_out)))

    def _sides(self) -> Iterator[tuple[str, tuple[Suspect, ...]]]:
        """Yield what there is to say of training pictures, and of held-out ones, with those that are doubtful."""
        yield _verdict(self.doubtful, counted(self._pictures, "training label"), "fitted without the picture, ")
        if self.held_out or self.counts is not None:
            yield _verdict(self.held_out_doubtful, counted(len(self.held_out), "held-out label"))

    def _shot(self, suspect: Suspect) -> str:
        found = "" if self.find is None else self.find(suspect)
        return "" if isinstance(found, str) else shot(found, f"the picture {suspect.id}")

    def lines(self, k: int = 20) -> list[str]:
        """Return the k most suspicious of each kind as text: of training labels, held-out labels, and pairs."""
        lines = [f"not asked: {note}" for note in self.notes]
        for what, found in self._sides():
            lines += [what, *_table(found, k)]
        if self.held_out_doubtful:
            lines.append(f"  {MEND}")
        if self.counts is not None:
            lines.append(f"  looked for in {self.counts.line('audited')}")
        if self.groups:
            lines.append(f"{_hiding(len(self.groups))} each other's label")
            lines += _listed([f"{', '.join(group.ids)}: {group}" for group in self.groups], k)
        lines.append(
            f"{_pairs(len(self.duplicates))} nearly the same (cosine >= {self.threshold:g}, and nearer than others of "
            "their kind)"
        )
        lines += _listed([f"{pair.first}   {pair.second}   {pair.note}" for pair in self.duplicates], k)
        if self.leaks:
            lines.append(_leaking(len(self.leaks)))
            lines += _listed([f"{pair.first}   {pair.second}   {pair.note}" for pair in self.leaks], k)
        lines.append(
            "what the model could least do without (leverage: how much a picture's own label counts in what is said of "
            "it)"
        )
        lines += [f"  {s.id:<58} {s.label:<30} leverage {s.leverage:.3f}" for s in self.by_leverage[: min(k, 5)]]
        return lines

    def __str__(self) -> str:
        """Return the most suspicious as text."""
        return "\n".join(self.lines())


def audit(classifier: Classifier, data: Any) -> Audit:
    """Return a model's audit; with ``data``, also of its pictures that were not fitted on; see ``Carrot.audit``."""
    fitted = classifier.fitted
    found, others = Audit.of(fitted), dict[str, Callable[[], "Image.Image"]]()
    if data is not None:
        with TemporaryDirectory(prefix="carrot-") as folder:
            test = held_out(classifier, data, Path(folder))
            found = found.with_held_out(fitted, test)
        others = {test.test.records[place].id: partial(test.test.image, place) for place in test.places}

    def find(suspect: Suspect) -> "Image.Image | str":
        if suspect.split == "train":
            return classifier.find(fitted.records[fitted.row_of(suspect.id)])
        try:
            return others[suspect.id]()
        except (CarrotError, OSError) as error:
            return str(error)

    def case(suspect: Suspect | str) -> Argument:
        if isinstance(suspect, str):
            raise ValueError(f"{suspect!r} is no training picture of this model. {fitted.hint(suspect, False)}")
        return argue(classifier, suspect, found.groups, found.duplicates)

    return replace(found, find=find, case=case, doubt=None)


def _pair_table(pairs: Sequence[Duplicates]) -> Table:
    columns = [name for name in Duplicates.__dataclass_fields__ if name != "labels"]
    rows = [{**asdict(pair), "first_label": pair.labels[0], "second_label": pair.labels[1]} for pair in pairs]
    return by_column([*columns, "first_label", "second_label"], rows)


def _verdict(doubtful: tuple[Suspect, ...], of: str, how: str = "") -> tuple[str, tuple[Suspect, ...]]:
    n = len(doubtful)
    found = f"; {levels(doubtful, True)}" if doubtful else ""
    said_ = f"{how}the model says another class than the label"
    return f"{n or 'none'} of {of} {'is' if n == 1 else 'are'} doubtful: {said_}{found}", doubtful


def _suspects_table(doubtful: Sequence[Suspect], shots: Sequence[str]) -> str:
    heads = ["picture", "labelled", "the model says", "its label", "probability", "margin", "leverage"]
    rows = [(s.id, s.label, s.suggested, s.verdict, percent(s.probability), s.margin, s.leverage) for s in doubtful]
    if not any(shots):
        return table(heads, rows)
    drawn = [*shots, *[""] * (len(rows) - len(shots))]  # who sees it needs its name last, where a phone shows no more
    seen = [(Markup(one), *row[1:], row[0]) for one, row in zip(drawn, rows, strict=True)]
    return table(["", *heads[1:], heads[0]], seen)


def _more(found: Sized) -> list[str]:
    """Return that there are more of them than are shown, if so."""
    return [f"the first {SHOWN}; `to_frame` has all"] if len(found) > SHOWN else []


def _table(doubtful: Sequence[Suspect], k: int) -> list[str]:
    lines = [
        f"  {s.id:<58} {s.verdict:<12}  labelled {s.label} ({percent(s.probability)}), the model says {s.suggested}"
        for s in doubtful[:k]
    ]
    return lines + ([f"  and {len(doubtful) - k} more"] if len(doubtful) > k else [])


def _listed(found: Sequence[str], k: int) -> list[str]:
    return [f"  {one}" for one in found[:k]] + ([f"  and {len(found) - k} more"] if len(found) > k else [])


def _hiding(n: int) -> str:
    return f"{counted(n, 'group')} of training pictures {'hides' if n == 1 else 'hide'}"


def _leaking(n: int) -> str:
    are = "is a training picture" if n == 1 else "are training pictures"
    return f"{counted(n, 'held-out picture')} nearly {are}: what is measured on them is flattered"


def _pairs(n: int) -> str:
    return f"{counted(n, 'pair')} of pictures {'is' if n == 1 else 'are'}"
