"""What the answer is made of, in a few terms: the regions that count most, the others, the start.

They add up to the score, also as they are shown; the page and the figure have the same.
"""

from typing import TYPE_CHECKING, NamedTuple

from carrot.explanation.words import ROUNDING, digits_for, numbered, rounded, where

if TYPE_CHECKING:
    from carrot.explanation.record import Explanation

START = {
    False: "Start: what the average training picture gets",
    True: "Start: what a picture gets of which nothing is shown",
}


class Term(NamedTuple):
    """One line of a sum.

    Attributes:
        mark: Number of a region that is marked on the picture, from 0; None: it stands for several, or for none.
        told: What it is, as raw text.
        value: Its part of the score.
        shown: The same with its sign, rounded so that all terms add up as they are shown.
    """

    mark: int | None
    told: str
    value: float
    shown: str


def terms(e: "Explanation") -> tuple[list[Term], str]:
    """Return the numbered regions, all others and the start; and the score that they add up to, as shown."""
    p, local = e.parts, len(e.picture.boxes)
    best = numbered(e)
    rows: list[tuple[int | None, str, float]] = [
        (k, where(e.picture, i), float(p.token[i])) for k, i in enumerate(best)
    ]
    others = [i for i in range(local) if i not in best]
    if others:
        several = f"All {len(others):,}{' other' if best else ''} {e.level.many}"
        told = several if len(others) > 1 else f"The {'other' if best else 'one'} {e.level.one}"
        rows.append((None, told, float(p.token[others].sum())))
    whole = [i for i in range(local, len(p.token)) if i not in best]
    if whole:
        rows.append((None, "The whole picture, as a region of its own", float(p.token[whole].sum())))
    if abs(p.prior) > ROUNDING:
        rows.append((None, START[p.is_additive], p.prior))
    values = [value for _, _, value in rows]
    digits = digits_for([*values, p.logit])
    shown, total = rounded(values, p.logit, digits), rounded([p.logit], p.logit, digits)[0]
    return [Term(*row, number) for row, number in zip(rows, shown, strict=True)], total
