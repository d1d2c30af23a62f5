"""Which pictures a page of the gallery shows, by its query."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

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
        page: From 1.
    """

    show: str = "all"
    of: str = "train"
    label: str = ""
    said: str = ""
    sort: str = "doubt"
    below: float = LOW
    page: int = 1

    @classmethod
    def read(cls, given: Mapping[str, str]) -> "Query":
        """Return the query of a link; what it says wrongly is left out."""
        found = cls(label=given.get("label", ""), said=given.get("said", ""))
        if given.get("show") in SHOWN:
            found = replace(found, show=given["show"])
        if given.get("of") in ("train", "test"):
            found = replace(found, of=given["of"])
        if given.get("sort") in SORTED:
            found = replace(found, sort=given["sort"])
        try:
            below = float(given.get("below", LOW))
            found = replace(found, below=min(max(below, 0.0), 2.0) if below == below else LOW)
        except ValueError:
            pass
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
            "suspects": lambda e: e.suspect.flagged,
        }
        found = [
            e
            for e in entries
            if tests[self.show](e) and self.label in ("", e.suspect.label) and self.said in ("", e.said)
        ]
        orders: dict[str, Callable[[Entry], Any] | None] = {
            "doubt": None,  # as they come
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
