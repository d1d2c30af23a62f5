"""A whole model in one object: how good, how honest, what it confuses, whose labels are doubtful, what carries it."""

import json
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from carrot._display.words import percent
from carrot._progress import progress
from carrot.classifier.audit import Audit
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.classifier.held_out import NotKept, held_out
from carrot.errors import CarrotError
from carrot.explanation.words import placed
from carrot.overview.evidence import ClassEvidence, class_evidence
from carrot.overview.judged import HELD_OUT, Example, Judged, of_held_out, of_training
from carrot.overview.thumbs import thumbnail, with_frame
from carrot.store.layout import load_config
from carrot.store.versions import versions

EXAMPLES = 4  # pictures that the model was surest of and right, and as many and wrong
SUSPECTS = 12  # labels that are shown with their pictures
PAIRS = 4  # near duplicates
CLASSES = 24  # whose tiles are shown: those whose evidence lies most in one place, where there are more
SAME = 1e-9  # leave-one-out figures that differ by more are of another model
T = TypeVar("T")


class Gap(NamedTuple):
    """Something that is not in the report: what, why, and the command that measures it."""

    what: str
    why: str
    command: str


@dataclass(frozen=True, eq=False, repr=False)
class ModelReport:
    """A model, looked at from all sides; ``to_html`` makes a page of it.

    Attributes:
        name: What it is called.
        path: Its folder as a command takes it; "MODEL" where it is not saved.
        facts: What it was made with, as ``Carrot.facts``.
        regions: What its regions are, in words.
        training: Training pictures by class.
        leave_one_out: Its training pictures, each judged without it.
        held_out: Pictures that it was not fitted on; None: not measured.
        gaps: What was not measured.
        measured: What ``carrot evaluate`` measured of this very model; empty where it didn't.
        audit: Labels that the others contradict, near duplicates, leverage.
        best, worst: The pictures that it was surest of, right and wrong.
        examples_of: Which pictures these are.
        evidence: What carries each class; None: the tokens are gone.
        pictures: Small pictures of training pictures by id, and why others are not there.
        tiles: Small pictures of the tiles of ``evidence``, by training picture and region.
        places: Where regions lie, in words.
        boxes: Of those that have a place, in shares of the picture.
        kind: What a region is, as ``Setting.region_kind`` has it.
        ids: Of the training pictures.
        provenance: Versions, fingerprints, hashes: the page of one state is the same file, whenever it is made.
        seconds: What each part of the report took.
    """

    name: str
    path: str
    facts: Mapping[str, object]
    regions: str
    training: Mapping[str, int]
    leave_one_out: Judged
    held_out: Judged | None
    gaps: tuple[Gap, ...]
    measured: Mapping[str, Any]
    audit: Audit
    best: tuple[Example, ...]
    worst: tuple[Example, ...]
    examples_of: str
    evidence: tuple[ClassEvidence, ...] | None
    pictures: Mapping[str, Image.Image | str]
    tiles: Mapping[tuple[int, int], Image.Image | str]
    places: tuple[str, ...]
    boxes: Float[Tensor, "n 4"]
    kind: str
    ids: tuple[str, ...]
    provenance: Mapping[str, Any]
    seconds: Mapping[str, float]

    @property
    def judged(self) -> Judged:
        """The best that is known: of held-out pictures, or leave-one-out."""
        return self.held_out or self.leave_one_out

    @property
    def shown_classes(self) -> list[ClassEvidence]:
        """The classes whose tiles are shown, those that stand on one place most first."""
        known = [one for one in self.evidence or () if one.n]
        return sorted(known, key=lambda one: -one.share)[:CLASSES]

    def told_place(self, region: int) -> str:
        """Return where a region lies, in plain words: "the upper left (tile 0 of 2 x 2)"."""
        box = self.boxes[region].tolist() if region < len(self.boxes) else None
        return placed(self.places, region, self.kind, box)

    def __repr__(self) -> str:
        accuracy = self.judged.accuracy
        return f"<ModelReport of {self.name}: {percent(accuracy['top1'])} of {accuracy['n']} {self.judged.of}>"

    def __str__(self) -> str:
        """Return what to know if nothing else is read."""
        from carrot.overview.report_page import plain_words

        return "\n".join(plain_words(self))

    def to_dict(self) -> dict[str, Any]:
        """Return every number, JSON-ready."""
        return {
            "name": self.name,
            "facts": dict(self.facts),
            "training": dict(self.training),
            "held_out": None if self.held_out is None else vars(self.held_out),
            "leave_one_out": vars(self.leave_one_out),
            "not_measured": [gap._asdict() for gap in self.gaps],
            "measured": dict(self.measured),
            "audit": self.audit.to_dict(),
            "examples_of": self.examples_of,
            "best": [example.to_dict() for example in self.best],
            "worst": [example.to_dict() for example in self.worst],
            "evidence": None if self.evidence is None else [e.to_dict(self.ids, self.places) for e in self.evidence],
            "provenance": dict(self.provenance),
            "seconds": dict(self.seconds),
        }

    def to_html(self, path: Path | str | None = None) -> str:
        """Return it as one self-contained page, and write it where a path is given.

        Raises:
            StoreError: The disk refuses.
        """
        from carrot.overview.report_page import report_page
        from carrot.store.outputs import write_output

        text = report_page(self)
        if path is not None:
            write_output(path, text.encode())
        return text


