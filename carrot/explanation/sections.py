"""Below the answer: the training pictures that count, pairs of regions, and the proofs that are folded."""

from collections.abc import Sequence

from torch import Tensor

from carrot.explanation.drawing import MARKS, legend, name, number, overlay, short, side, text
from carrot.explanation.level import WHOLE
from carrot.explanation.parts import telling_pairs
from carrot.explanation.terms import START
from carrot.explanation.view import View
from carrot.explanation.words import added_up, digits_for

LEADING = 3  # training pictures that are not folded
PAIRED = 2  # training pictures whose pairs are drawn
PAIRS = 3  # of each training picture


def training(v: View) -> dict[str, str]:
    """Return a card for each training picture: the first are shown, the others folded."""
    rows, n = v.rows, len(v.e.training_ids)
    digits = digits_for([float(v.e.parts.removal[i]) for i in rows[:LEADING]])
    cards = [_card(v, k, i, digits) for k, i in enumerate(rows)]
    told = "this one holds" if len(rows[:LEADING]) == 1 else f"these {len(rows[:LEADING])} hold"
    told = f"Of {n:,} training pictures, {told} the answer up most."
    folded = "".join(cards[LEADING:])
    return {
        "word": v.short,
        "n": f"{n:,}",
        "leading": told if rows else "None is shown.",
        "opposing": _opposing(v, digits),
        "cards": "".join(cards[:LEADING]),
        "further": ""
        if not folded
        else f'<details class="further"><summary>{len(rows) - LEADING} more training pictures</summary>'
        f'<ul class="cards">{folded}</ul></details>',
        "training_sum": _training_sum(v),
        "training_numbers": _training_numbers(v),
    }


def _opposing(v: View, digits: int) -> str:
    """Return a sentence on the training picture without which the score would rise most, if by more than it falls.

    Of a lead, which has two sides, whenever there is one.
    """
    e, removal = v.e, v.e.parts.removal
    worst = min(v.rows, key=lambda i: float(removal[i]), default=None)
    most = max((float(removal[i]) for i in v.rows[:LEADING]), default=0.0)
    least = -float(removal[worst]) if worst is not None else 0.0
    if worst is None or least <= (most if e.against is None else 0.0):
        return ""
    told = f"{short(e.training_ids[worst])}, labelled {name(e.training_labels[worst])}"
    how = "One speaks against it more:" if e.against is None else f"Most for {v.against} speaks"
    told = f"{how} {told}. Without it {_falls(v, float(removal[worst]), digits)}."
    if worst in e.doubtful:
        told += f" Its label is doubtful: fitted without it, the model says {name(e.doubtful[worst])}."
    return f'<p id="opposing">{told}</p>'


def _card(v: View, k: int, i: int, digits: int) -> str:
    """Return a training picture with the one number that counts; ``data-k`` is its place in the page's payload."""
    e, sheet = v.e, v.training.get(i)
    who, label = e.training_ids[i], e.training_labels[i]
    picture = _gone(v, i)
    if sheet is not None:
        picture = f'<div class="frame">{sheet.svg(f"Training picture {who}, labelled {label}")}</div>'
    flag = ""
    if i in e.doubtful:
        flag = (
            '<p class="flag"><strong>Doubtful label:</strong> fitted without this picture, the model says '
            f"{name(e.doubtful[i])}.</p>"
        )
    itself = " (this picture itself)" if e.own is not None and e.own.row == i else ""
    told = f'<h3>{name(label)}</h3><p class="small soft">{short(who)}{itself}</p>{flag}'
    told += f'<p class="without">{effect(v, i, digits)}</p>'
    return f'<li class="card" data-k="{k}">{picture}<div class="told">{told}</div></li>'


def effect(v: View, i: int, digits: int) -> str:
    """Return what a training picture did, as HTML: how far the score would fall or rise without it."""
    e, value = v.e, float(v.e.parts.removal[i])
    if e.counterfactuals is not None and int(e.counterfactuals.counts[e.classes.index(e.training_labels[i])]) == 1:
        return "Without it, no picture of its class would be left."
    return f'Without it <span class="{side(value)}">{_falls(v, value, digits)}</span>.'


