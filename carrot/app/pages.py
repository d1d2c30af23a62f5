"""The pages of the gallery and the desk: HTML of templates in this package; all that comes from data is escaped."""

import html
from collections.abc import Sequence
from functools import cache
from importlib import resources
from string import Template
from urllib.parse import quote

from carrot.app.gallery import RANGES, SHOWN, Query, sorts
from carrot.app.held import Entry, Held
from carrot.explanation.drawing import short

STATIC = {"app.css": "text/css", "app.js": "text/javascript", "desk.js": "text/javascript"}


def text(value: object) -> str:
    """Return text for HTML; what is no Unicode is written out."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode())


@cache
def _template(name: str) -> Template:
    return Template(resources.files("carrot.app").joinpath("templates", name).read_text("utf-8"))


def template(name: str, **values: object) -> str:
    """Return a template with its places filled by HTML."""
    return _template(name).substitute(values)


@cache
def static(name: str) -> bytes | None:
    """Return a file that pages load; None: there is no such."""
    if name not in STATIC:
        return None
    return resources.files("carrot.app").joinpath("static", name).read_bytes()


def page(title: str, body: str, here: str, token: str, held: Held | None, script: str = "") -> str:
    """Return a whole page.

    Args:
        title: Of the window.
        body: HTML.
        here: Which of the places in the head it is.
        token: What a POST carries.
        held: The model; None: there is none to speak of.
        script: What it runs beside ``app.js``.
    """
    places = {"browse": ("/", "Pictures"), "desk": ("/desk", "Desk"), "upload": ("/upload", "Your picture")}
    links = " ".join(
        f'<a href="{link}"{" aria-current=page" if name == here else ""}>{word}</a>'
        for name, (link, word) in places.items()
    )
    more = f'<script src="/static/{script}" defer></script>' if script else ""
    name = "" if held is None else text(held.asked.folder.resolve().name)
    state = "" if held is None else held.state
    return template(
        "layout.html", title=text(title), body=body, links=links, token=token, model=name, state=state, script=more
    )


def message(title: str, words: str, token: str, held: Held | None, action: str = "") -> str:
    """Return a page that says one thing."""
    body = f'<section class="message"><h1>{text(title)}</h1><p>{text(words)}</p>{action}</section>'
    return page(title, body, "", token, held)


def browse(held: Held, query: Query, entries: Sequence[Entry], why_none: str, token: str) -> str:
    """Return a page of the gallery."""
    found = query.chosen(entries)
    some, pages = query.paged(found)
    now = min(query.page, pages)
    tabs = " ".join(
        f'<a class="tab" href="{text(query.link(show=name))}"{" aria-current=true" if query.show == name else ""}>'
        f"{word}</a>"
        for name, word in SHOWN.items()
    )
    sides = " ".join(
        f'<a href="{text(query.link(of=side))}"{" aria-current=true" if query.of == side else ""}>{word}</a>'
        for side, word in (("train", "training pictures"), ("test", "held-out pictures"))
    )
    what = "training pictures, each told by the model fitted without it" if query.of == "train" else "held-out pictures"
    right = sum(entry.is_right for entry in entries) / max(1, len(entries))
    lead = (
        f"Leave-one-out accuracy <b>{100 * right:.1f} %</b>: of each training picture the class is told by the model "
        "fitted without it, exactly."
        if query.of == "train"
        else f"Accuracy <b>{100 * right:.1f} %</b>: the model was not fitted on these." * bool(entries)
    )
    count = f"{len(found)} of {len(entries)} {what}" if entries else text(why_none)
    turn = [
        f'<a rel="{rel}" href="{text(query.link(page=to))}">{word}</a>'
        for rel, to, word in (("prev", now - 1, "Previous"), ("next", now + 1, "Next"))
        if 1 <= to <= pages
    ]
    body = template(
        "browse.html",
        tabs=tabs,
        sides=sides,
        count=count,
        lead=lead,
        show=text(query.show),
        of=text(query.of),
        labels=_options(held.fitted.classes, query.label, "any label"),
        said=_options(held.fitted.classes, query.said, "anything"),
        sorts="".join(
            f'<option value="{key}"{" selected" if key == query.sort else ""}>{word}</option>'
            for key, word in sorts(query.of).items()
        ),
        sliders="".join(_slider(query, name) for name in RANGES),
        cards="".join(_card(held, query, entry) for entry in some)
        or '<p class="none">No picture is like that.</p>' * bool(entries),
        turn=" ".join(turn),
        page=f"Page {now} of {pages}" if pages > 1 else "",
    )
    return page(f"{held.asked.folder.resolve().name}: pictures", body, "browse", token, held)


def _options(names: Sequence[str], chosen: str, none: str) -> str:
    options = [f'<option value="">{none}</option>']
    options += [
        f'<option{" selected" if name == chosen else ""} value="{text(name)}">{text(name)}</option>' for name in names
    ]
    return "".join(options)


def _slider(query: Query, name: str) -> str:
    """Return the slider that narrows the view; those of other views keep their place in the link."""
    view, least, most, step = RANGES[name]
    value = f"{getattr(query, name):g}"
    if query.show != view:
        return "" if getattr(query, name) == getattr(Query(), name) else _hidden(name, value)
    shown = f"{100 * query.p:.0f} %" if name == "p" else value
    word = {"below": "Margin below", "p": "Label's probability at most"}[name]
    return (
        f'<label class="slider">{word} <output>{shown}</output> <input type="range" name="{name}" min="{least:g}" '
        f'max="{most:g}" step="{step:g}" value="{value}"></label>'
    )


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{text(value)}">'


def _card(held: Held, query: Query, entry: Entry) -> str:
    s = entry.suspect
    verdict = "right" if entry.is_right else "wrong"
    said = text(entry.said) if not entry.is_right else "agrees"
    flag = f'<span class="flag" title="Others say another class">{s.verdict}</span>' if s.verdict else ""
    return (
        f'<li class="card {verdict}"><a href="/picture/{quote(entry.key)}" title="{text(s.id)}">'
        f'<img src="/thumb/{quote(entry.key)}?v={held.state}" alt="" width="150" height="150" loading="lazy">'
        f'<span class="label">{text(s.label)}</span><span class="said"><span class="mark" aria-hidden="true">'
        f"{'=' if entry.is_right else '≠'}</span> {said}</span>"
        f'<span class="small">{query.told(entry)} {flag}</span><span class="file">{short(s.id, 24)}</span></a></li>'
    )
