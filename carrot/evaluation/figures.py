"""Figures of a set of predictions as plain JSON, the same wherever they are shown."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot.evaluation.accuracy import summary
from carrot.evaluation.calibration import brier, expected_calibration_error, negative_log_likelihood, probabilities

BINS = 15  # of the expected calibration error
SHOWN_BINS = 10  # of ``reliability``


def accuracy_figures(logits: Float[Tensor, "m C"], y: Int[Tensor, " m"]) -> dict[str, Any]:
    """Return top-1 with its standard error, top-5, the mean over classes, and how many there were."""
    found = summary(logits, y)
    return {
        "top1": found.top1,
        "top1_se": math.sqrt(found.top1 * (1.0 - found.top1) / found.n),
        "top5": found.top5,
        "mean_per_class": found.mean_per_class,
        "n": found.n,
    }


def calibration_figures(logits: Float[Tensor, "m C"], y: Int[Tensor, " m"], temperature: float) -> dict[str, Any]:
    """Return how honest ``softmax(logits / temperature)`` is; "promised" is the mean of the highest probability."""
    p = probabilities(logits, temperature)
    return {
        "temperature": temperature,
        "promised": float(p.amax(dim=1).mean()),
        "negative_log_likelihood": negative_log_likelihood(p, y),
        "brier": brier(p, y),
        "expected_calibration_error": expected_calibration_error(p, y, BINS),
        "bins": BINS,
    }


def reliability(p: Float[Tensor, "m C"], y: Int[Tensor, " m"], bins: int = SHOWN_BINS) -> list[dict[str, float]]:
    """Return what was promised beside what came, by bins of equal width of the highest probability; no empty ones."""
    best, said = p.double().max(dim=1)
    right, place = (said == y).double(), (best * bins).long().clamp(max=bins - 1)
    found = []
    for b in place.unique().tolist():
        inside = place == b
        promised, came = float(best[inside].mean()), float(right[inside].mean())
        found.append({"from": b / bins, "n": int(inside.sum()), "promised": promised, "right": came})
    return found


def sure_and(right: bool, p: Float[Tensor, "m C"], y: Int[Tensor, " m"], k: int) -> list[int]:
    """Return the k pictures that are right, or wrong, of the highest probability; each true class once, if it goes."""
    best, said = p.max(dim=1)
    order = [i for i in torch.argsort(-best, stable=True).tolist() if bool(said[i] == y[i]) is right]
    first: dict[int, int] = {}
    for i in order:
        first.setdefault(int(y[i]), i)
    chosen = sorted(first.values(), key=order.index)[:k]
    return (chosen + [i for i in order if i not in chosen])[:k]