def _falls(v: View, value: float, digits: int) -> str:
    how = "falls" if value >= 0 else "rises"
    return f'the {v.short} {how} by <data value="{value!r}">{abs(value):.{digits}f}</data>'


def _gone(v: View, i: int) -> str:
    return f'<div class="frame gone soft">Not shown: {text(v.e.missing.get(i, "it is not at hand"))}.</div>'


def row(title: str, cells: Sequence[str], total: bool = False) -> str:
    """Return a row of a table: title and cells are HTML."""
    shown = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr{" class=total" if total else ""}><th scope="row">{title}</th>{shown}</tr>'


def _training_sum(v: View) -> str:
    p, listed = v.e.parts, list(v.rows)
    others = sorted(set(range(len(p.dual))) - set(listed))
    rows = row(START[p.is_additive], [number(p.prior, "+.6f"), "included"]) if p.prior else ""
    for title, which in ((f"The {len(listed)} listed above", listed), (f"All {len(others):,} others", others)):
        rows += row(title, [number(float(x[which].sum()), "+.6f") for x in (p.dual, p.label)])
    return rows + row(f"= {v.score}", [number(p.logit, "+.6f")] * 2, total=True)


def _training_numbers(v: View) -> str:
    e, p = v.e, v.e.parts
    return "".join(
        row(
            f'{short(e.training_ids[i])} <span class="soft">({name(e.training_labels[i])})</span>',
            [number(float(x[i]), "+.6f") for x in (p.dual, p.label, p.removal)],
        )
        for i in v.rows
    )


def pairs(v: View) -> dict[str, str]:
    """Return which region counts because of which, where a few pairs carry enough of what a training picture brings."""
    others = {i: found for i, found in v.e.pair_maps.items() if v.e.own is None or i != v.e.own.row}
    told = [drawn for i in v.rows if i in others and (drawn := _pair_row(v, i))][:PAIRED]
    few = ""
    if others and not any(telling_pairs(found, PAIRS) for found in others.values()):
        few = (
            f"<p>Pairs of {v.e.level.many} are not drawn: with no training picture do the {PAIRS} strongest "
            "carry a fifth of what all pairs explain. They add up all the same.</p>"
        )
    return {"pairs": _PAIRS_HEAD + "".join(told) + "</section>" if told else "", "few_pairs": few}


_PAIRS_HEAD = """<section class="long" id="pairs"><h2>What here is like what there</h2>
<p>Each pair: a part of this picture, and the part of a training picture because of which it counts.</p>"""


def _pair_row(v: View, i: int) -> str:
    """Return the strongest pairs with a training picture, each region once; nothing where they carry too little."""
    e, found, there = v.e, v.e.pair_maps[i], v.training.get(i)
    who, best = e.training_ids[i], telling_pairs(found, PAIRS)
    together, whole = sum((value for _, _, value in best), 0.0), float(found.sum())
    if there is None or not best:
        return ""
    digits = digits_for([together, whole])
    *shown, rest = added_up([*(value for _, _, value in best), whole - together], whole, digits)
    (all_of_it,) = added_up([whole], whole, digits)
    drawn = ""
    for k, ((region, training_region, _), value) in enumerate(zip(best, shown, strict=True)):
        here, other = v.region_names[region], v.region_names[training_region]
        left = v.test.crop(region, f"Of this picture: {here}", MARKS[k])
        right = there.crop(training_region, f"Of training picture {who}: {other}", MARKS[k])
        if left and right:
            sides = (
                f'<div class="frame">{left}</div><span aria-hidden="true">&larr;</span><div class="frame">{right}</div>'
            )
            told = f"<strong>{value}</strong> {text(here)} &larr; {text(other)}"
            drawn += f'<figure><div class="sides">{sides}</div><figcaption class="small">{told}</figcaption></figure>'
    others = found.numel() - len(best)
    rest_told = (
        f"With all {others:,} other pairs, {rest}, they make {all_of_it}: all that likeness to this picture brings."
    )
    return f"""<div class="pair"><h3>With {short(who)} <span class="soft">({name(e.training_labels[i])})</span></h3>
<div class="many">{drawn}</div><p class="small soft">{rest_told}</p></div>"""


