"""How many pictures a second become embeddings, from files, on a GPU? By precision, compile, pass and regions.

1. For each case: files are decoded by processes, their inputs go through the backbone, tokens are pooled in float64
   where they are, and g comes back, several passes in flight: pictures a second, once all have started.
2. Its parts alone: decoding, the forward pass of inputs that are there already, pooling of tokens that are there.
3. The head, there: statistics of 1.28 million rows of 768 numbers, a block at a time, merged in their order, solved.

Answers first: g of 8 pictures against float32 on the processor, whose distance is told with each case; statistics of
two blocks against the processor's.

Usage: python -m benchmarks.gpu [--device cuda] [--workers 15] [--seconds 270] [--quick]

Weights are random and pictures are drawn (500 x 375 JPEG): nothing is fetched. On a GPU the result is written as
``gpu-NAME.json``, NAME the device's; cases that --seconds left no time for are named in it. On a processor it runs
small sizes and writes nothing: that is its test.
"""

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.harness import write
from carrot import RidgeHead, RidgeStatistics, TimmViTPatchBackbone
from carrot._images import open_image
from carrot._ridge.targets import Targets
from carrot.data.loading import Batch, batches, in_flight
from carrot.data.records import Record
from carrot.embedding.pooling import Pooling
from carrot.embedding.sent import IN_FLIGHT
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from carrot.embedding.view import PatchView, TileView
from carrot.tiling import Tiling
from carrot.utils import float64_device

TILES = "tiles:3,4"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BOUND = {"float32": 1e-3, "bfloat16": 5e-2}  # of g, whose tokens are rounded to float16
FILES, CHECKED, BLOCK = 256, 8, 65_536


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        model: timm's name.
        precision: Of the backbone.
        compile: Whether its blocks are compiled.
        regions: "patches" or a tiling.
        pictures_a_pass: Pictures that are decoded, and go through the backbone, together.
    """

    model: str
    precision: str
    compile: bool
    regions: str
    pictures_a_pass: int


S, B = "vit_small_patch16_224", "vit_base_patch16_224"
CASES = [
    Case(S, "float32", False, "patches", 32),
    Case(S, "bfloat16", False, "patches", 32),
    Case(S, "bfloat16", True, "patches", 32),
    Case(S, "bfloat16", False, "patches", 256),
    Case(S, "bfloat16", True, "patches", 256),
    Case(S, "bfloat16", True, TILES, 8),
    Case(B, "float32", False, "patches", 32),
    Case(B, "bfloat16", False, "patches", 32),
    Case(B, "bfloat16", True, "patches", 32),
    Case(B, "bfloat16", True, "patches", 256),
    Case(B, "bfloat16", True, TILES, 8),
]
SMALL = [Case("test_vit", p, False, r, 4) for p in PRECISIONS for r in ("patches", "tiles:2")]


@dataclass
class Files:
    """Some drawn pictures, taken as many times as it takes."""

    folder: str
    n: int
    name: str = "drawn"
    classes: tuple[str, ...] = ("one",)
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        paths = sorted(Path(self.folder).glob("*.jpg"))
        self.records = [Record(str(i), 0, "train", paths[i % len(paths)]) for i in range(self.n)]

    def image(self, index: int) -> Image.Image:
        """Return one."""
        return open_image(str(self.records[index].path))


def draw(folder: Path, n: int) -> float:
    """Write n JPEG files of smooth noise and edges; return their mean size in kB."""
    generator = np.random.default_rng(0)
    for i in range(n):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
        grain = generator.normal(0.0, 12.0, (375, 500, 3))
        picture = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{i:04d}.jpg", quality=85)
    return sum(path.stat().st_size for path in folder.glob("*.jpg")) / n / 1e3


class Bench:
    """One case on one device: its backbone, and what makes g of inputs."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, torch.device(device)
        torch.manual_seed(0)
        self.backbone = TimmViTPatchBackbone(case.model, pretrained=False, device=self.device)
        self.backbone.to(PRECISIONS[case.precision])
        tiling = None if case.regions == "patches" else Tiling.from_spec(case.regions)
        self.tiles = None if tiling is None else TileView(self.backbone, torch.float16, tiling)
        self.view = self.tiles or PatchView(self.backbone, torch.float16)
        self.pooling = Pooling(Setting("identity", regions=case.regions, t=1.0, power=0.0))
        self.there = float64_device(self.device)
        self.why = ""
        if case.compile:
            inputs = case.pictures_a_pass if self.tiles is None else self.tiles.even
            self.why = self.backbone.compile_blocks(inputs)

    def tokens(self, x: Tensor) -> Tokens:
        """Return tokens where the backbone is: of a pass."""
        if self.tiles is not None:
            return self.tiles.encode(x, None)
        return Tokens.of(self.backbone, x, torch.float16, self.case.pictures_a_pass, None)

    def g(self, x: Tensor) -> Tensor:
        """Return g of a pass, on the processor."""
        return self.pooling.g(self.tokens(x).to(self.there)).cpu()

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, work: Callable[[], object], pictures: int, seconds: float) -> float:
        """Return pictures a second of something that is repeated for some seconds."""
        work()
        self.wait()
        start, times = time.perf_counter(), 0
        while not times or time.perf_counter() - start < seconds:
            work()
            times += 1
        self.wait()
        return times * pictures / (time.perf_counter() - start)


