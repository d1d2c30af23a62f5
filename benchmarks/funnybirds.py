"""Which explanation knows what parts made the classifier say so? FunnyBirds' scores, on toy birds.

Usage: python -m benchmarks.funnybirds [--pictures 168] [--only TEXT ...] [--models '{"patches": {}}']

Every model is a ``Carrot("toy", **settings)``, fitted on 20 training pictures of each of the 24 species (of 20 of them,
only four have the pair of classes that target sensitivity asks for). Rows, on the same test pictures:

token, node, drop     the model's own maps, each region's value spread evenly over its box
occlusion             10 x 10 squares of 16 pixels in the picture's mean colour, one at a time, classifier run again
centre                a Gaussian in the middle, whatever the picture and the class
random                a number in [0, 1) for each region, drawn anew for each picture and class
own answer            no map: the drop without every region that meets a part's pixels. Not to be compared
measured              no explanation: the real drop when the renderer leaves a part out. What single removals know

Checked first: token maps sum to logit less prior, and what is measured has a single deletion of 1.
"""

import argparse
import itertools
import json
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from PIL import Image, ImageStat
from torch import Tensor

from benchmarks.harness import write
from carrot import Carrot
from carrot.classifier.classifier import Classifier
from carrot.data import split_indices
from carrot.data.toy import ToyBirds
from carrot.embedding.trace import Trace
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.localisation import centre_map
from carrot.evaluation.pixels import boxes_meet
from carrot.explanation.parts import LogitParts, take_apart
from carrot.protocol.funnybirds import Explain, Interventions, Says, measure
from carrot.tiling import pixel_map

MODELS = {
    "patches": {"regions": "patches"},
    "tiles:3,4, p 0": {"regions": "tiles:3,4", "power": 0.0},
    "tiles:3,4, p 4": {"regions": "tiles:3,4", "power": 4.0},
    "tiles:3,4, p 4, sum": {"regions": "tiles:3,4", "power": 4.0, "readout": "sum"},
}
SPECIES, TRAINING, SQUARES = 24, 20, 10
TOLERANCE = 1e-5  # of logits: tokens of a picture alone and of one in a batch differ by rounding
SHOWN = {
    "Acc": "accuracy",
    "CSDC": "data_check",
    "PC": "preservation",
    "DC": "deletion",
    "D": "distractibility",
    "SD": "single_deletion",
    "TS": "target_sensitivity",
    "B.I.": "background_independence",
    "Com": "completeness",
    "mX": "mean",
}


class Asked:
    """A classifier's answers about one picture after another: each picture is traced, and occluded, once."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._known: dict[tuple[str, int], object] = {}

    def trace(self, image: Image.Image) -> Trace:
        """Return every object of the theory."""
        return self._once("trace", image, self.classifier.trace)

    def parts(self, image: Image.Image, target: int) -> LogitParts:
        """Return a logit, taken apart."""
        return take_apart(self.trace(image), self.classifier.fitted.head.logit(target))

    def boxes(self, image: Image.Image) -> Tensor:
        """Return where the regions lie, in pixels of the picture; without global ones."""
        shares = getattr(self.trace(image).regions, "boxes", None)
        if shares is not None:
            return shares.double() * torch.tensor([*image.size, *image.size])
        backbone, setting = self.classifier.encoder.backbone, self.classifier.fitted.setting
        return backbone.geometry(image.size).patch_boxes(setting.grid_hw(backbone.grid_hw))

    def own(self, name: str, image: Image.Image, target: int) -> Tensor:
        """Return one of the model's own maps, over pixels; what a global region brings has no place in it."""
        boxes = self.boxes(image)
        return pixel_map(getattr(self.parts(image, target), name)[: len(boxes)], boxes, image.size[::-1])

    def centre(self, image: Image.Image, target: int) -> Tensor:
        """Return the map that knows only that birds are in the middle."""
        width, height = image.size
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        corners = torch.stack([x, y, x + 1, y + 1], dim=-1).reshape(-1, 4).double()
        return centre_map(corners).reshape(height, width)

    def random(self, image: Image.Image, target: int) -> Tensor:
        """Return a map that knows nothing, the same whenever it is asked for."""
        boxes = self.boxes(image)
        generator = torch.Generator().manual_seed(zlib.crc32(image.tobytes()) + target)
        return pixel_map(torch.rand(len(boxes), generator=generator), boxes, image.size[::-1])

    def occlusion(self, image: Image.Image, target: int) -> Tensor:
        """Return how much the logit falls when each square is covered."""
        boxes = squares(image)
        return pixel_map(self._once("occlusion", image, self._falls)[:, target], boxes, image.size[::-1])

    def removal(self, image: Image.Image, target: int, masks: Tensor) -> tuple[Tensor, float]:
        """Return the drops without all the regions that meet each mask, and the logit less its prior."""
        trace, parts = self.trace(image), self.parts(image, target)
        keep = torch.ones(len(trace.H), len(masks) + 1, dtype=torch.bool)  # the last version is whole
        boxes = self.boxes(image)
        keep[: len(boxes), :-1] = ~boxes_meet(boxes, masks).T
        logits = trace.coalitions(self.classifier.fitted.head.logit(target)).logits(keep)[:, 0]
        return logits[-1] - logits[:-1], parts.logit - parts.prior

    def _falls(self, image: Image.Image) -> Tensor:
        colour = tuple(map(round, ImageStat.Stat(image).mean))
        covered = [image.copy() for _ in range(SQUARES**2)]
        for picture, box in zip(covered, squares(image).tolist(), strict=True):
            picture.paste(colour, tuple(map(round, box)))
        logits = self.classifier.logits([image, *covered])
        return logits[0] - logits[1:]

    def _once(self, what: str, image: Image.Image, compute: Callable) -> object:
        key = what, zlib.crc32(image.tobytes())
        if key not in self._known:
            self._known[key] = compute(image)
        return self._known[key]


