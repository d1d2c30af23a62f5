"""The tables of an explanation, by column: regions, training pictures, pairs of regions, classes."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from carrot._display.frame import Table

if TYPE_CHECKING:
    from carrot.explanation.record import Explanation


def regions_table(e: "Explanation") -> Table:
    """Return a row for each region: where it lies, and the three numbers of its three maps.

    Global regions have no box.
    """
    boxes, N = _floats(e.picture.boxes), len(e.parts.token)
    corners = [*boxes, *([[None] * 4] * (N - len(boxes)))]
    return {
        "region": list(range(N)),
        "place": [e.picture.place(i) for i in range(N)],
        **{name: [box[k] for box in corners] for k, name in enumerate(("x0", "y0", "x1", "y1"))},
        "token": _floats(e.parts.token),
        "node": _floats(e.parts.node),
        "drop": _floats(e.parts.drop),
    }


def training_table(e: "Explanation") -> Table:
    """Return a row for each training picture, all of them, the one that the logit would miss most first."""
    order = e.parts.removal.argsort(descending=True, stable=True)
    rows, shown = order.tolist(), set(e.shown)
    return {
        "row": rows,
        "id": [e.training_ids[i] for i in rows],
        "label": [e.training_labels[i] for i in rows],
        "removal": _floats(e.parts.removal[order]),
        "dual": _floats(e.parts.dual[order]),
        "label_part": _floats(e.parts.label[order]),
        "shown": [i in shown for i in rows],
    }


def pairs_table(e: "Explanation") -> Table:
    """Return a row for each pair of regions with the training pictures whose tokens are at hand, best first."""
    found = [
        (value, region, there, i)
        for i, pairs in e.pair_maps.items()
        for region, row in enumerate(_floats(pairs))
        for there, value in enumerate(row)
    ]
    found.sort(key=lambda pair: -pair[0])
    return {
        "region": [r for _, r, _, _ in found],
        "place": [e.picture.place(r) for _, r, _, _ in found],
        "training_id": [e.training_ids[i] for _, _, _, i in found],
        "training_label": [e.training_labels[i] for _, _, _, i in found],
        "training_region": [t for _, _, t, _ in found],
        "contribution": [v for v, _, _, _ in found],
    }


def classes_table(e: "Explanation") -> Table:
    """Return a row for each class, in the order of the logits."""
    return {"class": list(e.classes), "logit": _floats(e.parts.logits), "probability": _floats(e.probabilities)}


def _floats(x: Tensor) -> Any:
    return x.double().tolist()
