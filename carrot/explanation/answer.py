"""The head of the page: one sentence, one map on the picture, what supports the answer, and the classes beside it."""

import torch

from carrot.evaluation.cells import cells
from carrot.explanation.drawing import ON_COLOURS, bar, legend, marks, name, overlay, short, side, text
from carrot.explanation.terms import terms
from carrot.explanation.view import View
from carrot.explanation.words import added_up, digits_for, exactly, numbered, percent, replaced, sentence, where

CLASSES = 5  # in the table


def answer(v: View) -> dict[str, str]:
    """Return what the head of the template needs."""
    e = v.e
    return {
        "own": "" if e.own is None else f'<p class="flag" id="own">{text(e.own.told)}</p>\n',
        "sentence": sentence(e),
        "spared": text(replaced(e)),
        "picture_id": short(e.picture.id),
        "labelled": _labelled(v),
        "picture": _picture(v),
        "legend": legend(v.spread(e.parts.token)[1], *v.ends, ON_COLOURS),
        "legend_of": v.legend_of,
        "middles": v.middles,
        "unseen": _unseen(v),
        "because": v.because,
        "supporters": _supporters(v),
        "classes": _classes(v),
    }


def _labelled(v: View) -> str:
    e = v.e
    if e.picture.label is None:
        return ""
    verdict = "they agree" if e.picture.label == e.classes[v.predicted] else "<strong>they differ</strong>"
    return f' It is labelled {name(e.picture.label)}: <span id="verdict">{verdict}</span>.'


def _picture(v: View) -> str:
    """Return the picture in colour: what was never seen dimmed, the map over the rest, what supports most numbered."""
    e, best = v.e, numbered(v.e)
    sheet, values, names = v.spread(e.parts.token)
    told = "; ".join(f"{k}: {where(e.picture, region)}" for k, region in enumerate(best, start=1)) or "nothing"
    whom = e.target if e.against is None else f"{e.target} or {e.against}"
    drawn = f'<g class="map">{sheet.used("muted")}{overlay(sheet, values, names, ON_COLOURS)}</g>'
    framed = f'<g class="marks">{marks(v.test, best)}</g>'
    alt = f"{e.picture.id}. Marked is what speaks most for {whom}: {told}"
    return v.test.svg(alt, drawn + _dimmed(v) + framed)


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
    """Return the terms of the score; they add up to it, also as shown."""
    found, total = terms(v.e)
    score = v.e.parts.logit
    most = max(abs(x) for x in (*(term.value for term in found), score)) or 1.0
    lines = "".join(
        f'<tr><td>{"" if mark is None else v.mark(mark)}</td><th scope="row">{text(told)}</th>'
        f'<td class="{side(value)}">{bar(value, most)}</td><td class="number">{exactly(value, shown)}</td></tr>'
        for mark, told, value, shown in found
    )
    last = f'<th scope="row">= {v.score}</th><td></td><td class="number">{exactly(score, total)}</td>'
    return f'<table id="supporters"><tbody>{lines}<tr class="total"><td></td>{last}</tr></tbody></table>'


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
    scroll = '<div class="scroll" tabindex="0" role="region" aria-label="Classes">'
    return f'{scroll}<table id="classes">{table}</table></div>'
