"""Who looks wrong: labels that the training pictures contradict, near duplicates, and pictures of high leverage."""

from collections.abc import Sequence, Sized
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from carrot._display.frame import Table, by_column, chosen, data_frame
from carrot._display.html import card, said, table
from carrot._display.words import counted, percent
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.classifier.held_out import HeldOut, held_out
from carrot.data.counts import Counts
from carrot.evaluation.duplicates import near_duplicates
from carrot.evaluation.suspects import LabelSuspects, label_suspects
from carrot.explanation.presenting import Presented
from carrot.store.outputs import csv_text

if TYPE_CHECKING:
    import pandas

SHOWN = 20  # of each kind, on a card


@dataclass(frozen=True)
class Suspect:
    """A picture as a head that was not fitted on it sees it: of a training picture, the head fitted without it.

    Attributes:
        id: The picture.
        label: Its label.
        suggested: The class that the others say.
        margin: Logit of its label less the best other one.
        probability: Of its label.
        leverage: How much its own label counts in its own logits, when it is there; None: it was not fitted on.
        flagged: Whether the others contradict the label: ``carrot.evaluation.suspects``, equation (5).
        split: "train", or "test": it was not fitted on.
    """

    id: str
    label: str
    suggested: str
    margin: float
    probability: float
    leverage: float | None
    flagged: bool
    split: str = "train"


@dataclass(frozen=True)
class Duplicates:
    """Two training pictures that are nearly the same to the model.

    Attributes:
        first: One.
        second: The other.
        cosine: Of their embeddings around the mean; 1 for copies.
        same_file: Whether their content has the same SHA-256.
        labels: Of both.
    """

    first: str
    second: str
    cosine: float
    same_file: bool
    labels: tuple[str, str]


