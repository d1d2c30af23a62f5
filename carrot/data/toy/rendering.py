"""From a scene to a picture and its part map, with or without chosen parts and objects.

Every shape is a polygon. Painted in order on a canvas of twice the size, it gives the picture; the same polygons,
filled with their part's number, give the part map. Light and grain are a function of the pixel alone and come last, so
leaving a part out changes no pixel that the part didn't cover.

Reference: Hesse, Schaub-Meyer & Roth, "FunnyBirds", ICCV 2023, which renders birds without chosen parts to give
explanations a ground truth.
"""

import math
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from carrot._display.brief import brief
from carrot.data.toy.scene import SIZE, Background, Scene
from carrot.data.toy.shapes import OBJECTS, SHAPES, WATERMARK, Colour, Number, Points, Shape, body
from carrot.data.toy.species import PARTS

_OVER = 2  # supersampling: a pixel is the mean of 2 x 2 samples
_BEHIND_BODY = ("tail", "legs", "crest")
_WHITE = (248, 246, 240)


@dataclass(frozen=True)
class Rendered:
    """A picture and what is where in it.

    Attributes:
        image: RGB, 160 x 160.
        samples: (320, 320) uint8, the topmost thing at each of a pixel's 2 x 2 samples: 0 is background,
            ``names[value]`` the rest.
        names: The names of the values.
    """

    image: Image.Image
    samples: npt.NDArray[np.uint8]
    names: tuple[str, ...]

    __repr__ = brief

    @property
    def parts(self) -> npt.NDArray[np.uint8]:
        """The part map, (160, 160): what the first sample of each pixel shows."""
        return _per_pixel(self.samples)

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """Return where the part map shows ``name``, (160, 160).

        Raises:
            ValueError: The picture has nothing of that name.
        """
        return np.equal(self.parts, self._value(name))

    def _value(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"`name` must be one of {self.names}; got {name!r}.")
        return self.names.index(name)


def render(scene: Scene, without: Collection[str | int] = ()) -> Rendered:
    """Render a scene, leaving out the parts and objects in ``without``.

    Args:
        scene: What to draw.
        without: Any of ``scene.names`` but the background (``"beak"``, ``"object 0"``), the index of an object, or
            ``"objects"`` for all of them.

    Exactness:
        exact: every pixel without a sample of what is left out keeps its bytes
        (``tests/unit/test_toy.py::TestRemoval``).

    Raises:
        ValueError: ``without`` names something that the scene doesn't have.
    """
    shapes = list(_placed_shapes(scene, _left_out(scene, without)))
    canvas = _paint_background(scene.background)
    pen = ImageDraw.Draw(canvas)
    for _, corners, shape in shapes:
        pen.polygon(corners, fill=shape.colour)
        if shape.outline:
            pen.line([*corners, corners[0]], fill=_darker(shape.colour), width=_OVER)
    return Rendered(_light_up(canvas.reduce(_OVER), scene), _samples(shapes), scene.names)


def part_map(scene: Scene, without: Collection[str | int] = ()) -> npt.NDArray[np.uint8]:
    """Return ``render(scene, without).parts`` at a fraction of the cost of the picture."""
    return _per_pixel(_samples(list(_placed_shapes(scene, _left_out(scene, without)))))


_Placed = tuple[int, list[tuple[int, int]], Shape]


def _samples(shapes: list[_Placed]) -> npt.NDArray[np.uint8]:
    canvas = Image.new("L", (SIZE * _OVER, SIZE * _OVER))
    pen = ImageDraw.Draw(canvas)
    for value, corners, shape in shapes:
        pen.polygon(corners, fill=value)
        if shape.outline:
            pen.line([*corners, corners[0]], fill=value, width=_OVER)
    return np.asarray(canvas)


