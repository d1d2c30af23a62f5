"""The certificate of a change of a model in a folder: written whenever the process is killed, or nothing was changed.

::

    MODEL/certificates/pending.json          written before the changed model is saved
    MODEL/certificates/TIME-1f2e3d4c.json    the same, with what was cleared away; written after it, and then the
                                             other is deleted

Whoever changes the model next calls ``finish`` first. The model is the one before: the change never happened, and the
pending file is deleted. It is the one after: what is left to be done is done, and the certificate is written.
"""

import html
import itertools
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from carrot.store.files import flush_folder, write_atomically
from carrot.store.layout import GENERATOR, WRITTEN, model_files, sweep

PENDING = "pending.json"
TEXTS = (".json", ".jsonl", ".csv", ".htm", ".html", ".md", ".txt", ".yaml", ".yml")
ROWS_FORMAT = b'"format": "carrot rows '  # of rows of an index of a folder of pictures
OPAQUE = (".parquet", ".onnx")  # compressed, or binary: nobody can say what they name


class Finished(NamedTuple):
    """A certificate, and where it was written."""

    certificate: dict[str, Any]
    file: Path


def begin(model: Path, certificate: Mapping[str, Any]) -> None:
    """Write down what is about to be changed, before the changed model is saved.

    Raises:
        StoreError: The disk refuses.
    """
    folder = model / "certificates"
    folder.mkdir(exist_ok=True)
    write_atomically(folder / PENDING, json.dumps(certificate, indent=2, ensure_ascii=False).encode())


def finish(model: Path, labels: Mapping[tuple[str, str], str]) -> Finished | None:
    """Finish a change that was cut off after the model was saved; one that was cut off before it never happened.

    Args:
        model: The model's folder.
        labels: The label of every training picture of the model there, by id and SHA-256.

    Returns:
        The certificate; None if there was nothing to finish.

    Raises:
        StoreError: The disk refuses.
    """
    pending = model / "certificates" / PENDING
    if not pending.exists():
        return None
    certificate = json.loads(pending.read_bytes())
    if not _happened(certificate, labels):
        pending.unlink()
        return None
    return complete(model, certificate)


def _happened(certificate: Mapping[str, Any], labels: Mapping[tuple[str, str], str]) -> bool:
    """Whether a model with these training pictures is the one after a change: it was saved whole, or not at all."""

    def label(picture: Mapping[str, str]) -> str | None:
        return labels.get((picture["id"], picture["sha256"]))

    return (
        all(label(picture) is None for picture in certificate["forgotten"])
        and all(label(picture) == picture["to"] for picture in certificate.get("relabelled", ()))
        and all(label(picture) == picture["label"] for picture in certificate.get("added", ()))
    )


def complete(model: Path, certificate: Mapping[str, Any]) -> Finished:
    """Clear away what may show deleted pictures, and write the certificate; the changed model is saved.

    Cleared away are the files of the model before, explanations that CARROT wrote, and shards of any token cache in the
    folder that hold the pictures, those of earlier fits and of killed runs too. What else lies there is the user's: it
    is told where it mentions them.

    Raises:
        StoreError: The disk refuses.
    """
    pictures = [(str(picture["id"]), str(picture["sha256"])) for picture in certificate["forgotten"]]
    sweep(model)
    seen = _shown(model, pictures) if pictures else []
    removed = [*certificate.get("removed_files", ()), *(path.relative_to(model).as_posix() for path in seen)]
    begin(model, {**certificate, "removed_files": removed})  # told also if this is killed before the end
    for path in seen:
        path.unlink()
    for folder in {model, *(path.parent for path in seen)}:
        flush_folder(folder)
    whole = {
        **certificate,
        "removed_files": removed,
        "files_that_mention_them": _mentions(model, pictures) if pictures else [],
        "mentions_looked_for_in": "the folder of the model alone",
    }
    stamp = str(certificate["time"]).replace(":", "").replace("+0000", "Z")
    first = next(
        certificate[name][0]["sha256"] for name in ("forgotten", "relabelled", "added") if certificate.get(name)
    )
    stem = f"{stamp}-{first[:8]}"
    names = itertools.chain([stem], (f"{stem}-{again}" for again in itertools.count(2)))  # two in one second
    file = next(path for name in names if not (path := model / "certificates" / f"{name}.json").exists())
    write_atomically(file, json.dumps(whole, indent=2, ensure_ascii=False).encode())
    (model / "certificates" / PENDING).unlink()
    return Finished(whole, file)


