"""Many answers on one page: ``carrot report``, and ``carrot explain`` of a folder of pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from carrot._display.words import counted
from carrot.cli import early
from carrot.cli.options import (
    Checkpoint,
    Device,
    Extra,
    Json,
    UsageError,
    note,
    quoted,
    report_set_aside,
    show,
    write_config,
)

SOME = 5  # pictures that are named in the terminal


def report(
    model: Path,
    /,
    *,
    held_out: Annotated[
        Extra, Parameter(help="Let the backbone run on held-out pictures that it has not looked at.")
    ] = False,
    out: Path | None = None,
    data: str | None = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Write one page of a whole model: how good, how honest, what it confuses, doubtful labels, what carries a class.

    The page is one file that needs no network. It takes seconds: held-out pictures are judged where their tokens are
    kept, and what `carrot evaluate` measured is shown; what was not measured is said, with the command that does it.

    ```
    carrot report my_model
    carrot report my_model --held-out --out report.html
    ```

    Args:
        model: Folder of the model.
        held_out: Let the backbone run on held-out pictures that it has not looked at.
        out: The page. [default: MODEL/report.html]
        data: Where the data set is now, if it has moved.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        json: Print all numbers as JSON.
    """
    from carrot.store.outputs import check_output, check_replaced, is_regular

    early.need_model(model, *([Path(data)] if data else []))
    early.need_data(data)
    early.need_checkpoint(checkpoint)
    page = out or model / "report.html"
    if page.suffix.lower() not in (".html", ".htm") and is_regular(page):
        raise UsageError(f"`--out` must end in .html; got {page}.")
    check_output(page)
    check_replaced(page)

    from carrot.model import Carrot

    found = Carrot.load(model, checkpoint=checkpoint, device=device, data=data).report(data, held_out=held_out)
    found.to_html(page)
    write_config(page.parent, "report", {"model": model, "data": data, "held-out": held_out}, page)
    for gap in found.gaps:
        note(f"not measured: {gap.what}: {gap.why}. To have it: {gap.command}")
    early.say_where((reason for reason in found.pictures.values() if isinstance(reason, str)), data)
    show(found.to_dict() if json else {}, [*str(found).splitlines(), f"page: {page}"], json)
    return 0


def explain_folder(
    model: Path,
    folder: Path,
    only: Mapping[str, object],
    pages: int,
    training: int,
    out: Path | None,
    data: str | None,
    checkpoint: Path | None,
    device: str,
    json: bool,
) -> int:
    """Write the index of a folder of pictures; ``only`` is what goes with one picture alone, by flag."""
    given = next((flag for flag, value in only.items() if value), None)
    if given is not None:
        raise UsageError(f"`--{given}` goes with one picture; {folder} is a folder. Give one picture in it.")
    if pages < 0:
        raise UsageError(f"`--pages` must be 0 or more; got {pages}.")
    if out is not None and out.suffix.lower() in (".html", ".htm"):
        raise UsageError(
            f"`--out` must be a folder where the pictures are a folder: for index.html and more; got {out}."
        )
    early.need_checkpoint(checkpoint)
    early.need_data(data)

    from carrot.overview.index_page import check_index, index_place, write_index

    place = out or index_place(model, folder)
    check_index(place)

    from carrot.classifier.files import seal
    from carrot.model import Carrot

    found = Carrot.load(model, checkpoint=checkpoint, device=device, data=data)
    early.say_if_whole(found, None)
    index = write_index(found.classifier, folder, place, seal(model) or "", pages, training, quoted(model))
    write_config(
        place, "explain", {"model": model, "picture": folder, "training": training, "pages": pages}, index.page
    )
    report_set_aside(index.rows.aside)
    n, wrong = len(index.rows.rows), [row for row in index.rows.doubtful_first if row.is_wrong]
    whole = counted(len(index.pages), "whole page")
    lines = [f"{counted(n, 'picture')} explained, {len(index.rows.aside)} set aside; {whole}"]
    if len(index.pages) < n:
        lines.append(
            "whole pages are of what contradicts its folder, then of what is least sure; more of them: --pages N"
        )
    if index.again:
        were = "was" if index.again == 1 else "were"
        lines.append(f"{counted(index.again, 'row or page', 'rows and pages')} {were} there already")
    lines += [
        f"  {row.file}: {row.predicted}, {row.probability:.3f}; its folder says {row.label}" for row in wrong[:SOME]
    ]
    rest = len(wrong) - SOME
    lines += [f"  and {rest:,} more that {'contradicts its' if rest == 1 else 'contradict their'} folder"] * (rest > 0)
    show(index.to_dict() if json else {}, [*lines, f"page: {index.page}"], json)
    return 0
