"""What an explanation is exact for, and what its regions are called, in words.

Patch tokens have seen the whole picture, tiles only themselves.
"""

from functools import cache
from typing import NamedTuple

from carrot._choices import MANY

COUNTED = "Regions, rows and columns count from 0, at the top left."


class Level(NamedTuple):
    """What regions have seen, and so what their numbers say.

    Attributes:
        name: "token" or "tile".
        line: In a line.
        exact: In a few sentences.
        meaning: As points of the page's last section: (what, why).
        one: What a region is, in a word.
        many: The same of several.
        alone: What the map of contributions adds up over.
        counted: How regions are numbered.
    """

    name: str
    line: str
    exact: str
    meaning: tuple[tuple[str, str], ...]
    one: str
    many: str
    alone: str
    counted: str

    def all(self, n: int) -> str:
        """Return all n regions of a picture in words."""
        return f"All {n} {self.many}" if n > 1 else f"The one {self.one}"

    def sum_name(self, key: str) -> str:
        """Return what one of ``LogitParts.sums`` adds up, in words."""
        return {
            "regions by token": f"what each {self.one} brings",
            "regions by node": f"what each {self.one} holds after sharing",
        }.get(key, key)


@cache
def level_of(kind: str) -> Level:
    """Return the words for regions of a kind, a key of ``carrot._choices.MANY``."""
    return _tiles(kind, MANY[kind]) if kind in ("tile", "box") else _tokens(kind, MANY[kind])


def _tokens(one: str, many: str) -> Level:
    return Level(
        "token",
        "token level: exact for tokens -> logit, no statement about pixels",
        "Sums are exact, to rounding, for the function from tokens to logit, and what-ifs equal removing and "
        "refitting. A token has seen the whole picture: nothing is said about single pixels.",
        (
            (
                "It is exact for tokens.",
                "A token is the list of numbers by which the vision model describes a region. From tokens to score "
                "nothing is estimated: sums add up, and what-ifs are what taking away and fitting again would give.",
            ),
            (
                "It says nothing about single pixels.",
                "The token of a region has seen the whole picture. A red square means that the evidence is held "
                "there. It doesn't prove that it was seen there.",
            ),
        ),
        one,
        many,
        "By its own token. All squares",
        COUNTED,
    )


def _tiles(one: str, many: str) -> Level:
    return Level(
        "tile",
        f"tile level: exact for the picture; each {one} saw its own pixels and nothing else",
        f"Sums are exact, to rounding, and what-ifs equal removing and refitting. Each {one} was cut out and seen "
        "alone: without it, the score is what the model says of the picture in which it is not shown.",
        (
            (
                "It is exact for the picture.",
                f"Each {one} was cut out, enlarged and looked at alone: what describes it is made of its own pixels "
                f"and of nothing else; how much it weighs may depend on the other {many}. Without a {one}, the score "
                f"is what the model says when that {one} is not shown. Sums add up, and what-ifs are what taking away "
                "and fitting again would give.",
            ),
            (
                f"It says nothing of what is inside of a {one}.",
                f"A {one} is the smallest thing that the model sees. The map has what it brings evenly on its middle, "
                f"though all that it saw may have to do with it. Where {many} overlap, their parts add up.",
            ),
        ),
        one,
        many,
        f"All {many}",
        COUNTED if one == "tile" else "Boxes count from 0, in the order in which they were given.",
    )


WHOLE = (
    "A share is told to be the whole picture's.",
    "The whole picture is one more region, whose part of the score is shown apart and lies on no map.",
)
