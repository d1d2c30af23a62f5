"""``carrot evaluate`` and ``carrot bench``: how good a model is, how honest its explanations, how fast each stage."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrot._display.words import counted
from carrot.cli import early
from carrot.cli.options import (
    STRICT,
    Checkpoint,
    Device,
    EngineOptions,
    Extra,
    Json,
    Strict,
    UsageError,
    Whole,
    note,
    printable,
    quoted,
    report_set_aside,
    show,
    write_config,
)

if TYPE_CHECKING:
    from carrot.classifier.classifier import Classifier


def evaluate(
    model: Path,
    data: str | None = None,
    /,
    *,
    explained: Whole = 50,
    occluded: Whole = 0,
    refits: Whole = 5,
    baselines: bool = True,
    out: Path | None = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: EngineOptions = EngineOptions(),  # noqa: B008
    strict: Strict = False,
    verbose: Extra = False,
    json: Json = False,
) -> int:
    """Measure a model on test pictures: is it better than what else one would take, and do its maps tell the truth.

    Accuracy comes first; it ends in a verdict. All numbers (calibration, each class, baselines, every measure of the
    maps, times) are in tables.md, and printed with --verbose.

    A data set that has a split of its own is measured on its test pictures; any other is measured whole, but for
    pictures that the model was fitted on: of the folder that it was fitted on, that is the fifth that was held out.

    Numbers and tables to paste are written to MODEL/evaluation, those of another data set to a folder of its own there.
    Maps are measured by dropping regions, which is exact and costs no pass of the backbone; --occluded also measures
    them at pixel level, with the backbone run again: another family of numbers, never mixed with these.

    ```
    carrot evaluate my_model
    carrot evaluate my_model other_pictures --explained 200 --no-baselines
    ```

    Args:
        model: Folder of the model.
        data: Data set. [default: the one that it was fitted on]
        explained: How many test pictures to explain, evenly spaced; 0: none.
        occluded: How many of those to measure at pixel level too; the backbone runs again up to 112 times for each (84
            without diffusion), which is told before.
        refits: How many leave-one-outs to check against real fits, and with them the removal of a group; 0: neither.
        baselines: Measure class token, mean, kNN and logistic regression beside it.
        out: Folder for numbers and tables. [default: MODEL/evaluation, or for another data set
            MODEL/evaluation/NAME-HASH]
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        engine: Who looks at the pictures.
        strict: End with status 3 if a picture had to be set aside.
        verbose: Print every table too.
        json: Print the result as JSON.
    """
    import json as json_module

    for name, number in (("explained", explained), ("occluded", occluded), ("refits", refits)):
        if number < 0:
            raise UsageError(f"`--{name}` must be 0 or more; got {number}.")
    early.need_model(model, *([Path(data)] if data else []))
    early.need_data(data)
    early.need_checkpoint(checkpoint)
    engine.require()

    from carrot.errors import DataError, ModelError
    from carrot.model import Carrot
    from carrot.protocol.measure import evaluate as run
    from carrot.protocol.tables import lines_of, markdown_of, short_lines, verdict
    from carrot.store.outputs import check_folder, write_output

    found = Carrot.load(model, checkpoint=checkpoint, device=device)
    where = data or found.fitted.data
    if where is None:
        raise ValueError("DATA is missing, and the model does not know which data set it was fitted on. Give one.")
    is_writable = os.access(model, os.W_OK)
    if out is None and not is_writable:
        raise ModelError(f"{model}: can't be written to. Say where numbers, tables and tokens shall go: --out FOLDER.")
    if out is not None:
        check_folder(out)  # before the work, not after it
        _refuse_others_numbers(out)

    said = lines_of if verbose else short_lines

    def done(answer: dict[str, Any], phase: str) -> None:
        for line in () if json else said(answer, phase):
            print(printable(line), flush=True)
        if phase == "accuracy" and baselines:
            n = answer["model"]["training_pictures"] + answer["data"]["test_pictures"]
            note(
                "measuring plain ways beside it: the backbone looks once at each of "
                f"{counted(n, 'picture')} whole, unless it did before. Without: --no-baselines"
            )
        if phase == "checks" and explained:
            note(_cost(answer, explained, occluded, found.classifier))

    tokens = model if is_writable else out or model
    try:
        with engine.at_work():
            result = run(found, where, tokens, explained, occluded, refits, baselines, done)
    except DataError as error:
        hint = (
            ""
            if data
            else f" The model was fitted on {where}; if that has moved: carrot evaluate {quoted(model)} DATA."
        )
        raise DataError(f"{error}{hint}") from error
    folder = out or model / "evaluation" / (
        "" if result["data"]["is_own"] else _folder_name(result["data"]["name"], where)
    )
    numbers = json_module.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    tables = markdown_of(result)  # both are made before either is replaced
    write_output(folder / "metrics.json", numbers.encode())
    write_output(folder / "tables.md", tables.encode())
    arguments = {
        "explained": explained,
        "occluded": occluded,
        "refits": refits,
        "baselines": baselines,
        "device": device,
    }
    write_config(folder, "evaluate", {"model": model, "data": where, **arguments})
    report_set_aside(result["set_aside"])
    last = [*(verdict(result) if verbose else ()), f"numbers: {folder / 'metrics.json'}"]
    show({**result, "verdict": list(verdict(result))}, [*last, f"tables: {folder / 'tables.md'}"], json)
    return STRICT if strict and result["set_aside"] else 0


def _cost(answer: dict[str, Any], explained: int, occluded: int, classifier: "Classifier") -> str:
    """Return what explaining so many pictures will cost: by the times that were just measured."""
    from carrot.protocol.pixel_level import inputs_of, passes

    times = answer["milliseconds_a_picture"]
    there = min(explained, answer["data"]["test_pictures"])
    by_occlusion = min(there, occluded)
    runs = passes(classifier, by_occlusion)
    each = next(ms for what, ms in times.items() if what.startswith("explanation"))
    seconds = there * each / 1e3
    said = f"explaining {counted(there, 'picture')}"
    if runs:
        seconds += runs / inputs_of(classifier) * times["backbone"] / 1e3
        said += f"; {by_occlusion} of them at pixel level too, {counted(runs, 'pass', 'passes')} of the backbone"
    return f"{said}: {seconds:.0f} s or more. Fewer: --explained{', --occluded' if runs else ''}"


def _refuse_others_numbers(folder: Path) -> None:
    """Refuse a folder with files of the names that are written there, where no evaluation wrote them."""
    from carrot.errors import StoreError
    from carrot.store.layout import WRITTEN

    settings = folder / "evaluate.yaml"
    is_ours = settings.is_file() and WRITTEN.match(settings.read_bytes())
    theirs = [
        name for name in ("metrics.json", "tables.md", "evaluate.yaml") if (folder / name).exists() and not is_ours
    ]
    if theirs:
        raise StoreError(
            f"{folder}: holds a {theirs[0]} that no evaluation wrote. Choose another folder: --out FOLDER."
        )


def _folder_name(name: str, data: str) -> str:
    """Return a name of its own for each data set; data sets at two places may be called alike."""
    from carrot.data.opening import resolved

    return f"{name[:100]}-{hashlib.sha256(os.fsencode(resolved(data))).hexdigest()[:6]}"


def bench(
    model: Path,
    /,
    *,
    pictures: Whole = 8,
    rounds: Whole = 5,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Time each stage on this machine, on noise pictures of the model's input size: milliseconds a picture, medians.

    ```
    carrot bench my_model
    carrot bench my_model --pictures 32 --rounds 3
    ```

    Args:
        model: Folder of the model.
        pictures: Pictures in a batch.
        rounds: How often each stage is timed.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        json: Print the result as JSON.
    """
    from carrot.data.counts import Counts

    if pictures < 1 or rounds < 1:
        raise UsageError(f"`--pictures` and `--rounds` must be at least 1; got {pictures} and {rounds}.")
    early.need_model(model)
    early.need_checkpoint(checkpoint)

    from carrot.classifier.files import load
    from carrot.protocol.timing import time_stages

    stages = time_stages(load(model, checkpoint, device), pictures, rounds)
    lines = ["milliseconds a picture, medians:"]
    lines += [f"{name:<52} {milliseconds:9.3f} ms" for name, milliseconds in stages.items()]
    counts = Counts(pictures)
    lines.append(f"{counts.line('timed')}, of noise, {counted(rounds, 'time')}")
    show({"model": str(model), "milliseconds_a_picture": stages, "counts": counts.to_dict()}, lines, json)
    return 0
