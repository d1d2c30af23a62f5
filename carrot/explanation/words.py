"""The page's sentence and the numbers on it: what the model says, where it saw it, terms that add up as they are shown.

``page/view.js`` says the same of what a person supposes; ``tests/end_to_end/test_view.py`` holds the two together.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from carrot._display import words
from carrot.explanation.drawing import name, text
from carrot.explanation.pieces import called

if TYPE_CHECKING:
    from carrot.explanation.record import Explanation, Picture

SIDES = (
    ("the upper left", "the top", "the upper right"),
    ("the left side", "the middle", "the right side"),
    ("the lower left", "the bottom", "the lower right"),
)
THIRDS = (0.38, 0.62)  # of a picture's side: between them lies its middle
MOSTLY, MANY = 0.5, 0.25  # of all that supports an answer: from there on one region is most; below it is one of many
ROUNDING = 1e-12  # a start that is smaller is none
LITTLE = 0.2  # of what a region brings: where the score falls by less without it, others take over
TAKE_OVER = {False: "take over its weight", True: "have shared with it"}
NEARLY_ALL = 0.8  # of a picture's area
SUPPORTERS, OPPONENTS = 3, 2  # regions that are named and numbered: for an answer; of a lead, for the other class


def where(picture: "Picture", region: int) -> str:
    """Return where a region lies in plain words, and its name: "the middle, tile 4 of 3 × 3"."""
    if region >= len(picture.boxes):
        return picture.place(region)
    told, called = _side(picture, region), _times(picture.called(region))
    return f"{told}, {called}" if told else called


def marked(picture: "Picture", region: int, mark: int = 1) -> str:
    """Return where a numbered region lies, as a sentence has it: "the middle, marked 1"."""
    if region >= len(picture.boxes):
        return picture.place(region)
    return f"{_side(picture, region) or _times(picture.called(region))}, marked {mark}"


def placed(places: Sequence[str], region: int, kind: str, box: Sequence[float] | None = None) -> str:
    """Return where a region of every picture lies: "the upper left (tile 0 of 2 x 2)"; ``box`` in shares of it."""
    side = "" if box is None else side_of((box[0], box[1], box[2], box[3]))
    name = called(places, region, kind)
    return f"{side} ({name})" if side and name != places[region] else name


def _times(name: str) -> str:
    return name.replace(" x ", "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}")


def _side(picture: "Picture", region: int) -> str:
    """Return the side of the picture that a region lies on; nothing where it is nearly all of it."""
    (w, h), box = picture.image.size, tuple(picture.boxes[region].tolist())
    if box[2] <= box[0] or box[3] <= box[1]:
        return "the padding"
    return side_of((box[0] / w, box[1] / h, box[2] / w, box[3] / h))


def side_of(box: tuple[float, float, float, float]) -> str:
    """Return the side of a picture that a box lies on, in shares of its sides; nothing where it is nearly all of it."""
    x0, y0, x1, y1 = box
    if (x1 - x0) * (y1 - y0) > NEARLY_ALL:
        return ""
    column, row = (sum(middle > third for third in THIRDS) for middle in ((x0 + x1) / 2, (y0 + y1) / 2))
    return SIDES[row][column]


def percent(p: float, digits: int = 1) -> str:
    """Return a probability in per cent as HTML, as ``carrot._display.words.percent`` has it."""
    shown = words.percent(p, digits).replace("> ", "&gt; ").replace("< ", "&lt; ").replace(" %", "&nbsp;%")
    return f'<data value="{p!r}">{shown}</data>'


def digits_for(values: Sequence[float]) -> int:
    """Return how many decimals show three digits of the largest number: from 3 to 6."""
    most = max(map(abs, values), default=0.0)
    return min(max(2 - math.floor(math.log10(most)), 3), 6) if most > 0 else 3


def rounded(values: Sequence[float], total: float, digits: int) -> list[str]:
    """Return terms with so many decimals that they add up as they are shown: each rounded up or down.

    Those that lose most by being rounded down are rounded up, as many as the total asks for.
    """
    scaled = [value * 10**digits for value in values]
    floors = [math.floor(value) for value in scaled]
    missing = math.floor(total * 10**digits + 0.5) - sum(floors)
    by_rest = sorted(range(len(values)), key=lambda i: floors[i] - scaled[i])
    for i in by_rest[: max(missing, 0)]:
        floors[i] += 1
    return [_signed(units, digits) for units in floors]


def added_up(values: Sequence[float], total: float, digits: int) -> list[str]:
    """Return the same as HTML, with all digits of each behind it."""
    return [exactly(value, number) for value, number in zip(values, rounded(values, total, digits), strict=True)]


def exactly(value: float, shown: str) -> str:
    """Return a number as it is shown, as HTML with all of its digits behind it."""
    return f'<data value="{value!r}">{shown}</data>'


def _signed(units: int, digits: int) -> str:
    """Return a whole number of the last decimal's units, written out with its sign."""
    whole, rest = divmod(abs(units), 10**digits)
    return f"{'-' if units < 0 else '+'}{whole}.{rest:0{digits}d}"


