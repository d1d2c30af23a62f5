"""The page of a report: first the answer in plain words, then what it rests on. Static HTML, everything in it."""

from importlib import resources
from string import Template
from typing import Any

from carrot import __version__
from carrot._choices import PATCHES
from carrot._display.html import page_head
from carrot._display.words import counted
from carrot.classifier.suspects import levels
from carrot.embedding.setting import AXES
from carrot.evaluation.verdict import beside, honest, how_often
from carrot.explanation.drawing import text
from carrot.overview import report_sections as sections
from carrot.overview.judged import HELD_OUT
from carrot.overview.marks import percent
from carrot.overview.report import ModelReport

FACTS = {
    "backbone": "Vision model that describes the regions",
    "crop": "How pictures are cut",
    "precision": "The vision model computes in",
    "dtype": "Tokens are rounded to",
    **{key: axis.label for key, axis in AXES.items()},
    "lam": "Ridge penalty",
    "class_weight": "Weights of the classes",
    "temperature": "Temperature of the probabilities",
}
ALONE = 0.5  # share of one place from which a class is said to stand on it


def styled(page: str, title: str, **filled: str) -> str:
    """Return a page of this package's: its template, its title, the one style, and what it is filled with."""
    files = resources.files("carrot.overview")
    template = Template(files.joinpath(page).read_text("utf-8"))
    style = files.joinpath("style.css").read_text("utf-8")
    return template.substitute(filled, head=page_head(title, style), title=title, version=text(__version__))


def report_page(r: ModelReport) -> str:
    """Return the page."""
    first, *words = plain_words(r)
    return styled(
        "report.html",
        title=text(f"The model {r.name}"),
        made=text(_made(r)),
        answer=text(first),
        words="".join(f"<li>{text(line)}</li>" for line in words),
        figures=_figures(r),
        gaps="".join(_gap(*gap) for gap in r.gaps),
        accuracy=sections.accuracy(r),
        calibration=sections.calibration(r),
        classes=sections.classes(r),
        confusions=sections.confusions(r),
        examples_of=text(r.examples_of),
        best=sections.examples(r.best),
        worst=sections.worst(r),
        suspects=sections.suspects(r),
        duplicates=sections.duplicates(r),
        evidence=sections.evidence(r),
        explanations=sections.explanations(r),
        facts=_facts(r),
        hashes=_list(r.provenance["files"]) or "<dt>None</dt><dd>the model is not saved, or was changed since</dd>",
    )


def plain_words(r: ModelReport) -> list[str]:
    """Return what to know if nothing else is read, as sentences; the first is the answer."""
    a = r.judged.accuracy
    who = "held-out picture" if r.held_out else "training picture"
    said = how_often(a["top1"], a["n"], who).replace(" %", "\N{NO-BREAK SPACE}%")
    lines = [f"The model is {said}{'' if r.held_out else ', each judged by a fit without it'}."]
    lines += [
        line
        for line in (
            honest(r.judged.accuracy, r.judged.calibration),
            _beside(r),
            _flattered(r),
            _confused(r),
            _weakest(r),
            _doubtful(r),
            _narrow(r),
        )
        if line
    ]
    return lines


def _beside(r: ModelReport) -> str:
    if r.judged.of != HELD_OUT:
        return ""
    return beside(r.judged.accuracy, r.measured.get("baselines", {}))


def _flattered(r: ModelReport) -> str:
    if r.held_out is not None or not r.audit.duplicates:
        return ""
    n = len(r.audit.duplicates)
    pairs = f"{counted(n, 'pair')} of training pictures {'is' if n == 1 else 'are'}"
    return f"{pairs} nearly the same: each helps the other, which flatters these numbers."


def _confused(r: ModelReport) -> str:
    if not r.judged.confusions:
        return "It confused no classes."
    worst = r.judged.confusions[0]
    n = next(row["n"] for row in r.judged.classes if row["name"] == worst["true"])
    some = f"{worst['count']} of {counted(n, 'picture')} of {worst['true']}"
    return f"What it confuses most: {some} it took for {worst['predicted']}."


