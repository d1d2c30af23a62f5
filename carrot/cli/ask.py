"""``carrot explain``, ``audit`` and ``info``: questions that change nothing."""

import hashlib
import json as json_module
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrot._display.words import counted, percent
from carrot.cli import early
from carrot.cli.options import (
    Checkpoint,
    Device,
    EngineOptions,
    Extra,
    Json,
    UsageError,
    Whole,
    note,
    quoted,
    report_set_aside,
    show,
    write_config,
)
from carrot.cli.survey import explain_folder
from carrot.store.versions import versions

if TYPE_CHECKING:
    pass

SHOWN_CLASSES = 20  # of a model, in ``info``


def explain(
    model: Path,
    picture: Path,
    /,
    *,
    target: str | None = None,
    against: str | None = None,
    training: Whole = 4,
    shapley: Extra = False,
    interactions: Extra = False,
    hidden: Extra = False,
    box: str | None = None,
    pages: Whole = 20,
    out: Path | None = None,
    data: str | None = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    verbose: Extra = False,
    json: Json = False,
) -> int:
    """Take one prediction apart, exactly, into regions, training pictures, and pairs of their regions; write a page.

    The page is one file that needs no network: open it, and take away a part of the picture, a training picture or a
    label to see what the model would say then. Beside it lie the same numbers as JSON, and a figure. Of a folder of
    pictures an index is written, a row for each picture, and whole pages of the most doubtful; the same command goes on
    after a kill.

    ```
    carrot explain my_model new.jpg
    carrot explain my_model holiday/ --pages 50
    carrot explain my_model new.jpg --target robin --against wren --out robin_or_wren.html
    carrot explain my_model new.jpg --shapley --interactions
    carrot explain my_model new.jpg --hidden
    ```

    Args:
        model: Folder of the model.
        picture: The picture, or a folder of pictures.
        target: Class to explain. [default: the predicted one]
        against: Explain the difference to this class: why the one and not the other.
        training: How many training pictures to show.
        shapley: Also print the regions' Shapley values; exact up to 16 regions, else with standard errors.
        interactions: Also print which pairs of regions need each other, or stand in for each other.
        hidden: Also print which regions of training pictures hold the logit up, had each never been shown.
        box: Only what lies in this box: X,Y,WIDTH,HEIGHT in pixels, as object:DATA cuts the pictures of a data set.
        pages: Of a folder: how many whole pages to write, of the most doubtful pictures.
        out: The page, or the folder for an index. [default: MODEL/explanations/NAME.html, or MODEL/explanations/NAME/]
        data: Where the training pictures are now, if the data set has moved.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        verbose: Print the proof too: every sum beside what it must be.
        json: Print all numbers as JSON.
    """
    from carrot.errors import StoreError
    from carrot.explanation.written import check_page, write_page
    from carrot.store.outputs import is_regular

    if training < 1:
        raise UsageError(f"`--training` must be at least 1; got {training}.")
    early.need_model(model, picture)
    if picture.is_dir():
        only: dict[str, object] = {"target": target, "against": against, "box": box}
        only |= {"shapley": shapley, "interactions": interactions, "hidden": hidden}
        return explain_folder(model, picture, only, pages, training, out, data, checkpoint, device, json)
    early.need_picture(picture)
    where = early.box_from(box)
    early.need_checkpoint(checkpoint)
    page = out or model / "explanations" / _page_name(picture, target, against, box)
    if page.suffix.lower() not in (".html", ".htm") and is_regular(page):
        raise UsageError(f"`--out` must end in .html; got {page}.")
    try:
        check_page(page)
    except StoreError as error:
        raise StoreError(str(error) if out else f"{error} Say where the page shall go: --out FILE.html.") from error
    early.need_data(data)

    from carrot.cli.suppose import further
    from carrot.model import Carrot

    found = Carrot.load(model, checkpoint=checkpoint, device=device, data=data)
    early.say_if_whole(found, where)
    shown = early.cut(picture, where)
    early.say_if_known(found, model, picture, where)
    explanation = found.explain(shown, target, against, training)
    for row, reason in explanation.missing.items():
        note(f"training picture {explanation.training_ids[row]} is not shown: {reason}")
    early.say_where(explanation.missing.values(), data)
    write_page(explanation, page)
    arguments = {"model": model, "picture": picture, "target": target, "against": against, "training": training}
    arguments |= {"shapley": shapley, "interactions": interactions, "hidden": hidden, "box": box}
    write_config(page.parent, "explain", arguments, page)
    unseen = found.hidden_regions(shown, target, against) if hidden else None
    said = f"{explanation}\n{explanation.proof()}" if verbose else str(explanation)
    lines, more = further(explanation, shapley, interactions, unseen)
    result = {**explanation.to_dict(), **more} if json else {}
    show(result, [*said.splitlines(), *lines, f"page: {page}"], json)
    return 0


