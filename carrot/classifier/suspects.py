"""Pictures whose label is doubtful, in words: each judged by a head that was not fitted on it, at two levels.

All that names a label doubtful (audit, desk, explorer, report, pages) takes it from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from carrot.classifier.fitted import Fitted
from carrot.classifier.held_out import HeldOut
from carrot.evaluation.suspects import LabelSuspects, label_suspects

LOOKS, MAY = "looks wrong", "may be wrong"  # the two levels of doubt, in the words of every command and page
SURE, UNSURE = " (sure of the other class)", " (no surer than of some right labels)"  # what they mean


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

    @property
    def is_doubtful(self) -> bool:
        """Whether the others say another class than its label; every flagged label is."""
        return self.margin < 0

    @property
    def verdict(self) -> str:
        """How doubtful its label is: "looks wrong" (flagged), "may be wrong", or "" where the others agree."""
        return level(self.is_doubtful, self.flagged)


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


def level(is_doubtful: bool, is_flagged: bool) -> str:
    """Return in words how doubtful a label is; "": it isn't."""
    return (LOOKS if is_flagged else MAY) * is_doubtful


def levels(doubtful: Sequence[Suspect], explained: bool = False) -> str:
    """Return how many of doubtful labels are of which level, "3 look wrong, 2 may be wrong"; or what that means too."""
    wrong = sum(suspect.flagged for suspect in doubtful)
    counts = [(wrong, LOOKS if wrong == 1 else "look wrong", SURE), (len(doubtful) - wrong, MAY, UNSURE)]
    return ", ".join(f"{n} {word}{meaning * explained}" for n, word, meaning in counts if n)
