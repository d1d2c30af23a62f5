"""One file of named tensors, written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(path: Path, tensors: Mapping[str, Tensor], **facts: str) -> None:
    """Write tensors as safetensors, with ``facts`` in the header; the folder is made, and a kill leaves no half file.

    Args:
        path: Where; replaced if it exists.
        tensors: By name, on any device.
        facts: Strings for the header.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, temporary, facts)
    os.replace(temporary, path)
