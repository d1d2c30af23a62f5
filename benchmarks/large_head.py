"""What does a head on tens of thousands of features cost? Time and peak memory, against scikit-learn where that fits.

Four cases, float32 embeddings of width M, answers exact in float64; answers are checked first, on a small problem,
against least squares.

1. fit with lam fixed (peer: Ridge, solver "cholesky", which also takes the smaller of both forms).
2. fit with lam by exact leave-one-out over the default 21 values (peer: RidgeClassifierCV over the same values, in the
   mode that it takes for that shape).
3. a fit with lam fixed, and then every picture's leave-one-out prediction.
4. removal of 1, 10 and 100 pictures, and the weights when they are asked for, against fitting again without them;
   both weights are compared.

Usage: python -m benchmarks.large_head [--n 3000] [--M 18528] [--C 100] [--rounds 3] [--only CASE ...] [--no-peers]
                                       [--quick] [--name FILE]
With more rows than features, and peers, as in a head of one backbone:
    --n 20000 --M 512 --name large_head_20k_512
n = 50,000 is the primal form, a matter of most of 24 GiB and many minutes, and without peers: scikit-learn copies the
rows in float64 (twice 7.4 GB). Choosing lam there is an eigendecomposition of M x M; at M = 18,528 it is better done on
fewer pictures:
    --n 50000 --rounds 1 --no-peers --only "all leave-one-out predictions" --name large_head_50k
    --n 50000 --M 4096 --rounds 1 --no-peers --only "fit, lam by leave-one-out" --name large_head_50k_4096
    --n 50000 --M 4096 --rounds 1 --no-peers --only removal --name large_head_50k_4096_removal
Each case runs in a process of its own, whose peak is the operating system's count (Linux): the libraries and the
caller's G included. With one thread (OMP_NUM_THREADS=1) seconds are the processor's, which other work on the machine
changes less. Embeddings are low rank plus noise, with a mean; seed fixed. The peers get the rows in float64, the
precision in which they answer.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.harness import write
from carrot import RidgeHead
from carrot._ridge.blocks import square_sum, weighted_mean

LAM, RANK, SEED = 100.0, 64, 0
CLOCK = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
REMOVED = (1, 10, 100)
CASES = ("fit", "fit, lam by leave-one-out", "all leave-one-out predictions", "removal")
PEERS = ("fit", "fit, lam by leave-one-out")


def embeddings(n: int, M: int, C: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes in RANK dimensions, mapped to M, plus noise and a mean; float32, written a block of rows at a time."""
    generator = torch.Generator().manual_seed(SEED)
    labels = torch.arange(n) % C
    centres, basis = torch.randn(C, RANK, generator=generator), torch.randn(RANK, M, generator=generator) / RANK**0.5
    G = torch.empty(n, M)
    for rows in torch.arange(n).split(512):
        latent = centres[labels[rows]] + torch.randn(len(rows), RANK, generator=generator)
        G[rows[0] : rows[-1] + 1] = latent @ basis + 0.5 * torch.randn(len(rows), M, generator=generator) + 1.0
    return G, labels


def least_squares(G: torch.Tensor, Y: torch.Tensor) -> np.ndarray:
    """(M + 1, C): weights and bias without normal equations."""
    n, M = G.shape
    rows = np.vstack([np.hstack([G.double().numpy(), np.ones((n, 1))]), LAM**0.5 * np.eye(M, M + 1)])
    return np.linalg.lstsq(rows, np.vstack([Y.numpy(), np.zeros((M, Y.shape[1]))]), rcond=None)[0]


