"""Many pictures of a folder, explained in batches: a row each, kept on the disk so that a killed run goes on.

A row says what a whole page says first; what is dear there (drops, pairs of regions) is left to the page. Rows lie
beside the index in ``rows/``, a file for each batch, written whole or not at all. A row is found again if the model,
the picture's bytes and name are the same; others are made anew.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from carrot._ambient import pinned
from carrot._progress import progress
from carrot.attribution import region_contribution
from carrot.classifier.classifier import BATCH, Classifier
from carrot.classifier.suspects import judged_by_others
from carrot.data.inputs import as_picture
from carrot.data.walking import pictures_below
from carrot.embedding.tokens import Tokens
from carrot.errors import UnreadableImageError
from carrot.evaluation.calibration import probabilities
from carrot.explanation.words import placed
from carrot.overview.thumbs import data_uri, with_map
from carrot.store.files import write_atomically

FORMATS = "carrot rows "
FORMAT = f"{FORMATS}2"  # 1 said nothing of doubtful labels
ROWS = "rows"  # the folder beside the index
SIDE = 136  # pixels of a thumbnail


@dataclass(frozen=True)
class Row:
    """What is said of one picture in a line.

    Attributes:
        file: Its path below the folder.
        sha256: Of its bytes.
        predicted: What the model says.
        probability: Of that.
        label: What the folder that it lies in is called, where that is a class.
        was_fitted_on: Whether the model was fitted on it.
        strongest: Where the region lies that brings most.
        brings, score: What that is, and the score.
        training: The training picture without which the score would fall most ..
        training_label: .. its label ..
        falls: .. and by how much.
        map: The picture under its map, as a data URI.
        doubtful: What the others say of that training picture, where they contradict its label.
    """

    file: str
    sha256: str
    predicted: str
    probability: float
    label: str | None
    was_fitted_on: bool
    strongest: str
    brings: float
    score: float
    training: str
    training_label: str
    falls: float
    map: str
    doubtful: str | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether its folder says another class."""
        return self.label is not None and self.label != self.predicted


@dataclass
class Rows:
    """The rows of a folder, and the pictures that have none.

    Attributes:
        rows: In the order of the files.
        aside: Why pictures can't be read, by their path below the folder.
        found_again: How many rows were there already.
    """

    rows: list[Row] = field(default_factory=list)
    aside: dict[str, str] = field(default_factory=dict)
    found_again: int = 0

    @property
    def doubtful_first(self) -> list[Row]:
        """The rows: what contradicts its folder first, then the least sure."""
        return sorted(
            self.rows, key=lambda row: (not row.is_wrong, row.probability if not row.is_wrong else -row.probability)
        )