def supporters(e: "Explanation", k: int) -> list[int]:
    """Return up to k regions that bring most, best first; none that brings nothing or argues against the answer."""
    order = e.parts.token.argsort(descending=True, stable=True)[:k].tolist()
    return [i for i in order if float(e.parts.token[i]) > 0]


def opponents(e: "Explanation", k: int) -> list[int]:
    """Return up to k regions that speak most for the other class of a lead, best first."""
    order = e.parts.token.argsort(stable=True)[:k].tolist()
    return [i for i in order if float(e.parts.token[i]) < 0 and e.against is not None]


def numbered(e: "Explanation") -> list[int]:
    """Return the regions that are named and numbered, in the order of their numbers: both sides of a lead."""
    return supporters(e, SUPPORTERS) + opponents(e, OPPONENTS)


def replaced(e: "Explanation") -> str:
    """Return a sentence for where the region that brings most could be spared, as others take over; else nothing.

    What it brings is its part of the sum. Where regions share one weight, those left divide it among them, and the
    score may hardly move: the first named reason is then no need.
    """
    best = supporters(e, 1)
    if not best or float(e.parts.drop[best[0]]) >= LITTLE * float(e.parts.token[best[0]]):
        return ""
    which = "what is marked 1" if best[0] < len(e.picture.boxes) else e.picture.place(best[0])
    return f"Hidden alone, {which} would hardly be missed: the others {TAKE_OVER[e.parts.is_additive]}."


def sentence(e: "Explanation") -> str:
    """Return what the model says and why, in one sentence, as HTML."""
    predicted = int(e.parts.logits.argmax())
    said = f"The model says <em>{name(e.classes[predicted])}</em> ({percent(float(e.probabilities[predicted]))})"
    best, none = supporters(e, 1), "no part of the picture"
    because = text(marked(e.picture, best[0])) if best else none

    def speaks(whom: str) -> str:
        return f"For {whom} speaks most of all {because}" if best else f"{none.capitalize()} speaks for {whom}"

    if e.against is not None:
        chance = "" if e.parts.target == predicted else f" ({percent(float(e.probabilities[e.parts.target]))})"
        lead = f"<em>{name(e.target)}</em>{chance} and not <em>{name(e.against)}</em>"
        after = len(supporters(e, SUPPORTERS)) + 1
        other = next((text(marked(e.picture, i, after)) for i in opponents(e, 1)), none)
        return f"{said}. {speaks(lead)}; for <em>{name(e.against)}</em>, {other}."
    if e.parts.target != predicted:
        chance = percent(float(e.probabilities[e.parts.target]))
        return f"{said}. {speaks(f'<em>{name(e.target)}</em> ({chance})')}."
    if not best:
        return f"{said}, though no part of the picture speaks for it."
    share = float(e.parts.token[best[0]]) / float(e.parts.token.clamp(min=0).sum())
    if share < MANY:
        return f"{said}, because of many {e.level.many} together, most of all {because}."
    return f"{said}, {'mostly' if share >= MOSTLY else 'most of all'} because of {because}."
