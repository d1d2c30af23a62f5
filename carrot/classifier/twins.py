"""Pictures that are nearly the same: two of training, one of training and one held out, and groups with a wrong label.

Copies with the same wrong label hide each other: leave one out, and the others still say it. Left out together, by the
group formula (``carrot._ridge.vouching``), they are told what the rest says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from carrot._display.words import counted, percent
from carrot._ridge.vouching import Among, merged
from carrot.classifier.fitted import Fitted
from carrot.classifier.held_out import HeldOut
from carrot.classifier.large import GROUPED, compares_all, copies
from carrot.classifier.suspects import level
from carrot.evaluation.duplicates import near_copies, near_duplicates
from carrot.evaluation.suspects import LabelSuspects, label_suspects

TIED = 0.1  # from which two pictures are taken to vouch for each other


@dataclass(frozen=True)
class Duplicates:
    """Two training pictures that are nearly the same to the model.

    Attributes:
        first: One.
        second: The other; of a leak the held-out one.
        cosine: Of their embeddings around the mean; 1 for copies.
        same_file: Whether their content has the same SHA-256.
        labels: Of both.
    """

    first: str
    second: str
    cosine: float
    same_file: bool
    labels: tuple[str, str]

    @property
    def note(self) -> str:
        """What they share, in words, and their labels where these differ."""
        same = "the same file" if self.same_file else f"cosine {self.cosine:.4f}"
        return same + ("" if self.labels[0] == self.labels[1] else f", labelled {self.labels[0]} and {self.labels[1]}")


@dataclass(frozen=True)
class Group:
    """Training pictures of one label that vouch for each other, and of which the others say another class.

    Attributes:
        ids: The pictures.
        label: Of all of them.
        suggested: The class that the head fitted without all of them says of each.
        probability: Of their label, said by that head; the highest.
        flagged: Whether that head contradicts the label of each (``carrot.evaluation.suspects``, equation (5)).
        alone: How many of them aren't doubtful when they are left out one at a time: what hid them.
    """

    ids: tuple[str, ...]
    label: str
    suggested: str
    probability: float
    flagged: bool
    alone: int

    def __str__(self) -> str:
        n = len(self.ids)
        believed = "each is" if self.alone == n else counted(self.alone, "is", "are")
        return (
            f"these {n} say {self.label} of each other; without {'both' if n == 2 else f'all {n}'} the model says "
            f"{self.suggested} ({self.label} at most {percent(self.probability)}): {level(True, self.flagged)}. "
            f"Left out one at a time, {believed} believed"
        )


def training_pairs(fitted: Fitted, threshold: float) -> list[tuple[int, int, float]]:
    """Return the pairs of training pictures that are nearly the same; of too many pictures, copies alone.

    Raises:
        ValueError: ``threshold`` is not in (0, 1].
    """
    if compares_all(fitted):
        return near_duplicates(fitted.head.G, threshold, fitted.head.gram)
    return copies(fitted)


def training_duplicates(fitted: Fitted, pairs: Sequence[tuple[int, int, float]]) -> tuple[Duplicates, ...]:
    """Return pairs of training pictures, as ``near_duplicates`` found them, in words."""
    names, records = fitted.classes, fitted.records
    return tuple(
        Duplicates(
            records[i].id,
            records[j].id,
            cosine,
            records[i].sha256 == records[j].sha256,
            (names[records[i].label], names[records[j].label]),
        )
        for i, j, cosine in pairs
    )


def leaks(fitted: Fitted, found: HeldOut, threshold: float) -> tuple[Duplicates, ...]:
    """Return the held-out pictures that nearly are a training picture, each with the nearest, same files first."""
    if not found.places:
        return ()
    names, records, G = fitted.classes, fitted.records, fitted.head.G
    near, cosines, rows = near_copies(G, found.cache.embed(found.places, fitted.setting).to(G), threshold)
    by_content = {record.sha256: row for row, record in enumerate(records)}
    pairs = []
    for place, label, is_near, cosine, row in zip(
        found.places, found.labels.tolist(), near.tolist(), cosines.tolist(), rows.tolist(), strict=True
    ):
        same = by_content.get(found.cache.sha256[place])
        if same is None and not is_near:
            continue
        there = records[row if same is None else same]
        labels = (names[there.label], names[label])
        pairs.append(Duplicates(there.id, found.test.records[place].id, min(cosine, 1.0), same is not None, labels))
    return tuple(sorted(pairs, key=lambda pair: (not pair.same_file, -pair.cosine)))


def hidden_groups(fitted: Fitted, judged: LabelSuspects, pairs: Sequence[tuple[int, int, float]]) -> tuple[Group, ...]:
    """Return the groups that hide each other, least probable label first.

    Candidates are the groups that near duplicates of one label form, and pictures of one class that are tied by
    ``TIED`` or more, as pairs join them, the strongest first; not more than half of a class, of which too little would
    be left to be said. Of groups within each other the largest is told. Classes of over ``GROUPED`` pictures are passed
    over.

    Args:
        fitted: The model.
        judged: Its training pictures, each left out alone.
        pairs: Near duplicates.
    """
    head, labels, names = fitted.head, fitted.labels, fitted.classes
    found: list[Group] = []
    members = [
        member
        for member in labels.argsort(stable=True).split(torch.bincount(labels).tolist())
        if 4 <= len(member) <= GROUPED  # half of less is no group
    ]
    alike: dict[int, list[tuple[int, int, float]]] = {}
    for i, j, cosine in pairs:
        if labels[i] == labels[j]:
            alike.setdefault(int(labels[i]), []).append((i, j, 1.0 + cosine))
    each = head.slack_within(members) if head.is_dual else map(head.slack_among, members)  # one at a time in memory
    for member, Q in zip(members, each, strict=True):
        rows, c = member.tolist(), int(labels[member[0]])
        among = Among(head, rows, Q)
        ties = alike.get(c, []) + among.tied(TIED)
        told = set[int]()
        for group in reversed(merged(ties)):
            at = torch.tensor(group)
            alone = int((judged.margin[at] >= 0).sum())
            if not alone or 2 * len(group) > len(rows) or told & set(group):
                continue
            others = label_suspects(among.without(group), labels[at], fitted.temperature, judged.thresholds)
            if not bool(others.doubtful.all()) or len(set(others.suggested.tolist())) > 1:
                continue
            told |= set(group)
            found.append(
                Group(
                    tuple(fitted.records[row].id for row in group),
                    names[c],
                    names[int(others.suggested[0])],
                    float(others.self_confidence.max()),
                    bool(others.flagged.all()),
                    alone,
                )
            )
    return tuple(sorted(found, key=lambda group: group.probability))
