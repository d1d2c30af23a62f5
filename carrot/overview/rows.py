"""Many pictures of a folder, explained in batches: a row each, kept on the disk so that a killed run goes on.

Rows lie beside the index in ``rows/``, a file for each batch, written whole or not at all. A row is found again if the
model, the picture's bytes and its name are the same; others are made anew.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from carrot._progress import progress
from carrot.classifier.classifier import BATCH, Classifier
from carrot.classifier.hidden import places_of
from carrot.data.inputs import as_picture
from carrot.data.walking import pictures_below
from carrot.embedding.tokens import Tokens
from carrot.errors import UnreadableImageError
from carrot.evaluation.calibration import probabilities
from carrot.explanation.parts import take_apart
from carrot.overview.thumbs import data_uri, with_map
from carrot.store.files import write_atomically

FORMAT = "carrot rows 1"
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
        self._places = places_of(classifier)[0]
        self._known = {record.sha256 for record in classifier.fitted.records}

    def of(self, folder: Path, batch: Sequence[tuple[str, str]], aside: dict[str, str]) -> Iterator[Row]:
        """Yield the rows of some pictures, of one pass of the backbone; ``aside`` notes what can't be read."""
        tiling = self._classifier.encoder.tiling
        images: list[Image.Image] = []
        names: list[tuple[str, str]] = []
        for file, digest in batch:
            try:
                image = as_picture(folder / file)
                if tiling is not None:
                    tiling.boxes(image.size)  # of a picture that is large enough for them
            except (UnreadableImageError, ValueError, OSError) as error:
                aside[file] = str(error)
                continue
            images.append(image)
            names.append((file, digest))
        if not images:
            return
        tokens = self._classifier.encoder.tokens(images)
        for i, (file, digest) in enumerate(names):
            yield self._row(file, digest, images[i], tokens[i : i + 1])

    def _row(self, file: str, digest: str, image: Image.Image, tokens: Tokens) -> Row:
        classifier, fitted = self._classifier, self._classifier.fitted
        trace = classifier.trace(tokens)
        parts = take_apart(trace, classifier.question(trace))
        p = probabilities(parts.logits.unsqueeze(0), fitted.temperature)[0]
        region, first = int(parts.token.argmax()), int(parts.removal.argmax())
        boxes = classifier.encoder.view.boxes(image.size, fitted.setting.coarsen)
        record, parent = fitted.records[first], Path(file).parent.name
        return Row(
            file=file,
            sha256=digest,
            predicted=fitted.classes[parts.target],
            probability=float(p[parts.target]),
            label=parent if parent in fitted.classes else None,
            was_fitted_on=digest in self._known,
            strongest=self._places[region],
            brings=float(parts.token[region]),
            score=parts.logit,
            training=record.id,
            training_label=fitted.classes[record.label],
            falls=float(parts.removal[first]),
            map=data_uri(with_map(image, boxes, parts.token[: len(boxes)], SIDE)),
        )


def _keep(folder: Path, seal: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    data = json.dumps({"format": FORMAT, "model": seal, "rows": [asdict(row) for row in rows]}).encode()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"rows-{hashlib.sha256(data).hexdigest()[:16]}.json", data)


def _kept(folder: Path, seal: str) -> Iterator[Row]:
    """Yield the rows that were made by this model; files of other models are deleted."""
    for path in sorted(folder.glob("rows-*.json")) if folder.is_dir() else ():
        try:
            found: Mapping[str, Any] = json.loads(path.read_bytes())
            if found["format"] == FORMAT and found["model"] == seal:
                yield from (Row(**row) for row in found["rows"])
            elif found["format"] == FORMAT:
                path.unlink(missing_ok=True)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged: its rows are made anew


def _digest(file: Path) -> str | None:
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None