def audit(
    model: Path,
    /,
    *,
    top: Whole = 20,
    why: str | None = None,
    duplicates: float = 0.95,
    csv: Path | None = None,
    data: str | None = None,
    held_out: bool = True,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: EngineOptions = EngineOptions(),  # noqa: B008
    json: Json = False,
) -> int:
    """List doubtful labels, pictures that hide each other's, near duplicates, leaks, and pictures of high leverage.

    By exact leave-one-out: no picture is judged by a model that has seen it, and nothing is fitted again but one head,
    in which doubtful labels count less, for their order. Pictures that were held out are judged by the model itself, in
    a table of their own. A label is doubtful where another class is said: it looks wrong where that is sure, and may be
    wrong where it is no surer than of some right labels.

    ```
    carrot audit my_model
    carrot audit my_model --top 100 --csv suspects.csv
    carrot audit my_model --no-held-out
    carrot audit my_model --why robin/3.jpg
    ```

    Args:
        model: Folder of the model.
        top: How many to print: of doubtful training labels, of held-out ones, and of near duplicates; the CSV and the
            JSON have all.
        why: Argue the case of this training picture alone: who speaks for its label and who against, where, and what
            relabelling it or leaving it out would do to all leave-one-out answers. Its id, as it is listed.
        duplicates: Cosine from which two pictures count as nearly the same, where they also are nearer than pictures of
            their kind are.
        csv: Write a line for each picture, most suspicious first.
        data: Where held-out pictures are. [default: the data set that the model was fitted on]
        held_out: Look at held-out pictures too; the backbone runs once on each.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        engine: Who looks at held-out pictures, and goes over the embeddings of training pictures, where there are many.
        json: Print all of it as JSON.
    """
    from carrot.store.outputs import check_output, check_replaced, write_output

    engine.require()
    if top < 0:
        raise UsageError(f"`--top` must be 0 or more; got {top}.")
    if not 0 < duplicates <= 1:
        raise UsageError(f"`--duplicates` must be a cosine in (0, 1]; got {duplicates}.")
    early.need_model(model, *([Path(data)] if data else []))
    early.need_data(data)
    if csv is not None:
        check_output(csv)
        check_replaced(csv)

    from carrot.classifier.audit import Audit
    from carrot.classifier.files import load
    from carrot.classifier.held_out import held_out as measurable
    from carrot.errors import CarrotError

    classifier = load(model, checkpoint, device)
    fitted = classifier.fitted
    with engine.at_work():
        if why is not None:
            from carrot.classifier.arguing import case_of

            case = case_of(classifier, why, duplicates)
            show({"model": str(model), **case.to_dict()}, case.lines(), json)
            return 0
        found, where = Audit.of(fitted, duplicates), data or fitted.data
        if held_out and where is None:
            note(
                "held-out pictures are not looked at: the model was fitted from Python. Say where they are: --data DATA"
            )
        elif held_out and where is not None:
            try:
                test = measurable(classifier, where, model / "tokens")
                found = found.with_held_out(fitted, test)
                report_set_aside(test.set_aside)
            except (CarrotError, OSError) as error:
                if data is not None:
                    raise
                note(f"held-out pictures are not looked at: {error} Elsewhere: --data DATA; not at all: --no-held-out")
    if csv is not None:
        write_output(csv, found.to_csv().encode())
        arguments = {"model": model, "data": data, "top": top, "duplicates": duplicates, "held_out": held_out}
        write_config(csv.parent, "audit", arguments, csv)
    lines = found.lines(top)
    if doubtful := found.doubtful:
        command = f"carrot relabel {quoted(model)} {quoted(doubtful[0].id)} {quoted(doubtful[0].suggested)}"
        lines += [
            f"to mend the first, if you agree: {command}",
            f"what speaks for and against it: carrot audit {quoted(model)} --why {quoted(doubtful[0].id)}",
            f"one by one, with their pictures: carrot explore {quoted(model)}",
        ]
    show({"model": str(model), **found.to_dict()}, lines, json)
    return 0


