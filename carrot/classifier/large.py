"""What isn't asked of so many pictures, or classes, that nobody would wait for it; each audit tells what it left out.

A bound is a number of multiplications, or of numbers that are gone over. Below all of them nothing is left out; each is
some minutes of one processor.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from carrot.classifier.fitted import Fitted
from carrot.classifier.remembered import contents_of

PAIRS = 2**44  # n^2 M: near duplicates among all pairs of embeddings
CLOUDS = 2**37  # n C^2: which class's cloud of logits each picture is nearest to
WORTH = 2**34  # k n C: what settling each of k doubtful labels would do to all pictures
GROUPED = 2**13  # pictures of a class: groups that hide each other are looked for among all pairs of these
LISTED = 2**17  # training pictures: all of so many are listed, of more those that are doubtful ..
LEANED_ON = 1000  # .. and so many of the highest leverage


def compares_all(fitted: Fitted) -> bool:
    """Return whether near duplicates are looked for among all pairs of training pictures."""
    n, M = fitted.head.G.shape
    return n * n * M <= PAIRS


def has_clouds(fitted: Fitted) -> bool:
    """Return whether training pictures are ordered by suspicion, and not by margin."""
    C = len(fitted.classes)
    return fitted.left_out.is_held and len(fitted.records) * C * C <= CLOUDS


def knows_worth(fitted: Fitted, doubtful: int) -> bool:
    """Return whether it is worked out what settling each of some labels is worth."""
    n, C = len(fitted.records), len(fitted.classes)
    return fitted.left_out.is_held and doubtful * n * C <= WORTH


def listed(fitted: Fitted, doubtful: Tensor, leverage: Tensor) -> Tensor:
    """Return the rows of the training pictures that an audit lists."""
    n = len(fitted.records)
    if n <= LISTED:
        return torch.arange(n)
    there = doubtful.clone()
    there[leverage.topk(LEANED_ON).indices] = True
    return there.nonzero().flatten()


def copies(fitted: Fitted) -> list[tuple[int, int, float]]:
    """Return training pictures of the same content, or of the same embedding to the bit, each with the next such."""
    records, G = fitted.records, fitted.head.G
    found = set(_repeated(contents_of(records), lambda i, j: records[i].sha256 == records[j].sha256))
    rows = (G[i].numpy().tobytes() for i in range(len(G)))
    found |= set(_repeated(rows, lambda i, j: torch.equal(G[i], G[j])))
    return [(i, j, 1.0) for i, j in sorted(found)]


def _repeated(keys: Iterable[Any], same: Callable[[int, int], bool]) -> Iterator[tuple[int, int]]:
    """Yield each place with the last one before it of the same key: hashes are kept, not keys, 100 bytes each."""
    last = dict[int, int]()
    for place, key in enumerate(keys):
        mark = hash(key)
        while (before := last.get(mark)) is not None and not same(before, place):
            mark += 1  # another key of this hash
        last[mark] = place
        if before is not None:
            yield before, place


def left_out(fitted: Fitted, doubtful: int) -> tuple[str, ...]:
    """Return what an audit of the training pictures leaves out, in words."""
    n, C, notes = len(fitted.records), len(fitted.classes), list[str]()
    if not compares_all(fitted):
        notes.append(
            f"near duplicates were not looked for: all pairs of {n:,} pictures are {n * n // 2:.1e}; only those of the "
            "same file, and of the same embedding to the bit, are told, each with the next"
        )
    if not has_clouds(fitted):
        notes.append(
            f"pictures are ordered by their margin: suspicion measures each against {C:,} clouds of {C:,} logits"
        )
    if not knows_worth(fitted, doubtful):
        notes.append(f"what settling each of {doubtful:,} labels would be worth was not worked out")
    largest = int(torch.bincount(fitted.labels).max())
    if largest > GROUPED:
        notes.append(f"groups that hide each other were not looked for in classes of over {GROUPED:,} pictures")
    if n > LISTED:
        notes.append(
            f"of {n:,} training pictures those are listed that are doubtful, and the {LEANED_ON:,} of highest leverage"
        )
    return tuple(notes)
