"""What does a model of a million pictures and 10,000 classes cost? Seconds and peak memory of all that is done with it.

Embeddings are made (seed fixed; 1 % of labels are wrong) and given block by block; then, each in a process of its own:

1. *fit*: rows written to one file of the model's folder, in a stream, and mapped from there; fit, lam by exact
   leave-one-out over the default 21 values; the temperature; leave-one-out figures; the model's hash; the model saved;
2. *load*: the model read, every byte verified; 1,000 embeddings predicted; one picture found by its id; one logit taken
   apart by training picture;
3. *audit*: all labels, by exact leave-one-out.

Usage: python -m benchmarks.million [--rows 1000000] [--D 192] [--C 10000] [--quick] [--name FILE] [--skip audit]

Seconds by the wall and of the processors: on a machine that others use too only the second tells. Memory: the most that
was the process's own at a time (RssAnon, looked at every 50 ms; Linux), and with the pages of mapped files, which the
system drops when it needs room. Answers are checked first, on 2,000 rows: by blocks against all at once, and against
fits without a row.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Clock, write
from carrot import Carrot, RidgeHead
from carrot._ridge import asked
from carrot.classifier.audit import Audit
from carrot.classifier.classifier import Classifier
from carrot.classifier.files import save
from carrot.classifier.merging import fit_rows, stored_rows
from carrot.classifier.records import TrainingRecord
from carrot.classifier.remembered import RememberedRecords, as_line
from carrot.embedding.encoder import Encoder
from carrot.embedding.setting import Setting
from carrot.store.lines import Lines

BLOCK, RANK, SEED, WRONG = 8192, 64, 0, 100  # one label of WRONG is wrong


class Made:
    """The synthetic data set: labels, and rows block by block, the same each time."""

    def __init__(self, n: int, D: int, C: int) -> None:
        self.n, self.D, self.C = n, D, C
        generator = torch.Generator().manual_seed(SEED)
        self.true = torch.randperm(n, generator=generator) % C
        self.centres = torch.randn(C, RANK, generator=generator)
        self.basis = torch.randn(RANK, D, generator=generator) / RANK**0.5
        self.labels = self.true.clone()
        self.labels[::WRONG] = (self.labels[::WRONG] + 1) % C

    def blocks(self) -> Iterator[torch.Tensor]:
        """Yield the rows, float32."""
        for number, rows in enumerate(torch.arange(self.n).split(BLOCK)):
            yield self.like(self.true[rows], number)

    def like(self, true: torch.Tensor, number: int) -> torch.Tensor:
        """Return embeddings of some classes."""
        generator = torch.Generator().manual_seed(SEED + 1 + number)
        latent = self.centres[true] + 0.7 * torch.randn(len(true), RANK, generator=generator)
        return latent @ self.basis + 0.3 * torch.randn(len(true), self.D, generator=generator) + 1.0

    def records(self, path: Path) -> RememberedRecords:
        """Return their records, as lines of a file."""
        with open(path, "wb") as file:
            for i, label in enumerate(self.labels.tolist()):
                name = f"class{label:05}/picture{i:07}.jpg"
                file.write(as_line(TrainingRecord(name, label, f"{i:064x}", f"/pictures/{name}", i)) + b"\n")
        return RememberedRecords(Lines.of(path))

    def fit(self, folder: Path, clock: Clock | None = None) -> Classifier:
        """Return the model of all of them, whose rows are in ``folder``."""
        records = self.records(folder.with_suffix(".jsonl"))
        clock = clock or Clock()
        G = stored_rows(folder, self.n, self.D, torch.float32, self.blocks)()
        clock.end("rows made and written")
        names = [f"class{c:05}" for c in range(self.C)]
        model = fit_rows(Encoder("toy"), Setting("identity"), names, "name", records, G)
        clock.end("fit, 21 values of lam, temperature")
        return model


class Memory:
    """The most memory that the process had to itself."""

    def __init__(self) -> None:
        self.most, self._on = 0, True
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while self._on:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.most = max(self.most, int(line.split()[1]))
            time.sleep(0.05)

    def told(self) -> dict[str, float]:
        """Return it in GiB, and with pages of files."""
        self._on = False
        whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"own_GiB": round(self.most / 2**20, 3), "with_files_GiB": round(whole / 2**20, 3)}


def check(folder: Path) -> float:
    """Return the largest difference between a model by blocks, one at once, and fits without a row.

    Raises:
        AssertionError: It is more than rounding.
    """
    made = Made(2000, 24, 20)
    model = made.fit(folder)
    head, fitted = model.fitted.head, model.fitted
    whole = RidgeHead("loo", True).fit(torch.cat(list(made.blocks())), made.labels)
    if not torch.equal(whole.W_star, head.W_star):
        raise AssertionError("rows of a file give other weights than rows in memory")
    T, figures, audit = fitted.temperature, fitted.leave_one_out(), Audit.of(fitted)
    held, asked.HELD = asked.HELD, 0
    try:
        by_blocks = fitted.left_out
        worst = abs(by_blocks.temperature() / T - 1)
        for name, value in by_blocks.figures(T).items():
            worst = max(worst, abs(value - figures[name]))
        ours = {s.id for s in Audit.of(fitted).doubtful}
    finally:
        asked.HELD = held
    if ours != {s.id for s in audit.doubtful}:
        raise AssertionError("by blocks other labels are doubtful")
    loo = torch.cat([x for _, x in head.loo_blocks()])
    for i in (0, 1000):
        worst = max(worst, float((whole.without(i).predict(whole.G[i].double()) - loo[i]).abs().max()))
    if worst > 1e-9:
        raise AssertionError(f"by blocks it is off by {worst:.1e}")
    save(folder, model)
    if Carrot.load(folder).sha256 != model.sha256:
        raise AssertionError("a model that was saved and loaded is another")
    return worst


def job(which: str, folder: Path, made: Made) -> dict[str, Any]:
    """Do one of the three, and return what it took."""
    memory, clock, facts = Memory(), Clock(), dict[str, Any]()
    if which == "fit":
        model = made.fit(folder, clock)
        facts = dict(model.fitted.leave_one_out())
        clock.end("leave-one-out figures")
        facts |= {"sha256": model.sha256[:12], "lam": model.fitted.head.lam, "temperature": model.fitted.temperature}
        clock.end("hash of the state")
        save(folder, model)
        clock.end("save")
        facts["files_bytes"] = {p.name.split("-")[0]: p.stat().st_size for p in folder.iterdir() if p.is_file()}
    if which == "load":
        now = Carrot.load(folder)
        clock.end("load, every byte verified")
        true = made.true[: min(1000, made.n)]
        logits = now.head_.predict(made.like(true, made.n))
        clock.end("1,000 embeddings predicted")
        facts["accuracy"] = float((logits.argmax(dim=1) == true).double().mean())
        row = now.fitted.row_of(now.records_[made.n // 2].id)
        clock.end("one picture found by its id, the first")
        if row != made.n // 2:
            raise AssertionError("it is another picture")
        now.fitted.row_of(now.records_[made.n // 3].id)
        clock.end("one picture found by its id, later")
    if which == "audit":
        now = Carrot.load(folder)
        clock.end("load, every byte verified")
        found = Audit.of(now.fitted)
        clock.end("audit")
        wrong = {f"class{int(made.labels[i]):05}/picture{i:07}.jpg" for i in range(0, made.n, WRONG)}
        doubtful = [s.id for s in found.doubtful]
        facts = {
            "doubtful": len(doubtful),
            "planted": len(wrong),
            "planted_that_are_doubtful": len(wrong & set(doubtful)),
            "planted_among_as_many_first": len(wrong & set(doubtful[: len(wrong)])),
            "left_out": list(found.notes),
        }
    return {"case": which, "seconds": clock.wall, "cpu_seconds": clock.cpu, **memory.told(), **facts}


def main() -> None:
    """Check, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--D", type=int, default=192)
    parser.add_argument("--C", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="a small size, nothing written: checks that it runs")
    parser.add_argument("--skip", nargs="*", default=[], choices=["load", "audit"], help="jobs")
    parser.add_argument("--name", default="million", help="of the file of results")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.quick:
        a.rows, a.D, a.C = 3000, 24, 10
    made = Made(a.rows, a.D, a.C)
    if a.job:
        print(json.dumps(job(a.job[0], Path(a.job[1]), made)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as name:
        error = check(Path(name) / "few")
        size = [f"--{key}={value}" for key, value in (("rows", a.rows), ("D", a.D), ("C", a.C))]
        for which in ("fit", "load", "audit"):
            if which in a.skip:
                continue
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.million", *size, "--job", which]
            out = subprocess.run([*command, f"{name}/model"], capture_output=True, text=True, check=False)
            if out.returncode:
                raise RuntimeError(f"{which} ended with {out.returncode}: {out.stderr[-2000:]}")
            rows.append({"n": a.rows, "D": a.D, "C": a.C, **json.loads(out.stdout)})
            print(json.dumps(rows[-1], indent=1), flush=True)
            if not a.quick:  # each as it is there: the next may take long
                path = write(a.name, rows, seed=SEED, dtype="float32", check_error=error, rank=RANK)
                print("written:", path.name, flush=True)


if __name__ == "__main__":
    main()
