"""How is a map of overlapping tiles best laid on the picture? Three layouts, by where they point.

Usage: python -m benchmarks.maps NAME --data DATA --backbone NAME --checkpoint FILE [--tokens FOLDER] [--regions ...]

A tile's share v_r of a score is laid on pixels by weights w_r(x) >= 0 that sum to 1 over the picture, so that every map
sums to the shares. Of k x k tiles on each axis, w is a product of two:

::

    even     w_r(x) = 1 / |b_r| in its box                          more where more tiles lie: equal shares make a hill
    cells    w_r(x) = k^2 / |picture| in the cell (i, j) of k x k   equal shares are flat
    smooth   of all w inside of the boxes that make equal shares flat, the one nearest to even (Kullback-Leibler):
             rows and columns scaled in turn until both sums are right

Measured on test pictures whose object is known, of the map of the predicted class: the peak (pointing), the positive
part (energy), the ranks of pixels (AUC), each beside what a map gets that knows nothing, and less that of "even",
picture by picture. With --mosaics: the share of a class's positive map on its own picture, of 2 x 2 and 3 x 3.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness import write
from benchmarks.ladders import World
from benchmarks.mosaics import SIDE, OnMosaics, chosen, few
from carrot import Carrot
from carrot._choices import Grid, read_regions
from carrot._ridge.logit import Logit
from carrot.data import open_dataset
from carrot.data.records import ImageDataset, Segmented
from carrot.data.toy import ToyBirds
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import Setting
from carrot.embedding.spec import TOY
from carrot.evaluation.cells import Places
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.grid_pointing import cell_box
from carrot.evaluation.localisation import random_heights
from carrot.evaluation.selection import candidate
from carrot.evaluation.targets import Target, area_inside, centre_inside
from carrot.explanation.parts import take_apart
from carrot.protocol.mosaics import mosaic

LAYOUTS = ("even", "cells", "smooth", "middles")
REGIONS = ("tiles:3", "tiles:4", "tiles:3,4")
TURNS = 500  # of scaling


def axis(grid: Grid, layout: str) -> tuple[Tensor, Tensor]:
    """Return the edges along one side of a picture of side 1, and the share of each tile between them (k, m)."""
    k, step = grid.k, 1.0 - grid.overlap
    low = torch.arange(k, dtype=torch.float64) * step / (1.0 + (k - 1) * step)
    high = low + 1.0 / (1.0 + (k - 1) * step)
    if layout == "cells":
        return torch.linspace(0.0, 1.0, k + 1, dtype=torch.float64), torch.eye(k, dtype=torch.float64)
    if layout == "middles":
        half = step / 2 * float(high[0]) if k > 1 else 0.5
        middle = (low + high) / 2
        edges = torch.cat([torch.zeros(1), middle - half, middle[-1:] + half, torch.ones(1)]).double()
        share = torch.cat([torch.zeros(k, 1), torch.eye(k), torch.zeros(k, 1)], dim=1).double()
        is_there = edges.diff() > 1e-9
        return edges[torch.cat([is_there, torch.tensor([True])])], share[:, is_there]
    edges = torch.cat([low, high]).mul(1e9).round().div(1e9).unique()
    middle, length = (edges[1:] + edges[:-1]) / 2, edges.diff()
    share = ((low[:, None] < middle) & (middle < high[:, None])).double() * length
    share = share / share.sum(dim=1, keepdim=True)
    for _ in range(TURNS if layout == "smooth" else 0):
        share = share * (k * length / share.sum(dim=0))
        share = share / share.sum(dim=1, keepdim=True)
    return edges, share


def finer(edges: Tensor, share: Tensor, all_edges: Tensor) -> Tensor:
    """Return the same shares between more edges."""
    middle = (all_edges[1:] + all_edges[:-1]) / 2
    place = torch.searchsorted(edges, middle).sub(1).clamp(0, share.shape[1] - 1)
    return (share / edges.diff())[:, place] * all_edges.diff()


def places(regions: str, layout: str, image_size: tuple[int, int]) -> Places:
    """Return where a map has its values, in pixels of a picture of (width, height)."""
    grids = [grid for grid in read_regions(regions) if isinstance(grid, Grid)]
    found = [axis(grid, layout) for grid in grids]
    edges = torch.cat([e for e, _ in found]).mul(1e9).round().div(1e9).unique()
    shares = []
    for own, share in found:
        fine = finer(own, share, edges)
        shares.append(torch.einsum("iy,jx->yxij", fine, fine).reshape((len(edges) - 1) ** 2, -1))
    x, y = edges * image_size[0], edges * image_size[1]
    cells = [(x[i], y[j], x[i + 1], y[j + 1]) for j in range(len(y) - 1) for i in range(len(x) - 1)]
    boxes = torch.tensor(cells, dtype=torch.float64)
    if layout == "mean":
        seen = (torch.cat(shares, dim=1) > 0).double()
        area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        return Places(boxes, area, seen / seen.sum(dim=1, keepdim=True) * area[:, None])
    return Places(boxes, (boxes[:, 2:] - boxes[:, :2]).prod(dim=1), torch.cat(shares, dim=1))


def measured(p: Places, values: Tensor, target: Target) -> Iterator[tuple[str, float]]:
    """Yield what a map gets, and of the peak what random maps get."""
    inside, hit = area_inside(p.boxes, target).minimum(p.area), centre_inside(p.boxes, target).double()
    height, at_random = p.heights(values[:, None]), random_heights(p)
    for name, heights in (("pointing", height), ("pointing_chance", at_random)):
        top = (heights == heights.amax(dim=0)) * p.area[:, None]
        yield name, float((hit @ (top / top.sum(dim=0))).mean())
    positive = p.masses(values).clamp(min=0.0)
    if float(positive.sum()) > 0:
        yield "energy", float(positive @ (inside / p.area) / positive.sum())
    outside = p.area - inside
    order = height[:, 0].argsort(descending=True)
    h = height[order, 0]
    lower = ((h[:, None] > h).double() + (h[:, None] == h).double() / 2) @ outside[order]
    if float(inside.sum()) > 0 and float(outside.sum()) > 0:
        yield "AUC", float(inside[order] @ lower / (inside.sum() * outside.sum()))


def hill(regions: str, layout: str) -> float:
    """Return the highest density over the lowest that is not 0, where all tiles have the same share: 1 is flat."""
    p = places(regions, layout, (1000, 1000))
    density = (p.share.sum(dim=1) if p.share is not None else p.area) / p.area
    return float(density.max() / density[density > 0].min())


def summary(found: dict[tuple[str, str], list[float]]) -> dict[str, dict[str, object]]:
    """Return each layout's means, and how far they are above those of "even"."""
    rows: dict[str, dict[str, object]] = defaultdict(dict)
    for (layout, name), values in found.items():
        rows[layout][name] = asdict(Estimate.of(values))
        less = [a - b for a, b in zip(values, found["even", name], strict=True)]
        if layout != "even" and not name.endswith("chance"):
            rows[layout][f"{name}_above_even"] = asdict(Estimate.of(less))
    return rows


