"""Explanations and accuracies as lines of text."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from carrot._display.words import counted, percent
from carrot.explanation.level import Level, level_of
from carrot.explanation.parts import LogitParts
from carrot.explanation.words import replaced, where

if TYPE_CHECKING:
    from carrot.evaluation import Accuracy
    from carrot.explanation.record import Explanation

GLOSS = (
    "    dual: its share of the logit;  label: what its label brings;  "
    "removal: fall of the logit in a model fitted without it"
)


def check_line(name: str, value: float, expected: float) -> str:
    """Return a quantity beside its residual against what it must equal."""
    return f"  {name:<60}  {value:+.6f}   residual {value - expected:+.1e}"


def accuracy_line(name: str, accuracy: "Accuracy", note: str) -> str:
    """Return one row of a table of accuracies."""
    numbers = f"top-1 {accuracy.top1:.3f}  top-5 {accuracy.top5:.3f}  mean per class {accuracy.mean_per_class:.3f}"
    return f"{name:<34} {numbers}  {note}"


def explanation_lines(e: LogitParts, classes: Sequence[str], training_ids: Sequence[str], k: int = 4) -> list[str]:
    """Return the prediction, every sum beside the logit, the region that matters most and the top training pictures."""
    lines = [f"says {classes[e.target]}, logit {e.logit:.6f}, of which {e.prior:.6f} is {e.start}"]
    level = level_of("region")
    lines += _sum_lines(e, level) + _region_lines(e, lambda region: f"region {region}", "logit", level)
    lines.append("  training pictures that the score is made of:")
    return lines + [_training_line(e, i, training_ids[i]) for i in e.top_training(k).tolist()]


def plain_lines(e: "Explanation", k: int = 3) -> list[str]:
    """Return what ``str(explanation)`` shows: the answer, what speaks for it, and whom it would miss, k of each."""
    p, best = e.parts, int(e.parts.logits.argmax())
    labelled = "" if e.picture.label is None else f"; labelled {e.picture.label}"
    what = f"score of {e.target}" if e.against is None else f"lead of {e.target} over {e.against}"
    local = p.token[: len(p.token) - p.num_global]
    speaks, opposes = local.clamp(min=0.0), local.clamp(max=0.0)
    for_it, against_it = ("for it", "against it") if e.against is None else (f"for {e.target}", f"for {e.against}")
    sums = [f"{p.prior:+.3f} to start with", f"{float(speaks.sum()):+.3f} from {_count(speaks, e)} {for_it}"]
    if e.against is not None or bool((opposes < 0).any()):
        sums.append(f"{float(opposes.sum()):+.3f} from {_count(opposes, e)} {against_it}")
    if p.num_global:
        sums.append(f"{float(p.token[len(local) :].sum()):+.3f} from the whole picture")
    lines = [] if e.own is None else [f"{e.picture.id}: {e.own.told}"]
    lines += [f"{e.picture.id}: {e.classes[best]}, probability {percent(float(e.probabilities[best]))}{labelled}"]
    lines.append(f"  the {what} is {p.logit:+.3f}: {', '.join(sums)}")
    if e.against is not None:
        return lines + list(_both_sides(e, k))
    most = [int(i) for i in speaks.argsort(descending=True, stable=True)[:k] if speaks[i] > 0]
    if most:
        spared = replaced(e).replace("what is marked 1", "the first").strip().rstrip(".")
        note = f"; {spared[0].lower()}{spared[1:]}" if spared else ""
        named = "; ".join(f"{where(e.picture, i)} {float(local[i]):+.3f}" for i in most)
        lines.append(f"  most for it: {named}{note}")
    missed = [i for i in e.shown[:k] if p.removal[i] > 0]
    worst = int(p.removal.argmin())
    if missed:
        names = (f"{_who(e, i)} by {float(p.removal[i]):.3f}" for i in missed)
        lines.append(f"  it would fall most without the training pictures {'; '.join(names)}")
    if -p.removal[worst] > max((p.removal[i] for i in missed), default=0.0):
        lines.append(f"  it would rise by {-float(p.removal[worst]):.3f} without the training picture {_who(e, worst)}")
    return lines


def _both_sides(e: "Explanation", k: int) -> Iterator[str]:
    """Yield what speaks for the one class and what for the other: regions, then training pictures, k of each."""
    p = e.parts
    local = p.token[: len(p.token) - p.num_global]
    for name, sign in ((e.target, 1.0), (e.against, -1.0)):
        order = (sign * local).argsort(descending=True, stable=True)[:k].tolist()
        found = [f"{where(e.picture, i)} {float(local[i]):+.3f}" for i in order if sign * float(local[i]) > 0]
        yield f"  for {name}: {'; '.join(found) or f'nothing in the picture, no {e.level.one} of it'}"
        rows = (sign * p.removal).argsort(descending=True, stable=True)[:k].tolist()
        missed = [f"{_who(e, i)} {sign * float(p.removal[i]):.3f}" for i in rows if sign * float(p.removal[i]) > 0]
        if missed:
            yield f"    the training pictures that do most for {name}: {'; '.join(missed)}"


def _who(e: "Explanation", i: int) -> str:
    """Return a training picture's name and label, and whether that is doubtful: wherever one is named to a person."""
    itself = ", this picture itself" if e.own is not None and e.own.row == i else ""
    doubt = f", a doubtful label: the others say {e.doubtful[i]}" if i in e.doubtful else ""
    return f"{e.training_ids[i]} ({e.training_labels[i]}{itself}{doubt})"


