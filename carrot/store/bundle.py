"""A model in a folder: always the old one or the new one, whenever the process is killed.

::

    FOLDER/config.json                     what the model is; names the other files with their size and SHA-256; seals itself likewise
    FOLDER/model-1f2e3d4c5b6a.safetensors  its tensors
    FOLDER/records-1f2e3d4c5b6a.jsonl      one line for each training picture

The two are written first, under names that hold their own checksum, so that they never overwrite those of the model before. Then
``config.json`` is renamed into place: that rename is the moment at which the new model is there. Then the files of the models before are
deleted: those whose name holds the checksum of their own content, which nobody else's does. Every file is verified when it is read;
nothing is unpickled.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from carrot.errors import ModelError, StoreError
from carrot.store.files import write_atomically
from carrot.store.settings import JSON, canonical, check_json

FORMAT = "carrot model"
FORMAT_VERSION = 1
CONFIG = "config.json"
_PARTS = {"model": "safetensors", "records": "jsonl"}
_OURS = re.compile(r"model-([0-9a-f]{12})\.safetensors|records-([0-9a-f]{12})\.jsonl")
_TEMPORARY = re.compile(
    rf"(?:{re.escape(CONFIG)}|{_OURS.pattern})\.[0-9]+-[0-9a-f]{{8}}\.tmp"
)  # as ``write_atomically`` names them
_BEFORE = ("tokens", "fit.yaml", "select.yaml", "demo.yaml", "README.md")  # what may lie where a model is not saved yet


@dataclass(frozen=True)
class Bundle:
    """What a folder holds: plain JSON, tensors by name, and one JSON object for each training picture."""

    config: dict[str, JSON]
    tensors: dict[str, Tensor]
    records: tuple[dict[str, JSON], ...]


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
    for part, extension in _PARTS.items():
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


def model_files(folder: Path) -> set[Path]:
    """Return the files that are the model: ``config.json`` and those that it names.

    Raises:
        ModelError: There is no model, or its ``config.json`` is damaged.
    """
    files: Any = load_config(folder)["files"]
    return {folder / CONFIG, *(folder / str(entry["name"]) for entry in files.values())}


def sweep(folder: Path) -> None:
    """Delete the files of the models before, and of saves that were killed; nothing else, whatever it is called.

    Raises:
        ModelError: There is no model, or its ``config.json`` is damaged.
        StoreError: The disk refuses.
    """
    kept = {path.name for path in model_files(folder)}
    try:
        for path in sorted(folder.iterdir()):
            if path.name not in kept and (_TEMPORARY.fullmatch(path.name) or _is_ours(path)):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: a file of the model before can't be deleted: {error.strerror}.") from error


def _is_ours(path: Path) -> bool:
    """Whether a file's name holds the checksum of its content: a model wrote it."""
    named = _OURS.fullmatch(path.name)
    if named is None or path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12] == (named[1] or named[2])


def load_bundle(folder: Path) -> Bundle:
    """Read a model, every byte verified.

    Raises:
        ModelError: There is none, it is damaged, or of a newer format; the message names the file.
    """
    config = load_config(folder)
    data = {part: _verified(folder, config, part) for part in _PARTS}
    try:
        tensors = safetensors.torch.load(data["model"])
        records = tuple(json.loads(line) for line in data["records"].decode().split("\n") if line)
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{folder}: its files have the right checksums and can't be read: {error}.") from error
    return Bundle(config, tensors, records)


def load_config(folder: Path) -> dict[str, JSON]:
    """Return a model's ``config.json``, its format checked.

    Raises:
        ModelError: As ``load_bundle``.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
        kind, version = config["format"], config["format_version"]
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: holds no model: there is no {CONFIG}. Give the folder that `save` wrote."
        ) from None
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: is damaged, or not that of a CARROT model ({error}). Restore it, or fit again."
        ) from error
    if kind != FORMAT:
        raise ModelError(f"{path}: is of {kind!r}, not of a {FORMAT!r}. Give the folder that `save` wrote.")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelError(f"{path}: format version {version}; this CARROT reads up to {FORMAT_VERSION}. Upgrade it.")
    if config.pop("checksum", None) != hashlib.sha256(canonical(config)).hexdigest():
        raise ModelError(f"{path}: is damaged: it doesn't have the SHA-256 that it states. Restore it, or fit again.")
    return dict(config)


def refuse_other_folder(folder: Path) -> None:
    """Refuse to write a model where something else lies. What a fit that was cut off left is no matter, nor are hidden files.

    Raises:
        ModelError: ``folder`` is a file, or holds a ``config.json`` that is not a CARROT model's, or other files and no model.
    """
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder}: is a file. Give a folder to write the model to.")
    if (folder / CONFIG).exists():
        load_config(folder)
    elif folder.is_dir():
        names = sorted(path.name for path in folder.iterdir())
        others = [
            n for n in names if not (n.startswith(".") or n in _BEFORE or _OURS.fullmatch(n) or _TEMPORARY.fullmatch(n))
        ]
        if others:
            raise ModelError(
                f"{folder}: holds other files ({', '.join(others[:3])}{', ...' * (len(others) > 3)}) and no model. "
                f"Give an empty folder, or a new one, such as {folder / 'model'}."
            )


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
