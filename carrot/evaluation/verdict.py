"""What figures come to, in plain sentences: how often right, how honest, better than what else, and whether maps are.

The command, its tables and the report say it in the same words, from the same JSON. An interval is one of 95 %.
"""

from collections.abc import Mapping
from typing import Any

from carrot._display.words import Z, between, counted, percent, wilson

Figures = Mapping[str, Any]
LEAST = 6  # pictures: fewer, and even all agreeing is no surprise of 5 %: 2 / 2^5 is more, 2 / 2^6 less
EVEN = 0.02  # a promise that is off by less is called kept
REGION_LEVELS = {"tile_level": "tile level", "token_level": "token level"}


def how_often(top1: float, n: int, of: str) -> str:
    """Return how often a model is right, with Wilson's interval.

    Args:
        top1: The share.
        n: Of how many pictures.
        of: What these are, of one: "held-out picture".
    """
    return f"right in {percent(top1)} of {counted(n, of)} (95 % interval {between(top1, n)})"


def honest(accuracy: Figures, calibration: Figures) -> str:
    """Return whether probabilities keep on average what they promise; empty where an older version measured them.

    Args:
        accuracy: As ``carrot.evaluation.figures.accuracy_figures``.
        calibration: As ``carrot.evaluation.figures.calibration_figures``.
    """
    if "promised" not in calibration:
        return ""
    promised, came, n = calibration["promised"], accuracy["top1"], accuracy["n"]
    low, high = wilson(came, n)
    word = (
        f"{counted(n, 'picture')} can't tell whether it keeps its promises"
        if n < LEAST
        else "it keeps its promises"
        if abs(promised - came) < EVEN
        else f"a difference that {counted(n, 'picture')} can't tell from chance"
        if low <= promised <= high
        else "it is too sure of itself"
        if promised > came
        else "it is too modest"
    )
    return f"On average it promises {percent(promised)}, and is right in {percent(came)}: {word}."


def beside(ours: Figures, baselines: Mapping[str, Figures]) -> str:
    """Return how a model compares with the best of its baselines; empty where none was measured.

    The error is that of the difference picture by picture where that was measured: both see the same pictures.

    Args:
        ours: Of the model, as ``carrot.evaluation.figures.accuracy_figures``.
        baselines: The same by name, with "ahead", the mean difference of being right and its standard error.
    """
    known = [(what, row) for what, row in baselines.items() if "top1" in row]
    if not known:
        return ""
    what, best = max(known, key=lambda pair: pair[1]["top1"])
    ahead = best.get("ahead", {})
    gap = ours["top1"] - best["top1"]
    error = ahead.get("standard_error")
    if error is None:  # measured by an older version: as if of different pictures
        error = (ours["top1_se"] ** 2 + best["top1_se"] ** 2) ** 0.5
    ways = f"the best of {len(known)} plain ways" if len(known) > 1 else "the plain way"
    who = f"{ways} with the same vision model ({what}: {percent(best['top1'])})"
    least = Z * error
    points = f"{100 * abs(gap):.1f} ± {100 * least:.1f} points"
    if ours["n"] < LEAST and gap:
        told = f"{counted(ours['n'], 'picture')} can't tell: {100 * abs(gap):.1f} points apart"
        return f"Whether it is better than {who}, {told}."
    if abs(gap) > least:
        return f"{'Better' if gap > 0 else 'Worse'} than {who}, by {points}."
    if not (gap or least):
        return f"As good as {who}: right on the same pictures."
    return f"As good as {who}, as far as {counted(ours['n'], 'picture')} can tell: {points} apart."


def of_maps(explanations: Figures) -> str:
    """Return whether maps find what drives the score, beside what a map that knows nothing gets; empty: not measured.

    Args:
        explanations: As ``carrot.protocol.explanations.measure_explanations`` returns them, as JSON.
    """
    found = [
        (key, gain)
        for key, level in REGION_LEVELS.items()
        if (gain := explanations.get(key, {}).get(f"{level}, gain by token")) is not None
    ]
    if not found or found[0][1]["mean"] is None:
        return ""
    (key, gain), n = found[0], explanations["pictures"]
    error = Z * (gain["standard_error"] or 0.0)
    how = (
        "Its maps find what drives the score"
        if gain["mean"] > error and n >= LEAST
        else "Its maps mislead about what drives the score"
        if gain["mean"] < -error and n >= LEAST
        else f"Whether its maps find what drives the score, {counted(n, 'picture')} can't tell"
    )
    regions = "tiles" if key == "tile_level" else "regions"
    told = f"{abs(gain['mean']):.3f}" + (f" ± {error:.3f}" if error else "")
    said = (
        f"{how}. Take away first the {regions} that a map ranks lowest, and the score stays on average {told} "
        f"{'lower' if gain['mean'] < 0 else 'higher'} than if those that it ranks highest go first; a map that knows "
        f"nothing gets 0 ({counted(n, 'picture')})."
    )
    again = explanations.get("pixel_level", {}).get("pixel level, gain by token")
    if again is not None and again["mean"] is not None:
        some = counted(explanations["occluded"], "picture")
        said += f" With the vision model run again on what is left: {again['mean']:.3f} ({some})."
    return said + _pointing(explanations.get("localisation", {}))


def _pointing(found: Figures) -> str:
    """Return how often the maps' strongest point is on the object, where somebody marked it."""
    for target in ("mask", "box"):
        ours, centre = (found.get(f"where: pointing in the {target} by {name}") for name in ("token", "the centre"))
        if ours and ours["score"]["mean"] is not None:
            said = (
                f" Their strongest point lies on the object in {percent(ours['score']['mean'], 0)}; of maps that know "
                f"nothing, in {percent(ours['chance']['mean'], 0)}"
            )
            middle = (
                "" if not centre else f", of one that always says the middle, in {percent(centre['score']['mean'], 0)}"
            )
            return f"{said}{middle}."
    return ""
