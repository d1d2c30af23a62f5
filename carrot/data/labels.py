"""Labels as users have them: names, whole numbers or truth values.

Inside they are names; they go out as the kind that came in.
"""

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
        ValueError: Text that no file can hold, or whose end numpy would drop.
    """
    if isinstance(value, bool | np.bool_):
        return "truth"
    if isinstance(value, str):
        if "\0" in value or _is_broken(value):
            raise ValueError(
                f"`labels` must be text that can be stored; got {value!r}, with a NUL or half a character in it."
            )
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


def canonical(name: str, kind: LabelKind) -> str:
    """Return the one name of a label of a kind, however it is written: of whole numbers " 01" is "1".

    Raises:
        ValueError: It is none of that kind's.
    """
    if kind == "number":
        try:
            return str(int(name))
        except ValueError:
            raise ValueError(f"{name!r} is none of {_WORDS[kind]}.") from None
    if kind == "truth" and name not in _TRUTH:
        raise ValueError(f"{name!r} is none of {_WORDS[kind]}.")
    return name


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


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
    values = [int(canonical(n, kind)) if kind == "number" else _TRUTH[canonical(n, kind)] for n in names]
    if kind == "truth":
        return np.array(values, dtype=np.bool_)
    low, high = min(values, default=0), max(values, default=0)
    fits = [t for t in (np.int64, np.uint64) if np.iinfo(t).min <= low and high <= np.iinfo(t).max]
    return np.array(values, dtype=fits[0] if fits else np.object_)  # never floating point: neighbours would be one


def in_order(names: Iterable[str], kind: LabelKind) -> list[str]:
    """Return the different names as scikit-learn sorts that kind: numbers by value, False before True, text as text."""
    return sorted(set(names), key=int if kind == "number" else None)
