"""The desk: doubtful labels one by one, what speaks for and against each, and what each decision would do."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from threading import RLock
from typing import Any
from urllib.parse import quote

from carrot.app.decisions import ACTIONS, Decision, Decisions, OtherDecisionError, told
from carrot.app.held import Entry, Held
from carrot.classifier.review import Opinion, Review, Standing, Witness
from carrot.classifier.suspects import level
from carrot.data.reporting import twins_of
from carrot.evaluation.calibration import probabilities

TOLD = 5  # classes of a table
WITNESSES = 3
NEAR = 3  # classes that may be meant by a new name


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
        """The doubtful labels, as ``carrot audit`` lists them."""
        return [e for e in self._held.training if e.suspect.is_doubtful]

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
                "new": list(self.added),
                "stale": len(self.decisions.stale(self._held.fitted)),
                "start": _told(self.start),
                "now": _told(now),
                "last": self.decisions.all[-1]._asdict() if self.decisions.all else None,
                "table": str(self.decisions.edits),
            }

    @property
    def added(self) -> tuple[str, ...]:
        """The classes that pictures are given and the model doesn't have."""
        return self.review.classes[len(self._held.fitted.classes) :]

    def look(self, entry: Entry) -> dict[str, Any]:
        """Return what is known of a picture's label, JSON-ready."""
        with self._lock:
            review, decided = self.review, {d.id: d for d in self.decisions.all}
        suspect, opinion, label = entry.suspect, review.opinion(entry.place), entry.suspect.label
        logits, names = review.said(entry.place), review.classes
        p = probabilities(logits.unsqueeze(0), opinion.temperature)[0]
        target, against = names.index(opinion.suggested), names.index(label)
        order = dict.fromkeys([*logits.argsort(descending=True).tolist()[: TOLD - 1], against])
        ours, theirs = review.witnesses(entry.place, opinion.suggested, label, WITNESSES)
        done = decided.get(suspect.id)
        return {
            "state": self._held.state,
            "key": entry.key,
            "id": suspect.id,
            "label": label,
            "suggested": opinion.suggested,
            "flagged": entry.place in opinion.flagged,
            "verdict": level(entry.place in opinion.doubtful, entry.place in opinion.flagged),
            "leverage": suspect.leverage,
            "p_value": opinion.p_value,
            "lead": float(logits[target] - logits[against]),
            "said": [{"class": names[c], "logit": float(logits[c]), "p": float(p[c])} for c in order],
            "for": [self._witness(one, review, opinion) for one in ours],
            "against": [self._witness(one, review, opinion) for one in theirs],
            "effects": {
                "keep": self.effect(entry, "keep"),
                "forget": self.effect(entry, "forget"),
                "relabel": self.effect(entry, "relabel", opinion.suggested),
            },
            "decision": None if done is None else done._asdict(),
            "edits": sum(row != entry.place for row in review.decided),
        }

    def effect(self, entry: Entry, action: str, label: str = "") -> dict[str, Any]:
        """Return what a decision would do, on top of those that are made, JSON-ready; or why it can't be made."""
        review, name = self.review, self._class(action, label, True)
        if action == "keep":  # its numbers are what others are compared with, whether it can be kept or not
            return {**_told(review.kept(entry.place)), "refused": review.kept_refusal(entry.place)}
        refused = review.refusal(entry.place, name)
        if refused is not None:
            return {"refused": refused}
        if name is None:
            return _told(review.outcome(entry.place, None))
        is_new = name not in self._held.fitted.classes
        more = {"label": name, "new": is_new, "alone": review.is_alone(entry.place, name)}
        twins = twins_of(name, review.classes)
        more["near"] = [near for near in _like(name, review.classes) if near not in twins] if is_new else []
        return {**_told(review.outcome(entry.place, name)), **more, "twins": twins}

    def pair(self, entry: Entry) -> dict[str, Any] | None:
        """Return the pair of regions that speaks most for the suggestion, JSON-ready."""
        review, label = self.review, entry.suspect.label
        suggested = review.opinion(entry.place).suggested
        ours, _ = review.witnesses(entry.place, suggested, label, WITNESSES)
        records, find = self._held.fitted.records, self._held.classifier.find
        pictures = {row: find(records[row]) for row in (entry.place, *(one.row for one in ours))}
        pair = review.strongest_pair(self._held.classifier, entry.place, pictures, suggested, label)
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

    def decide(
        self, entry: Entry, action: str, label: str = "", *, seen: str | None = None, new_class: bool = False
    ) -> None:
        """Make a decision, and write it down.

        Args:
            entry: On which picture.
            action: What.
            label: A class of the model, or a new one, of ``relabel`` alone.
            seen: What whoever decides knows to be decided on the picture, as ``told``; None: whatever it is.
            new_class: Whether the label may be a class that there isn't yet.

        Raises:
            ValueError: It is none, or can't be made.
            OtherDecisionError: Somebody else decided on the picture.
            DeskChangedError, StoreError: The tables were changed by another program, or the disk refuses.
        """
        if action not in ACTIONS:
            raise ValueError(f"A decision must be one of {', '.join(ACTIONS)}; got {action!r}.")
        name = self._class(action, label, new_class)
        with self._lock:
            done = next((d for d in self.decisions.all if d.id == entry.suspect.id), None)
            asked = Decision(entry.suspect.id, action, name or "")
            if seen is not None and told(done) not in (seen, told(asked)):
                now = "took the decision on it back" if done is None else f"decided on it: {told(done)}"
                raise OtherDecisionError(f"{asked.id}: somebody else {now}. Nothing was changed; look again.")
            place, keeps = entry.place, action == "keep"
            refused = self.review.kept_refusal(place) if keeps else self.review.refusal(place, name)
            if refused:
                raise ValueError(refused)
            self.decisions.decide(asked)
            if action == "keep":
                if entry.place in self.review.decided:
                    self._again()
            else:
                self.review = self.review.deciding(entry.place, name)

    def undo(self, seen: str | None = None) -> str | None:
        """Take the last decision back; return the key of its picture.

        Args:
            seen: Id of the picture that the last decision is known to be on; None: whichever it is.

        Raises:
            OtherDecisionError: The last decision is on another one by now.
            ValueError: An older decision would leave a class without a picture.
        """
        with self._lock:
            last_one = self.decisions.all[-1] if self.decisions.all else None
            if seen is not None and seen != (last_one.id if last_one else ""):
                now = f"the last is {last_one.id}: {told(last_one)}" if last_one else "nothing is decided any more"
                raise OtherDecisionError(f"Somebody else was at the desk: {now}. Nothing was taken back; look again.")
            row = self._held.fitted.places.get(last_one.id) if last_one else None
            refused = None if row is None else self.review.kept_refusal(row)
            if last_one and refused:
                raise ValueError(f"{last_one.id}: {refused} Take back or change what leaves it so first.")
            self.decisions.undo()
            self._again()
        return None if row is None else self._key(row)

    def tidy(self) -> None:
        """Drop the decisions that this model has nothing to do for any more."""
        with self._lock:
            self.decisions.drop(self.decisions.stale(self._held.fitted))

    # ---- inside

    def _again(self) -> None:
        self.review = self.review.having(self.decisions.on(self._held.fitted))

    def _class(self, action: str, label: str, may_be_new: bool) -> str | None:
        """Return the name of the class that a picture is to be given, which may be a new one; None: of none.

        Raises:
            ValueError: It is no name for one.
        """
        if action != "relabel":
            return None
        fitted, name = self._held.fitted, label.strip()  # as tables are read
        if label in self.review.classes:
            return label
        if not name or not name.isprintable():
            raise ValueError(f"A class must have a name that can be read; got {label!r}.")
        found = fitted.class_names([name], True)[0]
        if not may_be_new and found not in self.review.classes:
            raise ValueError(f"{label!r} is no class of this model. A new one must be asked for as such.")
        return found

    def _key(self, row: int) -> str:
        return self._held.keys[row]

    def _line(self, entry: Entry, decided: dict[str, Decision]) -> dict[str, Any]:
        done = decided.get(entry.suspect.id)
        return {
            "key": entry.key,
            "id": entry.suspect.id,
            "label": entry.suspect.label,
            "decision": None if done is None else done.action,
            "to": "" if done is None else done.label,
        }

    def _witness(self, one: Witness, review: Review, opinion: Opinion) -> dict[str, Any]:
        key = self._key(one.row)
        return {
            "key": key,
            "id": self._held.fitted.records[one.row].id,
            "label": review.label(one.row),
            "effect": one.effect,
            "doubtful": one.row in opinion.doubtful,
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


def _like(name: str, classes: Sequence[str]) -> list[str]:
    """Return the classes that may be meant by a new name: those that start so, else those spelt nearly so."""
    folded = name.casefold()
    others = [known for known in classes if known != name]
    begin = [known for known in others if known.casefold().startswith(folded)]
    return begin[:NEAR] or get_close_matches(name, others, NEAR)


def _told(standing: Standing) -> dict[str, Any]:
    return standing._asdict()