def lists(n: int, size: int) -> list[list[int]]:
    """Return n records in whole passes."""
    return [list(range(i, i + size)) for i in range(0, n - size + 1, size)]


def steady(results: Iterator[int], skip: int) -> float:
    """Return pictures a second, from the result on that ends the first ``skip`` of them."""
    done, start, after = 0, time.perf_counter(), 0
    for size in results:
        if done < skip:
            start, after = time.perf_counter(), 0
        else:
            after += size
        done += size
    return after / (time.perf_counter() - start)


def measured(
    case: Case, device: str, folder: str, n: int, workers: int, seconds: float, known: dict[tuple[str, int], float]
) -> dict[str, object]:
    """Return the row of a case; ``known``: rates of decoding, by regions and pass, which other cases have measured."""
    bench = Bench(case, device)
    data, size = Files(folder, n), case.pictures_a_pass
    x = torch.stack([bench.view.transform(data.image(i)) for i in range(max(size, CHECKED))])
    plain = Bench(Case(case.model, "float32", False, case.regions, CHECKED), "cpu")
    expected = plain.g(x[:CHECKED])
    off = float((bench.g(x[:size])[:CHECKED] - expected[:size]).norm() / expected[:size].norm())
    if off > BOUND[case.precision]:
        raise AssertionError(f"{case}: g is off by {off:.1e}")
    passes = lists(n, size)
    loaded = x[:size].to(bench.device)
    tokens = bench.tokens(loaded).to(bench.there)

    def embed(batch: Batch) -> int:
        return len(bench.g(batch.x))

    work = batches(data, bench.view.transform, passes, workers)
    to_end = steady(in_flight(embed, work, IN_FLIGHT), n // 2)
    if (same := (case.regions, size)) not in known:
        known[same] = steady((len(b.x) for b in batches(data, bench.view.transform, passes, workers)), n // 2)
    return {
        **asdict(case),
        "not_compiled": bench.why,
        "off": off,
        "pictures_a_second": to_end,
        "decoded_a_second": known[same],
        "forward_a_second": bench.rate(lambda: bench.tokens(loaded), size, seconds),
        "pooled_a_second": bench.rate(lambda: bench.pooling.g(tokens), size, seconds),
    }


def head(device: str, n: int, D: int, C: int, block: int) -> dict[str, object]:
    """Return what statistics of n rows and their solution take, streamed; two blocks are checked."""
    there = float64_device(torch.device(device))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(block, D, generator=generator).half()
    labels = torch.arange(block) % C
    moved = rows.to(there), labels.to(there)

    def of(G: Tensor, y: Tensor, k: int) -> RidgeStatistics:
        return RidgeStatistics.from_rows(G.double() + k, Targets(y, C))

    def both(pair: tuple[Tensor, Tensor]) -> Tensor:
        return RidgeHead.from_statistics(of(*pair, 0) + of(*pair, 1), 1.0, True).W_star.cpu()

    expected = both((rows, labels))
    off = float((both(moved) - expected).norm() / expected.norm())
    if off > 1e-9:
        raise AssertionError(f"the head's weights are off by {off:.1e}")
    start = time.perf_counter()
    whole = of(*moved, 0)
    for k in range(1, n // block):
        whole = whole + of(*moved, k % 2)
    _ = float(whole.S[0, 0])  # waits for the device
    summed = time.perf_counter() - start
    W_star = RidgeHead.from_statistics(whole, 1.0, True).W_star.cpu()
    if not bool(torch.isfinite(W_star).all()):
        raise AssertionError("the head's weights are not finite")
    solved = time.perf_counter() - start - summed
    return {"n": n // block * block, "D": D, "C": C, "off": off, "statistics_s": summed, "solve_s": solved}


def run(device: str, workers: int, budget: float, quick: bool) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return a row for each case, and one for the head; and facts, with the cases there was no time for."""
    began, rows, left = time.perf_counter(), list[dict[str, object]](), list[str]()
    known: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        size = draw(Path(folder), 8 if quick else FILES)
        small: dict[str, int] = {"n": 2048, "D": 32, "C": 10, "block": 512}
        sizes = small if quick else {"n": 1_280_000, "D": 768, "C": 1000, "block": BLOCK}
        rows.append({"question": "head", **head(device, **sizes)})
        print(rows[-1])
        for case in SMALL if quick else CASES:
            if time.perf_counter() - began > budget:
                left.append(str(case))
                continue
            n = 16 if quick else 6_400 if case.regions == "patches" else 1_600
            found = measured(case, device, folder, n, workers, 0.0 if quick else 2.0, known)
            rows.append({"question": "pictures a second", **found})
            print(rows[-1])
    return rows, {"kB": size, "workers": workers, "left_out": left}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 1), help="that decode")
    parser.add_argument("--seconds", type=float, default=270.0, help="after which no case is begun")
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    a = parser.parse_args()
    is_gpu = a.device.startswith("cuda")
    rows, facts = run(a.device, a.workers if is_gpu else 0, a.seconds, a.quick or not is_gpu)
    if is_gpu and not a.quick:
        name = torch.cuda.get_device_name(a.device)
        slug = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
        print("written:", write(f"gpu-{slug}", rows, device=name, seed=0, **facts).name)


if __name__ == "__main__":
    main()
