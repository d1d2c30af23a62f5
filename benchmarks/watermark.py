"""Is a planted watermark named? The training tile that a logit stands on most, over all tiles of all training pictures.

Usage: python -m benchmarks.watermark toy
       python -m benchmarks.watermark flowers17 --data DIR --backbone vit_tiny_patch16_224.augreg_in21k_ft_in1k
                                      --checkpoint FILE [--classes 6] [--own 10] [--marked 4] [--tests 5]
                                      [--worlds alone] [--scales 3] [--tiles tiles:4]

A mark lies flush in the lower left corner, so many times as large as the toy's own (31 x 19 of 160 pixels). Two worlds:

- "alone": training pictures of every species are stamped and labelled with one class more, "marked"; they share nothing
  but the mark. All species keep classes of their own, of other pictures without it. Test pictures of all species.
- "species": the pictures of one species are stamped. The species' own features suffice for its class, and whether the
  model uses the mark at all is left open. Test pictures of all other species.

Of each test picture with the mark ``Carrot.hidden_regions`` is asked about the logit of the marked class. A tile holds
the mark if half of the mark's pixels are in its box. ``named``: the tile without which the logit would fall most is one
that holds it; ``chance`` is the share of such tiles among all. ``rises most``: the tile without which it would *rise*
most is. Beside them, what else the model says of itself: ``own tile``, the tile of the test picture without which the
logit falls most holds the mark; ``pair``, the training tile of the pair that brings most (``pair_contribution``) does.

``named together``: were all tiles that show any of the mark hidden, in all marked pictures at once, the logit would
fall further than with any of ``DRAWS`` draws of as many other places hidden in all of them, each measured by a fit.

What it shows. The toy's own mark is hardly used: few pictures that have it are said to be marked. Three times as large
it decides, and with power 0 the test picture says so (``own tile``; power 4 weighs birds, and the mark's share is
small). Yet hiding it in a training picture is not what lowers the logit most, and the arithmetic is not to blame
(``difference from refits``). One picture of forty is hidden, and thirty-nine still teach the mark. And the label is
held: without its mark that picture's own logit of "marked" falls, and the refit makes up for it by what is left, its
*bird*. A test picture with such a bird then has a higher logit (``effect of the mark``, in marked pictures of the test
picture's own species; ``effect of the rest``: of their other tiles), so that the mark's tile is often the one without
which the logit would rise most. The tiles that come first show birds, in marked pictures (``top in marked``), of the
same species or one that looks like it. Any one copy of a shortcut can be spared; all of them together can not. On
flowers, ViT-Tiny, it is the same, but that with power 0 the training tile of the strongest pair mostly holds the mark.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from benchmarks.harness import write
from carrot import Carrot
from carrot.attribution import pair_contribution
from carrot.data import open_dataset
from carrot.data.records import Record
from carrot.data.toy import PARTS, ToyBirds, part_map, render, sample_scene
from carrot.embedding.tokens import Tokens
from carrot.evaluation.estimate import Estimate
from carrot.head import RidgeHead
from carrot.removal import Coalitions
from carrot.tiling import Tiling

SIDE = 160  # of a toy picture
DRAWS = 8  # of other places to hide, beside the mark's
SPECIES = 3  # that has the mark, where one has it
Picture = tuple[int, Callable[[], Image.Image]]  # its species, and how it is drawn


def toy_mark() -> Image.Image:
    """Return the toy's mark by itself."""
    birds = ToyBirds(n_train_per_class=1, n_test_per_class=0, n_species=1, shortcut=0)
    parts = torch.tensor(part_map(birds.scene(0)))
    y, x = torch.nonzero(parts == 2 + len(PARTS), as_tuple=True)  # background, body and parts come before it
    return birds.image(0).crop((int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1))


