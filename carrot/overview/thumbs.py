"""Small pictures for pages with many: as JPEG in data URIs, plain, with a map laid on them, or with one region framed.

The colours are those of ``carrot.explanation.drawing``; what is drawn is part of the JPEG, so that a map of 196 regions
takes no more room than one of 9.
"""

import base64
import io
from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from carrot.explanation.drawing import AGAINST, FOR, strongest
from carrot.tiling import pixel_map

SIDE = 168  # pixels of the longer side
QUALITY = 78
OPAQUE = 0.72  # of the strongest colour of a map
GREY, WHITE = 0.75, 0.35  # how much of a picture's own colours a map takes away, and how much lighter it gets


def thumbnail(image: Image.Image, side: int = SIDE) -> Image.Image:
    """Return a small copy."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def with_map(
    image: Image.Image, boxes: Float[Tensor, "n 4"], values: Float[Tensor, " n"], side: int = SIDE
) -> Image.Image:
    """Return a small copy under a map: red speaks for, blue against, each number spread over its place.

    Args:
        image: The picture.
        boxes: Where its regions are drawn, (x0, y0, x1, y1) in its pixels; they may overlap.
        values: What each of them brings.
        side: Of the longer side.
    """
    small = thumbnail(image, side)
    shrunk = boxes.double() * torch.tensor([small.width / image.width, small.height / image.height]).double().repeat(2)
    spread = pixel_map(values.double(), shrunk, (small.height, small.width))
    alpha = OPAQUE * (spread.abs() / strongest(spread.flatten())).clamp(max=1.0)
    mask = Image.fromarray((255 * alpha).round().to(torch.uint8).numpy())
    sign = Image.fromarray((255 * (spread > 0)).to(torch.uint8).numpy())
    colours = Image.composite(Image.new("RGB", small.size, FOR), Image.new("RGB", small.size, AGAINST), sign)
    pale = Image.blend(small, small.convert("L").convert("RGB"), GREY)
    pale = Image.blend(pale, Image.new("RGB", small.size, "white"), WHITE)
    return Image.composite(colours, pale, mask)


def place_map(boxes: Float[Tensor, "n 4"], values: Float[Tensor, " n"], side: int = SIDE // 2) -> Image.Image:
    """Return what each place brings, on white.

    Args:
        boxes: Of the regions, in shares of a picture.
        values: What each of them brings.
        side: In pixels.
    """
    return with_map(Image.new("RGB", (side, side), "white"), boxes * side, values, side)


def with_frame(image: Image.Image, box: Sequence[float] | None, side: int = SIDE) -> Image.Image:
    """Return a small copy with one region framed, and what is around it darker; None: nothing is framed."""
    small = thumbnail(image, side)
    if box is None:
        return small
    across, down = small.width / image.width, small.height / image.height
    x0, y0, x1, y1 = (round(v * s) for v, s in zip(box, (across, down, across, down), strict=True))
    if x1 <= x0 or y1 <= y0:
        return small
    dark = Image.blend(small, Image.new("RGB", small.size, "#202020"), 0.45)
    dark.paste(small.crop((x0, y0, x1, y1)), (x0, y0))
    drawn = ImageDraw.Draw(dark)
    drawn.rectangle((x0, y0, x1 - 1, y1 - 1), outline="#ffffff", width=3)
    if min(x1 - x0, y1 - y0) > 2:
        drawn.rectangle((x0 + 1, y0 + 1, x1 - 2, y1 - 2), outline=FOR, width=1)
    return dark


def data_uri(image: Image.Image) -> str:
    """Return a small picture as a JPEG in a data URI."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
