"""What ``select`` tried, in words and as a table: what was chosen, what that gave up or gained, and what is cheaper."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carrot._choices import PATCHES
from carrot._display.words import counted
from carrot.classifier.selecting import Score, standard_error, taken
from carrot.embedding.setting import AXES, Setting, short_regions
from carrot.evaluation.selection import select


def table_lines(
    tried: Sequence[Mapping[str, Any]],
    chosen: Setting,
    n: int,
    is_whole: bool = False,
    limit: float = math.inf,
    beyond: Sequence[tuple[str, float]] = (),
) -> Iterator[str]:
    """Yield what was chosen, what was given up for it, what is cheaper, and a table of what was tried, best first.

    Args:
        tried: As ``choose`` returns it.
        chosen: As ``choose`` returns it.
        n: Number of training pictures.
        is_whole: Whether the table has every line; else the best of each kind of regions, and what was chosen.
        limit: The passes that a picture could cost.
        beyond: Kinds of regions that cost more and were not tried, with what they cost.
    """
    lines = [(line, Setting(**{name: line[name] for name in AXES if name in line})) for line in tried]
    yield from given_up(lines, chosen)
    yield from cheaper(lines, chosen, n)
    yield f"{'setting':<64} {'passes':>7} {'lam':>9} {'LOO error':>10} {'LOO accuracy':>13}"
    seen: set[tuple[str, float]] = set()
    left_out = 0
    for line, s in sorted(lines, key=lambda pair: float(pair[0]["loo_mse"])):
        kind = (s.regions, s.global_share)
        if kind in seen and s != chosen and not is_whole:
            left_out += 1
            continue
        seen.add(kind)
        mark = "  <- chosen" if s == chosen else ""
        passes = f"{line.get('passes', 1.0):7.3g}"
        what = str(s) if s.is_tiled else f"{PATCHES}, {s}"
        yield f"{what:<64} {passes} {line['lam']:9.2g} {line['loo_mse']:10.5f} {line['loo_accuracy']:13.4f}{mark}"
    if left_out:
        were = "was tried, worse" if left_out == 1 else "were tried, each worse"
        yield (
            f"{counted(left_out, 'more setting')} of these kinds {were} than the first of its kind; --verbose lists "
            f"{'it' if left_out == 1 else 'them'}, and `selection_` in Python."
        )
    if beyond:
        told = "; ".join(f"{kind} ({passes:.3g} passes)" for kind, passes in beyond)
        yield f"Not tried, for they cost more than the {limit:g} passes that --passes allows: {told}."
    if ends := list(at_an_end(lines, chosen)):
        yield f"At the end of what was tried, so that better may lie beyond: {'; '.join(ends)}."
    yield "LOO: exact leave-one-out on the training pictures; error is squared, mean over pictures and classes."
    yield "passes: what a picture costs, in passes of the backbone over a whole picture at its own size."


def at_an_end(lines: Sequence[tuple[Mapping[str, Any], Setting]], chosen: Setting) -> Iterator[str]:
    """Yield each number that was chosen at an end of what was tried, with the flag that tries beyond it too.

    An end beyond which there is nothing (no attention, no diffusion) is none, nor is a share of the whole picture, of
    which the least that suffices is taken.
    """
    alike = [s for _, s in lines if s.is_tiled == chosen.is_tiled]
    for name, axis in AXES.items():
        value = getattr(chosen, name)
        values = sorted({getattr(s, name) for s in alike}) if axis.rule is not None and name != "global_share" else []
        if len(values) < 2 or value not in (values[0], values[-1]) or (axis.is_graph and name != "t" and not chosen.t):
            continue
        beyond = value * 2 if value == values[-1] else value / 2
        if axis.holds(beyond) and beyond != value and (name != "coarsen" or beyond == int(beyond)):
            flag = f"--{name.replace('_', '-')}"
            listed = " ".join(f"{x:g}" for x in sorted({*values, beyond}))
            yield f"{name} {value:g} ({flag} {listed})"


def given_up(lines: Sequence[tuple[Mapping[str, Any], Setting]], chosen: Setting) -> Iterator[str]:
    """Yield in sentences what was chosen of tiles and patches, what that gave up, and what a picture costs."""
    best: dict[bool, Mapping[str, Any]] = {}
    for line, s in sorted(lines, key=lambda pair: -float(pair[0]["loo_mse"])):
        best[s.is_tiled] = line  # the last is that of the least error
    taken = next((line for line, s in lines if s == chosen), None)
    if len(best) < 2 or taken is None:
        return
    other = best[not chosen.is_tiled]
    mine, theirs = float(taken["loo_accuracy"]), float(other["loo_accuracy"])
    told = (
        f", with {chosen.global_share:g} of the readout told to be the whole picture's" if chosen.global_share else ""
    )
    pays, costs = (f"{line.get('passes', 1.0):.3g}" for line in (taken, other))
    if chosen.is_tiled:
        how = "nothing lost" if mine == theirs else f"{abs(mine - theirs):.4f} {'lost' if mine < theirs else 'gained'}"
        yield f"Tiles are chosen{told}: what their map shows is what the model saw."
        yield f"Against the best patches: leave-one-out accuracy {mine:.4f}, not {theirs:.4f} ({how})," + (
            f" for {pays} passes a picture, not {costs}."
        )
    else:
        share = next(s.global_share for line, s in lines if line is other)
        tiles = f"tiles with {share:g} told to be the whole picture's" if share else "tiles"
        yield f"Patches are chosen: {tiles} would give up {mine - theirs:.4f} of leave-one-out accuracy ({theirs:.4f},"
        yield f"not {mine:.4f}), more than a standard error, and cost {costs} passes a picture, not {pays}."
        yield "The map of patches is exact for tokens, which have seen the whole picture, not for pixels."


def cheaper(lines: Sequence[tuple[Mapping[str, Any], Setting]], chosen: Setting, n: int) -> Iterator[str]:
    """Yield in a sentence the least passes for which tiles lose no standard error against the tiles that were chosen.

    It is what ``choose`` would take at t = 0 if regions were to cost no more, so that the limit it names gives it.
    """
    mine_line = next((line for line, s in lines if s == chosen), None)
    if mine_line is None or not chosen.is_tiled:
        return
    mine, pays = float(mine_line["loo_accuracy"]), float(mine_line.get("passes", 1.0))
    error = standard_error(mine, n)
    limits = {math.ceil(100.0 * float(line.get("passes", 1.0))) / 100.0 for line, s in lines if s.is_tiled}
    for limit in sorted(limit for limit in limits if limit < pays):
        found: dict[tuple[bool, float], Score] = {}
        for line, s in lines:
            if not s.t and float(line.get("passes", 1.0)) <= limit:
                score, kind = (
                    Score(s, float(line["loo_mse"]), float(line["loo_accuracy"])),
                    (s.is_tiled, s.global_share),
                )
                found[kind] = select([found.get(kind, score), score])
        c = taken(found.values(), n) if found else None
        if c is None or not c.setting.is_tiled or mine - c.loo_accuracy >= error:
            continue
        lost, regions = mine - c.loo_accuracy, short_regions(c.setting.regions)
        how = f"{'loses' if lost > 0 else 'gains'} {abs(lost):.4f}" if lost else "loses nothing"
        yield f"{regions} would take {limit:g} passes a picture instead of {pays:.3g} and {how} of leave-one-out"
        yield f"accuracy, within a standard error ({error:.4f}): --passes {limit:g}."
        return
