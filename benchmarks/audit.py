"""How long does an audit take, once pictures are embedded? All of it, its parts, of a fitted model and of a loaded one.

Usage: python -m benchmarks.audit [--n 3000] [--M 18528] [--C 100] [--name FILE] [--quick]
       python -m benchmarks.audit --n 50000 --M 512 --name audit_50k

Rows are synthetic float32: classes and noise; 5 % of the labels are the next class's, and 1 % of the pictures are near
copies of others. Checked before it is timed: exactly the planted copies are told, and of the planted labels that don't
lie in a copy 80 % look wrong. "Loaded" is a head from its saved state, of which the system is solved anew: n^2 M / 2
for n <= M. With one thread (OMP_NUM_THREADS=1) seconds are the processor's.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import write
from benchmarks.large_head import CLOCK
from carrot import RidgeHead
from carrot.classifier import audit
from carrot.classifier.audit import Audit
from carrot.classifier.fitted import Fitted
from carrot.classifier.records import TrainingRecord
from carrot.embedding.setting import Setting
from carrot.evaluation.calibration import fit_temperature

PARTS = {
    "order": "Doubt",
    "near duplicates": "near_duplicates",
    "worth of fixes": "with_worth",
    "groups": "hidden_groups",
}


def world(n: int, M: int, C: int) -> tuple[Tensor, Tensor, set[int], set[tuple[int, int]]]:
    """Return embeddings, labels, the pictures whose label is wrong, and the pairs of near copies."""
    rng, classes = torch.Generator().manual_seed(0), torch.arange(n) % C
    G = 0.5 * torch.randn(C, M, generator=rng)[classes] + torch.randn(n, M, generator=rng)
    order, copies, wrong = torch.randperm(n, generator=rng), n // 100, n // 20
    one, other, moved = order[:copies], order[copies : 2 * copies], order[2 * copies : 2 * copies + wrong]
    G[other] = G[one] + 0.1 * torch.randn(copies, M, generator=rng)
    labels = classes.clone()
    labels[other] = labels[one]
    labels[moved] = (labels[moved] + 1) % C
    pairs = {(min(i, j), max(i, j)) for i, j in zip(one.tolist(), other.tolist(), strict=True)}
    return G, labels, set(moved.tolist()), pairs


def fitted(head: RidgeHead, labels: Tensor, T: float) -> Fitted:
    """Return a model of that head."""
    records = tuple(TrainingRecord(str(i), label, str(i)) for i, label in enumerate(labels.tolist()))
    return Fitted(head, Setting("identity"), tuple(map(str, range(int(labels.max()) + 1))), records, T)


def clocked(name: str, function: Callable[..., Any], taken: dict[str, float], *args: Any, **kwargs: Any) -> Any:
    """Call a part of an audit; note how long it takes."""
    start = CLOCK()
    found = function(*args, **kwargs)
    taken[name] = CLOCK() - start
    return found


def timed(model: Fitted) -> tuple[Audit, dict[str, float]]:
    """Return an audit, and the seconds of it and of its parts."""
    taken, kept = dict[str, float](), {name: getattr(audit, attribute) for name, attribute in PARTS.items()}
    try:
        for name, attribute in PARTS.items():
            setattr(audit, attribute, partial(clocked, name, kept[name], taken))
        found = clocked("all", Audit.of, taken, model)
    finally:
        for name, attribute in PARTS.items():
            setattr(audit, attribute, kept[name])
    return found, taken


def check(found: Audit, wrong: set[int], pairs: set[tuple[int, int]]) -> None:
    """Raise if an audit doesn't tell what was planted."""
    told = {(min(int(p.first), int(p.second)), max(int(p.first), int(p.second))) for p in found.duplicates}
    if told != pairs:
        raise AssertionError(f"{len(told ^ pairs)} pairs are told wrongly, of {len(pairs)}")
    seen = {int(s.id) for s in found.contradicted}
    if len(seen & wrong) < 0.8 * len(wrong):
        raise AssertionError(f"{len(seen & wrong)} of {len(wrong)} wrong labels are told")


def main() -> None:
    """Fit, audit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--M", type=int, default=18_528)
    parser.add_argument("--C", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="a small size, nothing written: checks that it runs")
    parser.add_argument("--name", default="audit", help="of the file of results")
    a = parser.parse_args()
    if a.quick:
        a.n, a.M, a.C = 300, 400, 5
    G, labels, wrong, pairs = world(a.n, a.M, a.C)
    head = RidgeHead(10.0 * a.M, True).fit(G, labels)
    del G
    T = fit_temperature(head.loo_predict(), labels)
    rows: list[dict[str, object]] = []
    for kind in ("fitted", "loaded"):
        if kind == "loaded":
            head = RidgeHead.from_state(head.state(), head.lam, True)
        found, taken = timed(fitted(head, labels, T))
        check(found, wrong, pairs)
        rows.append({"model": kind, "n": a.n, "M": a.M, "C": a.C, "seconds": taken})
        parts = ", ".join(f"{name} {taken[name]:.2f}" for name in PARTS)
        print(f"audit of {a.n:,} x {a.M:,}, {kind}: {taken['all']:.2f} s ({parts})", flush=True)
    if not a.quick:
        print("written:", write(a.name, rows, clock=CLOCK.__name__).name)


if __name__ == "__main__":
    main()
