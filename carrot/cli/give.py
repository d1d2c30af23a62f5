"""``carrot export``: what other tools read."""

from pathlib import Path

from carrot._display.words import counted
from carrot.cli import early
from carrot.cli.options import Checkpoint, Device, Json, UsageError, Whole, report_set_aside, show, write_config


def export(
    model: Path,
    out: Path,
    /,
    *,
    data: str | None = None,
    influences: Whole = 3,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Write one line per picture (prediction, suspicion, top influences) as .csv or .parquet; or the model as .onnx.

    Training pictures are told by exact leave-one-out. With --data, pictures of it that the model was not fitted on are
    predicted too: the test pictures, where it has a split of its own, otherwise all. The table opens in pandas,
    FiftyOne and Spotlight. Parquet needs pyarrow, ONNX onnx, onnxscript and onnxruntime: without them it is said how to
    get them.

    ```
    carrot export my_model table.csv
    carrot export my_model table.parquet --data my_pictures
    carrot export my_model model.onnx
    ```

    Args:
        model: Folder of the model.
        out: File to write: .csv, .parquet or .onnx.
        data: Data set whose pictures are added to the table.
        influences: How many training pictures to name for each picture.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        json: Print what was written as JSON.
    """
    from carrot.store.outputs import check_output, check_replaced

    kind = out.suffix.lower()
    if kind not in (".csv", ".parquet", ".onnx"):
        raise ValueError(f"{out}: must end in .csv, .parquet or .onnx; got {kind or 'no ending'}.")
    if influences < 0:
        raise UsageError(f"`--influences` must be 0 or more; got {influences}.")
    early.need_packages(kind)
    early.need_model(model)
    early.need_data(data)
    early.need_checkpoint(checkpoint)
    check_output(out)
    check_replaced(out)

    from carrot.classifier.files import load

    classifier = load(model, checkpoint, device)
    fitted = classifier.fitted
    if kind == ".onnx":
        from carrot.export.onnx_file import export_onnx

        facts = export_onnx(classifier, out)
        write_config(out.parent, "export", {"model": model}, out)
        show(
            {"file": str(out), **facts},
            [f"{out}: largest difference from the model {facts['largest_difference']:.1e}"],
            json,
        )
        return 0
    from carrot.classifier.held_out import held_out
    from carrot.data.counts import Counts
    from carrot.export.table import held_out_rows, training_rows, write_table

    rows, counts = training_rows(fitted, influences), {"training": Counts(len(fitted.records))}
    if data is not None:
        found = held_out(classifier, data, model / "tokens")
        report_set_aside(found.set_aside)
        rows, counts["held_out"] = rows + held_out_rows(fitted, found, influences), found.counts
    write_table(out, rows)
    write_config(out.parent, "export", {"model": model, "data": data, "influences": influences}, out)
    result = {
        "file": str(out),
        "rows": len(rows),
        "columns": list(rows[0]),
        "counts": counts["training"].to_dict(),
        "held_out_counts": counts["held_out"].to_dict() if "held_out" in counts else None,
    }
    lines = [f"  training: {counts['training'].line('written')}"]
    lines += [f"  held out: {counts['held_out'].line('written', str(data))}"] if "held_out" in counts else []
    show(result, [f"{out}: {counted(len(rows), 'picture')}", *lines], json)
    return 0
