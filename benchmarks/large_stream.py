"""What does a head cost whose rows stay on the disk? Time and peak memory of 1.28 million float16 rows, 1,000 classes.

Rows are made (seed fixed) and written to a file; then, in a process of its own, which maps it into memory:

1. fit, lam by exact leave-one-out over the default 21 values: one eigendecomposition;
2. every picture's leave-one-out logits, a block at a time: their accuracy and their squared error, which is the path's;
3. the products that none of it can do without, on one block, times the number of blocks: ``X^T X`` (half), ``X V``,
   ``Z N`` and ``X W`` in float64. The ratio to these is what is not arithmetic.

Usage: python -m benchmarks.large_stream [--rows 1280000] [--D 768] [--C 1000] [--quick] [--name FILE]

Seconds by the wall and of the processors: on a machine that others use too only the second tells, and the ratio is of
those. Peak memory is the operating system's count of that process (Linux), with libraries and those pages of the file
that are there. Answers are checked first: 2,000 rows of it, on the disk and in memory, against fits without a row.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import Clock, write
from carrot import RidgeHead

BLOCK, RANK, SEED = 4096, 64, 0


def make(path: Path, n: int, D: int, C: int) -> torch.Tensor:
    """Write n float16 rows, classes in RANK dimensions plus noise and a mean; return their labels."""
    generator = torch.Generator().manual_seed(SEED)
    labels = torch.randperm(n, generator=generator) % C
    centres, basis = torch.randn(C, RANK, generator=generator), torch.randn(RANK, D, generator=generator) / RANK**0.5
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n, D))
    for rows in torch.arange(n).split(BLOCK):
        latent = centres[labels[rows]] + torch.randn(len(rows), RANK, generator=generator)
        G = latent @ basis + 0.5 * torch.randn(len(rows), D, generator=generator) + 1.0
        file[rows[0] : rows[-1] + 1] = G.numpy()
    file.flush()
    return labels


def rows_of(path: Path) -> torch.Tensor:
    """Return the file's rows, which stay where they are."""
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def check(path: Path, labels: torch.Tensor) -> float:
    """Return how far rows on the disk are from float64 rows in memory, and these from fits without a row."""
    head = RidgeHead("loo", True, copy=False).fit(rows_of(path), labels)
    whole = RidgeHead(head.lam, True).fit(rows_of(path).double(), labels)
    loo = torch.cat([x for _, x in head.loo_blocks()])
    worst = float((loo - whole.loo_predict()).abs().max())
    for i in (0, len(labels) // 2):
        worst = max(worst, float((whole.without(i).predict(whole.G[i]) - loo[i]).abs().max()))
    if worst > 1e-9:
        raise AssertionError(f"rows on the disk are off by {worst:.1e}")
    return worst


def bare(G: torch.Tensor, C: int) -> float:
    """Return the processors' seconds that the products take, at the rate that one block has: best of 5."""
    X, D = G[:BLOCK].double(), G.shape[1]
    square, wide = torch.randn(D, D, dtype=torch.float64), torch.randn(D, C, dtype=torch.float64)
    best = {}
    for _ in range(5):
        for name, right in (("square", square), ("wide", wide)):
            start = time.process_time()
            torch.mm(X, right)
            best[name] = min(best.get(name, 9e9), time.process_time() - start)
    return (2.5 * best["square"] + best["wide"]) * len(G) / len(X)


def measure(path: Path, labels: torch.Tensor) -> dict[str, object]:
    """Fit, ask for every leave-one-out logit, compare with bare products."""
    G, clock = rows_of(path), Clock()
    head = RidgeHead("loo", True, copy=False).fit(G, labels)
    clock.end("fit, 21 values of lam")
    right, squares = 0, 0.0
    for block, logits in head.loo_blocks():
        own = labels[block]
        right += int((logits.argmax(dim=1) == own).sum())
        logits[torch.arange(len(own)), own] -= 1.0
        squares += float(logits.square_().sum())
    clock.end("all leave-one-out logits")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    C = len(head.bias)
    mse, told = squares / len(labels) / C, float(head.loo_path.mse[head.loo_path.best])
    if abs(mse - told) > 1e-5 * told:
        raise AssertionError(f"the path told {told:.6g}, the logits say {mse:.6g}")
    products = bare(G, C)
    return {
        "case": "rows on the disk",
        "n": len(G),
        "D": G.shape[1],
        "C": C,
        "seconds": clock.wall,
        "cpu_seconds": clock.cpu,
        "peak_GiB": round(peak, 3),
        "lam": head.lam,
        "loo_accuracy": right / len(labels),
        "bare_products": products,
        "ratio_to_products": sum(clock.cpu.values()) / products,
    }


def main() -> None:
    """Write the rows, check, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_280_000)
    parser.add_argument("--D", type=int, default=768)
    parser.add_argument("--C", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="a small size, nothing written: checks that it runs")
    parser.add_argument("--name", default="large_stream", help="of the file of results")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.job:
        folder = Path(a.job)
        print(json.dumps(measure(folder / "G.npy", torch.from_numpy(np.load(folder / "labels.npy")))))
        return
    if a.quick:
        a.rows, a.D, a.C = 3000, 24, 10
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        error = check(folder / "few.npy", make(folder / "few.npy", 2000, min(a.D, 100), min(a.C, 50)))
        np.save(folder / "labels.npy", make(folder / "G.npy", a.rows, a.D, a.C).numpy())
        out = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.large_stream", "--job", name],
            capture_output=True,
            text=True,
            check=False,
        )
        if out.returncode:
            raise RuntimeError(f"ended with {out.returncode}: {out.stderr[-2000:]}")
    row = json.loads(out.stdout)
    print(json.dumps(row, indent=1))
    if not a.quick:
        print("written:", write(a.name, [row], seed=SEED, dtype="float16", check_error=error, rank=RANK).name)


if __name__ == "__main__":
    main()
