"""An explanation as plain JSON: every number as it is, under keys that stay.

::

    format, version         "carrot explanation", 1; the version grows when a key changes its meaning
    level, exact            "token" or "tile", and a sentence on what is exact and what isn't
    picture                 id; label or null; width, height in pixels; rows, columns of its regions
    target, against         {class, index}; against is null where one logit is explained, not a difference of two
    logit, prior            what is explained (the difference, if against is set), and the mean training picture's part
                            of it
    predicted               {class, index} of the highest logit
    classes                 [{class, logit, probability}], in the order of the logits
    regions                 [{region, name, row, column, box, global, token, node, drop}]: box (x0, y0, x1, y1) in
                            pixels of the picture, null for global regions; row and column from 0, null for these and
                            for tiles, whose name tells; token: what the region's own features bring, of a tile too
    sums                    {name: {sum, must_be, residual}}: regions by token and by node, training pictures dual and
                            label, and the pairs of regions with each training picture, which must be its dual part
    training.shown          [{rank, index, id, label, dual, label_part, removal, missing, doubtful}], largest removal
                            first; index: row of the training set; missing: why its picture is not shown, else null;
                            doubtful: the class that the model fitted without it says, null where that is its label
    training.totals         {shown, others, all}: each {pictures, dual, label_part}; removals are what-ifs and have no
                            sum
    pairs.strongest         [{region, training_index, training_id, training_region, contribution}], the ten largest
    pairs.pictures          [{training_index, training_id, width, height, rows, columns, boxes, by_region,
                            by_training_region}]: all pairs, summed over the training picture's regions and over the
                            test picture's; both sum to its dual part; sizes and boxes are null where the picture is
                            gone
    fitted_on               null where the picture is no training picture; else {index, id, says, probability}: which
                            one it is, and what the model says of it when fitted without it (both null where no picture
                            of its class would be left)
    facts                   what the model was made with

``token``, ``node``, ``dual`` and ``label_part`` add up to the logit (the first three with ``prior``); ``drop`` and
``removal`` are what-ifs, and add up to nothing. Numbers are float64: JSON keeps them to the last bit.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from carrot.store.settings import check_json

if TYPE_CHECKING:
    from carrot.explanation.record import Explanation, Picture

VERSION = 1


def explanation_data(e: "Explanation") -> dict[str, object]:
    """Return every number of an explanation, JSON-ready.

    Raises:
        TypeError: ``facts`` holds what JSON has no word for.
        ValueError: A number is NaN or infinite.
    """
    p, best = e.parts, int(e.parts.logits.argmax())
    data: dict[str, Any] = {
        "format": "carrot explanation",
        "version": VERSION,
        "level": e.level.name,
        "exact": e.level.exact,
        "picture": {"id": e.picture.id, "label": e.picture.label, **_size(e.picture)},
        "target": {"class": e.target, "index": p.target},
        "against": None if p.against is None else {"class": e.against, "index": p.against},
        "logit": p.logit,
        "prior": p.prior,
        "predicted": {"class": e.classes[best], "index": best},
        "classes": [
            {"class": name, "logit": logit, "probability": probability}
            for name, logit, probability in zip(e.classes, _floats(p.logits), _floats(e.probabilities), strict=True)
        ],
        "regions": _regions(e),
        "sums": _sums(e),
        "training": {"shown": _shown(e), "totals": _totals(e)},
        "pairs": {"strongest": _strongest(e), "pictures": _pair_pictures(e)},
        "fitted_on": _fitted_on(e),
        "facts": dict(e.facts),
    }
    check_json(data, "explanation")
    return data


def _fitted_on(e: "Explanation") -> dict[str, object] | None:
    if e.own is None:
        return None
    row, says, probability = e.own
    return {"index": row, "id": e.training_ids[row], "says": says, "probability": probability}


def _floats(x: Tensor) -> Any:
    return x.double().tolist()  # float32 widens without a change


def _size(picture: "Picture | None") -> dict[str, int | None]:
    if picture is None:
        return dict.fromkeys(("width", "height", "rows", "columns"))
    rows, columns = picture.grid_hw or (None, None)
    return {"width": picture.image.width, "height": picture.image.height, "rows": rows, "columns": columns}


def _regions(e: "Explanation") -> list[dict[str, object]]:
    p, boxes, grid_hw = e.parts, _floats(e.picture.boxes), e.picture.grid_hw
    found = []
    for i, (token, node, drop) in enumerate(zip(_floats(p.token), _floats(p.node), _floats(p.drop), strict=True)):
        local = i < len(boxes)
        row_column = divmod(i, grid_hw[1]) if local and grid_hw is not None else (None, None)
        place = (*row_column, boxes[i] if local else None)
        where = dict(zip(("row", "column", "box"), place, strict=True))
        found.append(
            {
                "region": i,
                "name": e.region_name(i),
                **where,
                "global": not local,
                "token": token,
                "node": node,
                "drop": drop,
            }
        )
    return found


def _sums(e: "Explanation") -> dict[str, dict[str, float]]:
    must_be = dict.fromkeys(e.parts.sums, e.parts.logit)
    must_be |= {pairs_name(e, i): float(e.parts.dual[i]) for i in e.pair_maps}
    sums = e.parts.sums | {pairs_name(e, i): float(pairs.sum()) for i, pairs in e.pair_maps.items()}
    return {
        name: {"sum": total, "must_be": must_be[name], "residual": total - must_be[name]}
        for name, total in sums.items()
    }


def pairs_name(e: "Explanation", i: int) -> str:
    """Return what the sum over pairs of regions with training picture i is called."""
    return f"pairs of regions with {e.training_ids[i]}"


def _shown(e: "Explanation") -> list[dict[str, object]]:
    rows = zip(e.shown, e.training, strict=True)
    return [
        {"rank": rank, "index": i, **part._asdict(), "missing": e.missing.get(i), "doubtful": e.doubtful.get(i)}
        for rank, (i, part) in enumerate(rows, start=1)
    ]


def _totals(e: "Explanation") -> dict[str, dict[str, int | float]]:
    """Return sums over the shown, over all others, and over all training pictures."""
    p, n, shown = e.parts, len(e.parts.dual), list(e.shown)
    others = sorted(set(range(n)) - set(shown))
    return {
        name: {
            "pictures": len(rows),
            "dual": float(p.dual[rows].sum()),
            "label_part": float(p.label[rows].sum()),
        }
        for name, rows in (("shown", shown), ("others", others), ("all", list(range(n))))
    }


def _strongest(e: "Explanation") -> list[dict[str, object]]:
    index = {e.training_ids[i]: i for i in e.pair_maps}
    return [
        {"region": q.region, "training_index": index[q.training_id], **q._asdict()} for q in e.pairs(10)
    ]  # the keys of a RegionPair, in its order


def _pair_pictures(e: "Explanation") -> list[dict[str, object]]:
    found = []
    for i, pairs in e.pair_maps.items():
        picture = e.shown_pictures.get(i)
        found.append(
            {
                "training_index": i,
                "training_id": e.training_ids[i],
                **_size(picture),
                "boxes": None if picture is None else _floats(picture.boxes),
                "by_region": _floats(pairs.sum(dim=1)),
                "by_training_region": _floats(pairs.sum(dim=0)),
            }
        )
    return found
