"""The sections of a report's page, each as HTML."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from carrot._display.words import between, counted
from carrot.classifier.suspects import levels
from carrot.evaluation.verdict import of_maps
from carrot.explanation.drawing import name, number, short, text
from carrot.overview.evidence import ClassEvidence
from carrot.overview.judged import Example
from carrot.overview.marks import bar, card, line, percent, picture, reliability_chart, said, shots, table
from carrot.overview.report import CLASSES, PAIRS, SUSPECTS, ModelReport
from carrot.overview.thumbs import place_map

OPEN = 12  # rows of a long table that are not folded
SOFT = "soft small"


def accuracy(r: ModelReport) -> str:
    """Return every accuracy there is, in one table."""
    rows: list[tuple[str, dict[str, Any], bool]] = []
    if r.held_out is not None:
        rows.append((f"This model, on {r.held_out.of}", r.held_out.accuracy, True))
    rows.append((f"This model, on {r.leave_one_out.of}", r.leave_one_out.accuracy, r.held_out is None))
    baselines = r.measured.get("baselines", {})
    rows += [(f"Instead: {what}", row, False) for what, row in baselines.items() if "top1" in row]
    sources = [text(judged.source) for judged in (r.held_out, r.leave_one_out) if judged]
    leaks = r.measured.get("leaks", {})
    if leaks.get("test_pictures"):
        near = f"(cosine of at least {leaks['threshold']:g})"
        n = leaks["test_pictures"]
        what = "is a training picture over again" if n == 1 else "are training pictures over again"
        sources.append(f"{counted(n, 'test picture')} {what} {near}: that flatters.")
    if baselines:
        sources.append("&ldquo;Instead&rdquo; are other heads on whole pictures, by the same vision model.")
    sources.append("The interval is one of 95&nbsp;% (Wilson), of these pictures alone.")
    heads = ("What", "#Right", "#Interval", "", "#Mean of classes", "#Among first 5")
    notes = "".join(f"<li>{source}</li>" for source in sources)
    return f'{table(heads, [_accuracy_row(*row) for row in rows])}<ul class="words {SOFT}">{notes}</ul>'


def _accuracy_row(what: str, row: dict[str, Any], ours: bool) -> str:
    right, around = f"#{percent(row['top1'])}", f"#{between(row['top1'], row['n'])}"
    rest = (f"#{percent(row['mean_per_class'])}", f"#{percent(row['top5'])}")
    return line(text(what), right, around, bar(row["top1"]), *rest, kind="ours" if ours else "")


def calibration(r: ModelReport) -> str:
    """Return what was promised, and what came."""
    bins, c = r.judged.reliability, r.judged.calibration
    off = (
        f"The expected calibration error is {100 * c['expected_calibration_error']:.1f} percentage points "
        f"({c['bins']} bins; few pictures alone make some), the negative log likelihood "
        f"{c['negative_log_likelihood']:.3f}, the temperature "
        f"{c['temperature']:.3g}."
    )
    if not bins:
        return said(off)
    rows = [line(percent(one["promised"]), f"#{percent(one['right'])}", f"#{int(one['n']):,}") for one in bins]
    how = (
        "A dot is a group of pictures of about one probability; the larger, the more. On the dashed line promises are "
        "kept; below it the model is too sure, above it too modest."
    )
    numbers = table(("Promised", "#Right", "#Pictures"), rows)
    return f'{said(how)}<div class="two"><div>{reliability_chart(bins)}</div>{numbers}</div>{said(off, SOFT)}'


def classes(r: ModelReport) -> str:
    """Return every class, the weakest first."""
    known = sorted((row for row in r.judged.classes if row["n"]), key=lambda row: (row["accuracy"], row["name"]))
    rows = [_class_row(row, r.training.get(row["name"], 0)) for row in known]
    heads = ("Class", "#Training", "#Right", "", "Most often taken for")
    absent = [name(row["name"]) for row in r.judged.classes if not row["n"]]
    rest = ""
    if len(rows) > OPEN:
        rest = f"<details><summary>{len(rows) - OPEN} more</summary>{table(heads, rows[OPEN:])}</details>"
    none = said(f"No picture of: {', '.join(absent)}.", SOFT) if absent else ""
    return f"{said(f'Of {text(r.judged.of)}, the weakest first.')}{table(heads, rows[:OPEN])}{rest}{none}"


def _class_row(row: dict[str, Any], training: int) -> str:
    times = "once" if row["mistaken"] == 1 else f"{row['mistaken']} times"
    wrong = f"{name(row['mistaken_for'])}, {times}" if row["mistaken"] else ""
    right = f"#{row['right']} of {row['n']}"
    return line(name(row["name"]), f"#{training:,}", right, bar(row["accuracy"]), wrong)


def confusions(r: ModelReport) -> str:
    """Return the most frequent confusions."""
    found = r.judged.confusions
    if not found:
        return said("Nothing.")
    rows = [
        line(name(c["true"]), name(c["predicted"]), f"#{c['count']}", f"#{percent(c['share'])}", bar(c["share"]))
        for c in found[:OPEN]
    ]
    more = said(f"And {counted(len(found) - OPEN, 'rarer pair')}.", SOFT) if len(found) > OPEN else ""
    return table(("What it was", "What it said", "#Times", "#Of the class", ""), rows) + more


def examples(found: Sequence[Example]) -> str:
    """Return pictures with their maps as cards."""
    return "".join(map(_example, found)) or f'<li class="{SOFT}">None: their tokens are not kept.</li>'


def worst(r: ModelReport) -> str:
    """Return the pictures that it was surest of and wrong."""
    if r.judged.accuracy["top1"] == 1.0:
        return said("It made no mistake.")
    either = said("Where a picture shows what the model said, it is the label that is wrong.", SOFT)
    return f'{either}<ul class="cards">{examples(r.worst)}</ul>'


def _example(e: Example) -> str:
    plain, mapped = picture(e.picture or e.missing, e.id), picture(e.map or e.missing, f"{e.id} with its map")
    verdict = ", and that is right."
    if e.label != e.predicted:
        verdict = f'. It is labelled <strong class="for">{name(e.label)}</strong>.'
    brings = f"{number(float(e.regions.max()))}, {text(e.strongest)}"
    sums = (
        f"Score {number(e.logit, '+.3f')} = start {number(e.start, '+.3f')} and regions "
        f"{number(e.logit - e.start, '+.3f')}; most of one: {brings}."
    )
    says = f"It said <strong>{name(e.predicted)}</strong>, {percent(e.probability)}{verdict}"
    return card(shots(plain, mapped), said(says), said(sums, SOFT), said(short(e.id), "file"))


def suspects(r: ModelReport) -> str:
    """Return the doubtful labels, with their pictures."""
    doubtful, of = r.audit.doubtful, counted(len(r.audit.suspects), "training label")
    judged = "Each was judged by the model fitted without it (exact leave-one-out)"
    if not doubtful:
        return said(f"None of {of}. {judged}.") + _hiding(r)
    what = (
        f"{len(doubtful)} of {of} {'is' if len(doubtful) == 1 else 'are'} doubtful. {judged}, which says another class"
    )
    what += f"; {levels(doubtful, True)}. Most suspicious first."
    cards = "".join(
        card(
            picture(r.pictures.get(s.id), s.id),
            said(f'Labelled <strong class="for">{name(s.label)}</strong>, {percent(s.probability)}.'),
            said(f"The others say <strong>{name(s.suggested)}</strong>: it {s.verdict}."),
            said(short(s.id), "file"),
        )
        for s in doubtful[:SUSPECTS]
    )
    model = text(r.path)
    more = (
        f"And {len(doubtful) - SUSPECTS:,} more: <code>carrot audit {model}</code>" if len(doubtful) > SUSPECTS else ""
    )
    first = f"{shlex.quote(doubtful[0].id)} {shlex.quote(doubtful[0].suggested)}"
    hint = said(
        f"To mend the first: <code>carrot relabel {model} {text(first)}</code>. One by one, with what speaks for each: "
        f"<code>carrot explore {model}</code>"
    )
    return f'{said(what)}<ul class="cards narrow">{cards}</ul>{said(more) if more else ""}{_hiding(r)}{hint}'


def _hiding(r: ModelReport) -> str:
    """Return the pictures that hide each other's label, if there are some."""
    found = r.audit.groups
    what = f"{counted(len(found), 'group')} of pictures, each of which is believed for the others of it are there."
    lines = "".join(said(text(f"{', '.join(group.ids)}: {group}.")) for group in found[:SUSPECTS])
    return said(what) + lines if found else ""


