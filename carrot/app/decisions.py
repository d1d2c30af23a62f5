"""What was decided at the desk, on the disk as soon as it is said.

::

    MODEL/desk/edits.csv    id,action,label,decided     relabel and forget: what ``carrot apply`` replays
    MODEL/desk/kept.csv     id,decided                  labels that are right

``decided`` counts up over both, so that the last one can be taken back after a restart too.
"""

import csv
import io
from pathlib import Path
from typing import NamedTuple

from carrot.classifier.edits import COLUMNS, read_edits
from carrot.classifier.fitted import Fitted
from carrot.errors import CarrotError, DataError
from carrot.store.files import locked, write_atomically
from carrot.store.outputs import csv_text

EDITS, KEPT = "edits.csv", "kept.csv"
ACTIONS = ("relabel", "forget", "keep")


class Decision(NamedTuple):
    """On one picture; ``label`` is a new class, of ``relabel`` alone."""

    id: str
    action: str
    label: str = ""


class DeskChangedError(CarrotError):
    """The desk's files are not as it wrote them."""


class OtherDecisionError(CarrotError):
    """Somebody else decided, between the page and what it asks for."""


def told(decision: Decision | None) -> str:
    """Return a decision in words; of none, none."""
    return "" if decision is None else f"{decision.action} {decision.label}".strip()


class Decisions:
    """The decisions on a model's pictures, oldest first.

    Args:
        folder: ``MODEL/desk``; made with the first decision.

    Raises:
        DataError: There is a table that no desk wrote, or that is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = self._contents()
        numbered = [*self._edits(), *self._kept()]
        found = {decision.id: decision for _, _, decision in sorted(numbered)}  # the later of two: a write was cut off
        self.all = list(found.values())

    def decide(self, decision: Decision) -> None:
        """Write a decision down; an older one on the same picture goes."""
        self._write([*(old for old in self.all if old.id != decision.id), decision])

    def undo(self) -> Decision | None:
        """Take the last decision back, and return it."""
        if not self.all:
            return None
        last = self.all[-1]
        self._write(self.all[:-1])
        return last

    def on(self, fitted: Fitted) -> dict[int, str | None]:
        """Return the edits as ``Review`` takes them: those that still have something to do in this model."""
        found: dict[int, str | None] = {}
        for decision in self.all:
            row = fitted.places.get(decision.id)
            if row is None or decision.action == "keep":
                continue
            label = None
            if decision.action == "relabel":
                try:
                    label = fitted.class_names([decision.label], True)[0]  # it may be a new one
                except (ValueError, TypeError):
                    continue
            if label != fitted.classes[fitted.records[row].label]:
                found[row] = label
        return found

    def stale(self, fitted: Fitted) -> list[Decision]:
        """Return the edits that have nothing to do in this model: it was changed so already, or fitted anew."""
        live = self.on(fitted)
        return [d for d in self.all if d.action != "keep" and fitted.places.get(d.id, -1) not in live]

    def drop(self, gone: list[Decision]) -> None:
        """Forget decisions; the table that has them stays beside the new one, under another name."""
        path = self._folder / EDITS
        if gone and path.exists():
            names = (self._folder / f"edits-{number}.csv" for number in range(1, 10**6))
            copy = next(name for name in names if not name.exists())
            write_atomically(copy, path.read_bytes())
            self._write([decision for decision in self.all if decision not in gone])

    @property
    def edits(self) -> Path:
        """The table that ``carrot apply`` replays."""
        return self._folder / EDITS

    def table(self) -> bytes:
        """Return that table as it was read or written here.

        Raises:
            DeskChangedError: It is another one by now.
        """
        self._require_unchanged()
        return self._seen[0] or b""

    # ---- inside

    def _write(self, decisions: list[Decision]) -> None:
        numbered = list(enumerate(decisions, start=1))
        edits = [{**d._asdict(), "decided": n} for n, d in numbered if d.action != "keep"]
        kept = [{"id": d.id, "decided": n} for n, d in numbered if d.action == "keep"]
        self._folder.mkdir(exist_ok=True)
        with locked(self._folder):  # another server of the same model writes them too
            self._require_unchanged()
            write_atomically(self._folder / KEPT, csv_text(("id", "decided"), kept).encode())
            write_atomically(self._folder / EDITS, csv_text((*COLUMNS, "decided"), edits).encode())
            self.all, self._seen = decisions, self._contents()

    def _require_unchanged(self) -> None:
        if self._contents() != self._seen:
            raise DeskChangedError(
                f"{self._folder}: its tables were changed by another program since they were read here. Reload."
            )

    def _contents(self) -> tuple[bytes | None, ...]:
        paths = [self._folder / name for name in (EDITS, KEPT)]
        return tuple(path.read_bytes() if path.is_file() else None for path in paths)

    def _edits(self) -> list[tuple[int, int, Decision]]:
        content = self._seen[0]
        if content is None or content.strip() == ",".join((*COLUMNS, "decided")).encode():
            return []
        edits, _ = read_edits(self.edits)
        if any(edit.action == "add" for edit in edits):
            raise DataError(f"{self.edits}: adds pictures, which the desk doesn't. Move it elsewhere, and start again.")
        numbers = _numbers(content)
        return [
            (numbers.get(edit.id, 0), place, Decision(edit.id, edit.action, str(edit.label or "")))
            for place, edit in enumerate(edits)
        ]

    def _kept(self) -> list[tuple[int, int, Decision]]:
        content = self._seen[1]
        if content is not None and not content.startswith(b"id,decided"):
            path = self._folder / KEPT
            raise DataError(f"{path}: is no table of this desk's. Move it elsewhere, and start again.")
        return [] if content is None else [(n, 0, Decision(name, "keep")) for name, n in _numbers(content).items()]


def _numbers(content: bytes) -> dict[str, int]:
    """Return what each id's decision is counted as; 0 where somebody else wrote the line."""
    rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""))
    found = {}
    for row in rows:
        number = str(row.get("decided") or "0")
        found[str(row.get("id") or "")] = (
            int(number) if number.isascii() and number.isdecimal() and len(number) < 10 else 0
        )
    return found
