"""Which tiles of which training pictures carry a class: the score of its average picture, by tile.

With gc the mean embedding of the class's own training pictures, in closed form and exactly:

::

    logit_c(gc) = start_c + sum_i alpha_ic <g_i - gm, gc - gm>                                                     (1)
                = start_c + sum_i sum_k alpha_ic pi_ik <phi(h_ik) - gm / sum(pi_i), gc - gm>                       (2)

(without the gm where the readout is a sum). A term of (2) is what one tile of one training picture brings to what the
class's pictures have in common. Summed over pictures it is what a place in the picture brings: what a class's pictures
share at one place, a stamp that fills a tile say, adds up there, which hiding it in one picture doesn't show
(docs/decisions/0006). What the score doesn't stand on doesn't show: text stamped small on one of five kinds of flowers
didn't.

Cost: the kept tokens are read once, and each picture's are scored for its own class alone, n N D^2 multiplications
under the quadratic lift for n pictures of N tiles of width D. The backbone does not run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned
from carrot._display.brief import brief
from carrot._progress import progress
from carrot.attribution import region_contribution
from carrot.classifier.classifier import Classifier
from carrot.embedding.tokens import Tokens

BATCH = 64  # pictures whose tokens are scored at once
TOP = 3  # tiles of a class that are shown, each of another picture


class Tile(NamedTuple):
    """One tile of one training picture.

    Attributes:
        row: The training picture.
        region: Which of its regions.
        brings: Its term of equation (2).
    """

    row: int
    region: int
    brings: float


@dataclass(eq=False)
class ClassEvidence:
    """What carries one class.

    Attributes:
        name: The class.
        n: Its training pictures whose tokens are kept.
        score: Of its average picture.
        start: What the score starts from.
        own: What its own training pictures bring; what all others do is the rest.
        places: What each place brings, over its own training pictures; sums to ``own``.
        tiles: The strongest tiles, each of another picture.
    """

    __repr__ = brief

    name: str
    score: float
    start: float
    own: float
    places: Float[Tensor, " N"]
    n: int = 0
    tiles: list[Tile] = field(default_factory=list)

    @property
    def others(self) -> float:
        """What the training pictures of other classes bring."""
        return self.score - self.start - self.own

    @property
    def share(self) -> float:
        """How much of what speaks for the class lies in its strongest place."""
        for_it = self.places.clamp(min=0.0)
        return float(for_it.max() / for_it.sum()) if float(for_it.sum()) > 0 else 0.0

    def add(self, rows: Sequence[int], parts: Float[Tensor, "b N"]) -> None:
        """Take in some of its pictures."""
        self.n += len(rows)
        self.own += float(parts.sum())
        self.places = self.places + parts.sum(dim=0)
        best, region = parts.max(dim=1)
        found = [Tile(*one) for one in zip(rows, region.tolist(), best.tolist(), strict=True)]
        self.tiles = sorted([*self.tiles, *found], key=lambda tile: -tile.brings)[:TOP]

    def to_dict(self, ids: Sequence[str], places: Sequence[str]) -> dict[str, Any]:
        """Return it as plain JSON.

        Args:
            ids: Of all training pictures.
            places: Of all regions, in words.
        """
        tiles = [
            {"id": ids[t.row], "region": t.region, "place": places[t.region], "brings": t.brings} for t in self.tiles
        ]
        return {
            "class": self.name,
            "pictures": self.n,
            "score": self.score,
            "start": self.start,
            "own": self.own,
            "others": self.others,
            "places": self.places.tolist(),
            "tiles": tiles,
        }


@pinned()
def class_evidence(classifier: Classifier) -> list[ClassEvidence] | None:
    """Return what carries each class, in the order of the classes; None: no training picture's tokens are kept."""
    fitted, pooling = classifier.fitted, classifier.pooling
    head, labels = fitted.head, fitted.labels
    is_sum, C = fitted.setting.readout == "sum", len(fitted.classes)
    counts = torch.bincount(labels, minlength=C).clamp(min=1).double()
    means = (
        torch.zeros(C, head.G.shape[1], dtype=torch.float64).index_add_(0, labels, head.G.double()) / counts[:, None]
    )
    origin = None if is_sum else head.g_mean
    towards = means if origin is None else means - origin
    scores = head.predict(means).diagonal()
    starts = head.bias if is_sum else head.y_mean
    N = len(classifier.region_places)
    found = [
        ClassEvidence(name, float(scores[c]), float(starts[c]), 0.0, torch.zeros(N, dtype=torch.float64))
        for c, name in enumerate(fitted.classes)
    ]
    kept = [] if fitted.kept is None else [row for row, r in enumerate(fitted.records) if r.row is not None]
    if fitted.kept is None or not kept:
        return None
    kept.sort(key=lambda row: fitted.records[row].row or 0)  # as they lie on the disk
    each = fitted.kept.each([fitted.records[row].row or 0 for row in kept])
    waiting: dict[int, list[tuple[int, Tokens]]] = {}

    def score(c: int) -> None:
        rows, tokens = zip(*waiting.pop(c), strict=True)
        whole = Tokens.joined(tokens)
        regions, _ = pooling.stage(whole)
        H, pi, w = regions.features, pooling.pi(whole), towards[c].unsqueeze(-1)
        parts = region_contribution(H, pi, w, "token", lift=pooling.lift, origin=origin)[..., 0]
        found[c].add(rows, parts * head.alpha[list(rows), c : c + 1])

    for row, tokens in zip(kept, progress(each, "tiles of classes", len(kept), "pictures"), strict=True):
        if tokens is not None:
            c = fitted.records[row].label
            waiting.setdefault(c, []).append((row, tokens))
            if len(waiting[c]) == BATCH:
                score(c)
    for c in list(waiting):
        score(c)
    return found if any(one.n for one in found) else None
