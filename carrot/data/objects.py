"""Pictures of objects: another data set's, each cut to the box that it gives for the object.

What is outside of a box is no part of the picture: tiles are laid over the object, and nothing else is ever seen. A
picture that is asked about later is cut the same way: ``--box``, or ``Box.window`` of it in Python.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carrot.data.records import ImageDataset, Made, Record, Segmented, Window, label_kind_of, split_is_own
from carrot.errors import DataError


class Objects:
    """The objects of a data set with boxes, as a data set.

    Args:
        dataset: Where they are from: every record has a ``box``.

    Attributes:
        name: The other's.
        root: The folder that its ids are below; None: it has none.
        classes: The other's.
        records: The other's, in its order, each with a ``window``: the box, rounded outwards to whole pixels and kept
            inside the picture. ``parts`` count from its corner, and those outside are left out; ``box`` is None, for
            all of the picture is the object's.
        skipped: What the other set aside.

    Raises:
        DataError: A picture has no box.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset
        self.name, self.classes = dataset.name, dataset.classes
        self.root = getattr(dataset, "root", None)
        self.label_kind, self.split_is_own = label_kind_of(dataset), split_is_own(dataset)
        self.skipped: dict[str, str] = dict(getattr(dataset, "skipped", {}))
        without = [record.id for record in dataset.records if record.box is None]
        if without:
            raise DataError(
                f"{dataset.name}: {len(without)} of {len(dataset.records)} pictures have no box of their object; the "
                f"first: {without[0]}. Give each its box, or use the data set without object:."
            )
        self.records: Sequence[Record] = Made(dataset.records, _cut)

    def image(self, index: int) -> Image.Image:
        """Return object ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The picture can't be decoded, or its box lies outside of it.
        """
        record = self.dataset.records[index]
        return _window(record).of(self.dataset.image(index), record.id)

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Return the segmentation of object ``index``, cut as it is, if the data set has one."""
        mask = self.dataset.mask(index) if isinstance(self.dataset, Segmented) else None
        left, top, right, bottom = _window(self.dataset.records[index])
        return None if mask is None else mask[top:bottom, left:right]


def _window(record: Record) -> Window:
    return Window() if record.box is None else record.box.window  # None is refused when the data set is opened


def _cut(record: Record, place: int) -> Record:
    box = _window(record)
    moved = {name: (x - box.left, y - box.top) for name, (x, y) in record.parts.items()}
    width, height = (box.right or 0) - box.left, (box.bottom or 0) - box.top
    parts = {name: (x, y) for name, (x, y) in moved.items() if 0 <= x < width and 0 <= y < height}
    return replace(record, parts=parts, box=None, window=box.within(record.window))
