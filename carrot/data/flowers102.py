"""Oxford Flowers 102 in its official files: labels, split, and the segmentations where they were fetched too.

::

    jpg/image_<00001>.jpg
    imagelabels.mat            labels: the class, 1 to 102, of every picture, in order
    setid.mat                  trnid, valid, tstid: the picture numbers, from 1, of the three sides
    segmim/segmim_<00001>.jpg  the picture with its background painted blue; the folder may be absent

Reference: Nilsback, Zisserman: Automated Flower Classification over a Large Number of Classes, ICVGIP 2008.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carrot._images import image_size, open_image
from carrot.data.matlab import read_mat, whole
from carrot.data.records import Record, Split
from carrot.data.tables import Inside, each_is_trained, has_sign, repair, same_size, unpacked
from carrot.errors import DataError

FLOWERS: tuple[str, ...] = tuple(
    """pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon orchid,
    bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear thistle, yellow iris,
    globe-flower, purple coneflower, peruvian lily, balloon flower, giant white arum lily, fire lily, pincushion flower,
    fritillary, red ginger, grape hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke,
    sweet william, carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped cattleya,
    cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword lily, poinsettia,
    bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common dandelion, petunia, wild pansy, primula,
    sunflower, pelargonium, bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow dahlia, cautleya spicata,
    japanese anemone, black-eyed susan, silverbush, californian poppy, osteospermum, spring crocus, bearded iris,
    windflower, tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory, passion flower, lotus,
    toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose, tree mallow, magnolia, cyclamen,
    watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove, bougainvillea, camellia, mallow,
    mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry lily""".replace("\n    ", " ").split(", ")
)
"""The names of the classes in the order of their official numbers, which the official files don't hold."""

_ARCHIVE = "Flowers 102"
_FOLDER = "flowers-102"
_SIGNS = ("setid.mat", "imagelabels.mat")
_BLUE, _NEAR = np.array([0, 0, 254]), 48


class Flowers102:
    """Oxford Flowers 102, or any subset of it in the same file formats.

    Args:
        root: The folder of ``jpg``, ``setid.mat`` and ``imagelabels.mat``, or the one that contains it as
            ``flowers-102``.
        with_valid: Train on ``trnid`` and ``valid`` together, 20 pictures of each class: what linear probes of frozen
            features are reported on. False: on the 10 of ``trnid`` alone; ``valid`` is then left out.

    Attributes:
        name: ``"flowers102"``.
        classes: The names of those classes, in the order of their official numbers, that have a picture. Labels are
            0 .. C-1.
        records: Training pictures (``trnid``, ``valid``), then test pictures (``tstid``), in the order of the file;
            ``id`` is like ``jpg/image_00001.jpg``; ``mask`` is the file in ``segmim``, where there is one.

    Raises:
        DataError: A file is missing or malformed, a listed picture doesn't exist or lies outside of the folder, a class
            has no training picture.
    """

    def __init__(self, root: Path | str, with_valid: bool = True) -> None:
        self.name = "flowers102"
        self.root = unpacked(root, _FOLDER, _SIGNS, _ARCHIVE)
        class_ids = _class_ids(self.root / "imagelabels.mat")
        sides = _sides(self.root / "setid.mat", len(class_ids), with_valid)
        if "train" not in sides.values():
            raise DataError(f"{self.root / 'setid.mat'}: lists no training picture. {repair(_ARCHIVE)}")
        present = sorted({class_ids[number - 1] for number in sides})
        self.classes: tuple[str, ...] = tuple(FLOWERS[class_id - 1] for class_id in present)
        label_of_id = {class_id: label for label, class_id in enumerate(present)}
        records = []
        locate, masks = Inside(self.root / "jpg", _ARCHIVE), Inside(self.root / "segmim", _ARCHIVE)
        for number, split in sides.items():
            name = f"image_{number:05d}.jpg"
            file = locate(name, f"{self.root / 'setid.mat'}: picture {number}")
            label = label_of_id[class_ids[number - 1]]
            records.append(Record(f"jpg/{name}", label, split, file, mask=self._segmentation(masks, number)))
        self.records: Sequence[Record] = tuple(records)
        trained = {record.label for record in records if record.split == "train"}
        each_is_trained(self.classes, trained, self.root / "setid.mat", _ARCHIVE)

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The file can't be decoded.
        """
        return open_image(self.root / self.records[index].id)

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Return (img_h, img_w), True on the flower of picture ``index``; None without a segmentation.

        Background is what is within 48 of the blue (0, 0, 254) in every channel: JPEG blurs the flat colour by as much,
        beside the outline.

        Raises:
            UnreadableImageError: The segmentation or the picture can't be read.
            DataError: The segmentation isn't as large as its picture.
        """
        record = self.records[index]
        if record.mask is None:
            return None
        painted = open_image(record.mask)
        same_size(record.mask, painted.size, image_size(self.root / record.id), _ARCHIVE)
        return np.any(np.abs(np.asarray(painted).astype(int) - _BLUE) > _NEAR, axis=2)

    def _segmentation(self, masks: Inside, number: int) -> Path | None:
        folder, name = self.root / "segmim", f"segmim_{number:05d}.jpg"
        return masks(name, f"{folder}: {name}") if (folder / name).is_file() else None


def looks_like_flowers102(root: Path | str) -> bool:
    """Return whether ``root`` is, or contains, a folder of Flowers 102, complete or not."""
    return has_sign(root, _FOLDER, _SIGNS)


def _class_ids(file: Path) -> list[int]:
    (labels,) = read_mat(file, ["labels"], _ARCHIVE)
    class_ids = [whole(value, f"{file}: label {place}", _ARCHIVE) for place, value in enumerate(labels, start=1)]
    for place, class_id in enumerate(class_ids, start=1):
        if not 1 <= class_id <= len(FLOWERS):
            raise DataError(f"{file}: label {place} must be in 1 .. {len(FLOWERS)}; got {class_id}. {repair(_ARCHIVE)}")
    return class_ids


def _sides(file: Path, n_labels: int, with_valid: bool) -> dict[int, Split]:
    """Return the side of every picture by its number, in the order of the file."""
    names = ["trnid", "valid", "tstid"]
    sides: dict[int, Split] = {}
    seen: dict[int, str] = {}
    for name, numbers in zip(names, read_mat(file, names, _ARCHIVE), strict=True):
        for value in numbers:
            number = whole(value, f"{file}: {name}", _ARCHIVE)
            if not 1 <= number <= n_labels:
                what = f"{name} has picture {number}, and imagelabels.mat labels 1 .. {n_labels}"
                raise DataError(f"{file}: {what}. {repair(_ARCHIVE)}")
            if number in seen:
                raise DataError(f"{file}: picture {number} is in {seen[number]} and in {name}. {repair(_ARCHIVE)}")
            seen[number] = name
            if name != "valid" or with_valid:
                sides[number] = "test" if name == "tstid" else "train"
    return sides
