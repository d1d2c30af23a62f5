"""One line a picture, for pandas, FiftyOne, Spotlight: prediction, suspicion and the training pictures that made it.

==============================  ========================================================================================
id, path, sha256, split, label  the picture; split is "train", or "test": it was not fitted on
predicted, probability          the likeliest class
label_probability, margin       of the label; its logit less the best other one
suspect                         whether the label looks wrong: ``carrot.evaluation.suspects``
leverage                        how much its own label counts in its own logits; None: it was not fitted on
influence_k, influence_k_dual   for k = 1, 2, ..: the training picture with the k-th largest dual contribution to the
                                predicted class's logit, and that contribution; never the picture itself
==============================  ========================================================================================
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrot._display.extras import how_to_install
from carrot.classifier.fitted import Fitted
from carrot.classifier.held_out import HeldOut
from carrot.classifier.suspects import judged_by_others
from carrot.evaluation.calibration import probabilities
from carrot.evaluation.suspects import LabelSuspects, label_suspects
from carrot.influence import top_training
from carrot.store.outputs import csv_text, write_output

Rows = list[dict[str, Any]]


def training_rows(fitted: Fitted, influences: int = 3) -> Rows:
    """Return a line for each training picture, as the head fitted without it sees it.

    Raises:
        ValueError: ``influences`` is negative.
    """
    if influences < 0:
        raise ValueError(f"`influences` must be 0 or more; got {influences}.")
    head = fitted.head
    k = min(influences, len(fitted.records) - 1)
    logits, leverage = head.loo_predict(), head.leverage
    values, names = _influences(fitted, head.G, logits, k, own=True)
    verdicts = _verdicts(fitted, logits, fitted.labels, judged_by_others(fitted))
    return [
        {
            **{"id": record.id, "path": record.path, "sha256": record.sha256, "split": "train"},
            **verdict,
            "leverage": float(leverage[i]),
            **_named(fitted, values[i], names[i]),
        }
        for i, (record, verdict) in enumerate(zip(fitted.records, verdicts, strict=True))
    ]


def held_out_rows(fitted: Fitted, found: HeldOut, influences: int = 3) -> Rows:
    """Return a line for each picture that the model was not fitted on."""
    k = min(influences, len(fitted.records) - 1)
    test, cache, places = found.test, found.cache, found.places
    G = cache.embed(places, fitted.setting)
    logits = fitted.head.predict(G)
    values, names = _influences(fitted, G, logits, k, own=False)
    thresholds = judged_by_others(fitted).thresholds
    judged = label_suspects(logits, found.labels, fitted.temperature, thresholds)
    verdicts = _verdicts(fitted, logits, found.labels, judged)
    rows = []
    for row, (place, verdict) in enumerate(zip(places, verdicts, strict=True)):
        record = test.records[place]
        path = None if record.path is None else str(record.path.resolve())
        known = {"id": record.id, "path": path, "sha256": cache.sha256[place], "split": "test"}
        rows.append({**known, **verdict, "leverage": None, **_named(fitted, values[row], names[row])})
    return rows


def write_table(file: Path, rows: Rows) -> None:
    """Write the lines as .csv or .parquet, whole or not at all.

    Raises:
        ImportError: Parquet without pyarrow.
    """
    if file.suffix.lower() == ".csv":
        write_output(file, csv_text(rows[0], rows).encode())
        return
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"Parquet needs pyarrow: {how_to_install('export')}. Or write .csv.") from error
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    write_output(file, sink.getvalue().to_pybytes())


def _verdicts(fitted: Fitted, logits: Tensor, labels: Tensor, judged: LabelSuspects) -> Rows:
    p, said = probabilities(logits, fitted.temperature), logits.argmax(dim=1)
    return [
        {
            "label": fitted.classes[y],
            "predicted": fitted.classes[c],
            "probability": float(p[i, c]),
            "label_probability": float(judged.self_confidence[i]),
            "margin": float(judged.margin[i]),
            "suspect": bool(judged.flagged[i]),
        }
        for i, (y, c) in enumerate(zip(labels.tolist(), said.tolist(), strict=True))
    ]


def _influences(fitted: Fitted, G: Tensor, logits: Tensor, k: int, own: bool) -> tuple[Tensor, Tensor]:
    """Return the k largest dual contributions around the mean and their training rows.

    With ``own``, never of row i to picture i.
    """
    head, target = fitted.head, logits.argmax(dim=1)
    if not k:
        return G.new_empty(len(G), 0), torch.empty(len(G), 0, dtype=torch.long)
    itself = torch.arange(len(G)) if own else None
    return top_training(head, G, k, target=target, origin=head.g_mean, exclude=itself)


def _named(fitted: Fitted, values: Tensor, rows: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rank, (value, row) in enumerate(zip(values.tolist(), rows.tolist(), strict=True), start=1):
        found[f"influence_{rank}"] = fitted.records[row].id
        found[f"influence_{rank}_dual"] = value
    return found
