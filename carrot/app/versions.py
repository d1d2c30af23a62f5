"""A new version of a model: a copy beside it, changed as ``carrot apply`` changes, with its certificate."""

import csv
import io
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from carrot.classifier.files import seal
from carrot.errors import ModelError
from carrot.model import Carrot
from carrot.store.certificates import begin, complete
from carrot.store.files import flush_folder, locked
from carrot.store.layout import model_files

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
CARRIED = ("certificates", "fit.yaml", "select.yaml", "demo.yaml")


class Version(NamedTuple):
    """Where the changed model lies, and what was done to it."""

    folder: Path
    certificate: dict[str, Any]
    file: Path
    text: str


def next_name(model: Path) -> str:
    """Return the first name beside a model that is free: MODEL-2, MODEL-3, and so on."""
    whole = model.resolve()
    stem, _, number = whole.name.rpartition("-")
    base, first = (stem, int(number) + 1) if stem and number.isdecimal() and len(number) < 6 else (whole.name, 2)
    return next(name for n in range(first, 10**7) if not os.path.lexists(whole.with_name(name := f"{base}-{n}")))


def new_version(model: Path, edits: bytes, name: str, seen: str | None, versions: Mapping[str, str]) -> Version:
    """Write the model as the edits make it into a new folder beside it; the old one stays as it is.

    The new folder appears whole, or not at all. Tokens are shared by hard links: what is deleted here stays there.

    Args:
        model: Folder of the model.
        edits: Table, as ``carrot apply`` takes it: what the desk shows, whatever lies on the disk by now.
        name: Of the new folder.
        seen: Seal of the model that the edits were decided on.
        versions: Of the software, for the certificate.

    Raises:
        ValueError: The name is none for a folder, or taken; the edits are refused.
        ModelError: The model was changed since.
        StoreError: The disk refuses.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"A version's name must be letters, digits, '.', '_' and '-'; got {name!r}.")
    target = model.resolve().with_name(name)
    if os.path.lexists(target):
        raise ValueError(f"{target} is there already. Give another name.")
    temporary = target.with_name(f".{name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        with locked(model):
            if seal(model) != seen:
                raise ModelError(f"{model}: the model was changed since these edits were decided on. Reload.")
            _copy(model, temporary)
        asked = {"command": "apply", "table": sha256(edits).hexdigest()}
        with locked(temporary):
            changed = Carrot.load(temporary)
            certificate = changed.apply(csv.DictReader(io.StringIO(edits.decode(), newline="")))
            facts = {**certificate.to_dict(), "asked": asked, "versions": dict(versions), "made_from": str(model)}
            begin(temporary, facts)
            changed.save(temporary)
            done = complete(temporary, facts)
        with locked(model):  # one at a time: a folder that is there by now is not replaced
            if os.path.lexists(target):
                raise ValueError(f"{target} is there already. Give another name.")
            os.rename(temporary, target)
        flush_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Version(target, done.certificate, target / done.file.relative_to(temporary), str(certificate))


def _copy(model: Path, target: Path) -> None:
    """Copy what is the model, its certificates and its tokens; pages and the desk are not carried over."""
    target.mkdir()
    for path in model_files(model):
        shutil.copy2(path, target / path.name)
    for name in CARRIED:
        path = model / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=shutil.ignore_patterns("pending.json"))
        elif path.is_file():
            shutil.copy2(path, target / name)
    if (model / "tokens").is_dir():
        shutil.copytree(model / "tokens", target / "tokens", copy_function=_link, ignore=_unfinished)


def _unfinished(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name.endswith((".tmp", ".lock"))}


def _link(source: str, target: str) -> None:
    """Link a file, which is never written into; copy it where the system can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
