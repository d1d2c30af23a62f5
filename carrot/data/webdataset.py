"""WebDataset: shards that are tar files; the files of one sample follow each other, and have one name up to a dot.

::

    train-000000.tar:  n01440764_10026.jpg  n01440764_10026.cls  n01440764_10029.jpg  n01440764_10029.cls  ...

That is the layout of the packages webdataset and wids, of img2dataset (``key.jpg``, ``key.txt``, ``key.json``) and of
CLIP benchmark's data sets (``train/0.tar``, ``classnames.txt``). The label is what ``key.cls`` says; without any, what
``key.json`` says under ``label``, ``class`` or another usual name; without that ``key.txt``. Another place is written
behind the pattern: ``#label=cls``, ``#label=txt``, ``#label=json:category`` (``json:a.b``: inside of ``a``), or
``#label=folder``, the folder of the key.

Numbers get the names that ``classnames.txt`` or ``classes.txt``, a line each, beside the shards gives. Shards are for
training or for testing by their names (``train-000000.tar``, ``val/000000.tar``), see ``carrot.data.splits``; where
none says, every fifth picture of a class is for testing.

Headers are read when the data set is opened, and pictures where they lie: nothing is unpacked, no name in a tar becomes
a path, and members that would have to be unpickled (``.pyd``, ``.pth``) are left alone. Of a shard at an address all
bytes pass by once, for headers lie between the pictures.
"""

import json
import os
import warnings
from array import array
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from carrot._progress import progress
from carrot.data.addresses import Ranges, is_address, public, size_of, whole, why
from carrot.data.columns import Names
from carrot.data.csv_table import columns_of
from carrot.data.patterns import Shards, shards_of, side_of
from carrot.data.samples import JSON, PICKLED, key_of, samples_of
from carrot.data.sharded import Sharded, Table
from carrot.data.tables import natural
from carrot.data.tar import DamagedTarError, Member, members
from carrot.errors import DataError

_LOOKED_AT = 64  # members, to see where labels are
_CLASS_FILES = ("classnames.txt", "classes.txt")
_READERS = 4  # threads, for shards at addresses


class WebDataset(Sharded):
    """Pictures in the tar files of a WebDataset.

    Args:
        shards: A folder of ``.tar`` files, one of them, a pattern such as ``train-{000000..000099}.tar``, an address
            of one of these, or the ``.json`` index of wids.
        label: Where labels are: ``cls``, ``txt``, ``json:KEY`` or ``folder``; None: it is found out.
        for_testing: The pictures are only to be tested on: one class is enough, and no shard need be for training.

    Attributes:
        name: The name of the folder of the shards.
        classes: The names that a file of class names beside the shards gives, or the labels of training pictures.
        records: Training pictures, then test pictures, shard by shard; ``id`` is SHARD/NAME as it stands in the tar.
        skipped: What was set aside, the reason by ``id``, or by the name of a whole shard.

    Raises:
        DataError: There are no shards, none can be read, no labels are found, or fewer than two classes.
    """

    def __init__(self, shards: str | Path, label: str | None = None, for_testing: bool = False) -> None:
        spec = f"wds:{shards}"
        found, expected = _found(str(shards))
        ranges = Ranges()
        given = label
        label = label or _where(public(spec), found, ranges)
        look = partial(samples_of, ranges, label)
        names, codes, known = Names(), array("i"), dict[str, int]()
        place, offsets, sizes = array("i"), array("q"), array("q")
        aside = dict.fromkeys(found.missing, "there is no such shard")
        unread: Counter[str] = Counter()
        keys = array("q")
        for number, one in enumerate(_each(look, found, public(spec))):
            shard = found.names[number]
            aside |= {f"{shard}/{name}" if name else shard: reason for name, reason in one.aside.items()}
            if expected.get(number, len(one.names)) != len(one.names):
                aside[f"{shard} (its index)"] = f"says {expected[number]} samples; it holds {len(one.names)}"
            names.extend(one.names)
            offsets += one.offsets
            sizes += one.sizes
            place.extend([number] * len(one.names))
            codes.extend(-1 if text is None else known.setdefault(text, len(known)) for text in one.labels)
            keys += one.keys
            unread += one.unread
        if given is None and label == "txt" and 2 * len(known) > len(codes) > 2:
            raise DataError(
                f"{public(spec)}: its .txt files look like captions: {len(known)} different ones of {len(codes)}. Say "
                "where labels are: #label=json:KEY, #label=folder, or #label=txt if each is a class."
            )
        sides = [side_of(name) for name in found.names]
        split = sorted({side for side in sides if side}, key=natural)
        of_shard = np.array([split.index(side) if side else -1 for side in sides], np.int8)
        shard_of = np.array(place, np.int32)
        _tell(public(spec), unread, np.array(keys, np.int64), of_shard[shard_of])
        declared = _class_names(found) if label == "cls" and all(map(str.isdecimal, known)) else None
        table = Table(
            shard_of, names, np.array(codes, np.int32), list(known), of_shard[shard_of], split, declared, aside
        )
        super().__init__(spec, _name(found), found.places, found.names, table, for_testing)
        self._offsets = np.array(offsets, np.int64)[self._row]
        self._sizes = np.array(sizes, np.int64)[self._row]

    def content(self, index: int) -> bytes:
        """Return the bytes of picture ``index``, as its file would have them.

        Raises:
            UnreadableImageError: They can't be read, or are more than 1 GiB.
        """
        shard = self._places[self._shard[index]]
        return self._ranges.picture(shard, int(self._offsets[index]), int(self._sizes[index]), self._called(index))