def report_of(
    classifier: Classifier, folder: Path | None = None, data: Any = None, measure: bool = False
) -> ModelReport:
    """Look at a model from all sides; see ``Carrot.report``.

    Args:
        classifier: The model.
        folder: Where it lies: kept tokens, and what ``carrot evaluate`` measured, are looked for there.
        data: Where held-out pictures are; default: the data set that it was fitted on.
        measure: The backbone may run on held-out pictures whose tokens are not kept.
    """
    fitted, seconds = classifier.fitted, dict[str, float]()

    def done(what: str, make: Callable[[], T]) -> T:
        with _timed(seconds, what):
            return make()

    loo, best, worst = done("leave-one-out", lambda: of_training(classifier, EXAMPLES))
    audit = done("audit", lambda: Audit.of(fitted))
    path = "MODEL" if folder is None else shlex.quote(str(folder))
    measured, gaps = _evaluation(classifier, folder, path)
    where = fitted.data if data is None else data
    judged, source, examples_of = None, None, "training pictures, each judged by the model fitted without it"
    try:
        answer = done("held-out pictures", partial(_held_out, classifier, folder, where, measure))
        judged, best, worst = answer
        examples_of = "held-out pictures"
    except (CarrotError, OSError) as error:
        source = str(error)
        if measured and data is None and measured["data"]["is_own"]:
            judged = _from_evaluation(measured)
        else:
            how = f"carrot report {path} --held-out"
            if where is None or not isinstance(error, NotKept):
                how += " --data DATA"
            gaps.insert(0, Gap("Accuracy on pictures that were held out", source, how))
    evidence = done("tiles of classes", lambda: class_evidence(classifier))
    if evidence is None:
        why = "the tokens that the model was fitted from are not kept"
        how = f"carrot fit {shlex.quote(where) if isinstance(where, str) else 'DATA'} --out NEW_MODEL"
        gaps.append(Gap("Which tiles of training pictures carry each class", why, how))
    made = ModelReport(
        path=path,
        name=folder.name if folder is not None else str(classifier.encoder.spec.name),
        facts=classifier.facts(),
        regions=fitted.setting.regions_in_words(classifier.encoder.tile_size),
        training=dict(zip(fitted.classes, fitted.labels.bincount(minlength=len(fitted.classes)).tolist(), strict=True)),
        leave_one_out=loo,
        held_out=judged,
        gaps=tuple(gaps),
        measured=measured,
        audit=audit,
        best=tuple(best),
        worst=tuple(worst),
        examples_of=examples_of,
        evidence=None if evidence is None else tuple(evidence),
        pictures={},
        tiles={},
        places=tuple(classifier.region_places),
        boxes=_shares(classifier),
        kind=classifier.fitted.setting.region_kind,
        ids=tuple(record.id for record in fitted.records),
        provenance=_provenance(classifier, folder),
        seconds=seconds,
    )
    return done("pictures", lambda: _with_pictures(made, classifier))


