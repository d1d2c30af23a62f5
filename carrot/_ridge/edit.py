"""One edit of a training set, and many of them entry by entry, as ``carrot._ridge.pool`` solves for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, SupportsFloat, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.pool import Columns
from carrot._ridge.rows import require_labels
from carrot.utils import require_finite, require_positive, require_tensor, whole_number

if TYPE_CHECKING:
    from carrot.head import RidgeHead

Targets = SupportsIndex | Tensor


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit of a training set, of any size; all of it happens at once.

    Attributes:
        delete: Training indices to leave out.
        relabel: New class, or row of targets, by training index.
        reweight: New weight > 0 by training index; a picture may be relabelled and reweighted.
        add: Embeddings (a, D) and their labels or targets, and their weights where these aren't 1.
        replace: By training index the embedding that stands in its place, or that and its class or row of targets; its
            weight stays.

    Raises:
        TypeError: An index or a class is no whole number, or something is of another kind.
        ValueError: A picture is in two places that don't go together, a weight is not > 0, or nothing is asked.
    """

    delete: Sequence[SupportsIndex] = ()
    relabel: Mapping[int, Targets] = field(default_factory=dict)
    reweight: Mapping[int, SupportsFloat] = field(default_factory=dict)
    add: tuple[Tensor, ...] | None = None
    replace: Mapping[int, Tensor | tuple[Tensor, Targets]] = field(default_factory=dict)

    __repr__ = brief

    def __post_init__(self) -> None:
        if not hasattr(self.delete, "__len__") or getattr(self.delete, "ndim", 1) == 0:
            raise TypeError(f"`delete` must be a list of training indices; got {self.delete!r}.")
        gone = [whole_number("delete", i, 0) for i in self.delete]
        object.__setattr__(self, "delete", gone)
        for name in ("relabel", "reweight", "replace"):
            given = getattr(self, name)
            if given:
                if not isinstance(given, Mapping):
                    raise TypeError(f"`{name}` must be by training index, {{i: ...}}; got {given!r}.")
                object.__setattr__(self, name, {whole_number(name, i, 0): value for i, value in given.items()})
        for i in self.reweight:
            require_positive("reweight", self.reweight[i])
        out = [*gone, *self.replace]
        if len(set(out)) < len(out) or set(out) & {*self.relabel, *self.reweight}:
            raise ValueError("A training picture may be deleted or replaced once, and not be changed besides.")
        if self.add is not None and not (isinstance(self.add, tuple) and len(self.add) in (2, 3)):
            raise TypeError(f"`add` must be (G, Y) or (G, Y, weights); got {type(self.add).__name__}.")
        if not (out or self.relabel or self.reweight or self.add):
            raise ValueError("An edit must delete, relabel, reweight, add or replace something; got nothing.")

    @property
    def coming(self) -> int:
        """How many pictures come in."""
        return len(self.replace) + (0 if self.add is None else len(self.add[0]))

    @property
    def size(self) -> int:
        """How many entries it has."""
        return len(self.delete) + len(self.relabel) + len(self.reweight) + len(self.replace) + self.coming


Edits = Sequence[Edit] | Int[Tensor, "E u"]


def named(edits: Edits, n: int) -> Int[Tensor, " p"]:
    """Return all training indices that edits name, ascending.

    Raises:
        TypeError: Something is no edit.
        ValueError: An index is out of range, a group names one twice, or all n are left out.
    """
    if isinstance(edits, Tensor):
        return _of_groups(edits, n)
    rows = set[int]()
    for edit in edits:
        if not isinstance(edit, Edit):
            raise TypeError(f"`edits` must be a list of `Edit`, or whole numbers (E, u); got {edit!r} in it.")
        if len(edit.delete) >= n and edit.add is None:
            raise ValueError("An edit must leave at least one training picture; got one that leaves out all of them.")
        rows.update(map(int, edit.delete), edit.relabel, edit.reweight, edit.replace)
    if rows and max(rows) >= n:
        raise ValueError(f"`edits` must name training indices in 0 .. {n - 1}; got {max(rows)}.")
    return torch.tensor(sorted(rows), dtype=torch.long)


def _of_groups(groups: Tensor, n: int) -> Tensor:
    if groups.ndim != 2 or not groups.shape[1] or groups.is_floating_point() or groups.dtype == torch.bool:
        raise ValueError(
            "`edits` must be a list of `Edit`, or whole numbers (E, u), each row training indices to leave out; got "
            f"{tuple(groups.shape)} of {groups.dtype}."
        )
    rows = groups.unique()
    if len(rows) and not 0 <= int(rows[0]) <= int(rows[-1]) < n:
        raise ValueError(f"`edits` must name training indices in 0 .. {n - 1}; got {int(rows[0])} .. {int(rows[-1])}.")
    if groups.shape[1] > 1 and bool((groups.sort(dim=1).values.diff(dim=1) == 0).any()):
        raise ValueError("`edits` must name each training picture once in a group; some come twice.")
    if groups.shape[1] >= n:
        raise ValueError("An edit must leave at least one training picture; got one that leaves out all of them.")
    return rows.long()


