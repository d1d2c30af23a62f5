"""Which reader opens what: the table of ``carrot.data`` and how a folder is recognised."""

import json
import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from carrot.data.adapters import HuggingFace, Torchvision
from carrot.data.addresses import is_address, mended, public
from carrot.data.aircraft import Aircraft, looks_like_aircraft
from carrot.data.cars import Cars, looks_like_cars
from carrot.data.cifar import Cifar10, Cifar100, looks_like_cifar10, looks_like_cifar100
from carrot.data.csv_folder import CsvFolder, looks_like_csv
from carrot.data.csv_table import EXTENSIONS, table_files, why_no_table
from carrot.data.cub import Cub, looks_like_cub
from carrot.data.flowers102 import Flowers102, looks_like_flowers102
from carrot.data.folder import ImageFolder
from carrot.data.objects import Objects
from carrot.data.parquet import ParquetShards, looks_like_parquet, parquet_files
from carrot.data.pets import Pets, looks_like_pets
from carrot.data.records import ImageDataset
from carrot.data.remote import AddressFolder, AddressTable, lists_addresses
from carrot.data.walking import visible, why_unread
from carrot.data.webdataset import WebDataset, looks_like_shards, tar_files
from carrot.errors import DataError


class _Kind(NamedTuple):
    form: str  # how it is written
    open: Callable[..., ImageDataset]  # of where it is, and whether it is for testing only where that matters
    recognise: Callable[[Path], bool] | None = None
    sign: str = ""  # what ``recognise`` looks for
    listed: Callable[[str], object] | None = None  # refuses what isn't there, where opening it is dear


def open_dataset(spec: Path | str, for_testing: bool = False) -> ImageDataset:
    """Open the data set that ``spec`` names: ``kind:WHERE`` as in the table of ``carrot.data``, or a path.

    What exists is a path, also if it is called ``toy`` or has a colon in its name. A path is opened by the reader whose
    own files lie in it, or in the official folder inside of it, and by ``ImageFolder`` if there are none.

    Args:
        spec: What to open.
        for_testing: The pictures are only to be tested on: of a folder or a table one class is enough.

    Raises:
        TypeError: ``spec`` is neither text nor a path.
        DataError: There is no such kind or path, a folder has the files of several kinds, or the reader refuses its
            files.
    """
    entry, where = _named(spec)
    return _open_path(Path(where), for_testing) if entry is None else _open(entry, where, for_testing)


def require_place(spec: Path | str) -> str:
    """Refuse what its name alone tells to be no data set, before anything dear is done; return it as ``resolved``.

    No picture of what is there is looked for: that may take long.

    Raises:
        TypeError, DataError: As ``open_dataset``.
    """
    entry, where = _named(spec)
    if entry is None:
        _refuse_others(Path(where))
    elif entry.open is _objects:
        require_place(where)
    elif entry.listed is not None:
        entry.listed(_options(where, ("image", "label"))[0])
    elif where and not (os.path.exists(where) or is_address(where) or entry.open in (_torchvision, HuggingFace)):
        entry.open(where)  # which refuses it, in the words of its reader
    return resolved(os.fspath(spec))