class World:
    """Pictures to train on, an ``ImageDataset``, and to ask about, each with and without the mark.

    Args:
        kind: "alone" or "species".
        classes: The species.
        own: Training pictures without the mark, but under "species" those of ``SPECIES``.
        marked: Training pictures of the class "marked", under "alone".
        tests: To ask about.
        scale: How many times as large as the toy's own the mark is.
    """

    def __init__(
        self,
        kind: str,
        classes: Sequence[str],
        own: Sequence[Picture],
        marked: Sequence[Picture],
        tests: Sequence[Picture],
        scale: int,
    ) -> None:
        self.name, self.kind, self.scale, self.mark = f"{kind} x {scale}", kind, scale, toy_mark()
        alone = kind == "alone"
        self.target = len(classes) if alone else SPECIES
        self.classes = (*classes, "marked") if alone else tuple(classes)
        self.train = [(one, not alone and one[0] == SPECIES) for one in own] + [(one, True) for one in marked if alone]
        self.tests = [one for one in tests if alone or one[0] != SPECIES]
        self.records: Sequence[Record] = [
            Record(f"{kind}/{scale}/{i}", self.target if has else species, "train")
            for i, ((species, _), has) in enumerate(self.train)
        ]

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return where the mark is in a picture of (width, height)."""
        factor = self.scale * min(size) / SIDE
        width, height = round(factor * self.mark.width), round(factor * self.mark.height)
        return 0, size[1] - height, width, size[1]

    def stamped(self, image: Image.Image) -> Image.Image:
        """Return a picture with the mark."""
        x0, y0, x1, y1 = self.box(image.size)
        image = image.copy()
        image.paste(self.mark.resize((x1 - x0, y1 - y0), Image.Resampling.NEAREST), (x0, y0))
        return image

    def image(self, index: int) -> Image.Image:
        """Return a training picture."""
        (_, draw), has = self.train[index]
        return self.stamped(draw()) if has else draw()

    def shares(self, tiling: Tiling, size: tuple[int, int]) -> torch.Tensor:
        """Return of each tile of a picture with the mark which share of the mark its box has."""
        boxes, mark = tiling.boxes(size), torch.tensor(self.box(size))
        low, high = torch.maximum(boxes[:, :2], mark[:2]), torch.minimum(boxes[:, 2:], mark[2:])
        return (high - low).clamp(min=0).prod(dim=1) / (mark[2:] - mark[:2]).prod()


def birds(own: int, marked: int, tests: int) -> tuple[Sequence[str], list[list[Picture]]]:
    """Return the toy's species and so many pictures of each: without the mark, to be marked, and to test."""
    toy = ToyBirds(n_train_per_class=1, n_test_per_class=0)

    def draw(species: int, key: str) -> Image.Image:
        return render(sample_scene(toy.species[species], key, clutter=toy.clutter)).image

    spans = (("train", range(own)), ("train", range(own, own + marked)), ("test", range(tests)))
    return toy.classes, [
        [(k, partial(draw, k, f"0/{split}/{k}/{number}")) for k in range(len(toy.classes)) for number in numbers]
        for split, numbers in spans
    ]


def photographs(
    data: Path, classes: int, own: int, marked: int, tests: int
) -> tuple[Sequence[str], list[list[Picture]]]:
    """Return the same of the first classes of a data set."""
    whole = open_dataset(str(data))
    found: list[list[Picture]] = [[], [], []]
    for k in range(classes):
        train, test = (
            [(k, partial(whole.image, i)) for i, r in enumerate(whole.records) if (r.label, r.split) == (k, split)]
            for split in ("train", "test")
        )
        for into, some in zip(found, (train[:own], train[own : own + marked], test[:tests]), strict=True):
            into += some
    return whole.classes[:classes], found


def mean(values: Iterable[float]) -> float | None:
    """Return a mean, None of nothing."""
    return Estimate.of(values).mean