def columns_of(head: "RidgeHead", edits: Edits, rows: Int[Tensor, " p"], place: Int[Tensor, " n"]) -> Columns:
    """Return edits entry by entry.

    Args:
        head: The fitted head.
        edits: Checked by ``named``.
        rows: The pool.
        place: Where in it each training picture is.

    Raises:
        TypeError, ValueError: Labels, weights or embeddings don't fit the head's.
    """
    p, device, none = len(rows), place.device, head.bias.new_empty(0, len(head.bias))
    if isinstance(edits, Tensor):
        E, u = edits.shape
        of = torch.arange(E, device=device).repeat_interleave(u)
        at, nobody = place[edits.to(device).long()].flatten(), head.W_star.new_empty(0, len(head.W_star))
        gone = torch.zeros_like(at, dtype=torch.float64)
        return Columns(at, gone, of, of[:0], none, of[:0], nobody, none, none[:, 0], E)
    moved, new = _Labels(head, "relabel"), _Labels(head, "add")
    U, of_U, V, of_V = (list[int]() for _ in range(4))
    ratio, Z, w = list[float](), list[Tensor](), list[float]()
    where, weights = (x.tolist() if len(edits) > 64 else x for x in (place, head.sample_weight))
    for e, edit in enumerate(edits):
        for i, y in edit.relabel.items():
            moved.take(y)
            V.append(i)
            of_V.append(e)
        change = [0.0] * (len(edit.delete) + len(edit.replace))
        old = [*edit.delete, *edit.replace]
        for i, weight in edit.reweight.items():
            if (times := float(weight) / float(weights[i])) != 1.0:
                old.append(i)
                change.append(times)
        for i, given in edit.replace.items():
            g, y = given if isinstance(given, tuple) else (given, head._need_rows().Y.row(i))
            Z.append(_embeddings(head, "replace", g, 1))
            w.append(float(weights[i]))
            new.take(y)
        if edit.add is not None:
            _take_added(head, edit.add, Z, new, w)
        U += [int(where[i]) for i in old] + list(range(p + len(w) - edit.coming, p + len(w)))
        ratio += change + [1.0] * edit.coming
        of_U += [e] * (len(old) + edit.coming)
    index = torch.tensor(V, dtype=torch.long, device=device)
    places, whose, of_moved = (torch.tensor(x, dtype=torch.long, device=device) for x in (U, of_U, of_V))
    embeddings = torch.cat(Z) if Z else head.W_star.new_empty(0, len(head.W_star))
    require_finite("the embeddings of an edit", embeddings)
    return Columns(
        U=places,
        ratio=torch.tensor(ratio, dtype=torch.float64, device=device),
        of_U=whose,
        V=place[index],
        change=moved.rows() - head._need_rows().Y[index].dense,
        of_V=of_moved,
        Z=embeddings,
        Y=new.rows(),
        w=torch.tensor(w, dtype=torch.float64, device=device),
        size=len(edits),
    )


def _take_added(head: "RidgeHead", add: tuple[Tensor, ...], Z: list[Tensor], labels: "_Labels", w: list[float]) -> None:
    """Take the pictures that an edit adds, their labels and their weights."""
    G, Y = add[:2]
    rows = _embeddings(head, "add", G, 2)
    require_tensor("add", Y)
    if Y.ndim not in (1, 2) or len(Y) != len(rows):
        raise ValueError(
            f"`add` must give a label or a row of targets for each of {len(rows)} embeddings; got {tuple(Y.shape)}."
        )
    if Y.ndim == 1:
        require_labels(Y)
    counts = add[2].tolist() if len(add) == 3 else [1.0] * len(rows)
    if not isinstance(counts, list) or len(counts) != len(rows):
        raise ValueError(f"`add` must give a weight for each of {len(rows)} embeddings; got {counts!r}.")
    for y in Y.tolist() if Y.ndim == 1 else Y:
        labels.take(y)
    Z.append(rows)
    w += [require_positive("add", weight) for weight in counts]


def _embeddings(head: "RidgeHead", name: str, g: Tensor, ndim: int) -> Tensor:
    """Return embeddings (a, D) of an edit, float64."""
    require_tensor(name, g)
    D = head.W_star.shape[0]
    if g.ndim != ndim or g.shape[-1] != D or 0 in g.shape:
        raise ValueError(
            f"`{name}` must give {f'({D},), one embedding' if ndim == 1 else f'(a, {D})'}; got {tuple(g.shape)}."
        )
    return g.to(head.W_star).reshape(-1, D)


class _Labels:
    """Labels as they come, classes or rows of targets; rows of targets in the end."""

    def __init__(self, head: "RidgeHead", name: str) -> None:
        self._like, self._name = head.bias, name
        self._classes, self._given = list[int](), dict[int, Tensor]()

    def take(self, y: Targets) -> None:
        C = len(self._like)
        if isinstance(y, Tensor) and y.ndim:
            require_finite(self._name, y)
            if y.shape != (C,):
                raise ValueError(f"`{self._name}` must give a class, or a row of ({C},) targets; got {tuple(y.shape)}.")
            self._given[len(self._classes)] = y
            y = 0
        what = ", a class; or a tensor, a row of targets"
        self._classes.append(y if type(y) is int and 0 <= y < C else whole_number(self._name, y, 0, C - 1, what))

    def rows(self) -> Float[Tensor, "k C"]:
        """Return them."""
        Y = self._like.new_zeros(len(self._classes), len(self._like))
        Y[torch.arange(len(Y)), torch.tensor(self._classes, dtype=torch.long)] = 1.0
        for at, row in self._given.items():
            Y[at] = row.to(Y)
        return Y
