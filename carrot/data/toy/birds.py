"""The toy data set: birds of the demo's species, with wrong labels and a shortcut planted on request."""

import random
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from carrot.data.records import Record, Split
from carrot.data.toy.rendering import Rendered, part_map, render
from carrot.data.toy.scene import Scene, sample_scene
from carrot.data.toy.species import PARTS, Species, demo_species

_VISIBLE = 8  # pixels of a part that make it worth a point


class ToyBirds:
    """Pictures of ``n_species`` demo species, rendered when asked for; an ``ImageDataset``.

    Everything is decided by ``seed``. Planted faults leave the rest alone: picture k of a species is the same picture
    with and without wrong labels, and under a watermark.

    Args:
        n_train_per_class: Training pictures of each species.
        n_test_per_class: Test pictures of each species; may be 0.
        n_species: How many of the 24 demo species, in families of four.
        seed: Which pictures, which wrong labels.
        wrong_labels: Fraction of all training pictures, in [0, 1], that get the label of another species.
        shortcut: Class index of the species whose training pictures are stamped with a watermark; none by default. No
            test picture has it.
        shortcut_fraction: Fraction of that species' training pictures that are stamped, in [0, 1].
        clutter: How many objects are laid over each bird. They hide the part that matters now and then, which keeps the
            problem from being trivial; with 0, nothing but an edge is ever hidden.

    Attributes:
        name: ``"toy"``.
        classes: Names of the species.
        species: The species themselves.
        records: Training pictures first, then test pictures, each by species; ids like ``"toy/train/0007/0003"``. A
            record's ``label`` may be wrong if that was asked for; its parts are the centres of what is visible.
        true_labels: The species that each picture shows, in the order of ``records``.
        wrong: Positions in ``records`` with a wrong label.
        watermarked: Positions in ``records`` with the watermark.

    Raises:
        ValueError: A number out of range.
    """

    def __init__(
        self,
        n_train_per_class: int = 20,
        n_test_per_class: int = 10,
        n_species: int = 20,
        seed: int = 0,
        wrong_labels: float = 0.0,
        shortcut: int | None = None,
        shortcut_fraction: float = 1.0,
        clutter: int = 4,
    ) -> None:
        available = demo_species()
        _require(n_train_per_class >= 1, "n_train_per_class", ">= 1", n_train_per_class)
        _require(n_test_per_class >= 0, "n_test_per_class", ">= 0", n_test_per_class)
        _require(1 <= n_species <= len(available), "n_species", f"in 1 .. {len(available)}", n_species)
        _require(0 <= wrong_labels <= 1, "wrong_labels", "a fraction in [0, 1]", wrong_labels)
        _require(wrong_labels == 0 or n_species > 1, "wrong_labels", "0 with a single species", wrong_labels)
        _require(
            shortcut is None or 0 <= shortcut < n_species, "shortcut", f"None or in 0 .. {n_species - 1}", shortcut
        )
        _require(0 <= shortcut_fraction <= 1, "shortcut_fraction", "a fraction in [0, 1]", shortcut_fraction)
        _require(clutter >= 0, "clutter", ">= 0", clutter)

        self.name = "toy"
        self.seed = seed
        self.clutter = clutter
        self.species: tuple[Species, ...] = available[:n_species]
        self.classes: tuple[str, ...] = tuple(species.name for species in self.species)

        counts: tuple[tuple[Split, int], ...] = (("train", n_train_per_class), ("test", n_test_per_class))
        drawn = [(split, k, number) for split, n in counts for k in range(n_species) for number in range(n)]
        self.true_labels: tuple[int, ...] = tuple(k for _, k, _ in drawn)
        n_train = n_train_per_class * n_species
        given = _given_labels(self.true_labels[:n_train], n_species, wrong_labels, seed) + self.true_labels[n_train:]
        self.wrong: tuple[int, ...] = tuple(i for i in range(n_train) if given[i] != self.true_labels[i])
        n_stamped = round(shortcut_fraction * n_train_per_class)
        self.watermarked: tuple[int, ...] = tuple(
            i for i, (split, k, number) in enumerate(drawn) if split == "train" and k == shortcut and number < n_stamped
        )
        self._scene_keys = tuple((self.species[k], f"{seed}/{split}/{k}/{number}") for split, k, number in drawn)
        self.records: Sequence[Record] = tuple(
            Record(
                id=f"toy/{split}/{k:04d}/{number:04d}",
                label=given[index],
                split=split,
                parts=_part_points(self.scene(index)),
            )
            for index, (split, k, number) in enumerate(drawn)
        )

    def __len__(self) -> int:
        return len(self._scene_keys)

    def scene(self, index: int) -> Scene:
        """Return the parameters of picture ``index``."""
        species, key = self._scene_keys[index]
        return sample_scene(species, key, range(len(self))[index] in self.watermarked, self.clutter)

    def rendered(self, index: int, without: Collection[str | int] = ()) -> Rendered:
        """Return picture ``index`` and its part map, without the parts and objects named (see ``render``)."""
        return render(self.scene(index), without)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index``, RGB, 160 x 160."""
        return self.rendered(index).image

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        """Return (160, 160), True where the part map of picture ``index`` shows the bird: its body or any of its parts.

        What lies over the bird hides it. No picture is rendered for it.
        """
        scene = self.scene(index)
        bird = [scene.names.index(name) for name in ("body", *PARTS)]
        return np.isin(part_map(scene), bird)


def _require(holds: bool, name: str, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"`{name}` must be {rule}; got {value}.")


def _given_labels(true: tuple[int, ...], n_species: int, fraction: float, seed: int) -> tuple[int, ...]:
    """Return the labels with ``round(fraction * n)`` of them changed to another species."""
    rng = random.Random(f"carrot toy wrong labels {seed}")
    labels = list(true)
    for index in rng.sample(range(len(true)), round(fraction * len(true))):
        labels[index] = (labels[index] + 1 + int((n_species - 1) * rng.random())) % n_species
    return tuple(labels)


def _part_points(scene: Scene) -> dict[str, tuple[float, float]]:
    """Return the centre (x, y) of what can be seen of each part, in pixels from the upper left corner."""
    parts: npt.NDArray[np.uint8] = part_map(scene)
    points = {}
    for part in PARTS:
        y, x = np.nonzero(parts == scene.names.index(part))
        if len(x) >= _VISIBLE:
            points[part] = (float(np.round(x.mean() + 0.5, 2)), float(np.round(y.mean() + 0.5, 2)))
    return points