def on_objects(world: World, s: Setting) -> dict[str, dict[str, object]]:
    """Measure all layouts on the test pictures whose object is known."""
    train, test = world.cache(s, "train"), world.cache(s, "test")
    head = candidate(train.embed(train.rows, s), world.y["train"][train.rows], s).head
    pictures, pooling, found = world.split["test"], Pooling(s), defaultdict[tuple[str, str], list[float]](list)
    for i in test.rows:
        mask = pictures.mask(i) if isinstance(pictures.dataset, Segmented) else None
        box = pictures.records[i].box
        if mask is None and box is None:
            continue
        trace = pooling.trace(test.picture(i))
        values = take_apart(trace, Logit.predicted(head, trace.g)).token
        size = pictures.image(i).size if mask is None else mask.shape[::-1]
        known = box if mask is None else torch.from_numpy(mask.copy())
        for layout in LAYOUTS:
            p = places(s.regions, layout, size)
            for name, value in measured(p, values, known):
                found[layout, name].append(value)
            for name, value in measured(p, torch.ones_like(values), known):
                if not name.endswith("chance"):
                    found[layout, f"{name}_of_equal_shares"].append(value)
    return summary(found)


def on_mosaics(a: argparse.Namespace, data: ImageDataset, regions: str) -> dict[str, dict[str, object]]:
    """Measure how much of a class's positive map lies on its own picture of a mosaic, the mean over the mosaic."""
    train, tests = few(data, None, None, None)
    model = Carrot(a.backbone, regions=regions, checkpoint=a.checkpoint, device="cpu").fit(train, tokens=a.tokens)
    best, _ = chosen([model], data, tests, a.tokens)
    now, found = OnMosaics(model, regions, {}), defaultdict[tuple[str, str], list[float]](list)
    head, draw = model.head_, random.Random(0)
    for k in (2, 3):
        for _ in range(a.mosaics):
            classes = draw.sample(sorted(best), k * k)
            image, _ = mosaic([data.image(best[c]) for c in classes], k, SIDE)
            trace = now.classifier.trace(now.tokens(image))
            brings = [
                take_apart(trace, head.logit(c)).token[: len(now.classifier.encoder.view.tiling)] for c in classes
            ]
            for layout in LAYOUTS:
                p, shares = places(regions, layout, image.size), []
                for cell, values in enumerate(brings):
                    positive = p.masses(values).clamp(min=0.0)
                    inside = area_inside(p.boxes, cell_box(k, cell, (image.height, image.width)))
                    if float(positive.sum()) > 0:  # some class's map may have nothing positive
                        shares.append(float(positive @ (inside / p.area) / positive.sum()))
                found[layout, f"mosaics_{k}"].append(sum(shares) / len(shares))
    return summary(found)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("name")
    p.add_argument("--data", default=TOY)
    p.add_argument("--backbone", default=TOY)
    p.add_argument("--checkpoint")
    p.add_argument("--tokens", type=Path)
    p.add_argument("--regions", nargs="+", default=list(REGIONS))
    p.add_argument("--power", type=float, default=4.0)
    p.add_argument("--mosaics", type=int, default=0, help="of each size")
    a = p.parse_args()
    a.tokens = a.tokens or Path("runs") / a.name / "tokens"
    data = ToyBirds() if a.data == TOY else open_dataset(a.data)
    world, rows = World(Encoder(a.backbone, a.checkpoint), data, a.tokens), []
    for regions in a.regions:
        found = on_objects(world, Setting("quadratic", regions=regions, power=a.power))
        of_mosaics = on_mosaics(a, data, regions) if a.mosaics else {}
        for layout, numbers in found.items():
            row = {"regions": regions, "layout": layout, "hill": hill(regions, layout)}
            rows.append(row | numbers | of_mosaics.get(layout, {}))
            told = {
                k: v if isinstance(v, float) else Estimate(**v) for k, v in rows[-1].items() if not isinstance(v, str)
            }
            print(regions, layout, "  ".join(f"{k} {v}" for k, v in told.items()), flush=True)
    print(write(f"maps-{a.name}", rows, backbone=a.backbone, data=a.name, power=a.power, mosaics=a.mosaics))


if __name__ == "__main__":
    main()
