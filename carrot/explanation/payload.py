"""What a page computes with, as JSON: ``Counterfactuals``, names, places and thumbnails; ``page/engine.js`` reads it.

Numbers are base64 of little-endian float64: to the last bit, in four thirds of their bytes.
"""

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from carrot.embedding.trace import Trace
from carrot.explanation.drawing import data_uri
from carrot.laplacian import chebyshev_coefficients

if TYPE_CHECKING:
    from carrot.explanation.record import Explanation, Picture

LARGEST = 400  # regions of a graph that travels: 1.3 MB; those of a larger one can't be left out


def payload(e: "Explanation") -> dict[str, Any] | None:
    """Return it, JSON-ready; None: the explanation holds numbers alone."""
    c = e.counterfactuals
    if c is None:
        return None
    index = {name: place for place, name in enumerate(e.classes)}
    first, training = 2 + len(c.picture.H) + len(c.rows), []
    for place, row in enumerate(c.rows):
        trace, picture = c.traces.get(place), e.shown_pictures.get(row) or e.others.get(row)
        training.append(
            {
                "id": e.training_ids[row],
                "label": index[e.training_labels[row]],
                "weight": float(c.weights[place]),
                "slack": float(c.slack[place]),
                "missing": None if picture else e.missing.get(row, "it is not at hand"),
                **(_picture(picture) if picture else {"image": None, "size": None, "boxes": None, "places": None}),
                **_weighing(trace),
                "first": None if trace is None else first,
            }
        )
        first += 0 if trace is None else len(trace.H)
    label = e.picture.label
    return {
        "classes": list(e.classes),
        "temperature": e.facts.get("temperature", 1.0),
        "target": e.parts.target,
        "against": e.parts.against,
        "intercept": c.has_intercept,
        "n": len(e.training_ids),
        "counts": c.counts.tolist(),
        "weight": c.total,
        "classWeights": None if c.class_weights is None else c.class_weights.tolist(),
        "picture": {
            "name": e.picture.id,
            "label": None if label is None else index.get(label),
            **_picture(e.picture),
            "drawn": e.picture.on_map.tolist(),
            **_weighing(c.picture),
        },
        "training": training,
        "kernel": _numbers(c.kernel),
        "values": _numbers(c.values),
        "residual": _numbers(c.residual),
    }


def _picture(picture: "Picture") -> dict[str, Any]:
    boxes = [box if box[2] > box[0] and box[3] > box[1] else None for box in picture.boxes.tolist()]
    return {
        "image": data_uri(picture.image),
        "size": list(picture.image.size),
        "boxes": boxes,
        "places": [picture.place(region) for region in range(len(boxes))],
    }


def _weighing(trace: Trace | None) -> dict[str, Any]:
    """Return how regions of a picture weigh, whichever of them are left."""
    if trace is None:
        return {"weights": None, "graph": None}
    weights = {"r": _numbers(trace.r), "additive": trace.is_additive, "global": trace.regions.num_global}
    t = trace.operator.t
    if not t:
        return {"weights": weights, "graph": None}
    if len(trace.r) > LARGEST:
        return {"weights": {**weights, "r": _numbers(trace.pi), "fixed": True}, "graph": None}
    W, half = trace.graph.W.double(), not trace.graph.is_kernel
    tol = float(np.finfo(np.float64).eps) / 2.0
    graph = {"W": _numbers(W), "chebyshev": chebyshev_coefficients(2.0 * t if half else t, tol), "half": half}
    return {"weights": weights, "graph": graph}


def _numbers(x: Tensor) -> str:
    return base64.b64encode(x.double().contiguous().numpy().astype("<f8").tobytes()).decode()
