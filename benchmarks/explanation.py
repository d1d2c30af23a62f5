"""What does taking one logit apart cost as classes grow? CPU seconds, one thread, against all classes, one column kept.

Usage: python -m benchmarks.explanation [--classes 2 20 200] [--N 256] [--D 384] [--n 400] [--rounds 3]

One picture of random tokens, quadratic lift, diffusion at t = 1. Parts: ``take_apart`` (regions by token and node, each
dropped alone, training pictures three ways). Curve: one deletion curve of all regions. The peer asks the same of the
whole head, as a loop over a head's classes would, and keeps the column; it must give the same numbers to 1e-9 of the
largest.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import write
from carrot import DiffusionOperator, GraphReadout, RegionGraphBuilder, RegionSet, RidgeHead, lift_from
from carrot._ridge.logit import Logit
from carrot.attribution import (
    label_contribution,
    region_contribution,
    removal_effect,
    training_contribution,
)
from carrot.embedding.trace import Trace
from carrot.explanation.parts import take_apart
from carrot.regions import grid_positions


def all_classes(trace: Trace, head: RidgeHead, c: int) -> dict[str, Tensor]:
    """Return the parts of logit c from those of every logit."""
    facts = {"lift": trace.lift, "origin": head.g_mean}
    node = {"operator": trace.operator, "graph": trace.graph, "r": trace.r}
    return {
        "token": region_contribution(trace.H, trace.pi, head.W_star, **facts)[:, c],
        "node": region_contribution(trace.H, trace.pi, head.W_star, "node", **node, **facts)[:, c],
        "drop": trace.coalitions(head).each()[:, c],
        "dual": training_contribution(trace.g, head.G, head.alpha, origin=head.g_mean)[:, c],
        "label": label_contribution(head, trace.g)[:, c],
        "removal": removal_effect(head, trace.g)[:, c],
    }


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Return the least CPU seconds of a call, after one that isn't timed."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times[1:])


def main() -> None:
    """Fit, check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 20, 200])
    for name, default in (("N", 256), ("D", 384), ("n", 400), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    side, lift = int(a.N**0.5), lift_from("quadratic")
    tokens = torch.randn(a.n + 1, side * side, a.D, generator=generator, dtype=torch.float64)
    tokens += torch.randn(a.n + 1, 1, a.D, generator=generator, dtype=torch.float64)
    P = grid_positions(side, side, torch.float64)
    operator, readout = DiffusionOperator(1.0), GraphReadout()
    G = lift.embed(tokens[:-1], torch.full(tokens.shape[:2], 1.0 / side**2, dtype=torch.float64)[:-1])
    regions = RegionSet(tokens[-1], P, (side, side))
    trace = Trace.of(regions, RegionGraphBuilder().build(regions), operator, readout, lift)
    rows: list[dict[str, object]] = []
    for C in a.classes:
        head = RidgeHead(1.0, True).fit(G, torch.arange(a.n) % C)
        logit = Logit.predicted(head, trace.g)
        order = torch.arange(side * side)
        found, expected = take_apart(trace, logit), all_classes(trace, head, logit.target)
        curves = [trace.coalitions(q).deletion(order) for q in (logit, head)]
        expected["curve"] = curves[1][:, logit.target]
        error = max(
            float((value - (curves[0][:, 0] if name == "curve" else getattr(found, name))).abs().max())
            / float(value.abs().max())
            for name, value in expected.items()
        )
        if error > 1e-9:
            raise SystemExit(f"C = {C}: the numbers differ by {error:.1e} of the largest.")
        row: dict[str, object] = {"C": C, "error": error}
        for what, runs in {
            "parts": (lambda: take_apart(trace, logit), lambda: all_classes(trace, head, logit.target)),  # noqa: B023
            "curve": tuple(lambda q=q: trace.coalitions(q).deletion(order) for q in (logit, head)),  # noqa: B023
        }.items():
            ours, theirs = (seconds(run, a.rounds) for run in runs)
            row |= {f"{what}_s": ours, f"{what}_all_classes_s": theirs, f"{what}_ratio": theirs / ours}
        rows.append(row)
        print("  ".join(f"{k} {v:.3g}" for k, v in row.items()), flush=True)
    print(write("explanation", rows, N=side * side, D=a.D, n=a.n, lift="quadratic"))


if __name__ == "__main__":
    main()
