"""What is chosen by name, each list in one place: help, errors, tests, docs and exports run over it. Nothing is loaded.

Data sets are in ``carrot.data.opening.KINDS``, the metrics of explanations in ``carrot.protocol.metrics.METRICS``,
settings of an embedding in ``carrot.embedding.setting.AXES``.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple


class Choice(NamedTuple):
    """One of a list.

    Attributes:
        what: What it is, in a few words.
        has_width: Whether a width may follow the name, as in "relu:8192".
    """

    what: str
    has_width: bool = False


LIFTS: dict[str, Choice] = {  # classes of ``carrot.lift``
    "identity": Choice("tokens as they are, the guide's"),
    "quadratic": Choice("all products of two features"),
    "relu": Choice("random ReLU features, the arc-cosine kernel", True),
    "fourier": Choice("random Fourier features of directions, a Gaussian kernel", True),
    "sketch": Choice("a sketch of the quadratic lift, for wide tokens", True),
}


def forms(choices: dict[str, Choice]) -> str:
    """Return how each is written: "identity, quadratic, relu:M, ..."."""
    return ", ".join(f"{name}:M" if choice.has_width else name for name, choice in choices.items())


def read(choices: dict[str, Choice], spec: str) -> tuple[str, int | None]:
    """Return the name and the width that are written; the width is None where none is given.

    Raises:
        ValueError: There is no such name, or a width where it is fixed, or one that is no whole number > 0.
    """
    name, colon, width = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if name in choices and (not colon or (choices[name].has_width and re.fullmatch("0*[1-9][0-9]*", width))):
        return name, int(width) if colon else None
    if name in choices and not choices[name].has_width:
        raise ValueError(f"The {name} lift has the width that it has: write {name!r}; got {spec!r}.")
    raise ValueError(
        f"`lift` must be one of {forms(choices)}, with a whole number >= 1 for M, which may be left out; got {spec!r}."
    )


READOUTS = ("mean", "sum")  # how regions are weighed


def read_readout(word: str) -> str:
    """Return how regions are weighed, as it is written.

    Raises:
        ValueError: It is none of ``READOUTS``.
    """
    if word not in READOUTS:
        raise ValueError(f"`readout` must be {' or '.join(READOUTS)}; got {word!r}.")
    return word


PATCHES = "patches"
OVERLAP = 0.5  # of tiles, where nobody says
REGIONS = (
    'patches (tokens of the whole picture), or tiles that see only themselves: "tiles:3,4" (3 x 3 and 4 x 4, '
    'overlapping by half), "tiles:2@0" (2 x 2, disjoint), "boxes:x0,y0,x1,y1;..." (shares of width and height)'
)
MAX_TILES = 1024


class Grid(NamedTuple):
    """k x k boxes that overlap by a share of their side; written "k" or "k@overlap"."""

    k: int
    overlap: float = OVERLAP

    def __str__(self) -> str:
        return str(self.k) if self.k == 1 or self.overlap == OVERLAP else f"{self.k}@{self.overlap:g}"


def read_regions(spec: str) -> str | tuple[Grid | tuple[float, float, float, float], ...]:
    """Return "patches", or the grids or boxes that are written.

    Raises:
        ValueError: It is none of these, a number is out of range, a grid comes twice, or there are over ``MAX_TILES``.
    """
    kind, colon, written = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if kind == PATCHES and not colon:
        return PATCHES
    found: list[Grid | tuple[float, float, float, float]] = []
    if kind == "tiles":
        for item in written.split(","):
            match = re.fullmatch(r" *([1-9][0-9]?)(?:@(0|0?\.[0-9]{1,4}))? *", item)  # four digits: ``str`` loses none
            if match is None:
                raise ValueError(f"`regions` must be {REGIONS}; got {spec!r}, where {item!r} is no grid.")
            k = int(match[1])
            found.append(Grid(k, OVERLAP if match[2] is None or k == 1 else float(match[2])))
    elif kind == "boxes":
        for item in written.split(";"):
            try:
                x0, y0, x1, y1 = (float(x) for x in item.split(","))
            except ValueError:
                raise ValueError(f"`regions` must be {REGIONS}; got {item!r} for a box.") from None
            if not (0.0 <= x0 < x1 <= 1.0 and 0.0 <= y0 < y1 <= 1.0):
                raise ValueError(
                    f"A box of `regions` must be x0,y0,x1,y1 in shares of the picture's width and height, not pixels, "
                    f"0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1; got {item!r}."
                )
            found.append((x0, y0, x1, y1))
    else:
        raise ValueError(f"`regions` must be {REGIONS}; got {spec!r}.")
    tiles = sum(item.k**2 if isinstance(item, Grid) else 1 for item in found)
    if len(set(found)) < len(found) or tiles > MAX_TILES:
        what = "grid" if kind == "tiles" else "box"
        raise ValueError(f"`regions` must be at most {MAX_TILES} tiles, no {what} twice; got {tiles} in {spec!r}.")
    return tuple(found)


WHOLE = "the whole picture"
MANY = {"patch": "patches", "block": "blocks of patches", "tile": "tiles", "box": "boxes", "region": "regions"}


def cell(row: int, column: int, of: str = "") -> str:
    """Return where a region of a grid lies: from 0, at the top left, as ``--region`` counts."""
    return f"row {row}, column {column}{of}"


def cells(rows: int, columns: int, of: str = "") -> list[str]:
    """Return where each region of a grid lies, row by row."""
    return [cell(row, column, of) for row in range(rows) for column in range(columns)]


def tile_places(items: Sequence[Grid | tuple[float, float, float, float]]) -> tuple[str, ...]:
    """Return where each tile of grids or boxes lies, in words: "row 0, column 2 of 3 x 3", "box 4"."""
    found: list[str] = []
    sides = [item.k for item in items if isinstance(item, Grid)]
    for item in items:
        if not isinstance(item, Grid):
            found.append(f"box {len(found)}")
        elif item.k == 1:
            found.append(WHOLE)
        else:
            at = f" at overlap {item.overlap:g}" if sides.count(item.k) > 1 else ""
            found += cells(item.k, item.k, f" of {item.k} x {item.k}{at}")
    return tuple(found)


def region_name(kind: str, number: int, place: str) -> str:
    """Return what a region is called wherever a person reads it: "tile 5 (row 1, column 1 of 3 x 3)", "box 4".

    Args:
        kind: A key of ``MANY``.
        number: Among the regions, from 0.
        place: Where it lies, in words.
    """
    name = f"{kind} {number}"
    return name if place == name else f"{name} ({place})"
