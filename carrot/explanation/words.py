"""The page's sentence and the numbers on it: what the model says, where it saw it, terms that add up as they are shown.

``page/view.js`` says the same of what a person supposes; ``tests/end_to_end/test_view.py`` holds the two together.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from carrot.explanation.drawing import name, text

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
NEARLY_ALL = 0.8  # of a picture's area
SUPPORTERS, OPPONENTS = 3, 2  # regions that are named and numbered: for an answer; of a lead, for the other class


def where(picture: "Picture", region: int) -> str:
    """Return where a region lies in plain words, and its name: "the middle, tile 4 (row 1, column 1 of 3 × 3)"."""
    called = picture.name(region).replace(" x ", "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}")
    if region >= len(picture.boxes):
        return picture.place(region)
    (w, h), (x0, y0, x1, y1) = picture.image.size, picture.boxes[region].tolist()
    if x1 <= x0 or y1 <= y0:
        return f"the padding, {called}"
    if (x1 - x0) * (y1 - y0) > NEARLY_ALL * w * h:
        return called
    column, row = (sum(middle > third for third in THIRDS) for middle in ((x0 + x1) / (2 * w), (y0 + y1) / (2 * h)))
    return f"{SIDES[row][column]}, {called}"


def marked(picture: "Picture", region: int, mark: int = 1) -> str:
    """Return where a numbered region lies, as a sentence has it: "the middle, marked 1"."""
    told = where(picture, region)
    if region >= len(picture.boxes):
        return told
    called = picture.name(region).replace(" x ", "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}")
    return f"{told.removesuffix(called).removesuffix(', ') or called}, marked {mark}"


def percent(p: float, digits: int = 1) -> str:
    """Return a probability in per cent as HTML, never rounded to certainty."""
    least, sign = 10.0**-digits, ""
    told = 100 * p
    if told >= 100 - least / 2 and p < 1:
        sign, told = "&gt; ", 100 - least
    elif 0 < told < least / 2:
        sign, told = "&lt; ", least
    shown = f"{sign}{told:.{digits}f}&nbsp;%"
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


def sentence(e: "Explanation") -> str:
    """Return what the model says and why, in one sentence, as HTML."""
    predicted = int(e.parts.logits.argmax())
    said = f"The model says <em>{name(e.classes[predicted])}</em> ({percent(float(e.probabilities[predicted]), 0)})"
    best, none = supporters(e, 1), "no part of the picture"
    because = text(marked(e.picture, best[0])) if best else none

    def speaks(whom: str) -> str:
        return f"For {whom} speaks most of all {because}" if best else f"{none.capitalize()} speaks for {whom}"

    if e.against is not None:
        chance = "" if e.parts.target == predicted else f" ({percent(float(e.probabilities[e.parts.target]), 0)})"
        lead = f"<em>{name(e.target)}</em>{chance} and not <em>{name(e.against)}</em>"
        after = len(supporters(e, SUPPORTERS)) + 1
        other = next((text(marked(e.picture, i, after)) for i in opponents(e, 1)), none)
        return f"{said}. {speaks(lead)}; for <em>{name(e.against)}</em>, {other}."
    if e.parts.target != predicted:
        chance = percent(float(e.probabilities[e.parts.target]), 0)
        return f"{said}. {speaks(f'<em>{name(e.target)}</em> ({chance})')}."
    if not best:
        return f"{said}, though no part of the picture speaks for it."
    share = float(e.parts.token[best[0]]) / float(e.parts.token.clamp(min=0).sum())
    if share < MANY:
        return f"{said}, because of many {e.level.many} together, most of all {because}."
    return f"{said}, {'mostly' if share >= MOSTLY else 'most of all'} because of {because}."
