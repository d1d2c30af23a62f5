"""A model of the embeddings that ``carrot extract`` left: bit for bit that of a fit on the pictures themselves."""

from typing import Literal

import torch

from carrot._ambient import pinned
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.classifier.records import PictureFinder, TrainingRecord
from carrot.classifier.weighting import ClassWeight, refuse_unknown_classes, row_weights
from carrot.embedding.encoder import Encoder
from carrot.embedding.extracted import Extracts
from carrot.embedding.setting import Setting
from carrot.errors import DataError
from carrot.head import RidgeHead


@pinned()
def merge(
    extracts: Extracts,
    lam: float | Literal["loo"] = "loo",
    class_weight: ClassWeight = None,
) -> Classifier:
    """Return the model that ``Carrot.fit`` makes of the same pictures with the same settings, bit for bit.

    Args:
        extracts: All shards; no picture is looked at, and no backbone built.
        lam: As in ``Carrot``.
        class_weight: As in ``Carrot``.

    Raises:
        StoreError: A shard is missing, damaged, or of another extract.
        DataError: A class has no picture that could be read.
        ValueError: ``class_weight`` names no class of the data.
    """
    facts, (noted, errors) = extracts.facts, extracts.records()
    setting, classes = Setting(**facts["embedding"]), tuple(facts["classes"])
    records = tuple(map(TrainingRecord.from_json, noted))
    refuse_unknown_classes(class_weight, classes)
    labels = torch.tensor([record.label for record in records], dtype=torch.long)
    there = torch.bincount(labels, minlength=len(classes))
    if not bool(there.all()):
        raise DataError(
            f"{facts['name']}: class {classes[int(there.argmin())]!r} has no training picture that can be read "
            f"({int((there == 0).sum())} of {len(classes)} classes). Add some, or leave the class out."
        )
    G, n = torch.empty(len(records), facts["width"], dtype=extracts.dtype), 0
    for block in extracts.blocks():
        G[n : n + len(block)] = block
        n += len(block)
    own = torch.ones(len(records), dtype=torch.float64)
    head = RidgeHead(lam, True, copy=False).fit(G, labels, row_weights(own, labels, class_weight, classes))
    fitted = Fitted(
        head=head,
        setting=setting,
        classes=classes,
        records=records,
        temperature=1.0,
        set_aside={**facts["skipped"], **errors},
        data=facts["data"],
        label_kind=facts["label_kind"],
        class_weight=class_weight,
        asked_lam=lam if isinstance(lam, str) else float(lam),
        penalties=() if head.loo_path is None else tuple(head.loo_path.lams.tolist()),
    )
    fitted = fitted.with_head(head, records, classes)  # fits the temperature
    encoder = Encoder.from_json(facts["encoder"], setting)
    return Classifier(encoder, fitted, PictureFinder(None))
