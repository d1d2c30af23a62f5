"""The three answers of the page: which regions, which training pictures, and which region because of which."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from carrot.evaluation.cells import cells
from carrot.explanation.drawing import MARKS, bar, legend, marks, name, number, overlay, short, side, text
from carrot.explanation.level import WHOLE
from carrot.explanation.parts import separate_pairs
from carrot.explanation.view import View

PAIRS = 4  # of each training picture
START = {
    False: "Start: what the average training picture gets",
    True: "Start: what a picture gets of which nothing is shown",
}


def regions(v: View) -> dict[str, str]:
    """Return what the template's section on regions needs: three maps, what they add up to, and all their numbers."""
    opposite = f"for {v.against}" if v.against else "against it"
    return {
        "cut": _cut(v),
        "counted": v.e.level.counted,
        "meaning": "".join(f"<li><strong>{what}</strong> {why}</li>" for what, why in _meaning(v)),
        "target": v.target,
        "opposite": opposite,
        "maps": _maps(v),
        "region_sum": _region_sum(v),
        "region_numbers": _region_numbers(v),
    }


def _cut(v: View) -> str:
    """Return how the picture was cut into regions."""
    grid_hw, n = v.e.picture.grid_hw, v.num_local
    if grid_hw is not None:
        return (
            f"The model cuts the picture into {grid_hw[0]} rows and {grid_hw[1]} columns of squares, called "
            "<strong>regions</strong>."
        )
    kinds = list(dict.fromkeys(place.split(" of ")[-1] for place in v.e.picture.places if " of " in place))
    grids = f" ({' and '.join(kinds)})".replace(" x ", " &times; ") if kinds else ""
    return (
        f"The model looks at {n} <strong>{v.e.level.many if n > 1 else v.e.level.one}</strong> of the picture{grids}, "
        "one by one: each is cut out, enlarged and seen alone."
    )


def _meaning(v: View) -> list[tuple[str, str]]:
    return [*v.e.level.meaning, *([WHOLE] if v.e.parts.num_global else [])]


def _maps(v: View) -> str:
    p, ends = v.e.parts, ("against", "for")
    if v.e.against is not None:
        ends = (f"for {v.e.against}", f"for {v.e.target}")
    others = ", the whole picture and the start" if p.num_global else " and the start"
    one, brings = v.e.level.one, f"{v.e.level.alone}{others} add up to the {v.short}."
    mixed = f"The same, after {v.e.level.many} that are near and alike have shared what they hold."
    if v.unmixed:
        mixed = (
            f"After {v.e.level.many} have shared what they hold. In this model they share nothing: it is the same as "
            "the first map."
        )
    missing = f"How far the {v.short} would fall (red) or rise (blue) if this {one} alone were taken away."
    missing += " A what-if for each: they don't add up."
    return "".join(
        [
            _map(v, f"What each {one} brings", brings, p.token, ends),
            _map(v, "What it holds after sharing", f"{mixed} These add up too.", p.node, ends),
            _map(v, "What is missing without it", missing, p.drop, ("rises", "falls")),
        ]
    )


def _map(v: View, title: str, gloss: str, values: Tensor, ends: tuple[str, str]) -> str:
    local = values[: v.num_local]
    best = [int(i) for i in local.abs().topk(min(3, len(local))).indices]
    told = "; ".join(f"{v.region_names[i]}: {number(float(local[i]))}" for i in best)
    spoken = "; ".join(f"{v.region_names[i]} {float(local[i]):+.3g}" for i in best)
    drawn, scale = overlay(v.faint, local, v.region_names), legend(local, *ends)
    if v.e.picture.grid_hw is None:
        boxes, share = cells(v.e.picture.boxes)
        size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        width, height = v.e.picture.image.size
        spread = share @ local.double() / size * (width * height / 100.0)
        names = ["per hundredth of the picture"] * len(spread)
        drawn, scale = overlay(replace(v.faint, boxes=boxes), spread, names), legend(spread, *ends)
        gloss = f"{gloss} Drawn per hundredth of the picture's area."
    picture = v.faint.svg(f"Map of {v.e.picture.id}. {title}. The strongest: {spoken}", drawn)
    return f"""<figure><h3>{title}</h3><div class="frame">{picture}</div>{scale}
<figcaption>{gloss}<br><span class="soft small">Strongest: {told}.</span></figcaption></figure>"""


def _row(title: str, cells: Sequence[str], total: bool = False) -> str:
    """Return a row of a table: title and cells are HTML."""
    shown = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr{" class=total" if total else ""}><th scope="row">{title}</th>{shown}</tr>'


def _region_sum(v: View) -> str:
    p, local, note = v.e.parts, v.num_local, ""
    rows = [(START[p.is_additive], p.prior)] if p.prior else []
    rows.append((f"{v.e.level.all(local)} of the picture", float(p.token[:local].sum())))
    if len(p.token) > local:
        rows.append(("The whole picture, as a region of its own", float(p.token[local:].sum())))
    lines = "".join(_row(title, [number(value, "+.6f")]) for title, value in rows)
    total = _row(f"= {v.score}", [number(p.logit, "+.6f")], total=True)
    if v.padding:
        brought = number(float(p.token[v.padding].sum()))
        where = f"{len(v.padding)} {v.e.level.many} lie in the padding around the picture and can't be drawn"
        note = f'<p class="small">{where}. Together they bring {brought}.</p>'
    caption = f"{v.e.level.many.capitalize()} add up (first map)"
    return f'<table id="region-sum"><caption>{caption}</caption><tbody>{lines}{total}</tbody></table>{note}'


