"""Explanations and accuracies as lines of text."""

from collections.abc import Sequence

from carrot.evaluation import Accuracy
from carrot.parts import LogitParts


def check_line(name: str, value: float, expected: float) -> str:
    """Return a quantity beside its residual against what it must equal."""
    return f"  {name:<60}  {value:+.6f}   residual {value - expected:+.1e}"


def accuracy_line(name: str, accuracy: Accuracy, note: str) -> str:
    """Return one row of a table of accuracies."""
    numbers = f"top-1 {accuracy.top1:.3f}  top-5 {accuracy.top5:.3f}  mean per class {accuracy.mean_per_class:.3f}"
    return f"{name:<34} {numbers}  {note}"


def explanation_lines(e: LogitParts, classes: Sequence[str], training_ids: Sequence[str], k: int = 4) -> list[str]:
    """Return what was predicted, every sum beside the logit, the region that matters most, and the top training pictures."""
    lines = [f"says {classes[e.target]}, logit {e.logit:.6f}, of which {e.prior:.6f} is the mean training picture's"]
    lines += [check_line(f"sum over {name}", total, e.logit) for name, total in e.sums.items()]
    local = len(e.drop) - e.num_global
    if e.num_global:
        share = float(e.token[local:].sum())
        lines.append(
            f"  of which the class token, a global region: {share:+.6f}; all others: {e.logit - e.prior - share:+.6f}"
        )
    region, drop = int(e.drop[:local].argmax()), float(e.drop[:local].max())
    lines.append(f"  region that matters most: {region}; without it the logit drops by {drop:.6f}")
    lines.append("  training pictures that the score is made of:")
    for i in e.top_training(k).tolist():
        parts = f"dual {float(e.dual[i]):+.4f}   label {float(e.label[i]):+.4f}   removal {float(e.removal[i]):+.4f}"
        lines.append(f"    {training_ids[i]:<58}  {parts}")
    return lines
