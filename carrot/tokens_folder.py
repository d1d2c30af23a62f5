"""Where a model keeps the tokens of a data set: a folder of its own for each backbone, precision and list of pictures."""

import hashlib
import json
from pathlib import Path

from carrot.data import ImageDataset
from carrot.encoder import Encoder


def tokens_folder(model: Path, encoder: Encoder, dataset: ImageDataset) -> Path:
    """Return the folder: what is there is of the same pictures and the same backbone, or it is new."""
    ids = [record.id for record in dataset.records]
    key = hashlib.sha256(json.dumps([encoder.fingerprint, encoder.dtype, ids]).encode()).hexdigest()
    return model / "tokens" / key[:16]