def _count(values: Tensor, e: "Explanation") -> str:
    return counted(int((values != 0).sum()), e.level.one, e.level.many)


def story_lines(e: "Explanation", k: int = 3) -> list[str]:
    """Return what ``explanation.proof()`` shows.

    As ``explanation_lines``, with the names, probabilities, contrast and k pairs of regions.
    """
    p, best = e.parts, int(e.parts.logits.argmax())
    labelled = "" if e.picture.label is None else f"; labelled {e.picture.label}"
    lines = [] if e.own is None else [f"{e.picture.id}: {e.own.told}"]
    lines += [f"{e.picture.id}: says {e.classes[best]}, probability {float(e.probabilities[best]):.4f}{labelled}"]
    what = f"logit of {e.target}" if e.against is None else f"logit of {e.target} less that of {e.against}"
    lines.append(f"  explained: {what}, {p.logit:+.6f}, of which {p.prior:+.6f} is {p.start}")
    lines.append(f"  {e.level.line}")
    lines += _sum_lines(p, e.level)
    for i, pairs in e.pair_maps.items():
        total, dual = float(pairs.sum()), float(p.dual[i])
        lines.append(check_line(f"pairs of {e.level.many} with {e.training_ids[i]}, of its dual", total, dual))
    lines += _region_lines(p, e.region_name, "logit" if e.against is None else "difference", e.level)
    lines += ["  training pictures that the logit is made of:", GLOSS]
    for i in e.shown:
        lines.append(_training_line(p, i, _who(e, i)))
    lines += [f"  not shown: the picture {e.training_ids[i]}: {reason}" for i, reason in e.missing.items()]
    if e.pair_maps:
        lines.append(f"  pairs of {e.level.many} that bring most:")
    for pair in e.pairs(k):
        there = f"{e.region_name(pair.training_region)} of {pair.training_id}"
        lines.append(f"    {e.region_name(pair.region)} because of {there}: {pair.contribution:+.6f}")
    return lines


def _sum_lines(e: LogitParts, level: Level) -> list[str]:
    return [check_line(f"sum over {level.sum_name(key)}", total, e.logit) for key, total in e.sums.items()]


def _region_lines(e: LogitParts, named: Callable[[int], str], what: str, level: Level) -> list[str]:
    local, lines = len(e.drop) - e.num_global, []
    if e.num_global:
        share = float(e.token[local:].sum())
        others = e.logit - e.prior - share
        lines.append(f"  of which the whole picture, a global region: {share:+.6f}; all others: {others:+.6f}")
    region = int(e.drop[:local].abs().argmax())
    drop = float(e.drop[region])
    moves = "drops" if drop >= 0 else "rises"
    how = "" if e.is_additive else ", those left sharing its weight,"
    lines.append(
        f"  {level.one} that matters most: {named(region)}; without it{how} the {what} {moves} by {abs(drop):.6f}"
    )
    return lines


def _training_line(e: LogitParts, i: int, name: str) -> str:
    parts = f"dual {float(e.dual[i]):+.4f}   label {float(e.label[i]):+.4f}   removal {float(e.removal[i]):+.4f}"
    return f"    {name:<58}  {parts}"
