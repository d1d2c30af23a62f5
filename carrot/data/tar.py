"""The members of a tar file, from its headers alone: names, offsets and sizes. Nothing is unpacked.

A header is one block of 512 bytes, and its checksum is the sum of these; that of a whole batch is taken at once. Names
longer than a header holds come in a block of their own, of GNU's kind or as POSIX says.

Reference: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual, "Basic Tar
Format".
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 512
_ZERO = bytes(BLOCK)
_BATCH = 1024
_LONGEST = 1 << 20  # bytes of a name and of what stands beside it; more is damage
_FILES = frozenset(b"07\0")
_FOLDER = ord("5")
_LINKS = frozenset(b"12")
_PAX = re.compile(rb"\d+ ([^=]+)=(.*)\n", re.DOTALL)


class Member(NamedTuple):
    """One file of a tar.

    Attributes:
        name: As it is written there.
        offset: Where its bytes begin.
        size: How many there are.
        head: Its first bytes, as far as they came with the header.
        is_file: False: a link or a device, which has no bytes, or a file that is stored with holes.
    """

    name: str
    offset: int
    size: int
    head: bytes
    is_file: bool


class DamagedTarError(Exception):
    """What is wrong with a tar from some byte on; the members before it are sound."""


def members(read: Callable[[int, int], bytes], length: int) -> Iterator[list[Member]]:
    """Yield the members of a tar, some at a time.

    Args:
        read: Bytes of the file, by offset and number; fewer where it ends.
        length: Of the file, in bytes.

    Raises:
        DamagedTarError: It is no tar, is damaged, or ends too early; what comes before has been yielded.
    """
    offset, held, blocks = 0, list[Member | None](), list[bytes]()  # of each header its member, if it has one
    wrong, name, size, is_sparse = "", "", -1, False
    ended = False
    while not wrong and not ended:
        piece = read(offset, 3 * BLOCK)
        block = piece[:BLOCK]
        if len(block) < BLOCK or block == _ZERO:
            ended = len(block) == BLOCK
            wrong = "" if ended else "it has no mark of its end: it may be cut short"
            break
        try:
            own = _number(block[124:136])
        except ValueError:
            wrong = _no_header(offset)
            break
        kind, member = block[156], None
        if kind in b"Lxg":
            more = read(offset + BLOCK, min(own, _LONGEST))
            if own > _LONGEST or len(more) < own:
                wrong = _no_header(offset)
                break
            if kind != ord("g"):
                name, size, is_sparse = _long(more, kind, name, size)
        else:
            own = own if size < 0 else size
            data = offset + BLOCK
            is_file = kind in _FILES and not is_sparse
            if is_file and data + own > length:
                there = f"{max(length - data, 0):,} of {own:,} bytes are there"
                wrong = f"it is cut short: of {name or _name(block)} {there}"
                break
            if kind != _FOLDER:
                member = Member(name or _name(block), data, own, piece[BLOCK : BLOCK + own], is_file)
            own = own if is_file or kind not in _LINKS else 0
            name, size, is_sparse = "", -1, False
        held.append(member)
        blocks.append(block)
        offset += BLOCK + -(-own // BLOCK) * BLOCK
        if len(blocks) >= _BATCH:
            yield from _checked(held, blocks)
            held, blocks = [], []
    yield from _checked(held, blocks)
    if wrong:
        raise DamagedTarError(wrong)


def _checked(held: list[Member | None], blocks: list[bytes]) -> Iterator[list[Member]]:
    """Yield the members, having compared the checksums of their headers.

    Raises:
        DamagedTarError: One is wrong; those before it have been yielded.
    """
    heads = np.frombuffer(b"".join(blocks), np.uint8).reshape(len(blocks), BLOCK)
    sums = heads.sum(axis=1, dtype=np.int64) - heads[:, 148:156].sum(axis=1, dtype=np.int64) + 8 * ord(" ")
    wrong = next((place for place, block in enumerate(blocks) if not _is_sum(block, int(sums[place]))), None)
    yield [member for member in held[:wrong] if member is not None]
    if wrong is not None:
        raise DamagedTarError(f"it is damaged, or no tar: header {wrong + 1} of {len(blocks)} is none")


def _is_sum(block: bytes, total: int) -> bool:
    try:
        return block[148:154] == b"%06o" % total or _number(block[148:156]) == total
    except ValueError:
        return False


def _no_header(offset: int) -> str:
    return f"it is damaged, or no tar: there is no header at byte {offset:,}"


def _number(field: bytes) -> int:
    """Return a number of a header: octal digits, or where these are too few the bytes themselves."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big") | (field[0] & 0x7F) << 8 * (len(field) - 1)
    return int(field.strip(b" \0") or b"0", 8)


def _name(block: bytes) -> str:
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    return name.decode("utf-8", "backslashreplace")


def _long(more: bytes, kind: int, name: str, size: int) -> tuple[str, int, bool]:
    """Return what a block before a header gives: name, size (-1: none), and whether the file is stored with holes.

    Of such a file what is stored begins with a map of the holes, and its path is made up: POSIX's sparse files of GNU.
    """
    if kind == ord("L"):
        return more.rstrip(b"\0").decode("utf-8", "backslashreplace"), size, False
    place, own = 0, dict[bytes, bytes]()
    while place < len(more):
        length = re.match(rb"(\d+) ", more[place : place + 20])
        if length is None:
            break
        found = _PAX.fullmatch(more[place : place + int(length[1])])
        if found:
            own[found[1]] = found[2]
        place += max(int(length[1]), 1)
    given = own.get(b"GNU.sparse.name", own.get(b"path"))
    name = name if given is None else given.decode("utf-8", "backslashreplace")
    size = int(own[b"size"]) if own.get(b"size", b"").isdigit() else size
    return name, size, any(key.startswith(b"GNU.sparse.") for key in own)