def _region_numbers(v: View) -> str:
    maps = (v.e.parts.token, v.e.parts.node, v.e.parts.drop)
    return "".join(
        _row(text(region), [number(float(x[i]), "+.5g") for x in maps]) for i, region in enumerate(v.region_names)
    )


def training(v: View) -> dict[str, str]:
    """Return what the section on training pictures needs: a card for each that is shown, and what all add up to."""
    e = v.e
    limit = max((abs(x) for part in e.training for x in part[2:]), default=0.0) or 1.0
    count = "This one brings" if len(e.shown) == 1 else f"These {len(e.shown)} bring"
    return {
        "n": f"{len(e.training_ids):,}",
        "word": v.short,
        "k_shown": f"{count} most." if e.shown else "",
        "cards": "".join(_card(v, i, limit) for i in e.shown),
        "training_sum": _training_sum(v),
    }


def _card(v: View, i: int, limit: float) -> str:
    e, p, sheet = v.e, v.e.parts, v.training.get(i)
    who, label = e.training_ids[i], e.training_labels[i]
    picture = _gone(v, i)
    if sheet is not None:
        picture = f'<div class="frame">{sheet.svg(f"Training picture {who}, labelled {label}")}</div>'
    rows = ""
    for title, part in (("Brings", p.dual), ("Its label", p.label), ("Without it", p.removal)):
        value = float(part[i])
        drawn = f'<td><span class="{side(value)}">{bar(value, limit)}</span></td>'
        rows += f'<tr><th scope="row">{title}</th>{drawn}<td class="number">{number(value, "+.4f")}</td></tr>'
    named = f'<h3>{name(label)}</h3><p class="small soft">{short(who)}</p>'
    return f"<li>{picture}{named}<table><tbody>{rows}</tbody></table></li>"


def _gone(v: View, i: int) -> str:
    return f'<div class="frame gone soft">Not shown: {text(v.e.missing.get(i, "it is not at hand"))}.</div>'


def _training_sum(v: View) -> str:
    p, shown = v.e.parts, list(v.e.shown)
    others = sorted(set(range(len(p.dual))) - set(shown))
    rows = _row(START[p.is_additive], [number(p.prior, "+.6f"), "included"]) if p.prior else ""
    for title, which in ((f"The {len(shown)} above", shown), (f"All {len(others):,} others", others)):
        rows += _row(title, [number(float(x[which].sum()), "+.6f") for x in (p.dual, p.label)])
    return rows + _row(f"= {v.score}", [number(p.logit, "+.6f")] * 2, total=True)


def pairs(v: View) -> dict[str, str]:
    """Return what the section on pairs of regions needs: for each training picture the strongest, marked on both."""
    rows = "".join(_pair_row(v, i) for i in v.e.shown if i in v.e.pair_maps)
    none = (
        "<p><strong>Not shown:</strong> the regions of these training pictures are not at hand: their files are gone, "
        "or changed.</p>"
    )
    return {"pairs": rows or none}


def _pair_row(v: View, i: int) -> str:
    e, found, there = v.e, v.e.pair_maps[i], v.training.get(i)
    who, best = e.training_ids[i], separate_pairs(found, PAIRS)
    here, training_regions = [pair[0] for pair in best], [pair[1] for pair in best]
    rows, right = "", _gone(v, i)
    for k, (region, training_region, value) in enumerate(best):
        mark = f'<span class="mark" style="background:{MARKS[k]}">{k + 1}</span>'
        names = f"{v.region_names[region]} &larr; {v.region_names[training_region]}"
        rows += f'<tr><td>{mark}</td><td class="number">{number(value)}</td><td>{names}</td></tr>'
    left = v.test.svg(f"This picture; marked: {_listed(v, here)}", marks(v.test, here))
    if there is not None:
        alt = f"Training picture {who}; marked: {_listed(v, training_regions)}"
        right = f'<div class="frame">{there.svg(alt, marks(there, training_regions))}</div>'
    together, every = number(sum((value for _, _, value in best), 0.0)), number(float(found.sum()))
    share = (
        f"These {len(best)} of {found.numel():,} pairs bring {together}; all of them {every}, which is what the "
        "picture brings."
    )
    table = f"<table><caption>Here &larr; there</caption><tbody>{rows}</tbody></table>" if best else ""
    return f"""<div class="pair"><h3>With {short(who)} <span class="soft">({name(e.training_labels[i])})</span></h3>
<figure><div class="frame">{left}</div><figcaption class="small">This picture</figcaption></figure>
<figure>{right}<figcaption class="small">The training picture</figcaption></figure>
<div class="list">{table}<p class="small soft">{share}</p></div></div>"""


def _listed(v: View, regions: Sequence[int]) -> str:
    return "; ".join(f"{k}: {v.region_names[region]}" for k, region in enumerate(regions, start=1)) or "nothing"
