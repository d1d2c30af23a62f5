"""Is a planted watermark named? The training tile that a logit stands on most, over all tiles of all training pictures.

Usage: python -m benchmarks.watermark toy
       python -m benchmarks.watermark flowers17 --data DIR --backbone vit_tiny_patch16_224.augreg_in21k_ft_in1k
                                      --checkpoint FILE [--classes 8] [--per-class 20] [--tests 5]
                                      [--tiles tiles:4 ...] [--tokens DIR]

A mark of fixed pixels is put into the lower left corner of all training pictures of one class, and of test pictures of
all other classes. Of these ``Carrot.hidden_regions`` is asked about the logit of the marked class: is the tile without
which it would fall most one that holds the mark (half of its area at least)? Chance is the share of such tiles among
all. ``named`` counts all pictures that carry the mark, ``named, where said`` those of them that are said to be of the
marked class; ``median_rise`` is what the mark adds to that logit. ``within`` is of each marked training picture by
itself: is the tile that matters most there the mark's?
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from benchmarks.harness import write
from carrot import Carrot
from carrot.data import ImageDataset, open_dataset
from carrot.data.records import Record, Subset
from carrot.data.toy import PARTS, ToyBirds, part_map, render, sample_scene
from carrot.evaluation.estimate import Estimate
from carrot.tiling import Tiling

MARKED = 3  # the class that has the mark
SCALE = 3  # of the toy's mark, in other pictures
TILINGS = ("tiles:4", "tiles:3,4")
Tests = Sequence[tuple[Image.Image, ...]]  # with the mark, and without


def toy_mark() -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Return the toy's mark by itself, and its box (x0, y0, x1, y1) in a toy picture."""
    birds = ToyBirds(n_train_per_class=1, n_test_per_class=0, n_species=1, shortcut=0)
    parts = torch.tensor(part_map(birds.scene(0)))
    y, x = torch.nonzero(parts == 2 + len(PARTS), as_tuple=True)  # background, body and parts come before it
    box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
    return birds.image(0).crop(box), box


class Painted:
    """Pictures with the mark, three times as large, in the lower left corner of those of one class that train.

    Test pictures of all other classes have it too.
    """

    def __init__(self, pictures: Subset) -> None:
        self.name, self.classes = f"{pictures.name} with a mark", pictures.classes
        self.pictures, (mark, _) = pictures, toy_mark()
        self.mark = mark.resize((SCALE * mark.width, SCALE * mark.height), Image.Resampling.NEAREST)
        self.records: Sequence[Record] = [replace(record, path=None) for record in pictures.records]

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return where the mark is in a picture of (width, height)."""
        x, y = 6 * SCALE, size[1] - 6 * SCALE - self.mark.height
        return x, y, x + self.mark.width, y + self.mark.height

    def image(self, index: int) -> Image.Image:
        """Return a picture, marked if it is to be."""
        image, record = self.pictures.image(index), self.records[index]
        if (record.label == MARKED) == (record.split == "train"):
            image = image.copy()
            image.paste(self.mark, self.box(image.size)[:2])
        return image


def holds(tiling: Tiling, size: tuple[int, int], mark: tuple[int, int, int, int]) -> torch.Tensor:
    """Return of each tile whether it holds at least half of the mark."""
    boxes = tiling.boxes(size)
    low, high = torch.maximum(boxes[:, :2], torch.tensor(mark[:2])), torch.minimum(boxes[:, 2:], torch.tensor(mark[2:]))
    return (high - low).clamp(min=0).prod(dim=1) >= 0.5 * (mark[2] - mark[0]) * (mark[3] - mark[1])


def toy(tests: int) -> tuple[ImageDataset, Tests, tuple[int, int, int, int]]:
    """Return marked toy birds to train on, test pictures of other species, and where the mark is."""
    birds = ToyBirds(n_test_per_class=0, shortcut=MARKED)
    pairs = [
        tuple(render(sample_scene(species, f"0/test/{k}/{number}", x, birds.clutter)).image for x in (True, False))
        for k, species in enumerate(birds.species)
        if k != MARKED
        for number in range(tests)
    ]
    return birds, pairs, toy_mark()[1]


def photographs(data: Path, classes: int, per_class: int, tests: int) -> tuple[Painted, Tests]:
    """Return marked photographs of the first classes, so many of each to train on; test pictures of other classes."""
    whole = open_dataset(str(data))
    chosen: list[int] = []
    for split, most in (("train", per_class), ("test", tests)):
        for label in range(classes):
            of_class = [i for i, r in enumerate(whole.records) if (r.split, r.label) == (split, label)]
            chosen += of_class[:most]
    subset = Subset(whole, chosen)
    subset.classes = whole.classes[:classes]
    painted = Painted(subset)
    others = [i for i, r in enumerate(painted.records) if r.split == "test" and r.label != MARKED]
    return painted, [(painted.image(i), painted.pictures.image(i)) for i in others]


def main() -> None:
    """Plant, fit, ask, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--backbone", default="toy")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--classes", type=int, default=17)
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--tests", type=int, default=5, help="test pictures of each other class")
    parser.add_argument("--tiles", nargs="+", default=TILINGS)
    parser.add_argument("--tokens", type=Path)
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        tokens = given.tokens or Path(folder)
        if given.data is None:
            dataset, tests, mark = toy(given.tests)
        else:
            dataset, tests = photographs(given.data, given.classes, given.per_class, given.tests)
            mark = None
        for regions in given.tiles:
            model = Carrot(given.backbone, regions=regions, checkpoint=given.checkpoint).fit(dataset, tokens=tokens)
            rows.append(measured(model, dataset, tests, mark))
            print(rows[-1], flush=True)
    print("written:", write(f"watermark-{given.name}", rows, backbone=given.backbone, scale=SCALE).name)


