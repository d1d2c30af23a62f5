"""The desk: doubtful labels one by one, what speaks for and against each, and what each decision would do."""

from functools import cached_property
from threading import RLock
from typing import Any
from urllib.parse import quote

from carrot.app.decisions import ACTIONS, Decision, Decisions
from carrot.app.held import Entry, Held
from carrot.classifier.review import Review, Standing, Witness
from carrot.evaluation.calibration import probabilities

TOLD = 5  # classes of a table
WITNESSES = 3


class Desk:
    """One state of a model, and the decisions on it. Threads share it.

    Args:
        held: The model.
    """

    def __init__(self, held: Held) -> None:
        self._held, self._lock = held, RLock()
        self.decisions = Decisions(held.asked.folder / "desk")
        start = Review(held.fitted)
        self.start, self.review = start.standing, start.having(self.decisions.on(held.fitted))

    @cached_property
    def queue(self) -> list[Entry]:
        """The suspects: labels that the others contradict, and those of another likeliest class."""
        return [e for e in self._held.training if e.suspect.flagged or e.suspect.margin < 0]

    def progress(self) -> dict[str, Any]:
        """Return how far it is, JSON-ready."""
        with self._lock:
            decided = {d.id: d for d in self.decisions.all}
            queue = self.queue
            now = self.review.standing
            return {
                "state": self._held.state,
                "queue": [self._line(entry, decided) for entry in queue],
                "done": sum(entry.suspect.id in decided for entry in queue),
                "edits": len(self.review.decided),
                "stale": len(self.decisions.stale(self._held.fitted)),
                "start": _told(self.start),
                "now": _told(now),
                "last": self.decisions.all[-1]._asdict() if self.decisions.all else None,
                "table": str(self.decisions.edits),
            }

    def look(self, entry: Entry) -> dict[str, Any]:
        """Return what is known of a picture's label, JSON-ready."""
        with self._lock:
            review, decided = self.review, {d.id: d for d in self.decisions.all}
        fitted, suspect = self._held.fitted, entry.suspect
        target, against = self._question(entry)
        logits = review.said(entry.place)
        p = probabilities(logits.unsqueeze(0), fitted.temperature)[0]
        order = dict.fromkeys([*logits.argsort(descending=True).tolist()[: TOLD - 1], against])
        ours, theirs = review.witnesses(entry.place, target, against, WITNESSES)
        done = decided.get(suspect.id)
        return {
            "state": self._held.state,
            "key": entry.key,
            "id": suspect.id,
            "label": suspect.label,
            "suggested": fitted.classes[target],
            "flagged": suspect.flagged,
            "leverage": suspect.leverage,
            "lead": float(logits[target] - logits[against]),
            "said": [{"class": fitted.classes[c], "logit": float(logits[c]), "p": float(p[c])} for c in order],
            "for": [self._witness(one) for one in ours],
            "against": [self._witness(one) for one in theirs],
            "effects": {
                "keep": _told(review.kept(entry.place)),
                "forget": self.effect(entry, "forget"),
                "relabel": self.effect(entry, "relabel", fitted.classes[target]),
            },
            "decision": None if done is None else done._asdict(),
            "edits": sum(row != entry.place for row in review.decided),
        }

    def effect(self, entry: Entry, action: str, label: str = "") -> dict[str, Any]:
        """Return what a decision would do, on top of those that are made, JSON-ready; or why it can't be made."""
        review, c = self.review, self._class(action, label)
        refused = None if action == "keep" else review.refusal(entry.place, c)
        if refused is not None:
            return {"refused": refused}
        return _told(review.kept(entry.place) if action == "keep" else review.outcome(entry.place, c))

    def pair(self, entry: Entry) -> dict[str, Any] | None:
        """Return the pair of regions that speaks most for the suggestion, JSON-ready."""
        review, (target, against) = self.review, self._question(entry)
        ours, _ = review.witnesses(entry.place, target, against, WITNESSES)
        records, find = self._held.fitted.records, self._held.classifier.find
        pictures = {row: find(records[row]) for row in (entry.place, *(one.row for one in ours))}
        pair = review.strongest_pair(self._held.classifier, entry.place, pictures, target, against)
        if pair is None:
            return None
        return {
            "kind": "tiles" if self._held.fitted.setting.is_tiled else "patches",
            "here": self._box(pictures[entry.place], pair.region),
            "there": self._box(pictures[pair.row], pair.training_region),
            "key": self._key(pair.row),
            "contribution": pair.contribution,
            "total": pair.total,
        }

    def decide(self, entry: Entry, action: str, label: str = "") -> None:
        """Make a decision, and write it down.

        Raises:
            ValueError: It is none, or can't be made.
            DeskChangedError, StoreError: The tables were changed by another program, or the disk refuses.
        """
        if action not in ACTIONS:
            raise ValueError(f"A decision must be one of {', '.join(ACTIONS)}; got {action!r}.")
        c = self._class(action, label)
        with self._lock:
            refused = None if action == "keep" else self.review.refusal(entry.place, c)
            if refused:
                raise ValueError(refused)
            self.decisions.decide(Decision(entry.suspect.id, action, label if action == "relabel" else ""))
            if action == "keep":
                if entry.place in self.review.decided:
                    self._again()
            else:
                self.review = self.review.deciding(entry.place, c)

    def undo(self) -> str | None:
        """Take the last decision back; return the key of its picture."""
        with self._lock:
            last = self.decisions.undo()
            self._again()
        row = None if last is None else self._held.fitted.places.get(last.id)
        return None if row is None else self._key(row)

    def tidy(self) -> None:
        """Drop the decisions that this model has nothing to do for any more."""
        with self._lock:
            self.decisions.drop(self.decisions.stale(self._held.fitted))

    # ---- inside

    def _again(self) -> None:
        self.review = self.review.having(self.decisions.on(self._held.fitted))

    def _question(self, entry: Entry) -> tuple[int, int]:
        """Return the classes that are held against each other: the suggestion, and the label."""
        names = self._held.fitted.classes
        return names.index(entry.suspect.suggested), names.index(entry.suspect.label)

    def _class(self, action: str, label: str) -> int | None:
        if action != "relabel":
            return None
        if label not in self._held.fitted.classes:
            raise ValueError(f"{label!r} is no class of this model.")
        return self._held.fitted.classes.index(label)

    def _key(self, row: int) -> str:
        return self._held.keys[row]

    def _line(self, entry: Entry, decided: dict[str, Decision]) -> dict[str, Any]:
        done = decided.get(entry.suspect.id)
        return {
            "key": entry.key,
            "id": entry.suspect.id,
            "label": entry.suspect.label,
            "suggested": entry.suspect.suggested,
            "decision": None if done is None else done.action,
            "to": "" if done is None else done.label,
        }

    def _witness(self, one: Witness) -> dict[str, Any]:
        record, key = self._held.fitted.records[one.row], self._key(one.row)
        entry = self._held.by_key[key]
        return {
            "key": key,
            "id": record.id,
            "label": self._held.fitted.classes[record.label],
            "effect": one.effect,
            "doubtful": entry.suspect.flagged,
            "link": f"/picture/{quote(key)}",
        }

    def _box(self, picture: Any, region: int) -> list[float] | None:
        """Return where a region lies, in shares of the picture's sides; None: it is the whole, or is not at hand."""
        if isinstance(picture, str):
            return None
        classifier = self._held.classifier
        boxes = classifier.encoder.view.boxes(picture.size, self._held.fitted.setting.coarsen)
        if region >= len(boxes):
            return None
        wide, high = picture.size
        x0, y0, x1, y1 = boxes[region].tolist()
        return [x0 / wide, y0 / high, x1 / wide, y1 / high]


def _told(standing: Standing) -> dict[str, Any]:
    return standing._asdict()
