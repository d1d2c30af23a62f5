"""Does ``carrot extract`` hold when it is killed? SIGKILL at 1,000 random moments, with 1, 2 and 8 workers at a time.

Each round: an empty folder, and n processes that do the n parts of an extract in it. One of those that run is killed at
a random moment of the work, with SIGKILL, and started again, five times in all; then all are left to end. What lies
there then is held against an extract that nobody killed:

1. the bytes of the manifest and of every shard, by one SHA-256;
2. the model that ``carrot merge`` makes of it: rows, labels and solution, by another;
3. a run afterwards, which must find every shard and compute none.

Usage: python -m benchmarks.killed [--kills 1000] [--name FILE]

A tiny backbone and pictures of 32 x 32 pixels, so that a round takes a second; workers are forked from one process that
has the libraries, so that a kill falls into the work and not into imports. The moment is uniform between the fork and
1.1 times what a worker takes when nobody kills it: from listing pictures and the manifest to the last rename. Each row
says how many kills hit a worker that had files half written, and how many came too late (these don't count). Rounds
that are done stay in the result: the same call goes on after them.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.harness import RESULTS, write
from carrot import TimmViTPatchBackbone
from carrot.classifier.fitting import training_set
from carrot.classifier.merged import merge
from carrot.data.records import Subset
from carrot.embedding.encoder import Encoder
from carrot.embedding.extracted import Extracts
from carrot.embedding.extracting import ExtractShard, extract
from carrot.embedding.setting import Setting
from carrot.engine import Here

WORKERS, PER_ROUND = (1, 2, 8), 5
PICTURES, SIDE, SHARD = 128, 32, 8  # 16 shards, of one pass each
SETTING = Setting("identity", regions="tiles:1", power=0.0)


class World:
    """Pictures, an encoder that is built, and what an extract is that nobody killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        pixels = torch.randint(0, 256, (PICTURES, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0))
        for i, x in enumerate(pixels.to(torch.uint8).numpy()):
            path = root / "pictures" / ("train" if i % 8 else "test") / "abcd"[i % 4] / f"{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x).save(path)
        torch.manual_seed(0)
        weights = root / "w.safetensors"
        from safetensors.torch import save_file

        backbone = TimmViTPatchBackbone("test_vit", pretrained=False, img_size=SIDE)
        save_file(backbone.model.state_dict(), weights)
        self.encoder = Encoder("test_vit", weights, SIDE, device="cpu").of(SETTING)
        self.train: Subset = training_set(str(root / "pictures"), None)[0]
        self.run(root / "unbroken", (1, 1))
        began = time.monotonic()
        self.run(root / "timed", (1, 1))
        self.seconds = time.monotonic() - began
        self.shards, self.model = self.hashes(root / "unbroken")

    def run(self, folder: Path, part: tuple[int, int]) -> dict[str, list[int]]:
        """Do one part, as ``carrot extract`` does it; return which shards were made, found and made again."""
        job = ExtractShard.of(self.train, self.encoder, SETTING, folder, shard_size=SHARD)
        found = extract(job, Here(), part)
        return {how: found.of(how) for how in ("made", "found", "again")}

    def hashes(self, folder: Path) -> tuple[str, str]:
        """Return the SHA-256 of what lies in a folder, and of the model that is made of it."""
        files, state = hashlib.sha256(), hashlib.sha256()
        for path in sorted(folder.iterdir()):
            if path.suffix != ".tmp":
                files.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        fitted = merge(Extracts.of([folder]), 1.0).fitted
        for name, x in sorted(fitted.head.state().items()):
            state.update(name.encode() + x.contiguous().numpy().tobytes())
        state.update(json.dumps([record.to_json() for record in fitted.records]).encode())
        return files.hexdigest(), state.hexdigest()


def worker(world: World, folder: Path, part: tuple[int, int]) -> None:
    """Be one process of an extract."""
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # progress
    world.run(folder, part)


def round_of(world: World, n: int, rng: random.Random) -> dict[str, int]:
    """Kill ``PER_ROUND`` workers of n, let all end, and hold what is left against what nobody killed."""
    folder, fork = world.root / "round", multiprocessing.get_context("fork")
    shutil.rmtree(folder, ignore_errors=True)
    parts = [(i + 1, n) for i in range(n)]

    def start(part: tuple[int, int]) -> Any:
        process = fork.Process(target=worker, args=(world, folder, part))
        process.start()
        return process

    counts = {"kills": 0, "in the middle of a file": 0, "too late": 0}
    running = {part: start(part) for part in parts}
    while counts["kills"] < PER_ROUND:
        time.sleep(rng.uniform(0.0, 1.1 * world.seconds))
        alive = [part for part in parts if running[part].is_alive()]
        if not alive:  # all is done: begin anew
            counts["too late"] += 1
            _ended(running)
            shutil.rmtree(folder)
            running = {part: start(part) for part in parts}
            continue
        part = rng.choice(alive)
        victim = running[part]
        victim.kill()
        victim.join()
        if victim.exitcode != -signal.SIGKILL:  # it ended in between
            counts["too late"] += 1
            continue
        counts["kills"] += 1
        counts["in the middle of a file"] += bool(list(folder.glob(f"*.{victim.pid}-*.tmp")))
        running[part] = start(part)
    _ended(running)
    found = world.run(folder, (1, 1))
    _require(found["found"] == list(range(-(-len(world.train.records) // SHARD))), f"not all was there: {found}")
    _require(world.hashes(folder) == (world.shards, world.model), "other bytes, or another model, than without a kill")
    return counts


def _ended(running: Mapping[tuple[int, int], Any]) -> None:
    for part, process in running.items():
        process.join()
        _require(process.exitcode == 0, f"part {part}: exit status {process.exitcode}")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"FAILED: {what}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not done yet; write after every round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--name", default="killed")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    path = RESULTS / f"{options.name}.json"
    with tempfile.TemporaryDirectory() as temporary:
        world = World(Path(temporary))
        facts = {"pictures": len(world.train.records), "shards": -(-len(world.train.records) // SHARD)}
        rows = json.loads(path.read_text())["rows"] if path.exists() else []
        done = {row["workers"]: row for row in rows}
        for place, n in enumerate(WORKERS):
            most = options.kills // len(WORKERS) + (place < options.kills % len(WORKERS))
            row = done.setdefault(
                n,
                {"workers": n, "rounds": 0, "kills": 0, "in the middle of a file": 0, "too late": 0, "seconds": 0.0},
            )
            while row["kills"] < most:
                began = time.monotonic()
                for name, count in round_of(world, n, random.Random(1000 * n + row["rounds"])).items():
                    row[name] += count
                row["rounds"] += 1
                row["seconds"] = round(row["seconds"] + time.monotonic() - began, 2)
                row |= {"same bytes": row["rounds"], "same model": row["rounds"]}
                write(options.name, [done[k] for k in WORKERS if k in done], **facts)
            print(row)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
