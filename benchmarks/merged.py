"""What does a model of ImageNet's size cost, made of embeddings that are there, and attributing 1,000 answers.

Embeddings are made (seed fixed) and written to a file, as ``carrot merge`` finds them; then, in a process of its own,
which maps it into memory:

1. fit: statistics, lam by exact leave-one-out over the default 21 values;
2. leave-one-out of every picture, a block at a time: accuracy and squared error, which is the path's;
3. m new pictures: the training pictures without which each predicted logit would change most, k up and k down, exactly;
4. the effect of one training picture on one logit, again and again;
5. the products that none of 1 to 3 can do without, on one block, times the number of blocks, in float64: ``X^T X`` and
   the whitened rows (half each), ``X V``, ``Z N``, ``X W``, and X with m and with q columns, q the different classes.

Usage: python -m benchmarks.merged [--rows 1280000] [--D 768] [--C 1000] [--tests 1000] [--quick] [--name FILE]

Seconds by the wall and of the processors: on a machine that others use too only the second tells, and the ratio is of
those. Peak memory is the operating system's count of that process (Linux), with libraries and those pages of the file
that are there. Answers are checked first: rows on the disk, against every effect of float64 rows in memory and, of the
best, against fits without the picture.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import Clock, write
from benchmarks.large_stream import BLOCK, RANK, SEED, make, rows_of
from carrot import RidgeHead
from carrot.influence import group_removal_effect, removal_effect, supporters_and_opposers

K = 10


def tests_of(path: Path, m: int) -> torch.Tensor:
    """Return m pictures that are like the rows of a file: between two of them."""
    G, generator = rows_of(path), torch.Generator().manual_seed(SEED + 1)
    first, second = torch.randint(len(G), (2, m), generator=generator)
    return (G[first].double() + G[second].double()) / 2


def check(path: Path, labels: torch.Tensor) -> float:
    """Return how far the best effects of rows on the disk are from all effects, and these from fits, of the largest."""
    head, g = RidgeHead("loo", True).fit(partial(rows_of, path), labels), tests_of(path, 20)
    whole = RidgeHead(head.lam, True).fit(rows_of(path).double(), labels)
    every = removal_effect(whole, g)[torch.arange(20), :, whole.predict(g).argmax(dim=1)]
    worst, scale = 0.0, float(every.abs().max())
    for largest, (values, indices) in zip((True, False), supporters_and_opposers(head, g, K, "removal"), strict=True):
        worst = max(worst, float((every.topk(K, largest=largest).values - values).abs().max()) / scale)
        i, c = int(indices[0, 0]), int(whole.predict(g[0]).argmax())
        refit = float((whole.predict(g[0]) - whole.without(i).predict(g[0]))[c])
        worst = max(worst, abs(refit - float(values[0, 0])) / scale)
    if worst > 1e-9:
        raise AssertionError(f"the best effects are off by {worst:.1e} of the largest")
    return worst


def bare(G: torch.Tensor, columns: int) -> float:
    """Return the processors' seconds that rows times so many columns take, at the rate of one block: best of 5."""
    X, best = G[:BLOCK].double(), 9e9
    right = torch.randn(G.shape[1], columns, dtype=torch.float64)
    for _ in range(5):
        start = time.process_time()
        torch.mm(X, right)
        best = min(best, time.process_time() - start)
    return best * len(G) / len(X)


def measure(path: Path, labels: torch.Tensor, m: int) -> dict[str, object]:
    """Fit, sum up every leave-one-out logit, attribute m answers, compare with bare products."""

    def figures(block: slice, logits: torch.Tensor) -> tuple[int, float]:
        own = labels[block]
        right = int((logits.argmax(dim=1) == own).sum())
        logits[torch.arange(len(own)), own] -= 1.0
        return right, float(logits.square_().sum())

    g = tests_of(path, m)  # first: what it maps of the file would count twice beside the fit's own
    clock = Clock()
    head = RidgeHead("loo", True).fit(partial(rows_of, path), labels)
    clock.end("fit, 21 values of lam")
    found = [x for _, x in head.loo_map(figures)]
    clock.end("leave-one-out figures")
    asked = len(head.predict(g).argmax(dim=1).unique())
    supporters_and_opposers(head, g, K, "removal")
    clock.end(f"{m} answers attributed")
    one = []
    for i in torch.randint(len(labels), (200,), generator=torch.Generator().manual_seed(SEED)).tolist():
        start = time.perf_counter()
        group_removal_effect(head, g[:1], [i])
        one.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    G, C = rows_of(path), len(head.bias)
    mse, told = sum(x for _, x in found) / len(labels) / C, float(head.loo_path.mse[head.loo_path.best])
    if abs(mse - told) > 1e-5 * told:
        raise AssertionError(f"the path told {told:.6g}, the logits say {mse:.6g}")
    square, wide, tests, classes = (bare(G, width) for width in (G.shape[1], C, m, asked))
    products = 3.0 * square + wide + tests + classes
    return {
        "case": "rows on the disk",
        "n": len(G),
        "D": G.shape[1],
        "C": C,
        "tests": m,
        "classes_asked": asked,
        "seconds": clock.wall,
        "cpu_seconds": clock.cpu,
        "one_effect_ms": {"median": 1e3 * sorted(one)[100], "largest": 1e3 * max(one)},
        "peak_GiB": round(peak, 3),
        "lam": head.lam,
        "loo_accuracy": sum(x for x, _ in found) / len(labels),
        "bare_products": products,
        "ratio_to_products": sum(clock.cpu.values()) / products,
    }


def main() -> None:
    """Write the rows, check, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_280_000)
    parser.add_argument("--D", type=int, default=768)
    parser.add_argument("--C", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="a small size, nothing written: checks that it runs")
    parser.add_argument("--name", default="merged", help="of the file of results")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.job:
        folder = Path(a.job)
        labels = torch.from_numpy(np.load(folder / "labels.npy"))
        print(json.dumps(measure(folder / "G.npy", labels, a.tests)))
        return
    if a.quick:
        a.rows, a.D, a.C, a.tests = 3000, 24, 10, 30
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        error = check(folder / "few.npy", make(folder / "few.npy", 2000, min(a.D, 100), min(a.C, 400)))
        np.save(folder / "labels.npy", make(folder / "G.npy", a.rows, a.D, a.C).numpy())
        out = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.merged", "--job", name, "--tests", str(a.tests)],
            capture_output=True,
            text=True,
            check=False,
        )
        if out.returncode:
            raise RuntimeError(f"ended with {out.returncode}: {out.stderr[-2000:]}")
    row = json.loads(out.stdout)
    print(json.dumps(row, indent=1))
    if not a.quick:
        print("written:", write(a.name, [row], seed=SEED, dtype="float16", check_error=error, rank=RANK, k=K).name)


if __name__ == "__main__":
    main()
