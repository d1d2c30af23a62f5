"""Who looks wrong among the training pictures: labels that the others contradict, near duplicates, and pictures of high leverage."""

import csv
import io
from dataclasses import asdict, dataclass

from carrot.evaluation.audit import near_duplicates
from carrot.evaluation.suspects import label_suspects
from carrot.fitted import Fitted


@dataclass(frozen=True)
class Suspect:
    """A training picture as the head fitted without it sees it.

    Attributes:
        id: The picture.
        label: Its label.
        suggested: The class that the others say.
        margin: Logit of its label less the best other one; below 0 the others contradict the label.
        probability: Of its label.
        leverage: How much its own label counts in its own logits, when it is there.
    """

    id: str
    label: str
    suggested: str
    margin: float
    probability: float
    leverage: float


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


@dataclass(frozen=True)
class Audit:
    """Every training picture, most suspicious label first; and pairs that are nearly the same.

    Attributes:
        suspects: All training pictures, least probable own label first: the order that finds most planted wrong labels.
        duplicates: Pairs of a cosine of at least ``threshold``, highest first.
        threshold: That cosine.
    """

    suspects: tuple[Suspect, ...]
    duplicates: tuple[Duplicates, ...]
    threshold: float

    @classmethod
    def of(cls, fitted: Fitted, threshold: float = 0.95) -> "Audit":
        """Audit a model's training pictures; exact leave-one-out, nothing is fitted again.

        Raises:
            ValueError: ``threshold`` is not in (0, 1].
        """
        head, names, records = fitted.head, fitted.classes, fitted.records
        found = label_suspects(head.loo_predict(), fitted.labels, fitted.temperature)
        leverage = head.leverage
        suspects = tuple(
            Suspect(
                records[i].id,
                names[records[i].label],
                names[int(found.suggested[i])],
                float(found.margin[i]),
                float(found.self_confidence[i]),
                float(leverage[i]),
            )
            for i in found.order("self_confidence").tolist()
        )
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

    @property
    def contradicted(self) -> tuple[Suspect, ...]:
        """The pictures whose label is not what the others say."""
        return tuple(suspect for suspect in self.suspects if suspect.margin < 0)

    @property
    def by_leverage(self) -> tuple[Suspect, ...]:
        """The same pictures, highest leverage first: those that the model could least do without."""
        return tuple(sorted(self.suspects, key=lambda suspect: -suspect.leverage))

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON."""
        return {
            "threshold": self.threshold,
            "suspects": [asdict(suspect) for suspect in self.suspects],
            "duplicates": [{**asdict(pair), "labels": list(pair.labels)} for pair in self.duplicates],
        }

    def to_csv(self) -> str:
        """Return a line for each training picture, most suspicious first."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(Suspect.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(suspect) for suspect in self.suspects)
        return text.getvalue()

    def lines(self, k: int = 20) -> list[str]:
        """Return the k most suspicious of each kind as text."""
        wrong = self.contradicted
        lines = [
            f"{len(wrong)} of {len(self.suspects)} labels are contradicted by the other training pictures (exact leave-one-out)"
        ]
        lines += [
            f"  {s.id:<58} labelled {s.label}, others say {s.suggested}   margin {s.margin:+.3f}   p {s.probability:.3f}"
            for s in wrong[:k]
        ]
        lines.append(f"{len(self.duplicates)} pairs are nearly the same (cosine >= {self.threshold:g})")
        for pair in self.duplicates[:k]:
            note = "the same file" if pair.same_file else f"cosine {pair.cosine:.4f}"
            note += "" if pair.labels[0] == pair.labels[1] else f", labelled {pair.labels[0]} and {pair.labels[1]}"
            lines.append(f"  {pair.first}   {pair.second}   {note}")
        lines.append("highest leverage: their own label decides their own logits most")
        lines += [f"  {s.id:<58} {s.label:<30} leverage {s.leverage:.3f}" for s in self.by_leverage[: min(k, 5)]]
        return lines

    def __str__(self) -> str:
        """Return the most suspicious as text."""
        return "\n".join(self.lines())
