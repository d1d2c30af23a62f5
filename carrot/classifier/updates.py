"""Changing a fitted model's training pictures: forget, relabel, add.

Exact, at the settings and lam of the fit, with a certificate. What comes out is what fitting on the changed pictures
would give: K loses and gains the rows that go and come, targets move, a class that is new or gone is a column of W*,
which depends on no other column. Class weights that balance are balanced again, by a fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from warnings import catch_warnings, simplefilter

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._progress import progress
from carrot.classifier.asked import Edits, resolve
from carrot.classifier.certificate import Certificate
from carrot.classifier.classifier import BATCH, Classifier
from carrot.classifier.fitted import Fitted
from carrot.classifier.records import TrainingRecord
from carrot.classifier.remembered import with_labels
from carrot.classifier.weighting import own_weights
from carrot.data.inputs import PictureList
from carrot.data.loading import batches
from carrot.embedding.setting import AXES, Setting
from carrot.errors import StoreError
from carrot.head import RidgeHead

_HELD = "Settings and lam are held: they were chosen with the pictures that were there before."
_AGAIN = (
    "lam was chosen again, by leave-one-out of the pictures that are there, from the penalties that it was chosen from "
    "before; those, and settings, are held."
)
_DELETED = (
    "The head no longer knows the deleted pictures. The backbone was trained elsewhere and is not changed; the picture "
    "files themselves are not touched."
)


def change(
    classifier: Classifier,
    edits: Edits,
    verify: bool = True,
    again: bool = False,
    settings: Sequence[Setting] | None = None,
) -> tuple[Fitted, Certificate]:
    """Return the changed model, and what was done; a refusal changes nothing.

    Kept tokens of deleted pictures are deleted.

    Args:
        classifier: The model.
        edits: What to change.
        verify: Fit again from scratch, and record the measured difference.
        again: Choose lam again, from the penalties that it was chosen from.
        settings: What ``select`` would have chosen without each training picture, if that is known.

    Raises:
        ValueError: An id or a class is unknown, an id stands in two edits, a class would be left without a picture,
            fewer than two classes would be left, a picture is there already or can't be read, there is nothing to do,
            or ``again`` where there is nothing that lam was chosen from.
        StoreError: Kept tokens can't be deleted.
    """
    fitted = classifier.fitted
    if again:
        _refuse_again(fitted)
    gone, moved, classes, added_classes, stay, labels = resolve(fitted, edits)
    label_of = {name: label for label, name in enumerate(classes)}
    coming = [] if edits.add is None else [edits.add.classes[record.label] for record in edits.add.records]
    if edits.add is None:
        new, g = list[TrainingRecord](), fitted.head.G[:0]
    else:
        own = own_weights(edits.add, edits.weights).tolist()
        there = with_labels(fitted.records, stay, labels)
        new, g = _embedded(classifier, edits.add, [label_of[name] for name in coming], own, there)
    records = with_labels(fitted.records, stay, labels, new)
    head = _head(fitted, classes, records, stay, moved, g)
    penalties, difference = list(fitted.penalties) if again else None, None
    if penalties:
        head.choose_lam(penalties)
    if verify:
        refit = RidgeHead("loo" if again else head.lam, head.fit_intercept, lams=penalties, copy=False)
        with catch_warnings():  # of a lam at the end of the path: ``choose_lam``'s is the same
            simplefilter("ignore")
            refit.fit(head.G, head.labels, head.sample_weight)
        difference = float((head.W_star - refit.W_star).abs().max())
    forgotten = [fitted.records[row] for row in sorted(gone)]
    hashes = {record.sha256 for record in forgotten}
    changed = fitted.with_head(head, records, classes)
    certificate = Certificate(
        forgotten=tuple({"id": record.id, "sha256": record.sha256} for record in forgotten),
        pictures_before=len(fitted.records),
        pictures_after=len(records),
        lam=head.lam,
        held=(*AXES, *(() if again else ("lam",))),
        refitted=(*(("lam",) if again else ()), "weights", "dual weights", "leave-one-out", "temperature"),
        largest_weight=float(head.W_star.abs().max()),
        largest_difference=difference,
        erased_tokens=_erase(fitted, forgotten),
        same_content=tuple(record.id for record in records if record.sha256 in hashes),
        scope=" ".join([*([_DELETED] if forgotten else []), _AGAIN if again else _HELD]),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        relabelled=tuple(
            {
                "id": fitted.records[row].id,
                "sha256": fitted.records[row].sha256,
                "from": fitted.classes[fitted.records[row].label],
                "to": name,
            }
            for row, name in sorted(moved.items())
        ),
        added=tuple({"id": r.id, "sha256": r.sha256, "label": classes[r.label]} for r in new),
        classes_removed=tuple(name for name in fitted.classes if name not in label_of),
        classes_added=added_classes,
        accuracy_before=fitted.leave_one_out()["loo_accuracy"],
        accuracy_after=changed.leave_one_out()["loo_accuracy"],
        lam_before=fitted.head.lam,
        other_settings=None
        if settings is None
        else tuple(fitted.records[row].id for row in sorted(gone) if settings[row] != fitted.setting),
    )
    weight = fitted.class_weight
    if isinstance(weight, Mapping):  # of classes that are gone: a fit of what is left would refuse it
        weight = {name: value for name, value in weight.items() if name in classes}
    return replace(changed, class_weight=weight), certificate


def _refuse_again(fitted: Fitted) -> None:
    """Refuse to choose lam again where there is nothing that it was chosen from.

    Raises:
        ValueError: There isn't.
    """
    if fitted.penalties:
        return
    if fitted.asked_lam != "loo":
        raise ValueError(
            f"`again` chooses lam again, but this model's was given, lam = {fitted.head.lam:.4g}: there is nothing to "
            "choose. Leave `again` out."
        )
    raise ValueError(
        "`again` chooses lam from the penalties that it was chosen from, but this model was saved by an earlier "
        "version, which didn't keep them. Fit it again, or leave `again` out: lam is held then."
    )


def _embedded(
    classifier: Classifier,
    dataset: PictureList,
    labels: Sequence[int],
    weights: Sequence[float],
    kept: Sequence[TrainingRecord],
) -> tuple[list[TrainingRecord], Float[Tensor, "k M"]]:
    """Return records and embeddings of pictures to add."""
    known = {record.id for record in kept}
    for record in dataset.records:
        if record.id in known:
            raise ValueError(f"{record.id!r} is a training picture of this model already. Forget it first.")
    n = len(dataset.records)
    lists = [range(i, min(i + BATCH, n)) for i in range(0, n, BATCH)]
    rows: list[Tensor] = []
    digests: list[str] = []
    work = batches(dataset, classifier.encoder.view.transform, lists)
    for batch in progress(work, "embedding pictures to add", len(lists), "pictures", BATCH, n):
        if batch.errors:
            raise ValueError(f"Nothing was changed: {batch.errors[0]}")
        rows.append(classifier.pooling.g(classifier.encoder.encode(batch.x)))
        digests += [bytes(digest.tolist()).hex() for digest in batch.sha256]
    there = {
        record.sha256: f"{record.id!r} over again, which is a training picture. Forget that one first."
        for record in kept
    }
    for record, digest in zip(dataset.records, digests, strict=True):
        if digest in there:
            raise ValueError(f"{record.id!r} is {there[digest]}")
        there[digest] = f"{record.id!r} over again, which is to be added too. Leave one out."
    added = [
        TrainingRecord(
            record.id,
            label,
            digest,
            None if record.path is None else str(record.path.resolve()),
            weight=weight,
            window=record.window,
        )
        for record, label, digest, weight in zip(dataset.records, labels, digests, weights, strict=True)
    ]
    return added, torch.cat(rows)


def _head(
    fitted: Fitted,
    classes: Sequence[str],
    records: Sequence[TrainingRecord],
    stay: Sequence[int],
    moved: Mapping[int, str],
    g: Float[Tensor, "k M"],
) -> RidgeHead:
    """Return the head of the changed pictures: those of ``stay``, labelled as in ``records``, and then the new ones."""
    w = fitted.weights(records, classes)
    labels = torch.tensor([record.label for record in records])
    head, kept = fitted.head, len(stay)
    if not torch.equal(
        w[:kept], head.sample_weight[list(stay)].cpu()
    ):  # balanced anew, or another class's weight: all of K changes
        return RidgeHead(head.lam, head.fit_intercept).fit(torch.cat([head.G[list(stay)], g.to(head.G)]), labels, w)
    known, every = list(fitted.classes), [*fitted.classes, *(name for name in classes if name not in fitted.classes)]
    head = _with_columns(head, [*range(len(known)), *([None] * (len(every) - len(known)))])
    if kept < len(fitted.records):
        gone = torch.ones(len(fitted.records), dtype=torch.bool)
        gone[list(stay)] = False
        head.remove(gone.nonzero().flatten())
    if moved:
        rows = [place for place, row in enumerate(stay) if row in moved]
        head.relabel(rows, torch.tensor([every.index(moved[stay[place]]) for place in rows]))
    if list(classes) != every:  # nobody is of a class that goes
        head = _with_columns(head, [every.index(name) for name in classes])
    return head.add(g, labels[kept:], w[kept:]) if len(g) else head


def _with_columns(head: RidgeHead, columns: Sequence[int | None]) -> RidgeHead:
    """Return a head of its own with these columns of the other's, among them those of all labels.

    None: a class without a picture yet, whose weights are 0.
    """
    state = head.state()
    for name in ("W_star", "bias", "y_mean", *(("alpha",) if "alpha" in state else ())):
        x = state[name]
        zero = torch.zeros_like(x[..., 0])
        state[name] = torch.stack([zero if c is None else x[..., c] for c in columns], dim=-1)
    place = torch.zeros(len(head.bias), dtype=torch.long)
    for new, old in enumerate(columns):
        if old is not None:
            place[old] = new
    state["Y"] = place[state["Y"]]
    return RidgeHead.from_state(state, head.lam, head.fit_intercept)


def _erase(fitted: Fitted, forgotten: Sequence[TrainingRecord]) -> int:
    """Delete the kept tokens of deleted pictures; return how many shards that were."""
    if not forgotten or fitted.kept is None:
        return 0
    stores = []
    for folder, key in fitted.kept.all_of_them:
        store = fitted.kept.store(folder, key)
        if store is None and any(Path(folder).glob("embeddings-*")):
            raise StoreError(
                f"Nothing was changed: {folder} holds tokens that can't be told apart: its manifest is damaged, or "
                "another's. Delete that folder (tokens are computed again when they are needed), and try again."
            )
        stores += [] if store is None else [store]
    rows = [record.row for record in forgotten if record.row is not None]
    return sum(len(store.erase(rows)) for store in stores)