def pages_of(model: Path) -> tuple[list[Path], list[Path]]:
    """Return the pages that CARROT wrote of a model in its folder: of explanations, and the report, if it is there.

    After a change they are of the model as it was.
    """
    pages = [path for path in _pages(model / "explanations") if path.suffix in (".html", ".htm")]
    return pages, _report(model / "report.html")[:1]


def _shown(model: Path, pictures: Collection[tuple[str, str]]) -> list[Path]:
    """Return the files of a model's folder that may show pictures, its own aside."""
    return (
        _pages(model / "explanations")
        + _rows(model / "explanations")
        + _report(model / "report.html")
        + _tokens(model, {sha256 for _, sha256 in pictures})
    )


def _pages(folder: Path) -> list[Path]:
    """Return the explanations that CARROT wrote below a folder.

    These are pages that say so; numbers, figure and settings of those of the command.
    """
    found = []
    for page in sorted(folder.rglob("*.htm*")):
        settings = page.with_name(f"{page.name}.yaml")
        is_commands = settings.is_file() and WRITTEN.match(settings.read_bytes()) is not None
        if page.is_file() and (is_commands or GENERATOR in page.read_bytes()):
            beside = (settings, page.with_suffix(".json"), page.with_suffix(".png")) if is_commands else ()
            found += [page, *(path for path in beside if path.is_file())]
    return found


def _rows(folder: Path) -> list[Path]:
    """Return the rows of indices of folders of pictures, below a folder."""
    return [path for path in sorted(folder.rglob("rows/rows-*.json")) if ROWS_FORMAT in path.read_bytes()[:100]]


def _report(page: Path) -> list[Path]:
    """Return the report of the model, if CARROT wrote it, and its settings."""
    if not (page.is_file() and GENERATOR in page.read_bytes()):
        return []
    settings = page.with_name(f"{page.name}.yaml")
    return [page, *([settings] if settings.is_file() and WRITTEN.match(settings.read_bytes()) else [])]


def _tokens(model: Path, sha256: Collection[str]) -> list[Path]:
    """Return the token shards below a model that hold a picture of these SHA-256, and what killed runs left of any."""
    import safetensors.torch
    from safetensors import SafetensorError

    found = sorted((model / "tokens").rglob("embeddings-*.tmp"))
    for path in sorted((model / "tokens").rglob("embeddings-*.safetensors")):
        try:
            digests = safetensors.torch.load_file(path)["sha256"]
            holds = any(bytes(digest.tolist()).hex() in sha256 for digest in digests)
        except (SafetensorError, KeyError):
            holds = True  # it can't be read, so nobody can say
        if holds:
            found.append(path)
    return found


def _mentions(model: Path, pictures: Collection[tuple[str, str]]) -> list[str]:
    """Return the other files of a model's folder that name a picture, and those that may."""
    words = {word for picture in pictures for word in picture}
    for name, _ in pictures:
        words |= {json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1], html.escape(name)}
        words |= {name.replace('"', '""'), name.replace("'", "''")}  # CSV, YAML
    found, own = set(), model_files(model)
    for path in sorted(model.rglob("*")):
        if not path.is_file() or path in own or path.parent.name == "certificates":
            continue  # what the model itself holds of a picture is there under another name: the certificate says so
        if path.suffix in OPAQUE:
            found.add(path)
        elif path.suffix in TEXTS:
            data = path.read_bytes()
            if any(word.encode() in data for word in words):
                found |= {path, *([figure] if (figure := path.with_suffix(".png")).is_file() else [])}
    return sorted(path.relative_to(model).as_posix() for path in found)
