"""Test pictures' explanations, measured: do they add up, point at the object, does the logit fall when they say so."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from carrot._progress import progress
from carrot._ridge.logit import Logit
from carrot.classifier.classifier import Classifier
from carrot.data.records import Subset
from carrot.embedding.cache import TokenCache
from carrot.explanation.parts import LogitParts, take_apart
from carrot.protocol.case import Case
from carrot.protocol.checks import sums_check
from carrot.protocol.metrics import METRICS

TAKING_APART = "taking apart"


def measure_explanations(
    classifier: Classifier, test: Subset, cache: TokenCache, places: list[int], occluded: int
) -> dict[str, Any]:
    """Return sums and every metric of the predicted class's explanations of some test pictures, and what they took.

    Args:
        classifier: The model.
        test: Test pictures.
        cache: Their tokens.
        places: Which of them.
        occluded: How many of those, from the first, to measure at a cost of the backbone's.
    """
    found: dict[str, dict[str, list[Any]]] = {name: defaultdict(list) for name in METRICS}
    taken_apart: list[LogitParts] = []
    seconds = dict.fromkeys((TAKING_APART, *METRICS), 0.0)

    @contextmanager
    def clock(what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[what] += time.perf_counter() - start

    for number, place in enumerate(progress(places, "explaining", len(places), "pictures")):
        with clock(TAKING_APART):
            trace = classifier.trace(cache.picture(place))
            logit = Logit.predicted(classifier.fitted.head, trace.g)
            parts = take_apart(trace, logit)
        taken_apart.append(parts)
        case = Case(classifier, test, place, trace, logit, parts)
        for kind, metric in METRICS.items():
            if metric.is_costly and number >= occluded:
                continue
            with clock(kind):
                for name, value in metric.measure(case):
                    found[kind][name].append(value)
    return {
        "pictures": len(places),
        "occluded": min(occluded, len(places)),
        "seconds": seconds,
        "largest_residual": {name: d.largest for name, d in sums_check(taken_apart).items()} if taken_apart else {},
        **{
            kind: {name: metric.summary(values) for name, values in found[kind].items()}
            for kind, metric in METRICS.items()
        },
    }
