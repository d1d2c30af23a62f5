"""One line for each picture, for pandas, FiftyOne, Spotlight: prediction, suspicion, and the training pictures that made it."""

import csv
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrot.blocks import times
from carrot.data import open_dataset, split_indices
from carrot.data.records import Subset
from carrot.encoder import Encoder
from carrot.errors import DataError
from carrot.evaluation.calibration import probabilities
from carrot.fitted import Fitted
from carrot.store.files import write_atomically

Rows = list[dict[str, Any]]


def picture_rows(encoder: Encoder, fitted: Fitted, model: Path, data: str | None = None, influences: int = 3) -> Rows:
    """Return the lines: training pictures as the heads fitted without them see them; then the test pictures of ``data``.

    Columns: id, path, sha256, split, label, predicted, probability, label_probability, margin (logit of the label less the best other one),
    suspect (margin < 0), leverage (training pictures only), and for k = 1 .. influences the k-th training picture with the largest dual
    contribution to the predicted class's logit: influence_k, influence_k_dual. A training picture never names itself.

    Args:
        encoder: Pictures to tokens; not used without ``data``.
        fitted: The model.
        model: Its folder, where tokens of the test pictures are kept.
        data: Data set.
        influences: How many training pictures to name.

    Raises:
        ValueError: ``influences`` is negative.
        DataError: The data set has other classes than the model.
    """
    if influences < 0:
        raise ValueError(f"`influences` must be 0 or more; got {influences}.")
    head = fitted.head
    k = min(influences, len(fitted.records) - 1)
    logits, leverage = head.loo_predict(), head.leverage
    values, names = _influences(fitted, head.G, logits, k, own=True)
    verdicts = _verdicts(fitted, logits, fitted.labels)
    rows = [
        {
            **{"id": record.id, "path": record.path, "sha256": record.sha256, "split": "train"},
            **verdict,
            "leverage": float(leverage[i]),
            **_named(fitted, values[i], names[i]),
        }
        for i, (record, verdict) in enumerate(zip(fitted.records, verdicts, strict=True))
    ]
    return rows if data is None else rows + _test_rows(encoder, fitted, model, data, k)


def write_table(file: Path, rows: Rows) -> None:
    """Write the lines as .csv or .parquet, whole or not at all.

    Raises:
        ImportError: Parquet without pyarrow.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(file, text.getvalue().encode())
        return
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow: pip install 'carrot-attribution[export]', or write .csv.") from error
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    write_atomically(file, sink.getvalue().to_pybytes())


def _test_rows(encoder: Encoder, fitted: Fitted, model: Path, data: str, k: int) -> Rows:
    dataset = open_dataset(data)
    test = Subset(dataset, split_indices(dataset, "test"))
    if not test.records:
        raise DataError(f"{dataset.name}: has no test pictures. Without --data the training pictures are written.")
    labels = torch.tensor([fitted.class_index(test.classes[record.label]) for record in test.records], dtype=torch.long)
    cache = encoder.cache(test, model / "tokens")
    places = torch.nonzero(cache.readable).flatten().tolist()
    if not places:
        raise DataError(f"{dataset.name}: none of its {len(test.records)} test pictures can be read.")
    G = cache.embed(places, fitted.setting)
    logits = fitted.head.predict(G)
    values, names = _influences(fitted, G, logits, k, own=False)
    verdicts = _verdicts(fitted, logits, labels[places])
    rows = []
    for row, (place, verdict) in enumerate(zip(places, verdicts, strict=True)):
        record = test.records[place]
        path = None if record.path is None else str(record.path.resolve())
        known = {"id": record.id, "path": path, "sha256": cache.sha256[place], "split": "test"}
        rows.append({**known, **verdict, "leverage": None, **_named(fitted, values[row], names[row])})
    return rows


def _verdicts(fitted: Fitted, logits: Tensor, labels: Tensor) -> Rows:
    p, said = probabilities(logits, fitted.temperature), logits.argmax(dim=1)
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    margin = own - logits.scatter(1, labels.unsqueeze(1), -torch.inf).max(dim=1).values
    return [
        {
            "label": fitted.classes[y],
            "predicted": fitted.classes[c],
            "probability": float(p[i, c]),
            "label_probability": float(p[i, y]),
            "margin": float(margin[i]),
            "suspect": bool(margin[i] < 0),
        }
        for i, (y, c) in enumerate(zip(labels.tolist(), said.tolist(), strict=True))
    ]


def _influences(fitted: Fitted, G: Tensor, logits: Tensor, k: int, own: bool) -> tuple[Tensor, Tensor]:
    """Return the k largest dual contributions around the mean and their training rows; with ``own``, never of row i to picture i."""
    head, target = fitted.head, logits.argmax(dim=1)
    if not k:
        return G.new_empty(len(G), 0), torch.empty(len(G), 0, dtype=torch.long)
    values, rows = [], []
    for block in torch.arange(len(G)).split(256):
        products = times(head.G, head.g_mean, (G[block] - head.g_mean).mT).mT  # (b, n)
        dual = products * head.alpha[:, target[block]].mT
        if own:
            dual[torch.arange(len(block)), block] = -torch.inf
        best = dual.topk(k, dim=1)
        values.append(best.values)
        rows.append(best.indices)
    return torch.cat(values), torch.cat(rows)


def _named(fitted: Fitted, values: Tensor, rows: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rank, (value, row) in enumerate(zip(values.tolist(), rows.tolist(), strict=True), start=1):
        found[f"influence_{rank}"] = fitted.records[row].id
        found[f"influence_{rank}_dual"] = value
    return found