@dataclass(frozen=True, repr=False)
class Audit(Presented):
    """Every training picture, most suspicious label first; pairs that are nearly the same; and pictures held out.

    Attributes:
        suspects: All training pictures, least probable own label first: the order that finds most planted wrong labels.
        duplicates: Pairs of a cosine of at least ``threshold``, highest first.
        threshold: That cosine.
        held_out: Pictures that were not fitted on, in the same order; empty unless they are asked for.
        counts: What became of the pictures that were asked for; None: none were.
    """

    suspects: tuple[Suspect, ...]
    duplicates: tuple[Duplicates, ...]
    threshold: float
    held_out: tuple[Suspect, ...] = ()
    counts: Counts | None = None

    _format = "audit"

    def __repr__(self) -> str:
        held_out = f", {len(self.held_out):,} held out" if self.held_out else ""
        of = counted(len(self.suspects), "training picture") + held_out
        wrong = len(self.contradicted) + len(self.held_out_contradicted)
        pairs = counted(len(self.duplicates), "pair")
        return f"<Audit of {of}: {counted(wrong, 'label')} contradicted, {pairs} nearly the same>"

    @classmethod
    def of(cls, fitted: Fitted, threshold: float = 0.95) -> "Audit":
        """Audit a model's training pictures; exact leave-one-out, nothing is fitted again.

        Raises:
            ValueError: ``threshold`` is not in (0, 1].
        """
        head, names, records = fitted.head, fitted.classes, fitted.records
        suspects = training_suspects(fitted)
        pairs = near_duplicates(head.G, threshold)
        duplicates = tuple(
            Duplicates(
                records[i].id,
                records[j].id,
                cosine,
                records[i].sha256 == records[j].sha256,
                (names[records[i].label], names[records[j].label]),
            )
            for i, j, cosine in pairs
        )
        return cls(suspects, duplicates, threshold)

    def with_held_out(self, fitted: Fitted, found: HeldOut) -> "Audit":
        """Return it with pictures that were not fitted on: their labels against the model, by the same thresholds."""
        return replace(self, held_out=held_out_suspects(fitted, found), counts=found.counts)

    @property
    def contradicted(self) -> tuple[Suspect, ...]:
        """The training pictures whose label the others contradict."""
        return tuple(suspect for suspect in self.suspects if suspect.flagged)

    @property
    def uncertain(self) -> tuple[Suspect, ...]:
        """The other training pictures of which the others say another class, if no surer than is usual of these."""
        return tuple(suspect for suspect in self.suspects if suspect.margin < 0 and not suspect.flagged)

    @property
    def held_out_contradicted(self) -> tuple[Suspect, ...]:
        """The held-out pictures whose label the model contradicts."""
        return tuple(suspect for suspect in self.held_out if suspect.flagged)

    @property
    def by_leverage(self) -> tuple[Suspect, ...]:
        """The training pictures, highest leverage first: those that the model could least do without."""
        return tuple(sorted(self.suspects, key=lambda suspect: -(suspect.leverage or 0.0)))

    def to_frame(self, what: str = "suspects") -> "pandas.DataFrame":
        """Return one of its tables as a data frame of pandas (extra ``frames``).

        Args:
            what: "suspects": all training pictures, most suspicious first, then those held out, as ``to_csv`` has them.
                "duplicates": pairs that are nearly the same.

        Raises:
            ValueError: ``what`` is something else.
            ImportError: pandas is absent.
        """
        return data_frame(chosen(what, {"suspects": self._suspects, "duplicates": self._duplicates}))

    def _suspects(self) -> Table:
        return by_column(list(Suspect.__dataclass_fields__), list(map(asdict, (*self.suspects, *self.held_out))))

    def _duplicates(self) -> Table:
        columns = [name for name in Duplicates.__dataclass_fields__ if name != "labels"]
        rows = [
            {**asdict(pair), "first_label": pair.labels[0], "second_label": pair.labels[1]} for pair in self.duplicates
        ]
        return by_column([*columns, "first_label", "second_label"], rows)

    def _card(self) -> str:
        wrong, held = self.contradicted, self.held_out_contradicted
        of = f"of {counted(len(self.suspects), 'label')}"
        lines = [f"{len(wrong)} {of} {_look(len(wrong))} wrong: the other training pictures say another class"]
        lines += _more(wrong)
        parts = [said(*lines), _suspects_table(wrong) if wrong else ""]
        if self.held_out:
            parts += [said(self._held_out_line, *_more(held)), _suspects_table(held) if held else ""]
        parts.append(said(f"{_pairs(len(self.duplicates))} nearly the same", *_more(self.duplicates)))
        if self.duplicates:
            rows = [(p.first, p.second, p.cosine, p.same_file, *p.labels) for p in self.duplicates[:SHOWN]]
            parts.append(table(["one", "the other", "cosine", "same file", "label", "label"], rows))
        return card("Audit", *parts)

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON."""
        counts = Counts(len(self.suspects)).to_dict()
        return {
            "threshold": self.threshold,
            "counts": counts,
            "suspects": [asdict(suspect) for suspect in self.suspects],
            "duplicates": [{**asdict(pair), "labels": list(pair.labels)} for pair in self.duplicates],
            "held_out": [asdict(suspect) for suspect in self.held_out],
            "held_out_counts": None if self.counts is None else self.counts.to_dict(),
        }

    def to_csv(self) -> str:
        """Return a line for each picture, most suspicious first; training pictures, then those held out."""
        return csv_text(Suspect.__dataclass_fields__, map(asdict, (*self.suspects, *self.held_out)))

    @property
    def _held_out_line(self) -> str:
        n = len(self.held_out_contradicted)
        of = counted(len(self.held_out), "held-out picture")
        return f"{n} of {of} {'has' if n == 1 else 'have'} a label that looks wrong: the model says another class"

    def lines(self, k: int = 20) -> list[str]:
        """Return the k most suspicious of each kind as text."""
        wrong, unsure = self.contradicted, self.uncertain
        of = f"of {counted(len(self.suspects), 'training label')}"
        lines = [
            f"{len(wrong)} {of} {_look(len(wrong))} wrong: the other pictures say another class, and are sure of it "
            "(each is judged by the model fitted without it)",
            *_table(wrong, k, "the others say"),
        ]
        if unsure:
            lines.append(
                f"{len(unsure)} more may be wrong: the others say another class, but no surer than they are of some "
                "right labels of these classes"
            )
            lines += _table(unsure, max(k - len(wrong), 0), "the others say")
        if self.counts is not None:
            lines += [
                self._held_out_line,
                *_table(self.held_out_contradicted, k, "the model says"),
                f"  looked for in {self.counts.line('audited')}",
            ]
        lines.append(
            f"{_pairs(len(self.duplicates))} nearly the same (cosine >= {self.threshold:g}, and nearer than others of "
            "their kind)"
        )
        for pair in self.duplicates[:k]:
            note = "the same file" if pair.same_file else f"cosine {pair.cosine:.4f}"
            note += "" if pair.labels[0] == pair.labels[1] else f", labelled {pair.labels[0]} and {pair.labels[1]}"
            lines.append(f"  {pair.first}   {pair.second}   {note}")
        if len(self.duplicates) > k:
            lines.append(f"  and {len(self.duplicates) - k} more")
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
    found = Audit.of(classifier.fitted)
    if data is None:
        return found
    with TemporaryDirectory(prefix="carrot-") as folder:
        return found.with_held_out(classifier.fitted, held_out(classifier, data, Path(folder)))


def judged_by_others(fitted: Fitted) -> LabelSuspects:
    """Return the training pictures as the heads fitted without them see their labels.

    It is decided here alone who is flagged.
    """
    return label_suspects(fitted.head.loo_predict(), fitted.labels, fitted.temperature)


def training_suspects(fitted: Fitted) -> tuple[Suspect, ...]:
    """Return a model's training pictures, most suspicious label first."""
    ids = [record.id for record in fitted.records]
    return _suspects(judged_by_others(fitted), fitted, ids, fitted.labels.tolist(), fitted.head.leverage.tolist())


