"""Deleting training pictures from a fitted model, with a certificate, and adding some: exact, at the settings and lam of the fit."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from carrot.data import ImageDataset
from carrot.data.loading import batches
from carrot.encoder import Encoder
from carrot.errors import StoreError
from carrot.fitted import Fitted
from carrot.head import RidgeHead
from carrot.stages import Setting, embed_tokens
from carrot.training import TrainingRecord

BATCH = 32


@dataclass(frozen=True)
class Certificate:
    """What was deleted from a model, and what the model is without it.

    Attributes:
        forgotten: Name and SHA-256 of each picture.
        pictures_before: Number of training pictures.
        pictures_after: The same without them.
        lam: The penalty.
        held: What was not chosen again: it was chosen when the pictures were there.
        refitted: What was computed anew from the pictures that stay.
        largest_weight: Largest |W*|.
        largest_difference: Largest difference from W* of a real fit without the pictures; None: not measured.
        erased_tokens: Shards of the token cache that were deleted, because they held tokens of the pictures.
        same_content: Training pictures with the same SHA-256 as a forgotten one, which are still in the model.
        scope: What this doesn't say.
        time: UTC, ISO 8601.
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

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON."""
        found = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    def __str__(self) -> str:
        """Return it in a few lines."""
        names = ", ".join(picture["id"] for picture in self.forgotten[:5]) + (" ..." if len(self.forgotten) > 5 else "")
        lines = [f"forgot {len(self.forgotten)} of {self.pictures_before} training pictures: {names}"]
        if self.largest_difference is not None:
            relative = self.largest_difference / (self.largest_weight or 1.0)
            lines.append(f"  largest difference from a real fit without them: {relative:.1e} of the largest weight")
        if self.same_content:
            lines.append(f"  the same content is still there under another name: {', '.join(self.same_content[:5])}")
        return "\n".join([*lines, f"  {self.scope}"])


_SCOPE = (
    "The head no longer knows the pictures. The backbone was trained elsewhere and is not changed; the picture files themselves are not "
    "touched; settings and lam were chosen with the pictures there."
)


def forget(fitted: Fitted, ids: Sequence[str], verify: bool) -> tuple[Fitted, Certificate]:
    """Return the model without some training pictures, and what was done; see ``Carrot.forget``. Their kept tokens are deleted."""
    head, records = fitted.head, fitted.records
    place = {record.id: row for row, record in enumerate(records)}
    unknown = [name for name in ids if name not in place]
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is no training picture of this model ({len(unknown)} such). Ids look like {records[0].id!r}."
        )
    gone = {place[name] for name in ids}
    if not gone:
        raise ValueError("`ids` must name at least one training picture; got none.")
    stay = [row for row in range(len(records)) if row not in gone]
    kept = tuple(records[row] for row in stay)
    left = torch.bincount(fitted.labels[stay], minlength=len(fitted.classes))
    if bool((left == 0).any()):
        name = fitted.classes[int((left == 0).nonzero()[0])]
        raise ValueError(
            f"Class {name!r} would be left without a training picture. Fit again without that class instead."
        )

    new = _copy(head).remove(sorted(gone))
    difference = None
    if verify:
        refit = RidgeHead(head.lam, head.fit_intercept).fit(head.G[stay], head.Y[stay], head.sample_weight[stay])
        difference = float((new.W_star - refit.W_star).abs().max())
    forgotten = [records[row] for row in sorted(gone)]
    hashes = {record.sha256 for record in forgotten}
    store = None if fitted.kept is None else fitted.kept.store()
    if store is None and fitted.kept is not None and any(Path(fitted.kept.folder).glob("embeddings-*")):
        raise StoreError(
            f"Nothing was deleted: {fitted.kept.folder} holds tokens that can't be told apart: its manifest is damaged, or another's. "
            "Delete that folder (tokens are computed again when they are needed), and try again."
        )
    erased = 0 if store is None else len(store.erase(record.row for record in forgotten if record.row is not None))
    return fitted.with_head(new, kept), Certificate(
        forgotten=tuple({"id": record.id, "sha256": record.sha256} for record in forgotten),
        pictures_before=len(records),
        pictures_after=len(kept),
        lam=new.lam,
        held=(*Setting._fields, "lam"),
        refitted=("weights", "dual weights", "leave-one-out", "temperature"),
        largest_weight=float(new.W_star.abs().max()),
        largest_difference=difference,
        erased_tokens=erased,
        same_content=tuple(record.id for record in kept if record.sha256 in hashes),
        scope=_SCOPE,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def add(encoder: Encoder, fitted: Fitted, dataset: ImageDataset) -> Fitted:
    """Return the model with more training pictures, of known classes; see ``Carrot.add``."""
    known = {record.id for record in fitted.records}
    for record in dataset.records:
        if record.id in known:
            raise ValueError(f"{record.id!r} is a training picture of this model already. Forget it first.")
    n = len(dataset.records)
    lists = [range(i, min(i + BATCH, n)) for i in range(0, n, BATCH)]
    rows: list[Tensor] = []
    digests: list[str] = []
    for batch in batches(dataset, encoder.backbone.transform, lists):
        if batch.errors:
            raise ValueError(f"Nothing was added: {batch.errors[0]}")
        rows.append(embed_tokens(encoder.encode(batch.x), fitted.setting))
        digests += [bytes(digest.tolist()).hex() for digest in batch.sha256]
    there = {record.sha256: record.id for record in fitted.records}
    for record, digest in zip(dataset.records, digests, strict=True):
        if digest in there:
            raise ValueError(
                f"{record.id!r} is {there[digest]!r} over again, which is a training picture. Forget that one first."
            )
    labels = torch.tensor([record.label for record in dataset.records], dtype=torch.long)
    added = tuple(
        TrainingRecord(record.id, record.label, digest, None if record.path is None else str(record.path.resolve()))
        for record, digest in zip(dataset.records, digests, strict=True)
    )
    return fitted.with_head(_copy(fitted.head).add(torch.cat(rows), labels), fitted.records + added)


def _copy(head: RidgeHead) -> RidgeHead:
    """Return a head that can be changed while the other stays."""
    return RidgeHead.from_state(head.state(), head.lam, head.fit_intercept)
