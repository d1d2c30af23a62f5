"""A picture that somebody gave: what it is called, and which part of it is asked about."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from carrot._display.brief import brief
from carrot.data.records import Box


@dataclass(frozen=True)
class Upload:
    """A picture that came in.

    Attributes:
        digest: Of its name and content: what links name it by.
        name: What it is called.
        picture: Upright RGB.
        is_animated: Whether it has more frames than the first.
    """

    digest: str
    name: str
    picture: Image.Image
    is_animated: bool

    __repr__ = brief

    def called(self, box: Box | None) -> str:
        """Return what it, or a part of it, is called."""
        return self.name if box is None else f"{self.name} (box {_written(box)})"

    def note(self, box: Box | None) -> str:
        """Return what a reader should know of it."""
        wide, high = self.picture.size
        first = " It moves: its first frame is explained." if self.is_animated else ""
        part = "" if box is None else f" Explained is what lies in its box {_written(box)} (x, y, width, height)."
        return f"Your picture, {wide} x {high} pixels: kept in memory alone, for a while.{first}{part}"


def box_of(given: Mapping[str, str]) -> Box | None:
    """Return the box of a link, ``?x=10&y=20&width=80&height=60``; None: it has none.

    Raises:
        ValueError: It is none.
    """
    sides = [given.get(name, "") for name in Box._fields]
    if not any(sides):
        return None
    try:
        box = Box(*(float(side) for side in sides))
        _ = box.window  # refuses what is none
    except (ValueError, OverflowError):
        raise ValueError(
            f"A box must be x, y, width and height in pixels, with an area; got {', '.join(sides)[:80]!r}."
        ) from None
    return box


def shown_name(name: str) -> str:
    """Return what a picture that came in is called: no path, nothing that isn't to be read."""
    plain = "".join(c for c in Path(name.replace("\\", "/")).name if c.isprintable())
    return plain[:80] or "your picture"


def _written(box: Box) -> str:
    return ",".join(f"{side:g}" for side in box)
