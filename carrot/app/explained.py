"""Explanation pages as they are served: ``Explanation.to_html``, under a bar that leads back."""

import html
import re
from dataclasses import dataclass, replace
from threading import Semaphore

from PIL import Image

from carrot.app.bounded import Bounded
from carrot.app.held import Entry, Held
from carrot.app.pages import template, text
from carrot.app.uploads import Upload
from carrot.classifier.explaining import explain
from carrot.data.records import Box
from carrot.explanation.record import Explanation

PAGES = 96 * 2**20  # bytes of pages that are kept
AT_ONCE = 2  # explanations that are made at the same time: torch has threads of its own
_META = re.compile(r"<meta http-equiv=[\"']Content-Security-Policy[\"'] content=\"([^\"]*)\"")
_BODY = re.compile(r"<body[^>]*>")
_OURS = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Page:
    """A page, and what its headers say.

    Attributes:
        content: HTML.
        policy: Its content security policy, as it states it itself.
    """

    content: bytes
    policy: str


class Explainer:
    """Makes explanation pages, and keeps some."""

    def __init__(self) -> None:
        self._pages, self._gate = Bounded(PAGES), Semaphore(AT_ONCE)
        self._places: dict[tuple[str, str], str | None] = {}

    def of_entry(self, held: Held, entry: Entry, target: str | None = None, against: str | None = None) -> Page:
        """Return the page of a picture that the index names.

        Raises:
            FileNotFoundError: The picture can't be shown; the message says why.
            ValueError: A class is unknown.
        """
        key = (held.state, entry.key, target, against)
        kept = self._pages.get(key)
        if kept is None:
            picture = held.picture(entry)
            if isinstance(picture, str):
                raise FileNotFoundError(f"{entry.suspect.id}: {picture}.")
            name = entry.suspect.id
            page, left_out = self._made(held, picture, name, entry.suspect.label, target, against, entry)
            if target is None and against is None:
                self._places[held.state, entry.key] = left_out
            kept = _under(page, _bar(held, entry, left_out)).encode()
            self._pages.put(key, kept)
        return Page(kept, _policy(kept))

    def left_out(self, held: Held, entry: Entry) -> str | None:
        """Return the state of a training picture's own page in which it is left out; None: its page can't do so.

        What is explained there is what the model says without it.
        """
        if (held.state, entry.key) not in self._places:
            self.of_entry(held, entry)
        return self._places.get((held.state, entry.key))

    def of_upload(self, held: Held, upload: Upload, box: Box | None) -> Page:
        """Return the page of a picture that somebody gave, or of what lies in a box of it.

        Raises:
            UnreadableImageError: The box lies outside of it.
            ValueError: The part is too small for the model's tiles.
        """
        key = (held.state, upload.digest, box, None)
        kept = self._pages.get(key)
        if kept is None:
            picture = upload.picture if box is None else box.window.of(upload.picture, upload.name)
            page, _ = self._made(held, picture, upload.called(box), None, None, None, None)
            link = f'<a href="/yours/{upload.digest}/part">{"Only a part of it" if box is None else "Another part"}</a>'
            about = text(upload.note(box)) + (f" {template('cut.html')}" if held.knows_parts and box is None else "")
            kept = _under(page, template("bar.html", about=about, links=link)).encode()
            self._pages.put(key, kept)
        return Page(kept, _policy(kept))

    def _made(
        self,
        held: Held,
        picture: Image.Image,
        name: str,
        label: str | None,
        target: str | None,
        against: str | None,
        entry: Entry | None,
    ) -> tuple[str, str | None]:
        with self._gate:
            row = entry.place if entry is not None and entry.is_training else None
            e = explain(held.carrot.classifier, picture, target, against, label=label, row=row)
            e = replace(e, picture=replace(e.picture, id=name))
            return e.to_html(), _without_itself(e, target is not None)


def _without_itself(e: Explanation, is_asked: bool) -> str | None:
    """Return the state of a training picture's page in which it is left out; explained is what it says then."""
    rows = () if e.counterfactuals is None else e.counterfactuals.rows
    if e.own is None or e.own.says is None or e.own.row not in rows:
        return None
    asked = e.parts.target if is_asked or e.against is not None else e.classes.index(e.own.says)
    against = "" if e.parts.against is None else f"&a={e.parts.against}"
    return f"c={asked}{against}&o={rows.index(e.own.row)}"


def _bar(held: Held, entry: Entry, left_out: str | None) -> str:
    links = []
    if not entry.is_training:
        return template("bar.html", about="A held-out picture: the model was not fitted on it.", links="")
    about = f"A training picture, labelled <b>{text(entry.suspect.label)}</b>."
    if left_out is not None:
        links += [f'<a href="#{text(left_out)}">As if it had not been there</a>', '<a href="#">With it</a>']
    links.append(f'<a href="/desk/{entry.key}">To the desk</a>')
    return template("bar.html", about=about, links=" ".join(links))


def _under(page: str, bar: str) -> str:
    return _BODY.sub(lambda found: found[0] + bar, page, count=1)


def _policy(page: bytes) -> str:
    """Return the policy that a page states, and that it may stand in no frame."""
    found = _META.search(page[: 2**16].decode("utf-8", "replace"))
    stated = html.unescape(found[1]).rstrip("; ") if found else "default-src 'none'"
    return f"{stated}; {_OURS}"