def duplicates(r: ModelReport) -> str:
    """Return the training pictures that are nearly the same."""
    found = r.audit.duplicates
    if not found:
        return said(f"None (cosine of at least {r.audit.threshold:g}, and nearer than others of their kind).")
    cards = "".join(
        card(
            shots(*(picture(r.pictures.get(one), one) for one in (d.first, d.second))),
            said(f"{'The same file' if d.same_file else f'Cosine {d.cosine:.4f}'}; {_labels(d.labels)}"),
            said(f"{short(d.first)}<br>{short(d.second)}", "file"),
        )
        for d in found[:PAIRS]
    )
    rest = f"And {len(found) - PAIRS:,} more: <code>carrot audit {text(r.path)}</code>"
    more = said(rest) if len(found) > PAIRS else ""
    return f'<ul class="cards">{cards}</ul>{more}'


def _labels(labels: tuple[str, str]) -> str:
    if labels[0] == labels[1]:
        return f"both {name(labels[0])}"
    return "labelled " + " and ".join(f'<strong class="for">{name(label)}</strong>' for label in labels)


def evidence(r: ModelReport) -> str:
    """Return what carries each class: places, and tiles of training pictures."""
    if r.evidence is None:
        return said("Not known: the tokens that the model was fitted from are not kept.")
    what = (
        "The score of a class's average training picture, taken apart exactly into what every region of every training "
        "picture brings. The square shows what each <strong>place</strong> brings, over all pictures of the class; "
        "beside it are the training pictures whose framed region brings most. Where it is not the object that is "
        "framed, the class may lean on a shortcut: a background, a stamp, a cage. A mark that the score hardly stands "
        "on doesn't show here. The classes that stand on one place most come first; rows and columns count from 0."
    )
    shown = r.shown_classes
    whole = f"<code>carrot report {text(r.path)} --json</code>"
    some = f"{len(shown)} of {len(r.evidence)} classes are shown; {whole} has all."
    note = said(some, SOFT) if len(r.evidence) > CLASSES else ""
    return f'{said(what)}<ul class="cards wide">{"".join(_class_card(r, one) for one in shown)}</ul>{note}'


