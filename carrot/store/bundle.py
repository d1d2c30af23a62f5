"""A model in a folder: always the old one or the new one, whenever the process is killed.

::

    FOLDER/config.json                     what the model is; names the other files with their size and SHA-256;
                                           seals itself likewise
    FOLDER/rows-0a1b2c3d4e5f.safetensors   G, the embeddings of the training pictures
    FOLDER/model-1f2e3d4c5b6a.safetensors  all other tensors
    FOLDER/records-1f2e3d4c5b6a.jsonl      one line for each training picture

These three are written first, in a stream, under names that hold their own checksum, so that they never overwrite those
of the model before; rows that are there already stay. Then ``config.json`` is renamed into place: that rename is the
moment at which the new model is there. Then the files of the models before are deleted: those whose name holds the
checksum of their own content, which nobody else's does. Every file is verified when it is read, a pass over it in
constant memory, and then mapped; nothing is unpickled.

Format 1 had G beside the other tensors, and labels as a matrix of zeros and ones.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from carrot._display.brief import brief
from carrot.errors import ModelError
from carrot.store.files import write_atomically
from carrot.store.layout import CONFIG, FORMAT, FORMAT_VERSION, PARTS, load_config, refuse_other_folder, sweep
from carrot.store.lines import Lines
from carrot.store.mapped import Planned, map_tensor, map_tensors, sha256_of, write_stream, write_tensors
from carrot.store.settings import JSON, canonical, check_json

ROWS = "G"  # the tensor that has a file of its own


@dataclass(frozen=True)
class Bundle:
    """What a folder holds: plain JSON, tensors by name, and one JSON object for each training picture, as lines.

    ``open_rows`` opens G once more, in any process that sees the folder; None: there is none.
    """

    config: dict[str, JSON]
    tensors: dict[str, Tensor]
    records: Lines
    open_rows: Callable[[], Tensor] | None

    __repr__ = brief


def save_bundle(
    folder: Path,
    config: Mapping[str, object],
    tensors: Mapping[str, Tensor | Planned],
    records: Iterable[Mapping[str, object] | bytes],
) -> None:
    """Write a model; the one that was there before is replaced at one moment, and its files are deleted after it.

    Args:
        folder: Where.
        config: What it is.
        tensors: By name.
        records: For each training picture an object, or the line that it was read from.

    Raises:
        ModelError: The folder holds something else, and is not empty.
        StoreError: The disk refuses.
    """
    refuse_other_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    own = dict(tensors)
    rows = own.pop(ROWS, None)
    stored = {} if rows is None else {"rows": write_tensors(folder, "rows", {ROWS: rows}, look=True)}
    stored["model"] = write_tensors(folder, "model", own)
    stored["records"] = write_stream(folder, "records", PARTS["records"], _lines(records))
    files = {part: found._asdict() for part, found in stored.items()}
    whole = {"format": FORMAT, "format_version": FORMAT_VERSION, **config, "files": files}
    checked = check_json(whole, "config")
    sealed = {**whole, "checksum": hashlib.sha256(canonical(checked)).hexdigest()}
    text = json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / CONFIG, text.encode())
    sweep(folder)


def _lines(records: Iterable[Mapping[str, object] | bytes]) -> Iterator[bytes]:
    for record in records:
        if not isinstance(record, bytes):
            text = json.dumps(check_json(dict(record), "records"), ensure_ascii=False, allow_nan=False)
            record = text.encode()
        yield record + b"\n"


def load_bundle(folder: Path) -> Bundle:
    """Read a model, every byte verified.

    Raises:
        ModelError: There is none, it is damaged, or of a newer format; the message names the file.
    """
    config = load_config(folder)
    files = {part: _verified(folder, config, part) for part in PARTS if part != "rows" or _has_rows(config)}
    try:
        mapped = {part: map_tensors(files[part]) for part in files if part != "records"}
        records = Lines.of(files["records"])
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its files have the right checksums and can't be read: {error}.") from error
    opens = (partial(map_tensor, files[part].resolve(), ROWS) for part, found in mapped.items() if ROWS in found)
    tensors = {name: x for found in mapped.values() for name, x in found.items()}
    return Bundle(config, tensors, records, next(opens, None))


def _has_rows(config: Mapping[str, JSON]) -> bool:
    files = config.get("files")
    return isinstance(files, dict) and "rows" in files


def _verified(folder: Path, config: Mapping[str, JSON], part: str) -> Path:
    """Return one file, whose bytes must be those that the configuration names."""
    again = "The model is damaged: restore the folder from a copy, or fit again."
    try:
        files: Any = config["files"]
        name, digest = str(files[part]["name"]), str(files[part]["sha256"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG}: doesn't name the file of its {part}. {again}") from error
    if Path(name).name != name or not name.startswith(f"{part}-"):
        raise ModelError(f"{folder / CONFIG}: names {name!r}, which is no file of a model. {again}")
    try:
        found = sha256_of(folder / name)
    except OSError as error:
        raise ModelError(f"{folder / name}: can't be read: {error.strerror}. {again}") from error
    if found != digest:
        raise ModelError(f"{folder / name}: does not have the SHA-256 that {CONFIG} states. {again}")
    return folder / name
