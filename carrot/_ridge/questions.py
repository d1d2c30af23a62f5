"""The question of each of many test pictures: one class, or one class against another."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.targets import Targets
from carrot.utils import require_tensor, whole_number

if TYPE_CHECKING:
    from carrot.head import RidgeHead

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True, eq=False)
class Questions:
    """What is asked of m test pictures: a logit each, or a difference of two.

    Attributes:
        target: Class c of each.
        against: Class a of each, for ``logit_c - logit_a``; None: for ``logit_c``.
    """

    target: Int[Tensor, " m"]
    against: Int[Tensor, " m"] | None

    __repr__ = brief

    @classmethod
    def of(
        cls,
        head: "RidgeHead",
        g_test: Tensor,
        target: Tensor | SupportsIndex | None,
        against: Tensor | SupportsIndex | None,
    ) -> "Questions":
        """Return them; the target is by default what is predicted of each.

        Raises:
            TypeError: Something is of another kind.
            ValueError: A class is out of range, both are the same, or shapes disagree.
        """
        C, D = len(head.bias), len(head.g_mean)
        require_tensor("g_test", g_test)
        if g_test.ndim != 2:
            raise ValueError(
                f"`g_test` must be (m, {D}); got {tuple(g_test.shape)}. Use `g.unsqueeze(0)` for one picture."
            )
        logits = head.predict(g_test)  # also checks width and finiteness
        c = logits.argmax(dim=-1) if target is None else _classes("target", target, logits)
        a = None if against is None else _classes("against", against, logits)
        if a is not None and bool((a == c).any()):
            same = int((a == c).nonzero()[0])
            raise ValueError(
                f"`against` must be another class than `target` or the predicted one, of 0 .. {C - 1}; of test picture "
                f"{same} both are {int(a[same])}."
            )
        return cls(c, a)

    def different(self, C: int) -> tuple[Float[Tensor, "C q"], Int[Tensor, " m"]]:
        """Return the different questions, each what it asks of the classes' logits, 1 and -1; and which each has."""
        pairs = self.target if self.against is None else self.target * C + self.against
        found, which = pairs.unique(return_inverse=True)
        if self.against is None:
            return torch.nn.functional.one_hot(found, C).mT.double(), which
        one_hot = torch.nn.functional.one_hot(torch.stack([found // C, found % C]), C).double()
        return (one_hot[0] - one_hot[1]).mT, which

    def apart(self, C: int) -> tuple["Questions", Int[Tensor, " m"]]:
        """Return the different questions; and which each has."""
        pairs = self.target if self.against is None else self.target * C + self.against
        found, which = pairs.unique(return_inverse=True)
        return Questions(found, None) if self.against is None else Questions(found // C, found % C), which

    def targets(self, Y: Targets) -> Float[Tensor, "m b"]:
        """Return ``columns`` of targets: a new matrix."""
        if not Y.are_labels:
            return self.columns(Y.values).clone()
        is_target = (Y.values == self.target.unsqueeze(-1)).double()
        return is_target if self.against is None else is_target.sub_((Y.values == self.against.unsqueeze(-1)).double())

    def columns(self, per_class: Float[Tensor, "b C"]) -> Float[Tensor, "m b"]:
        """Return of each question its column of what is there for every class."""
        of_target = per_class[:, self.target].mT
        return of_target if self.against is None else of_target - per_class[:, self.against].mT


def _classes(name: str, given: Tensor | SupportsIndex, logits: Tensor) -> Tensor:
    """Return a class for each test picture."""
    m, C = logits.shape
    if not (isinstance(given, Tensor) and given.ndim):
        return torch.full((m,), whole_number(name, given, 0, C - 1, ", a class"), device=logits.device)
    if given.shape != (m,) or given.dtype not in INTEGERS:
        raise ValueError(
            f"`{name}` must be ({m},) integer classes, one for each test picture; got {tuple(given.shape)} of "
            f"{given.dtype}."
        )
    classes = given.to(logits.device).long()
    if m and not 0 <= int(classes.min()) <= int(classes.max()) < C:
        raise ValueError(f"`{name}` must hold classes 0 .. {C - 1}; got {classes.tolist()[:10]}.")
    return classes
