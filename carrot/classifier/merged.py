"""A model of the embeddings that ``carrot extract`` left: bit for bit that of a fit on the pictures themselves."""

from pathlib import Path
from typing import Literal

import torch

from carrot._ambient import pinned
from carrot.classifier.classifier import Classifier
from carrot.classifier.merging import fit_rows, stored_rows
from carrot.classifier.records import TrainingRecord
from carrot.classifier.weighting import ClassWeight
from carrot.embedding.encoder import Encoder
from carrot.embedding.extracted import Extracts
from carrot.embedding.setting import Setting


@pinned()
def merge(
    extracts: Extracts,
    lam: float | Literal["loo"] = "loo",
    class_weight: ClassWeight = None,
    folder: Path | None = None,
) -> Classifier:
    """Return the model that ``Carrot.fit`` makes of the same pictures with the same settings, bit for bit.

    Args:
        extracts: All shards; no picture is looked at, and no backbone built.
        lam: As in ``Carrot``.
        class_weight: As in ``Carrot``.
        folder: Where the model will be saved: embeddings are written there in a stream, and mapped from there, by an
            engine's workers too (``carrot.engine.use``). None: they are held in memory.

    Raises:
        StoreError: A shard is missing, damaged, or of another extract; or the disk refuses.
        DataError: A class has no picture that could be read.
        ValueError: ``class_weight`` names no class of the data.
    """
    facts, (noted, errors) = extracts.facts, extracts.records()
    records = tuple(map(TrainingRecord.from_json, noted))
    setting, n, M = Setting(**facts["embedding"]), len(records), int(facts["width"])
    return fit_rows(
        Encoder.from_json(facts["encoder"], setting),
        setting,
        facts["classes"],
        facts["label_kind"],
        records,
        torch.cat(list(extracts.blocks()))
        if folder is None
        else stored_rows(folder, n, M, extracts.dtype, extracts.blocks),
        lam=lam,
        class_weight=class_weight,
        set_aside={**facts["skipped"], **errors},
        data=facts["data"],
    )
