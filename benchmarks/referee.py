"""Methods of training-data attribution on one ridge head, scored against real refits.

Usage: python -m benchmarks.referee NAME [--data DATA --checkpoint FILE --tokens DIR] [--only WORD ...]
                                    [--limit SECONDS]

NAME "synthetic": n = 2,000, D = 384, C = 20 (two sub-clusters a class, uneven leverage); else embeddings of DATA as
``CarrotFeatures(lift="identity")`` makes them, every second picture of a class held out. Every tenth training label is
wrong. One head without intercept on centred rows, lam by leave-one-out; 100 test pictures. Its linear module is what
every method gets, with the head's own squared loss and, where it takes one, damping lam / n.

A score is what the predicted class's logit loses without a training picture. Columns:

    error        max |score - refit| over the largest effect, where scores have its unit (else "scale")
    correlation  with refits of one left out, Pearson, mean over test pictures
    lds          Spearman of summed scores with the logits of SUBSETS refitted halves; all sums saturate below 1
    top 20       |sum of its own 20 strongest - what refitting without them loses| over the latter, median
    auroc        of its own self-influence for the wrong labels

Truth is real refits: one without each training picture, SUBSETS of halves, one without each 20. Each method runs in a
process of its own, so that hooks and settings of one don't reach another. --only measures some again, and puts them
into the file that is there.
"""

import argparse
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import RESULTS, write
from benchmarks.referee_peers import METHODS, Problem
from carrot import RidgeHead
from carrot.attribution import group_removal_effect
from carrot.data import ImageFolder, split_indices
from carrot.embedding.encoder import Encoder
from carrot.embedding.setting import Setting
from carrot.evaluation.ranking import auroc
from carrot.referee import write_truth

WRONG, TESTS, SUBSETS, TOP = 0.1, 100, 50, 20


