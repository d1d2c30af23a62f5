"""One file of named tensors, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from carrot.store.outputs import write_output


def save_tensors(path: Path, tensors: Mapping[str, Tensor], **facts: str) -> None:
    """Write tensors as safetensors, with ``facts`` in the header; the folder is made, and a kill leaves no half file.

    Args:
        path: Where; replaced if it exists.
        tensors: By name, on any device.
        facts: Strings for the header.
    """
    own = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    write_output(path, safetensors.torch.save(own, facts))