def info(model: Path | None = None, /, *, json: Json = False) -> int:
    """Say what a model was made with; without one, which versions and data sets there are.

    ```
    carrot info
    carrot info my_model
    ```

    Args:
        model: Folder of the model.
        json: Print the result as JSON.
    """
    if model is None:
        from carrot._choices import LIFTS, forms
        from carrot.data.opening import KINDS

        lifts = {name: choice.what for name, choice in LIFTS.items()}
        result: dict[str, object] = {"versions": versions(), "data": sorted(KINDS), "lifts": lifts}
        lines = [f"{name} {text}" for name, text in versions().items()]
        lines += [f"lift {form}: {what}" for form, what in zip(forms(LIFTS).split(", "), lifts.values(), strict=True)]
        lines.append(f"data sets: a folder is looked into, or {', '.join(kind.form for kind in KINDS.values())}")
    else:
        from carrot.embedding.setting import Setting
        from carrot.store.layout import load_config

        early.need_model(model)
        result = dict(load_config(model))
        found: dict[str, Any] = dict(result)
        encoder, ridge, names, loo = found["encoder"], found["ridge"], found["names"], found["leave_one_out"]
        setting = Setting(**found["embedding"])
        some = ", ".join(map(str, names[:SHOWN_CLASSES])) + f" and {len(names) - SHOWN_CLASSES} more" * (
            len(names) > SHOWN_CLASSES
        )
        trained, weights = found["trained_on"], encoder.get("checkpoint")
        weight = ridge.get("class_weight")
        alike = "all pictures count alike" if weight is None else f"class weights {weight}"
        centred = "centred" if ridge["fit_intercept"] else "not centred"
        how = " (by exact leave-one-out)" if ridge.get("asked_lam") == "loo" else ""
        n = counted(trained["pictures"], "training picture")
        lines = [
            f"regions: {setting.regions_in_words(encoder.get('tile_size', 0))}",
            f"{n} of {counted(len(names), 'class', 'classes')}, from {trained['data'] or 'Python'}",
            f"classes: {some}",
            f"right in {percent(loo['loo_accuracy'])} of training pictures, each judged without itself (leave-one-out)",
            f"backbone: {encoder['name']}" + (f", weights from {weights}" if weights else ""),
            f"  crop {encoder['crop']!r}, in {encoder.get('precision', 'float32')}, tokens kept as {encoder['dtype']}; "
            f"fingerprint {encoder['fingerprint'][:12]}",
            f"embedding: {setting}",
            f"ridge: lam {ridge['lam']:.3g}{how}, {centred}, {alike}",
            f"temperature of the probabilities: {found['calibration']['temperature']:.3g}",
            *([f"state: SHA-256 {found['sha256'][:12]}"] if "sha256" in found else []),
            "all digits: --json",
        ]
    show(result, lines, json)
    return 0


def _page_name(picture: Path, target: str | None, against: str | None, box: str | None) -> str:
    """Return a name of its own for each path and question, of a length that leaves room for what lies beside it."""
    given = (("target", target), ("against", against), ("box", box))
    asked = {name: value for name, value in given if value is not None}
    whole = os.fsencode(picture.absolute()) + (os.fsencode(json_module.dumps(asked)) if asked else b"")
    words = [picture.stem[:80], *(f"{name}-{value[:20]}" for name, value in asked.items() if name != "box")]
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join(words))
    return f"{stem}-{hashlib.sha256(whole).hexdigest()[:6]}.html"
