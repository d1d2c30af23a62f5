"""Labels as users have them: names, whole numbers or truth values. Inside they are names; they go out as the kind that came in."""

from collections.abc import Iterable, Sequence
from operator import index
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from carrot.data.records import LabelKind

Label: TypeAlias = str | SupportsIndex | np.bool_
Labels: TypeAlias = Sequence[object] | np.ndarray | Tensor
_TRUTH = {"False": False, "True": True}
_WORDS = {"name": "names", "number": "whole numbers", "truth": "truth values"}


def label_kind(value: object) -> LabelKind:
    """Return which kind of label one value is.

    Raises:
        TypeError: None of them; a missing label (None, NaN) is none.
    """
    if isinstance(value, bool | np.bool_):
        return "truth"
    if isinstance(value, str):
        return "name"
    if isinstance(value, SupportsIndex):
        try:
            index(value)
            return "number"
        except TypeError:  # an array of several numbers has the method too
            pass
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    hint = " Convert them with `.astype(int)`." if whole else " Leave out pictures without a label."
    raise TypeError(
        f"`labels` must be names, whole numbers or truth values; got {type(value).__name__} {value!r}.{hint}"
    )


def names_of(labels: Labels) -> tuple[list[str], LabelKind]:
    """Return labels as names, 3 as "3" and True as "True", and their kind.

    Raises:
        TypeError: A label is of none of the kinds, or they are of several.
    """
    values = flat(labels)
    kinds = [label_kind(value) for value in values]
    for kind, value in zip(kinds, values, strict=True):
        if kind != kinds[0]:
            raise TypeError(
                f"`labels` must be of one kind; got {_WORDS[kinds[0]]} ({values[0]!r}) and {_WORDS[kind]} ({value!r}). "
                "Convert them to one."
            )
    return [name_of_label(value) for value in values], kinds[0] if kinds else "name"


def name_of_label(value: Any) -> str:
    """Return one label's name."""
    kind = label_kind(value)
    return str(value) if kind == "name" else str(bool(value)) if kind == "truth" else str(index(value))


def flat(labels: Labels) -> list[Any]:
    """Return labels as a list.

    Raises:
        TypeError: They are one string, or no sequence.
        ValueError: They are a matrix.
    """
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise TypeError(f"`labels` must be one for each picture, in a list or an array; got {labels!r}.")
    if isinstance(labels, np.ndarray | Tensor):
        if labels.ndim != 1:
            raise ValueError(f"`labels` must be ({len(labels)},), one for each picture; got {tuple(labels.shape)}.")
        return list(labels.tolist())
    return list(labels)


def restored(names: Sequence[str], kind: LabelKind) -> NDArray[Any]:
    """Return labels of these names as an array of their kind, as they came in: text, int64 or bool.

    Raises:
        ValueError: A name is none of that kind's.
    """
    if kind == "name":
        return np.array(names, dtype=np.str_)
    try:
        values = [int(name) if kind == "number" else _TRUTH[name] for name in names]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{error.args[0]!r} is none of {_WORDS[kind]}.") from None
    return np.array(values, dtype=None if values else np.int64 if kind == "number" else np.bool_)


def in_order(names: Iterable[str], kind: LabelKind) -> list[str]:
    """Return the different names as scikit-learn sorts labels of that kind: numbers by value, False before True, text as text."""
    return sorted(set(names), key=int if kind == "number" else None)