def held_out_suspects(fitted: Fitted, found: HeldOut) -> tuple[Suspect, ...]:
    """Return pictures that were not fitted on, most suspicious label first; thresholds are the training pictures'."""
    logits = fitted.head.predict(found.cache.embed(found.places, fitted.setting))
    judged = label_suspects(logits, found.labels, fitted.temperature, judged_by_others(fitted).thresholds)
    return _suspects(judged, fitted, [found.test.records[place].id for place in found.places], found.labels.tolist())


def _suspects(
    found: LabelSuspects,
    fitted: Fitted,
    ids: Sequence[str],
    labels: Sequence[int],
    leverage: Sequence[float] | None = None,
) -> tuple[Suspect, ...]:
    """Return a line for each picture, least probable own label first; without ``leverage`` they were not fitted on."""
    names = fitted.classes
    return tuple(
        Suspect(
            ids[i],
            names[labels[i]],
            names[int(found.suggested[i])],
            float(found.margin[i]),
            float(found.self_confidence[i]),
            None if leverage is None else leverage[i],
            bool(found.flagged[i]),
            "test" if leverage is None else "train",
        )
        for i in found.order("self_confidence").tolist()
    )


def _suspects_table(wrong: Sequence[Suspect]) -> str:
    rows = [(s.id, s.label, s.suggested, s.margin, s.probability, s.leverage) for s in wrong[:SHOWN]]
    return table(["picture", "labelled", "the others say", "margin", "probability", "leverage"], rows)


def _more(found: Sized) -> list[str]:
    """Return that there are more of them than are shown, if so."""
    return [f"the first {SHOWN}; `to_frame` has all"] if len(found) > SHOWN else []


def _table(wrong: Sequence[Suspect], k: int, who: str) -> list[str]:
    lines = [f"  {s.id:<58} labelled {s.label} ({percent(s.probability)}), {who} {s.suggested}" for s in wrong[:k]]
    return lines + ([f"  and {len(wrong) - k} more"] if len(wrong) > k else [])


def _look(n: int) -> str:
    return "looks" if n == 1 else "look"


def _pairs(n: int) -> str:
    return f"{counted(n, 'pair')} of pictures {'is' if n == 1 else 'are'}"
