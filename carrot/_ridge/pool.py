"""Many edits solved for over one pool of pictures, a block of edits at a time; equations: ``carrot.edits.effects``.

Of training pictures i, j of the pool, and of those that come in, all that is solved with is

::

    K~_ij = sqrt(w_i) k(g_i, g_j) sqrt(w_j),   M~ = T (diag + K~) T,   beta = W^{-1/2} T M~^{-1} T W^{1/2} R_U     (1)

with T = 1 for training pictures and (1 + w k(z, z))^{-1/2} for those that come in, so that weights and far pictures
leave M~ no worse than slack does. Of training pictures K~ comes without cancellation: by ``slack_among`` where the form
is dual, by products with K^{-1} where it is primal.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.streamed import residual_at
from carrot._ridge.systems import ALONE

if TYPE_CHECKING:
    from carrot.head import RidgeHead

ENTRIES = 1 << 24  # numbers of a block
TABLE = 1 << 24  # numbers of all inner products of the pool, where so many are asked for that all are computed


@dataclass(frozen=True, eq=False)
class Columns:
    """Some edits, entry by entry: those of one edit lie together, training pictures before those that come in.

    Attributes:
        U: Place in the pool of each picture whose weight changes; those that come in follow the training pictures.
        ratio: New weight over the old, 0 where it is deleted; 1 of those that come in.
        of_U: The edit of each.
        V: Place in the pool of each picture whose targets change.
        change: By how much.
        of_V: The edit of each.
        Z: Embeddings of those that come in.
        Y: Their targets.
        w: Their weights.
        size: How many edits.
    """

    U: Int[Tensor, " u"]
    ratio: Float[Tensor, " u"]
    of_U: Int[Tensor, " u"]
    V: Int[Tensor, " v"]
    change: Float[Tensor, "v C"]
    of_V: Int[Tensor, " v"]
    Z: Float[Tensor, "a D"]
    Y: Float[Tensor, "a C"]
    w: Float[Tensor, " a"]
    size: int

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Coming:
    """Pictures that come in.

    Attributes:
        head: The fitted head.
        Z: Their embeddings, less gm.
        solved: K^{-1} times these.
        w: Their weights.
    """

    head: "RidgeHead"
    Z: Float[Tensor, "a D"]
    solved: Float[Tensor, "a D"]
    w: Float[Tensor, " a"]

    __repr__ = brief

    @classmethod
    def of(cls, head: "RidgeHead", columns: Columns) -> "Coming":
        """Return those of some edits."""
        return cls(head, columns.Z - head.g_mean, head.inverse_times(columns.Z).mT.contiguous(), columns.w)

    def phi(self, g: Float[Tensor, "m D"]) -> Float[Tensor, "m a"]:
        """Return k(g, z) w."""
        return ((g - self.head.g_mean) @ self.solved.mT + self.head.shift) * self.w

    @cached_property
    def own(self) -> Float[Tensor, " a"]:
        """1 + w k(z, z)."""
        return 1.0 + self.w * ((self.Z * self.solved).sum(dim=1) + self.head.shift)


@dataclass(frozen=True, eq=False)
class Solved:
    """Edits as sparse columns, those with as many entries together.

    Attributes:
        size: How many edits.
        parts: Which edits (b,), their places in the pool (b, s), and beta (b, s, q) of each of q questions.
        alone: Edits that a fit must answer.
    """

    size: int
    parts: list[tuple[Tensor, Tensor, Tensor]]
    alone: list[int]

    __repr__ = brief

    def times(self, phi: Float[Tensor, "p m"], question: int) -> Float[Tensor, "b m"]:
        """Return phi^T beta of each edit: a sum of as many rows of phi as it has entries."""
        found = [
            torch.nn.functional.embedding_bag(
                places, phi, mode="sum", per_sample_weights=beta[..., question].contiguous()
            )
            for _, places, beta in self.parts
        ]
        return self._together(found, phi)

    def times_each(self, phi: Float[Tensor, "p m"], which: Int[Tensor, " m"]) -> Float[Tensor, "b m"]:
        """Return the same where each test picture has a question of its own."""
        found = []
        for _, places, beta in self.parts:
            total = phi[places[:, 0]] * beta[:, 0, which]
            for j in range(1, places.shape[1]):
                total.addcmul_(phi[places[:, j]], beta[:, j, which])
            found.append(total)
        return self._together(found, phi)

    def _together(self, found: list[Tensor], phi: Tensor) -> Tensor:
        if len(found) == 1 and len(found[0]) == self.size:
            return found[0]
        effects = phi.new_zeros(self.size, phi.shape[1])  # what nothing is changed of stays 0
        for (which, _, _), effect in zip(self.parts, found, strict=True):
            effects[which] = effect
        return effects


@dataclass(frozen=True, eq=False)
class Pool:
    """The training pictures that any edit names.

    Attributes:
        head: The fitted head.
        rows: Their training indices.
        pairs: How many inner products among them will be asked for, about.
    """

    head: "RidgeHead"
    rows: Int[Tensor, " p"]
    pairs: int

    __repr__ = brief

    @cached_property
    def place(self) -> Int[Tensor, " n"]:
        """Place in the pool of each training picture; -1: it isn't there."""
        place = self.rows.new_full((len(self.head.G),), -1)
        place[self.rows] = torch.arange(len(self.rows), device=place.device)
        return place

    @cached_property
    def _residual(self) -> Float[Tensor, "p C"]:
        """R of the pool."""
        return residual_at(self.head, self.rows)

    def phi(self, g: Float[Tensor, "m D"]) -> Float[Tensor, "m p"]:
        """Return s(g) of the pool."""
        return self.head.smoother(g, self.rows) if len(self.rows) else g.new_empty(len(g), 0)

    def solved(self, columns: Columns, coming: Coming, question: Float[Tensor, "C q"]) -> Solved:
        """Return beta of some edits: equation (1)."""
        head, p = self.head, len(self.rows)
        w = torch.cat([head.sample_weight[self.rows], columns.w])
        residual = torch.cat([self._residual @ question, (columns.Y - head.predict(columns.Z)) @ question])
        slack = torch.cat([head.slack[self.rows] if p else w[:p], coming.own]) if len(columns.U) else torch.ones_like(w)
        change, is_new = columns.change @ question, columns.U.ge(p)
        lead = torch.where(is_new, slack[columns.U], _lead(columns.ratio, slack[columns.U]))
        scale = lead.rsqrt().where(is_new, 1.0)
        counts = [torch.bincount(of, minlength=columns.size) for of in (columns.of_U, columns.of_V)]
        counts.append(torch.bincount(columns.of_U, is_new.double(), minlength=columns.size).long())
        starts = [count.cumsum(0) - count for count in counts[:2]]
        parts, alone = [], []
        sizes = torch.stack(counts, dim=1)
        for u, v, a in sizes.unique(dim=0).tolist():
            which = (sizes == torch.tensor([u, v, a], device=sizes.device)).all(dim=1).nonzero().flatten()
            at_U, at_V = (
                start[which].unsqueeze(-1) + torch.arange(size, device=which.device)
                for start, size in zip(starts, (u, v), strict=True)
            )
            U, V, linear = columns.U[at_U], columns.V[at_V], change[at_V]  # (b, u), (b, v), (b, v, q)
            if not u:
                if v:  # else nothing is changed: a weight is what it was
                    parts.append((which, V, linear))
                continue
            root, tau, missed = w[U].sqrt(), scale[at_U], residual[U]
            among = (
                self._among(torch.cat([U, V], dim=1), slice(u - a, u), coming)
                if u > 1 or v
                else lead.new_empty(len(U), 1, 1)
            )
            M = among[:, :u, :u] * (tau.unsqueeze(-1) * tau.unsqueeze(-2))
            M.diagonal(dim1=-2, dim2=-1).copy_(lead[at_U] * tau.square())
            if v:  # (I - phi_V(U)) dY_V
                phi = among[:, :u, u:] * (w[V].sqrt().unsqueeze(-2) / root.unsqueeze(-1))
                itself = U.unsqueeze(-1) == V.unsqueeze(-2)
                missed = missed + torch.where(itself, slack[V].unsqueeze(-2), -phi) @ linear
            taken = columns.ratio[at_U] < 1.0
            keeps_digits = taken.all(dim=-1) & head.is_dual  # of small entries of M; else those behind the point
            x, failed = _solve(M, (root * tau).unsqueeze(-1) * missed, torch.where(keeps_digits, 0.0, 1.0))
            if u == 1 and not v:  # so has a slack by itself
                failed &= ~(taken[:, 0] | is_new[at_U[:, 0]])
            alone += which[failed].tolist()
            parts.append((which, torch.cat([U, V], dim=1), torch.cat([x * (tau / root).unsqueeze(-1), linear], dim=1)))
        return Solved(columns.size, parts, alone)

    def _among(self, places: Tensor, new: slice, coming: Coming) -> Tensor:
        """Return K~ among (b, s) places, of which some are new, (b, s, s); its diagonal is not to be read."""
        p, (b, s) = len(self.rows), places.shape
        found = torch.empty(b, s, s, dtype=torch.float64, device=places.device)
        if p:
            old = places.clamp(max=p - 1)
            if self._table is None:
                for some in blocks_of(b, s * self._centred.shape[1]):
                    A, V = self._centred[old[some]], self._solved_for[old[some]]
                    found[some] = torch.bmm(A, V.mT)
                root = self._root[old]
                found += self.head.shift * root.unsqueeze(-1) * root.unsqueeze(-2)
            else:
                found = self._table[old.unsqueeze(-1), old.unsqueeze(-2)]
        if new.stop > new.start:
            root = torch.cat([self._root, coming.w.sqrt()])[places]
            at = places[:, new] - p
            for some in blocks_of(b, s * coming.Z.shape[1]):
                Z, V = coming.Z[at[some]], coming.solved[at[some]] * root[some, new].unsqueeze(-1)
                rows = torch.empty(len(Z), s, Z.shape[2], dtype=torch.float64, device=Z.device)
                if p:
                    rows.copy_(self._centred[old[some]])
                rows[:, new] = Z * root[some, new].unsqueeze(-1)
                cross = torch.bmm(rows, V.mT) + self.head.shift * root[some].unsqueeze(-1) * root[some, new].unsqueeze(
                    -2
                )
                found[some, :, new], found[some, new, :] = cross, cross.mT
        return found

    @cached_property
    def _table(self) -> Float[Tensor, "p p"] | None:
        """K~ among all, where it is cheaper than what is asked for; None: it isn't."""
        p = len(self.rows)
        if not self.head.is_dual and (p * p > TABLE or p * p > 16 * self.pairs):
            return None
        return self.head.slack_among(self.rows).neg_() * self._root.unsqueeze(-1) / self._root

    @cached_property
    def _root(self) -> Float[Tensor, " p"]:
        return self.head.sample_weight[self.rows].sqrt()

    @cached_property
    def _centred(self) -> Float[Tensor, "p D"]:
        """sqrt(w) (g - gm)."""
        return (self.head.G[self.rows].to(torch.float64) - self.head.g_mean).mul_(self._root.unsqueeze(-1))

    @cached_property
    def _solved_for(self) -> Float[Tensor, "p D"]:
        """K^{-1} times that."""
        G = self.head.G[self.rows].to(torch.float64)
        return self.head.inverse_times(G).mT.contiguous().mul_(self._root.unsqueeze(-1))


