"""What ladders of tiles are worth and what they cost, beside patches and the class token.

Usage: python -m benchmarks.ladders NAME --data DATA --backbone NAME --checkpoint FILE [--tokens FOLDER] [--regions ...]

One row for each kind of regions, power p of a tile's norm, and told share of the whole picture; quadratic lift, no
diffusion, lam by exact leave-one-out. Leave-one-out squared error and accuracy, test accuracy; on test pictures whose
object is known by a mask: does the map of the predicted class point at it, beside chance and the centre of the same
tiles, the map spread evenly over boxes (``benchmarks.maps`` has others); passes of the backbone and CPU seconds a
picture, decoding included. Nothing is chosen by a test picture.
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import write
from carrot._ridge.logit import Logit
from carrot.data import open_dataset, split_indices
from carrot.data.pets import BACKGROUND, Pets
from carrot.data.records import Segmented, Subset
from carrot.embedding.cache import TokenCache
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import Setting
from carrot.evaluation.localisation import centre_map, chance, energy_inside, pointing_hit
from carrot.evaluation.selection import candidate
from carrot.explanation.parts import take_apart
from carrot.head import RidgeHead

LADDERS = ("tiles:2", "tiles:3", "tiles:4", "tiles:3,4")
POWERS, SHARES = (0.0, 4.0, 8.0, 12.0, 16.0), (0.0, 0.1, 0.3)
TIMED = 8  # pictures whose CPU seconds are taken


def settings(regions: list[str], shares: list[float]) -> list[Setting]:
    """Return the rows: patches as they are chosen today, the class token alone, and every ladder."""
    found = [Setting("quadratic", tau=0.5), Setting("quadratic", global_share=1.0)]
    rows = itertools.product(regions, shares, POWERS)
    return found + [Setting("quadratic", regions=r, power=p, global_share=s) for r, s, p in rows]


class World:
    """A data set's training and test pictures, and their tokens for any setting."""

    def __init__(self, encoder: Encoder, data: object, root: Path) -> None:
        self.encoder, self.root = encoder, root
        self.split = {side: Subset(data, split_indices(data, side)) for side in ("train", "test")}
        self.y = {side: torch.tensor([r.label for r in s.records]) for side, s in self.split.items()}

    def cache(self, s: Setting, side: str) -> TokenCache:
        """Return the tokens of a side; those of a scale are computed once."""
        return self.encoder.of(s).cache(self.split[side], self.root)

    def cpu_seconds(self, s: Setting) -> float:
        """Return what a picture costs from its file to its tokens."""
        view, test = self.encoder.of(s).view, self.split["test"]
        pictures = range(min(TIMED, len(test.records)))
        view.encode(torch.stack([view.transform(test.image(0))]))
        start = time.process_time()
        for i in pictures:
            view.encode(torch.stack([view.transform(test.image(i))]))
        return (time.process_time() - start) / len(pictures)


def where(world: World, s: Setting, cache: TokenCache, head: RidgeHead) -> dict[str, float]:
    """Return how the map of the predicted class points at the object; nothing where no mask is known."""
    test, pooling, view = world.split["test"], Pooling(s), world.encoder.of(s).view
    if not isinstance(test.dataset, Segmented) or s.global_share == 1.0:
        return {}
    found: list[list[float]] = []
    for i in cache.rows:
        mask = test.mask(i)
        if mask is None:
            continue
        trace = pooling.trace(cache.picture(i))
        token = take_apart(trace, Logit.predicted(head, trace.g)).token
        height, width = mask.shape
        boxes, inside = view.boxes((width, height), s.coarsen), torch.from_numpy(mask.copy())
        values, known = token[: len(boxes)], chance(boxes, inside)
        energy = energy_inside(values, boxes, inside)
        centre = pointing_hit(centre_map(boxes), boxes, inside)
        found.append([pointing_hit(values, boxes, inside), energy or 0.0, known.pointing, known.energy, centre])
        if isinstance(test.dataset, Pets):  # who drew the outlines left a border open
            trimap = test.dataset.trimap(test.indices[i])
            found[-1].append(pointing_hit(values, boxes, torch.from_numpy(np.asarray(trimap) != BACKGROUND)))
    names = ("pointing", "energy", "pointing_chance", "energy_chance", "pointing_of_the_centre", "pointing_with_border")
    return dict(zip(names, torch.tensor(found).mean(dim=0).tolist(), strict=False)) if found else {}


def row(world: World, s: Setting) -> dict[str, object]:
    """Return one line of the table."""
    train, test = (world.cache(s, side) for side in ("train", "test"))
    c = candidate(train.embed(train.rows, s), world.y["train"][train.rows], s)
    logits: Tensor = c.head.predict(test.embed(test.rows, s))
    right = float((logits.argmax(dim=1) == world.y["test"][test.rows]).double().mean())
    cost = {"passes": world.encoder.passes(s), "cpu_s": world.cpu_seconds(s)}
    numbers = {"loo_mse": c.loo_mse, "loo": c.loo_accuracy, "test": right}
    return {"setting": str(s), **s.to_dict(), **numbers, **where(world, s, test, c.head), **cost}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("name")
    p.add_argument("--data", required=True)
    p.add_argument("--test-every", type=int, help="for a folder of classes: every so many pictures are for testing")
    p.add_argument("--backbone", required=True)
    p.add_argument("--checkpoint")
    p.add_argument("--tokens", type=Path)
    p.add_argument("--regions", nargs="+", default=list(LADDERS))
    p.add_argument("--shares", nargs="+", type=float, default=list(SHARES))
    a = p.parse_args()
    if a.test_every:
        from carrot.data import ImageFolder

        data = ImageFolder(a.data, a.test_every)
    else:
        data = open_dataset(a.data)
    world = World(Encoder(a.backbone, a.checkpoint), data, a.tokens or Path("runs") / a.name / "tokens")
    rows = []
    for s in settings(a.regions, a.shares):
        rows.append(found := row(world, s))
        numbers = "  ".join(f"{k} {v:.4f}" for k, v in found.items() if isinstance(v, float) and k not in s.to_dict())
        print(f"{s!s:<60} {numbers}", flush=True)
    sizes = {side: len(s.records) for side, s in world.split.items()}
    print(write(f"ladders-{a.name}", rows, backbone=a.backbone, data=a.name, test_every=a.test_every, **sizes))


if __name__ == "__main__":
    main()
