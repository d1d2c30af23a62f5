"""``carrot evaluate`` and ``carrot bench``: how good a model is, how honest its explanations, how fast each stage."""

from pathlib import Path

from carrot.cli.options import (
    STRICT,
    Checkpoint,
    Device,
    Json,
    Strict,
    UsageError,
    quoted,
    report_set_aside,
    show,
    write_config,
)


def evaluate(
    model: Path,
    data: str | None = None,
    /,
    *,
    explained: int = 50,
    occluded: int = 10,
    refits: int = 5,
    baselines: bool = True,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    strict: Strict = False,
    json: Json = False,
) -> int:
    """Measure a model on test pictures: accuracy, calibration, every class, explanations against the truth, time; with baselines.

    Numbers and tables to paste are written to MODEL/evaluation. Faithfulness is measured at token level (exact) and at pixel level
    (patches occluded, backbone run again): two families of numbers, never mixed.

    ```
    carrot evaluate my_model
    carrot evaluate my_model other_pictures --explained 200 --no-baselines
    ```

    Args:
        model: Folder of the model.
        data: Data set. [default: the one that it was fitted on]
        explained: How many test pictures to explain, evenly spaced; 0: none.
        occluded: How many of those to occlude at pixel level; the backbone runs again some 30 times for each.
        refits: How many leave-one-outs to check against real fits.
        baselines: Measure class token, mean, kNN and logistic regression beside it.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        strict: End with status 3 if a picture had to be set aside.
        json: Print the result as JSON.
    """
    import json as json_module

    from carrot.errors import DataError
    from carrot.model import Carrot
    from carrot.protocol import evaluate as run
    from carrot.protocol_tables import lines_of, markdown_of
    from carrot.store.files import write_atomically

    found = Carrot.load(model, checkpoint=checkpoint, device=device)
    where = data or found.fitted.data
    if where is None:
        raise ValueError("DATA is missing, and the model does not know which data set it was fitted on. Give one.")
    try:
        result = run(found, where, model, explained, occluded, refits, baselines)
    except DataError as error:
        hint = (
            ""
            if data
            else f" The model was fitted on {where}; if that has moved: carrot evaluate {quoted(model)} DATA."
        )
        raise DataError(f"{error}{hint}") from error
    folder = model / "evaluation"
    folder.mkdir(exist_ok=True)
    text = json_module.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "metrics.json", text.encode())
    write_atomically(folder / "tables.md", markdown_of(result).encode())
    arguments = {
        "explained": explained,
        "occluded": occluded,
        "refits": refits,
        "baselines": baselines,
        "device": device,
    }
    write_config(folder, "evaluate", {"model": model, "data": where, **arguments})
    report_set_aside(result["set_aside"])
    show(result, [*lines_of(result), f"numbers: {folder / 'metrics.json'}", f"tables: {folder / 'tables.md'}"], json)
    return STRICT if strict and result["set_aside"] else 0


def bench(
    model: Path,
    /,
    *,
    pictures: int = 8,
    rounds: int = 5,
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
    from carrot.model_files import load
    from carrot.protocol_timing import time_stages

    if pictures < 1 or rounds < 1:
        raise UsageError(f"`--pictures` and `--rounds` must be at least 1; got {pictures} and {rounds}.")
    encoder, fitted = load(model, checkpoint, device)
    stages = time_stages(encoder, fitted, pictures, rounds)
    lines = [f"{name:<52} {milliseconds:9.3f} ms" for name, milliseconds in stages.items()]
    show({"model": str(model), "milliseconds_a_picture": stages}, lines, json)
    return 0
