"""What fitting leaves behind, never changed: forgetting or adding a picture makes another one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from operator import index
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from carrot.data.inputs import Labels
from carrot.data.records import Subset
from carrot.evaluation.accuracy import summary
from carrot.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
)
from carrot.head import RidgeHead
from carrot.stages import Setting
from carrot.store import TokenCache
from carrot.training import KeptTokens, TrainingRecord, training_records


@dataclass(frozen=True, eq=False)
class Fitted:
    """A head, and what its rows and columns mean.

    Attributes:
        head: The ridge head.
        setting: What every embedding was made with.
        classes: Names of the classes, in the order of the logits.
        records: The training pictures, in the order of ``head.G``.
        temperature: Of the probabilities, fitted on exact leave-one-out logits.
        set_aside: What was wrong with pictures that could not be read, by id.
        selection: A line for each setting that was tried, if some were.
        kept: The token cache that it was fitted from, if it was kept.
        data: The folder or spec that the pictures came from, if it was one.
    """

    head: RidgeHead
    setting: Setting
    classes: tuple[str, ...]
    records: tuple[TrainingRecord, ...]
    temperature: float
    set_aside: Mapping[str, str] = field(default_factory=dict)
    selection: tuple[Mapping[str, object], ...] = ()
    kept: KeptTokens | None = None
    data: str | None = None

    @classmethod
    def of(
        cls,
        head: RidgeHead,
        setting: Setting,
        train: Subset,
        rows: list[int],
        cache: TokenCache,
        is_kept: bool,
        data: str | None,
        selection: tuple[Mapping[str, object], ...] = (),
    ) -> "Fitted":
        """Return what a fit on ``rows`` of a training set leaves; ``is_kept``: its tokens stay where they are."""
        records = training_records(train, rows, cache.sha256)
        skipped: dict[str, str] = getattr(train.dataset, "skipped", {})
        kept = KeptTokens(str(cache.folder.resolve()), cache.key, cache.grid_hw) if is_kept else None
        return cls(
            head,
            setting,
            tuple(train.classes),
            records,
            _temperature(head, records),
            {**skipped, **cache.errors},
            selection,
            kept,
            data,
        )

    def with_head(self, head: RidgeHead, records: tuple[TrainingRecord, ...]) -> "Fitted":
        """Return the same with another head on other pictures; the temperature is fitted again."""
        temperature = _temperature(head, records)
        return Fitted(
            head, self.setting, self.classes, records, temperature, self.set_aside, self.selection, self.kept, self.data
        )

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Class of each training picture."""
        return torch.tensor([record.label for record in self.records], dtype=torch.long)

    def leave_one_out(self) -> dict[str, float]:
        """Return exact leave-one-out figures: accuracy, mean over classes, squared error, negative log likelihood, calibration error.

        The last two flatter a little: the one temperature of the probabilities is that which suits these very logits best.
        """
        logits, labels = self.head.loo_predict(), self.labels
        found, p = summary(logits, labels), probabilities(logits, self.temperature)
        return {
            "loo_accuracy": found.top1,
            "loo_mean_per_class": found.mean_per_class,
            "loo_squared_error": float((logits - self.head.Y).square().mean()),
            "loo_negative_log_likelihood": negative_log_likelihood(p, labels),
            "loo_calibration_error": expected_calibration_error(p, labels),
        }

    def class_index(self, name: str | SupportsIndex) -> int:
        """Return the index of a class given by name or index; where classes are named by numbers, a number is a name.

        Raises:
            ValueError: There is no such class; the message names similar ones.
        """
        number = None if isinstance(name, str) else index(name)
        text = name if isinstance(name, str) else str(number)
        if text in self.classes and not isinstance(name, bool):
            return self.classes.index(text)
        by_place = not isinstance(name, bool) and not any(known.isdecimal() for known in self.classes)
        if number is not None and by_place and 0 <= number < len(self.classes):
            return number
        close, some = ", ".join(get_close_matches(str(name), self.classes)), ", ".join(self.classes[:5])
        hint = (
            f"Did you mean {close}?"
            if close
            else f"Its {len(self.classes)} classes: {some}{', ...' * (len(self.classes) > 5)}."
        )
        raise ValueError(f"{name!r} is no class of this model. {hint}")

    def class_names(self, labels: Labels) -> list[str]:
        """Return the names of labels given by name or index."""
        values: list[Any] = labels.tolist() if isinstance(labels, np.ndarray | Tensor) else list(labels)
        return [self.classes[self.class_index(value)] for value in values]


def _temperature(head: RidgeHead, records: tuple[TrainingRecord, ...]) -> float:
    return fit_temperature(head.loo_predict(), torch.tensor([record.label for record in records], dtype=torch.long))
