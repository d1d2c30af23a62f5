"""The pictures of a data set that a model can be measured on: test pictures that it was not fitted on.

A data set that has a split of its own is measured on its test pictures, and the data set that the model was fitted on
on those that were held out. Of any other, all pictures are test pictures, but those that the model was fitted on, which
are known by their content.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from carrot._display.brief import one_line
from carrot._progress import progress
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.data import ImageDataset, open_dataset, split_is_own
from carrot.data.counts import FITTED_ON, FOR_TRAINING, UNKNOWN, Counts
from carrot.data.given import as_dataset
from carrot.data.inputs import content_sha256
from carrot.data.opening import resolved
from carrot.data.records import Record, Subset, labels_of
from carrot.embedding.cache import TokenCache
from carrot.errors import DataError, UnreadableImageError


class NotKept(DataError):
    """The tokens of held-out pictures are not kept, and the backbone was not to run."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Test pictures, and what became of the others.

    Attributes:
        dataset: All of it.
        is_own: Whether it is the data set that the model was fitted on: by its place, or, where that has changed, by
            its pictures.
        fitted_on: Ids of pictures that would be test pictures, had the model not been fitted on them.
        test: The others.
        cache: Their tokens.
        places: Which of them can be read.
        labels: Of those, as the model counts classes.
        unknown: Number of pictures by class, for each class that the model doesn't know.
        set_aside: What was wrong with the pictures that can't be used, by id.
        counts: Numbers of all of these.
    """

    dataset: ImageDataset
    is_own: bool
    fitted_on: tuple[str, ...]
    test: Subset
    cache: TokenCache
    places: list[int]
    labels: Int[Tensor, " m"]
    unknown: Mapping[str, int]
    set_aside: Mapping[str, str]
    counts: Counts

    def __repr__(self) -> str:
        return f"<HeldOut {one_line(self.dataset.name)}: {self.counts.used} of {self.counts.pictures} pictures>"


def held_out(classifier: Classifier, data: Any, tokens: Path, kept_only: bool = False) -> HeldOut:
    """Return the pictures of ``data`` that the model can be measured on.

    A picture is one that the model was fitted on if its content is; where there is a split, if its id is the same too:
    a copy under another name is then the data set's doing, and is measured and told (``carrot.protocol``). What was
    forgotten is not measured either: the split still calls it a training picture. Pictures of classes that the model
    doesn't know are left out, and counted: no answer could be right.

    Args:
        classifier: The model.
        data: As ``open_dataset`` takes it, or as an object, as ``carrot.data.given`` does.
        tokens: Folder for tokens.
        kept_only: The backbone must not run: only tokens that are there are used.

    Raises:
        DataError: There is no such picture; the message says why.
        NotKept: ``kept_only``, and not all tokens are there.
    """
    fitted = classifier.fitted
    is_named = isinstance(data, str | Path)
    dataset = open_dataset(data, for_testing=True) if is_named else as_dataset(data, for_testing=True)
    known = {record.id: record.sha256 for record in fitted.records}
    contents = set(known.values())
    is_own = (is_named and resolved(str(data)) == fitted.data) or _most_are_there(dataset, known)
    is_split = split_is_own(dataset) or (is_own and fitted.data is not None)  # else nobody knows how it was split
    places, fitted_on, other_side = list[int](), list[str](), 0
    unknown: Counter[str] = Counter()
    n, label_of = len(dataset.records), {name: label for label, name in enumerate(fitted.classes)}
    each = progress(dataset.records, f"looking for test pictures in {dataset.name}", n, "pictures", brief=True)
    for i, record in enumerate(each):
        if is_split and record.split != "test":
            other_side += 1
        elif dataset.classes[record.label] not in label_of:
            unknown[dataset.classes[record.label]] += 1
        else:
            candidates = {known.get(record.id)} if is_split or not record.has_bytes else contents
            is_known = candidates != {None} and _content(dataset, i, record) in candidates
            fitted_on.append(record.id) if is_known else places.append(i)
    n = len(dataset.records) - other_side
    if not n:
        raise DataError(f"{dataset.name}: has no test pictures. Give a data set that has some.")
    if not places:
        raise DataError(_nothing(dataset, is_split, n, len(fitted_on), unknown, fitted))
    test = Subset(dataset, places)
    if kept_only and not classifier.encoder.is_kept(test, tokens):
        raise NotKept(f"the vision model has not looked at the {len(places)} held-out pictures of {dataset.name}")
    cache = classifier.encoder.cache(test, tokens)
    there = cache.rows
    if not there:
        raise DataError(f"{dataset.name}: none of its {len(places)} test pictures can be read.")
    set_aside = {**getattr(dataset, "skipped", {}), **cache.errors}
    left_out = {FITTED_ON: len(fitted_on), FOR_TRAINING: other_side, UNKNOWN: sum(unknown.values())}
    counts = Counts(len(there), left_out, len(places) - len(there) + len(getattr(dataset, "skipped", {})))
    labels = torch.tensor([label_of[dataset.classes[label]] for label in labels_of(test.records)[list(there)].tolist()])
    return HeldOut(dataset, is_own, tuple(fitted_on), test, cache, there, labels, dict(unknown), set_aside, counts)


def _most_are_there(dataset: ImageDataset, known: Mapping[str, str]) -> bool:
    """Return whether a data set has most of the pictures that a model was fitted on, under the same names."""
    same_name = [i for i, record in enumerate(dataset.records) if record.id in known]
    if 2 * len(same_name) <= len(known):
        return False
    each = progress(same_name, f"comparing {dataset.name} with the model", len(same_name), "files", brief=True)
    return 2 * sum(_content(dataset, i, dataset.records[i]) == known[dataset.records[i].id] for i in each) > len(known)


def _content(dataset: ImageDataset, index: int, record: Record) -> str | None:
    """Return the SHA-256 of a picture's content; None: it can't be read, and is set aside later."""
    try:
        return content_sha256(record, None if record.has_bytes else dataset.image(index))
    except (OSError, UnreadableImageError):
        return None


def _nothing(
    dataset: ImageDataset, is_split: bool, n: int, fitted_on: int, unknown: Mapping[str, int], fitted: Fitted
) -> str:
    if not unknown and is_split:
        return f"{dataset.name}: the model was fitted on all of its {n} test pictures. Give others."
    if not unknown:
        return (
            f"{dataset.name}: the model was fitted on every one of its {n} pictures, so that none is left to measure "
            "it on: nothing was held out when it was fitted. Give other pictures; or fit on a folder by its path, "
            "which holds out every fifth picture of a class. How training pictures are judged by the model fitted "
            "without each: `report`."
        )
    names = ", ".join(map(repr, list(unknown)[:3])) + ", ..." * (len(unknown) > 3)
    ours = ", ".join(map(repr, fitted.classes[:3])) + ", ..." * (len(fitted.classes) > 3)
    also = f", and {fitted_on} that the model was fitted on" if fitted_on else ""
    return (
        f"{dataset.name}: has no picture that the model can be measured on: {sum(unknown.values())} are of the classes "
        f"{names}, which it doesn't know{also}. Its own are {ours}. Give pictures of those, in folders of the same "
        "names."
    )