def _per_pixel(samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(samples[::_OVER, ::_OVER])


def _left_out(scene: Scene, without: Collection[str | int]) -> set[str]:
    if isinstance(without, str):
        raise ValueError(f"`without` must be a collection of names; got the string {without!r}. Write ({without!r},).")
    names: set[str] = set()
    for item in without:
        if item == "objects":
            names.update(name for name in scene.names if name.startswith("object "))
            continue
        name = f"object {item}" if isinstance(item, int) else item
        if name not in scene.names[1:]:
            raise ValueError(
                f"`without` must name things of the scene, {scene.names[1:]}, 'objects' for all of the objects, or "
                f"give an object's index; got {item!r}."
            )
        names.add(name)
    return names


def _placed_shapes(scene: Scene, left_out: set[str]) -> Iterator[_Placed]:
    """Yield (value in the part map, corners on the large canvas, shape), from back to front."""
    value = {name: index for index, name in enumerate(scene.names)}
    looks = scene.species.part_names
    layers: list[tuple[str, tuple[Shape, ...], npt.NDArray[np.float64]]] = []
    pose = scene.pose
    bird = _affine(pose.x, pose.y, pose.scale, pose.rotation, pose.mirror)
    objects = [
        (
            f"object {index}",
            _recoloured(OBJECTS[item.kind], item.colour),
            _affine(item.x, item.y, item.size, item.angle),
        )
        for index, item in enumerate(scene.objects)
    ]
    layers += [layer for layer, item in zip(objects, scene.objects, strict=True) if not item.front]
    layers += [(part, SHAPES[part][looks[part]], bird) for part in _BEHIND_BODY]
    layers.append(("body", body(scene.body_colour), bird))
    layers += [(part, SHAPES[part][looks[part]], bird) for part in PARTS if part not in _BEHIND_BODY]
    layers += [layer for layer, item in zip(objects, scene.objects, strict=True) if item.front]
    if scene.watermark:
        layers.append(("watermark", WATERMARK, _affine(6, SIZE - 24, 1, 0)))
    for name, shapes, affine in layers:
        if name not in left_out:
            for shape in shapes:
                yield value[name], _corners(shape.points, affine), shape


def _affine(x: Number, y: Number, scale: Number, degrees: Number, mirror: bool = False) -> npt.NDArray[np.float64]:
    """Return the (3, 2) matrix that takes (u, v, 1) to (x, y) on the large canvas."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    sign = -1 if mirror else 1
    return _OVER * np.array([(sign * c, s), (-sign * s, c), (x, y)])


def _corners(points: Points, affine: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    placed = np.rint(points[:, :1] * affine[0] + points[:, 1:] * affine[1] + affine[2]).astype(int)
    return [(x, y) for x, y in placed.tolist()]


def _recoloured(shapes: tuple[Shape, ...], colour: Colour) -> tuple[Shape, ...]:
    return tuple(shape._replace(colour=colour) if shape.colour == _WHITE else shape for shape in shapes)


def _darker(colour: Colour) -> Colour:
    r, g, b = colour
    return r * 5 // 9, g * 5 // 9, b * 5 // 9


def _paint_background(background: Background) -> Image.Image:
    """Paint a vertical gradient, soft blotches and short strokes, all from the background's own seed."""
    top, bottom = np.array(background.top, np.float32), np.array(background.bottom, np.float32)
    height = np.linspace(0, 1, 12, dtype=np.float32)[:, None, None]
    raw = np.random.PCG64(background.seed).random_raw(12 * 12 // 8)  # bit streams, unlike distributions, are frozen
    grey = np.asarray(raw, dtype="<u8").view(np.uint8).reshape(12, 12, 1).astype(np.float32) / 255 - 0.5
    coarse = np.clip(top + height * (bottom - top) + background.blotches * grey, 0, 255).astype(np.uint8)
    canvas = Image.fromarray(coarse).resize((SIZE * _OVER, SIZE * _OVER), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(canvas)
    rng = random.Random(background.seed)
    slant = rng.uniform(-1, 1)
    for _ in range(26):
        x, y = SIZE * _OVER * rng.random(), SIZE * _OVER * rng.random()
        length, change = rng.uniform(10, 34), rng.choice((-1, 1)) * (10 + int(18 * rng.random()))
        base = background.top if y < SIZE * _OVER / 2 else background.bottom
        tip = (x + length * (slant + rng.uniform(-0.3, 0.3)), y - length)
        r, g, b = (min(255, max(0, c + change)) for c in base)
        pen.line([(int(x), int(y)), (int(tip[0]), int(tip[1]))], fill=(r, g, b), width=2 + int(3 * rng.random()))
    return canvas


def _light_up(image: Image.Image, scene: Scene) -> Image.Image:
    """Multiply by the light and add the grain: pointwise, and independent of what was drawn."""
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    light = 1 + scene.light.slope[0] * ramp[None, :] + scene.light.slope[1] * ramp[:, None]
    raw = np.random.PCG64(scene.background.seed + 1).random_raw(SIZE * SIZE // 8)
    noise = np.asarray(raw, dtype="<u8").view(np.uint8).reshape(SIZE, SIZE).astype(np.float32) / 127.5 - 1
    pixels = np.asarray(image, dtype=np.float32) * (light[..., None] * np.array(scene.light.gain, np.float32))
    pixels += scene.light.grain * noise[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
