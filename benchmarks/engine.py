"""What does an engine cost, and what does a second worker bring? Ray against the plain loop, on one core and on two.

Usage: python -m benchmarks.engine [--pictures 5000] [--rounds 2] [--img-size 224]

What is real: files that are read, decoded and hashed; a ViT-Tiny; shards of tokens on the disk; a cluster that is
started and stopped. What is not: the weights are random (they cost the same), and files are links to 500 toy birds.

Each run is a process of its own, held to its cores, and runs take turns: the plain loop on one core, Ray with one
worker on that core, the plain loop with two threads on two cores, Ray with two workers of one thread on two. The bytes
of all shards are compared before any time is believed. The time is all of it: the start of the cluster and of its
workers, the work, and the stop; the cluster's start stands beside it. Reading the files once before, to know them again
by their contents, is the same for all, and left out.

Needs the extra `ray`, and Linux (a process is held to its cores). Writes benchmarks/results/engine.json.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import write

MODEL, DRAWN, SEED = "vit_tiny_patch16_224", 500, 0
RUNS = (("plain", 1), ("ray", 1), ("plain", 2), ("ray", 2))  # who, cores; Ray: as many workers
TARGET = 0.05


def draw(folder: Path, n: int) -> None:
    """Write n pictures in class folders: links to ``DRAWN`` birds."""
    from carrot.data.toy import ToyBirds

    birds = ToyBirds(n_train_per_class=DRAWN // 20, n_test_per_class=0, n_species=20)
    for i in range(n):
        place = folder / f"{i % DRAWN // (DRAWN // 20):02d}" / f"{i:05d}.png"
        place.parent.mkdir(exist_ok=True)
        if i < DRAWN:
            birds.image(i).save(place)
        else:
            place.hardlink_to(folder / f"{i % DRAWN // (DRAWN // 20):02d}" / f"{i % DRAWN:05d}.png")


def one(who: str, cores: int, pictures: Path, img_size: int) -> dict[str, Any]:
    """Return the times of one run, and the hash of what it wrote."""
    os.sched_setaffinity(0, range(cores))
    import torch

    from carrot import engine
    from carrot.backbone import TimmViTPatchBackbone
    from carrot.data.folder import ImageFolder
    from carrot.embedding.cache import TokenCache
    from carrot.embedding.filling import pictures_state
    from carrot.embedding.view import PatchView

    torch.set_num_threads(cores)
    torch.manual_seed(SEED)
    data = ImageFolder(pictures)
    view = PatchView(TimmViTPatchBackbone(MODEL, pretrained=False, img_size=img_size), torch.float16)
    state = pictures_state(data, view.probe)
    with tempfile.TemporaryDirectory(dir=pictures.parent) as folder:
        start = time.perf_counter()
        with engine.use(None if who == "plain" else who, workers=None if who == "plain" else cores):
            up = time.perf_counter()
            TokenCache.of(data, view, Path(folder), state=state)
            filled = time.perf_counter()
        end = time.perf_counter()
        sha = hashlib.sha256()
        for path in sorted(Path(folder).glob("*.safetensors")):
            sha.update(path.read_bytes())
    return {
        "up_s": up - start,
        "altogether_s": end - start,
        "down_s": end - filled,
        "sha256": sha.hexdigest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--run", nargs=3, metavar=("WHO", "CORES", "FOLDER"), help="one run; for itself")
    a = parser.parse_args()
    if a.run:
        print(json.dumps(one(a.run[0], int(a.run[1]), Path(a.run[2]), a.img_size)))
        return
    found: dict[tuple[str, int], list[dict[str, Any]]] = {run: [] for run in RUNS}
    with tempfile.TemporaryDirectory(prefix="carrot-engine-") as root:
        pictures = Path(root) / "pictures"
        pictures.mkdir()
        draw(pictures, a.pictures)
        for _ in range(a.rounds):
            for who, cores in RUNS:
                words = [sys.executable, "-m", "benchmarks.engine", "--img-size", str(a.img_size)]
                words += ["--run", who, str(cores), str(pictures)]
                ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
                times = json.loads(ended.stdout)
                found[who, cores].append(times)
                print(who, cores, json.dumps(times), file=sys.stderr, flush=True)
    hashes = {times["sha256"] for runs in found.values() for times in runs}
    if len(hashes) != 1:
        raise SystemExit(f"the shards of {len(hashes)} kinds of runs differ: {found}")
    rows: list[dict[str, Any]] = []
    for (who, cores), runs in found.items():
        middle = {name: median(run[name] for run in runs) for name in runs[0] if name.endswith("_s")}
        rows.append({"who": who, "cores": cores, "runs": len(runs), **middle})
    by = {(row["who"], row["cores"]): row for row in rows}
    shares: dict[str, Any] = {"target": TARGET}
    for cores in (1, 2):
        shares[f"overhead_{cores}"] = by["ray", cores]["altogether_s"] / by["plain", cores]["altogether_s"] - 1
    shares["efficiency"] = by["ray", 1]["altogether_s"] / (2 * by["ray", 2]["altogether_s"])
    load = os.getloadavg()[2]
    more = {"pictures": a.pictures, "model": MODEL, "img_size": a.img_size, "sha256": hashes.pop(), "load": load}
    print(write("engine", rows, shares=shares, **more), shares)


if __name__ == "__main__":
    main()