def rows_of(classifier: Classifier, folder: Path, place: Path, seal: str) -> Rows:
    """Return a row for each picture at any depth of a folder; those that were made before are read.

    Args:
        classifier: The model.
        folder: Of pictures.
        place: Where the index lies, or will.
        seal: What tells the model from any other.

    Raises:
        DataError: The folder can't be listed.
        StoreError: The disk refuses.
    """
    found = Rows()
    files = list(pictures_below(folder, found.aside))
    known = {(row.file, row.sha256): row for row in _kept(place / ROWS, seal)}
    inputs = math.prod(classifier.encoder.view.inputs)
    size = max(1, BATCH // inputs)
    every: dict[str, Row] = {}
    new: list[tuple[str, str]] = []
    for file in files:
        digest = _digest(folder / file)
        if digest is None:
            found.aside[file] = "its file can't be read"
        elif (row := known.get((file, digest))) is not None:
            every[file] = row
        else:
            new.append((file, digest))
    found.found_again = len(every)
    batches = [new[i : i + size] for i in range(0, len(new), size)]
    pending, maker = list[Row](), _Maker(classifier)
    for number, batch in enumerate(progress(batches, "explaining", len(batches), "pictures", size, len(new)), start=1):
        pending += maker.of(folder, batch, found.aside)
        if len(pending) >= BATCH or number == len(batches):
            _keep(place / ROWS, seal, pending)
            every |= {row.file: row for row in pending}
            pending = []
    found.rows = [every[file] for file in files if file in every]
    return found


class _Maker:
    """Makes rows; what all of them need is looked up once."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._places = classifier.region_places
        self._known = {record.sha256 for record in classifier.fitted.records}
        self._judged = judged_by_others(classifier.fitted)

    def of(self, folder: Path, batch: Sequence[tuple[str, str]], aside: dict[str, str]) -> list[Row]:
        """Return the rows of some pictures, of one pass of the backbone; ``aside`` notes what can't be read."""
        tiling = self._classifier.encoder.tiling
        images: list[Image.Image] = []
        names: list[tuple[str, str]] = []
        for file, digest in batch:
            try:
                image = as_picture(folder / file)
                if tiling is not None:
                    tiling.boxes(image.size)  # of a picture that is large enough for them
            except (UnreadableImageError, ValueError, OSError) as error:
                aside[file] = str(error).removeprefix(f"{folder / file}: ")
                continue
            images.append(image)
            names.append((file, digest))
        if not images:
            return []
        tokens = self._classifier.encoder.tokens(images)
        return self._rows(names, images, tokens)

    @pinned()
    def _rows(self, names: Sequence[tuple[str, str]], images: Sequence[Image.Image], tokens: Tokens) -> list[Row]:
        """Return what a whole page says first, without what only it shows: no region is dropped, no pair is made."""
        classifier, fitted, pooling = self._classifier, self._classifier.fitted, self._classifier.pooling
        head, view, kind = fitted.head, classifier.encoder.view, fitted.setting.region_kind
        regions, readout = pooling.stage(tokens)
        pi = pooling.pi(tokens)
        g = pooling.lift.embed(regions.features, pi)
        logits, smoother = head.predict(g), head.smoother(g)
        p = probabilities(logits, fitted.temperature)
        origin, rows = None if readout.is_additive else head.g_mean, []
        for i, (file, digest) in enumerate(names):
            logit = head.logit(int(logits[i].argmax()))
            token = region_contribution(
                regions.features[i], pi[i], logit.W_star, "token", lift=pooling.lift, origin=origin
            )[:, 0]
            removal = smoother[i] * logit.residual[:, 0] / head.slack
            region, first = int(token.argmax()), int(removal.argmax())
            boxes, (w, h) = view.drawn(images[i].size, fitted.setting.coarsen), images[i].size
            seen = view.boxes(images[i].size, fitted.setting.coarsen) / torch.tensor([w, h, w, h])
            record, parent = fitted.records[first], Path(file).parent.name
            row = Row(
                file=file,
                sha256=digest,
                predicted=fitted.classes[logit.target],
                probability=float(p[i, logit.target]),
                label=parent if parent in fitted.classes else None,
                was_fitted_on=digest in self._known,
                strongest=placed(self._places, region, kind, *seen[region : region + 1].tolist()),
                brings=float(token[region]),
                score=float(logits[i, logit.target]),
                training=record.id,
                training_label=fitted.classes[record.label],
                falls=float(removal[first]),
                map=data_uri(with_map(images[i], boxes, token[: len(boxes)], SIDE)),
                doubtful=fitted.classes[int(self._judged.suggested[first])] if self._judged.flagged[first] else None,
            )
            rows.append(row)
        return rows


def _keep(folder: Path, seal: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    data = json.dumps({"format": FORMAT, "model": seal, "rows": [asdict(row) for row in rows]}).encode()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"rows-{hashlib.sha256(data).hexdigest()[:16]}.json", data)


def _kept(folder: Path, seal: str) -> Iterator[Row]:
    """Yield the rows that were made by this model; files of other models, and of other formats, are deleted."""
    for path in sorted(folder.glob("rows-*.json")) if folder.is_dir() else ():
        try:
            found: Mapping[str, Any] = json.loads(path.read_bytes())
            if found["format"] == FORMAT and found["model"] == seal:
                yield from (Row(**row) for row in found["rows"])
            elif str(found["format"]).startswith(FORMATS):
                path.unlink(missing_ok=True)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged: its rows are made anew


def _digest(file: Path) -> str | None:
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None
