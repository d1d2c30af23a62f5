"""A model in a folder: always the old one or the new one, whenever the process is killed.

::

    FOLDER/config.json                     what the model is; names the other files with their size and SHA-256;
                                           seals itself likewise
    FOLDER/model-1f2e3d4c5b6a.safetensors  its tensors
    FOLDER/records-1f2e3d4c5b6a.jsonl      one line for each training picture

The two are written first, under names that hold their own checksum, so that they never overwrite those of the model
before. Then ``config.json`` is renamed into place: that rename is the moment at which the new model is there. Then the
files of the models before are deleted: those whose name holds the checksum of their own content, which nobody else's
does. Every file is verified when it is read; nothing is unpickled.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from carrot._display.brief import brief
from carrot.errors import ModelError
from carrot.store.files import write_atomically
from carrot.store.layout import CONFIG, FORMAT, FORMAT_VERSION, PARTS, load_config, refuse_other_folder, sweep
from carrot.store.settings import JSON, canonical, check_json


@dataclass(frozen=True)
class Bundle:
    """What a folder holds: plain JSON, tensors by name, and one JSON object for each training picture."""

    config: dict[str, JSON]
    tensors: dict[str, Tensor]
    records: tuple[dict[str, JSON], ...]

    __repr__ = brief


def save_bundle(
    folder: Path, config: Mapping[str, object], tensors: Mapping[str, Tensor], records: Sequence[Mapping[str, object]]
) -> None:
    """Write a model; the one that was there before is replaced at one moment, and its files are deleted after it.

    Raises:
        ModelError: The folder holds something else, and is not empty.
        StoreError: The disk refuses.
    """
    refuse_other_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    own = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    lines = [json.dumps(check_json(dict(record), "records"), ensure_ascii=False, allow_nan=False) for record in records]
    data = {"model": safetensors.torch.save(own), "records": "".join(f"{line}\n" for line in lines).encode()}
    files: dict[str, JSON] = {}
    for part, extension in PARTS.items():
        digest = hashlib.sha256(data[part]).hexdigest()
        name = f"{part}-{digest[:12]}.{extension}"
        write_atomically(folder / name, data[part])
        files[part] = {"name": name, "sha256": digest, "bytes": len(data[part])}
    whole = {"format": FORMAT, "format_version": FORMAT_VERSION, **config, "files": files}
    checked = check_json(whole, "config")
    sealed = {**whole, "checksum": hashlib.sha256(canonical(checked)).hexdigest()}
    text = json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / CONFIG, text.encode())
    sweep(folder)


def load_bundle(folder: Path) -> Bundle:
    """Read a model, every byte verified.

    Raises:
        ModelError: There is none, it is damaged, or of a newer format; the message names the file.
    """
    config = load_config(folder)
    data = {part: _verified(folder, config, part) for part in PARTS}
    try:
        tensors = safetensors.torch.load(data["model"])
        records = tuple(json.loads(line) for line in data["records"].decode().split("\n") if line)
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{folder}: its files have the right checksums and can't be read: {error}.") from error
    return Bundle(config, tensors, records)


def _verified(folder: Path, config: Mapping[str, JSON], part: str) -> bytes:
    """Return the bytes of one file, which must be those that the configuration names."""
    again = "The model is damaged: restore the folder from a copy, or fit again."
    try:
        files: Any = config["files"]
        name, digest = str(files[part]["name"]), str(files[part]["sha256"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG}: doesn't name the file of its {part}. {again}") from error
    if Path(name).name != name or not name.startswith(f"{part}-"):
        raise ModelError(f"{folder / CONFIG}: names {name!r}, which is no file of a model. {again}")
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise ModelError(f"{folder / name}: can't be read: {error.strerror}. {again}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise ModelError(f"{folder / name}: does not have the SHA-256 that {CONFIG} states. {again}")
    return data
