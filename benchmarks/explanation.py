"""What does taking one logit apart cost as classes grow? CPU seconds, one thread, against all classes, one column kept.

Usage: python -m benchmarks.explanation [--classes 2 20 200] [--N 256 1369] [--D 384] [--n 400] [--t 0] [--rounds 3]

One picture of random tokens, quadratic lift, no diffusion, as `carrot fit` has it unless told otherwise. Parts:
``take_apart`` (regions by token and node, each dropped alone, training pictures three ways). Curve: one deletion curve
of all regions. The peer asks the same of the whole head and keeps the column; it passes over the training embeddings
once, as ours does, so that classes alone make the difference. It must give the same numbers to 1e-9 of the largest.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import write
from carrot import DiffusionOperator, GraphReadout, RegionGraphBuilder, RegionSet, RidgeHead, lift_from
from carrot._ridge.logit import Logit
from carrot.attribution import region_contribution
from carrot.embedding.trace import Trace
from carrot.explanation.parts import take_apart
from carrot.regions import grid_positions


def all_classes(trace: Trace, head: RidgeHead, c: int) -> dict[str, Tensor]:
    """Return the parts of logit c from those of every logit."""
    facts = {"lift": trace.lift, "origin": head.g_mean}
    node = {"operator": trace.operator, "graph": trace.graph, "r": trace.r}
    products, smoother = (x.unsqueeze(-1) for x in head.account(trace.g))  # (n, 1): one pass, as for one class
    return {
        "token": region_contribution(trace.H, trace.pi, head.W_star, **facts)[:, c],
        "node": region_contribution(trace.H, trace.pi, head.W_star, "node", **node, **facts)[:, c],
        "drop": trace.coalitions(head).each()[:, c],
        "dual": (products * head.alpha)[:, c],
        "label": (smoother * head.Y)[:, c],
        "removal": (smoother * (head.residual / head.slack.unsqueeze(-1)))[:, c],
    }


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Return the least CPU seconds of a call, after one that isn't timed."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times[1:])


def world(N: int, D: int, n: int, t: float) -> tuple[Trace, Tensor]:
    """Return one picture of N regions, traced, and the embeddings of n training pictures of 64 regions each."""
    generator = torch.Generator().manual_seed(0)
    side, lift = int(N**0.5), lift_from("quadratic")
    tokens = torch.randn(n, 64, D, generator=generator, dtype=torch.float64)
    tokens += torch.randn(n, 1, D, generator=generator, dtype=torch.float64)
    G = lift.embed(tokens, torch.full((n, 64), 1.0 / 64, dtype=torch.float64))
    H = torch.randn(side * side, D, generator=generator, dtype=torch.float64)
    regions = RegionSet(H, grid_positions(side, side, torch.float64), (side, side))
    trace = Trace.of(regions, RegionGraphBuilder().build(regions), DiffusionOperator(t), GraphReadout(), lift)
    return trace, G


def measured(trace: Trace, head: RidgeHead, rounds: int) -> dict[str, object]:
    """Return seconds of both, and how far their numbers are apart, of the largest.

    Raises:
        SystemExit: They are not the same.
    """
    logit, order = Logit.predicted(head, trace.g), torch.arange(len(trace.H))
    found, expected = take_apart(trace, logit), all_classes(trace, head, logit.target)
    curve, curves = (trace.coalitions(q).deletion(order) for q in (logit, head))
    pairs = [(getattr(found, name), value) for name, value in expected.items()]
    pairs.append((curve[:, 0], curves[:, logit.target]))
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    if error > 1e-9:
        raise SystemExit(f"C = {head.Y.shape[1]}: the numbers differ by {error:.1e} of the largest.")
    row: dict[str, object] = {"N": len(trace.H), "D": trace.H.shape[1], "C": head.Y.shape[1], "error": error}
    runs = {
        "parts": (lambda: take_apart(trace, logit), lambda: all_classes(trace, head, logit.target)),
        "curve": (lambda: trace.coalitions(logit).deletion(order), lambda: trace.coalitions(head).deletion(order)),
    }
    for what, (one, every) in runs.items():
        ours, theirs = seconds(one, rounds), seconds(every, rounds)
        row |= {f"{what}_s": ours, f"{what}_all_classes_s": theirs, f"{what}_ratio": theirs / ours}
    return row


def main() -> None:
    """Fit, check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 20, 200])
    parser.add_argument("--N", type=int, nargs="+", default=[256, 1369])
    for name, default in (("D", 384), ("n", 400), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--t", type=float, default=0.0)
    a = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for N in a.N:
        trace, G = world(N, a.D, a.n, a.t)
        for C in a.classes:
            rows.append(measured(trace, RidgeHead(1.0, True).fit(G, torch.arange(a.n) % C), a.rounds))
            print("  ".join(f"{name} {value:.3g}" for name, value in rows[-1].items()), flush=True)
    print(write("explanation", rows, n=a.n, t=a.t, lift="quadratic"))


if __name__ == "__main__":
    main()
