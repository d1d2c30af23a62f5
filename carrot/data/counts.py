"""What is counted is said: of how many pictures, how many were used, left out and set aside, and why.

The same in text and JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from carrot._display.words import counted
from carrot.data.records import ImageDataset, labels_of, split_indices
from carrot.errors import DataError

FITTED_ON = "the model was fitted on them"
HELD_OUT = "held out for testing"
FORGOTTEN = "the model forgot them"
FOR_TRAINING = "for training, by the split"
UNKNOWN = "of classes that the model doesn't know"
UNREADABLE = "can't be read, or are no pictures of a class"


@dataclass(frozen=True)
class Counts:
    """Pictures of one data set: ``pictures`` = ``used`` + all that were left out + ``set_aside``.

    Attributes:
        used: How many the numbers are of.
        left_out: How many were left out on purpose, by the reason.
        set_aside: How many can't be used: they can't be read, or belong to no class.
    """

    used: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    set_aside: int = 0

    @property
    def pictures(self) -> int:
        """All of them."""
        return self.used + sum(self.left_out.values()) + self.set_aside

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON."""
        left_out = {reason: n for reason, n in self.left_out.items() if n}
        return {"pictures": self.pictures, "used": self.used, "left_out": left_out, "set_aside": self.set_aside}

    def line(self, verb: str, of: str = "") -> str:
        """Return it as text.

        An example: "96 pictures of birds: 90 measured, 4 left out (the model was fitted on them), 2 set aside (...)".
        """
        parts = [f"{self.used} {verb}"]
        parts += [f"{n} left out ({reason})" for reason, n in self.left_out.items() if n]
        parts += [f"{self.set_aside} set aside ({UNREADABLE})"] if self.set_aside else []
        return f"{counted(self.pictures, 'picture')}{f' of {of}' if of else ''}: {', '.join(parts)}"


def readable_splits(dataset: ImageDataset, is_there: Sequence[bool]) -> tuple[list[int], list[int], Counts]:
    """Return the training and the test pictures that could be read, and the count of all.

    Args:
        dataset: The data set.
        is_there: Of each of its pictures, whether it could be read.

    Raises:
        DataError: A class has no such training picture, or there is no such test picture.
    """
    train, test = ([i for i in split_indices(dataset, split) if is_there[i]] for split in ("train", "test"))
    trained = set(labels_of(dataset.records)[train].tolist())
    lacking = [f"training picture of {name!r}" for c, name in enumerate(dataset.classes) if c not in trained]
    if lacking or not test:
        raise DataError(f"{dataset.name}: has no {[*lacking, 'test picture'][0]} that can be read.")
    aside = len(dataset.records) - len(train + test) + len(getattr(dataset, "skipped", ()))
    return train, test, Counts(len(test), {FOR_TRAINING: len(train)}, aside)
