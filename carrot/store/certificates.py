"""The certificate of a deletion from a model in a folder: written whenever the process is killed, or nothing was deleted.

::

    MODEL/certificates/pending.json          written before the model is saved without the pictures
    MODEL/certificates/TIME-1f2e3d4c.json    the same, with what was cleared away; written after it, and then the other is deleted

Whoever changes the model next calls ``finish`` first. The pictures are in the model: the deletion never happened, and the pending file
is deleted. They are not: what is left to be done is done, and the certificate is written.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from carrot.store.files import write_atomically

PENDING = "pending.json"
TEXTS = (".json", ".jsonl", ".csv", ".html", ".md", ".txt", ".yaml", ".parquet")


class Finished(NamedTuple):
    """A certificate, and where it was written."""

    certificate: dict[str, Any]
    file: Path


def begin(model: Path, certificate: Mapping[str, Any]) -> None:
    """Write down what is about to be deleted, before the model is saved without it.

    Raises:
        StoreError: The disk refuses.
    """
    folder = model / "certificates"
    folder.mkdir(exist_ok=True)
    write_atomically(folder / PENDING, json.dumps(certificate, indent=2, ensure_ascii=False).encode())


def finish(model: Path, known: Collection[tuple[str, str]]) -> Finished | None:
    """Finish a deletion that was cut off after the model was saved; one that was cut off before it never happened.

    Args:
        model: The model's folder.
        known: Id and SHA-256 of every training picture of the model there.

    Returns:
        The certificate; None if there was nothing to finish.

    Raises:
        StoreError: The disk refuses.
    """
    pending = model / "certificates" / PENDING
    if not pending.exists():
        return None
    certificate = json.loads(pending.read_bytes())
    if any((picture["id"], picture["sha256"]) in known for picture in certificate["forgotten"]):
        pending.unlink()
        return None
    return complete(model, certificate)


def complete(model: Path, certificate: Mapping[str, Any]) -> Finished:
    """Clear away what may show the pictures, and write the certificate; the model is saved without them.

    Raises:
        StoreError: The disk refuses.
    """
    pictures = [(str(picture["id"]), str(picture["sha256"])) for picture in certificate["forgotten"]]
    seen = [path.relative_to(model).as_posix() for path in sorted((model / "explanations").glob("*")) if path.is_file()]
    removed = [*certificate.get("removed_files", ()), *seen]
    begin(model, {**certificate, "removed_files": removed})  # told also if this is killed before the end
    for name in seen:
        (model / name).unlink()
    whole = {**certificate, "removed_files": removed, "files_that_mention_them": _mentions(model, pictures)}
    stamp = str(certificate["time"]).replace(":", "").replace("+0000", "Z")
    file = model / "certificates" / f"{stamp}-{pictures[0][1][:8]}.json"
    write_atomically(file, json.dumps(whole, indent=2, ensure_ascii=False).encode())
    (model / "certificates" / PENDING).unlink()
    return Finished(whole, file)


def _mentions(model: Path, pictures: Collection[tuple[str, str]]) -> list[str]:
    """Return the other files of a model's folder that name a picture."""
    words = [word.encode() for picture in pictures for word in picture]
    words += [json.dumps(name)[1:-1].encode() for name, _ in pictures]
    found = []
    for path in sorted(model.rglob("*")):
        if path.is_file() and path.suffix in TEXTS and path.parent.name != "certificates":
            data = path.read_bytes()
            if any(word in data for word in words):
                found.append(path.relative_to(model).as_posix())
    return found
