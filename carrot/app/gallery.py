"""Which pictures a page of the gallery shows, by its query."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from carrot._display.words import percent
from carrot.app.held import Entry

PAGE = 60  # pictures of one page
SHOWN = {
    "all": "All",
    "errors": "Errors",
    "low": "Low margin",
    "suspects": "Doubtful labels",
}
SORTED = {
    "doubt": "most doubtful first",
    "margin": "lowest margin first",
    "sure": "highest margin first",
    "leverage": "highest leverage first",
    "name": "by name",
}
LOW = 0.1  # margin below which a picture counts as close, unless a query says
RANGES = {  # what a slider narrows: the field, the view, and from, to and step
    "below": ("low", 0.02, 1.0, 0.02),
    "p": ("suspects", 0.01, 1.0, 0.01),
}


@dataclass(frozen=True)
class Query:
    """What a page shows; every field has a place in the link.

    Attributes:
        show: One of ``SHOWN``.
        of: "train" or "test".
        label: Pictures of this label alone; "": all.
        said: Pictures of which this class is said alone; "": all.
        sort: One of ``SORTED``.
        below: Largest margin, for "low".
        p: Largest probability of the label, for "suspects".
        page: From 1.
    """

    show: str = "all"
    of: str = "train"
    label: str = ""
    said: str = ""
    sort: str = "doubt"
    below: float = LOW
    p: float = 1.0
    page: int = 1

    @classmethod
    def read(cls, given: Mapping[str, str]) -> "Query":
        """Return the query of a link; what it says wrongly is left out."""
        found = cls(label=given.get("label", ""), said=given.get("said", ""))
        if given.get("show") in SHOWN:
            found = replace(found, show=given["show"])
        if given.get("of") in ("train", "test"):
            found = replace(found, of=given["of"])
        if given.get("sort") in sorts(found.of):
            found = replace(found, sort=given["sort"])
        found = replace(found, below=_number(given, "below", found.below), p=_number(given, "p", found.p))
        page = given.get("page", "1")
        return replace(found, page=int(page) if page.isascii() and page.isdecimal() and 0 < len(page) < 7 else 1)

    def link(self, **changed: object) -> str:
        """Return the link of this query with some fields changed; a change leads to the first page."""
        query, plain = replace(self, **{"page": 1, **changed}), Query()  # type: ignore[arg-type]
        fields = {name: value for name, value in vars(query).items() if value != getattr(plain, name)}
        return "/" + (f"?{urlencode(fields)}" if fields else "")

    def chosen(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the pictures that it asks for, in its order."""
        tests: dict[str, Callable[[Entry], bool]] = {
            "all": lambda e: True,
            "errors": lambda e: not e.is_right,
            "low": lambda e: abs(e.suspect.margin) < self.below,
            "suspects": lambda e: e.suspect.is_doubtful and e.suspect.probability <= self.p,
        }
        found = [
            e
            for e in entries
            if tests[self.show](e) and self.label in ("", e.suspect.label) and self.said in ("", e.said)
        ]
        orders: dict[str, Callable[[Entry], Any] | None] = {
            "doubt": None,  # as they come: by suspicion
            "margin": lambda e: e.suspect.margin,
            "sure": lambda e: -e.suspect.margin,
            "leverage": lambda e: -(e.suspect.leverage or 0.0),
            "name": lambda e: e.suspect.id,
        }
        order = orders[self.sort]
        return found if order is None else sorted(found, key=order)

    def paged(self, found: Sequence[Entry]) -> tuple[Sequence[Entry], int]:
        """Return the pictures of its page, and how many pages there are."""
        pages = max(1, -(-len(found) // PAGE))
        page = min(self.page, pages)
        return found[(page - 1) * PAGE : page * PAGE], pages

    def told(self, entry: Entry) -> str:
        """Return of a picture, in words, the number that it is sorted by, and the one that it is chosen by."""
        s = entry.suspect
        margin, probability = f"margin {s.margin:+.2f}", f"its label {percent(s.probability)}"
        leverage = "" if s.leverage is None else f"leverage {s.leverage:.2f}"
        doubt = f"doubt {s.suspicion:+.1f}, {probability}"
        by = {"doubt": doubt, "margin": margin, "sure": margin, "leverage": leverage, "name": ""}[self.sort]
        chosen = {"low": margin, "suspects": probability}.get(self.show, "")
        return ", ".join(dict.fromkeys(word for word in (by, chosen * (chosen not in by)) if word)) or margin


def sorts(of: str) -> dict[str, str]:
    """Return the orders of training or held-out pictures; the latter have no leverage."""
    return {name: word for name, word in SORTED.items() if of == "train" or name != "leverage"}


def _number(given: Mapping[str, str], name: str, otherwise: float) -> float:
    """Return the number of a link, inside the range of its slider."""
    try:
        number = float(given[name])
    except (KeyError, ValueError):
        return otherwise
    _, least, most, _ = RANGES[name]
    return min(max(number, least), most) if number == number else otherwise