def _held_out(
    classifier: Classifier, folder: Path | None, where: Any, measure: bool
) -> tuple[Judged, list[Example], list[Example]]:
    if where is None:
        raise NotKept("the model was fitted from Python, and nobody said where held-out pictures are")
    if folder is not None:
        return of_held_out(classifier, held_out(classifier, where, folder / "tokens", not measure), EXAMPLES)
    with TemporaryDirectory(prefix="carrot-") as place:
        return of_held_out(classifier, held_out(classifier, where, Path(place), not measure), EXAMPLES)


def _evaluation(classifier: Classifier, folder: Path | None, path: str) -> tuple[dict[str, Any], list[Gap]]:
    """Return what ``carrot evaluate`` measured, if it was of this very model, and else what is missing."""
    missing = Gap("Baselines, explanations against the truth, time a picture", "", f"carrot evaluate {path}")
    try:
        found = json.loads(((folder or Path("/nonexistent")) / "evaluation" / "metrics.json").read_bytes())
        if (
            _is_of(found["leave_one_out"], classifier.fitted)
            and found["model"]["fingerprint"] == classifier.encoder.fingerprint
        ):
            return found, []
        return {}, [missing._replace(why="they were measured of the model before its last change")]
    except (OSError, ValueError, KeyError, TypeError):
        return {}, [missing._replace(why="they were not measured yet")]


def _is_of(then: Mapping[str, float], fitted: Fitted) -> bool:
    """Return whether leave-one-out figures that were written down are those of a model as it is now."""
    now = fitted.leave_one_out()
    known = then.keys() & now.keys()  # a model of an older version has fewer
    return bool(known) and all(abs(then[name] - now[name]) <= SAME for name in known)


def _from_evaluation(measured: Mapping[str, Any]) -> Judged:
    source = (
        f"{measured['data']['test_pictures']:,} held-out pictures of {measured['data']['name']}, by carrot evaluate"
    )
    figures = (measured["accuracy"], measured["calibration"], measured["classes"], measured["confusions"])
    return Judged(HELD_OUT, source, *figures, [])


def _with_pictures(made: ModelReport, classifier: Classifier) -> ModelReport:
    """Return it with the small pictures that its page shows."""
    fitted, view = classifier.fitted, classifier.encoder.view
    wanted = [s.id for s in made.audit.doubtful[:SUSPECTS]]
    wanted += [name for pair in made.audit.duplicates[:PAIRS] for name in (pair.first, pair.second)]
    framed: dict[int, list[int]] = {}
    for one in made.shown_classes:
        for tile in one.tiles:
            framed.setdefault(tile.row, []).append(tile.region)
    rows = sorted({*framed, *(fitted.row_of(name) for name in wanted)})
    pictures: dict[str, Image.Image | str] = {}
    tiles: dict[tuple[int, int], Image.Image | str] = {}
    for row in progress(rows, "pictures of the report", len(rows), "pictures"):
        record = fitted.records[row]
        found = classifier.find(record)
        pictures[record.id] = found if isinstance(found, str) else thumbnail(found)
        if isinstance(found, str):
            tiles |= {(row, region): found for region in framed.get(row, ())}
            continue
        boxes = view.boxes(found.size, fitted.setting.coarsen)
        for region in framed.get(row, ()):
            box = boxes[region].tolist() if region < len(boxes) else None
            tiles[row, region] = with_frame(found, box)
    return replace(made, pictures=pictures, tiles=tiles)


def _shares(classifier: Classifier) -> Float[Tensor, "n 4"]:
    """Return where regions are drawn, in shares of a picture: tiles, or the patches of a square one."""
    side = 1000
    return classifier.encoder.view.drawn((side, side), classifier.fitted.setting.coarsen) / side


def _provenance(classifier: Classifier, folder: Path | None) -> dict[str, Any]:
    """Return what the numbers depend on, and what tells this model from any other."""
    fitted = classifier.fitted
    config: Any = {} if folder is None else load_config(folder)
    is_saved = bool(config) and _is_of(config.get("leave_one_out", {}), fitted)  # as it is now, not as it was
    files = config["files"] if is_saved else {}
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "backbone": classifier.encoder.spec.name,
        "fingerprint": classifier.encoder.fingerprint,
        "files": {str(entry["name"]): str(entry["sha256"]) for entry in files.values()},
        "data": fitted.data,
        "set_aside": dict(fitted.set_aside),
    }


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[what] = time.perf_counter() - start
