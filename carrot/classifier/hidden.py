"""Which region of which training picture a logit stands on: what it would be, had that region never been shown.

One region of one picture is hidden, and its label is held. What many pictures have in common, a watermark say, is
hardly missed in any one of them: the tile that comes first need not be the one that holds it (docs/decisions/0006).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from carrot._choices import MANY
from carrot._display.brief import one_line
from carrot._display.frame import Table, by_column, chosen, data_frame
from carrot._display.html import card, said, table
from carrot._display.words import counted
from carrot._ridge.logit import Logit
from carrot.classifier.asked import ids_of
from carrot.classifier.classifier import Classifier
from carrot.classifier.shown import shown_embedding
from carrot.data.inputs import PictureLike, as_picture, name_of
from carrot.data.labels import Label
from carrot.explanation.hiding import Hiding
from carrot.explanation.presenting import Presented
from carrot.head import RidgeHead
from carrot.utils import whole_number

if TYPE_CHECKING:
    import pandas

VERIFIED = 3  # of the regions listed, fitted again


class HiddenRegion(NamedTuple):
    """One region of one training picture, and what the logit would be without it.

    Attributes:
        training_id: The training picture.
        label: Its class.
        region: Number of the region; the last is the whole picture, where the model has a share of it.
        place: Where it lies, in words.
        box: (x0, y0, x1, y1) in pixels of that picture; None for the whole picture, or where the picture is gone.
        effect: Logit had it never been shown, less the logit.
        name: What it is called.
    """

    training_id: str
    label: str
    region: int
    place: str
    box: tuple[float, ...] | None
    effect: float
    name: str


@dataclass(frozen=True, eq=False, repr=False)
class HiddenRegions(Presented):
    """What a logit of one picture would be, had one region of one training picture never been shown.

    lam, settings and weights are held.

    Attributes:
        picture: Its name.
        target: The class.
        against: The other class, for the difference of two logits.
        logit: The logit, or the difference.
        training_ids: The training pictures.
        effects: Of each region of each of them, logit had it never been shown, less the logit.
        top: The regions that hold the logit up most, first the one without which it would be lowest.
        kind: What a region is, in a word: "patch", "block" (of patches), "tile" or "box".
        missing: Training pictures whose tokens are gone, and why, by id: nothing is said of them.
        difference: Largest difference of an effect from that of a real fit; None: not measured.
    """

    picture: str
    target: str
    against: str | None
    logit: float
    training_ids: tuple[str, ...]
    effects: Float[Tensor, "n N"]
    top: tuple[HiddenRegion, ...]
    kind: str
    missing: dict[str, str]
    difference: float | None = None

    _format = "hidden regions"

    @property
    def is_tiled(self) -> bool:
        """Whether regions saw only themselves."""
        return self.kind in ("tile", "box")

    def __repr__(self) -> str:
        return f"<HiddenRegions of {one_line(self.picture)}: {' x '.join(map(str, self.effects.shape))} effects>"

    def __str__(self) -> str:
        """Return the question, the regions that matter most in words, and the proof, if it was asked for."""
        lines = [f"{self._question}; it would be, had never been shown"]
        for one in self.top:
            change = f"{abs(one.effect):.4f} {'lower' if one.effect <= 0 else 'higher'}"
            lines.append(f"    {change}  {one.name} of {one.training_id} ({one.label})")
        if not self.is_tiled:
            others = f"the other {MANY[self.kind]} of that picture have seen what is hidden"
            lines.append(f"    (at the level of tokens: {others})")
        for name, reason in list(self.missing.items())[:3]:
            lines.append(f"    nothing is said of {name}: {reason}")
        if len(self.missing) > 3:
            lines.append(f"    and {len(self.missing) - 3} more")
        if self.difference is not None:
            lines.append(f"    shown and fitted again, really: largest difference of an effect {self.difference:.1e}")
        return "\n".join(lines)

    @property
    def _question(self) -> str:
        what = f"the logit of {self.target}" + (f" less that of {self.against}" if self.against else "")
        return f"{self.picture}: {what} is {self.logit:.4f}"

    def _card(self) -> str:
        rows = [(one.training_id, one.label, one.place, one.effect) for one in self.top]
        columns = ["training picture", "labelled", self.kind, "change"]
        gone = [f"nothing is said of {counted(len(self.missing), 'training picture')}"] if self.missing else []
        return card(
            "Hidden regions",
            said(f"{self._question}; it would change, had one region never been shown"),
            table(columns, rows),
            said(*gone),
        )

    def to_frame(self, what: str = "top") -> "pandas.DataFrame":
        """Return one of its tables as a data frame of pandas (extra ``frames``).

        Args:
            what: "top": the regions that hold the logit up most. "effects": every region of every training picture.

        Raises:
            ValueError: ``what`` is something else.
            ImportError: pandas is absent.
        """
        return data_frame(chosen(what, {"top": self._top, "effects": self._effects}))

    def _top(self) -> Table:
        corners = ("x0", "y0", "x1", "y1")
        rows = [{**one._asdict(), **dict(zip(corners, one.box or [None] * 4, strict=True))} for one in self.top]
        return by_column(["training_id", "label", "region", "place", *corners, "effect"], rows)

    def _effects(self) -> Table:
        n, N = self.effects.shape
        return {
            "training_id": [name for name in self.training_ids for _ in range(N)],
            "region": list(range(N)) * n,
            "effect": self.effects.flatten().tolist(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "picture": self.picture,
            "target": self.target,
            "against": self.against,
            "logit": self.logit,
            "level": "pixels" if self.is_tiled else "tokens",
            "top": [{**one._asdict(), "box": None if one.box is None else list(one.box)} for one in self.top],
            "training_ids": list(self.training_ids),
            "effects": self.effects.tolist(),
            "missing": dict(self.missing),
            "largest_difference_from_a_fit": self.difference,
        }


def hidden_regions(
    classifier: Classifier,
    picture: PictureLike,
    target: Label | None = None,
    against: Label | None = None,
    ids: str | Iterable[str] | None = None,
    k: int = 10,
    verify: bool = False,
) -> HiddenRegions:
    """Answer it; see ``Carrot.hidden_regions``."""
    k, fitted = whole_number("k", k, 1), classifier.fitted
    for name in (target, against):
        if name is not None:
            fitted.class_index(name)  # refuses it before the backbone runs
    rows = None if ids is None else [fitted.row_of(name) for name in ids_of("ids", ids)]
    trace = classifier.trace(as_picture(picture))
    logit = classifier.question(trace, target, against)
    hiding, missing = classifier.hiding if rows is None else classifier.hiding_in(rows)
    effects = hiding.effects(logit, trace.g)
    order = effects.flatten().argsort(stable=True)[:k].tolist()
    cells = [divmod(place, effects.shape[1]) for place in order]
    pictures = {i: classifier.find(fitted.records[hiding.index[i]]) for i, _ in cells}
    difference = None
    if verify and cells:
        again = [
            _refitted(classifier, hiding, i, region, pictures[i], logit, trace.g) for i, region in cells[:VERIFIED]
        ]
        difference = max(abs(a - float(effects[cell])) for a, cell in zip(again, cells[:VERIFIED], strict=True))
    records = [fitted.records[row] for row in hiding.index]
    s, names = classifier.fitted.setting, classifier.region_names
    places = classifier.region_places
    return HiddenRegions(
        picture=name_of(picture, 0),
        target=fitted.classes[logit.target],
        against=None if logit.against is None else fitted.classes[logit.against],
        logit=float(logit.predict(trace.g)),
        training_ids=tuple(record.id for record in records),
        effects=effects,
        top=tuple(
            HiddenRegion(
                records[i].id,
                fitted.classes[records[i].label],
                region,
                places[region],
                _box(classifier, pictures[i], region),
                float(effects[i, region]),
                names[region],
            )
            for i, region in cells
        ),
        kind=s.region_kind,
        missing={fitted.records[row].id: reason for row, reason in missing.items()},
        difference=difference,
    )


def _refitted(
    classifier: Classifier,
    hiding: Hiding,
    i: int,
    region: int,
    picture: Image.Image | str,
    logit: Logit,
    g: Float[Tensor, " M"],
) -> float:
    """Return what hiding a region comes to by a real fit; of tiles, by a real pass of the backbone on the others."""
    head, z = logit.head, hiding.without(i, region)
    if classifier.fitted.setting.is_tiled and not isinstance(picture, str):
        keep = torch.ones(len(classifier.region_names), dtype=torch.bool)
        keep[region] = False
        z = shown_embedding(classifier, picture, keep)
    G = head.G.to(torch.float64).index_copy(0, torch.tensor([hiding.index[i]]), z.unsqueeze(0))
    again = RidgeHead(head.lam, head.fit_intercept).fit(G, head.Y, head.sample_weight)
    return float(again.logit(logit.target, logit.against).predict(g) - logit.predict(g))


def _box(classifier: Classifier, picture: Image.Image | str, region: int) -> tuple[float, ...] | None:
    if isinstance(picture, str):
        return None
    boxes = classifier.encoder.view.boxes(picture.size, classifier.fitted.setting.coarsen)
    return tuple(boxes[region].tolist()) if region < len(boxes) else None
