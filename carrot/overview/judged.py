"""How good a model is on pictures that it was not fitted on, and what it saw in those that it was surest of.

Without a pass of the backbone: training pictures are judged by exact leave-one-out, held-out ones where their tokens
are kept. The map of a training picture is that of the head fitted without it, in closed form:

::

    w_(-i) = w - (r_i / slack_i) w_i K^{-1} (g_i - gm)        r_i the residual of its target                        (1)
    logit_(-i)(g) = sum_k pi_k <phi(h_k) - gm / sum(pi), w_(-i)> + logit_(-i)(gm)                                  (2)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from carrot._ambient import pinned
from carrot._display.brief import brief
from carrot.attribution import region_contribution
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.classifier.held_out import HeldOut
from carrot.embedding.tokens import Tokens
from carrot.evaluation.calibration import probabilities
from carrot.evaluation.confusion import confusion_pairs, per_class
from carrot.evaluation.figures import accuracy_figures, calibration_figures, reliability, sure_and
from carrot.overview.thumbs import thumbnail, with_map

HELD_OUT, LEAVE_ONE_OUT = "held-out pictures", "training pictures, each judged without itself"


@dataclass(frozen=True)
class Judged:
    """Predictions on pictures that the model had not seen, in figures.

    Attributes:
        of: ``HELD_OUT`` or ``LEAVE_ONE_OUT``.
        source: Where the numbers are from, in words.
        accuracy, calibration: As ``carrot.evaluation.figures`` has them.
        classes: Of each class, as ``carrot.evaluation.confusion.ClassResult``.
        confusions: Most frequent first.
        reliability: What was promised and what came; empty where only figures are at hand.
    """

    of: str
    source: str
    accuracy: dict[str, Any]
    calibration: dict[str, Any]
    classes: list[dict[str, Any]]
    confusions: list[dict[str, Any]]
    reliability: list[dict[str, float]]

    @classmethod
    def by(cls, of: str, source: str, logits: Float[Tensor, "m C"], y: Int[Tensor, " m"], fitted: Fitted) -> "Judged":
        """Return what logits come to."""
        said, names = logits.argmax(dim=1), fitted.classes
        return cls(
            of,
            source,
            accuracy_figures(logits, y),
            calibration_figures(logits, y, fitted.temperature),
            [vars(row) for row in per_class(said, y, names)],
            [vars(row) for row in confusion_pairs(said, y, names)],
            reliability(probabilities(logits, fitted.temperature), y),
        )


@dataclass(frozen=True, eq=False)
class Example:
    """One picture that the model was sure of, and what it saw in it.

    Attributes:
        id: The picture.
        label: Its label.
        predicted: What the model said.
        probability: Of that.
        logit, start: The score that is taken apart, and where it starts from.
        regions: What each region brings; with ``start`` they sum to ``logit``.
        strongest: Where the region lies that brings most, in words.
        picture, map: Small pictures; None where the picture is gone.
        missing: Why it is.
    """

    __repr__ = brief

    id: str
    label: str
    predicted: str
    probability: float
    logit: float
    start: float
    regions: Float[Tensor, " N"]
    strongest: str
    picture: Image.Image | None
    map: Image.Image | None
    missing: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        names = ("id", "label", "predicted", "probability", "logit", "start", "strongest")
        return {name: getattr(self, name) for name in names} | {"regions": self.regions.tolist()}


def of_held_out(classifier: Classifier, found: HeldOut, k: int) -> tuple[Judged, list[Example], list[Example]]:
    """Return how held-out pictures are judged, and the k that the model was surest of and right, and wrong."""
    fitted, test = classifier.fitted, found.test
    logits = fitted.head.predict(found.cache.embed(found.places, fitted.setting))
    judged = Judged.by(HELD_OUT, found.counts.line("measured", found.dataset.name), logits, found.labels, fitted)

    def one(i: int) -> Example:
        place, c = found.places[i], int(logits[i].argmax())
        logit = fitted.head.logit(c)
        start = float((logit.bias if classifier.pooling.setting.readout == "sum" else logit.y_mean)[0])
        record = test.records[place]
        who = (record.id, fitted.classes[int(found.labels[i])])
        return _example(classifier, who, logits[i], found.cache.picture(place), logit.W_star, start, test.image(place))

    return judged, *_surest(one, logits, found.labels, fitted, k)


def of_training(classifier: Classifier, k: int) -> tuple[Judged, list[Example], list[Example]]:
    """Return the same of training pictures, each judged by the model fitted without it."""
    fitted, head = classifier.fitted, classifier.fitted.head
    logits = head.loo_predict()
    n = len(fitted.records)
    source = f"{n:,} training pictures, each judged by the model fitted without it (exact, nothing is fitted again)"
    judged = Judged.by(LEAVE_ONE_OUT, source, logits, fitted.labels, fitted)

    def one(i: int) -> Example | None:
        record, c = fitted.records[i], int(logits[i].argmax())
        tokens = None if fitted.kept is None or record.row is None else fitted.kept.tokens(record.row)
        if tokens is None:  # the backbone would have to run
            return None
        w, start = without(classifier, i, c)
        who = (record.id, fitted.classes[record.label])
        return _example(classifier, who, logits[i], tokens, w, start, classifier.find(record))

    return judged, *_surest(one, logits, fitted.labels, fitted, k)


@pinned()
def without(classifier: Classifier, i: int, c: int) -> tuple[Float[Tensor, "M 1"], float]:
    """Return w of class c fitted without training picture i, equation (1), and its logit at the origin of (2)."""
    head = classifier.fitted.head
    logit, g = head.logit(c), head.G[i].double()
    loss = float(logit.residual[i, 0] / head.slack[i])
    w = logit.W_star - loss * float(head.sample_weight[i]) * head.inverse_times(g)
    after = float(head.loo_predict()[i, c])
    origin = torch.zeros_like(g) if classifier.pooling.setting.readout == "sum" else head.g_mean
    return w, after - float((g - origin) @ w[:, 0])


def _surest(
    one: Callable[[int], Example | None], logits: Tensor, y: Tensor, fitted: Fitted, k: int
) -> tuple[list[Example], list[Example]]:
    p = probabilities(logits, fitted.temperature)
    best, worst = ([one(i) for i in sure_and(right, p, y, k)] for right in (True, False))
    return [e for e in best if e is not None], [e for e in worst if e is not None]


@pinned()
def _example(
    classifier: Classifier,
    who: tuple[str, str],
    logits: Float[Tensor, " C"],
    tokens: Tokens,
    w: Float[Tensor, "M 1"],
    start: float,
    image: Image.Image | str,
) -> Example:
    fitted, pooling = classifier.fitted, classifier.pooling
    trace = pooling.trace(tokens)
    origin = None if trace.is_additive else fitted.head.g_mean
    regions = region_contribution(trace.H, trace.pi, w, "token", lift=trace.lift, origin=origin)[:, 0]
    c = int(logits.argmax())
    p = probabilities(logits.unsqueeze(0), fitted.temperature)[0]
    plain = mapped = None
    if not isinstance(image, str):
        boxes = classifier.encoder.view.drawn(image.size, pooling.setting.coarsen)
        plain, mapped = thumbnail(image), with_map(image, boxes, regions[: len(boxes)])
    return Example(
        *who,
        fitted.classes[c],
        float(p[c]),
        float(logits[c]),
        start,
        regions,
        classifier.region_places[int(regions.argmax())],
        plain,
        mapped,
        image if isinstance(image, str) else "",
    )
