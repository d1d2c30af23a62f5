"""Training rows as the head takes them: checked once, embeddings in the precision they came in."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ridge.blocks import each_block
from carrot._ridge.passes import found
from carrot._ridge.targets import Targets
from carrot.utils import require_finite, require_tensor, whole_number

Given = Tensor | Callable[[], Tensor]  # embeddings, or what opens them


class Rows(NamedTuple):
    """Training rows: embeddings, targets, sample weights.

    G is float32 or float64, or as a caller keeps it, and widened by blocks where it is used (``carrot._ridge.blocks``);
    w is float64. ``open``: what opens G where it lies, for who is sent it; None: it is this process's alone.
    """

    G: Float[Tensor, "n D"]
    Y: Targets
    w: Float[Tensor, " n"]
    open: Callable[[], Tensor] | None = None

    def group(self, some: slice) -> "Rows":
        """Return some that follow each other: views, which are this process's own affair."""
        return Rows(self.G[some], self.Y[some], self.w[some])

    def at(self, index: Int[Tensor, " k"]) -> "Rows":
        """Return some of them, in the order of ``index``."""
        return Rows(self.G[index], self.Y[index], self.w[index])

    def without(self, index: Int[Tensor, " k"]) -> "Rows":
        """Return the others."""
        return self.at(self.others(index))

    def others(self, index: Int[Tensor, " k"]) -> Int[Tensor, " m"]:
        """Return the places of all but some, ascending."""
        there = torch.ones(len(self.w), dtype=torch.bool, device=self.w.device)
        there[index] = False
        return there.nonzero().flatten()

    def then(self, new: "Rows") -> "Rows":
        """Return these and others after them."""
        return Rows(torch.cat([self.G, new.G]), self.Y.then(new.Y), torch.cat([self.w, new.w]))

    def alike(self, G: Tensor, Y: Tensor, sample_weight: Tensor | None) -> "Rows":
        """Return other rows, checked: as wide as these, on their device, labels among their classes.

        Raises:
            TypeError, ValueError: As ``checked_rows``, a label is not a known class, or the widths differ.
        """
        checked = checked_rows(G, Y, sample_weight, self.Y.C)
        new = Rows(checked.G.to(self.G.device), checked.Y.to(self.G.device), checked.w.to(self.G.device))
        widths = [(x.G.shape[1], x.Y.C) for x in (self, new)]
        if widths[0] != widths[1]:
            raise ValueError(f"`G` and `Y` must have {widths[0]} columns, as in `fit`; got {widths[1]}.")
        return new


def checked_rows(
    G: Tensor,
    Y: Tensor,
    sample_weight: Tensor | None,
    C: int | None = None,
    copy: bool = True,
    open: Callable[[], Tensor] | None = None,
) -> Rows:
    """Check what came in at ``fit`` or ``add``; return copies.

    Embeddings keep float32 or float64; half precision becomes float32, which holds each of its numbers.

    Args:
        G: Embeddings.
        Y: Labels, or targets.
        sample_weight: Weights, or 1.
        C: Number of classes of labels where they are known, and any may be absent; None: each occurs.
        copy: False: embeddings stay where they are, a file say, and in their precision.
        open: What opens them there, for an engine's workers too.

    Raises:
        TypeError: G is not floating point.
        ValueError: See ``RidgeHead.fit``.
    """
    for name, x in (("G", G), ("Y", Y)):
        require_tensor(name, x)
    if G.ndim != 2 or 0 in G.shape:
        raise ValueError(f"`G` must be (n, D), a row for each training picture; got {tuple(G.shape)}.")
    if not G.is_floating_point():
        raise TypeError(f"`G` must be floating point; got {G.dtype}.")
    n = G.shape[0]
    if Y.ndim not in (1, 2) or Y.shape[0] != n:
        raise ValueError(
            f"`Y` must be ({n},) labels or ({n}, C) targets to match G with n = {n} rows; got {tuple(Y.shape)}."
        )
    if Y.ndim == 2 and (Y.shape[1] == 0 or (Y.shape[1] == 1 and not Y.is_floating_point())):
        raise ValueError(
            f"`Y` must be ({n},) labels or ({n}, C) real targets; got {tuple(Y.shape)} of {Y.dtype}. Use `Y.flatten()`."
        )
    if Y.ndim == 1:
        targets = Targets(Y.detach().to(G.device, torch.int64, copy=True), classes(Y) if C is None else known(Y, C))
    w = checked_weights(sample_weight, n)
    require_finite("Y", Y)
    if copy:
        require_finite("G", G)
    if Y.ndim == 2:
        targets = Targets.of(Y.to(G.device))
    kept = torch.float64 if G.dtype == torch.float64 else torch.float32
    rows = Rows(
        G.detach().to(dtype=kept, copy=True) if copy else G.detach(),
        targets,
        w.detach().to(device=G.device, dtype=torch.float64, copy=True),
        open,
    )
    if not copy and not all(finite for _, finite in found(rows, _finite)):
        require_finite("G", G)  # says what is wrong
    return rows


def opened_rows(G: Given, Y: Tensor, sample_weight: Tensor | None, C: int | None = None, copy: bool = True) -> Rows:
    """Return ``checked_rows`` of a tensor, or of rows that a function opens and nobody copies.

    Raises:
        TypeError, ValueError: See ``RidgeHead.fit``.
    """
    if callable(G):
        return checked_rows(G(), Y, sample_weight, C, copy=False, open=G)
    return checked_rows(G, Y, sample_weight, C, copy=copy)


