"""``carrot forget`` and ``carrot add``: exact changes of a model, at one moment."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from carrot.cli.options import Checkpoint, Device, Json, note, show, versions

if TYPE_CHECKING:
    from carrot.updates import Certificate

TEXTS = (".json", ".jsonl", ".csv", ".html", ".md", ".txt", ".yaml", ".parquet")


def forget(
    model: Path,
    ids: list[str],
    /,
    *,
    verify: Annotated[bool, Parameter(help="Fit again from scratch without them, and measure the difference.")] = True,
    json: Json = False,
) -> int:
    """Delete training pictures from a model: what is left is what fitting without them would give. A certificate is written.

    The picture files themselves are not touched.

    ```
    carrot forget my_model robin/17.jpg
    carrot forget my_model robin/17.jpg wren/3.jpg --no-verify
    ```

    Args:
        model: Folder of the model.
        ids: Of the training pictures, as audit and explain print them.
        verify: Fit again from scratch without them, and measure the difference.
        json: Print the certificate as JSON.
    """
    from carrot.model import Carrot
    from carrot.store.bundle import load_config
    from carrot.store.files import locked, write_atomically

    load_config(model)  # before anything is made there

    with locked(model):
        found = Carrot.load(model)
        certificate = found.forget(ids, verify)
        found.save(model)
        removed, mentions = _clear(model, certificate)
        answer = {
            **certificate.to_dict(),
            "removed_files": removed,
            "files_that_mention_them": mentions,
            "versions": versions(),
        }
        stamp = certificate.time.replace(":", "").replace("+0000", "Z")
        file = model / "certificates" / f"{stamp}-{certificate.forgotten[0]['sha256'][:8]}.json"
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json_module.dumps(answer, indent=2, ensure_ascii=False).encode())
    lines = [str(certificate)]
    if removed:
        lines.append(f"  removed, for they may show the pictures: {len(removed)} files of explanations/")
    lines += [f"  still mentioned in {name}: delete it, or make it again" for name in mentions]
    show(answer, [*lines, f"certificate: {file}"], json)
    return 0


def add(
    model: Path,
    pictures: list[Path],
    /,
    *,
    label: str,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Add training pictures of a known class to a model: what comes out is what fitting with them would give.

    ```
    carrot add my_model new/1.jpg new/2.jpg --label robin
    ```

    Args:
        model: Folder of the model.
        pictures: Files.
        label: Their class.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        json: Print the result as JSON.
    """
    from carrot.model import Carrot
    from carrot.store.bundle import load_config
    from carrot.store.files import locked

    load_config(model)  # before anything is made there
    with locked(model):
        found = Carrot.load(model, checkpoint=checkpoint, device=device)
        root = _root(found.fitted.data)
        names = [_id(root, path) for path in pictures]
        found.add(pictures, [label] * len(pictures), names)
        found.save(model)
    note("settings and lam are held; fit or select again to choose anew")
    result = {"model": str(model), "added": names, "training_pictures": len(found.records_)}
    show(result, [f"added {len(names)}; {len(found.records_)} training pictures now"], json)
    return 0


def _id(root: Path | None, path: Path) -> str:
    """Return the name that the picture had, or would have had, in the data set that the model was fitted on; else its path."""
    whole = path.resolve()
    return whole.relative_to(root).as_posix() if root is not None and whole.is_relative_to(root) else str(path)


def _root(data: str | None) -> Path | None:
    """Return the folder that the ids of a data set are below, if it has one and is still there."""
    from carrot.data import open_dataset
    from carrot.errors import CarrotError

    if data is None:
        return None
    try:
        root = getattr(open_dataset(data), "root", None)
    except (CarrotError, OSError):
        return None
    return None if root is None else Path(root).resolve()


def _clear(model: Path, certificate: "Certificate") -> tuple[list[str], list[str]]:
    """Delete the explanations kept in a model's folder, which may show what was forgotten; return those, and other files that name it."""
    removed, mentions = [], []
    for path in sorted((model / "explanations").glob("*")):
        if path.is_file():
            path.unlink()
            removed.append(path.relative_to(model).as_posix())
    words = [word.encode() for picture in certificate.forgotten for word in (picture["id"], picture["sha256"])]
    words += [json_module.dumps(picture["id"])[1:-1].encode() for picture in certificate.forgotten]
    for path in sorted(model.rglob("*")):
        if path.is_file() and path.suffix in TEXTS and path.parent.name != "certificates":
            data = path.read_bytes()
            if any(word in data for word in words):
                mentions.append(path.relative_to(model).as_posix())
    return removed, mentions
