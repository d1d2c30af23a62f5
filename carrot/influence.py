"""What training pictures did to a logit: whose sum it is, and what it would be without them. Exact, without gradients.

Additive: the score is made of training pictures, in two ways.

::

    dual      logit_c = b_c + sum_i <g, g_i> alpha_ic                                                          (1)
    label     logit_c = sum_i s_i(g) y_ic                                                                      (2)

Counterfactual answers sum to nothing; each equals really fitting again. All are one formula: change the weight of rows
U (targets Y_U) by C, and

::

    logit'(g) - logit(g) = k(g, U) (C^{-1} + k(U, U))^{-1} (Y_U - logit(U))                                    (3)

Deleting i is C = -w_i: s_i(g) R_i / (1 - leverage_i) is lost. Relabelling i: s_i(g) (y' - y). Replacing it by an edited
picture: rank two.

With an intercept, deleting or adding pictures moves the means too: k of equation (4) in ``carrot.head`` holds that
exactly.

Reference: Yeh et al., NeurIPS 2018 (representer points), for (1); Cook and Weisberg, Residuals and Influence in
Regression (1982), for (3).
"""

from collections.abc import Iterable, Mapping
from typing import Literal, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ambient import pinned
from carrot._ridge.best import best_training, products
from carrot._ridge.rows import check_indices, some_indices
from carrot._ridge.streamed import residual_at
from carrot._ridge.vouching import is_singular
from carrot.head import RidgeHead
from carrot.utils import require_finite, require_shape, require_tensor, whole_number, widen

WHICH = ", a training picture"


@pinned()
def training_contribution(
    g_test: Float[Tensor, "*m D"],
    G_train: Float[Tensor, "n D"],
    alpha: Float[Tensor, "n C"],
    origin: Float[Tensor, " D"] | None = None,
) -> Float[Tensor, "*m n C"]:
    """Return ``<g, g_i> alpha_ic``: the training pictures the score is made of. Sums over i to the logit less the bias.

    Size: (m, n, C); ``top_training`` streams instead.

    Args:
        g_test: Test embeddings.
        G_train: Training embeddings.
        alpha: Dual weights: the head's, or a ``Logit``'s.
        origin: Embedding from which both are told, ``head.g_mean`` say: then it sums to ``<g - origin, w_c>``.
            Default: 0.

    Exactness: exact up to rounding; ``tests/claims/test_04_dual_sum.py``.
    """
    require_tensor("G_train", G_train)
    require_tensor("alpha", alpha)
    n, D = G_train.shape
    require_shape("g_test", g_test, (D,), "the width of G_train")
    if alpha.ndim != 2 or len(alpha) != n:
        raise ValueError(f"`alpha` must be ({n}, C), a row for each row of G_train; got {tuple(alpha.shape)}.")
    g_test, alpha = widen(g_test, alpha)
    return products(G_train, g_test.reshape(-1, D), origin).reshape(*g_test.shape[:-1], n, 1) * alpha


@pinned()
def label_contribution(head: RidgeHead, g_test: Float[Tensor, "*m D"]) -> Float[Tensor, "*m n C"]:
    """Return ``s_i(g) y_ic``: whose labels the score is made of. Sums over i to the logit, bias included."""
    return head.smoother(g_test).unsqueeze(-1) * head.Y


@pinned()
def removal_effect(head: RidgeHead, g_test: Float[Tensor, "*m D"]) -> Float[Tensor, "*m n C"]:
    """Return ``logit - logit fitted without i`` for every training picture i: ``s_i(g) R_ic / (1 - leverage_i)``.

    Positive: the picture pushes this logit up. lam is held; the intercept, if any, moves as in a refit.

    Exactness: exact, a real refit to rounding; ``tests/claims/test_07_removal_is_refitting.py``.
    Reference: Cook and Weisberg, Residuals and Influence in Regression (1982).
    """
    return head.smoother(g_test).unsqueeze(-1) * (head.residual / head.slack.unsqueeze(-1))


@pinned()
def group_removal_effect(
    head: RidgeHead, g_test: Float[Tensor, "*m D"], indices: Tensor | Iterable[SupportsIndex] | SupportsIndex
) -> Float[Tensor, "*m C"]:
    """Return ``logit - logit fitted without the group``: ``s_S(g) (I - s_S(G_S))^{-1} R_S``.

    It is not the sum of single effects. A group that is nearly alone in a direction (``I - s_S`` singular to 6 digits)
    is told by a fit without it: the formula would cancel.

    Raises:
        ValueError: An index is out of range or comes twice, or the group is everything.
    """
    return -edit_effect(head, g_test, check_indices(indices, head.G.shape[0]))


