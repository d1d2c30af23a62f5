"""Many edits of the training set at once, and smallest flips: (test, edit) pairs a second, and how many are proven.

Usage: python -m benchmarks.edits [--quick] [--flips MODEL DATA ...]

First every kind of edit is held against real refits, on the same data. The peers: refitting, which every pair of one
edit shares, and a loop over ``edit_effect``; each is timed on a few edits, in turns. Data are random, with classes.
With --flips, MODEL is a fitted model's folder and DATA what it was fitted on: its held-out pictures are flipped.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness import write
from carrot import Carrot
from carrot.attribution import Edit, RemovalFlips, edit_effect, edit_effects, smallest_relabelling
from carrot.classifier.held_out import held_out
from carrot.edits.effects import edited
from carrot.head import RidgeHead

SIZES = ((3_000, 384, 17), (20_000, 512, 100))
TESTS, SEED, LAM, REFITS = 1_000, 0, 10.0, 2


def world(n: int, D: int, C: int) -> tuple[RidgeHead, Tensor]:
    """Return a fitted head and test embeddings."""
    torch.manual_seed(SEED)
    labels = torch.arange(n) % C
    centres = torch.randn(C, D)
    G = centres[labels] + 2.0 * torch.randn(n, D)
    g = centres[torch.arange(TESTS) % C] + 2.0 * torch.randn(TESTS, D)
    return RidgeHead(LAM, True).fit(G, labels), g.double()


def kinds(head: RidgeHead) -> dict[str, list[Edit] | Tensor]:
    """Return edits of each kind."""
    (n, D), C = head.G.shape, head.Y.shape[1]
    few = torch.stack([torch.randperm(n)[:10] for _ in range(2_000)])
    Z, labels = torch.randn(1_000, D, dtype=torch.float64), head.Y.argmax(dim=1).tolist()
    pairs = torch.stack([torch.randperm(n)[:2] for _ in range(20_000)])
    mixed = [
        Edit(row[:3], {row[3]: (labels[row[3]] + 1) % C}, {row[4]: 2.0}, replace={row[5]: Z[k % len(Z)]})
        for k, row in enumerate(few.tolist())
    ]
    return {
        "delete each": torch.arange(n).unsqueeze(-1),
        "delete pairs": pairs,
        "delete tens": few,
        "relabel each": [Edit(relabel={i: (labels[i] + 1) % C}) for i in range(n)],
        "reweight each": [Edit(reweight={i: 0.5}) for i in range(n)],
        "add one": [Edit(add=(Z[i : i + 1], torch.tensor([i % C]))) for i in range(len(Z))],
        "replace one (a tile hidden)": [Edit(replace={i: Z[i]}) for i in range(min(n, len(Z)))],
        "all kinds, seven entries": mixed,
    }


def as_edit(one: Edit | Tensor) -> Edit:
    """Return an edit of a list, or of a row of groups."""
    return Edit(delete=one.tolist()) if isinstance(one, Tensor) else one


def measure(n: int, D: int, C: int, rounds: int) -> list[dict[str, object]]:
    """Check and time every kind."""
    head, g = world(n, D, C)
    rows, product = [], seconds(lambda: head.smoother(g), rounds)
    for kind, edits in kinds(head).items():
        found = edit_effects(head, g, edits, 0)
        some = range(0, len(edits), max(1, len(edits) // REFITS))[:REFITS]
        start = time.perf_counter()
        refits = [(edited(head, as_edit(edits[k])).predict(g) - head.predict(g))[:, 0] for k in some]
        refit = (time.perf_counter() - start) / len(some)
        error = max(float((found[:, k] - one).abs().max()) for k, one in zip(some, refits, strict=True))
        if error > 1e-10:
            raise AssertionError(f"{kind}: off by {error:.1e}")
        took = seconds(lambda edits=edits: edit_effects(head, g, edits, 0), rounds)
        row = {
            "kind": kind,
            "n": n,
            "D": D,
            "C": C,
            "tests": len(g),
            "edits": len(edits),
            "seconds": took,
            "error": error,
        }
        row |= {"pairs_per_second": len(g) * len(edits) / took, "bare_product_s": product, "refit_s": refit}
        row["over_refits"] = refit * len(edits) / took
        if kind.startswith("delete"):
            loop = seconds(lambda edits=edits, some=some: [edit_effect(head, g, edits[k]) for k in some], 1) / len(some)
            row["over_loop"] = loop * len(edits) / took
        rows.append(row)
        print(f"n {n:>6} {kind:<30} {row['pairs_per_second']:.2e} pairs/s, error {error:.0e}", flush=True)
    return rows


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Return the best of a few rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def flips(folder: str, data: str, most: int) -> dict[str, object]:
    """Flip the held-out pictures of a model."""
    model = Carrot.load(folder)
    test = held_out(model.classifier, data, Path(folder) / "tokens")
    G = test.cache.embed(test.places, model.setting_)
    G = G[:: max(1, len(G) // most)]
    start = time.perf_counter()
    search = RemovalFlips(model.head_)
    prepared = time.perf_counter() - start
    found, times = [], []
    for g in G:
        start = time.perf_counter()
        found.append(search.of(g))
        times.append(time.perf_counter() - start)
    labels = [smallest_relabelling(model.head_, g) for g in G]
    sizes = [len(flip.indices) for flip in found if flip.becomes is not None]
    return {
        "data": Path(data.partition(":")[2] or data).name,
        "n": len(model.head_.G),
        "pictures": len(found),
        "proven": sum(flip.is_smallest for flip in found),
        "by_size": {str(k): sum(flip.is_smallest and len(flip.indices) == k for flip in found) for k in range(1, 6)},
        "larger": sum(flip.least > 5 for flip in found),
        "undecided": sum(flip.least <= 5 and not flip.is_smallest for flip in found),
        "median_size": int(torch.tensor(sizes).median()),
        "largest": max(sizes),
        "median_labels": int(torch.tensor([len(flip.indices) for flip in labels]).median()),
        "prepare_s": prepared,
        "median_s": float(torch.tensor(times).median()),
        "slowest_s": max(times),
    }


def main() -> None:
    """Check, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small size, nothing written: checks that it runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flips", nargs="+", metavar="MODEL DATA", help="folders of models, each with its data")
    parser.add_argument("--most", type=int, default=120, help="pictures of each model that are flipped")
    a = parser.parse_args()
    if a.flips:
        pairs = zip(a.flips[::2], a.flips[1::2], strict=True)
        rows = [flips(folder, data, a.most) for folder, data in pairs]
        for row in rows:
            print(row)
        print("written:", write("flips", rows).name)
        return
    sizes = ((300, 40, 5),) if a.quick else SIZES
    rows = [row for n, D, C in sizes for row in measure(n, D, C, a.rounds)]
    if not a.quick:
        print("written:", write("edits", rows, seed=SEED, lam=LAM).name)


if __name__ == "__main__":
    main()
