"""Pictures whose label is doubtful, in words: each judged by a head that was not fitted on it, at two levels.

All that names a label doubtful (audit, desk, explorer, report, pages) takes it from here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ridge.settled import Settled
from carrot.classifier.fitted import Fitted
from carrot.classifier.held_out import HeldOut
from carrot.classifier.large import has_clouds, knows_worth, listed
from carrot.evaluation.suspects import LabelSuspects, label_suspects
from carrot.evaluation.suspicion import ClassClouds, belief

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
        suspicion: How much nearer the best other class is than that of its label, once doubtful labels count less:
            ``carrot.evaluation.suspicion``, equation (6). Lists have the highest first.
        p_value: Conformal, of its label: ``carrot.evaluation.suspects``, equation (7); None: it was not fitted on.
        relabel_right, relabel_error: How many more training pictures the heads fitted without them would tell right,
            and by how much their mean squared error would change, were it labelled as suggested; None: not doubtful, or
            not fitted on.
        remove_right, remove_error: The same, of the others, were it left out.
    """

    id: str
    label: str
    suggested: str
    margin: float
    probability: float
    leverage: float | None
    flagged: bool
    split: str = "train"
    suspicion: float = 0.0
    p_value: float | None = None
    relabel_right: int | None = None
    relabel_error: float | None = None
    remove_right: int | None = None
    remove_error: float | None = None

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
    return fitted.left_out.suspects(fitted.temperature)


def doubted(fitted: Fitted, rows: Sequence[int]) -> dict[int, str]:
    """Return what the others say of those of some training pictures whose label is doubtful, by row.

    Of so many pictures that their leave-one-out logits aren't held, the class that the others think likeliest.
    """
    places: Sequence[int] = range(len(rows))
    if fitted.left_out.is_held:
        judged, places = judged_by_others(fitted), rows
    else:
        never = torch.full((len(fitted.classes),), torch.inf, dtype=torch.float64)
        judged = label_suspects(fitted.left_out.of(rows), fitted.labels[list(rows)], fitted.temperature, never)
    each = zip(rows, places, strict=True)
    return {row: fitted.classes[int(judged.suggested[at])] for row, at in each if bool(judged.doubtful[at])}


class Doubt:
    """A model's training pictures as the heads fitted without them see their labels, and how to order any pictures.

    Args:
        fitted: The model.

    Attributes:
        judged: The training pictures, by the model's own leave-one-out.
        suspicion: Of them, in the order of the model; of too many classes (``carrot.classifier.large``) how far
            another class leads over the label.
    """

    def __init__(self, fitted: Fitted) -> None:
        self._fitted, head, labels = fitted, fitted.head, fitted.labels
        self._clouds: ClassClouds | None = None
        self.judged = judged_by_others(fitted)
        if not has_clouds(fitted):
            self.suspicion = -self.judged.margin
            return
        loo = head.loo_predict()
        w = belief(loo, labels, fitted.temperature)
        self._again = head.reweighted(head.sample_weight * w)
        loo = self._again.loo_predict()
        self._clouds = ClassClouds.of(loo, labels, w)
        self.suspicion = self._clouds.suspicion(loo, labels, w)

    def training(self) -> tuple[Suspect, ...]:
        """Return the training pictures that are listed, most suspicious label first."""
        fitted, leverage = self._fitted, self._fitted.head.leverage
        rows = listed(fitted, self.judged.doubtful, leverage)
        order = rows[torch.argsort(-self.suspicion[rows], stable=True)].tolist()
        return _suspects(
            fitted, self.judged, self.suspicion, order, lambda i: fitted.records[i].id, fitted.labels, leverage
        )

    def held_out(self, found: HeldOut) -> tuple[Suspect, ...]:
        """Return pictures that were not fitted on, most suspicious first; thresholds are the training pictures'."""
        fitted, labels = self._fitted, found.labels
        g = found.cache.embed(found.places, fitted.setting)
        judged = label_suspects(fitted.head.predict(g), labels, fitted.temperature, self.judged.thresholds)
        clouds = self._clouds
        suspicion = -judged.margin if clouds is None else clouds.suspicion(self._again.predict(g), labels)
        order, records = torch.argsort(-suspicion, stable=True).tolist(), found.test.records
        return _suspects(fitted, judged, suspicion, order, lambda i: records[found.places[i]].id, labels)


def training_suspects(fitted: Fitted) -> tuple[Suspect, ...]:
    """Return a model's training pictures, most suspicious label first."""
    return Doubt(fitted).training()


def held_out_suspects(fitted: Fitted, found: HeldOut) -> tuple[Suspect, ...]:
    """Return pictures that were not fitted on, most suspicious label first; thresholds are the training pictures'."""
    return Doubt(fitted).held_out(found)


def _suspects(
    fitted: Fitted,
    found: LabelSuspects,
    suspicion: Float[Tensor, " m"],
    order: Sequence[int],
    id_of: Callable[[int], str],
    labels: Int[Tensor, " m"],
    leverage: Float[Tensor, " m"] | None = None,
) -> tuple[Suspect, ...]:
    """Return a line for each picture of ``order``; without ``leverage`` they were not fitted on."""
    names, p_value = fitted.classes, found.p_value.tolist()
    return tuple(
        Suspect(
            id_of(i),
            names[int(labels[i])],
            names[int(found.suggested[i])],
            float(found.margin[i]),
            float(found.self_confidence[i]),
            None if leverage is None else float(leverage[i]),
            bool(found.flagged[i]),
            "test" if leverage is None else "train",
            float(suspicion[i]),
            None if leverage is None else p_value[i],
        )
        for i in order
    )


def with_worth(fitted: Fitted, suspects: Sequence[Suspect]) -> tuple[Suspect, ...]:
    """Return training pictures, the doubtful ones with what either fix would be worth, exactly, unless too many are."""
    doubtful = [s for s in suspects if s.is_doubtful]
    if not knows_worth(fitted, len(doubtful)):
        return tuple(suspects)
    place = {name: c for c, name in enumerate(fitted.classes)}
    labels = [place[s.suggested] for s in doubtful]
    found = Settled.of(fitted.head, [fitted.row_of(s.id) for s in doubtful], labels)
    columns = (
        (found.relabelled_right - found.right).tolist(),
        (found.relabelled - found.error).tolist(),
        (found.removed_right - found.right).tolist(),
        (found.removed - found.error).tolist(),
    )
    worth = {
        s.id: replace(s, relabel_right=a, relabel_error=b, remove_right=c, remove_error=d)
        for s, a, b, c, d in zip(doubtful, *columns, strict=True)
    }
    return tuple(worth.get(s.id, s) for s in suspects)


def level(is_doubtful: bool, is_flagged: bool) -> str:
    """Return in words how doubtful a label is; "": it isn't."""
    return (LOOKS if is_flagged else MAY) * is_doubtful


def levels(doubtful: Sequence[Suspect], explained: bool = False) -> str:
    """Return how many of doubtful labels are of which level, "3 look wrong, 2 may be wrong"; or what that means too."""
    wrong = sum(suspect.flagged for suspect in doubtful)
    counts = [(wrong, LOOKS if wrong == 1 else "look wrong", SURE), (len(doubtful) - wrong, MAY, UNSURE)]
    return ", ".join(f"{n} {word}{meaning * explained}" for n, word, meaning in counts if n)
