"""A model from embeddings that are there already: rows in memory, or mapped from a file, however many they are.

What comes out is what ``Carrot.fit`` makes of the same embeddings, bit for bit: the same head of the same rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.classifier.records import TrainingRecord
from carrot.classifier.weighting import ClassWeight, checked_class_weight, refuse_unknown_classes, row_weights
from carrot.data.records import LabelKind
from carrot.embedding.encoder import Encoder
from carrot.embedding.kept import KeptTokens
from carrot.embedding.setting import Setting
from carrot.errors import DataError
from carrot.head import RidgeHead
from carrot.store.bundle import ROWS
from carrot.store.layout import refuse_other_folder
from carrot.store.mapped import Planned, map_tensor, write_tensors


def stored_rows(
    folder: Path, n: int, M: int, dtype: torch.dtype, blocks: Callable[[], Iterable[Tensor]]
) -> Callable[[], Tensor]:
    """Write the rows of many shards into one file of a model's folder, in a stream; return what maps them from there.

    It is the file that the model's ``save`` into this folder names: no second copy is made, in memory or on the disk.
    Rows that are there already, of a run that was killed say, stay.

    Args:
        folder: Of the model; made where there is none.
        n: How many rows.
        M: How wide.
        dtype: Of their numbers.
        blocks: Gives them, from the first to the last, as often as it is asked; one block is held at a time.

    Raises:
        ModelError: The folder holds something else.
        StoreError: The disk refuses.
        ValueError: There are more rows, or fewer.
    """
    refuse_other_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stored = write_tensors(folder, "rows", {ROWS: Planned((n, M), dtype, blocks)}, look=True)
    return partial(map_tensor, (folder / stored.name).resolve(), ROWS)


@pinned()
def fit_rows(
    encoder: Encoder,
    setting: Setting,
    classes: Sequence[str],
    label_kind: LabelKind,
    records: Sequence[TrainingRecord],
    G: Float[Tensor, "n M"] | Callable[[], Tensor],
    *,
    lam: float | Literal["loo"] = "loo",
    fit_intercept: bool = True,
    class_weight: ClassWeight = None,
    set_aside: Mapping[str, str] | None = None,
    data: str | None = None,
    kept: KeptTokens | None = None,
) -> Classifier:
    """Return the model of embeddings that are there already: what ``Carrot.fit`` makes of them, bit for bit.

    Nothing of the size of G, nor n C numbers where these are many, is ever held beside G.

    Args:
        encoder: What the tokens were made with.
        setting: What the embeddings were made with.
        classes: Names of the classes; each has a record.
        label_kind: What labels are.
        records: The training pictures, with their labels and weights, in the order of the rows.
        G: Their embeddings, in any floating-point precision, not copied: they must not change afterwards. Or what opens
            them where they lie: an engine that works (``carrot.engine.use``) then goes over them too.
        lam: As in ``Carrot``.
        fit_intercept: As in ``Carrot``.
        class_weight: As in ``Carrot``.
        set_aside: What was wrong with pictures that could not be read, by id.
        data: The folder or spec that the pictures came from, if it was one.
        kept: Where their tokens stay, if they do.

    Raises:
        DataError: A class has no picture, or there are fewer than two classes.
        ValueError: Records are not one for each row, or as ``RidgeHead.fit``.
        IllConditionedError: As ``RidgeHead.fit``.
    """
    n = len(G() if callable(G) else G)
    if len(records) != n:
        raise ValueError(f"`records` must be one for each of {n} rows of `G`; got {len(records)}.")
    class_weight = checked_class_weight(class_weight)
    refuse_unknown_classes(class_weight, classes)
    each = ((record.label, record.weight) for record in records)  # one pass: they may be lines of a file
    told = np.fromiter(each, dtype=[("label", np.int64), ("weight", np.float64)], count=len(records))
    labels, own = (torch.from_numpy(told[name].copy()) for name in ("label", "weight"))
    counts = torch.bincount(labels, minlength=len(classes))
    if len(classes) < 2:
        raise DataError(f"A model needs pictures of at least two classes; got {len(classes)}.")
    if not bool(counts.all()):
        raise DataError(
            f"Class {classes[int(counts.argmin())]!r} has no training picture that can be read "
            f"({int((counts == 0).sum())} of {len(classes)} classes). Add some, or leave the class out."
        )
    w = row_weights(own, labels, class_weight, classes)
    head = RidgeHead(lam, fit_intercept, copy=False).fit(G, labels, w)
    fitted = Fitted.on(
        head,
        setting,
        tuple(classes),
        records,
        set_aside=dict(set_aside or {}),
        kept=kept,
        data=data,
        label_kind=label_kind,
        class_weight=class_weight,
        asked_lam=lam if isinstance(lam, str) else float(lam),
    )
    return Classifier(encoder.of(setting), fitted)
