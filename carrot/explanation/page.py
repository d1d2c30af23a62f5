"""An explanation as one page: static HTML with everything in it, to be read without scripts, network or patience.

``page.html`` beside this file holds the words that are the same for every explanation. Everything from the data is
escaped, and the page itself forbids to load anything.
"""

import json
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from carrot import __version__
from carrot._choices import PATCHES
from carrot.embedding.setting import AXES
from carrot.explanation import sections
from carrot.explanation.drawing import bar, name, number, short, text
from carrot.explanation.view import View

if TYPE_CHECKING:
    from carrot.explanation.record import Explanation

START = {
    False: "The score of the average training picture: the share of the class among them.",
    True: "The score of a picture of which nothing is shown.",
}
FACTS = {
    "backbone": "Vision model that describes the regions",
    "fingerprint": "Its fingerprint",
    "crop": "How pictures are cut",
    "dtype": "Numbers of the vision model are rounded to",
    **{name: axis.label for name, axis in AXES.items()},
    "lam": "Ridge penalty",
    "class_weight": "Weights of the classes",
    "fit_intercept": "Told relative to the average picture",
    "temperature": "Temperature of the probabilities",
    "training_pictures": "Training pictures",
    "classes": "Classes",
    "data": "Training data",
}


def explanation_page(e: "Explanation") -> str:
    """Return the page.

    Args:
        e: The explanation.
    """
    v = View(e)
    template = Template(resources.files("carrot.explanation").joinpath("page.html").read_text("utf-8"))
    filled = _answer(v) | sections.regions(v) | sections.training(v) | sections.pairs(v)
    return template.substitute(
        filled, pictures=v.definitions, sums=_sums(v), facts=_facts(e), version=text(__version__)
    )


def _answer(v: View) -> dict[str, str]:
    e = v.e
    return {
        "title": text(f"{_question(e)} {e.picture.id}"),
        "question": text(_question(e)),
        "picture_id": name(e.picture.id),
        "picture": v.test.svg(f"The picture that is explained: {e.picture.id}"),
        "start": START[e.parts.is_additive],
        "says": _says(v),
        "explained": _explained(v),
        "in_short": _in_short(v),
        "classes": _classes(v),
    }


def _question(e: "Explanation") -> str:
    if e.against is not None:
        return f"Why {e.target} and not {e.against}?"
    return f"Why {e.target}?" if e.parts.target == int(e.parts.logits.argmax()) else f"What speaks for {e.target}?"


def _says(v: View) -> str:
    e, said = v.e, v.e.classes[v.predicted]
    chance = percent(float(e.probabilities[v.predicted]))
    says = f"The model says <strong>{name(said)}</strong>, with a probability of {chance}."
    if e.picture.label is None:
        return says
    verdict = "they agree" if e.picture.label == said else "<strong>they differ</strong>"
    return f"{says} The picture is labelled {name(e.picture.label)}: {verdict}."


def percent(p: float) -> str:
    """Return a probability in per cent, never rounded to certainty."""
    shown = "&gt; 99.9 %" if 0.9995 <= p < 1 else "&lt; 0.1 %" if 0 < p < 0.0005 else f"{100 * p:.1f} %"
    return f'<data value="{p!r}">{shown}</data>'


def _explained(v: View) -> str:
    e, logits = v.e, v.e.parts.logits
    score = number(float(logits[e.parts.target]), "+.4f")
    if e.parts.against is None:
        other = "" if e.parts.target == v.predicted else " It is not the class that the model chose."
        return f"This page takes the score of {v.target} apart: {score}.{other}"
    lead, second = e.parts.logit, number(float(logits[e.parts.against]), "+.4f")
    place = "ahead of" if lead >= 0 else "behind"
    scores = f"The score of {v.target} is {score}, that of {v.against} {second}."
    lies = f"So {v.target} lies {place} {v.against} by {number(abs(lead), '.4f')}."
    return f"{scores} {lies} This page takes that lead, {number(lead, '+.4f')}, apart: why the one and not the other."


def _in_short(v: View) -> str:
    """Return what to know if nothing else is read."""
    e, local = v.e, v.e.drops[: v.num_local]
    region = int(local.abs().argmax())
    drop = float(local[region])
    items = [f"No single {e.level.one}, taken away, would change the {v.short}."]
    if drop:
        how = "" if e.parts.is_additive else ", those left sharing its weight,"
        moves = f"without it{how} the {v.short} would {'fall' if drop > 0 else 'rise'} by {number(abs(drop), '.3g')}"
        items = [f"The {e.level.one} that matters most is {v.region_names[region]}: {moves}."]
    for i in e.shown[:1]:
        who = f"{short(e.training_ids[i])}, labelled {name(e.training_labels[i])}"
        items.append(f"The training picture that brings most is {who}: {number(float(e.parts.dual[i]))}.")
    return "".join(f"<li>{item}</li>" for item in items)


def _classes(v: View) -> str:
    e, p = v.e, v.e.parts
    order = p.logits.argsort(descending=True, stable=True).tolist()
    notes = {p.target: "explained here"} | ({} if p.against is None else {p.against: "held against it"})
    rows = ""
    for c in [*order[:5], *(c for c in order[5:] if c in notes)]:
        noted = f' <span class="soft small">({notes[c]})</span>' if c in notes else ""
        chance = float(e.probabilities[c])
        cells = f'<td class="number">{number(float(p.logits[c]), "+.4f")}</td><td class="number">{percent(chance)}</td>'
        rows += f'<tr><th scope="row">{name(e.classes[c])}{noted}</th>{cells}<td>{bar(chance, 1.0)}</td></tr>'
    heads = '<th scope="col">Class</th><th scope="col" class="number">Score</th>'
    heads += '<th scope="col" class="number">Probability</th><td></td>'
    which = f"The 5 highest of {len(order):,} classes" if len(order) > 5 else "All classes"
    table = f"<caption>{which}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table id="classes">{table}</table></div>'


def _sums(v: View) -> str:
    e, p = v.e, v.e.parts
    sums = [(text(e.level.sum_name(key)), total, p.logit) for key, total in p.sums.items()]
    for i, found in e.pair_maps.items():
        sums.append((f"pairs of {e.level.many} with {short(e.training_ids[i])}", float(found.sum()), float(p.dual[i])))
    rows = ""
    for title, total, must_be in sums:
        values = ((total, "+.6f"), (must_be, "+.6f"), (total - must_be, "+.1e"))
        cells = "".join(f'<td class="number">{number(value, form)}</td>' for value, form in values)
        rows += f'<tr><th scope="row">Sum over {title}</th>{cells}</tr>'
    return rows


def _facts(e: "Explanation") -> str:
    is_tiled = e.facts.get("regions", PATCHES) != PATCHES
    moot = ("tau", "coarsen", *(() if e.facts.get("global_share") else ("crop",))) if is_tiled else ("tile_size",)
    facts = {k: value for k, value in e.facts.items() if k not in moot}
    rows = "".join(f"<dt>{text(FACTS.get(k, k))}</dt><dd>{_fact(k, value)}</dd>" for k, value in facts.items())
    return rows or "<dt>Nothing was noted</dt><dd></dd>"


def _fact(key: str, value: object) -> str:
    if value is None:
        return "every picture alike" if key == "class_weight" else "not noted"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