def synthetic(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training rows, their classes, and test rows: classes of two sub-clusters, uneven leverage."""
    n, D, C, K = 2000, 384, 20, 2
    mu, sub = rng.normal(size=(C, D)) * 0.2, rng.normal(size=(C, K, D)) * 0.12
    A, scale = rng.normal(size=(D, D)) / np.sqrt(D), np.linspace(2.0, 0.2, D)

    def draw(k: int) -> tuple[np.ndarray, np.ndarray]:
        y, s = rng.integers(0, C, k), rng.integers(0, K, k)
        z = (rng.normal(size=(k, D)) * scale) @ A * rng.gamma(4, 0.25, size=(k, 1)) + rng.normal(size=(k, D)) * 0.8
        return mu[y] + sub[y, s] + z, y

    G, y = draw(n)
    return G, y, draw(TESTS)[0]


def pictures(a: argparse.Namespace, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the same of a folder's pictures."""
    data = ImageFolder(a.data, 2)
    cache = Encoder(a.backbone, a.checkpoint).cache(data, a.tokens)
    train, test = (split_indices(data, split) for split in ("train", "test"))
    test = sorted(rng.permutation(test)[:TESTS].tolist())
    G, g = (cache.embed(rows, Setting("identity", 0.5)).numpy() for rows in (train, test))
    return G, np.array([data.records[i].label for i in train]), g


def problem(a: argparse.Namespace) -> Problem:
    """Return rows, wrong labels among them, and the head."""
    rng = np.random.default_rng(0)
    G, true, g = synthetic(rng) if a.name == "synthetic" else pictures(a, rng)
    mean = G.mean(axis=0)
    size = np.sqrt(((G - mean) ** 2).sum(axis=1).mean())
    G, g = (G - mean) / size, (g - mean) / size
    C = int(true.max()) + 1
    wrong = np.zeros(len(true), dtype=bool)
    wrong[rng.permutation(len(true))[: int(WRONG * len(true))]] = True
    y = np.where(wrong, (true + rng.integers(1, C, len(true))) % C, true)
    rows = torch.from_numpy(G), torch.from_numpy(y)
    head = RidgeHead("loo").fit(*rows)
    return Problem(
        head, *rows, torch.from_numpy(g), head.predict(torch.from_numpy(g)).argmax(dim=1), torch.from_numpy(wrong)
    )


def correlation(a: Tensor, b: Tensor) -> float:
    """Return the mean over columns of Pearson's."""
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    return float(((a * b).sum(dim=0) / (a.norm(dim=0) * b.norm(dim=0)).clamp(min=1e-300)).mean())


def ranks(x: Tensor) -> Tensor:
    """Return ranks down each column."""
    return x.argsort(dim=0).argsort(dim=0).double()


def refitted(p: Problem) -> Tensor:
    """Return what each target's logit loses without each training picture, (n, m), by n fits."""
    now, asked = p.head.predict(p.g), p.target.unsqueeze(-1)
    return torch.stack([(now - p.head.without(i).predict(p.g)).gather(1, asked)[:, 0] for i in range(len(p.G))])


def judged(p: Problem, truth: Any, loo: Tensor, found: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of one method's scores."""
    row: dict[str, Any] = {name: found[name] for name in ("fit_s", "score_s", "note") if name in found}
    if found.get("S") is not None:
        S = found["S"].double()  # (n, m)
        if not bool(torch.isfinite(S).all()):
            return row | {"failed": "scores are not finite"}
        f, kept = truth.for_lds()
        sums = torch.stack([S[rows].sum(dim=0) for rows in kept])
        own = S.topk(TOP, dim=0).indices
        off, formula = [], []
        for j in range(S.shape[1] if found["unit"] else 0):
            c, group = p.target[j], own[:, j]
            real = float((p.head.predict(p.g[j]) - p.head.without(group).predict(p.g[j]))[c])
            off.append(abs(float(S[group, j].sum()) - real) / abs(real))
            formula.append(abs(float(group_removal_effect(p.head, p.g[j], group)[c]) - real) / abs(real))
        row |= {"correlation": correlation(S, loo), "lds": correlation(ranks(sums), ranks(f))}
        if found["unit"]:
            row |= {"error": float((S - loo).abs().max() / loo.abs().max()), "top": float(np.median(off))}
            row["group_formula"] = float(np.max(formula))
    if found.get("self") is not None and bool(torch.isfinite(found["self"]).all()):
        row["auroc"] = auroc(found["self"].double(), p.wrong)
    return row


def version_of(package: str | None) -> str:
    """Return the version of a package, or why there is none."""
    try:
        return "" if package is None else version(package)
    except PackageNotFoundError:
        return "not installed"


def one(p: Problem, name: str, out: Path) -> None:
    """Run one method, and leave what it found."""
    start = perf_counter()
    found = METHODS[name].run(p)
    torch.save({"all_s": perf_counter() - start, **found}, out)


def main() -> None:
    """Solve, write the truth, run every method by itself, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--backbone", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tokens", type=Path, default=Path("runs/tokens"))
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--limit", type=float, default=300.0, help="seconds of one method; what takes longer is named")
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    p = problem(a)
    if a.method:
        one(p, a.method, a.out)
        return
    n, C = p.head.Y.shape
    print(f"n {n}, D {p.G.shape[1]}, C {C}, lam {p.head.lam:.4g}, {int(p.wrong.sum())} wrong labels", flush=True)
    rows: list[dict[str, object]] = []
    with TemporaryDirectory() as folder:
        start = perf_counter()
        truth = write_truth(p.head, p.g, Path(folder) / "truth", group_sizes=(TOP,), subsets=SUBSETS)
        facts: dict[str, Any] = {"truth_s": perf_counter() - start}
        start = perf_counter()
        loo = refitted(p)
        facts["refits_s"] = perf_counter() - start
        print(f"truth {facts['truth_s']:.1f} s, {n} refits {facts['refits_s']:.1f} s", flush=True)
        for name, method in METHODS.items():
            if a.only and not any(word in name for word in a.only):
                continue
            row: dict[str, object] = {"method": name, "setting": method.setting, "version": version_of(method.package)}
            out = Path(folder) / "found.pt"
            out.unlink(missing_ok=True)
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.referee", *sys.argv[1:], "--method", name]
            try:
                done = subprocess.run(
                    [*command, "--out", str(out)], capture_output=True, text=True, timeout=a.limit, env={**os.environ}
                )
                if out.exists():
                    row |= judged(p, truth, loo, torch.load(out, weights_only=True))
                else:
                    row["failed"] = (done.stderr.strip().splitlines() or ["no word"])[-1][:200]
            except subprocess.TimeoutExpired:
                row["failed"] = f"more than {a.limit:g} s"
            rows.append(row)
            print(json.dumps(row), flush=True)
    facts |= {"n": n, "D": p.G.shape[1], "C": C, "lam": p.head.lam, "tests": TESTS, "subsets": SUBSETS}
    facts |= {"limit": a.limit, "wrong": int(p.wrong.sum())}
    path = RESULTS / f"referee-{a.name}.json"
    if not a.only:
        print("written:", write(f"referee-{a.name}", rows, **facts).name)
        return
    kept, new = json.loads(path.read_text()), {row["method"]: row for row in rows}
    kept["rows"] = [new.get(row["method"], row) for row in kept["rows"]]  # the others stay as they were measured
    path.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
