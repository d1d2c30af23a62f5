"""The k largest, or smallest, of many numbers that come block by block; and the numbers, of training pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.blocks import times
from carrot._ridge.questions import Questions
from carrot._ridge.rows import indices_of_each
from carrot.utils import require_shape, require_tensor, whole_number

if TYPE_CHECKING:
    from carrot.head import RidgeHead


@dataclass(eq=False)
class Best:
    """The k best so far of each of m rows, best first.

    Attributes:
        k: How many.
        largest: False: the smallest ones.
        values: What they are.
        indices: Their numbers.
    """

    k: int
    largest: bool
    values: Float[Tensor, "m j"]
    indices: Int[Tensor, "m j"]

    __repr__ = brief

    @classmethod
    def none(cls, m: int, k: int, largest: bool, like: Tensor) -> "Best":
        """Return it before any came; ``like`` tells where numbers are."""
        return cls(k, largest, like.new_empty(m, 0), torch.empty(m, 0, dtype=torch.long, device=like.device))

    def take(self, numbers: Int[Tensor, " b"], values: Float[Tensor, "m b"]) -> None:
        """Look at some more: their numbers, and what each is in each row; NaN: it isn't to be named."""
        values = values.where(~values.isnan(), -torch.inf if self.largest else torch.inf)
        every = torch.cat([self.values, values], dim=1)
        indices = torch.cat([self.indices, numbers.expand(len(values), -1)], dim=1)
        self.values, place = every.topk(min(self.k, every.shape[1]), dim=1, largest=self.largest)
        self.indices = indices.gather(1, place)


def contributions(
    head: "RidgeHead",
    g_test: Tensor,
    k: SupportsIndex,
    kind: str,
    target: Tensor | SupportsIndex | None,
    against: Tensor | SupportsIndex | None,
    origin: Tensor | None,
    exclude: Tensor | None,
    chunk: int,
) -> tuple[Questions, Iterator[tuple[Tensor, Tensor]], int]:
    """Check what is asked; return it, and what it comes to by blocks of training pictures, NaN where excluded."""
    n = len(head.Y)
    require_tensor("g_test", g_test)
    others = n if exclude is None else n - 1
    k = whole_number("k", k, 1, others, ", the number of training pictures" + " but the excluded one" * (others < n))
    per_picture = {
        "dual": lambda: head.alpha,
        "label": lambda: head.Y,
        "removal": lambda: head.residual / head.slack.unsqueeze(-1),
    }
    if kind not in per_picture:
        raise ValueError(f"`kind` must be one of {tuple(per_picture)}; got {kind!r}.")
    if origin is not None and kind != "dual":
        raise ValueError(f"`origin` must go with kind='dual' alone; got kind={kind!r}.")
    asked = Questions.of(head, g_test, target, against)
    if exclude is not None:
        exclude = indices_of_each(exclude, len(g_test), n, "exclude").to(head.G.device)
    factor, g_test = per_picture[kind](), g_test.to(head.W_star)
    few = kind != "dual" and n <= head.G.shape[1] + 1  # the dual form solves for all n pictures at once
    smoother = head.smoother(g_test) if few else None
    if origin is not None:
        require_shape("origin", origin, g_test.shape[-1:], "the width of g_test")

    def weights(block: Tensor) -> Tensor:  # (m, block): what multiplies each picture's factor
        if kind == "dual":
            return products(head.G[block], g_test, origin)
        return head.smoother(g_test, block) if smoother is None else smoother[:, block]

    def each() -> Iterator[tuple[Tensor, Tensor]]:
        # the primal form solves for g_test again in each block: D pictures of a block cost what the solving does
        step = max(chunk, 0 if kind == "dual" else head.G.shape[1])
        for block in torch.arange(n, device=head.G.device).split(step):
            new = weights(block) * asked.columns(factor[block])
            if exclude is not None:
                new.masked_fill_(block == exclude.unsqueeze(-1), torch.nan)
            yield block, new

    return asked, each(), k


def products(G_train: Tensor, g_test: Tensor, origin: Tensor | None) -> Tensor:
    """Return <g - o, g_i - o>, (m, n)."""
    if origin is not None:
        require_shape("origin", origin, g_test.shape[-1:], "the width of g_test")
        g_test = g_test - origin
    return times(G_train, origin, g_test.mT).mT
