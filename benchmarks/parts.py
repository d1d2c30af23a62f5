"""What does each part of the way from files to a fitted head cost, on one core? The measured parts of docs/scale.md.

Read and hash, decode, make the model's input (of the whole picture, and of tiles), the backbone (three sizes, float32
and bfloat16, a pass of 32), pool (two settings), write a shard, add rows to the head's statistics, merge two of these,
solve. Each is checked before it is timed, runs on one thread, and is told in the processor's seconds, so that what else
the machine does hardly counts; only the shard, which waits for the disk, by the clock.

Usage: python -m benchmarks.parts --pictures FOLDER [--only NAME ...] [--quick]

FOLDER holds JPEG files (of any depth): those of docs/scale.md are 370 photographs, 430 x 384 pixels and 101 kB in the
mean. Weights are random: time doesn't depend on them. What is measured replaces what the file of results had of it.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from benchmarks.harness import RESULTS, write
from carrot import RidgeHead, RidgeStatistics, TimmViTPatchBackbone
from carrot._images import open_image
from carrot._ridge.targets import Targets
from carrot.data.inputs import content_sha256
from carrot.data.records import Record
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from carrot.embedding.view import PASS, PatchView, TileView
from carrot.store.shards import EmbeddingStore
from carrot.tiling import Tiling

MODELS = {"ViT-Ti/16": "vit_tiny_patch16_224", "ViT-S/16": "vit_small_patch16_224", "ViT-B/16": "vit_base_patch16_224"}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TILES = "tiles:3,4"
D, C, ROWS = 768, 1000, 20_000
SETTINGS = {  # what a picture's regions become g by
    "mean of 196 patches, D = 768": Setting("identity"),
    "diffused, t = 1, 196 patches, D = 768": Setting("identity", t=1.0),
}


def cpu(work: Callable[[], object], rounds: int) -> float:
    """Return the processor's seconds, the least of some rounds after one that doesn't count."""
    work()
    took = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    return min(took)


def reading(files: list[Path], rounds: int) -> list[dict[str, object]]:
    """Hash, decode, prepare: per picture."""
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False, img_size=224)
    whole = PatchView(backbone, torch.float16).transform
    tiles = TileView(backbone, torch.float16, Tiling.from_spec(TILES)).transform
    records = [Record(path.name, 0, "train", path) for path in files]
    if content_sha256(records[0]) != hashlib.sha256(files[0].read_bytes()).hexdigest():
        raise AssertionError("a picture's hash is not that of its file")
    images = [open_image(path) for path in files]
    n, size = len(files), sum(path.stat().st_size for path in files) / len(files)
    if tiles(images[0]).shape != (25, 3, 224, 224) or whole(images[0]).shape != (3, 224, 224):
        raise AssertionError("inputs have another shape")
    runs: dict[str, Callable[[], object]] = {
        "read and hash": lambda: [content_sha256(record) for record in records],
        "decode": lambda: [open_image(path) for path in files],
        "input of the whole picture": lambda: [whole(image) for image in images],
        f"inputs of {TILES}": lambda: [tiles(image) for image in images[: max(1, n // 8)]],
    }
    pixels = [sum(image.size[k] for image in images) / n for k in (0, 1)]
    about = {"kB": size / 1e3, "pixels": pixels, "n": n}
    counts = [n, n, n, max(1, n // 8)]
    return [
        {"part": name, "seconds": cpu(run, rounds) / count, "per": "picture", **about}
        for (name, run), count in zip(runs.items(), counts, strict=True)
    ]


def forward(rounds: int, models: dict[str, str]) -> list[dict[str, object]]:
    """Run the backbone on a pass of 32: per input."""
    rows: list[dict[str, object]] = []
    for label, name in models.items():
        backbone = TimmViTPatchBackbone(name, pretrained=False)
        x = torch.randn(PASS, 3, *backbone.input_hw, generator=torch.Generator().manual_seed(0))
        expected = Tokens.of(backbone, x).H.clone()
        for precision, dtype in PRECISIONS.items():
            backbone.to(dtype)
            off = float((Tokens.of(backbone, x).H - expected).norm() / expected.norm())
            if off > {"float32": 1e-6, "bfloat16": 0.05}[precision]:
                raise AssertionError(f"{name} in {precision} is off by {off:.1e}")

            seconds = cpu(partial(Tokens.of, backbone, x, torch.float16), rounds) / len(x)
            more = {"model": label, "precision": precision, "off": off}
            rows.append({"part": f"{label} {precision}", "seconds": seconds, "per": "input", **more})
    return rows


def pooling(rounds: int) -> list[dict[str, object]]:
    """Tokens to g, per picture."""
    rows: list[dict[str, object]] = []
    generator = torch.Generator().manual_seed(0)
    tokens = Tokens(torch.randn(PASS, 196, D, generator=generator).half(), (14, 14))
    for name, s in SETTINGS.items():
        pooling, one = Pooling(s), Tokens(tokens.H[:1], (14, 14))
        H = one.H[0].double()
        L = pooling.builder.build(pooling.stage(one)[0].picture(0)).L
        expected = (torch.linalg.matrix_exp(-s.t * L) @ H).mean(dim=0)
        if float((pooling.g(one)[0] - expected).norm() / expected.norm()) > 1e-9:
            raise AssertionError(f"{name} is not the mean of exp(-tL) H")
        rows.append({"part": name, "seconds": cpu(partial(pooling.g, tokens), rounds) / PASS, "per": "picture"})
    return rows


def shards(rounds: int) -> list[dict[str, object]]:
    """Write a shard, per byte, by the clock: checksum, file, flush, rename."""
    values = {"H": torch.randn(PASS, 196, D, generator=torch.Generator().manual_seed(0)).half()}
    took = []
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore(folder, {"of": "a benchmark"}, [str(i) for i in range(PASS * (rounds + 1))], PASS)
        for shard in range(rounds + 1):
            start = time.perf_counter()
            store.write(shard, values)
            took.append(time.perf_counter() - start)
        if not torch.equal(store.read(0)["H"], values["H"]):
            raise AssertionError("a shard is not what was written")
    size = values["H"].numel() * values["H"].element_size()
    return [{"part": "write a shard", "seconds": min(took[1:]) / size, "per": "byte", "bytes": size}]


def head(rounds: int, n: int = ROWS) -> list[dict[str, object]]:
    """Rows to statistics, per row; two of these merged; the system solved, lam given."""
    generator = torch.Generator().manual_seed(0)
    G = torch.randn(n, D, generator=generator, dtype=torch.float64)
    labels = torch.arange(n) % C

    def of(rows: slice) -> RidgeStatistics:
        return RidgeStatistics.from_rows(G[rows], Targets(labels[rows], C))

    whole, parts = of(slice(n)), (of(slice(n // 2)), of(slice(n // 2, n)))
    expected = RidgeHead(1.0).fit(G, labels).W_star
    off = float((RidgeHead.from_statistics(parts[0] + parts[1]).W_star - expected).abs().max())
    if off > 1e-8:
        raise AssertionError(f"merged statistics give other weights, by {off:.1e}")
    runs: dict[str, tuple[Callable[[], object], float, str]] = {
        "rows to statistics": (lambda: of(slice(n)), n, "row"),
        "merge two": (lambda: parts[0] + parts[1], 1, "merge"),
        "solve, lam given": (lambda: RidgeHead.from_statistics(whole).W_star, 1, "solve"),
    }
    return [
        {"part": name, "seconds": cpu(run, rounds) / count, "per": per, "D": D, "C": C}
        for name, (run, count, per) in runs.items()
    ]


def measured(pictures: Path, only: list[str], quick: bool) -> list[dict[str, object]]:
    """Return a row for each part."""
    found = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    files = list(islice(found, 8 if quick else 400))
    if not files:
        raise SystemExit(f"{pictures}: holds no JPEG file.")
    rounds = 1 if quick else 5
    models = {"tests' ViT": "test_vit"} if quick else MODELS
    groups: dict[str, Callable[[], list[dict[str, object]]]] = {
        "reading": lambda: reading(files, rounds),
        "forward": lambda: forward(min(rounds, 3), models),
        "pooling": lambda: pooling(rounds),
        "shards": lambda: shards(4 * rounds),
        "head": lambda: head(min(rounds, 3), 2 * C if quick else ROWS),
    }
    return [{"group": name, **row} for name, run in groups.items() if not only or name in only for row in run()]


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[], help="reading, forward, pooling, shards, head")
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written: checks that it runs")
    a = parser.parse_args()
    torch.set_num_threads(1)
    rows = measured(a.pictures, a.only, a.quick)
    for row in rows:
        print(f"{row['part']:<40} {1e3 * row['seconds']:>12.6g} ms a {row['per']}")
    if not a.quick:
        path = RESULTS / "parts.json"
        before = json.loads(path.read_text())["rows"] if path.exists() else []
        new = {row["group"] for row in rows}
        kept = [row for row in before if row["group"] not in new]
        print("written:", write("parts", [*kept, *rows], seed=0).name)


if __name__ == "__main__":
    main()
