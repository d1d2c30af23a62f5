"""Species: which variant of each part a bird has.

A species is a combination of part variants and nothing else: body colour, pose, light and background say nothing about
it. As in FunnyBirds, that is what makes the explanation of a class label checkable: two species that differ in the
tail alone can only be told apart by the tail.

Reference: Hesse, Schaub-Meyer & Roth, "FunnyBirds: A Synthetic Vision Dataset for a Part-Based Analysis of Explainable
AI Methods", ICCV 2023. The parts, shapes and code here are our own.
"""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "tail": ("forked", "fan", "streamer", "square", "wedge"),
    "legs": ("stilt", "webbed", "booted", "knobbed"),
    "crest": ("spike", "halo", "mohawk", "plume"),
    "pattern": ("bib", "streaks", "spots", "collar", "belly"),
    "wing": ("plain", "barred", "spotted", "tipped", "split"),
    "beak": ("cone", "long", "hooked", "spoon"),
    "eye": ("ring", "mask", "crimson", "brow"),
}
"""The variants of every part; 32,000 species in all."""

PARTS: tuple[str, ...] = tuple(VARIANTS)
"""The seven parts that tell species apart, in the order of ``Species.variants``."""


@dataclass(frozen=True)
class Species:
    """A combination of part variants.

    Attributes:
        name: What it's called, such as ``"fork-tailed tanager"``.
        variants: For each of ``PARTS``, the index into ``VARIANTS[part]``.

    Raises:
        ValueError: A part is missing or its variant doesn't exist.
    """

    name: str
    variants: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.variants) != len(PARTS):
            raise ValueError(
                f"`variants` must have one index for each of the {len(PARTS)} parts {PARTS}; got {self.variants}."
            )
        for part, variant in zip(PARTS, self.variants, strict=True):
            if not 0 <= variant < len(VARIANTS[part]):
                raise ValueError(
                    f"`variants` for {part} must be in 0 .. {len(VARIANTS[part]) - 1} {VARIANTS[part]}; got {variant}."
                )

    @property
    def part_names(self) -> dict[str, str]:
        """The variant of each part, by name: ``{"tail": "forked", ...}``."""
        return {part: VARIANTS[part][variant] for part, variant in zip(PARTS, self.variants, strict=True)}


# One row a family: its name, what its common species looks like, and its three other members, each of which differs
# from the common one in the single part that gives it its name.
_FAMILIES: tuple[tuple[str, tuple[str, ...], tuple[tuple[str, str, str], ...]], ...] = (
    (
        "tanager",
        ("square", "stilt", "spike", "bib", "plain", "cone", "ring"),
        (("fork-tailed", "tail", "forked"), ("hook-billed", "beak", "hooked"), ("bar-winged", "wing", "barred")),
    ),
    (
        "bunting",
        ("fan", "webbed", "halo", "streaks", "spotted", "long", "mask"),
        (("crimson-eyed", "eye", "crimson"), ("plumed", "crest", "plume"), ("belted", "pattern", "belly")),
    ),
    (
        "warbler",
        ("streamer", "booted", "mohawk", "spots", "tipped", "spoon", "crimson"),
        (("knob-kneed", "legs", "knobbed"), ("wedge-tailed", "tail", "wedge"), ("split-winged", "wing", "split")),
    ),
    (
        "finch",
        ("wedge", "knobbed", "plume", "collar", "split", "hooked", "brow"),
        (("spoon-billed", "beak", "spoon"), ("ring-eyed", "eye", "ring"), ("speckled", "pattern", "spots")),
    ),
    (
        "oriole",
        ("forked", "booted", "halo", "belly", "barred", "long", "ring"),
        (("spike-crested", "crest", "spike"), ("web-footed", "legs", "webbed"), ("square-tailed", "tail", "square")),
    ),
    (
        "starling",
        ("square", "knobbed", "mohawk", "streaks", "plain", "spoon", "brow"),
        (("cone-billed", "beak", "cone"), ("collared", "pattern", "collar"), ("tip-winged", "wing", "tipped")),
    ),
)


def demo_species() -> tuple[Species, ...]:
    """Return the 24 species of the demo: six families of four, members of one differing in one or two parts."""
    species = []
    for family, looks, members in _FAMILIES:
        common = tuple(VARIANTS[part].index(name) for part, name in zip(PARTS, looks, strict=True))
        species.append(Species(f"common {family}", common))
        for adjective, part, name in members:
            variants = list(common)
            variants[PARTS.index(part)] = VARIANTS[part].index(name)
            species.append(Species(f"{adjective} {family}", tuple(variants)))
    return tuple(species)


def training_species(n: int = 2000, seed: int = 0) -> tuple[Species, ...]:
    """Return ``n`` species for training the toy backbone, each at least two parts away from every demo species.

    The variants themselves are all seen in training; the demo's combinations of them, and their nearest neighbours,
    never are.

    Raises:
        ValueError: ``n`` < 1, or more than there are.
    """
    demo = [species.variants for species in demo_species()]
    combinations = [
        variants
        for variants in itertools.product(*(range(len(VARIANTS[part])) for part in PARTS))
        if all(sum(a != b for a, b in zip(variants, other, strict=True)) >= 2 for other in demo)
    ]
    if not 1 <= n <= len(combinations):
        raise ValueError(f"`n` must be in 1 .. {len(combinations)}, the species far enough from the demo's; got {n}.")
    drawn = random.Random(f"carrot toy training species {seed}").sample(combinations, n)
    return tuple(Species(f"training species {index:04d}", variants) for index, variants in enumerate(drawn))
