"""Of several pictures in one mosaic, does the map of a class lie on its own? The grid pointing game.

Usage: python -m benchmarks.mosaics --data pets:DIR --backbone NAME --checkpoint FILE [--mosaics 100] [--costly 20]

Mosaics are k x k, k = 2, 3, of cells of ``SIDE`` pixels, each a test picture of another class. Which: in each class the
one that all models of the run call right, and whose least calibrated probability among them is the highest; a class
without any has none. The numbers are shares of a class's positive map in its cell, the mean over the k^2 classes of a
mosaic, then over mosaics.

A model of tiles is fitted on a ladder over pictures, and looks at a mosaic by a ladder over the mosaic: "cells", each
box in one cell (k x k and 2k x 2k, disjoint: of each picture itself and its quarters); "across", 3 x 3 and 4 x 4 that
overlap by half, many of which cross cells. Feature of a tile, lift and head are the same. Disjoint tiles of one cell
are the same in every mosaic, bit for bit, and are passed through the backbone once. "less the other" asks why this
class and not, of those in the mosaic, the one with the highest logit. The model of patches sees the mosaic in one pass.
"""

import argparse
import hashlib
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from benchmarks.harness import write
from benchmarks.peers import Explain, Subject, centre, grad_cam, over_boxes, rollout
from carrot import Carrot
from carrot.attribution import region_contribution
from carrot.classifier.classifier import Classifier
from carrot.data import ImageDataset, open_dataset
from carrot.data.records import Subset, split_indices
from carrot.data.toy import ToyBirds
from carrot.embedding.spec import TOY
from carrot.embedding.tokens import Tokens, encoded
from carrot.embedding.trace import Trace
from carrot.embedding.view import PASS, TileView
from carrot.evaluation.calibration import probabilities
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.grid_pointing import cell_box, grid_pointing
from carrot.evaluation.localisation import chance
from carrot.protocol.mosaics import mosaic

SIDE, GRIDS = 224, (2, 3)
LADDERS = {"cells": "tiles:{k}@0,{twice}@0", "across": "tiles:3,4"}
COSTLY: dict[str, Explain] = {"GradCAM": grad_cam, "rollout": rollout}


@dataclass(frozen=True)
class Mosaic:
    """Several pictures in one.

    Attributes:
        image: All of them.
        classes: Theirs, row by row.
    """

    image: Image.Image
    classes: tuple[int, ...]

    @property
    def k(self) -> int:
        """Cells on each side."""
        return round(len(self.classes) ** 0.5)

    def share(self, values: Tensor, boxes: Tensor, cell: int) -> float | None:
        """Return the share of a positive map in a cell."""
        return grid_pointing(values, boxes, self.k, cell, (self.image.height, self.image.width))

    def chance(self, boxes: Tensor) -> float:
        """Return what a map of the same density everywhere gets, the mean over cells."""
        hw = (self.image.height, self.image.width)
        found = [chance(boxes, cell_box(self.k, cell, hw)).energy for cell in range(self.k**2)]
        return sum(found) / len(found)


class Columns(NamedTuple):
    """Some classes of a head."""

    W_star: Tensor
    bias: Tensor


class OnMosaics:
    """A fitted model of tiles, looking at mosaics by another ladder; each tile that comes again is passed once."""

    def __init__(self, model: Carrot, ladder: str, known: dict[str, Tensor]) -> None:
        fitted = model.fitted
        setting = replace(fitted.setting, regions=ladder)
        encoder = model.encoder.looking(setting, fitted.setting.tile_size)
        self.classifier = Classifier(encoder, replace(fitted, setting=setting))
        self.known = known  # features of tiles, by their pixels: models on one backbone share them

    def tokens(self, image: Image.Image) -> Tokens:
        """Return the features of the tiles of a mosaic."""
        view = self.classifier.encoder.view
        if not isinstance(view, TileView):
            raise TypeError("`model` must be of tiles.")
        keys = [f"{tile.size} {hashlib.sha256(tile.tobytes()).hexdigest()}" for tile in view.tiling.cut(image)]
        new = {key: i for i, key in enumerate(keys) if key not in self.known}
        if new:
            x = view.transform(image)[list(new.values())]
            self.known |= dict(zip(new, encoded(view.backbone, x, view.dtype, PASS), strict=True))
        return Tokens(torch.stack([self.known[key] for key in keys])[None], None, tiling=view.tiling)

    def shares(self, m: Mosaic) -> Iterator[tuple[str, float | None]]:
        """Yield the share of each class's maps in its cell, by name, and of chance."""
        now = self.classifier
        trace = now.trace(self.tokens(m.image))
        yield from _own(now, trace, m, now.encoder.view.boxes(m.image.size))


