"""What an explanation is exact for, in words: patch tokens have seen the whole picture, tiles only themselves."""

from typing import NamedTuple


class Level(NamedTuple):
    """What regions have seen, and so what their numbers say.

    Attributes:
        name: "token" or "tile".
        line: In a line.
        exact: In a few sentences.
        meaning: As points of the page's last section: (what, why).
    """

    name: str
    line: str
    exact: str
    meaning: tuple[tuple[str, str], ...]


TOKEN = Level(
    "token",
    "token level: exact for tokens -> logit, no statement about pixels",
    "Sums are exact, to rounding, for the function from tokens to logit, and what-ifs equal removing and refitting. A "
    "token has seen the whole picture: nothing is said about single pixels.",
    (
        (
            "It is exact for tokens.",
            "A token is the list of numbers by which the vision model describes a region. From tokens to score nothing "
            "is estimated: sums add up, and what-ifs are what taking away and fitting again would give.",
        ),
        (
            "It says nothing about single pixels.",
            "The token of a region has seen the whole picture. A red square means that the evidence is held there. It "
            "doesn't prove that it was seen there.",
        ),
    ),
)
TILE = Level(
    "tile",
    "tile level: exact for the picture; each region saw the pixels of its box and nothing else",
    "Sums are exact, to rounding, and what-ifs equal removing and refitting. Each tile was cut out and seen alone: "
    "without it, the score is what the model says of the picture in which it is not shown.",
    (
        (
            "It is exact for the picture.",
            "Each tile was cut out, enlarged and looked at alone: what describes it is made of the pixels in its box "
            "and of nothing else; how much it weighs may depend on the other tiles. Without a tile, the score is what "
            "the model says when that tile is not shown. Sums add up, and what-ifs are what taking away and fitting "
            "again would give.",
        ),
        (
            "It says nothing of what is inside of a tile.",
            "A tile is the smallest thing that the model sees. Where tiles overlap, the map adds what they bring, each "
            "spread evenly over its box.",
        ),
    ),
)
WHOLE = (
    "A share is told to be the whole picture's.",
    "The whole picture is one more region, whose part of the score is shown apart and lies on no map.",
)
