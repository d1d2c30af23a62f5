"""An explanation as one page: HTML with everything in it, to be read from disk, without a network.

All of it is there without scripts. Where they run, the page answers what a person supposes: ``page/engine.js`` has the
arithmetic, ``surface.js`` and ``view.js`` what is seen. Everything from the data is escaped; the page itself forbids to
load anything, and to run any script but the one whose hash it names.
"""

import base64
import hashlib
import json
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from carrot import __version__
from carrot._choices import PATCHES
from carrot._display.html import page_head
from carrot.embedding.setting import AXES
from carrot.explanation import sections
from carrot.explanation.answer import answer
from carrot.explanation.drawing import number, short, text
from carrot.explanation.terms import START
from carrot.explanation.view import View
from carrot.explanation.words import TAKE_OVER, marked, replaced, where

if TYPE_CHECKING:
    from carrot.explanation.record import Explanation

SCRIPTS = ("engine.js", "surface.js", "view.js")
ORIGIN = {
    False: "The score of the average training picture: the share of the class among them.",
    True: "The score of a picture of which nothing is shown.",
}
FACTS = {
    "backbone": "Vision model that describes the regions",
    "fingerprint": "Its fingerprint",
    "crop": "How pictures are cut",
    "precision": "The vision model computes in",
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
    policy, scripts = _scripts(v)
    filled = answer(v) | sections.training(v) | sections.pairs(v) | sections.maps(v)
    title = text(f"{e.target if e.against is None else f'{e.target}, not {e.against}'}: {e.picture.id}")
    return Template(_read("page.html")).substitute(
        filled,
        head=page_head(title, _read("page.css"), policy),
        scripts=scripts,
        origin=ORIGIN[e.parts.is_additive],
        pictures=v.definitions,
        sums=_sums(v),
        facts=_facts(e),
        version=text(__version__),
    )


def _read(name: str) -> str:
    return resources.files("carrot.explanation").joinpath("page").joinpath(name).read_text("utf-8")


def _scripts(v: View) -> tuple[str, str]:
    """Return what the page's policy says of scripts, and its data and script; nothing where it can't compute."""
    data = v.payload
    if data is None:
        return "", ""
    for one in (data["picture"], *data["training"]):
        one["image"] = None  # it is among the page's pictures
    data["picture"]["where"] = [where(v.e.picture, region) for region in range(len(v.e.parts.token))]
    data["picture"]["marked"] = [marked(v.e.picture, region) for region in range(len(v.e.parts.token))]
    data["picture"]["names"] = v.region_names
    data["words"] = {
        "one": v.e.level.one,
        "many": v.e.level.many,
        "isTiled": v.is_tiled,
        "start": START[v.e.parts.is_additive],
        "nothing": START[True],
        "takeOver": TAKE_OVER[v.e.parts.is_additive],
        "isSpared": bool(replaced(v.e)),
        "canRefit": data["classWeights"] is not None,
    }
    script = "\n".join(map(_read, SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    told = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # no end of a script in a name
    return (
        f" script-src 'sha256-{digest}';",
        f'<script type="application/json" id="carrot-data">{told}</script>\n<script>{script}</script>\n',
    )


def _sums(v: View) -> str:
    e, p = v.e, v.e.parts
    sums = [(text(e.level.sum_name(key)), total, p.logit) for key, total in p.sums.items()]
    for i, found in e.pair_maps.items():
        sums.append((f"pairs of {e.level.many} with {short(e.training_ids[i])}", float(found.sum()), float(p.dual[i])))
    rows = ""
    for title, total, must_be in sums:
        values = ((total, "+.6f"), (must_be, "+.6f"), (total - must_be, "+.1e"))
        rows += sections.row(f"Sum over {title}", [number(value, form) for value, form in values])
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