@pinned()
def edit_effect(
    head: RidgeHead,
    g_test: Float[Tensor, "*m D"],
    without: Tensor | Iterable[SupportsIndex] | SupportsIndex = (),
    relabel: Mapping[int, Tensor | SupportsIndex] | None = None,
) -> Float[Tensor, "*m C"]:
    """Return ``logit fitted with some pictures relabelled and others left out - logit``.

    Relabelling is linear in the targets; leaving out sees the residuals that it makes:

    ::

        sum_i s_i(g) (y'_i - y_i) - s_S(g) (I - s_S(G_S))^{-1} (R_S - sum_i s_i(G_S) (y'_i - y_i))                 (4)

    Args:
        head: Fitted head.
        g_test: Test embeddings.
        without: Training indices S to leave out; none by default.
        relabel: New class, or new row of targets, by training index; none of S.

    Exactness: exact, a real refit to rounding;
        ``tests/claims/test_08_group_removal.py``, ``tests/claims/test_18_what_if.py``.

    Raises:
        TypeError: An index or a class is no whole number.
        ValueError: An index is out of range, comes twice or in both, or S is everything.
    """
    n = head.G.shape[0]
    if relabel is not None and not isinstance(relabel, Mapping):
        raise TypeError(f"`relabel` must be a class, or a row of targets, by training index; got {relabel!r}.")
    moved = list(relabel or {})
    U = some_indices(moved, n, "relabel").to(head.G.device)
    Y = head._need_rows().Y
    change = torch.stack([_targets(head, y) for y in (relabel or {}).values()]) - Y[U].dense if moved else Y[:0].dense
    require_tensor("g_test", g_test)
    g_test = g_test.to(head.W_star)
    effect = head.smoother(g_test, U) @ change if moved else torch.zeros_like(head.predict(g_test))
    S = some_indices(without, n, "without").to(head.G.device)
    if not S.numel():
        return effect
    if bool(torch.isin(S, U).any()):
        raise ValueError("`without` and `relabel` must not share a training picture.")
    if S.numel() == n:
        raise ValueError("Training pictures that are left out must leave at least one; got all of them.")
    inside = head.slack_among(S)
    if is_singular(inside, head.is_dual):
        other = RidgeHead.from_state(head.state(), head.lam, head.fit_intercept)
        return (other.relabel(U, Y[U].dense + change) if moved else other).without(S).predict(g_test) - head.predict(
            g_test
        )
    residual = residual_at(head, S)
    if moved:
        residual = residual - head.smoother(head.G[S], U) @ change
    return effect - head.smoother(g_test, S) @ torch.linalg.solve(inside, residual)


@pinned()
def relabel_effect(
    head: RidgeHead, g_test: Float[Tensor, "*m D"], i: SupportsIndex, y_new: Float[Tensor, " C"] | SupportsIndex
) -> Float[Tensor, "*m C"]:
    """Return ``logit fitted with picture i relabelled - logit``: ``s_i(g) (y_new - y_i)``.

    Args:
        head: Fitted head.
        g_test: Test embeddings.
        i: Training index.
        y_new: Its new class, or its new row of targets.

    Raises:
        TypeError: ``i`` or the class is no whole number.
        ValueError: It is out of range.
    """
    index = torch.tensor([whole_number("i", i, 0, head.G.shape[0] - 1, WHICH)], device=head.G.device)
    return head.smoother(g_test, index) * (_targets(head, y_new) - head._need_rows().Y.row(int(index)))


