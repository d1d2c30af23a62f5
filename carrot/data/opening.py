"""Which reader opens what: the table of ``carrot.data`` and how a folder is recognised."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from carrot.data.adapters import HuggingFace, Torchvision
from carrot.data.aircraft import Aircraft, looks_like_aircraft
from carrot.data.cars import Cars, looks_like_cars
from carrot.data.cifar import Cifar10, Cifar100, looks_like_cifar10, looks_like_cifar100
from carrot.data.csv_folder import CsvFolder, looks_like_csv
from carrot.data.cub import Cub, looks_like_cub
from carrot.data.flowers102 import Flowers102, looks_like_flowers102
from carrot.data.folder import ImageFolder
from carrot.data.pets import Pets, looks_like_pets
from carrot.data.records import ImageDataset
from carrot.errors import DataError


class _Kind(NamedTuple):
    form: str  # how it is written
    open: Callable[[str], ImageDataset]
    recognise: Callable[[Path], bool] | None = None
    sign: str = ""  # what ``recognise`` looks for


def open_dataset(spec: Path | str, for_testing: bool = False) -> ImageDataset:
    """Open the data set that ``spec`` names: ``kind:WHERE`` as in the table of ``carrot.data``, or a path.

    What exists is a path, also if it is called ``toy`` or has a colon in its name. A path is opened by the reader whose own files
    lie in it, or in the official folder inside of it, and by ``ImageFolder`` if there are none.

    Args:
        spec: What to open.
        for_testing: The pictures are only to be tested on: of a folder or a table one class is enough.

    Raises:
        DataError: There is no such kind or path, a folder has the files of several kinds, or the reader refuses its files.
    """
    text = os.fspath(spec)
    if text and os.path.exists(text):
        return _open_path(Path(text), for_testing)
    kind, colon, where = text.partition(":")
    if kind in KINDS and (where or kind == "toy"):
        return _open(KINDS[kind], os.path.expanduser(where), for_testing)
    forms = ", ".join(entry.form for entry in KINDS.values())
    if kind in KINDS:
        raise DataError(f"{text}: says not where. Write {KINDS[kind].form}.")
    if colon and len(kind) > 1 and kind.isidentifier():
        raise DataError(
            f"{text}: there is no such path, and no kind {kind!r} of data set. Give a path, or one of {forms}."
        )
    raise DataError(f"{text}: there is no such file or folder. Give a path, or one of {forms}.")


def _open(entry: _Kind, where: str, for_testing: bool) -> ImageDataset:
    for reader in (ImageFolder, CsvFolder):
        if entry.open is reader:
            return reader(where, for_testing=for_testing)
    return entry.open(where)


def _open_path(path: Path, for_testing: bool) -> ImageDataset:
    found = [entry for entry in KINDS.values() if entry.recognise is not None and entry.recognise(path)]
    if len(found) > 1:
        forms = " or ".join(entry.form for entry in found)
        raise DataError(f"{path}: has the files of several data sets. Say which: {forms}.")
    if found:
        return _open(found[0], str(path), for_testing)
    try:
        return ImageFolder(path, for_testing=for_testing)
    except DataError as error:
        signs = ", ".join(f"{entry.sign} ({name})" for name, entry in KINDS.items() if entry.sign)
        raise DataError(f"{error} It was read as a folder of class folders, for it has none of {signs}.") from error


def _toy(where: str) -> ImageDataset:
    from carrot.data.toy import ToyBirds

    if where:
        raise DataError(f"toy:{where}: the toy data set lies nowhere: it is rendered. Write toy.")
    return ToyBirds()


def _torchvision(where: str) -> ImageDataset:
    name, _, root = where.partition(":")
    if not (name and root):
        raise DataError(f"torchvision:{where}: must name a class and a folder. Write {KINDS['torchvision'].form}.")
    return Torchvision(name, os.path.expanduser(root))


KINDS: dict[str, _Kind] = {
    "toy": _Kind("toy", _toy),
    "cub": _Kind("cub:DIR", Cub, looks_like_cub, "images.txt"),
    "pets": _Kind("pets:DIR", Pets, looks_like_pets, "annotations/trainval.txt"),
    "aircraft": _Kind("aircraft:DIR", Aircraft, looks_like_aircraft, "data/variants.txt"),
    "cars": _Kind("cars:DIR", Cars, looks_like_cars, "devkit/cars_meta.mat"),
    "flowers102": _Kind("flowers102:DIR", Flowers102, looks_like_flowers102, "setid.mat"),
    "cifar10": _Kind("cifar10:DIR", Cifar10, looks_like_cifar10, "batches.meta.txt"),
    "cifar100": _Kind("cifar100:DIR", Cifar100, looks_like_cifar100, "fine_label_names.txt"),
    "csv": _Kind("csv:FILE_OR_DIR", CsvFolder, looks_like_csv, "a .csv file with image and label"),
    "folder": _Kind("folder:DIR", ImageFolder),
    "torchvision": _Kind("torchvision:Name:DIR", _torchvision),
    "hf": _Kind("hf:NAME_OR_DIR", HuggingFace),
}
"""Every kind by its name. The names are stable: they stand in scripts and in stored settings."""
