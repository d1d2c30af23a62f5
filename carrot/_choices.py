"""What is chosen by name, each list in one place: help, errors, tests, docs and exports run over it. Nothing is loaded.

Data sets are in ``carrot.data.opening.KINDS``, the metrics of explanations in ``carrot.protocol.metrics.METRICS``,
settings of an embedding in ``carrot.embedding.setting.AXES``.
"""

import re
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
