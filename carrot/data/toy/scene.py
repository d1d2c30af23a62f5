"""A scene: everything that determines one picture, as plain numbers."""

import colorsys
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from carrot.data.toy.shapes import OBJECT_COLOURS, OBJECTS, Colour
from carrot.data.toy.species import PARTS, Species

T = TypeVar("T")

SIZE = 160
"""Pictures are SIZE x SIZE pixels."""

BACKGROUNDS: Mapping[str, tuple[Colour, Colour]] = {
    "meadow": ((150, 176, 96), (86, 132, 66)),
    "sky": ((140, 184, 226), (206, 222, 232)),
    "forest": ((52, 84, 62), (84, 104, 62)),
    "shore": ((150, 190, 200), (214, 194, 150)),
    "dusk": ((110, 96, 150), (226, 154, 120)),
    "bark": ((120, 96, 76), (150, 126, 100)),
    "snow": ((188, 204, 222), (236, 238, 242)),
}
"""Colours at the top and at the bottom, before the scene's own shift."""


@dataclass(frozen=True)
class Pose:
    """Where the bird stands: ``x, y`` and ``scale`` (its body's length) in pixels, ``rotation`` in degrees."""

    x: float
    y: float
    scale: float
    rotation: float
    mirror: bool


@dataclass(frozen=True)
class Light:
    """Gain of each colour channel, its relative change from side to side in x and y, and the grain in grey levels."""

    gain: tuple[float, float, float]
    slope: tuple[float, float]
    grain: int


@dataclass(frozen=True)
class Background:
    """Kind, colours at the top and bottom, strength of the blotches in grey levels, and the texture's seed."""

    kind: str
    top: Colour
    bottom: Colour
    blotches: int
    seed: int


@dataclass(frozen=True)
class SceneObject:
    """A distractor: ``x, y`` and radius ``size`` in pixels, ``angle`` in degrees, in front of the bird or behind it."""

    kind: str
    x: float
    y: float
    size: float
    angle: float
    colour: Colour
    front: bool


@dataclass(frozen=True)
class Scene:
    """One picture's parameters; the same scene always renders to the same bytes.

    Attributes:
        species: What the bird is: the only thing that its label depends on.
        body_colour: Drawn for each picture, whatever the species.
        pose: Position, size, rotation, mirroring.
        light: Colour and direction of the light, and the grain.
        background: Colours and texture.
        objects: Distractors, known by their index.
        watermark: Whether the planted shortcut is stamped on the picture.
    """

    species: Species
    body_colour: Colour
    pose: Pose
    light: Light
    background: Background
    objects: tuple[SceneObject, ...]
    watermark: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What the values of the part map mean: ``names[value]``."""
        numbered = (f"object {index}" for index in range(len(self.objects)))
        return ("background", "body", *PARTS, "watermark", *numbered)


def sample_scene(species: Species, seed: int | str, watermark: bool = False, clutter: int = 0) -> Scene:
    """Draw a scene with ``species`` in it; the seed alone decides everything else.

    Two species under one seed get the same pose, light, background and objects, so that the pictures differ in the
    parts only. ``watermark`` is stamped or not, and ``clutter`` objects are laid over the bird, without touching the
    rest: they hide a part now and then.

    Raises:
        ValueError: ``clutter`` < 0.
    """
    if clutter < 0:
        raise ValueError(f"`clutter` must be >= 0 objects in front of the bird; got {clutter}.")
    rng = random.Random(f"carrot toy scene {seed}")
    scale = rng.uniform(54, 68)
    reach = SIZE / 2 - 0.95 * scale
    pose = Pose(
        x=round(SIZE / 2 + rng.uniform(-reach, reach), 2),
        y=round(SIZE / 2 + 0.08 * scale + rng.uniform(-reach - 4, reach + 4), 2),
        scale=round(scale, 2),
        rotation=round(rng.uniform(-24, 24), 2),
        mirror=rng.random() < 0.5,
    )
    brightness, warmth = rng.uniform(0.74, 1.14), rng.uniform(-0.12, 0.12)
    direction, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.28)
    light = Light(
        gain=(
            round(brightness * (1 + warmth), 3),
            round(brightness * (1 + rng.uniform(-0.04, 0.04)), 3),
            round(brightness * (1 - warmth), 3),
        ),
        slope=(round(strength * math.cos(direction), 3), round(strength * math.sin(direction), 3)),
        grain=3 + int(10 * rng.random()),
    )
    kind = _pick(rng, tuple(BACKGROUNDS))
    top, bottom = ((_shifted(rng, colour, 24)) for colour in BACKGROUNDS[kind])
    background = Background(kind, top, bottom, blotches=20 + int(50 * rng.random()), seed=int(2**32 * rng.random()))
    hue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.08, 0.42), rng.uniform(0.62, 0.92))
    objects = [_sample_object(rng, pose) for _ in range(2 + int(5 * rng.random()))]
    objects += [_sample_cover(rng, pose) for _ in range(clutter)]
    body_colour = (int(255 * hue[0]), int(255 * hue[1]), int(255 * hue[2]))
    return Scene(species, body_colour, pose, light, background, tuple(objects), watermark)


def _sample_object(rng: random.Random, pose: Pose) -> SceneObject:
    front = rng.random() < 0.12
    closest = 0.9 if front else 0.62  # objects in front hide a tip of a part now and then, never the bird
    for _ in range(8):
        x, y = rng.uniform(4, SIZE - 4), rng.uniform(4, SIZE - 4)
        if math.hypot(x - pose.x, y - pose.y) > closest * pose.scale:
            break
    return _object_at(rng, x, y, rng.uniform(5, 12), front)


def _sample_cover(rng: random.Random, pose: Pose) -> SceneObject:
    direction, distance = rng.uniform(0, 2 * math.pi), pose.scale * math.sqrt(rng.random())
    x, y = pose.x + distance * math.cos(direction), pose.y + distance * math.sin(direction)
    return _object_at(rng, x, y, rng.uniform(8, 14), front=True)


def _object_at(rng: random.Random, x: float, y: float, size: float, front: bool) -> SceneObject:
    return SceneObject(
        kind=_pick(rng, tuple(OBJECTS)),
        x=round(x, 2),
        y=round(y, 2),
        size=round(size, 2),
        angle=round(rng.uniform(0, 360), 1),
        colour=_shifted(rng, _pick(rng, OBJECT_COLOURS), 16),
        front=front,
    )


def _pick(rng: random.Random, options: tuple[T, ...]) -> T:
    return options[int(len(options) * rng.random())]


def _shifted(rng: random.Random, colour: Colour, amount: int) -> Colour:
    r, g, b = (min(255, max(0, c + round(rng.uniform(-amount, amount)))) for c in colour)
    return r, g, b