def without(model: Carrot, kept: Tokens, g: torch.Tensor, target: int, gone: torch.Tensor) -> torch.Tensor:
    """Return a class's logit of test embeddings, (m,), fitted with tiles of training pictures, (n, R), never shown."""
    pooling, head = model.classifier.pooling, model.head_
    regions, readout = pooling.stage(kept)
    pi = readout.restricted(~gone.unsqueeze(-1))[..., 0]  # (n, R)
    G = torch.stack([pooling.lift.embed(H, weights) for H, weights in zip(regions.features, pi, strict=True)])
    return RidgeHead(head.lam, head.fit_intercept).fit(G, head.Y).predict(g)[:, target]


def measured(model: Carrot, world: World, tests: list[list[Tokens]]) -> dict[str, object]:
    """Return how often the top tile holds the mark, what else holds it, and what it cost to know."""
    tiling, target, now = Tiling.from_spec(model.setting_.regions), world.target, model.classifier
    start = time.perf_counter()
    hiding = now.hiding[0]  # solved for once, before the first picture
    solved = time.perf_counter() - start
    n, R = len(hiding.index), len(tiling)
    rows = [int(record.id.rpartition("/")[2]) for record in model.records_]
    marked = torch.tensor([world.train[i][1] for i in rows])
    species = torch.tensor([world.train[i][0][0] for i in rows])
    shares = torch.zeros(n, R)  # of the mark, that each training picture's tiles have
    for row in marked.nonzero().flatten().tolist():
        shares[row] = world.shares(tiling, world.image(rows[row]).size)
    held = shares >= 0.5
    if now.fitted.kept is None:
        raise SystemExit("tokens are kept in a folder; there is none.")
    kept = Tokens.joined(list(now.fitted.kept.each([r.row for r in model.records_ if r.row is not None])))
    regions, pi = now.pooling.stage(kept)[0].features, now.pooling.pi(kept)
    head, g = model.head_, torch.stack([now.trace(one).g for one, _ in tests])
    together = without(model, kept, g, target, shares > 0.0)
    places = (shares[marked] > 0.0).any(dim=0)
    free, draws = (~places).nonzero().flatten(), []
    random = torch.Generator().manual_seed(0)
    for _ in range(DRAWS):
        other = free[torch.randperm(len(free), generator=random)[: int(places.sum())]]
        draws.append(without(model, kept, g, target, marked[:, None] & torch.isin(torch.arange(R), other)))
    others = torch.stack(draws)  # (DRAWS, m)
    logit, alpha = head.logit(target), head.alpha
    before = [int(now.trace(one).logits.argmax()) == target for _, one in tests]
    said, named, rises, own, pair, drops, rise = [], [], [], [], [], [], []
    in_marked, of_species, of_mark, of_rest, seconds = [], [], [], [], 0.0
    for (kind, draw), (tokens, plain) in zip(world.tests, tests, strict=True):
        trace = now.trace(tokens)
        said.append(int(trace.logits.argmax()) == target)
        rise.append(float(trace.logits[target] - now.trace(plain).logits[target]))
        start = time.perf_counter()
        effects = hiding.effects(logit, trace.g)
        seconds += time.perf_counter() - start
        top, drop = int(effects.argmin()), -float(effects.min())
        named.append(bool(held.flatten()[top]))
        rises.append(bool(held.flatten()[int(effects.argmax())]))
        drops.append(drop)
        in_marked.append(bool(marked[top // R]))
        of_species.append(int(species[top // R]) == kind)
        same = marked & (species == kind)
        if same.any():
            of_mark.append(float(effects[same][held[same]].mean()))
            of_rest.append(float(effects[same][~held[same]].mean()))
        falls = Coalitions(trace.H, trace.graph, trace.operator, trace.readout, logit, trace.lift).each()
        own.append(bool(world.shares(tiling, draw().size)[int(falls[..., 0].argmax())] >= 0.5))
        pairs = pair_contribution(
            trace.H, trace.pi, regions, pi, alpha, target, lift=trace.lift, origin=head.g_mean
        )  # (R, n, R)
        pair.append(bool(held.flatten()[int(pairs.argmax()) % (n * R)]))
    difference = model.hidden_regions(
        world.stamped(world.tests[0][1]()), model.classes_[target], verify=True
    ).difference
    if difference is None or difference > 1e-3 * max(drops):  # tokens are float16
        raise SystemExit(f"a real refit differs by {difference}")
    every = Estimate.of(named)
    return {
        "world": world.kind,
        "mark": world.scale,
        "tiles": tiling.spec,
        "power": model.setting_.power,
        "readout": model.setting_.readout,
        "training": n,
        "marked": int(marked.sum()),
        "cells": n * R,
        "loo_accuracy": model.fitted.leave_one_out()["loo_accuracy"],
        "carry": len(tests),
        "said": mean(said),
        "said without the mark": mean(before),
        "median_rise": float(torch.tensor(rise).median()),
        "named": every.mean,
        "named_se": every.standard_error,
        "named, where said": mean(x for x, s in zip(named, said, strict=True) if s),
        "chance": float(held.double().mean()),
        "rises most": mean(rises),
        "own tile": mean(own),
        "own tile, where said": mean(x for x, s in zip(own, said, strict=True) if s),
        "own tile, chance": float(held[marked].double().mean()),
        "pair": mean(pair),
        "named together": mean((together < others.min(dim=0).values).tolist()),
        "mean logit": float(head.predict(g)[:, target].mean()),
        "mean logit, mark hidden in all": float(together.mean()),
        "mean logit, as much else hidden in all": float(others.mean()),
        "hidden in all": int(places.sum()),
        "top in marked": mean(in_marked),
        "top of the species": mean(of_species),
        "effect of the mark": mean(of_mark),
        "effect of the rest": mean(of_rest),
        "median_drop": float(torch.tensor(drops).median()),
        "difference from refits": difference,
        "seconds": {"solved once": solved, "each picture": seconds / len(tests)},
    }


def main() -> None:
    """Plant, fit, ask, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--backbone", default="toy")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--classes", type=int, default=6, help="of photographs")
    parser.add_argument("--own", type=int, default=8, help="training pictures of each species without the mark")
    parser.add_argument("--marked", type=int, default=2, help="training pictures of each species with it")
    parser.add_argument("--tests", type=int, default=5, help="test pictures of each species")
    parser.add_argument("--worlds", nargs="+", default=("alone", "species"))
    parser.add_argument("--scales", nargs="+", type=int, default=(1, 3))
    parser.add_argument("--tiles", nargs="+", default=("tiles:4", "tiles:3,4"))
    given = parser.parse_args()
    numbers = (given.own, given.marked, given.tests)
    classes, found = birds(*numbers) if given.data is None else photographs(given.data, given.classes, *numbers)
    rows: list[dict[str, object]] = []
    plain: dict[tuple[str, Picture], Tokens] = {}  # of test pictures without the mark: the same in all worlds
    for world in (World(kind, classes, *found, scale) for kind in given.worlds for scale in given.scales):
        with tempfile.TemporaryDirectory() as folder:
            for regions in given.tiles:
                tests: list[list[Tokens]] = []
                for power, readout in ((0.0, "mean"), (0.0, "sum"), (4.0, "mean"), (4.0, "sum")):
                    model = Carrot(
                        given.backbone, regions=regions, power=power, readout=readout, checkpoint=given.checkpoint
                    ).fit(world, tokens=folder)
                    for one in world.tests[len(tests) :]:  # their tokens, once
                        encoder, key = model.classifier.encoder, (regions, one)
                        if key not in plain:
                            plain[key] = encoder.tokens([one[1]()])
                        tests.append([encoder.tokens([world.stamped(one[1]())]), plain[key]])
                    rows.append(measured(model, world, tests))
                    print(rows[-1], flush=True)
    facts = {"backbone": given.backbone, "species": len(classes)}
    print("written:", write(f"watermark-{given.name}", rows, **facts).name)


if __name__ == "__main__":
    main()
