"""``carrot forget`` and ``carrot add``: exact changes of a model, at one moment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from carrot.cli.options import Checkpoint, Device, Json, note, show, versions

if TYPE_CHECKING:
    from carrot.model import Carrot
    from carrot.store.certificates import Finished


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
    from carrot.store.certificates import begin, complete
    from carrot.store.files import locked

    load_config(model)  # before anything is made there
    with locked(model):
        found = Carrot.load(model)
        done = _finished(model, found)
        names = {picture["id"] for picture in done.certificate["forgotten"]} if done else set()
        left = [name for name in ids if name not in names]
        lines = [f"forgot {', '.join(sorted(names))}, in the run that was cut off"] if done else []
        if done is None or left:
            certificate = found.forget(left, verify)
            facts = {**certificate.to_dict(), "versions": versions()}
            begin(model, facts)
            found.save(model)
            done, lines = complete(model, facts), [str(certificate)]
    answer = done.certificate
    if answer["removed_files"]:
        lines.append(
            f"  removed, for they may show the pictures: {len(answer['removed_files'])} files of explanations/ and tokens/"
        )
    lines += [f"  still mentioned in {name}: delete it, or make it again" for name in answer["files_that_mention_them"]]
    show(answer, [*lines, f"certificate: {done.file}"], json)
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
        _finished(model, found)
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


def _finished(model: Path, found: "Carrot") -> "Finished | None":
    """Finish a deletion that was cut off, before anything else is changed."""
    from carrot.store.certificates import finish

    done = finish(model, {(record.id, record.sha256) for record in found.records_})
    if done is not None:
        note(f"finished a deletion that was cut off: {done.file}")
    return done