def measured(
    model: Carrot, dataset: ImageDataset, tests: Tests, mark: tuple[int, int, int, int] | None
) -> dict[str, object]:
    """Return how often the top tile holds the mark, and what it cost to know."""
    tiling, label = Tiling.from_spec(model.setting_.regions), dataset.classes[MARKED]
    start = time.perf_counter()
    n = len(model.classifier.hiding[0].index)  # solved for once, before the first picture
    solved = time.perf_counter() - start
    held = torch.zeros(n, len(tiling), dtype=torch.bool)  # of each training picture's tiles, whether it holds the mark
    index = {record.id: i for i, record in enumerate(dataset.records)}
    for row, record in enumerate(model.records_):
        if record.label == MARKED:
            size = dataset.image(index[record.id]).size
            held[row] = holds(tiling, size, mark or dataset.box(size))  # type: ignore[attr-defined]
    marked = held.any(dim=1)
    traces = [[model.trace(picture) for picture in pair] for pair in tests]
    logits = torch.stack([model.head_.predict(torch.stack([one.g for one in pair])) for pair in traces])  # (m, 2, C)
    named, within, drops = [], [], []
    start = time.perf_counter()
    for with_mark, _ in traces:
        effects = model.classifier.hiding[0].effects(model.head_.logit(MARKED), with_mark.g)
        named.append(bool(held.flatten()[effects.argmin()]))
        within.append(float(held[marked].gather(1, effects[marked].argmin(dim=1, keepdim=True)).double().mean()))
        drops.append(-float(effects.min()))
    each = (time.perf_counter() - start) / len(tests)
    difference = model.hidden_regions(tests[0][0], label, verify=True).difference
    if difference is None or difference > 1e-3 * max(drops):  # tokens are float16
        raise SystemExit(f"a real refit differs by {difference}")
    said, before = (logits.argmax(dim=-1) == MARKED).unbind(dim=1)
    every, where_said = Estimate.of(named), Estimate.of(n for n, s in zip(named, said.tolist(), strict=True) if s)
    return {
        "tiles": tiling.spec,
        "training": n,
        "cells": held.numel(),
        "loo_accuracy": model.fitted.leave_one_out()["loo_accuracy"],
        "carry": len(tests),
        "said": float(said.double().mean()),
        "said without the mark": float(before.double().mean()),
        "median_rise": float((logits[:, 0, MARKED] - logits[:, 1, MARKED]).median()),
        "named": every.mean,
        "named_se": every.standard_error,
        "named, where said": where_said.mean,
        "within": sum(within) / len(within),
        "chance": float(held.double().mean()),
        "chance within": float(held[marked].double().mean()),
        "median_drop": float(torch.tensor(drops).median()),
        "difference from refits": difference,
        "seconds": {"solved once": solved, "each picture": each},
    }


if __name__ == "__main__":
    main()
