"""The samples of one shard of a WebDataset: which member is the picture, which its label, and what is left alone."""

import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from carrot._images import image_extensions
from carrot.data.addresses import Ranges, size_of, why
from carrot.data.tar import DamagedTarError, Member, members
from carrot.data.walking import why_unread
from carrot.errors import DataError

_PREFERRED = ("jpg", "jpeg", "webp", "png")
PICKLED = frozenset({"pyd", "pickle", "pkl", "pth", "pt"})
_TEXT, JSON = 4096, 1 << 24  # bytes of a label, and of a text that holds one
_NO_PICTURE = "a sample without a picture"
_TWICE = "a second file of one sample with one ending: the first is used"


@dataclass
class _Sample:
    rank: int = 99
    name: str = ""
    offset: int = 0
    size: int = 0
    label: str | None = None
    has_label: bool = False  # a file of it came, whatever it says
    wrong: tuple[str, str] = ("", _NO_PICTURE)  # which file, and why it isn't one


@dataclass
class ShardIndex:
    """What one shard holds."""

    names: list[str] = field(default_factory=list)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    keys: "array[int]" = field(default_factory=lambda: array("q"))
    labels: list[str | None] = field(default_factory=list)
    aside: dict[str, str] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)


def key_of(name: str) -> tuple[str, str]:
    """Return the key of a file's sample and the file's ending, in lower case; "": it has none."""
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}{slash}{stem}", ending.lower() if stem and not stem.startswith("__") else ""


@cache
def _rank(ending: str) -> int:
    """Return how much an ending is a sample's picture: 0 the most, -1 not at all, -2 a format that isn't read."""
    last = ending.rpartition(".")[2]
    if f".{last}" in image_extensions():
        return 90 if last != ending else _PREFERRED.index(last) if last in _PREFERRED else len(_PREFERRED)
    return -2 if why_unread(f"x.{last}", by_name=True) else -1


def samples_of(ranges: Ranges, label: str, place: str) -> ShardIndex:
    """Return the samples of one shard."""
    found = ShardIndex()
    source, _, key = label.partition(":")
    samples: dict[str, _Sample] = {}
    try:
        read = ranges.reader(place)
        length = size_of(place)
        if read(0, 2) == b"\x1f\x8b":
            raise DamagedTarError("it is compressed: unpack it with gunzip, pictures are read where they lie")
        for some in members(read, length):
            for member in some:
                _take(member, samples, found, source, key, read)
    except DamagedTarError as error:
        found.aside[""] = str(error)
    except (OSError, DataError) as error:
        found.aside[""] = f"it can't be read: {why(error)}"
    for name, sample in samples.items():
        if not sample.name:
            file, reason = sample.wrong
            found.aside[file or name] = reason
            continue
        found.names.append(sample.name)
        found.offsets.append(sample.offset)
        found.sizes.append(sample.size)
        found.keys.append(hash(name))
        found.labels.append((name.rpartition("/")[0] or None) if source == "folder" else sample.label)
    if not samples:
        found.aside.setdefault("", "it holds no samples")
    return found


def _take(member: Member, samples: dict[str, _Sample], found: ShardIndex, source: str, key: str, read: Any) -> None:
    name, ending = key_of(member.name)
    if not ending:
        return
    sample = samples.get(name)
    if sample is None:
        sample = samples[name] = _Sample()
    if not member.is_file:
        sample.wrong = member.name, "a link or a special file, not followed"
        return
    rank = _rank(ending)
    if rank >= 0:
        if member.name == sample.name:
            found.aside[f"{member.name} (again)"] = _TWICE
        elif rank < sample.rank:
            if sample.name:
                found.unread[sample.name.rpartition(".")[2]] += 1
            sample.rank, sample.name, sample.offset, sample.size = rank, member.name, member.offset, member.size
        else:
            found.unread[ending] += 1
    elif ending == source:
        if sample.has_label:
            found.aside[f"{member.name} (again)"] = _TWICE
        else:
            sample.label, sample.has_label = _label(member, key, read), True
    elif rank == -2:
        sample.wrong = member.name, why_unread(member.name, by_name=True) or _NO_PICTURE
    elif ending.rpartition(".")[2] in PICKLED:
        found.unread[ending] += 1


def _label(member: Member, key: str, read: Any) -> str | None:
    """Return what a file says, as text; None: nothing, or nothing that can be a label."""
    if member.size > (JSON if key else _TEXT):
        return None
    content = member.head if len(member.head) == member.size else read(member.offset, member.size)
    try:
        value: Any = json.loads(content) if key else content.decode("utf-8-sig")
        for step in key.split(".") if key else ():
            value = value[step]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return str(value) if isinstance(value, bool) else None
    text = str(value).strip(" \t\r\n\0")
    return None if text in ("", "-1") or (not text.isprintable() and "\0" in text) else text
