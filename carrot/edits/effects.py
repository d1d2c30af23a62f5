"""Many edits of the training set at once: what each would do to logits of any test pictures, as refits would answer.

An edit deletes training pictures, gives others other labels or weights, adds new ones, puts others in the places of
some, or all of these together. Write phi_i(g) = k(g, g_i) w_i, which is s_i(g), for its pictures, new ones among them,
rho_i for the change of a weight over the weight (-1 deleted, w'/w - 1 reweighted, 1 added; replaced: one of each), and
dY for the change of targets. Equation (3) of ``carrot.influence`` then reads, targets first, weights after them,

::

    logit'(g) - logit(g) = phi_V(g) dY_V + phi_U(g) M^{-1} (R'_U),    R'_U = R_U + (I - phi_V(U)) dY_V             (1)

    M = diag(1 / rho) + phi_U(U),    M_ii = -(1 - leverage_i) - (w'/w) / (1 - w'/w)     weight taken away          (2)
                                          =  leverage_i + 1 / rho_i                     weight given
                                          =  1 + w k(z, z)                              added: nothing cancels

So an edit is a sparse column beta over the pool of all pictures that any edit names,

::

    logit'(g) - logit(g) = phi(g) beta                                                                             (3)

and m tests by E edits are one product of phi (m, p) with beta (p, E). phi is computed once, M is solved for in batches
of one rank u: of m tests and E edits over p training pictures m p D multiplications for phi, E u^2 D (or p^2 D, the
smaller) for M, E u^3 to solve, and m E u for (3). Memory is that of the result, of the p embeddings twice in float64
where a rank is over one and n > D, of p^2 numbers where n <= D, and of blocks.

Where a deletion leaves others nearly alone in a direction, M is singular to 6 digits and a fit answers instead.
"""

from collections.abc import Iterator
from math import prod
from typing import SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ambient import pinned
from carrot._ridge.best import Best
from carrot._ridge.edit import Edit as Edit
from carrot._ridge.edit import Edits, columns_of, named
from carrot._ridge.pool import ENTRIES, Coming, Pool, Solved, blocks_of
from carrot._ridge.questions import Questions
from carrot.head import RidgeHead
from carrot.utils import whole_number

SOLVED = 1 << 17  # entries of the edits that are solved for at once


@pinned()
def edit_effects(
    head: RidgeHead,
    g_test: Float[Tensor, "m D"],
    edits: Edits,
    target: Int[Tensor, " m"] | SupportsIndex | None = None,
    against: Int[Tensor, " m"] | SupportsIndex | None = None,
) -> Float[Tensor, "m E"]:
    """Return ``logit fitted with an edit made - logit`` of every test picture and every edit: equation (3).

    lam is held, and so are the weights of pictures that no edit names; an intercept moves as in a refit.

    Args:
        head: Fitted head.
        g_test: Test embeddings.
        edits: Each an ``Edit``; or training indices (E, u), each row a group that is left out.
        target: Class of each test picture, or one for all; default: the predicted one of each.
        against: Another class of each, or one for all: of the difference of the two logits.

    Exactness: exact, a real refit to rounding; ``tests/claims/test_27_every_edit.py``.

    Raises:
        TypeError: Something is of another kind.
        ValueError: An index or a class is out of range, shapes disagree, or an edit leaves no training picture.
        MemoryError: The effects are more numbers than there is memory for.
    """
    asked = Questions.of(head, g_test, target, against)
    effects = _room(head, len(g_test), len(edits))
    every, g_test = _Every(head, edits), g_test.to(head.W_star)
    question, which = asked.different(len(head.bias))
    for tests in blocks_of(len(g_test), len(every.pool.rows)):  # phi is (m, p)
        for block, effect in every.effects(g_test[tests], question, which[tests]):
            effects[tests, block] = effect.mT
    return effects


@pinned()
def edit_effects_by_class(head: RidgeHead, g_test: Float[Tensor, "m D"], edits: Edits) -> Float[Tensor, "m E C"]:
    """Return ``edit_effects`` of the logit of every class.

    Raises:
        TypeError, ValueError, MemoryError: As ``edit_effects``.
    """
    Questions.of(head, g_test, 0, None)  # refuses what is no (m, D)
    C = len(head.bias)
    effects = _room(head, len(g_test), len(edits), C)
    every, g_test = _Every(head, edits), g_test.to(head.W_star)
    classes = torch.eye(C, dtype=torch.float64, device=head.bias.device)
    for tests in blocks_of(len(g_test), len(every.pool.rows)):
        for block, solved, table, alone in every.solved(g_test[tests], classes):
            for c in range(C):
                effects[tests, block, c] = solved.times(table, c).mT
            for edit, fitted in alone.items():
                effects[tests, edit] = fitted
    return effects


@pinned()
def top_edits(
    head: RidgeHead,
    g_test: Float[Tensor, "m D"],
    edits: Edits,
    k: SupportsIndex,
    target: Int[Tensor, " m"] | SupportsIndex | None = None,
    against: Int[Tensor, " m"] | SupportsIndex | None = None,
) -> tuple[tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]], tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]]:
    """Return the k edits that raise each test picture's logit most, and the k that lower it most: effects and numbers.

    Streams over the edits: memory is that of a block, never (m, E). Arguments and errors are those of ``edit_effects``;
    k is at most the number of edits.
    """
    asked, every = Questions.of(head, g_test, target, against), _Every(head, edits)
    k = whole_number("k", k, 1, len(edits), ", the number of edits")
    question, which = asked.different(len(head.bias))
    up, down = (Best.none(len(g_test), k, largest, head.W_star) for largest in (True, False))
    for block, effect in every.effects(g_test.to(head.W_star), question, which):
        numbers = torch.arange(block.start, block.stop, device=effect.device)
        up.take(numbers, effect.mT)
        down.take(numbers, effect.mT)
    return (up.values, up.indices), (down.values, down.indices)