def looks_like_shards(path: Path) -> bool:
    """Return whether a path is a tar file, or a folder of them without folders."""
    if not path.is_dir():
        return path.suffix.lower() == ".tar" and path.is_file()
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    return any(e.suffix == ".tar" for e in entries) and not any(e.is_dir() for e in entries)


def tar_files(shards: str) -> Shards:
    """Return the shards that a pattern names.

    Raises:
        DataError: None is there.
    """
    return _found(shards)[0]


def _found(shards: str) -> tuple[Shards, dict[int, int]]:
    """Return the shards, and how many samples wids' index says that each has, if there is one."""
    if not shards.endswith(".json"):
        return shards_of(shards, ".tar"), {}
    try:
        listed = json.loads(whole(shards))["shardlist"]
        urls, counts = [one["url"] for one in listed], [one.get("nsamples") for one in listed]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{public(shards)}: is no index of wids: {type(error).__name__}: {why(error)}. Give the shards themselves."
        ) from error
    base = shards.rpartition("/")[0]
    places = [url if is_address(url) or not base or os.path.isabs(url) else f"{base}/{url}" for url in urls]
    names = [public(url).rpartition("/")[2] for url in urls]
    if not places or len(set(names)) < len(names):
        raise DataError(f"{public(shards)}: must list shards, no two of one name; got {len(names)}. Correct it.")
    return Shards(tuple(places), tuple(names), ()), {i: n for i, n in enumerate(counts) if isinstance(n, int)}


def _name(found: Shards) -> str:
    folder = public(found.places[0]).rpartition("/")[0]
    return (folder if is_address(folder) else str(Path(folder).resolve())).rpartition("/")[2] or "shards"


def _each(look: Any, found: Shards, spec: str) -> Any:
    """Yield what each shard holds, in their order; shards at addresses are read several at a time."""
    pool = ThreadPoolExecutor(_READERS) if is_address(found.places[0]) else None
    try:
        each = map(look, found.places) if pool is None else pool.map(look, found.places)
        yield from progress(each, f"listing {spec}", len(found.places), "shards", brief=True)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _where(spec: str, found: Shards, ranges: Ranges) -> str:
    """Return where labels are, by the first members of the first shards.

    Raises:
        DataError: Nothing there is a label.
    """
    some: list[Member] = []
    said: tuple[str, Member] | None = None
    for place in found.places:
        try:
            for batch in members(ranges.reader(place), size_of(place)):
                some += batch
                said = said or next(((place, m) for m in batch if key_of(m.name)[1] == "json"), None)
                if len(some) >= _LOOKED_AT:
                    break
        except (DamagedTarError, OSError):
            pass  # it is told when all are read
        if len(some) >= _LOOKED_AT:
            break
    endings = Counter(ending for _, ending in (key_of(member.name) for member in some) if ending)
    if "cls" in endings:
        return "cls"
    keys = [] if said is None else _keys(said[1], ranges.reader(said[0]))
    named = ["cls"] if "cls" in keys else [keys[column] for column in columns_of(keys)["label"]]
    if len(named) == 1:
        return f"json:{named[0]}"
    if "txt" in endings:
        return "txt"
    if endings:
        has = ", ".join(f".{ending}" for ending in endings)
        inside = f"; the .json has {', '.join(keys[:12])}" if keys else ""
        raise DataError(
            f"{spec}: has no labels that are known: a sample has {has}{inside}. Say where they are: #label=json:KEY, "
            "#label=folder, or #label=txt."
        )
    reason = samples_of(ranges, "cls", found.places[0]).aside.get("", "")
    raise DataError(f"{spec}: has no samples in {len(found.places)} shards; {found.names[0]}: {reason}. Give others.")


def _keys(member: Member, read: Any) -> list[str]:
    if member.size > JSON:
        return []
    try:
        found = json.loads(read(member.offset, member.size))
    except (ValueError, OSError, RecursionError):
        return []
    return list(map(str, found)) if isinstance(found, dict) else []


def _class_names(found: Shards) -> list[str] | None:
    """Return the lines of the file of class names beside the shards, or beside their folder; None: there is none."""
    folder = found.places[0].rpartition("/")[0]
    for place in (folder, folder.rpartition("/")[0]):
        for name in _CLASS_FILES:
            try:
                text = whole(f"{place}/{name}" if place else name).decode("utf-8-sig")
            except (OSError, DataError, UnicodeDecodeError):
                continue
            if text.strip():
                return [line.strip(" \t\r") for line in text.rstrip().split("\n")]
    return None


def _tell(spec: str, unread: Counter[str], keys: Any, side: Any) -> None:
    """Warn of what is not wrong and may not be meant."""
    pickled = {ending: n for ending, n in unread.items() if ending.rpartition(".")[2] in PICKLED}
    if pickled:
        listed = ", ".join(f"{n} .{ending}" for ending, n in pickled.items())
        warnings.warn(f"{spec}: {listed} are not read: unpickling may run anything.", stacklevel=4)
    others = {ending: n for ending, n in unread.items() if ending not in pickled}
    if others:
        listed = ", ".join(f"{n} .{ending}" for ending, n in others.items())
        warnings.warn(f"{spec}: samples have several pictures; one is read of each, and not {listed}.", stacklevel=4)
    again = sum(len(part) - len(np.unique(part)) for which in np.unique(side) for part in [keys[side == which]])
    if again:
        warnings.warn(
            f"{spec}: {again} keys are in several shards. If these are the same pictures, they count twice.",
            stacklevel=4,
        )
