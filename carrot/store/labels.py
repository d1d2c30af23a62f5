"""What a file of tensors says of itself in its header: which it is, and the checksum of what is in it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from carrot.store.settings import JSON, canonical

KEY = "carrot"  # one key: the order of several would differ from run to run


def header_length(start: bytes) -> int:
    """Return how long the header is, by the first bytes of a file."""
    return int.from_bytes(start[:8], "little")


def label_in(start: bytes) -> dict[str, Any]:
    """Return what a shard's header says of it, by as many bytes of the file at least."""
    found = json.loads(json.loads(start[8 : 8 + header_length(start)])["__metadata__"][KEY])
    if not isinstance(found, dict):
        raise TypeError(f"its label is a {type(found).__name__}")
    return found


def checksum_of(tensors: Mapping[str, Tensor], notes: JSON = None) -> str:
    """sha256 over names, dtypes, shapes, bytes, and notes where there are some."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(canonical([name, str(tensor.dtype), list(tensor.shape)]))
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    if notes is not None:
        digest.update(canonical(notes))
    return digest.hexdigest()