def check() -> float:
    """Return the largest error of weights, leave-one-out, removal on small problems of both forms; raise over 1e-9."""
    worst = 0.0
    for n, M in ((60, 200), (200, 60)):
        G, labels = embeddings(n, M, 5)
        head = RidgeHead(LAM, True).fit(G, labels)
        exact = least_squares(G, head.Y)
        errors = [head.W_star - torch.tensor(exact[:-1]), head.bias - torch.tensor(exact[-1])]
        loo = head.loo_predict()
        for i in (0, n // 2, n - 1):
            stay = torch.arange(n) != i
            exact = least_squares(G[stay], head.Y[stay])
            errors.append(loo[i] - torch.tensor(G[i].double().numpy() @ exact[:-1] + exact[-1]))
        gone = list(range(10))
        exact = least_squares(G[10:], head.Y[10:])
        errors.append(head.remove(gone).W_star - torch.tensor(exact[:-1]))
        worst = max(worst, *(float(e.abs().max()) for e in errors))
    if worst > 1e-9:
        raise AssertionError(f"the head is off by {worst:.1e}")
    return worst


def seconds(run: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = CLOCK()
        run()
        times.append(CLOCK() - start)
    return min(times)  # what else the machine does only adds


def measure(case: str, who: str, n: int, M: int, C: int, rounds: int) -> dict[str, object]:
    """Run one case in this process; return seconds and peak memory."""
    found = peer(case, n, M, C, rounds) if who == "scikit-learn" else ours(case, *embeddings(n, M, C), rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**found, "peak_GiB": round(peak, 3)}


def ours(case: str, G: torch.Tensor, labels: torch.Tensor, rounds: int) -> dict[str, object]:
    """Return the head's time."""
    if case == "removal":
        found = removal(G, labels)
    elif case == "all leave-one-out predictions":
        fitted = RidgeHead(LAM, True)
        fit = seconds(lambda: fitted.fit(G, labels).W_star, 1)
        found = {"seconds": {"fit": fit, "leave-one-out": seconds(fitted.loo_predict, 1)}}  # computed once, then kept
    else:
        head = RidgeHead(LAM if case == "fit" else "loo", True)
        found = {"seconds": seconds(lambda: head.fit(G, labels).W_star, rounds), "lam": head.lam}
    return found


def removal(G: torch.Tensor, labels: torch.Tensor) -> dict[str, object]:
    """Remove 1, then 10, then 100 pictures more; fit again without them all."""
    head, found = RidgeHead(LAM, True).fit(G, labels), {}
    _ = head.W_star  # of the dual form they come when somebody asks
    for k in REMOVED:
        found[f"remove {k}"] = seconds(partial(head.remove, torch.arange(k)), 1)
        found[f"remove {k}, weights"] = found[f"remove {k}"] + seconds(partial(getattr, head, "W_star"), 1)
    left = sum(REMOVED)
    W_star, Y = head.W_star, head.Y
    del head
    refit = RidgeHead(LAM, True)
    G = G[left:]
    found["refit"] = seconds(lambda: refit.fit(G, Y).W_star, 1)
    error = float((W_star - refit.W_star).norm() / refit.W_star.norm())
    if error > 1e-9:
        raise AssertionError(f"removal is off by {error:.1e} of the weights")
    ratio = {name: found["refit"] / taken for name, taken in found.items() if name != "refit"}
    return {"seconds": found, "error": error, "ratio": ratio}


def peer(case: str, n: int, M: int, C: int, rounds: int) -> dict[str, object]:
    """Return scikit-learn's time, in float64 on the same 0 and 1 targets; it holds no float32 copy."""
    from sklearn.linear_model import Ridge, RidgeClassifierCV

    G, labels = embeddings(n, M, C)
    w = torch.ones(n, dtype=torch.float64)
    trace = square_sum(G, w) - n * float(weighted_mean(G, w).square().sum())
    X, Y = G.double().numpy(), torch.nn.functional.one_hot(labels).double().numpy()
    del G
    path = np.logspace(-7, 3, 21) * trace / min(n, M)  # the head's own default
    model, target = (Ridge(LAM, solver="cholesky"), Y) if case == "fit" else (RidgeClassifierCV(path), labels.numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        time_taken = seconds(lambda: model.fit(X, target), rounds)
    return {"seconds": time_taken, "lam": float(getattr(model, "alpha_", LAM))}


def apart(case: str, who: str, n: int, a: argparse.Namespace, rounds: int) -> dict[str, object]:
    """Run ``measure`` in a process of its own."""
    job = json.dumps([case, who, n, a.M, a.C, rounds])
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.large_head", "--job", job],
        capture_output=True,
        text=True,
        check=False,
    )
    if out.returncode:
        raise RuntimeError(f"{case} by {who} at n = {n} ended with {out.returncode}: {out.stderr[-2000:]}")
    data = n * a.M * 4 / 2**30
    row = {"case": case, "who": who, "n": n, "M": a.M, "C": a.C, "rounds": rounds, "G_GiB": round(data, 3)}
    return {**row, **json.loads(out.stdout)}


def main() -> None:
    """Check, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--M", type=int, default=18_528)
    parser.add_argument("--C", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a small size, nothing written: checks that it runs")
    parser.add_argument("--name", default="large_head", help="of the file of results")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.job:
        print(json.dumps(measure(*json.loads(a.job))))
        return
    if a.quick:
        a.n, a.M, a.C, a.rounds = 300, 1000, 5, 1
    error = check()
    rows = []
    for case in a.only:
        peers = ["scikit-learn"] if case in PEERS and not a.no_peers else []
        chosen: set[float] = set()
        for who in ["carrot", *peers]:
            row = apart(case, who, a.n, a, a.rounds)
            rows.append(row)
            chosen.add(float(f"{row.get('lam', LAM):.6g}"))
            if len(chosen) > 1:
                raise AssertionError(f"{case}: lam differs, {chosen}")
            print(f"n {a.n:>6}  {case:<30} {who:<13} {row['peak_GiB']:>7.2f} GiB  {row['seconds']}", flush=True)
    if not a.quick:
        more = {
            "seed": SEED,
            "dtype": "float32",
            "check_error": error,
            "rank": RANK,
            "fixed_lam": LAM,
            "clock": CLOCK.__name__,
        }
        print("written:", write(a.name, rows, **more).name)


if __name__ == "__main__":
    main()