def _named(spec: Path | str) -> tuple[_Kind | None, str]:
    """Return which kind is written, and where; None and the path where one is there, or nothing else can be meant."""
    text = os.fspath(spec) if isinstance(spec, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(
            f"A data set must be named by a path or kind:WHERE, as a str or a Path; got {type(spec).__name__}."
        )
    for found in (text, os.path.expanduser(text)):
        if found and os.path.exists(found):
            return None, found
    text = mended(text)
    if is_address(text):
        return _at_address(text)
    kind, colon, where = text.partition(":")
    if kind in KINDS and (where or kind == "toy"):
        return KINDS[kind], os.path.expanduser(where)
    forms = ", ".join(entry.form for entry in KINDS.values())
    if kind in KINDS:
        raise DataError(f"{text}: says not where. Write {KINDS[kind].form}.")
    if colon and len(kind) > 1 and kind.isidentifier():
        meant = f"Did you mean {kind.lower()}:? " if kind.lower() in KINDS else ""
        raise DataError(
            f"{text}: there is no such path, and no kind {kind!r} of data set. {meant}Give a path, or one of {forms}."
        )
    raise DataError(f"{text}: there is no such file or folder. Give a path, or one of {forms}.")


def _at_address(text: str) -> tuple[_Kind, str]:
    """Return the kind of what lies at an address, by its name."""
    plain = public(text)
    ending = os.path.splitext(plain.partition("#")[0])[1].lower()
    by_ending = {".parquet": "parquet", ".tar": "wds", **dict.fromkeys(EXTENSIONS, "csv")}
    if text.partition("://")[0].lower() in ("http", "https", "ftp"):
        raise DataError(
            f"{plain}: an address is not opened. Download the data set, unpack it, and give its folder; shards are "
            "read where they are: wds:ADDRESS, parquet:ADDRESS."
        )
    return KINDS[by_ending.get(ending, "folder")], text


def resolved(data: str) -> str:
    """Return a folder, or ``kind:PATH``, so that it is found from any working directory; of an address no keys."""
    if os.path.exists(data):
        return str(Path(data).resolve())
    data = mended(data)
    if is_address(data) or re.match(r"(object:)*(wds|parquet|csv|folder):[a-z0-9+.]+://", data):
        found = public(data)
        options = data.rpartition("#")[2] if re.search(r"[?][^#]*#[a-z]+=", data) else ""
        return f"{found}#{options}" if options else found
    shards = re.match(r"((?:object:)*(?:wds|parquet):)(.+)", data)
    if shards:
        return f"{shards[1]}{os.path.abspath(os.path.expanduser(shards[2]))}"
    kind, colon, path = data.rpartition(":")
    return f"{kind}:{Path(path).resolve()}" if colon and os.path.exists(path) else data


def _open(entry: _Kind, where: str, for_testing: bool) -> ImageDataset:
    if entry.open is _objects:
        return Objects(open_dataset(where, for_testing))
    if entry.open in (_webdataset, _parquet, _folder, _table):
        return entry.open(where, for_testing)
    return entry.open(where)


def _open_path(path: Path, for_testing: bool) -> ImageDataset:
    _refuse_others(path)
    found = [entry for entry in KINDS.values() if entry.recognise is not None and entry.recognise(path)]
    if len(found) > 1:
        forms = " or ".join(entry.form for entry in found)
        raise DataError(f"{path}: has the files of several data sets. Say which: {forms}.")
    if found:
        return _open(found[0], str(path), for_testing)
    tables = [(file, why_no_table(file)) for file in table_files(path)]
    usable = [file for file, wrong in tables if not wrong]
    try:
        opened = ImageFolder(path, for_testing=for_testing)
    except DataError as error:
        if tables:
            advice = (
                f" To read its table, give csv:{usable[0]}." if usable else f" Its table can't be used: {tables[0][1]}"
            )
            raise DataError(f"{error}{advice}") from error
        if sum(entry.is_dir() for entry in visible(path)) > 1:
            raise  # it has folders: what is wrong with them has been said
        signs = ", ".join(f"{entry.sign} ({name})" for name, entry in KINDS.items() if entry.sign)
        raise DataError(f"{error} It was read as a folder of class folders, for it has none of {signs}.") from error
    if usable:
        message = f"{path}: is read by its class folders, not by its table. To read the table, give csv:{usable[0]}"
        warnings.warn(message, stacklevel=3)
    return opened


def _refuse_others(path: Path) -> None:
    """Refuse a file that is no table, and a model."""
    if path.is_dir():
        _refuse_model(path)
    elif not (looks_like_csv(path) or looks_like_shards(path) or looks_like_parquet(path)):
        _refuse_other_file(path)


def _refuse_other_file(path: Path) -> None:
    if why_unread(path) is not None:
        advice = "is not a folder, but one picture. Give a folder of pictures, or a table of them"
    else:
        advice = "is not a folder, nor a table that is read. Give a folder, or save it as CSV; csv:FILE reads any text"
    raise DataError(f"{path}: {advice}.")


def _refuse_model(path: Path) -> None:
    """Refuse a model's folder: it holds folders too, and no data set."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(config, dict) and config.get("format") == "carrot model":
        raise DataError(f"{path}: is a model that CARROT saved, not a data set. Give the folder of the pictures.")


def _folder(where: str, for_testing: bool = False) -> ImageDataset:
    if is_address(mended(where)):
        return AddressFolder(mended(where), for_testing=for_testing)
    # who writes ``folder:`` says that it is one of class folders
    return ImageFolder(where, nested=True, for_testing=for_testing)


def _table(where: str, for_testing: bool = False) -> ImageDataset:
    place = mended(where)
    if is_address(place) or (os.path.isfile(place) and lists_addresses(place)):
        return AddressTable(place, for_testing=for_testing)
    return CsvFolder(where, for_testing=for_testing)


def _toy(where: str) -> ImageDataset:
    from carrot.data.toy import ToyBirds

    if where:
        raise DataError(f"toy:{where}: the toy data set lies nowhere: it is rendered. Write toy.")
    return ToyBirds()


def _objects(where: str) -> ImageDataset:
    return Objects(open_dataset(where))


def _torchvision(where: str) -> ImageDataset:
    name, _, root = where.partition(":")
    if not (name and root):
        raise DataError(f"torchvision:{where}: must name a class and a folder. Write {KINDS['torchvision'].form}.")
    return Torchvision(name, os.path.expanduser(root))


def _webdataset(where: str, for_testing: bool = False) -> ImageDataset:
    shards, options = _options(where, ("label",))
    return WebDataset(shards, for_testing=for_testing, **options)


def _parquet(where: str, for_testing: bool = False) -> ImageDataset:
    shards, options = _options(where, ("image", "label"))
    return ParquetShards(shards, for_testing=for_testing, **options)


def _options(where: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return a pattern, and what is written behind it: ``#label=json:category&...``.

    Raises:
        DataError: An option isn't known.
    """
    found = re.search(r"#([a-z]+=[^#]*)$", where)
    if os.path.exists(where) or found is None:
        return mended(where), {}
    options = dict(part.partition("=")[::2] for part in found[1].split("&"))
    for name, value in options.items():
        if name not in known or not value:
            raise DataError(
                f"{public(where)}: {name}={value} is no option of such shards. Known are "
                f"{', '.join(f'#{one}=...' for one in known)}."
            )
    return mended(where[: found.start()]), options


KINDS: dict[str, _Kind] = {
    "toy": _Kind("toy", _toy),
    "cub": _Kind("cub:DIR", Cub, looks_like_cub, "images.txt"),
    "pets": _Kind("pets:DIR", Pets, looks_like_pets, "annotations/trainval.txt"),
    "aircraft": _Kind("aircraft:DIR", Aircraft, looks_like_aircraft, "data/variants.txt"),
    "cars": _Kind("cars:DIR", Cars, looks_like_cars, "devkit/cars_meta.mat"),
    "flowers102": _Kind("flowers102:DIR", Flowers102, looks_like_flowers102, "setid.mat"),
    "cifar10": _Kind("cifar10:DIR", Cifar10, looks_like_cifar10, "batches.meta.txt"),
    "cifar100": _Kind("cifar100:DIR", Cifar100, looks_like_cifar100, "fine_label_names.txt"),
    "csv": _Kind("csv:FILE_OR_DIR", _table, looks_like_csv, "a .csv or .tsv file with image and label"),
    "folder": _Kind("folder:DIR", _folder),
    "object": _Kind("object:DATA", _objects),
    "wds": _Kind("wds:SHARDS", _webdataset, looks_like_shards, ".tar files", tar_files),
    "parquet": _Kind("parquet:SHARDS", _parquet, looks_like_parquet, ".parquet files", parquet_files),
    "torchvision": _Kind("torchvision:Name:DIR", _torchvision),
    "hf": _Kind("hf:NAME_OR_DIR", HuggingFace),
}
"""Every kind by its name. The names are stable: they stand in scripts and in stored settings."""
