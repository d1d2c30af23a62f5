"""What every reader says in the same words: what it set aside, and which names of classes may be one."""

import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

NO_LABEL = "it has no label"
UNLABELLED = "a split without labelled pictures"
_NO_VALUES = frozenset({"", "nan", "none", "null", "nil", "n/a", "na", "<na>", "#n/a", "nat", "undefined"})
_MOST = 4  # of each kind are written out


def untrained(name: str, classes: tuple[str, ...]) -> str:
    """Return why a test picture of class ``name`` is set aside: no training picture has it.

    ``classes`` are those that have.
    """
    twin = _by_fold(classes).get(_folded(name))
    return f"class {name!r} has no training picture" + (
        f"; {twin!r} has, which looks alike" if twin is not None else ""
    )


@lru_cache(maxsize=4)  # it is asked of one class after the other
def _by_fold(classes: tuple[str, ...]) -> dict[str, str]:
    return {_folded(known): known for known in reversed(classes)}  # of several the first


def told_apart(names: Sequence[str], where: object) -> tuple[str, ...]:
    """Return the names of classes, no two the same: those that are get their number, with one warning."""
    counts = Counter(names)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        message = (
            f"{where}: {twice[0]!r} is the name of {counts[twice[0]]} classes ({len(twice)} such names). Their numbers "
            "are added."
        )
        warnings.warn(message, stacklevel=4)
    return tuple(f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(names))


def warn_of_skipped(where: object, skipped: Mapping[str, str]) -> None:
    """Warn once of all that was set aside: how many, how many for which reason, and the first by name."""
    if not skipped:
        return
    counts = Counter(skipped.values()).most_common()
    shown = "; ".join(f"{count} x {reason}" for reason, count in counts[:_MOST]) + "; ..." * (len(counts) > _MOST)
    path, reason = next(iter(skipped.items()))
    by_reason = f": {shown}" if len(counts) > 1 else ""
    message = f"{where}: {len(skipped)} set aside (see .skipped){by_reason}. The first: {path}: {reason}"
    warnings.warn(message, stacklevel=3)


def twins_of(name: str, names: Iterable[str]) -> list[str]:
    """Return the others among names that may be meant as this one."""
    return [other for other in names if other != name and _folded(other) == _folded(name)]


def warn_of_twins(names: Iterable[str], where: object) -> None:
    """Warn once of classes that may be meant as one, and of those that read like a missing value.

    Names are twins that are the same without case, blanks around and between, invisible characters, and the several
    ways in which Unicode writes one letter. They stay classes of their own: names are compared as they are written.
    """
    names = list(dict.fromkeys(names))
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_folded(name), []).append(name)
    twins = [" and ".join(_written_out(group)) for group in groups.values() if len(group) > 1]
    if twins:
        listed = ", ".join(twins[:_MOST]) + ", ..." * (len(twins) > _MOST)
        message = (
            f"{where}: {listed}: names that look alike are classes of their own. Give them one name if they are one."
        )
        warnings.warn(message, stacklevel=3)
    missing = [name for name in names if _folded(name) in _NO_VALUES]
    if missing:
        listed = " and ".join(map(repr, missing))
        message = (
            f"{where}: {listed}: a class, though it reads like a missing value. Leave out such pictures if it is one."
        )
        warnings.warn(message, stacklevel=3)


@lru_cache(maxsize=65536)
def _folded(name: str) -> str:
    """Return what twins have in common."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(letter for letter in plain if unicodedata.category(letter) != "Cf").split())


def _written_out(group: list[str]) -> list[str]:
    """Return the names of twins so that they look different: by code points where they would be printed the same."""
    printed = {
        unicodedata.normalize("NFC", "".join(c for c in name if unicodedata.category(c) != "Cf")) for name in group
    }
    return list(map(repr if len(printed) == len(group) else ascii, group))