def _finite(rows: Rows, start: int) -> bool:
    """Return whether every embedding is a number: a pass."""
    return all(bool(torch.isfinite(X.sum())) for _, X in each_block(rows.G, None, 1))


def checked_weights(sample_weight: Tensor | None, n: int) -> Float[Tensor, " n"]:
    """Return what n rows count, 1 each by default, as they came.

    Raises:
        TypeError: They are truth values.
        ValueError: They are not n finite numbers > 0.
    """
    if sample_weight is None:
        return torch.ones(n)
    require_tensor("sample_weight", sample_weight)
    if sample_weight.dtype == torch.bool:
        raise TypeError("`sample_weight` must be numbers > 0; got torch.bool. Leave pictures out of G and Y instead.")
    if sample_weight.shape != (n,) or not bool((sample_weight > 0).all()):
        raise ValueError(
            f"`sample_weight` must be ({n},) numbers > 0; leave a picture out instead of giving it weight 0."
        )
    require_finite("sample_weight", sample_weight)
    return sample_weight


def classes(labels: Int[Tensor, " n"]) -> int:
    """Return how many classes labels are of.

    Raises:
        TypeError: Labels are not integers.
        ValueError: They are not 0 .. C - 1 with C >= 2 and every class present.
    """
    require_labels(labels)
    present = torch.unique(labels).tolist()
    if present[0] < 0:
        raise ValueError(f"`Y` must hold labels >= 0; got {present[0]}. Leave unlabelled pictures out of training.")
    if len(present) < 2:
        raise ValueError(
            f"`Y` must hold at least two classes; got only class {present[0]}. There is nothing to tell apart."
        )
    missing = present[-1] + 1 - len(present)
    if missing:
        first = next(i for i, label in enumerate(present) if i != label)
        raise ValueError(
            f"`Y` must hold every class 0 .. {present[-1]}; no training picture has label {first} ({missing} such "
            "classes). Renumber the labels, or pass an (n, C) matrix of targets."
        )
    return int(present[-1]) + 1


def known(Y: Int[Tensor, " n"], C: int) -> int:
    """Return C if labels are of C known classes, any of which may be absent.

    Raises:
        TypeError: They are no integers.
        ValueError: A label is not a known class.
    """
    require_labels(Y)
    if Y.numel() and not 0 <= int(Y.min()) <= int(Y.max()) < C:
        raise ValueError(
            f"`Y` must hold known classes 0 .. {C - 1}; got {int(Y.min())} .. {int(Y.max())}. Refit to add a class."
        )
    return C


def require_labels(labels: Tensor) -> None:
    """Refuse a vector of labels that are no integers.

    Raises:
        TypeError: They are bools or floats.
    """
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(
            f"`Y` must be integer labels 0 .. C - 1, or a matrix (n, C) of targets; got (n,) of {labels.dtype}. Use "
            "`Y.long()`."
        )


def check_indices(
    indices: Tensor | Iterable[SupportsIndex] | SupportsIndex, n: int, name: str = "indices"
) -> Int[Tensor, " k"]:
    """Return training indices as a tensor: of a tensor or array of whole numbers, of any iterable of them, or of one.

    Raises:
        TypeError: Something in it is no whole number: a bool, a float.
        ValueError: There is none, one is outside 0 .. n - 1, or one comes twice.
    """
    if isinstance(indices, Tensor | np.ndarray):
        given = torch.as_tensor(indices).flatten()
        if given.numel() and (given.dtype == torch.bool or given.is_floating_point() or given.is_complex()):
            raise TypeError(f"`{name}` must be whole numbers; got {given.dtype}. Use `mask.nonzero().flatten()`.")
        index = given.long()
    else:
        items = indices if isinstance(indices, Iterable) else [indices]
        index = torch.tensor([whole_number(name, i) for i in items], dtype=torch.long)
    if index.numel() == 0 or int(index.min()) < 0 or int(index.max()) >= n:
        raise ValueError(f"`{name}` must be training indices in 0 .. {n - 1}; got {index.tolist()[:10]}.")
    if index.unique().numel() != index.numel():
        raise ValueError(f"`{name}` must name each training picture once; some come twice.")
    return index


def some_indices(
    indices: Tensor | Iterable[SupportsIndex] | SupportsIndex, n: int, name: str = "indices"
) -> Int[Tensor, " k"]:
    """Return ``check_indices``, or none where there is none.

    Raises:
        TypeError, ValueError: As ``check_indices``.
    """
    if not isinstance(indices, Tensor | np.ndarray):
        indices = list(indices) if isinstance(indices, Iterable) else [indices]
    count = len(indices) if isinstance(indices, list) else torch.as_tensor(indices).numel()
    return check_indices(indices, n, name) if count else torch.empty(0, dtype=torch.long)


def indices_of_each(indices: Tensor, m: int, n: int, name: str = "indices") -> Int[Tensor, " m"]:
    """Return a training index for each of m test pictures; one may come twice.

    Raises:
        TypeError: It is no tensor of whole numbers.
        ValueError: It is of another shape, or one is outside 0 .. n - 1.
    """
    require_tensor(name, indices)
    if indices.dtype == torch.bool or indices.is_floating_point():
        raise TypeError(f"`{name}` must be whole numbers, training indices; got {indices.dtype}.")
    if indices.shape != (m,):
        raise ValueError(f"`{name}` must be ({m},), one for each test picture; got {tuple(indices.shape)}.")
    if m and not 0 <= int(indices.min()) <= int(indices.max()) < n:
        raise ValueError(f"`{name}` must be training indices in 0 .. {n - 1}; got {indices.tolist()[:10]}.")
    return indices.long()
