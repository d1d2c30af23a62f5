"""``carrot export``: what other tools read."""

from pathlib import Path

from carrot.cli.options import Checkpoint, Device, Json, show, write_config


def export(
    model: Path,
    out: Path,
    /,
    *,
    data: str | None = None,
    influences: int = 3,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Write one line for each picture (prediction, suspicion, top influences) as .csv or .parquet; or the model as .onnx.

    Training pictures are told by exact leave-one-out. With --data, its test pictures are predicted too. The table opens in pandas,
    FiftyOne and Spotlight. Parquet needs `pip install 'carrot-attribution[export]'`, ONNX `[onnx]`.

    ```
    carrot export my_model table.csv
    carrot export my_model table.parquet --data my_pictures
    carrot export my_model model.onnx
    ```

    Args:
        model: Folder of the model.
        out: File to write: .csv, .parquet or .onnx.
        data: Data set whose test pictures are added to the table.
        influences: How many training pictures to name for each picture.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        json: Print what was written as JSON.
    """
    from carrot.model_files import load

    kind = out.suffix.lower()
    if kind not in (".csv", ".parquet", ".onnx"):
        raise ValueError(f"{out}: must end in .csv, .parquet or .onnx; got {kind or 'no ending'}.")
    encoder, fitted = load(model, checkpoint, device)
    if kind == ".onnx":
        from carrot.onnx_export import export_onnx

        facts = export_onnx(encoder, fitted, out)
        write_config(out.parent, "export", {"model": model}, out)
        show(
            {"file": str(out), **facts},
            [f"{out}: largest difference from the model {facts['largest_difference']:.1e}"],
            json,
        )
        return 0
    from carrot.table_export import picture_rows, write_table

    rows = picture_rows(encoder, fitted, model, data, influences)
    write_table(out, rows)
    write_config(out.parent, "export", {"model": model, "data": data, "influences": influences}, out)
    show({"file": str(out), "rows": len(rows), "columns": list(rows[0])}, [f"{out}: {len(rows)} pictures"], json)
    return 0
