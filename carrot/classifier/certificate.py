"""What was changed in a model's training pictures, and what the model is after it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from carrot._display.words import counted, percent

SAME = 1e-9  # of the largest weight: what rounding leaves, and no picture would


@dataclass(frozen=True)
class Certificate:
    """A change of a model, as it was done; ``carrot.store.certificates`` writes it down.

    Attributes:
        forgotten: Id and SHA-256 of each deleted picture.
        pictures_before: Number of training pictures.
        pictures_after: The same after the change.
        lam: The penalty, after the change.
        held: What was not chosen again: it was chosen with the pictures that were there.
        refitted: What was computed anew from the pictures that are there.
        largest_weight: Largest |W*|.
        largest_difference: Largest difference from W* of a real fit on the changed pictures; None: not measured.
        erased_tokens: Shards of the token cache that were deleted, because they held tokens of deleted pictures.
        same_content: Training pictures with the same SHA-256 as a deleted one, which are still in the model.
        scope: What this doesn't say.
        time: UTC, ISO 8601.
        relabelled: Id and SHA-256 of each picture with another label, and both labels: "from", "to".
        added: Id, SHA-256 and label of each new picture.
        classes_removed: Classes that are no more.
        classes_added: Classes that are new.
        accuracy_before: Exact leave-one-out accuracy of the training pictures before ..
        accuracy_after: .. and after, each of the pictures and labels of its time.
        lam_before: The penalty before it: another one where lam was chosen again.
        other_settings: Deleted pictures without any one of which ``select`` would have chosen another setting than the
            one that is held; None: not known (``select(again=True)`` finds out, for the model as it was selected).
    """

    forgotten: tuple[dict[str, str], ...]
    pictures_before: int
    pictures_after: int
    lam: float
    held: tuple[str, ...]
    refitted: tuple[str, ...]
    largest_weight: float
    largest_difference: float | None
    erased_tokens: int
    same_content: tuple[str, ...]
    scope: str
    time: str
    relabelled: tuple[dict[str, str], ...] = ()
    added: tuple[dict[str, str], ...] = ()
    classes_removed: tuple[str, ...] = ()
    classes_added: tuple[str, ...] = ()
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    lam_before: float | None = None
    other_settings: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        done = (("forgot", self.forgotten), ("relabelled", self.relabelled), ("added", self.added))
        told = ", ".join(f"{verb} {len(pictures)}" for verb, pictures in done if pictures) or "changed nothing"
        before = counted(self.pictures_before, "training picture")
        return f"<Certificate: {told}; {before} before, {self.pictures_after} after>"

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON."""
        found = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    def __str__(self) -> str:
        """Return what happened, in a few lines."""
        lines = []
        if self.forgotten:
            names = _some([picture["id"] for picture in self.forgotten])
            lines.append(f"forgot {counted(len(self.forgotten), 'training picture')}: {names}")
        if self.relabelled:
            moves = _some([f"{p['id']} ({p['from']} -> {p['to']})" for p in self.relabelled])
            lines.append(f"relabelled {counted(len(self.relabelled), 'training picture')}: {moves}")
        if self.added:
            names = _some([f"{picture['id']} ({picture['label']})" for picture in self.added])
            lines.append(f"added {counted(len(self.added), 'training picture')}: {names}")
        for what, classes in (("no longer known", self.classes_removed), ("new", self.classes_added)):
            lines += [f"  {'class' if len(classes) == 1 else 'classes'} {what}: {_some(classes)}"] if classes else []
        if self.pictures_after != self.pictures_before:
            lines.append(f"  training pictures: {self.pictures_before:,} before, {self.pictures_after:,} now")
        if self.accuracy_before is not None and self.accuracy_after is not None:
            before, after = percent(self.accuracy_before), percent(self.accuracy_after)
            lines.append(f"  accuracy, each training picture judged without itself: {before} before, {after} now")
        if "lam" in self.refitted and self.lam_before is not None:
            told = "as before" if self.lam == self.lam_before else f"before {self.lam_before:.4g}"
            lines.append(f"  lam, chosen again without what was deleted: {self.lam:.4g}, {told}")
        if self.forgotten and ("lam" in self.refitted or self.other_settings is not None):
            lines.append(f"  settings are held; {self._settings}")
        if self.largest_difference is not None:
            is_same = self._relative < SAME
            told = "gives the same model" if is_same else f"differs by {self._relative:.1e} of its largest weight"
            lines.append(f"  checked: a fit from scratch {told}")
        if self.same_content:
            lines.append(f"  the same content is still there under another name: {_some(self.same_content)}")
        return "\n".join(lines)

    def proof(self) -> str:
        """Return what was measured, and what the change doesn't say."""
        lines = []
        if self.largest_difference is not None:
            lines.append(
                f"  largest difference from a real fit after the change: {self._relative:.1e} of its largest weight"
            )
        return "\n".join([*lines, f"  {self.scope}"])

    @property
    def _settings(self) -> str:
        """What would have become of them."""
        if self.other_settings is None:
            return "whether others would have been chosen is not known (select with again=True says it)"
        each = "it" if len(self.forgotten) == 1 else "any one of these"
        if not self.other_settings:
            return f"they would have been chosen without {each}, too"
        return f"others would have been chosen without {_some(self.other_settings)}"

    @property
    def _relative(self) -> float:
        return (self.largest_difference or 0.0) / (self.largest_weight or 1.0)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
