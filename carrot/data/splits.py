"""The names that splits go by: one table for every reader.

A split is known by its name without case, blanks and punctuation, and without a last "set", "data" or "images":
"Training", "test_set", "Train-Images", "VAL". ``trainval`` holds the validation pictures, so that only what is for
testing goes with it.
"""

import re
from collections.abc import Iterable
from operator import index
from typing import NamedTuple, SupportsIndex

from carrot.errors import DataError

NAMES: dict[str, tuple[str, ...]] = {
    "trainval": ("trainval", "trainvalid", "trainvalidation"),
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst"),
    "eval": ("eval", "evaluation", "holdout", "heldout"),
    "val": ("val", "valid", "validation"),
    "dev": ("dev", "devel", "development"),
}
"""The names of each kind of split: first the kinds to train on, then those to test on, the best first."""

TRAINING = ("trainval", "train")
TESTING = tuple(kind for kind in NAMES if kind not in TRAINING)
_KIND_OF = {name: kind for kind, names in NAMES.items() for name in names}
_DECORATION = re.compile(r"(?<=.)(set|data|images|pictures|split)$")


class Sides(NamedTuple):
    """Names of splits by what they are for.

    Attributes:
        train: The one to train on, or None.
        test: Those that may serve for testing beside ``train``, the best first.
        others: What is left: other names, and splits whose pictures may be among those of ``train``.
    """

    train: str | None
    test: tuple[str, ...]
    others: tuple[str, ...]


def kind_of(name: str) -> str | None:
    """Return which kind of split a name means, a key of ``NAMES``; None: it means none."""
    plain = re.sub(r"[\W_]+", "", name.casefold())
    return _KIND_OF.get(plain) or _KIND_OF.get(_DECORATION.sub("", plain))


def mentions_training(name: str) -> bool:
    """Return whether one of the words of a name is that of a training split: "seg_train", "Training 2"."""
    return any(kind_of(word) in TRAINING for word in re.split(r"[\W_]+", name))


def sides(names: Iterable[str], where: object) -> Sides:
    """Sort the names of splits.

    Raises:
        DataError: Two names mean the same ("test", "testing"): which is meant can't be told.
    """
    names = tuple(names)
    by_kind: dict[str | None, list[str]] = {}
    for name in names:
        by_kind.setdefault(kind_of(name), []).append(name)
    held = [kind for kind in TESTING if kind in by_kind]
    beside_trainval = [kind for kind in held if kind in ("test", "eval")]
    train = "trainval" if "trainval" in by_kind and (beside_trainval or "train" not in by_kind) else "train"
    used = (beside_trainval if train == "trainval" else held) if train in by_kind else []
    for kind in [train] * (train in by_kind) + used:
        if len(by_kind[kind]) > 1:
            first, second = by_kind[kind][:2]
            raise DataError(f"{where}: {first!r} and {second!r} mean the same split. Rename or remove one.")
    chosen = next(iter(by_kind.get(train, [])), None)
    test = tuple(by_kind[kind][0] for kind in used)
    return Sides(chosen, test, tuple(name for name in names if name not in (chosen, *test)))


def require_every(test_every: int | None) -> None:
    """Refuse a number of pictures of which one is for testing, where it leaves none for training.

    Raises:
        TypeError: ``test_every`` is neither a whole number nor None.
        ValueError: It is less than 2.
    """
    if test_every is None:
        return
    if isinstance(test_every, bool) or not isinstance(test_every, SupportsIndex):
        raise TypeError(f"test_every must be a whole number, or None for no test pictures; got {test_every!r}")
    if index(test_every) < 2:
        raise ValueError(f"test_every must be at least 2, or None for no test pictures; got {test_every}")


def known() -> str:
    """Return the names of ``NAMES``, for a message."""
    return ", ".join(name for names in NAMES.values() for name in names)
