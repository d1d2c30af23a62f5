"""The verbs that change a fitted model's training pictures.

Each is whole, one thread at a time, and gives a certificate.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from carrot._ambient import pinned_class
from carrot.classifier.asked import Edits, ids_of
from carrot.classifier.certificate import Certificate
from carrot.classifier.classifier import Classifier
from carrot.classifier.edits import Edit, read_edits
from carrot.classifier.fitted import Fitted
from carrot.classifier.updates import change
from carrot.classifier.weighting import ClassWeight
from carrot.data.inputs import PictureList, Pictures
from carrot.data.labels import Label, Labels, name_of_label
from carrot.errors import DataError


@pinned_class
class Editable:
    """``forget``, ``relabel``, ``add`` and ``apply``, over a model that has ``classifier`` and ``_lock``."""

    classifier: Any
    class_weight: ClassWeight
    selected_again_: Any
    _given: dict[str, Any]
    _now: Classifier | None
    _lock: Any

    def forget(
        self,
        ids: str | Iterable[str] = (),
        verify: bool = True,
        *,
        classes: Label | Iterable[Any] = (),
        again: bool = False,
    ) -> Certificate:
        """Delete training pictures for good: what is left is what fitting without them would give.

        Settings stay as they are, and lam unless ``again``.

        Args:
            ids: Of the pictures, as in ``records_``.
            verify: Fit again from scratch without them, and record the measured difference.
            classes: Whole classes to delete, with all their pictures.
            again: Choose lam again too, exactly as leave-one-out of the others does, from the penalties that it was
                chosen from: an eigendecomposition.

        Returns:
            What was deleted, by name and SHA-256, and what was measured. ``save`` the model to make it last.

        Raises:
            ValueError, StoreError: An id or class is unknown, a class would be left without a picture or the model with
                fewer than two classes; kept tokens can't be deleted; or ``again`` where lam was given as a number.
        """
        whole = [classes] if isinstance(classes, str | SupportsIndex | np.bool_) else list(classes)
        names = ids_of("ids", ids)
        return self._change(lambda fitted: Edits(forget=names, classes=fitted.class_names(whole)), verify, again)

    def relabel(self, labels: Mapping[str, Any], verify: bool = True, *, new_classes: bool = False) -> Certificate:
        """Give training pictures other labels: what comes out is what fitting with these would give.

        Settings and lam stay as they are.

        Args:
            labels: The right label by id.
            verify: As in ``forget``.
            new_classes: Whether a label may be a new class.

        Returns:
            What was changed, and what was measured.

        Raises:
            ValueError: An id or a class is unknown, a picture has that label already, or a class would be left without
                a picture.
        """
        if not isinstance(labels, Mapping):
            raise TypeError(f"`labels` must be {{id: label}}; got {type(labels).__name__} {labels!r}.")
        ids_of("labels", labels)

        def edits(fitted: Fitted) -> Edits:
            names = fitted.class_names(list(labels.values()), new_classes)
            return Edits(relabel=dict(zip(labels, names, strict=True)), new_classes=new_classes)

        return self._change(edits, verify)

    def add(
        self,
        pictures: Pictures,
        y: Labels,
        ids: Sequence[str] | None = None,
        verify: bool = True,
        *,
        new_classes: bool = False,
        sample_weight: Sequence[float] | None = None,
    ) -> Certificate:
        """Add training pictures: what comes out is what fitting with them, at the same settings and lam, would give.

        Args:
            pictures: One or many.
            y: Their labels.
            ids: Their names; default: their paths, or "picture 7".
            verify: As in ``forget``.
            new_classes: Whether a label may be a new class; new ones come last.
            sample_weight: What each counts, beside its class; default 1.

        Returns:
            What was added, and what was measured.

        Raises:
            ValueError: A class is unknown, a picture can't be read, or is there already by name or content.
        """

        def edits(fitted: Fitted) -> Edits:
            names = fitted.class_names(y, new_classes)
            classes, taken = dict.fromkeys([*fitted.classes, *names]), [record.id for record in fitted.records]
            new = PictureList(pictures, names, tuple(classes), ids=ids, taken=taken)
            return Edits(add=new, weights=sample_weight, new_classes=new_classes)

        return self._change(edits, verify)

    def apply(
        self, table: str | Path | Iterable[Mapping[str, Any]], verify: bool = True, *, new_classes: bool = False
    ) -> Certificate:
        """Apply a table of edits, all or none: forget, relabel and add at once.

        Args:
            table: A CSV file, or rows, with ``id``, ``action`` ("forget", "relabel" or "add") and ``label``; of a
                picture to add, ``id`` is its path, from the table's folder.
            verify: As in ``forget``.
            new_classes: Whether a label may be a new class.

        Returns:
            What was changed, and what was measured.

        Raises:
            DataError: The table is malformed; the message names the line.
            ValueError: As ``forget``, ``relabel`` and ``add``.
        """
        rows, folder = read_edits(table)

        def edits(fitted: Fitted) -> Edits:
            return _edits_of(rows, folder, fitted, new_classes)

        return self._change(edits, verify)

    def _change(self, edits: Callable[[Fitted], Edits], verify: bool, again: bool = False) -> Certificate:
        """Change the training pictures, one thread at a time."""
        with self._lock:
            now: Classifier = self.classifier
            selected = self.selected_again_
            settings = None if selected is None else selected.settings
            fitted, certificate = change(now, edits(now.fitted), verify, again, settings)
            self._now, self.selected_again_ = replace(now, fitted=fitted), None  # it was about the pictures before
            if certificate.classes_removed and isinstance(self.class_weight, Mapping):
                self.class_weight = fitted.class_weight
                gone = set(certificate.classes_removed)
                given = self._given["class_weight"].items()
                self._given["class_weight"] = {label: x for label, x in given if name_of_label(label) not in gone}
        return certificate


def _edits_of(rows: Sequence[Edit], folder: Path, fitted: Fitted, new_classes: bool) -> Edits:
    """Return what the lines ask of a model.

    Raises:
        DataError: A line names no training picture, no class, or a file that there isn't.
    """
    known = {record.id for record in fitted.records}
    names: dict[str, str] = {}
    for edit in rows:
        if edit.action != "add" and edit.id not in known:
            raise DataError(
                f"{edit.where}: {edit.id!r} is no training picture of this model. {fitted.hint(edit.id, False)}"
            )
        if edit.action == "add" and not (folder / edit.id).is_file():
            raise DataError(f"{edit.where}: there is no file {folder / edit.id}. Paths are from {folder.resolve()}.")
        if edit.action != "forget":
            try:
                names[edit.id] = fitted.class_names([edit.label], new_classes)[0]
            except (ValueError, TypeError) as error:
                raise DataError(f"{edit.where}: {error}") from error
    coming = [edit.id for edit in rows if edit.action == "add"]
    classes = tuple(dict.fromkeys([*fitted.classes, *names.values()]))
    paths = [folder / name for name in coming]
    add = PictureList(paths, [names[name] for name in coming], classes, ids=coming) if coming else None
    return Edits(
        forget=[edit.id for edit in rows if edit.action == "forget"],
        relabel={edit.id: names[edit.id] for edit in rows if edit.action == "relabel"},
        add=add,
        new_classes=new_classes,
    )