def _own(now: Classifier, trace: Trace, m: Mosaic, boxes: Tensor) -> Iterator[tuple[str, float | None]]:
    head, classes = now.fitted.head, list(m.classes)
    asked = Columns(head.W_star[:, classes], head.bias[classes])  # of those in the mosaic, at once
    brings = region_contribution(
        trace.H,
        trace.pi,
        asked.W_star,
        "token",
        operator=trace.operator,
        graph=trace.graph,
        r=trace.r,
        lift=trace.lift,
        origin=head.g_mean,
    )[: len(boxes)]
    drops = trace.coalitions(asked).each()[: len(boxes)]
    logits = head.predict(trace.g)[classes]
    for cell in range(len(classes)):
        yield "contribution", m.share(brings[:, cell], boxes, cell)
        yield "drop", m.share(drops[:, cell], boxes, cell)
        other = max((c for c in range(len(classes)) if c != cell), key=lambda c: float(logits[c]))
        yield "contribution, less the other", m.share(brings[:, cell] - brings[:, other], boxes, cell)
    yield "chance", m.chance(boxes)


def on_patches(model: Carrot, m: Mosaic, is_costly: bool) -> Iterator[tuple[str, float | None]]:
    """Yield the same of a model of patches; and, where asked for, of explainers that cost passes."""
    subject = Subject(model, m.image)
    yield from _own(model.classifier, model.trace(m.image), m, subject.boxes)
    generator = torch.Generator().manual_seed(sum(m.classes))
    for cell, c in enumerate(m.classes):
        at_random = torch.randn(len(subject.boxes), generator=generator, dtype=torch.float64)
        yield "random", m.share(at_random, subject.boxes, cell)
        yield "centre", m.share(over_boxes(centre(subject, c), subject.boxes), subject.boxes, cell)
        for name, explain in COSTLY.items() if is_costly else ():
            yield name, m.share(over_boxes(explain(subject, c), subject.boxes), subject.boxes, cell)


def chosen(
    models: list[Carrot], data: ImageDataset, tests: list[int], folder: Path
) -> tuple[dict[int, int], list[float]]:
    """Return the picture of each class that has one, and each model's accuracy on all of them."""
    test = Subset(data, tests)
    y = torch.tensor([record.label for record in test.records])
    right, least, accuracy = torch.ones(len(y), dtype=torch.bool), torch.ones(len(y), dtype=torch.float64), []
    for model in models:
        now = model.classifier
        cache = now.encoder.cache(test, folder)
        logits = now.fitted.head.predict(cache.embed(list(range(len(y))), now.fitted.setting))
        hit = logits.argmax(dim=1) == y
        accuracy.append(float(hit.double().mean()))
        p = probabilities(logits, now.fitted.temperature)[torch.arange(len(y)), y]
        right, least = right & hit, torch.minimum(least, p)
    best: dict[int, int] = {}
    for i in torch.argsort(least, descending=True).tolist():
        if right[i]:
            best.setdefault(int(y[i]), tests[i])
    return best, accuracy