def _weakest(r: ModelReport) -> str:
    known = [row for row in r.judged.classes if row["n"]]
    if len(known) < 2:
        return ""
    row = min(known, key=lambda one: one["accuracy"])
    is_told = bool(r.judged.confusions) and r.judged.confusions[0]["true"] == row["name"]
    if is_told or row["accuracy"] == 1:
        return ""
    return f"Its weakest class is {row['name']}: {row['right']} of {row['n']} right."


def _doubtful(r: ModelReport) -> str:
    doubtful, of = r.audit.doubtful, counted(len(r.audit.suspects), "training label")
    if not doubtful:
        return f"None of {of} is doubtful."
    s, head = doubtful[0], "" if len(doubtful) == 1 else "first "
    first = f"{s.id}, labelled {s.label}, of which the others say {s.suggested}"
    return f"{len(doubtful)} of {of} {_is(len(doubtful))} doubtful: {levels(doubtful)}; {head}{first}."


def _narrow(r: ModelReport) -> str:
    shown = r.shown_classes
    if not shown or len(shown[0].places) < 2:
        return ""
    one = shown[0]
    where = f"{percent(one.share, 0)} of what speaks for {one.name} lies in {r.told_place(int(one.places.argmax()))}"
    if one.share < ALONE:
        return f"No class stands on one place alone; the most: {where}."
    return f"{where}: look whether that is the object, or a shortcut."


def _made(r: ModelReport) -> str:
    n, C = sum(r.training.values()), len(r.training)
    what = f"{counted(n, 'training picture')} of {counted(C, 'class', 'classes')}; {r.facts['backbone']}; {r.regions}"
    return f"{what}."


def _figures(r: ModelReport) -> str:
    j, doubtful = r.judged, r.audit.doubtful
    shown = [
        (percent(j.accuracy["top1"]), f"right, of {j.accuracy['n']:,} {j.of}"),
        (percent(j.accuracy["mean_per_class"]), "right, mean over the classes"),
        *((percent(p), "is what it promises on average") for p in [j.calibration.get("promised")] if p is not None),
        (
            f"{len(doubtful)}",
            f"doubtful {_noun(len(doubtful), 'label')}" + (f": {levels(doubtful)}" if doubtful else ""),
        ),
        (f"{len(r.audit.duplicates)}", f"{_noun(len(r.audit.duplicates), 'pair')} of nearly the same pictures"),
    ]
    return "".join(f"<li><strong>{text(value)}</strong>{text(what)}</li>" for value, what in shown)


def _noun(n: int, one: str) -> str:
    return one if n == 1 else f"{one}s"


def _is(n: int) -> str:
    return "is" if n == 1 else "are"


def _gap(what: str, why: str, command: str) -> str:
    head, how = f"<strong>Not measured: {text(what)}</strong>", f"<code>{text(command)}</code>"
    return f'<p class="gap">{head}, for {text(why.rstrip("."))}. To have it: {how}</p>'


def _facts(r: ModelReport) -> str:
    p = r.provenance
    shown: dict[str, Any] = {"Regions": r.regions}
    is_tiled = r.facts["regions"] != PATCHES
    moot = ["regions", *(("tau", "coarsen") if is_tiled else ("tile_size",))]
    moot += ("crop",) if is_tiled and not r.facts["global_share"] else ()
    moot += () if r.facts["t"] else ("sigma_spatial", "sigma_feature")
    shown |= {FACTS[key]: _plain(key, value) for key, value in r.facts.items() if key in FACTS and key not in moot}
    shown |= {"Training data": p["data"] or "given from Python", "Fingerprint of the vision model": p["fingerprint"]}
    shown |= {"Pictures set aside when fitting": str(len(p["set_aside"]))}
    shown |= {"Versions": ", ".join(f"{key} {value}" for key, value in p["versions"].items())}
    shown |= {"Machine": p["machine"]}
    times = r.measured.get("milliseconds_a_picture", {})
    if times:
        said = "; ".join(f"{stage.strip()} {ms:.2f} ms" for stage, ms in times.items())
        shown["Time a picture, measured by carrot evaluate"] = said
    return _list(shown)


def _plain(key: str, value: object) -> str:
    if value is None:
        return "every picture alike" if key == "class_weight" else "not noted"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _list(rows: dict[str, Any]) -> str:
    return "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in rows.items())
