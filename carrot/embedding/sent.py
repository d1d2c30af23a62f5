"""A view that goes to the workers of an engine, weights and all: they need no checkpoint and no hub."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from carrot._display.brief import brief
from carrot.data.inputs import PictureLike, as_picture
from carrot.embedding.tokens import Tokens
from carrot.embedding.view import View
from carrot.engine import HERE, current
from carrot.errors import ModelError

IN_FLIGHT = 3  # shards that a GPU has at a time: one comes, one is computed, one is written


@dataclass(frozen=True, eq=False)
class SentView:
    """A view, and what its backbone was where the work was given out.

    Attributes:
        view: Pictures to tokens.
        fingerprint: Of its backbone.
    """

    view: View
    fingerprint: str

    __repr__ = brief

    @classmethod
    def of(cls, view: View) -> "SentView":
        """Return what the engine of now may take of a view: with a copy of the weights on the processor, off a GPU."""
        fingerprint = view.backbone.fingerprint()
        if current() is not HERE and view.backbone.device.type != "cpu":
            view = deepcopy(view)
            view.backbone.to("cpu")
        return cls(view, fingerprint)

    def arrive(self) -> None:
        """Refuse weights that are no longer those that were sent; use a GPU, if the worker has one.

        Raises:
            ModelError: They aren't.
        """
        backbone = self.view.backbone
        if (found := backbone.fingerprint()) != self.fingerprint:
            raise ModelError(
                f"the backbone was sent with fingerprint {self.fingerprint[:12]}, and has {found[:12]} here: its "
                "weights were damaged on the way, or this is another version of CARROT. Install the same on every node."
            )
        if torch.cuda.is_available():
            backbone.to("cuda")

    @property
    def rows(self) -> "Rows":
        """Model inputs to what is kept of them."""
        return Rows(self)


@dataclass(frozen=True, eq=False)
class Rows:
    """Model inputs to rows by name, wherever it runs."""

    sent: SentView

    __repr__ = brief

    @property
    def at_a_time(self) -> int:
        """How many shards are worked on at a time, by threads."""
        return IN_FLIGHT if self.sent.view.backbone.device.type == "cuda" else 1

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """Return the rows of a pass."""
        return self.sent.view.encode(x).rows()

    def arrive(self) -> None:
        """See ``SentView.arrive``."""
        self.sent.arrive()


@dataclass(frozen=True, eq=False)
class Look:
    """The job of an engine that gives the tokens of pictures, a pass at a time.

    Attributes:
        sent: What makes tokens.
        pictures: All of them.
        size: Pictures of a pass.
    """

    sent: SentView
    pictures: Sequence[PictureLike]
    size: int

    __repr__ = brief

    def __call__(self, first: int) -> Tokens:
        """Return the tokens of the pass that begins with picture ``first``.

        Raises:
            UnreadableImageError: One can't be read.
        """
        view = self.sent.view
        some = self.pictures[first : first + self.size]
        return view.encode(torch.stack([view.transform(as_picture(picture)) for picture in some]))

    def arrive(self) -> None:
        """See ``SentView.arrive``."""
        self.sent.arrive()
