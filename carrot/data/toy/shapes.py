"""What parts and distractor objects look like: coloured polygons in the bird's own coordinates.

The bird faces right, x forward and y down; the body is an ellipse about the origin and one unit is its length (54 to
68 pixels in a picture). Everything is a polygon, so that the picture and the part map are drawn from the same points.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Number = int | float
Points = npt.NDArray[np.float64]
Colour = tuple[int, int, int]


class Shape(NamedTuple):
    """A filled polygon: its corners (k, 2), its colour, and whether it gets a darker outline."""

    points: Points
    colour: Colour
    outline: bool = True


def _poly(colour: Colour, *points: tuple[Number, Number], outline: bool = True) -> Shape:
    return Shape(np.array(points, dtype=np.float64), colour, outline)


def _arc(x: Number, y: Number, rx: Number, ry: Number, start: Number, stop: Number, tilt: Number, n: int) -> Points:
    angles = [math.radians(start + (stop - start) * i / (n - 1)) for i in range(n)]
    c, s = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    local = [(rx * math.cos(a), ry * math.sin(a)) for a in angles]
    return np.array([(x + c * u - s * v, y + s * u + c * v) for u, v in local])


def _ellipse(
    colour: Colour, x: Number, y: Number, rx: Number, ry: Number, tilt: Number = 0, outline: bool = True
) -> Shape:
    n = 28 if rx > 0.2 else 16
    return Shape(_arc(x, y, rx, ry, 0, 360 - 360 / n, tilt, n), colour, outline)


def _dot(colour: Colour, x: Number, y: Number, r: Number, outline: bool = False) -> Shape:
    return _ellipse(colour, x, y, r, r, outline=outline)


def _bar(colour: Colour, start: tuple[Number, Number], end: tuple[Number, Number], width: Number) -> Shape:
    (x0, y0), (x1, y1) = start, end
    length = math.hypot(x1 - x0, y1 - y0)
    u, v = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
    return _poly(colour, (x0 + u, y0 + v), (x1 + u, y1 + v), (x1 - u, y1 - v), (x0 - u, y0 - v), outline=False)


_BLACK, _WHITE = (28, 28, 34), (248, 246, 240)
_RED, _ORANGE, _YELLOW = (206, 48, 44), (238, 132, 32), (246, 206, 60)
_BLUE, _GREEN, _RUST, _BROWN = (46, 74, 160), (52, 132, 84), (178, 82, 42), (112, 72, 48)
_SLATE, _PURPLE = (72, 88, 118), (122, 62, 150)

_WING = np.concatenate(
    [_arc(-0.06, -0.04, 0.27, 0.2, -120, 90, 12, 16), np.array([(-0.34, 0.2), (-0.62, 0.2), (-0.44, 0.06)])]
)


def _wing(colour: Colour, *marks: Shape) -> tuple[Shape, ...]:
    return (Shape(_WING, colour), *marks)


def _leg_pair(colour: Colour, bottom: Number, width: Number) -> tuple[Shape, ...]:
    return tuple(_bar(colour, (x, 0.24), (x + 0.02, bottom), width) for x in (-0.1, 0.14))


def _toes(colour: Colour, bottom: Number) -> tuple[Shape, ...]:
    return tuple(
        _bar(colour, (x + 0.02, bottom - 0.02), (x + reach, bottom + 0.05), 0.055)
        for x in (-0.1, 0.14)
        for reach in (-0.07, 0.12)
    )


SHAPES: Mapping[str, Mapping[str, tuple[Shape, ...]]] = {
    "tail": {
        "forked": (_poly(_BLUE, (-0.34, -0.12), (-1.02, -0.32), (-0.7, 0.01), (-1.02, 0.3), (-0.34, 0.16)),),
        "fan": (
            Shape(np.concatenate([[(-0.34, 0.0)], _arc(-0.42, 0.0, 0.56, 0.42, 120, 240, 0, 12)]), _RUST),
            *(
                _bar(_YELLOW, (-0.5, 0.0), (-0.5 - 0.38 * math.cos(a), 0.36 * math.sin(a)), 0.055)
                for a in (-0.7, 0.0, 0.7)
            ),
        ),
        "streamer": (_bar(_BLUE, (-0.36, 0.0), (-0.98, -0.1), 0.09), _dot(_BLUE, -0.98, -0.1, 0.13, outline=True)),
        "square": (
            _poly(_RUST, (-0.34, -0.13), (-0.88, -0.17), (-0.88, 0.17), (-0.34, 0.15)),
            _poly(_BLACK, (-0.76, -0.16), (-0.88, -0.17), (-0.88, 0.17), (-0.76, 0.165), outline=False),
        ),
        "wedge": (_poly(_GREEN, (-0.34, -0.2), (-1.04, 0.06), (-0.34, 0.22)),),
    },
    "legs": {
        "stilt": (*_leg_pair(_RED, 0.76, 0.065), *_toes(_RED, 0.76)),
        "webbed": (
            *_leg_pair(_ORANGE, 0.5, 0.08),
            *(_poly(_ORANGE, (x, 0.46), (x + 0.2, 0.62), (x - 0.1, 0.62)) for x in (-0.08, 0.16)),
        ),
        "booted": (
            *(_ellipse(_WHITE, x, 0.42, 0.1, 0.18) for x in (-0.1, 0.14)),
            *_toes(_BLACK, 0.59),
        ),
        "knobbed": (
            *_leg_pair(_BLUE, 0.7, 0.065),
            *(_dot(_BLUE, x, 0.5, 0.085) for x in (-0.09, 0.15)),
            *_toes(_BLUE, 0.7),
        ),
    },
    "crest": {
        "spike": (_poly(_RED, (0.24, -0.5), (0.14, -0.98), (0.54, -0.56)),),
        "halo": (Shape(_arc(0.38, -0.54, 0.28, 0.3, 165, 345, 0, 14), _YELLOW),),
        "mohawk": tuple(
            _poly(_RED, (x - 0.09, y + 0.12), (x - 0.05, y - 0.2), (x + 0.1, y + 0.1))
            for x, y in ((0.24, -0.56), (0.4, -0.66), (0.56, -0.62))
        ),
        "plume": (
            _bar(_PURPLE, (0.4, -0.55), (0.26, -0.84), 0.05),
            _bar(_PURPLE, (0.46, -0.55), (0.52, -0.86), 0.05),
            _dot(_PURPLE, 0.25, -0.86, 0.1, outline=True),
            _dot(_PURPLE, 0.53, -0.88, 0.1, outline=True),
        ),
    },
    "pattern": {
        "bib": (_ellipse(_RED, 0.3, 0.02, 0.14, 0.21, tilt=-20),),
        "streaks": tuple(_bar(_BLACK, (x, -0.12), (x - 0.05, 0.22), 0.05) for x in (0.17, 0.28, 0.39)),
        "spots": tuple(
            _dot(_BLACK, x, y, 0.048)
            for x, y in ((0.2, -0.08), (0.34, -0.08), (0.27, 0.05), (0.41, 0.05), (0.17, 0.16), (0.32, 0.18))
        ),
        "collar": (_poly(_BLACK, (0.16, -0.2), (0.3, -0.06), (0.52, -0.06), (0.48, 0.07), (0.24, 0.07), (0.07, -0.1)),),
        "belly": (_ellipse(_YELLOW, 0.15, 0.2, 0.25, 0.12, tilt=-12),),
    },
    "wing": {
        "plain": _wing(_SLATE),
        "barred": _wing(
            _SLATE, _bar(_WHITE, (0.07, -0.12), (0.0, 0.13), 0.08), _bar(_WHITE, (-0.13, -0.17), (-0.2, 0.13), 0.08)
        ),
        "spotted": _wing(
            _BROWN,
            *(_dot(_WHITE, x, y, 0.055) for x, y in ((0.06, -0.08), (-0.08, 0.04), (-0.12, -0.13), (-0.28, 0.07))),
        ),
        "tipped": _wing(
            _BROWN, _poly(_YELLOW, (-0.24, 0.16), (-0.34, 0.2), (-0.62, 0.2), (-0.44, 0.06), (-0.3, -0.04))
        ),
        "split": _wing(
            _PURPLE, Shape(np.concatenate([_arc(-0.06, -0.04, 0.27, 0.2, -120, 0, 12, 10), [(-0.44, 0.06)]]), _GREEN)
        ),
    },
    "beak": {
        "cone": (_poly(_YELLOW, (0.62, -0.52), (0.96, -0.34), (0.62, -0.2)),),
        "long": (_poly(_BLACK, (0.62, -0.44), (1.14, -0.3), (1.12, -0.24), (0.64, -0.27)),),
        "hooked": (
            _poly(_YELLOW, (0.6, -0.52), (0.84, -0.48), (0.96, -0.34), (0.9, -0.1), (0.82, -0.26), (0.62, -0.2)),
        ),
        "spoon": (
            _poly(_BLACK, (0.64, -0.42), (0.82, -0.39), (1.0, -0.48), (1.02, -0.18), (0.82, -0.27), (0.64, -0.26)),
        ),
    },
    "eye": {
        "ring": (_dot(_WHITE, 0.52, -0.42, 0.13, outline=True), _dot(_BLACK, 0.53, -0.42, 0.065)),
        "mask": (
            _poly(_BLACK, (0.22, -0.46), (0.46, -0.54), (0.7, -0.46), (0.68, -0.34), (0.44, -0.32), (0.24, -0.36)),
            _dot(_WHITE, 0.53, -0.43, 0.05),
        ),
        "crimson": (_dot(_RED, 0.52, -0.42, 0.13, outline=True), _dot(_BLACK, 0.53, -0.42, 0.065)),
        "brow": (_bar(_WHITE, (0.3, -0.53), (0.68, -0.51), 0.09), _dot(_BLACK, 0.52, -0.4, 0.075)),
    },
}
"""The polygons of every part variant, first drawn first."""


def body(colour: Colour) -> tuple[Shape, ...]:
    """Return body and head in ``colour``, with a lighter back: the same shape in every species."""
    light, lighter = (tuple(min(255, int(c + (255 - c) * k)) for c in colour) for k in (0.14, 0.3))
    return (
        _ellipse(colour, 0.0, 0.0, 0.5, 0.34, tilt=-10),
        _poly(colour, (0.12, -0.3), (0.3, -0.5), (0.66, -0.25), (0.46, 0.05), outline=False),
        _ellipse(colour, 0.45, -0.37, 0.26, 0.26),
        _poly(colour, (0.16, -0.22), (0.28, -0.36), (0.58, -0.22), (0.42, 0.02), outline=False),
        _ellipse((light[0], light[1], light[2]), 0.02, -0.04, 0.42, 0.26, tilt=-10, outline=False),
        _ellipse((light[0], light[1], light[2]), 0.45, -0.39, 0.2, 0.19, outline=False),
        _ellipse((lighter[0], lighter[1], lighter[2]), 0.46, -0.42, 0.13, 0.12, outline=False),
    )


OBJECTS: Mapping[str, tuple[Shape, ...]] = {
    "leaf": (
        Shape(np.concatenate([_arc(0, 0.6, 1, 1.1, 217, 323, 0, 8), _arc(0, -0.6, 1, 1.1, 37, 143, 0, 8)]), _WHITE),
        _bar(_BLACK, (-0.7, 0.0), (0.7, 0.0), 0.1),
    ),
    "flower": (
        *(_dot(_WHITE, 0.62 * math.cos(a), 0.62 * math.sin(a), 0.4, True) for a in (0.0, 1.257, 2.513, 3.77, 5.027)),
        _dot(_YELLOW, 0.0, 0.0, 0.32),
    ),
    "berries": tuple(_dot(_WHITE, x, y, 0.46, outline=True) for x, y in ((-0.45, 0.3), (0.45, 0.35), (0.0, -0.4))),
    "stone": (_poly(_WHITE, (-1.0, 0.3), (-0.6, -0.5), (0.2, -0.7), (0.9, -0.2), (0.8, 0.5), (-0.3, 0.6)),),
    "twig": (_bar(_WHITE, (-1.6, 0.0), (1.6, 0.0), 0.26), _bar(_WHITE, (0.1, 0.0), (0.9, -0.8), 0.2)),
    "thorn": (_poly(_WHITE, (-0.6, 0.6), (0.0, -1.0), (0.6, 0.6)),),
}
"""Distractor objects about their own centre, of radius 1; white stands for the colour that the scene gives."""

OBJECT_COLOURS: tuple[Colour, ...] = (_RED, _ORANGE, _YELLOW, _BLUE, _GREEN, _RUST, _BROWN, _SLATE, _PURPLE, _BLACK)
"""The parts' own colours: an object's colour gives no part away."""

WATERMARK: tuple[Shape, ...] = (
    _poly(_WHITE, (0, 0), (30, 0), (30, 18), (0, 18)),
    _poly((210, 30, 120), (3, 4), (9, 4), (9, 14), (3, 14), outline=False),
    _poly((210, 30, 120), (12, 4), (18, 4), (15, 14), outline=False),
    _poly((210, 30, 120), (21, 4), (27, 4), (27, 7), (24, 7), (24, 14), (21, 14), outline=False),
)
"""The planted shortcut: a stamp in the lower left corner, in pixels from its own upper left corner."""