def few(data: ImageDataset, classes: int | None, train: int | None, test: int | None) -> tuple[Subset, list[int]]:
    """Return a data set of the first training pictures of the first classes, and positions of test pictures."""
    kept: dict[str, list[int]] = {}
    for split, n in (("train", train), ("test", test)):
        seen = defaultdict[int, int](int)
        kept[split] = []
        for i in split_indices(data, "train" if split == "train" else "test"):
            label = data.records[i].label
            seen[label] += 1
            if (n is None or seen[label] <= n) and (classes is None or label < classes):
                kept[split].append(i)
    pictures = Subset(data, kept["train"])
    pictures.classes = data.classes[:classes]
    return pictures, kept["test"]


def main() -> None:
    """Fit, choose, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=TOY)
    parser.add_argument("--backbone", default=TOY)
    parser.add_argument("--checkpoint")
    parser.add_argument("--regions", nargs="*", default=["tiles:1,2@0", "tiles:2@0,4@0"], help="ladders to fit on")
    parser.add_argument("--mosaics", type=int, default=100, help="of each size")
    parser.add_argument(
        "--costly", type=int, default=20, help="of them, for tiles across cells and explainers by passes"
    )
    parser.add_argument("--classes", type=int, help="only the first ones")
    parser.add_argument("--train", type=int, help="training pictures of each class, at most")
    parser.add_argument("--test", type=int, help="test pictures of each class to choose from, at most")
    parser.add_argument("--tokens", help="folder that keeps them; default: a temporary one")
    parser.add_argument("--name", default="mosaics", help="of the file of results")
    a = parser.parse_args()
    torch.set_num_threads(1)
    data: ImageDataset = ToyBirds() if a.data == TOY else open_dataset(a.data)
    train, tests = few(data, a.classes, a.train, a.test)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(a.tokens or temporary)

        def fit(regions: str) -> Carrot:
            settings = {"regions": regions, "checkpoint": a.checkpoint, "device": "cpu"}
            return Carrot(a.backbone, **settings).fit(train, tokens=folder)

        models = {regions: fit(regions) for regions in ["patches", *a.regions]}
        best, accuracy = chosen(list(models.values()), data, tests, folder)
    told = {
        "classes": len(train.classes),
        "chosen": len(best),
        "test accuracy": dict(zip(models, accuracy, strict=True)),
    }
    told |= {"training pictures": len(train.records), "test pictures": len(tests)}
    print(told, flush=True)
    rows = [row for k in GRIDS for row in measured(k, models, data, best, a.mosaics, a.costly)]
    print(write(a.name, rows, data=data.name, backbone=a.backbone, side=SIDE, **told))


def measured(
    k: int, models: dict[str, Carrot], data: ImageDataset, best: dict[int, int], mosaics: int, costly: int
) -> list[dict[str, object]]:
    """Return a row for each model, ladder and map on mosaics of k x k."""
    draw = random.Random(k)
    known: dict[str, Tensor] = {}
    asked = {
        (regions, name): OnMosaics(model, ladder.format(k=k, twice=2 * k), known)
        for regions, model in models.items()
        if regions != "patches"
        for name, ladder in LADDERS.items()
    }
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for i in range(mosaics):
        classes = tuple(draw.sample(sorted(best), k * k))
        m = Mosaic(mosaic([data.image(best[c]) for c in classes], k, SIDE)[0], classes)
        answers = {("patches", "one pass"): on_patches(models["patches"], m, i < costly)}
        answers |= {key: on.shares(m) for key, on in asked.items() if key[1] == "cells" or i < costly}
        for key, shares in answers.items():
            of_mosaic: dict[str, list[float]] = defaultdict(list)
            for name, share in shares:
                if share is not None:
                    of_mosaic[name].append(share)
            for name, values in of_mosaic.items():
                found[*key, name].append(sum(values) / len(values))
    rows: list[dict[str, object]] = []
    for (regions, ladder, name), values in found.items():
        score = Estimate.of(values)
        rows.append({"grid": k, "fitted on": regions, "ladder": ladder, "explanation": name, "score": asdict(score)})
        print(f"{k} x {k}, {regions}, {ladder}, {name}: {score} ({score.n})", flush=True)
    return rows


if __name__ == "__main__":
    main()