def maps(v: View) -> dict[str, str]:
    """Return how the picture was cut, all regions as numbers, and the maps that differ from the one at the top."""
    p = v.e.parts
    drawn, columns = [], [("brings", p.token)]
    if not v.unmixed:
        why = (
            f"{v.e.level.many.capitalize()} that lie near and look alike share what they hold before the model takes "
            "their mean. The map at the top tells what each brought in; this one, what each holds after sharing. Both "
            "add up."
        )
        drawn.append(_map(v, "What each holds after sharing", why, p.node, v.ends))
        columns.append(("holds after sharing", p.node))
    if not v.is_one_map:
        reason = "others have shared with it" if p.is_additive else "those left take over its weight"
        why = (
            f"How far the {v.short} falls (red) or rises (blue) without this {v.e.level.one} alone: {reason}, so that "
            "it differs from what it brings. A what-if for each: they don't add up."
        )
        drawn.append(_map(v, "What is missing without it", why, p.drop, ("rises", "falls")))
        columns.append(("missing without it", p.drop))
    heads = "".join(f'<th scope="col" class="number">{title}</th>' for title, _ in columns)
    lines = "".join(
        row(text(region), [number(float(x[i]), "+.5g") for _, x in columns]) for i, region in enumerate(v.region_names)
    )
    others = f'<div class="many">{"".join(drawn)}</div>' if drawn else f"<p>{_one_map(v)}</p>"
    return {
        "cut": _cut(v),
        "counted": v.e.level.counted,
        "one": v.e.level.one,
        "many": v.e.level.many,
        "other_maps": others,
        "maps_title": f"{'Other maps, and all' if drawn else 'All'} {v.e.level.many} as numbers",
        "region_heads": heads,
        "region_numbers": lines,
        "padding": _padding(v),
        "meaning": "".join(f"<li><strong>{what}</strong> {why}</li>" for what, why in _meaning(v)),
    }


def _one_map(v: View) -> str:
    return (
        f"In this model {v.e.level.many} share nothing, and what one brings is what the {v.short} loses without it: "
        "there is only one map."
    )


def _cut(v: View) -> str:
    """Return how the picture was cut into regions."""
    grid_hw, n = v.e.picture.grid_hw, v.num_local
    if grid_hw is not None:
        return (
            f"The model cuts the picture into {grid_hw[0]} rows and {grid_hw[1]} columns of squares, called "
            f"<strong>{v.e.level.many}</strong>."
        )
    kinds = list(dict.fromkeys(place.split(" of ")[-1] for place in v.e.picture.places if " of " in place))
    grids = f" ({' and '.join(kinds)})".replace(" x ", " &times; ") if kinds else ""
    return (
        f"The model looks at {n} <strong>{v.e.level.many if n > 1 else v.e.level.one}</strong> of the picture{grids}, "
        "one by one: each is cut out, enlarged and seen alone."
    )


def _meaning(v: View) -> list[tuple[str, str]]:
    return [*v.e.level.meaning, *([WHOLE] if v.e.parts.num_global else [])]


def _map(v: View, title: str, why: str, values: Tensor, ends: tuple[str, str]) -> str:
    sheet, heights, names = v.spread(values)
    picture = sheet.svg(f"Map of {v.e.picture.id}. {title}.", overlay(sheet, heights, names), "faint")
    return f"""<figure><h3>{title}</h3><div class="frame">{picture}</div>{legend(heights, *ends)}
<figcaption>{why}</figcaption></figure>"""


def _padding(v: View) -> str:
    if not v.padding:
        return ""
    brought = number(float(v.e.parts.token[v.padding].sum()))
    where = f"{len(v.padding)} {v.e.level.many} lie in the padding around the picture and can't be drawn"
    return f'<p class="small">{where}. Together they bring {brought}.</p>'
