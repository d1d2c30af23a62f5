"""Pictures with labels and a split: data sets on disk behind one ``Record`` type.

The rendered toy data set is ``carrot.data.toy``; it is imported by name only.
"""

from pathlib import Path

from carrot.data.cub import Cub, looks_like_cub
from carrot.data.folder import ImageFolder
from carrot.data.images import open_image
from carrot.data.pets import Pets, looks_like_pets
from carrot.data.records import ImageDataset, Record, Split, split_indices

__all__ = [
    "Cub",
    "ImageDataset",
    "ImageFolder",
    "Pets",
    "Record",
    "Split",
    "open_dataset",
    "open_image",
    "split_indices",
]


def open_dataset(root: Path | str) -> ImageDataset:
    """Open the data set in ``root``: ``Cub`` or ``Pets`` if it has one of their own files, otherwise ``ImageFolder``.

    Raises:
        DataError: The folder, its files or labels are not what the format says.
    """
    if looks_like_cub(root):
        return Cub(root)
    return Pets(root) if looks_like_pets(root) else ImageFolder(root)