def squares(image: Image.Image) -> Tensor:
    """Return the boxes of ``SQUARES`` x ``SQUARES`` equal ones, in whole pixels."""
    xs, ys = (torch.linspace(0, n, SQUARES + 1).round() for n in image.size)
    return torch.tensor([[x0, y0, x1, y1] for y0, y1 in itertools.pairwise(ys) for x0, x1 in itertools.pairwise(xs)])


def explainers(asked: Asked, world: Interventions) -> dict[str, Says]:
    """Return every row of one model, by name."""
    maps = ["token", "drop"] if not asked.classifier.fitted.setting.t else ["token", "node", "drop"]
    found: dict[str, Explain] = {name: partial(asked.own, name) for name in maps}
    found |= {name: getattr(asked, name) for name in ("occlusion", "centre", "random")}
    rows = {f"{name} map": world.by_map(explain) for name, explain in found.items()}
    return {
        **rows,
        "own answer (no map)": world.by_own_answer(asked.removal),
        "measured (no map)": world.by_measurement(),
    }


def check(asked: Asked, world: Interventions, index: int) -> None:
    """Refuse token maps that don't sum to logit less prior.

    Raises:
        SystemExit: They don't.
    """
    image, c = world.seen(index).image, world.labels[index]
    parts = asked.parts(image, c)
    outside = float(parts.token[len(parts.token) - parts.num_global :].sum())
    found = float(asked.own("token", image, c).sum()) + outside + parts.prior
    if abs(found - float(world.logits(index, [()])[0, c])) > TOLERANCE:
        raise SystemExit(f"picture {index}: the token map sums to {found}, not to its logit.")


def main() -> None:
    """Fit, check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=168, help="test pictures, evenly spaced over the species")
    parser.add_argument("--only", nargs="*", help="rows whose name holds one of these")
    parser.add_argument("--models", type=json.loads, default=MODELS, help="name -> settings of Carrot, as JSON")
    parser.add_argument("--name", default="funnybirds", help="of the file of results")
    a = parser.parse_args()
    per_class = -(-a.pictures // SPECIES)
    birds = ToyBirds(n_train_per_class=TRAINING, n_test_per_class=per_class, n_species=SPECIES)
    test = split_indices(birds, "test")
    test = [test[i * len(test) // a.pictures] for i in range(a.pictures)]
    rows: list[dict[str, object]] = []
    for model, settings in a.models.items():
        with tempfile.TemporaryDirectory() as folder:
            classifier = Carrot("toy", **settings).fit(birds, tokens=Path(folder)).classifier
        asked, world = Asked(classifier), Interventions.of(birds, classifier.logits)
        for index in test:
            check(asked, world, index)
        for name, says in explainers(asked, world).items():
            if a.only and not any(text in name for text in a.only):
                continue
            scores = measure(world, says, test)
            if name.startswith("measured") and abs((scores.single_deletion.mean or 0.0) - 1.0) > 1e-12:
                raise SystemExit(f"{model}: what is measured has a single deletion of {scores.single_deletion}.")
            rows.append({"model": model, "explanation": name, **asdict(scores)})
            print(f"{model}, {name}: " + "  ".join(f"{k} {shown(getattr(scores, v))}" for k, v in SHOWN.items()))
            print(f"    tau* {scores.threshold:.3f}, maps that sum to 0 or less: {scores.not_positive}", flush=True)
    print(write(a.name, rows, pictures=a.pictures, species=SPECIES, training=TRAINING, models=a.models))


def shown(score: Estimate) -> str:
    """Return mean ± standard error, and of how many pictures."""
    return f"{score} ({score.n})"


if __name__ == "__main__":
    main()
