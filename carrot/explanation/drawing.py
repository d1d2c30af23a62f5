"""Pictures and marks of the page, as SVG: each picture is embedded once, and used wherever it is shown.

Red speaks for, blue against; both are told apart by every common kind of colour vision. What is zero is transparent.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from carrot._display.brief import brief
from carrot._display.html import text as text  # with the others, where the page looks for it

FOR, AGAINST = "#b2182b", "#2166ac"
STRONGEST = 0.85  # opacity of the largest number of a map ..
ON_COLOURS = 0.55  # .. and on a picture in colour
MARKS = ("#f0a202", "#56b4e9", "#3fc199", "#f0e442", "#e08fc0")  # light enough for black numbers
LEAST_SHOWN = 0.3  # of a picture's longer side: what a smaller region is shown with
MAX_WIDTH, MAX_HEIGHT = 400, 600  # pixels of an embedded picture


def name(value: object) -> str:
    """Return a name from the data, kept from turning the direction of the text around it."""
    return f"<bdi>{text(value)}</bdi>"


def short(value: object, limit: int = 48) -> str:
    """Return a long path as its last parts, as many as fit and at least one, with all of it in the tooltip."""
    whole = str(value)
    parts = whole.replace("\\", "/").split("/")
    if len(whole) <= limit or len(parts) == 1:
        return name(whole)
    last = parts.pop()
    while len(parts[-1]) + len(last) < limit - 2:
        last = f"{parts.pop()}/{last}"
    return f'<bdi title="{text(whole)}">&hellip;/{text(last)}</bdi>'


def number(value: float | int, form: str = "+.3g") -> str:
    """Return a number to read, with all of its digits behind it."""
    return f'<data value="{value!r}">{value + 0.0:{form}}</data>'


def side(value: float) -> str:
    """Return the style of a number: for, against, or neither."""
    return "for" if value > 0 else "against" if value < 0 else ""


def data_uri(image: Image.Image) -> str:
    """Return a picture as a JPEG in a data URI, at most 400 by 600 pixels."""
    small = image.convert("RGB")
    small.thumbnail((MAX_WIDTH, MAX_HEIGHT), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


@dataclass(frozen=True)
class Sheet:
    """A picture with an id, whose regions can be drawn on.

    Attributes:
        id: Of the embedded picture; ours, never data.
        size: Width and height in pixels, in which boxes are given.
        boxes: Of the regions, (x0, y0, x1, y1).
    """

    id: str
    size: tuple[int, int]
    boxes: Float[Tensor, "n 4"]

    __repr__ = brief

    def embedded(self, uri: str) -> str:
        """Return the picture itself, to stand once among the page's definitions."""
        w, h = self.size
        return f'<image id="{self.id}" width="{w}" height="{h}" preserveAspectRatio="none" href="{uri}"></image>'

    def used(self, how: str = "") -> str:
        """Return the picture, to be drawn on: as it is, "muted", or "faint", in light greys."""
        return f'<use href="#{self.id}"' + (f' filter="url(#{how})"' if how else "") + "></use>"

    def svg(self, alt: str, drawn: str = "", how: str = "") -> str:
        """Return the picture with something drawn on it; ``alt`` is raw text, ``drawn`` SVG in the picture's pixels."""
        w, h = self.size
        return f'<svg viewBox="0 0 {w} {h}" role="img" aria-label="{text(alt)}">{self.used(how)}{drawn}</svg>'

    def crop(self, region: int, alt: str, colour: str) -> str:
        """Return a region with what is around it, if it is small, then framed; nothing where it has no place."""
        box = self.box(region)
        if box is None:
            return ""
        (x, y, w, h), (width, height) = box, self.size
        side = max(w, h, LEAST_SHOWN * max(self.size))
        wide, high = min(side, width), min(side, height)
        left, top = (
            min(max(a, 0.0), b) for a, b in ((x + (w - wide) / 2, width - wide), (y + (h - high) / 2, height - high))
        )
        place = f"{left:.2f} {top:.2f} {wide:.2f} {high:.2f}"
        return f'<svg viewBox="{place}" role="img" aria-label="{text(alt)}">{self.used()}{_frame(box, colour)}</svg>'

    def box(self, region: int) -> tuple[float, float, float, float] | None:
        """Return a region's x, y, width and height; None: it stands for the whole picture, or lies in the padding."""
        if region >= len(self.boxes):
            return None
        x0, y0, x1, y1 = self.boxes[region].tolist()
        return (x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None


FILTERS = """<filter id="faint" color-interpolation-filters="sRGB"><feColorMatrix values="
.18 .35 .07 0 .4  .18 .35 .07 0 .4  .18 .35 .07 0 .4  0 0 0 1 0"></feColorMatrix></filter>
<filter id="muted" color-interpolation-filters="sRGB"><feColorMatrix values="
.43 .24 .05 0 .28  .12 .55 .05 0 .28  .12 .24 .36 0 .28  0 0 0 1 0"></feColorMatrix></filter>"""
# faint: .6 of the grey and .4 of white; muted: .31 of the colour, .41 of the grey, .28 of white


def overlay(sheet: Sheet, values: Float[Tensor, " N"], names: Sequence[str], most: float = STRONGEST) -> str:
    """Return each region as a coloured square: its opacity is its number over ``strongest``, its tooltip the number.

    Args:
        sheet: The picture.
        values: Of its regions.
        names: Of its regions, as raw text.
        most: Opacity of the strongest.
    """
    shown = values.tolist()
    limit = strongest(values)
    drawn = []
    for region, value in enumerate(shown):
        box = sheet.box(region)
        if box is not None:
            x, y, w, h = box
            colour, opacity = FOR if value > 0 else AGAINST, most * min(abs(value) / limit, 1.0)
            place = f'x="{x:.2f}" y="{y:.2f}" width="{w:.2f}" height="{h:.2f}"'
            title = f"<title>{text(names[region])}: {value:+.6g}</title>"
            drawn.append(f'<rect {place} fill="{colour}" fill-opacity="{opacity:.3f}">{title}</rect>')
    return "".join(drawn)


def strongest(values: Tensor) -> float:
    """Return the absolute number from which on the colour is the strongest: the largest; 1 if all are 0.

    Where a few stand out, that would leave all others pale: if the largest is over twice the 97.5 % quantile, it is
    that quantile.
    """
    if not len(values):
        return 1.0
    sizes = values.abs().double()
    most, usual = float(sizes.max()), float(sizes.quantile(0.975))
    return (usual if 0.0 < 2.0 * usual < most else most) or 1.0


def legend(values: Tensor, against: str, towards: str, most: float = STRONGEST) -> str:
    """Return the bar of colours of a map, as in ``overlay``, with its scale; both words are raw text."""
    limit = strongest(values)
    beyond = " and beyond" if float(values.abs().max()) > limit else ""
    steps = "".join(
        f'<rect x="{place}" width="1.02" height="1" fill="{FOR if place > 20 else AGAINST}" '
        f'fill-opacity="{most * abs(place - 20) / 20:.3f}"></rect>'
        for place in range(41)
    )
    white = '<rect width="41" height="1" fill="#ffffff"></rect>'
    bar = f'<svg viewBox="0 0 41 1" preserveAspectRatio="none" aria-hidden="true">{white}{steps}</svg>'
    left, right = (f"{number(end)}{beyond} {text(word)}" for end, word in ((-limit, against), (limit, towards)))
    ends = f"<span>{left}</span><span>0</span><span>{right}</span>"
    return f'<div class="legend">{bar}<div class="ends">{ends}</div></div>'


def bar(value: float, limit: float) -> str:
    """Return a small bar as long as a share of the largest."""
    width = 100 * abs(value) / limit
    drawn = f'<rect width="{width:.1f}" height="10"></rect>'
    return f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'


def marks(sheet: Sheet, regions: Sequence[int]) -> str:
    """Return regions framed, and numbered from 1 in their order.

    Numbers keep clear of frames and of one another where they can.
    """
    boxes = {k: box for k, region in enumerate(regions) if (box := sheet.box(region)) is not None}
    frames = "".join(_frame(box, MARKS[k]) for k, box in boxes.items())
    taken, labels, unit = list(boxes.values()), [], 0.055 * max(sheet.size)
    for k, box in boxes.items():
        plate = _free_place(box, (unit * 1.3, unit * 1.3), sheet.size, taken)
        taken.append(plate)
        labels.append(_plate(plate, MARKS[k], k + 1, unit))
    return frames + "".join(labels)


_Box = tuple[float, float, float, float]  # x, y, width, height


def _frame(box: _Box, colour: str) -> str:
    place = 'x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"'.format(*box)
    line = 'fill="none" vector-effect="non-scaling-stroke"'
    return "".join(
        f'<rect {place} {line} stroke="{stroke}" stroke-width="{width}"></rect>'
        for stroke, width in (("#000000", 5), (colour, 3))
    )


def _plate(box: _Box, colour: str, label: int, unit: float) -> str:
    x, y, w, h = box
    line = f'fill="{colour}" stroke="#000000" stroke-width="{unit / 14:.2f}"'
    circle = f'<circle cx="{x + w / 2:.2f}" cy="{y + h / 2:.2f}" r="{w / 2:.2f}" {line}></circle>'
    at = f'x="{x + w / 2:.2f}" y="{y + h / 2 + 0.36 * unit:.2f}" font-size="{unit:.2f}"'
    return f'{circle}<text {at} text-anchor="middle" font-weight="700" fill="#000000">{label}</text>'


def _free_place(box: _Box, size: tuple[float, float], limits: tuple[int, int], taken: Sequence[_Box]) -> _Box:
    """Return where a plate fits beside a box: in the picture, over nothing taken; if nowhere, at the box's corner."""
    (x, y, w, h), (wide, high) = box, size
    gap = 0.1 * wide
    left, right, above, below = x - wide - gap, x + w + gap, y - high - gap, y + h + gap
    middle_x, middle_y = x + (w - wide) / 2, y + (h - high) / 2
    places = [(left, middle_y), (right, middle_y), (middle_x, above), (middle_x, below)]
    places += [(left, above), (right, above), (left, below), (right, below)]
    for px, py in places:
        plate = (px, py, wide, high)
        inside = px >= 0 and py >= 0 and px + wide <= limits[0] and py + high <= limits[1]
        if inside and not any(_overlap(plate, other) for other in taken):
            return plate
    return min(max(x, 0.0), limits[0] - wide), min(max(y, 0.0), limits[1] - high), wide, high


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
