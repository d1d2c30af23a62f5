"""One SHA-256 of all that a model computes with: equal for models that answer alike to the bit, however they were made.

It is of the setting, the backbone's fingerprint, classes, the training pictures (id, label, weight, SHA-256 and
embedding of each), lam, weights, bias and temperature; not of paths, dates, versions, or where tokens lie.
"""

import hashlib
import json

from torch import Tensor

from carrot.classifier.fitted import Fitted
from carrot.embedding.encoder import Encoder
from carrot.store.mapped import raw
from carrot.store.settings import canonical, check_json


def state_sha256(encoder: Encoder, fitted: Fitted) -> str:
    """Return the SHA-256 of a model's state: a pass over its embeddings and its records, in constant memory."""
    head, found = fitted.head, hashlib.sha256()
    state = {
        "setting": fitted.setting.to_dict(),
        "fingerprint": encoder.fingerprint,
        "dtype": encoder.dtype,
        "classes": list(fitted.classes),
        "label_kind": fitted.label_kind,
        "lam": head.lam,
        "fit_intercept": head.fit_intercept,
        "temperature": fitted.temperature,
        "pictures": len(fitted.records),
    }
    found.update(canonical(check_json(state, "state")))
    tensors = {"G": head.G, "sample_weight": head.sample_weight, "W_star": head.W_star, "bias": head.bias}
    for name, x in {"labels": head.labels, **tensors}.items():
        _add(found, name, x)
    for record in fitted.records:
        found.update(json.dumps([record.id, record.label, record.sha256, record.weight]).encode() + b"\n")
    return found.hexdigest()


def _add(found: "hashlib._Hash", name: str, x: Tensor) -> None:
    found.update(f"\n{name} {x.dtype} {tuple(x.shape)}\n".encode())
    for piece in raw(x):
        found.update(piece)
