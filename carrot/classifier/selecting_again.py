"""Settings and lam chosen again without each training picture: what ``select`` would have chosen, had it never been.

A choice made with a picture flatters what leave-one-out says of it. Here nothing is: for every setting lam, its error
and the accuracy of the others are those without the picture (``carrot._ridge.again``), and the rule of
``carrot.classifier.selecting`` is applied n times. The grid, the penalties of each setting and class weights are held.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._display.words import counted
from carrot._progress import progress
from carrot.classifier.fitting import Caches
from carrot.classifier.selecting import Plan, Score, decide
from carrot.embedding.setting import Setting
from carrot.head import RidgeHead


class _Again(NamedTuple):
    """What is remembered of a setting without each picture."""

    lam: float  # with all of them
    lams: Float[Tensor, " n"]
    mse: list[float]
    accuracy: list[float]
    logits: Float[Tensor, "n C"]
    with_all: Float[Tensor, "n C"]  # leave-one-out logits at ``lam``


@dataclass(frozen=True, eq=False)
class SelectedAgain:
    """What would have been chosen without each training picture, and what is said of it then.

    Attributes:
        chosen: The setting that was chosen with all of them.
        lam: The penalty.
        settings: The setting that is chosen without each.
        lams: The penalty.
        labels: Of the pictures.
        logits: Of each, by the model that never saw it: setting, lam and head chosen without it.
        with_all: Leave-one-out logits, setting and lam chosen with it.

    Exactness: exact; ``tests/unit/test_selecting_again.py``.
    """

    chosen: Setting
    lam: float
    settings: tuple[Setting, ...]
    lams: Float[Tensor, " n"]
    labels: Int[Tensor, " n"]
    logits: Float[Tensor, "n C"]
    with_all: Float[Tensor, "n C"]

    __repr__ = brief

    @property
    def other_setting(self) -> Bool[Tensor, " n"]:
        """Whether another setting would have been chosen."""
        return torch.tensor([s != self.chosen for s in self.settings])

    @property
    def other_lam(self) -> Bool[Tensor, " n"]:
        """Whether the setting would have been the same, and lam another."""
        return ~self.other_setting & (self.lams != self.lam)

    @property
    def other_prediction(self) -> Bool[Tensor, " n"]:
        """Whether another class is said of the picture."""
        return self.logits.argmax(dim=1) != self.with_all.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """Leave-one-out accuracy, everything chosen again."""
        return float((self.logits.argmax(dim=1) == self.labels).double().mean())

    @property
    def accuracy_with_all(self) -> float:
        """Leave-one-out accuracy, setting and lam held."""
        return float((self.with_all.argmax(dim=1) == self.labels).double().mean())

    def to_dict(self) -> dict[str, Any]:
        """Return its numbers, JSON-ready."""
        return {
            "pictures": len(self.labels),
            "other_setting": int(self.other_setting.sum()),
            "other_lam": int(self.other_lam.sum()),
            "other_prediction": int(self.other_prediction.sum()),
            "loo_accuracy": self.accuracy,
            "loo_accuracy_held": self.accuracy_with_all,
        }

    def __str__(self) -> str:
        """Return in sentences how much the choice leans on single pictures."""
        n, setting, lam = len(self.labels), int(self.other_setting.sum()), int(self.other_lam.sum())
        lines = [
            f"Chosen again without each of {counted(n, 'training picture')}: another setting for {setting:,}, another "
            f"lam for {lam:,} more; {counted(int(self.other_prediction.sum()), 'prediction')} of them differ.",
            f"Leave-one-out accuracy {self.accuracy:.4f}, and {self.accuracy_with_all:.4f} with setting and lam held.",
        ]
        others = Counter(s for s in self.settings if s != self.chosen).most_common(3)
        return "\n".join([*lines, *(f"    {s}: for {count:,}" for s, count in others)])


def choose_again(
    caches: Caches,
    rows: Sequence[int],
    labels: Int[Tensor, " n"],
    plan: Plan,
    chosen: Setting,
    fit_intercept: bool = True,
    sample_weight: Float[Tensor, " n"] | None = None,
) -> SelectedAgain:
    """Return what ``choose`` would choose without each picture; see ``SelectedAgain``.

    Args:
        caches: Tokens of the data set.
        rows: Its training pictures.
        labels: Theirs.
        plan: What was tried.
        chosen: What ``choose`` took.
        fit_intercept: As in ``RidgeHead``.
        sample_weight: As in ``RidgeHead``.
    """
    known: dict[Setting, _Again] = {}
    graphs: dict[Setting, list[Setting]] = {}

    def measure(s: Setting, pi: Tensor | None = None) -> None:
        if s not in known:
            with warnings.catch_warnings():  # of an end of the path ``choose`` has told
                warnings.simplefilter("ignore")
                head = RidgeHead("loo", fit_intercept).fit(caches.of(s).embed(rows, s, pi), labels, sample_weight)
            again = head.loo_again()
            accuracy = again.accuracy(labels).tolist()
            known[s] = _Again(head.lam, again.lams, again.mse.tolist(), accuracy, again.logits, head.loo_predict())

    def score(s: Setting, i: int) -> Score:
        measure(s)
        return Score(s, known[s].mse[i], known[s].accuracy[i])

    def diffused(start: Setting, i: int) -> Iterator[Score]:
        if start not in graphs:
            graphs[start] = []
            for graph in progress(plan.graphs if plan.times else (), "chosen again, graph", len(plan.graphs)):
                settings = plan.diffused(start, graph)
                for s, pi in zip(settings, caches.of(start).pool(rows, settings), strict=True):
                    measure(s, pi)
                graphs[start] += settings
        for s in graphs[start]:
            yield score(s, i)

    for s in progress(plan.plain, "chosen again, regions, lift and readout", len(plan.plain)):
        measure(s)
    measure(chosen)

    def without(i: int) -> Setting:
        plain = [score(s, i) for s in plan.plain]
        return decide(plan, len(rows) - 1, plain, partial(score, i=i), partial(diffused, i=i)).setting

    settings = [without(0)]  # measures what is measured once, so that the time that is left can be told of the others
    settings += [without(i) for i in progress(range(1, len(rows)), "chosen again", len(rows) - 1, "pictures")]
    return SelectedAgain(
        chosen=chosen,
        lam=known[chosen].lam,
        settings=tuple(settings),
        lams=torch.stack([known[s].lams[i] for i, s in enumerate(settings)]),
        labels=labels,
        logits=torch.stack([known[s].logits[i] for i, s in enumerate(settings)]),
        with_all=known[chosen].with_all,
    )
