"""Tensors in a safetensors file, written in a stream and mapped when read: of any size, in constant memory.

::

    8 bytes      length of the header, little-endian
    header       JSON: of each tensor its dtype, shape, and first and last byte; blanks up to a whole page
    the rest     the tensors' bytes, one after the other, wide numbers first

It is the format of the library ``safetensors``, which reads these files too; the library writes from memory alone. The
pages of a mapped tensor are read when they are used, and may be dropped again by the system.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from carrot.store.files import writing

PAGE = 4096  # where tensors begin: numbers are never astride a page, and a mapped one is aligned
BLOCK = 2**24  # bytes that are hashed and written at once
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


class Stored(NamedTuple):
    """A file, as a model's configuration names it."""

    name: str
    sha256: str
    bytes: int


class Planned(NamedTuple):
    """A tensor whose rows come block by block.

    Attributes:
        shape: Of all of it.
        dtype: Of its numbers.
        blocks: Gives its rows, from the first to the last, as often as it is asked.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    blocks: Callable[[], Iterable[Tensor]]


def write_tensors(folder: Path, part: str, tensors: Mapping[str, Tensor | Planned], look: bool = False) -> Stored:
    """Write tensors to ``folder/part-SHA256.safetensors``, whole or not at all.

    Args:
        folder: Where; it exists.
        part: First word of the file's name.
        tensors: By name, on any device; no more than one block of any is copied.
        look: Whether the same file may be there already, and stays: blocks are then asked for twice, for reading is
            quicker than writing.

    Raises:
        StoreError: The disk refuses.
        ValueError: Blocks don't add up to what was planned.
    """
    if look and any(folder.glob(f"{part}-*.safetensors")):
        digest, size = hashlib.sha256(), 0
        for piece in _file(tensors):
            digest.update(piece)
            size += memoryview(piece).nbytes
        there = folder / named(part, digest.hexdigest(), "safetensors")
        if there.is_file() and not there.is_symlink() and sha256_of(there) == digest.hexdigest():
            return Stored(there.name, digest.hexdigest(), size)
    return write_stream(folder, part, "safetensors", _file(tensors))


def write_stream(folder: Path, part: str, extension: str, pieces: Iterable[Any]) -> Stored:
    """Write bytes, piece by piece, to ``folder/part-SHA256.extension``, whole or not at all.

    Args:
        folder: Where; it exists.
        part: First word of the file's name.
        extension: The last.
        pieces: The bytes.

    Raises:
        StoreError: The disk refuses.
    """
    digest, size = hashlib.sha256(), 0
    with writing(folder / f"{part}.{extension}") as whole:
        for piece in pieces:
            digest.update(piece)
            size += memoryview(piece).nbytes
            whole.file.write(piece)
        whole.path = folder / named(part, digest.hexdigest(), extension)
    return Stored(whole.path.name, digest.hexdigest(), size)


def named(part: str, sha256: str, extension: str) -> str:
    """Return the name of a file whose content has this SHA-256."""
    return f"{part}-{sha256[:12]}.{extension}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in constant memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def map_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, mapped: what is written into them stays in memory.

    The file must stay as it is; it may be deleted, and then is gone when nobody holds a tensor of it any more.

    Raises:
        ValueError: It is no safetensors file.
        OSError: It can't be read.
    """
    whole = np.memmap(path, mode="c")
    if len(whole) < 8:
        raise ValueError(f"{path.name} is no safetensors file: it has {len(whole)} bytes")
    length = int.from_bytes(bytes(whole[:8]), "little")
    header, data = json.loads(bytes(whole[8 : 8 + length])), torch.from_numpy(whole[8 + length :])
    try:
        return {
            name: data[slice(*one["data_offsets"])].view(_DTYPES[one["dtype"]]).reshape(one["shape"])
            for name, one in header.items()
            if name != "__metadata__"
        }
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path.name} is no safetensors file that can be mapped: {error}") from error


def map_tensor(path: Path, name: str) -> Tensor:
    """Return one of them.

    Raises:
        ValueError, OSError: As ``map_tensors``.
        KeyError: There is no such tensor.
    """
    return map_tensors(path)[name]


def raw(x: Tensor) -> Iterator[memoryview]:
    """Yield the bytes of a tensor, row by row, in pieces of about ``BLOCK``."""
    flat = x.detach().reshape(-1) if x.is_contiguous() else None
    step = max(1, BLOCK // max(1, x.element_size()))
    if flat is not None:
        for start in range(0, flat.numel(), step):
            yield _bytes(flat[start : start + step])
        return
    lines = max(1, step // max(1, x[:1].numel()))
    for start in range(0, len(x), lines):
        yield _bytes(x[start : start + lines].detach().reshape(-1))


def _bytes(flat: Tensor) -> memoryview:
    return flat.cpu().contiguous().view(torch.uint8).numpy().data


def _file(tensors: Mapping[str, Tensor | Planned]) -> Iterator[Any]:
    """Yield the bytes of a safetensors file."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header, end = dict[str, dict[str, Any]](), 0
    for name in order:
        x = tensors[name]
        size = x.dtype.itemsize * int(np.prod(x.shape, dtype=np.int64))
        header[name] = {"dtype": _NAMES[x.dtype], "shape": list(x.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    length = -(-(8 + len(text)) // PAGE) * PAGE - 8
    yield length.to_bytes(8, "little") + text.ljust(length)
    for name in order:
        x, (start, stop) = tensors[name], header[name]["data_offsets"]
        for block in [x] if isinstance(x, Tensor) else x.blocks():
            for piece in raw(block.to(x.dtype)):
                start += piece.nbytes
                yield piece
        if start != stop:
            raise ValueError(f"`blocks` of {name} must hold {tuple(x.shape)} of {x.dtype}; {start - stop:+} bytes.")