def _class_card(r: ModelReport, one: ClassEvidence) -> str:
    best, local = int(one.places.argmax()), len(r.boxes)
    chart = picture(place_map(r.boxes, one.places[:local]), f"what each place brings to {one.name}")
    tiles = [picture(r.tiles.get((t.row, t.region)), f"{r.ids[t.row]}, {r.places[t.region]}") for t in one.tiles]
    where = f"{percent(one.share, 0)} of what speaks for it: {text(r.told_place(best))}."
    sums = (
        f"Score {number(one.score, '+.3f')} = start {number(one.start, '+.3f')}, its own {counted(one.n, 'picture')} "
        f"{number(one.own, '+.3f')}, all others {number(one.others, '+.3f')}."
    )
    return card(shots(chart, *tiles), said(where), said(sums, SOFT), head=name(one.name))


def explanations(r: ModelReport) -> str:
    """Return what was measured of explanations, and how far formulas are from real fits."""
    found, checks = r.measured.get("explanations", {}), r.measured.get("checks", {})
    lines = [text(verdict)] if (verdict := of_maps(found)) else []
    if found.get("pictures"):
        largest = number(max(found["largest_residual"].values()), ".1e")
        of = counted(found["pictures"], "held-out picture")
        lines.append(f"Of {of}, every sum of an explanation is the score to {largest}.")
    for what, check in checks.items():
        formula = f"{text(what.replace('_', ' ').capitalize())} by formula"
        lines.append(f"{formula} is that of real fits to {number(check['largest'], '.1e')} ({check['n']} tried).")
    if not lines:
        return said(f"Not measured yet: <code>carrot evaluate {text(r.path)}</code>")
    maps = table(("What", "#Mean", "#Chance"), list(_metric_rows(found)))
    items = "".join(f"<li>{one}</li>" for one in lines)
    return f'<ul class="words">{items}</ul><details><summary>All measures of its maps</summary>{maps}</details>'


def _metric_rows(found: dict[str, Any]) -> Iterator[str]:
    for group in found.values():
        for what, values in group.items() if isinstance(group, dict) else ():
            score = values.get("score", values) if isinstance(values, dict) else {}
            if not isinstance(score, dict) or score.get("mean") is None:
                continue
            error = score.get("standard_error")
            mean = f"#{score['mean']:.3f}" + ("" if error is None else f" ± {error:.3f}")
            yield line(text(what), mean, f"#{values['chance']['mean']:.3f}" if "chance" in values else "")
