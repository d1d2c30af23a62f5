"""A new version of a model: a copy beside it, changed as ``carrot apply`` changes, with its certificate.

::

    .NAME.1f2e3d4c.tmp/          the copy, until it is whole: then it is renamed
    .NAME.1f2e3d4c.tmp/.copy     whose it is; ``.lock`` beside it is held as long as the process lives

A copy whose process was killed is deleted by the next one: only if its ``.copy`` says that it is of this model, nobody
holds its lock, and nothing lies in it that a copy doesn't have.
"""

import csv
import io
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from carrot.classifier.files import seal
from carrot.errors import ModelError, StoreError
from carrot.model import Carrot
from carrot.store.certificates import begin, complete
from carrot.store.files import flush_folder, locked, write_atomically
from carrot.store.layout import CONFIG, OURS, model_files

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
CARRIED = ("certificates", "fit.yaml", "select.yaml", "demo.yaml")
MARK = ".copy"
_COPY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_IN_A_COPY = re.compile(
    rf"{re.escape(MARK)}|\.lock|{re.escape(CONFIG)}|{OURS}"
    rf"|tokens|{'|'.join(map(re.escape, CARRIED))}|.+\.[0-9]+-[0-9a-f]{{8}}\.tmp"
)


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


def new_version(
    model: Path,
    edits: bytes | Path,
    name: str,
    seen: str | None,
    versions: Mapping[str, str],
    new_classes: bool = False,
    verify: bool = True,
    **options: Any,
) -> Version:
    """Write the model as the edits make it into a new folder beside it; the old one stays as it is.

    The new folder appears whole, or not at all. Tokens are shared by hard links: what is deleted here stays there.

    Args:
        model: Folder of the model.
        edits: Table, as ``carrot apply`` takes it: a file, or what the desk shows, whatever lies on the disk by now.
        name: Of the new folder.
        seen: Seal of the model that the edits were decided on.
        versions: Of the software, for the certificate.
        new_classes: Whether the edits may name classes that the model doesn't have.
        verify: Whether to fit again from scratch and measure the difference.
        **options: As ``Carrot.load`` takes them.

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
        with ExitStack() as of_model:
            with locked(temporary):
                write_atomically(temporary / MARK, _mark(model))
                with locked(model):
                    if seal(model) != seen:
                        raise ModelError(f"{model}: the model was changed since these edits were decided on. Reload.")
                    _sweep(model, temporary)
                    _copy(model, temporary)
                changed = Carrot.load(temporary, **options)
                if isinstance(edits, Path):
                    table, certificate = edits.read_bytes(), changed.apply(edits, verify, new_classes=new_classes)
                else:
                    rows = csv.DictReader(io.StringIO(edits.decode(), newline=""))
                    table, certificate = edits, changed.apply(rows, verify, new_classes=new_classes)
                asked = {"command": "apply", "table": sha256(table).hexdigest()}
                facts = {**certificate.to_dict(), "asked": asked, "versions": dict(versions), "made_from": str(model)}
                begin(temporary, facts)
                changed.save(temporary)
                done = complete(temporary, facts)
                of_model.enter_context(locked(model))  # before the copy's own goes: nobody sweeps it in between
            if os.path.lexists(target):  # one at a time: a folder that is there by now is not replaced
                raise ValueError(f"{target} is there already. Give another name.")
            os.rename(temporary, target)
            (target / MARK).unlink()
        flush_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Version(target, done.certificate, target / done.file.relative_to(temporary), str(certificate))


def _copy(model: Path, target: Path) -> None:
    """Copy what is the model, its certificates and its tokens; pages and the desk are not carried over."""
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


def _mark(model: Path) -> bytes:
    return b"carrot copy 1 of " + os.fsencode(model.resolve())


def _sweep(model: Path, mine: Path) -> None:
    """Delete the copies of a model, whose lock is held, that killed processes left beside it; what can't go, stays."""
    if os.name != "posix":  # there are no locks: nobody can say who lives
        return
    for path in model.resolve().parent.iterdir():
        if path == mine or not _COPY.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        with suppress(OSError, StoreError):
            if (path / MARK).read_bytes() == _mark(model):
                with locked(path):  # refused where its process lives
                    if all(_IN_A_COPY.fullmatch(inside.name) for inside in path.iterdir()):
                        shutil.rmtree(path)


def _unfinished(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name.endswith((".tmp", ".lock"))}


def _link(source: str, target: str) -> None:
    """Link a file, which is never written into; copy it where the system can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
