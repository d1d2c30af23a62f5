"""What lies in a model's folder, and what of it is ours: read, refused and swept without reading a tensor."""

import hashlib
import json
import re
import warnings
from pathlib import Path
from typing import Any

from carrot.errors import ModelError, StoreError
from carrot.store.settings import JSON, canonical

FORMAT = "carrot model"
FORMAT_VERSION = 2
CONFIG = "config.json"
PARTS = {"rows": "safetensors", "model": "safetensors", "records": "jsonl"}  # format 1 has its rows in ``model``
_DEMO = re.compile(r"pictures-[0-9]+")  # what ``carrot demo`` draws
OURS = "|".join(rf"{part}-[0-9a-f]{{12}}\.{extension}" for part, extension in PARTS.items())  # names of such files
_OURS = re.compile(rf"(?:{OURS})")
_TEMPORARY = re.compile(  # as ``writing`` names them; what is written in a stream has no checksum yet
    rf"(?:{re.escape(CONFIG)}|{OURS}|{OURS.replace('-[0-9a-f]{12}', '')})\.[0-9]+-[0-9a-f]{{8}}\.tmp"
)
WRITTEN = re.compile(
    rb"# [0-9]{4}-[0-9]{2}-[0-9]{2}T.*\n# python "
)  # how the settings that a command writes down begin
GENERATOR = b'<meta name="generator" content="CARROT">'  # in every page that is written
OUR_JSON = b'{\n "format": "carrot '  # how numbers that are written begin
OUR_FIGURES = {  # PNG, SVG, PDF: how each begins, and what says in it that it is ours
    b"\x89PNG": b"Software\x00CARROT",
    b"<?xml": b"<dc:title>CARROT</dc:title>",
    b"%PDF": b"/Creator (CARROT)",
}
_BEFORE = (
    "tokens",
    "fit.yaml",
    "select.yaml",
    "merge.yaml",
    "demo.yaml",
    "README.md",
)  # what may lie where a model is not saved yet


def model_files(folder: Path) -> set[Path]:
    """Return the files that are the model: ``config.json`` and those that it names.

    Raises:
        ModelError: There is no model, or its ``config.json`` is damaged.
    """
    files: Any = load_config(folder)["files"]
    return {folder / CONFIG, *(folder / str(entry["name"]) for entry in files.values())}


def sweep(folder: Path) -> None:
    """Delete the files of the models before, and of saves that were killed; nothing else, whatever it is called.

    Of a link the link alone: a warning names the file that it led to, which still holds all of the model before.

    Raises:
        ModelError: There is no model, or its ``config.json`` is damaged.
        StoreError: The disk refuses.
    """
    kept = {path.name for path in model_files(folder)}
    try:
        for path in sorted(folder.iterdir()):
            if path.name not in kept and (_TEMPORARY.fullmatch(path.name) or _is_ours(path)):
                if path.is_symlink():
                    warnings.warn(
                        f"{path.resolve()}: still holds what the model had before: {path} was a link to it. Delete it "
                        "if what was forgotten must be gone.",
                        stacklevel=2,
                    )
                path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: a file of the model before can't be deleted: {error.strerror}.") from error


def _is_ours(path: Path) -> bool:
    """Whether a file's name holds the checksum of its content: a model wrote it."""
    if _OURS.fullmatch(path.name) is None or not path.is_file():
        return False
    with open(path, "rb") as file:
        return path.stem.endswith(f"-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}")


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
    """Refuse to write a model where something else lies.

    What a fit that was cut off left is no matter, nor are hidden files.

    Raises:
        ModelError: ``folder`` is a file, or holds a ``config.json`` that is not a CARROT model's, or other files and no
            model.
    """
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder}: is a file. Give a folder to write the model to.")
    if (folder / CONFIG).exists():
        load_config(folder)
    elif folder.is_dir():
        names = sorted(path.name for path in folder.iterdir())
        others = [
            n
            for n in names
            if not (
                n.startswith(".") or n in _BEFORE or _DEMO.fullmatch(n) or _OURS.fullmatch(n) or _TEMPORARY.fullmatch(n)
            )
        ]
        if others:
            raise ModelError(
                f"{folder}: holds other files ({', '.join(others[:3])}{', ...' * (len(others) > 3)}) and no model. "
                f"Give an empty folder, or a new one, such as {folder / 'model'}."
            )
