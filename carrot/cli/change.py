"""``carrot forget``, ``relabel``, ``add`` and ``apply``: exact changes of a model, at one moment, each certified."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from carrot._display.words import counted
from carrot.cli import early
from carrot.cli.options import Checkpoint, Device, Extra, Json, UsageError, note, quoted, show
from carrot.store.versions import versions

if TYPE_CHECKING:
    from carrot.classifier.certificate import Certificate
    from carrot.model import Carrot
    from carrot.store.certificates import Finished

Verify = Annotated[bool, Parameter(help="Fit again from scratch on the changed pictures, and measure the difference.")]
NewClass = Annotated[bool, Parameter(negative="", help="A label may be a class that the model doesn't know yet.")]


def forget(
    model: Path,
    ids: list[str] | None = None,
    /,
    *,
    classes: Annotated[list[str] | None, Parameter(name="--class", consume_multiple=True, negative="")] = None,
    again: Annotated[bool, Parameter(negative="")] = False,
    verify: Verify = True,
    verbose: Extra = False,
    json: Json = False,
) -> int:
    """Delete training pictures from a model: what is left is what fitting without them gives. A certificate is written.

    The picture files themselves are not touched.

    ```
    carrot forget my_model robin/17.jpg
    carrot forget my_model robin/17.jpg wren/3.jpg --no-verify
    carrot forget my_model --class robin
    ```

    Args:
        model: Folder of the model.
        ids: Of the training pictures, as audit and explain print them.
        classes: Whole classes, with all their pictures.
        again: Choose lam again too, by leave-one-out of the pictures that are left; else it stays as it is.
        verify: Fit again from scratch without them, and measure the difference.
        verbose: Print what was measured, and what the change doesn't say.
        json: Print the certificate as JSON.
    """
    names, whole = list(ids or ()), list(classes or ())
    if not (names or whole):
        raise UsageError("Which pictures? Name some by id, or a `--class`.")
    asked = {"command": "forget", "ids": names, "classes": whole, **({"again": True} if again else {})}

    def change(found: "Carrot", done: "Finished | None") -> "Certificate | None":
        gone = {picture["id"] for picture in done.certificate["forgotten"]} if done else set()
        left = [name for name in names if name not in gone]
        return found.forget(left, verify, classes=whole, again=again) if left or whole else None

    return _changed(model, asked, change, verbose, json)


def relabel(
    model: Path,
    id: str,
    label: str,
    /,
    *,
    new_class: NewClass = False,
    verify: Verify = True,
    verbose: Extra = False,
    json: Json = False,
) -> int:
    """Give a training picture another label: what comes out is what fitting with it gives. A certificate is written.

    The picture file itself is not moved: move it too, before you fit again. For many at once: carrot apply.

    ```
    carrot relabel my_model robin/17.jpg wren
    ```

    Args:
        model: Folder of the model.
        id: Of the training picture, as audit and explain print it.
        label: Its right class.
        new_class: The label may be a class that the model doesn't know yet.
        verify: Fit again from scratch with it, and measure the difference.
        verbose: Print what was measured, and what the change doesn't say.
        json: Print the certificate as JSON.
    """
    asked = {"command": "relabel", "id": id, "label": label}
    return _changed(
        model, asked, lambda found, _: found.relabel({id: label}, verify, new_classes=new_class), verbose, json
    )


def add(
    model: Path,
    pictures: list[Path],
    /,
    *,
    label: str,
    box: str | None = None,
    new_class: NewClass = False,
    verify: Verify = True,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    verbose: Extra = False,
    json: Json = False,
) -> int:
    """Add training pictures to a model: what comes out is what fitting with them gives. A certificate is written.

    ```
    carrot add my_model new/1.jpg new/2.jpg --label robin
    carrot add my_model new/1.jpg --label robin --box 40,30,200,180
    ```

    Args:
        model: Folder of the model.
        pictures: Files.
        label: Their class.
        box: Only what lies in this box: X,Y,WIDTH,HEIGHT in pixels, as object:DATA cuts the pictures of a data set.
        new_class: The label may be a class that the model doesn't know yet.
        verify: Fit again from scratch with them, and measure the difference.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        verbose: Print what was measured, and what the change doesn't say.
        json: Print the certificate as JSON.
    """
    early.need_model(model, *pictures[:1])
    for picture in pictures:
        early.need_picture(picture)
    early.need_checkpoint(checkpoint)
    where = early.box_from(box)
    if box is not None and len(pictures) != 1:
        raise UsageError(f"`--box` goes with one picture; got {len(pictures)}. Add them one by one.")
    asked = {"command": "add", "pictures": [str(path) for path in pictures], "label": label}
    if box is not None:
        asked["box"] = box

    def change(found: "Carrot", _: "Finished | None") -> "Certificate":
        early.say_if_whole(found, where)
        root = _root(found.fitted.data)
        names = [_id(root, path) for path in pictures]
        if box is not None and names[0] in found.fitted.places:  # another object of the same picture
            names[0] += f" (box {box})"
        given = [early.cut(path, where) for path in pictures]
        return found.add(given, [label] * len(pictures), names, verify, new_classes=new_class)

    return _changed(model, asked, change, verbose, json, checkpoint=checkpoint, device=device)


def apply(
    model: Path,
    edits: Path,
    /,
    *,
    out: Path | None = None,
    new_class: NewClass = False,
    verify: Verify = True,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    verbose: Extra = False,
    json: Json = False,
) -> int:
    """Apply a table of edits, all of them or none: forget, relabel and add. A certificate is written.

    The table is CSV with the columns id, action (forget, relabel, add) and label. Of a picture to add, id is its path
    from the table's folder. The files of other pictures stay where they are: move them too, before you fit again.

    ```
    carrot apply my_model edits.csv --out my_model-2
    carrot apply my_model edits.csv
    ```

    Args:
        model: Folder of the model.
        edits: The table.
        out: Leave the model as it is, and write the changed one to this new folder beside it.
        new_class: A label may be a class that the model doesn't know yet.
        verify: Fit again from scratch on the changed pictures, and measure the difference.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        verbose: Print what was measured, and what the change doesn't say.
        json: Print the certificate as JSON.
    """
    from hashlib import sha256

    from carrot.classifier.edits import read_edits

    early.need_model(model)
    rows, _ = read_edits(edits)
    if out is not None:
        return _beside(model, edits, out, verbose, json, new_class, verify, checkpoint=checkpoint, device=device)
    asked = {"command": "apply", "table": sha256(edits.read_bytes()).hexdigest()}

    def change(found: "Carrot", _: "Finished | None") -> "Certificate":
        if any(edit.action == "add" for edit in rows):
            early.say_if_whole(found, None, "--box of carrot add")
        return found.apply(edits, verify, new_classes=new_class)

    return _changed(model, asked, change, verbose, json, checkpoint=checkpoint, device=device)


def _beside(
    model: Path, edits: Path, out: Path, verbose: bool, as_json: bool, new_class: bool, verify: bool, **options: Any
) -> int:
    """Write the model as a table makes it into a new folder beside it."""
    from carrot.app.versions import NAME, new_version, next_name
    from carrot.classifier.files import seal

    whole = model.resolve()
    if out.resolve().parent != whole.parent or not NAME.fullmatch(out.name):
        raise UsageError(
            f"`--out` must be a new folder beside the model, of letters, digits, '.', '_' and '-'; got {out}. "
            f"For example {model.parent / next_name(model)}."
        )
    if out.exists():
        raise UsageError(f"`--out` {out}: is there already. Give another name: {model.parent / next_name(model)}.")
    made = new_version(model, edits, out.name, seal(model), versions(), new_class, verify, **options)
    lines = [*made.text.splitlines(), *_files_stay(made.certificate)]
    if verbose:
        lines.append(f"  {made.certificate['scope']}")
    lines.append(f"  {model} is as it was")
    result = {**made.certificate, "model": str(out), "certificate": str(made.file)}
    result["training_pictures"] = made.certificate["pictures_after"]
    show(result, [*lines, f"certificate: {made.file}", f"model: {out}"], as_json)
    return 0


def _files_stay(certificate: Mapping[str, Any]) -> list[str]:
    """Return in a line that picture files are as they were, where fitting again would undo the change."""
    again = [
        what
        for name, what in (("relabelled", "the old labels"), ("forgotten", "the forgotten pictures"))
        if certificate[name]
    ]
    if not again:
        return []
    return [f"  the picture files stay where they are: a fit from their folder would read {' and '.join(again)} again"]


def _changed(
    model: Path,
    asked: dict[str, Any],
    change: Callable[["Carrot", "Finished | None"], "Certificate | None"],
    verbose: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Change a model in its folder, one process at a time, and write the certificate.

    A change that was cut off is finished first.
    """
    early.need_model(model)  # before anything is made there

    from carrot.model import Carrot
    from carrot.store.certificates import begin, complete, pages_of
    from carrot.store.files import locked

    with locked(model):
        found = Carrot.load(model, **options)
        done = _finished(model, found)
        lines = [f"this was done in the run that was cut off: {done.file}"] if done else []
        certificate = None if done and done.certificate.get("asked") == asked else change(found, done)
        if certificate is not None:
            facts = {**certificate.to_dict(), "asked": asked, "versions": versions()}
            begin(model, facts)
            found.save(model)
            done, lines = complete(model, facts), str(certificate).splitlines()
    if done is None:
        raise RuntimeError("a change that is refused raises")
    answer = done.certificate
    if answer["removed_files"]:
        gone = counted(len(answer["removed_files"]), "file")
        lines.append(f"  also deleted, for they may show it: {gone} of explanations/ and tokens/")
    lines += [f"  still mentioned in {name}: delete it, or make it again" for name in answer["files_that_mention_them"]]
    lines += _files_stay(answer)
    pages, reports = pages_of(model)
    lines += _old_pages(model, pages, reports)
    if verbose:
        lines += certificate.proof().splitlines() if certificate is not None else [f"  {answer['scope']}"]
    if answer["forgotten"]:  # who must delete has to know where nobody looked
        lines.append(f"  looked for in {model} alone: pages and tables that were written elsewhere are not known")
    result = {**answer, "model": str(model), "training_pictures": len(found.records_), "certificate": str(done.file)}
    result["pages_of_the_model_before"] = [str(page) for page in (*pages, *reports)]
    show(result, [*lines, f"certificate: {done.file}"], as_json)
    return 0


def _old_pages(model: Path, pages: Sequence[Path], reports: Sequence[Path]) -> list[str]:
    """Return in a line which pages of a model are those of the model as it was, and how they are made anew."""
    what = [f"{counted(len(pages), 'page')} in {model / 'explanations'}"] if pages else []
    how = ["carrot explain (and the picture)"] if pages else []
    what += [str(page) for page in reports]
    how += [f"carrot report {quoted(model)}" for _ in reports]
    if not what:
        return []
    are = "is" if len(pages) + len(reports) == 1 else "are"
    return [f"  {' and '.join(what)} {are} still of the model as it was; anew: {' and '.join(how)}"]


def _id(root: Path | None, path: Path) -> str:
    """Return the name that the picture had, or would have had, in the data set of the model's fit; else its path."""
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
    """Finish a change that was cut off, before anything else is changed."""
    from carrot.store.certificates import finish

    names = found.fitted.classes
    done = finish(model, {(record.id, record.sha256): names[record.label] for record in found.records_})
    if done is not None:
        note(f"finished a change that was cut off: {done.file}")
    return done