def blocks_of(length: int, width: int) -> list[slice]:
    """Return slices of at most ``ENTRIES`` numbers, where each of ``length`` has ``width``."""
    step = max(1, ENTRIES // max(1, width))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _lead(ratio: Tensor, slack: Tensor) -> Tensor:
    """Return the diagonal of M of training pictures, equation (2) of ``carrot.edits.effects``."""
    taken = ratio < 1.0
    down = -slack - ratio / (1.0 - ratio).where(taken, 1.0)
    return torch.where(taken, down, (1.0 - slack) + 1.0 / (ratio - 1.0).where(ratio > 1.0, 1.0))


def _solve(M: Tensor, rhs: Tensor, least: Tensor) -> tuple[Tensor, Bool[Tensor, " b"]]:
    """Return M^{-1} rhs, and where M is singular to 6 digits; ``least``: size of M below which no digits are left."""
    norm = torch.maximum(torch.linalg.matrix_norm(M, 1), least)
    if M.shape[-1] == 1:
        return rhs / M, M[:, 0, 0].abs() < ALONE * norm
    inverse, info = torch.linalg.inv_ex(M)
    failed = ~(torch.linalg.matrix_norm(inverse, 1) * norm <= 1.0 / ALONE) | (info != 0)
    x = inverse @ rhs
    return x + inverse @ (rhs - M @ x), failed
