"""A fitted classifier: the frozen encoder, what fitting left behind, and where its training pictures are found."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import repeat

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from carrot._ambient import pinned_class
from carrot._progress import progress
from carrot._ridge.logit import Logit
from carrot.classifier.fitted import Fitted
from carrot.classifier.identity import state_sha256
from carrot.classifier.records import PictureFinder, TrainingRecord
from carrot.data.inputs import PictureLike
from carrot.data.labels import Label
from carrot.edits.flips import RemovalFlips
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import Pooling
from carrot.embedding.sent import Look, SentView
from carrot.embedding.tokens import Tokens
from carrot.embedding.trace import Trace
from carrot.engine import HERE, current, in_order
from carrot.explanation.hiding import Hiding

BATCH = 32  # inputs of one pass of the backbone


@pinned_class
@dataclass(frozen=True, eq=False)
class Classifier:
    """Pictures in, logits and every object of the theory out; never changed.

    ``carrot.Carrot`` is its face, and holds the one of now.

    Attributes:
        encoder: Pictures to tokens.
        fitted: The model.
        find: Returns a training picture, or why it can't be shown.
    """

    encoder: Encoder
    fitted: Fitted
    find: PictureFinder = field(default_factory=lambda: PictureFinder(None))

    def __repr__(self) -> str:
        return f"<Classifier {self.encoder.spec.name}, {self.fitted!r}>"

    @cached_property
    def pooling(self) -> Pooling:
        """Tokens to embeddings."""
        return Pooling(self.fitted.setting)

    @cached_property
    def sha256(self) -> str:
        """Of all that it computes with, and of nothing else: ``carrot.classifier.identity``."""
        return state_sha256(self.encoder, self.fitted)

    @property
    def region_places(self) -> tuple[str, ...]:
        """Where each region of a picture lies, in words, a global one last."""
        s = self.fitted.setting
        return s.region_places(None if s.is_tiled else self.encoder.backbone.grid_hw)

    @property
    def region_names(self) -> tuple[str, ...]:
        """What each region of a picture is called, a global one last."""
        s = self.fitted.setting
        return s.region_names(None if s.is_tiled else self.encoder.backbone.grid_hw)

    def logits(self, pictures: Sequence[PictureLike]) -> Float[Tensor, "m C"]:
        """Return the logits of pictures, in passes of ``BATCH`` inputs; one picture's stay together."""
        found = [self.fitted.head.predict(g) for g in self.embedded(pictures)]
        return torch.cat(found) if found else torch.empty(0, len(self.fitted.classes), dtype=torch.float64)

    def embedded(self, pictures: Sequence[PictureLike]) -> Iterator[Float[Tensor, "B M"]]:
        """Yield the embeddings of pictures, pass by pass: the engine of now looks at them."""
        size = max(1, BATCH // math.prod(self.encoder.view.inputs)) if len(pictures) else 1
        firsts = range(0, len(pictures), size)
        if (engine := current()) is HERE:
            for i in firsts:
                yield self.pooling.g(self.encoder.tokens(pictures[i : i + size]))
            return
        look = Look(SentView.of(self.encoder.view), pictures, size)
        done = progress(engine.map(look, firsts), "looking", len(firsts), "pictures", size, len(pictures))
        for tokens in in_order(done, firsts):
            yield self.pooling.g(tokens)

    def logits_of(self, tokens: Tokens) -> Float[Tensor, "B C"]:
        """Return the logits of pictures whose tokens are at hand."""
        return self.fitted.head.predict(self.pooling.g(tokens))

    def trace(self, picture: PictureLike | Tokens) -> Trace:
        """Return every object of the theory for one picture, or for its tokens."""
        tokens = picture if isinstance(picture, Tokens) else self.encoder.tokens([picture])
        trace = self.pooling.trace(tokens)
        return replace(trace, logits=self.fitted.head.predict(trace.g))

    def question(self, trace: Trace, target: Label | None = None, against: Label | None = None) -> Logit:
        """Return the logit of a class given by its label, the predicted one by default, or its lead over another's.

        Raises:
            ValueError: A class is unknown, or both are the same.
        """
        fitted = self.fitted
        c, a = (None if label is None else fitted.class_index(label) for label in (target, against))
        if c is not None and c == a:
            raise ValueError(
                f"`target` and `against` are both {fitted.classes[c]!r}: give two classes, or leave `against` out."
            )
        target_index = Logit.predicted(fitted.head, trace.g).target if c is None else c
        if target_index == a:
            raise ValueError(
                f"`against` is {fitted.classes[a]!r}, which is the predicted class: give another, or a `target` too."
            )
        return fitted.head.logit(target_index, a)

    def training_tokens(self, record: TrainingRecord, found: Image.Image | str) -> Tokens | None:
        """Return a training picture's tokens: those that it was fitted with, or computed again from its picture.

        None: both are gone.

        Args:
            record: The training picture.
            found: What ``find`` returned for it.
        """
        kept = None if self.fitted.kept is None or record.row is None else self.fitted.kept.tokens(record.row)
        return kept if kept is not None or isinstance(found, str) else self.encoder.tokens([found])

    def facts(self) -> dict[str, object]:
        """Return what it was made with, JSON-ready."""
        fitted, encoder = self.fitted, self.encoder
        return {
            "backbone": encoder.spec.name,
            "fingerprint": encoder.fingerprint,
            "crop": encoder.spec.crop,
            "precision": encoder.spec.precision,
            "dtype": encoder.dtype,
            **fitted.setting.to_dict(),
            "lam": fitted.head.lam,
            "fit_intercept": fitted.head.fit_intercept,
            "class_weight": fitted.class_weight,
            "temperature": fitted.temperature,
            "training_pictures": len(fitted.records),
            "classes": len(fitted.classes),
            "data": fitted.data,
        }

    def hiding_in(self, rows: Sequence[int]) -> tuple[Hiding, dict[int, str]]:
        """Return every region of some training pictures hidden, one at a time; and why others' tokens are gone, by row.

        Kept tokens are read, the backbone runs where there are none; then a system of the model's is solved for each
        region of each picture.
        """
        missing: dict[int, str] = {}

        def pictures() -> Iterator[tuple[int, Tokens]]:
            each = progress(self._each_training_tokens(rows), "hiding regions", len(rows), "pictures")
            for row, found in zip(rows, each, strict=True):
                if isinstance(found, str):
                    missing[row] = found
                else:
                    yield row, found

        return Hiding(self.fitted.head, self.pooling, pictures()), missing

    @cached_property
    def hiding(self) -> tuple[Hiding, dict[int, str]]:
        """``hiding_in`` of all training pictures: solved for once."""
        return self.hiding_in(range(len(self.fitted.records)))

    @cached_property
    def flips(self) -> RemovalFlips:
        """What the search for smallest removals needs of the head: computed once."""
        return RemovalFlips(self.fitted.head)

    def _each_training_tokens(self, rows: Sequence[int]) -> Iterator[Tokens | str]:
        """Yield the tokens of training pictures as ``training_tokens`` has them, or why there are none, in words."""
        records = [self.fitted.records[row] for row in rows]
        stored = [record.row for record in records if record.row is not None]
        kept = repeat(None) if self.fitted.kept is None else self.fitted.kept.each(stored)
        for record in records:
            tokens = None if record.row is None else next(kept)
            if tokens is not None:
                yield tokens
                continue
            found = self.find(record)
            yield found if isinstance(found, str) else self.encoder.tokens([found])