@pinned()
def edited(head: RidgeHead, edit: Edit) -> RidgeHead:
    """Return another head, really fitted on the edited training pictures, at the same lam.

    It is what the formula is held against.

    Raises:
        TypeError, ValueError: As ``edit_effects``.
    """
    place = torch.arange(len(head.G), device=head.G.device)
    named([edit], len(head.G))  # refuses what doesn't fit
    entries = columns_of(head, [edit], place, place)
    G, Y, w = head.G.to(torch.float64), head.Y.clone(), head.sample_weight.clone()
    Y[entries.V] += entries.change
    old = len(G) > entries.U
    w[entries.U[old]] *= entries.ratio[old]
    rows = tuple(torch.cat(pair) for pair in ((G, entries.Z), (Y, entries.Y), (w, entries.w)))
    stay = (rows[2] > 0).nonzero().flatten()
    return RidgeHead(head.lam, head.fit_intercept).fit(*(x[stay] for x in rows))


# ---- inside


def _room(head: RidgeHead, *shape: int) -> Tensor:
    """Return room for effects of test pictures and edits.

    Raises:
        MemoryError: There is none.
    """
    try:
        return head.W_star.new_empty(shape)
    except RuntimeError as error:
        raise MemoryError(
            f"`g_test` and `edits` ask for {' x '.join(f'{size:,}' for size in shape)} numbers, "
            f"{8 * prod(shape) / 2**30:,.0f} GiB, which are not there. Ask about fewer test pictures at a time, or "
            "`top_edits` for the largest effects alone."
        ) from error


class _Every:
    """Edits of a head, and the pool of all pictures that they name."""

    def __init__(self, head: RidgeHead, edits: Edits) -> None:
        if isinstance(edits, Edit):
            raise TypeError("`edits` must be a list of `Edit`, or whole numbers (E, u); got one: give it as [edit].")
        self.head, self.edits, rows = head, edits, named(edits, len(head.G)).to(head.G.device)
        ranks = [edits.shape[1]] * len(edits) if isinstance(edits, Tensor) else [edit.size for edit in edits]
        self.pool = Pool(head, rows, sum(u * u for u in ranks if u > 1))

    def effects(
        self, g: Float[Tensor, "m D"], question: Float[Tensor, "C q"], which: Int[Tensor, " m"]
    ) -> Iterator[tuple[slice, Float[Tensor, "b m"]]]:
        """Yield blocks of edits, and their effects on each test picture's question."""
        for block, solved, table, alone in self.solved(g, question):
            effects = solved.times(table, 0) if question.shape[1] == 1 else solved.times_each(table, which)
            for edit, fitted in alone.items():
                effects[edit - block.start] = (fitted * question.mT[which]).sum(dim=1)
            yield block, effects

    def solved(
        self, g: Float[Tensor, "m D"], question: Float[Tensor, "C q"]
    ) -> Iterator[tuple[slice, Solved, Float[Tensor, "p m"], dict[int, Float[Tensor, "m C"]]]]:
        """Yield blocks of edits, solved; phi of all that they name; and what a fit answers for some, of every class."""
        phi = self.pool.phi(g).mT.contiguous()
        for block in self._blocks(question.shape[1], len(g)):
            columns = columns_of(self.head, self.edits[block], self.pool.rows, self.pool.place)
            coming = Coming.of(self.head, columns)
            solved = self.pool.solved(columns, coming, question)
            table = torch.cat([phi, coming.phi(g).mT]) if len(coming.w) else phi
            alone = [block.start + edit for edit in solved.alone]
            yield block, solved, table, {edit: self._fitted(g, edit) for edit in alone}

    def _fitted(self, g: Tensor, place: int) -> Tensor:
        """Return what a fit answers for an edit."""
        edits = self.edits
        edit = Edit(delete=edits[place].tolist()) if isinstance(edits, Tensor) else edits[place]
        return edited(self.head, edit).predict(g) - self.head.predict(g)

    def _blocks(self, q: int, m: int) -> Iterator[slice]:
        """Yield blocks of edits that are solved for together, with q questions of m test pictures."""
        edits, most = self.edits, max(1, min(SOLVED // max(1, q), ENTRIES // max(1, m)))
        if isinstance(edits, Tensor):
            step = max(1, min(most // edits.shape[1], ENTRIES // edits.shape[1] ** 2))
            yield from (slice(start, min(start + step, len(edits))) for start in range(0, len(edits), step))
            return
        start, entries, pairs, new, wide = 0, 0, 0, 0, m + len(self.head.W_star)
        for stop, edit in enumerate(edits):
            u, a = edit.size, edit.coming
            full = entries + u > most or pairs + u * u > ENTRIES or (new + a) * wide > ENTRIES
            if full and stop > start:
                yield slice(start, stop)
                start, entries, pairs, new = stop, 0, 0, 0
            entries, pairs, new = entries + u, pairs + u * u, new + a
        if start < len(edits):
            yield slice(start, len(edits))
