"""From what a user calls data to the rows that a head is fitted on."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from carrot.data import ImageDataset, open_dataset, split_indices
from carrot.data.given import as_dataset, is_labelled, whole_folder
from carrot.data.inputs import PictureList
from carrot.data.labels import Labels
from carrot.data.opening import KINDS, require_place, resolved
from carrot.data.records import Subset, labels_of
from carrot.data.reporting import warn_of_twins
from carrot.embedding.cache import TokenCache
from carrot.embedding.encoder import Encoder
from carrot.embedding.kept import KeptTokens
from carrot.embedding.setting import Setting
from carrot.errors import DataError
from carrot.lift import lift_from


def training_set(data: Any, y: Labels | None) -> tuple[Subset, str | None]:
    """Return the training pictures of what a user calls data, and the folder or spec, if it was one.

    Raises:
        DataError: The data set is not what its format says, has no training picture of a class, or only one class.
        TypeError: ``data`` is something else; the message names the ways.
        ValueError: ``y`` is given with a data set.
    """
    spec = None
    if y is not None:
        is_named = isinstance(data, str | Path) and (os.path.isdir(data) or str(data).partition(":")[0] in KINDS)
        if is_named or is_labelled(data):
            what = repr(str(data)) if is_named else f"this {type(data).__name__}"
            raise ValueError(
                f"`y` goes with pictures, and {what} is a data set, whose labels are its own. Leave `y` out."
            )
        data = PictureList(data, y)
        warn_of_twins(data.classes, "`y`")
    elif isinstance(data, str | Path):
        spec, data = resolved(str(data)), open_dataset(data)
    else:
        folder, data = whole_folder(data), as_dataset(data)
        if folder is not None:
            warnings.warn(
                f"`data`, {data.name} of {folder}: has no split, so that all of its {len(data.records)} pictures are "
                f"for training and none is held out. By its path, {folder!r}, every fifth picture of a class is held "
                "out; or give a `Subset`.",
                stacklevel=3,
            )
    train = Subset(data, split_indices(data, "train"))
    if not train.records:
        raise DataError(f"{data.name}: has no training pictures.")
    if len(train.classes) < 2:
        raise DataError(
            f"{data.name}: needs pictures of at least two classes; got only {train.classes[0]!r}. There is nothing to "
            "tell apart."
        )
    refuse_empty_classes(train, range(len(train.records)))
    return train, spec


def require_named(data: Any, y: Labels | None) -> None:
    """Refuse a data set whose name alone tells that it is none: cheap, where ``training_set`` may take long.

    Raises:
        DataError: It is none.
    """
    if y is None and isinstance(data, str | Path):
        require_place(data)


class Caches:
    """The tokens of a training set, one cache for each way of looking at its pictures.

    Args:
        encoder: What makes tokens.
        train: The training set.
        root: Where they lie.
    """

    def __init__(self, encoder: Encoder, train: Subset, root: Path) -> None:
        self._encoder, self._train, self._root = encoder, train, root
        self._made: dict[tuple[str, int, bool], TokenCache] = {}

    def of(self, s: Setting) -> TokenCache:
        """Return the cache of a setting: of patches, or of its tiles; computed, or found.

        Raises:
            StoreError: It is of other pictures or of another backbone.
        """
        way = (s.regions, s.tile_size, s.is_tiled and bool(s.global_share))
        if way not in self._made:
            self._made[way] = self._encoder.of(s).cache(self._train, self._root)
        return self._made[way]

    def readable(self) -> tuple[list[int], Int[Tensor, " n"]]:
        """Return the rows of the pictures that could be read by all that were made, and their labels.

        Raises:
            DataError: A class has none.
        """
        there = [set(cache.rows) for cache in self._made.values()]
        rows = sorted(set.intersection(*there))
        refuse_empty_classes(self._train, rows)
        return rows, torch.from_numpy(labels_of(self._train.records)[rows].astype("int64"))

    @property
    def errors(self) -> dict[str, str]:
        """What is wrong with the others, by record id."""
        return {name: what for cache in self._made.values() for name, what in cache.errors.items()}

    def kept(self, s: Setting) -> KeptTokens:
        """Return where the stores of a setting lie, and those of all others that were made."""

        def places(cache: TokenCache) -> list[tuple[str, str]]:
            return [(str(store.folder.resolve()), store.key) for store in cache.stores]

        own = places(chosen := self.of(s))
        others = dict.fromkeys(place for cache in self._made.values() for place in places(cache) if place not in own)
        folders, keys = zip(*own, strict=True)
        return KeptTokens(folders, keys, chosen.layout, tuple(others))


@contextmanager
def tokens_of(encoder: Encoder, train: Subset, root: str | Path | None) -> Iterator[Caches]:
    """Give the tokens of a training set, below ``root``, or in a temporary folder that is deleted afterwards."""
    if root is not None:
        yield Caches(encoder, train, Path(root))
        return
    with TemporaryDirectory(prefix="carrot-") as temporary:
        yield Caches(encoder, train, Path(temporary))


def refuse_empty_classes(dataset: ImageDataset, rows: Sequence[int]) -> None:
    """Refuse rows of a data set that leave a class without a picture.

    Raises:
        DataError: They do; the message names it.
    """
    there = set(labels_of(dataset.records)[list(rows)].tolist())
    missing = sorted(set(range(len(dataset.classes))) - there)
    if missing:
        raise DataError(
            f"{dataset.name}: class {dataset.classes[missing[0]]!r} has no training picture that can be read "
            f"({len(missing)} of {len(dataset.classes)} classes). Add some, or leave the class out."
        )


def refuse_too_large(s: Setting, n: int, D: int, most: int) -> None:
    """Refuse a lift whose n embeddings would take more than ``most`` bytes.

    Raises:
        ValueError: They would.
    """
    M = lift_from(s.lift).dim(D)
    if 8 * n * M > most:
        raise ValueError(
            f"`lift` = {s.lift} makes {M:,} numbers of each of {n:,} pictures, {8 * n * M / 2**30:.0f} GiB. Use "
            'lift="sketch:8192", which approximates it, or "identity".'
        )
