"""Numbers as people say them: how many of what, shares in per cent, and how sure one is of a share."""

import math
from decimal import ROUND_HALF_UP, Decimal

Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


def counted(n: int, one: str, many: str = "") -> str:
    """Return a number of things: "1 picture", "2 pictures".

    Args:
        n: How many.
        one: What they are called, of one.
        many: Of several; default: with an s.
    """
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def are(n: int) -> str:
    """Return the verb that goes with a number of things."""
    return "is" if n == 1 else "are"


def percent(p: float, digits: int = 1) -> str:
    """Return a share in per cent, never rounded to certainty; halves are rounded up, as JavaScript does."""
    least = 10.0**-digits
    told = 100 * p
    if told >= 100 - least / 2 and p < 1:
        return f"> {100 - least:.{digits}f} %"
    if 0 < told < least / 2:
        return f"< {least:.{digits}f} %"
    return f"{Decimal(told).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)} %"


def wilson(p: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share p that was seen in n independent trials (Wilson's).

    ::

        (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)                                     (1)

    It holds for few trials and for shares of 0 and 1 too, where p -+ z sqrt(p (1 - p) / n) would claim certainty.

    Reference: Wilson, JASA 22 (1927).
    """
    z2 = Z * Z / n
    middle, half = p + z2 / 2, Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n))  # z2 carries a 1/n already
    return max(0.0, (middle - half) / (1 + z2)), min(1.0, (middle + half) / (1 + z2))


def between(p: float, n: int, digits: int = 1) -> str:
    """Return that interval in per cent, rounded outwards so that no end is called certain: "87.9 to 100.0 %"."""
    (low, high), unit = wilson(p, n), 10**digits
    return f"{math.floor(100 * low * unit) / unit:.{digits}f} to {math.ceil(100 * high * unit) / unit:.{digits}f} %"