@pinned()
def replacement_effect(
    head: RidgeHead,
    g_test: Float[Tensor, "*m D"],
    i: SupportsIndex,
    g_new: Float[Tensor, " D"],
    y_new: Float[Tensor, " C"] | SupportsIndex | None = None,
) -> Float[Tensor, "*m C"]:
    """Return ``logit fitted with picture i replaced by an edited one - logit``: equation (3), a rank-two update.

    Args:
        head: Fitted head.
        g_test: Test embeddings.
        i: Training index.
        g_new: Embedding of the edited picture (a region masked out, say); its weight is that of the old one.
        y_new: Its class or targets; default: the old ones.

    Raises:
        TypeError: ``i`` or the class is no whole number.
        ValueError: It is out of range.
    """
    index = torch.tensor([whole_number("i", i, 0, head.G.shape[0] - 1, WHICH)], device=head.G.device)
    require_tensor("g_new", g_new)
    if g_new.shape != head.G.shape[1:]:
        raise ValueError(f"`g_new` must be ({head.G.shape[1]},), one embedding; got {tuple(g_new.shape)}.")
    w, g_new = head.sample_weight[index[0]], g_new.to(head.W_star).unsqueeze(0)
    y = head._need_rows().Y[index].dense if y_new is None else _targets(head, y_new).unsqueeze(0)

    def k_old(g: Tensor) -> Tensor:  # k(g, g_i), without the cancellation of the general formula
        return head.smoother(g, index) / w

    cross = k_old(g_new)
    system = torch.cat(  # C^{-1} + k(U, U) with C = diag(-w, w)
        [
            torch.cat([-head.slack[index].unsqueeze(-1) / w, cross], -1),
            torch.cat([cross, 1.0 / w + head.kernel(g_new, g_new)], -1),
        ]
    )
    R_U = torch.cat([residual_at(head, index), y - head.predict(g_new)])
    return torch.cat([k_old(g_test), head.kernel(g_test, g_new)], -1) @ torch.linalg.solve(system, R_U)


@pinned()
def top_training(
    head: RidgeHead,
    g_test: Float[Tensor, "m D"],
    k: SupportsIndex,
    kind: Literal["dual", "label", "removal"] = "dual",
    target: Int[Tensor, " m"] | SupportsIndex | None = None,
    largest: bool = True,
    origin: Float[Tensor, " D"] | None = None,
    exclude: Int[Tensor, " m"] | None = None,
    against: Int[Tensor, " m"] | SupportsIndex | None = None,
) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """Return the k training pictures that contribute most to one logit of each test picture, best first.

    Streams over the training set, on the head's engine if it has one: n > D takes two products, with D m and D q
    numbers for q different classes, and memory of m k and a block, 128 MiB at most; never m n, n C or n D numbers.
    n <= D + 1: O(m n) for "label" and "removal".

    Args:
        head: Fitted head.
        g_test: Test embeddings.
        k: How many; at most n.
        kind: Which question: ``training_contribution``, ``label_contribution`` or ``removal_effect``.
        target: Class of each test picture, or one class for all; default: the predicted one of each.
        largest: False: the most negative ones first.
        origin: As in ``training_contribution``, for "dual" only.
        exclude: (m,) training indices: one for each test picture that is not to be named, itself say.
        against: Another class of each, or one for all: of the difference of the two logits.

    Returns:
        Contributions and training indices.

    Raises:
        TypeError: ``exclude`` is not made of whole numbers.
        ValueError: ``k``, ``kind``, a class or ``exclude`` is out of range, or an origin goes with another kind.
    """
    (best,) = best_training(head, g_test, k, kind, target, against, origin, exclude, (largest,))
    return best.values, best.indices


@pinned()
def supporters_and_opposers(
    head: RidgeHead,
    g_test: Float[Tensor, "m D"],
    k: SupportsIndex,
    kind: Literal["dual", "label", "removal"] = "dual",
    target: Int[Tensor, " m"] | SupportsIndex | None = None,
    against: Int[Tensor, " m"] | SupportsIndex | None = None,
    origin: Float[Tensor, " D"] | None = None,
    exclude: Int[Tensor, " m"] | None = None,
) -> tuple[tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]], tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]]:
    """Return the k training pictures that contribute most, and the k that take off most: ``top_training`` both ways.

    One pass over the training set. Arguments and errors are those of ``top_training``.
    """
    most, least = best_training(head, g_test, k, kind, target, against, origin, exclude, (True, False))
    return (most.values, most.indices), (least.values, least.indices)


def _targets(head: RidgeHead, y: Tensor | SupportsIndex) -> Tensor:
    """Return a row of targets from a class or a row."""
    C = len(head.bias)
    if not isinstance(y, Tensor) or y.ndim == 0:
        place = whole_number("y_new", y, 0, C - 1, ", a class; or a tensor, a row of targets")
        return torch.nn.functional.one_hot(torch.tensor(place), C).to(head.bias)
    require_finite("y_new", y)
    if y.shape != (C,):
        raise ValueError(f"`y_new` must be a class, or a row of ({C},) targets; got {tuple(y.shape)}.")
    return y.to(head.bias)
