"""One state of a model in memory: everything that one page says is of one of these, never of two."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

from PIL import Image

from carrot.classifier.files import seal
from carrot.classifier.held_out import held_out
from carrot.classifier.suspects import Suspect, held_out_suspects, training_suspects
from carrot.data.records import ImageDataset
from carrot.errors import CarrotError
from carrot.model import Carrot


@dataclass(frozen=True)
class Asked:
    """How a model is read.

    Attributes:
        folder: Where it lies.
        data: A data set whose held-out pictures are shown, and training pictures found in; None: the model's own.
        checkpoint: As ``Carrot.load`` has it.
        device: As ``Carrot`` has it.
    """

    folder: Path
    data: str | None = None
    checkpoint: Path | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Entry:
    """A picture that is shown.

    Attributes:
        key: A hash of its side and name: what links name it by.
        suspect: What the head fitted without it says; of a held-out picture, the model.
        said: The class that it says.
        place: Its row among the training pictures, or its place in the data set.
    """

    key: str
    suspect: Suspect
    said: str
    place: int

    @property
    def is_right(self) -> bool:
        """Whether its label is what is said."""
        return self.said == self.suspect.label

    @property
    def is_training(self) -> bool:
        """Whether the model was fitted on it."""
        return self.suspect.split == "train"


class ModelChangedError(CarrotError):
    """The model in the folder is another than the one in memory."""


class NotThereError(CarrotError):
    """The model's index names no such thing."""


class Held:
    """A model as it was when it was read.

    Args:
        asked: How to read it.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked, self.seal = asked, seal(asked.folder)
        self.carrot = Carrot.load(asked.folder, checkpoint=asked.checkpoint, device=asked.device, data=asked.data)
        self.classifier, self.fitted = self.carrot.classifier, self.carrot.fitted
        self.state = (self.seal or "")[:12]
        self._lock = Lock()
        self._held_out: tuple[ImageDataset | None, tuple[Entry, ...], str] | None = None

    @property
    def is_current(self) -> bool:
        """Whether it is still what lies in the folder."""
        return seal(self.asked.folder) == self.seal

    @cached_property
    def knows_parts(self) -> bool:
        """Whether it was fitted on parts of files, such as the boxes of objects."""
        return any(record.window is not None for record in self.fitted.records)

    @cached_property
    def training(self) -> tuple[Entry, ...]:
        """The training pictures, most suspicious label first."""
        f = self.fitted
        said = f.head.loo_predict().argmax(dim=1).tolist()
        return tuple(
            Entry(key_of("train", suspect.id), suspect, f.classes[said[row]], row)
            for suspect in training_suspects(f)
            for row in (f.row_of(suspect.id),)
        )

    @cached_property
    def by_key(self) -> dict[str, Entry]:
        """The training pictures by key."""
        return {entry.key: entry for entry in self.training}

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key of each training picture, in the model's order."""
        return tuple(key_of("train", record.id) for record in self.fitted.records)

    def entry(self, key: str) -> Entry | None:
        """Return the picture of a key; None: the index names none."""
        if key in self.by_key:
            return self.by_key[key]
        return next((entry for entry in self.others()[0] if entry.key == key), None)

    def others(self) -> tuple[Sequence[Entry], str]:
        """Return the held-out pictures whose tokens are kept, and in words why there are none.

        The backbone runs on none of them.
        """
        with self._lock:
            if self._held_out is None:
                self._held_out = self._look()
        return self._held_out[1], self._held_out[2]

    def _look(self) -> tuple[ImageDataset | None, tuple[Entry, ...], str]:
        data = self.asked.data or self.fitted.data
        if data is None:
            return None, (), "The model was fitted from Python: say where held-out pictures are, with --data."
        once = f"carrot audit {self.asked.folder}" + (f" --data {data}" if self.asked.data else "")
        try:
            found = held_out(self.classifier, data, self.asked.folder / "tokens", kept_only=True)
        except (CarrotError, OSError) as error:
            return None, (), f"{str(error).rstrip('.')}. `{once}` looks at them; after it, start again."
        entries = []
        logits = self.fitted.head.predict(found.cache.embed(found.places, self.fitted.setting))
        said = {found.test.records[place].id: int(c) for place, c in zip(found.places, logits.argmax(1), strict=True)}
        place_of = {record.id: place for place, record in enumerate(found.test.records)}
        for one in held_out_suspects(self.fitted, found):
            entries.append(Entry(key_of("test", one.id), one, self.fitted.classes[said[one.id]], place_of[one.id]))
        return found.test, tuple(entries), ""

    def picture(self, entry: Entry) -> Image.Image | str:
        """Return a picture as upright RGB, or in words why it can't be shown."""
        if entry.is_training:
            return self.classifier.find(self.fitted.records[entry.place])
        dataset = (self._held_out or (None,))[0]
        try:
            return "it could not be found" if dataset is None else dataset.image(entry.place)
        except (CarrotError, OSError) as error:
            return str(error)


def key_of(split: str, name: str) -> str:
    """Return what links name a picture by."""
    return hashlib.sha256(f"{split}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()[:20]


def jpeg(picture: Image.Image, side: int) -> bytes:
    """Return a picture as a JPEG file of at most so many pixels a side."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue()
