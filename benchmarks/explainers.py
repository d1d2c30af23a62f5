"""How do the maps of a model of tiles compare with other explainers? Asked of the same backbone and head.

Usage: python -m benchmarks.explainers [--pictures 12] [--shown 4] [--data toy] [--backbone toy] [--checkpoint FILE]

Rows: contribution and drop, the model's own; the maps of a model of patches (same backbone, same training pictures)
laid over the tiles; and ``benchmarks.peers``. Every map but the model's own is one over pixels: what it says of a tile
is its sum over the tile's box. Columns, of the predicted class:

tile level      deletion, insertion, and gain (SRG) as tiles are dropped in the map's order, exact for the picture
pixel level     the same with the backbone run again on the tiles that are left, in ``STEPS`` steps, of fewer pictures
where           pointing, energy, rank accuracy, AUC, of the regions' values in the object's mask; beside chance
seconds         of the processor, on one thread, from the picture to the map; the backbone's passes are in it

A second model has the readout "sum": there the order by contributions is the best there is. Counted: on how many
pictures the area under its deletion is below that of each of ``ORDERS`` random orders, and of each explainer; a tie
doesn't count. Checked first: what Captum's FeatureAblation finds on tiles switched on and off is the drops.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.differentiable import apart
from benchmarks.harness import write
from benchmarks.peers import PEERS, Explain, Subject, over_boxes, own
from carrot import Carrot
from carrot.classifier.shown import shown_embedding
from carrot.data import ImageDataset, open_dataset
from carrot.data.records import Segmented, Subset, split_indices
from carrot.data.toy import ToyBirds
from carrot.embedding.spec import TOY
from carrot.embedding.trace import Trace
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.faithfulness import area, order_of, relevance_gain
from carrot.evaluation.localisation import chance, energy_inside, pointing_hit
from carrot.evaluation.pixel_ranks import AUC_CHANCE, localisation_auc, rank_accuracy, rank_accuracy_chance
from carrot.explanation.parts import LogitParts, take_apart
from carrot.removal import Coalitions

ORDERS, STEPS = 1000, 5
OURS = ("contribution", "drop")
TOLERANCE = 1e-4  # of logits: features of one batch of tiles and another differ by rounding, to float16


class Case:
    """A picture on a model of tiles, and on one of patches."""

    def __init__(self, tiles: Carrot, patches: Carrot, test: Subset, place: int) -> None:
        self.tiles, self.place = tiles, place
        self.image = test.image(place)
        self.subject, self.on_patches = Subject(tiles, self.image), Subject(patches, self.image)
        self.trace: Trace = tiles.trace(self.image)
        self.parts: LogitParts = take_apart(self.trace, tiles.classifier.question(self.trace))
        self.target = self.parts.target
        self.coalitions: Coalitions = self.trace.coalitions(tiles.head_.logit(self.target))
        self.boxes, self.apart = self.subject.boxes, 0.0  # predicted from shown, at most

    def values(self, name: str) -> tuple[Tensor, float]:
        """Return what an explainer says of each tile, and the seconds of the processor that it took."""
        start = time.process_time()
        if name in OURS:
            trace = self.tiles.trace(self.image)
            parts = take_apart(trace, self.tiles.head_.logit(self.target))
            return parts.drop if name == "drop" else parts.token, time.process_time() - start
        subject = self.on_patches if name.startswith("patches: ") else self.subject
        found = explainers()[name](subject, self.target)
        return over_boxes(found, self.boxes), time.process_time() - start

    def dropped(self, order: Tensor) -> dict[str, float]:
        """Return areas and gain at tile level."""
        gone, there = self.coalitions.deletion(order)[:, 0], self.coalitions.insertion(order)[:, 0]
        return _areas("tile level", gone, there)

    def shown(self, order: Tensor) -> dict[str, float]:
        """Return areas and gain with the backbone run again.

        Raises:
            SystemExit: It gives something else than was predicted without it.
        """
        N, rank = len(order), torch.argsort(order)
        counts = torch.round(torch.linspace(0, N, STEPS + 1, dtype=torch.float64)).long()
        dealt = rank[:, None] < counts
        both = torch.cat([~dealt, dealt], dim=1)
        head = self.tiles.head_
        g = torch.stack([shown_embedding(self.tiles.classifier, self.image, keep) for keep in both.T])
        measured = head.predict(g)[:, self.target]
        predicted = self.coalitions.logits(both)[:, 0]
        self.apart = max(self.apart, float((measured - predicted).abs().max()))
        if self.apart > TOLERANCE:
            raise SystemExit(f"picture {self.place}: what is shown is not what was predicted, by {self.apart:.1e}.")
        gone, there = measured.split(STEPS + 1)
        return _areas("pixel level", gone, there, counts.double() / N)

    def where(self, values: Tensor, mask: Tensor) -> dict[str, float | None]:
        """Return how well values point at the object."""
        return {
            "pointing": pointing_hit(values, self.boxes, mask),
            "energy": energy_inside(values, self.boxes, mask),
            "rank accuracy": rank_accuracy(values, self.boxes, mask),
            "AUC": localisation_auc(values, self.boxes, mask),
        }

    def random_areas(self) -> Tensor:
        """Return the area under the deletion of each of ``ORDERS`` random orders."""
        N = self.coalitions.N
        generator = torch.Generator().manual_seed(self.place)
        rank = torch.rand(ORDERS, N, generator=generator).argsort(dim=1)  # of each region in each order
        keep = rank[:, :, None] >= torch.arange(N + 1)
        curves = self.coalitions.logits(keep.permute(1, 0, 2).flatten(1))[:, 0].unflatten(0, (ORDERS, N + 1))
        return (curves[:, 1:] + curves[:, :-1]).sum(dim=1) / (2 * N)


def _areas(level: str, gone: Tensor, there: Tensor, fractions: Tensor | None = None) -> dict[str, float]:
    return {
        f"{level}, deletion": area(gone, fractions),
        f"{level}, insertion": area(there, fractions),
        f"{level}, gain": relevance_gain(gone, there, fractions),
    }


def explainers() -> dict[str, Explain]:
    """Return every explainer of maps over pixels, by name."""
    return {"patches: contribution": own("token"), "patches: drop": own("drop"), **PEERS}


def check(case: Case) -> None:
    """Refuse drops that Captum's own FeatureAblation doesn't find, of tiles that are switched on and off.

    Raises:
        SystemExit: They differ.
    """
    import pytorch_grad_cam  # noqa: F401  # here, so that no picture's seconds hold an import
    from captum.attr import FeatureAblation

    def value(there: Tensor) -> Tensor:
        return case.coalitions.logits(there.T > 0.5)[:, 0]

    found = FeatureAblation(value).attribute(torch.ones(1, case.coalitions.N, dtype=torch.float64))[0]
    difference = float((found - case.parts.drop).abs().max())
    if difference > 1e-9:
        raise SystemExit(f"picture {case.place}: the drops are not those of FeatureAblation, by {difference:.1e}.")


def compare(
    tiles: Carrot,
    patches: Carrot,
    test: Subset,
    places: list[int],
    shown: int,
    names: list[str],
    is_checked: bool = True,
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return a row for each explainer and one of chance, and what was found of the model.

    Args:
        tiles: The model.
        patches: A model of patches on the same backbone and pictures.
        test: Test pictures.
        places: Which of them.
        shown: Of how many of those the backbone runs again.
        names: Of explainers.
        is_checked: Whether ``check`` comes first; it needs Captum.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    beaten, away, shown_apart = 0, list[float](), 0.0
    ties, lost = defaultdict[str, int](int), defaultdict[str, int](int)
    for done, place in enumerate(places):
        case = Case(tiles, patches, test, place)
        if is_checked and not done:
            check(case)
        away.append(apart(tiles.classifier, case.image))
        mask = None
        if isinstance(test.dataset, Segmented):
            mask = torch.from_numpy(test.mask(place).copy())
            known = chance(case.boxes, mask)
            levels = {"pointing": known.pointing, "energy": known.energy, "AUC": AUC_CHANCE}
            levels["rank accuracy"] = rank_accuracy_chance(case.boxes, mask)
            for column, value in levels.items():
                found["chance"][column].append(value)
        areas = {}
        for name in names:
            values, seconds = case.values(name)
            order = order_of(values)
            columns: dict[str, float | None] = {**case.dropped(order), "seconds": seconds}
            areas[name] = columns["tile level, deletion"]
            if done < shown:
                columns |= case.shown(order)
            if mask is not None:
                columns |= case.where(values, mask)
            for column, value in columns.items():
                if value is not None:
                    found[name][column].append(value)
        ours, at_random = area(case.coalitions.deletion(order_of(case.parts.token))[:, 0]), case.random_areas()
        found["chance"]["tile level, deletion"].append(float(at_random.mean()))
        rivals = {"random orders": float(at_random.min())} | {n: a for n, a in areas.items() if n not in OURS}
        beaten += all(ours < theirs for theirs in rivals.values())
        for name, theirs in rivals.items():
            ties[name] += theirs == ours
            lost[name] += theirs < ours
        shown_apart = max(shown_apart, case.apart)
        print(f"{done + 1} of {len(places)}: {tiles.setting_}", flush=True)
    rows: list[dict[str, object]] = [
        {"explanation": name, **{column: asdict(Estimate.of(values)) for column, values in columns.items()}}
        for name, columns in found.items()
    ]
    facts = {
        "setting": str(tiles.setting_),
        "pictures": len(places),
        "beaten by contributions on": beaten,
        "ties": dict(ties),
        "lost": dict(lost),
        "largest difference of logits with gradients": max(away),
        "largest difference of shown and predicted": shown_apart,
    }
    return rows, facts


def main() -> None:
    """Fit, check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=TOY, help="a data set with masks, or toy")
    parser.add_argument("--backbone", default=TOY)
    parser.add_argument("--checkpoint")
    parser.add_argument("--regions", default="tiles:3,4")
    parser.add_argument("--pictures", type=int, default=12, help="test pictures, evenly spaced")
    parser.add_argument("--shown", type=int, default=4, help="of them, with the backbone run again")
    parser.add_argument("--readouts", nargs="*", default=["mean", "sum"])
    parser.add_argument("--only", nargs="*", help="explainers")
    parser.add_argument("--tokens", help="folder that keeps them; default: a temporary one")
    parser.add_argument("--name", default="explainers", help="of the file of results")
    a = parser.parse_args()
    torch.set_num_threads(1)
    data: ImageDataset = ToyBirds() if a.data == TOY else open_dataset(a.data)
    test = Subset(data, split_indices(data, "test"))
    places = [i * len(test.records) // a.pictures for i in range(a.pictures)]
    names = [*OURS, *explainers()]
    names = [name for name in names if not a.only or name in a.only or name in OURS]
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(a.tokens or folder)
        patches = Carrot(a.backbone, checkpoint=a.checkpoint, device="cpu").fit(data, tokens=tokens)
        rows, facts = [], []
        for readout in a.readouts:
            settings = {"regions": a.regions, "readout": readout}
            tiles = Carrot(a.backbone, checkpoint=a.checkpoint, device="cpu", **settings).fit(data, tokens=tokens)
            found, told = compare(tiles, patches, test, places, a.shown, names)
            rows += [{"readout": readout, **row} for row in found]
            facts.append({"readout": readout, **told})
            print(json.dumps(told, indent=1), flush=True)
    print(write(a.name, rows, data=data.name, backbone=a.backbone, regions=a.regions, shown=a.shown, models=facts))


if __name__ == "__main__":
    main()
