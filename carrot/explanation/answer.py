"""The head of the page: one sentence, one map on the picture, what supports the answer, and the classes beside it."""

import torch

from carrot.evaluation.cells import cells
from carrot.explanation.drawing import bar, legend, marks, name, overlay, short, side, text
from carrot.explanation.view import View
from carrot.explanation.words import added_up, digits_for, percent, sentence, supporters, where

SUPPORTERS = 3  # regions that are named and numbered
ON_COLOURS = 0.55  # opacity of the largest number on a picture in colour
CLASSES = 5  # in the table
PER_AREA = " (per hundredth of the area)"
OVERLAP = "The map adds up {} that overlap: the middle lies in more of them than a corner does."
START = {
    False: "Start: what the average training picture gets",
    True: "Start: what a picture gets of which nothing is shown",
}


def answer(v: View) -> dict[str, str]:
    """Return what the head of the template needs."""
    e = v.e
    return {
        "title": text(f"{e.target if e.against is None else f'{e.target}, not {e.against}'}: {e.picture.id}"),
        "sentence": sentence(e),
        "picture_id": short(e.picture.id),
        "labelled": _labelled(v),
        "picture": _picture(v),
        "legend": legend(v.spread(e.parts.token)[1], *v.ends, ON_COLOURS),
        "legend_of": f"Red speaks for {v.target}, blue {v.opposite}{PER_AREA if v.is_tiled else ''}.",
        "overlap": OVERLAP.format(e.level.many) if v.overlaps else "",
        "unseen": _unseen(v),
        "supporters": _supporters(v),
        "classes": _classes(v),
    }


def _labelled(v: View) -> str:
    e = v.e
    if e.picture.label is None:
        return ""
    verdict = "they agree" if e.picture.label == e.classes[v.predicted] else "<strong>they differ</strong>"
    return f" It is labelled {name(e.picture.label)}: {verdict}."


def _picture(v: View) -> str:
    """Return the picture in colour: what was never seen dimmed, the map over the rest, what supports most numbered."""
    e, best = v.e, supporters(v.e, SUPPORTERS)
    sheet, values, names = v.spread(e.parts.token)
    told = "; ".join(f"{k}: {where(e.picture, region)}" for k, region in enumerate(best, start=1)) or "nothing"
    drawn = f'<g class="map">{sheet.used("muted")}{overlay(sheet, values, names, ON_COLOURS)}</g>'
    numbered = f'<g class="marks">{marks(v.test, best)}</g>'
    alt = f"{e.picture.id}. Marked is what speaks most for {e.target}: {told}"
    return v.test.svg(alt, drawn + _dimmed(v) + numbered)


def _shown(v: View) -> float:
    """Return how much of the picture lies in a region, as a share of its area."""
    boxes, (w, h) = v.e.picture.boxes, v.e.picture.image.size
    if not bool(((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1).any()):
        return 0.0
    seen = cells(boxes).boxes.clamp(min=0)
    seen = torch.minimum(seen, torch.tensor([w, h, w, h], dtype=seen.dtype))
    return float((seen[:, 2:] - seen[:, :2]).prod(dim=1).sum()) / (w * h)


def _dimmed(v: View) -> str:
    if _shown(v) > 0.995:
        return ""
    size = f'width="{v.test.size[0]}" height="{v.test.size[1]}"'
    found = [box for i in range(v.num_local) if (box := v.test.box(i)) is not None]
    holes = "".join('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"></rect>'.format(*box) for box in found)
    dimmed = f'<rect {size} fill="#ffffff"></rect>{holes}'
    mask = f'<mask id="seen" maskUnits="userSpaceOnUse" x="0" y="0" {size}>{dimmed}</mask>'
    return f'{mask}<rect class="veil" {size} mask="url(#seen)"></rect>'


def _unseen(v: View) -> str:
    shown = _shown(v)
    if shown > 0.995:
        return ""
    part = percent(1.0 - shown, 0)
    if v.e.parts.num_global and v.is_tiled:
        where_else = "seen only as part of the whole picture"
        return f"The dimmed parts ({part} of the picture) lie in no {v.e.level.one}: {where_else}."
    return f"The model never saw the dimmed parts: {part} of the picture lie outside of what it looks at."


def _supporters(v: View) -> str:
    """Return the regions that bring most, all others and the start: they add up to the score, also as shown."""
    e, p = v.e, v.e.parts
    best = supporters(e, SUPPORTERS)
    others = [i for i in range(v.num_local) if i not in best]
    rows = [(v.mark(k), text(where(e.picture, i)), float(p.token[i])) for k, i in enumerate(best)]
    if others:
        told = f"All {len(others):,}{' other' if best else ''} {e.level.many}"
        rows.append(("", told, float(p.token[others].sum())))
    whole = [i for i in range(v.num_local, len(p.token)) if i not in best]
    if whole:
        rows.append(("", "The whole picture, as a region of its own", float(p.token[whole].sum())))
    if p.prior:
        rows.append(("", START[p.is_additive], p.prior))
    values = [value for _, _, value in rows]
    digits, most = digits_for([*values, p.logit]), max(map(abs, [*values, p.logit])) or 1.0
    shown = added_up([*values], p.logit, digits)
    lines = "".join(
        f'<tr><td>{mark}</td><th scope="row">{what}</th><td class="{side(value)}">{bar(value, most)}</td>'
        f'<td class="number">{number}</td></tr>'
        for (mark, what, value), number in zip(rows, shown, strict=True)
    )
    (total,) = added_up([p.logit], p.logit, digits)
    last = f'<tr class="total"><td></td><th scope="row">= {v.score}</th><td></td><td class="number">{total}</td></tr>'
    return f'<table id="supporters"><tbody>{lines}{last}</tbody></table>'


def _classes(v: View) -> str:
    e, p = v.e, v.e.parts
    order = p.logits.argsort(descending=True, stable=True).tolist()
    notes = {p.target: "explained here"} | ({} if p.against is None else {p.against: "held against it"})
    shown = [*order[:CLASSES], *(c for c in order[CLASSES:] if c in notes)]
    digits = digits_for([float(p.logits[c]) for c in shown])
    rows = ""
    for c in shown:
        noted = f' <span class="soft small">({notes[c]})</span>' if c in notes else ""
        chance, logit = float(e.probabilities[c]), float(p.logits[c])
        cells = (
            f'<td class="number">{added_up([logit], logit, digits)[0]}</td><td class="number">{percent(chance)}</td>'
        )
        rows += f'<tr><th scope="row">{name(e.classes[c])}{noted}</th>{cells}<td>{bar(chance, 1.0)}</td></tr>'
    heads = '<th scope="col">Class</th><th scope="col" class="number">Score</th>'
    heads += '<th scope="col" class="number">Probability</th><td></td>'
    which = f"The {CLASSES} highest of {len(order):,} classes" if len(order) > CLASSES else "All classes"
    table = f"<caption>{which}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table id="classes">{table}</table></div>'
