"""What made this logit: regions of the picture, training pictures, and regions of training pictures. Exact, without gradients.

Every function is for the map *tokens -> logit*. A ViT's token has seen the whole picture: what is exact for tokens need not be faithful to
pixels (``docs/claims.md``). Additive answers sum to the logit, or to the logit less the bias where it says so:

::

    regions, token     logit_c = b_c + sum_i pi_i <h_i, w_c>                                                   (1)
    regions, node      logit_c = b_c + sum_i r_i <h'_i, w_c>                                                   (2)
    training, dual     logit_c = b_c + sum_i <g, g_i> alpha_ic                                                 (3)
    training, label    logit_c = sum_i s_i(g) y_ic                                                             (4)
    region to region   logit_c = b_c + sum_j sum_i sum_k pi_j pi_ik <h_j, h_ik> alpha_ic                       (5)

With an intercept, (1), (2), (3) and (5) leave b to itself, and b depends on where the origin of the features lies. All four also hold
*relative to the mean training picture*, since sum_i alpha_ic = 0 and logit_c = ym_c + <g - gm, w_c>: take gm off embeddings and
gm / sum(pi) off tokens, and ym_c, the mean target, stands in for b_c. What is like the average then contributes nothing. Pass centred
arguments for it, as ``carrot.explanation`` does.

Counterfactual answers sum to nothing; each equals really fitting again. All are one formula: change the weight of rows U
(targets Y_U) by C, and

::

    logit'(g) - logit(g) = k(g, U) (C^{-1} + k(U, U))^{-1} (Y_U - logit(U))                                    (6)

Deleting i is C = -w_i: s_i(g) R_i / (1 - leverage_i) is lost. Relabelling i: s_i(g) (y' - y). Replacing it by an edited picture: rank two.

With an intercept, deleting or adding pictures moves the means too: k of equation (4) in ``carrot.head`` holds that exactly.
What happens when regions are removed is in ``carrot.removal``, and can be imported from here.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot.graph import RegionGraph
from carrot.head import RidgeHead
from carrot.readout import embed
from carrot.removal import (
    deletion_curve,
    insertion_curve,
    region_interactions,
    region_shapley,
    remove_each_region,
    remove_regions,
)
from carrot.rows import check_indices
from carrot.utils import widen

__all__ = [
    "deletion_curve",
    "dirichlet_energy",
    "group_removal_effect",
    "insertion_curve",
    "label_contribution",
    "node_energy",
    "pair_contribution",
    "region_contribution",
    "region_interactions",
    "region_shapley",
    "relabel_effect",
    "removal_effect",
    "remove_each_region",
    "remove_regions",
    "replacement_effect",
    "top_training",
    "training_contribution",
]

TRAINING_CHUNK = 4096  # training pictures of one block of ``top_training``

# ---- regions of the picture


def region_contribution(
    H: Float[Tensor, "*b N D"],
    pi: Float[Tensor, "*b N"],
    W_star: Float[Tensor, "D C"],
    by: Literal["token", "node"] = "token",
    H_prime: Float[Tensor, "*b N D"] | None = None,
    r: Float[Tensor, "*#b N"] | None = None,
) -> Float[Tensor, "*b N C"]:
    """Return what each region brings to each logit; over regions it sums to the logit less the bias: equations (1) and (2).

    Args:
        H: Tokens.
        pi: Pooling weights, ``exp(-tL) r``.
        W_star: Primal weights of the head.
        by: "token": what region i's own token brings, wherever diffusion carried it (the graph is held fixed).
            "node": what node i holds after diffusion, whichever token it came from.
        H_prime: Diffused tokens, for "node" only.
        r: Readout weights, for "node"; default 1/N.

    Exactness: exact up to rounding; ``tests/claims/test_02_token_sum.py``.

    Raises:
        ValueError: ``by`` is unknown, or "node" comes without ``H_prime``.
    """
    if by == "token":
        H, pi, W_star = widen(H, pi, W_star)
        return pi.unsqueeze(-1) * (H @ W_star)
    if by != "node":
        raise ValueError(f"`by` must be 'token' or 'node'; got {by!r}.")
    if H_prime is None:
        raise ValueError("`by='node'` needs `H_prime`: pass `operator.forward(H, graph.L)`.")
    H_prime, W_star = widen(H_prime, W_star)
    share = torch.full_like(H_prime[..., 0], 1.0 / H_prime.shape[-2]) if r is None else r.to(H_prime)
    return share.unsqueeze(-1) * (H_prime @ W_star)


def node_energy(H: Float[Tensor, "*b N D"], pi: Float[Tensor, "*b N"]) -> Float[Tensor, "*b N"]:
    """Return ``<pi_i h_i, g>``: each region's share of ``|g|^2``, whatever the class. Sums to ``|g|^2``; may be negative."""
    H, pi = widen(H, pi)
    return pi * (H @ embed(H, pi).unsqueeze(-1)).squeeze(-1)


def dirichlet_energy(H: Float[Tensor, "*b N D"], graph: RegionGraph) -> Float[Tensor, "*b N"]:
    """Return ``1/2 sum_j W_ij |h_i / sqrt(d_i) - h_j / sqrt(d_j)|^2``: how unlike its neighbours each node is.

    Sums to ``tr(H^T L H)``. Diffusion never raises the sum.
    """
    H, W, degree = widen(H, graph.W, graph.degree)
    F = H * degree.rsqrt().unsqueeze(-1)
    norms = F.square().sum(dim=-1)
    # 1/2 sum_j W_ij (|f_i|^2 + |f_j|^2 - 2 <f_i, f_j>)
    return 0.5 * (degree * norms + (W @ norms.unsqueeze(-1)).squeeze(-1)) - (F * (W @ F)).sum(dim=-1)


# ---- training pictures


def training_contribution(
    g_test: Float[Tensor, "*m D"], G_train: Float[Tensor, "n D"], alpha: Float[Tensor, "n C"]
) -> Float[Tensor, "*m n C"]:
    """Return ``<g, g_i> alpha_ic``: which training pictures the score is made of. Sums over i to the logit less the bias.

    Size: (m, n, C); ``top_training`` streams instead.

    Exactness: exact up to rounding; ``tests/claims/test_04_dual_sum.py``.
    """
    g_test, G_train, alpha = widen(g_test, G_train, alpha)
    return (g_test @ G_train.mT).unsqueeze(-1) * alpha


def label_contribution(head: RidgeHead, g_test: Float[Tensor, "*m D"]) -> Float[Tensor, "*m n C"]:
    """Return ``s_i(g) y_ic``: whose labels the score is made of. Sums over i to the logit, bias included."""
    return head.smoother(g_test).unsqueeze(-1) * head.Y


def removal_effect(head: RidgeHead, g_test: Float[Tensor, "*m D"]) -> Float[Tensor, "*m n C"]:
    """Return ``logit - logit fitted without i`` for every training picture i: ``s_i(g) R_ic / (1 - leverage_i)``.

    Positive: the picture pushes this logit up. lam is held; the intercept, if any, moves as in a refit.

    Exactness: exact, a real refit to rounding; ``tests/claims/test_07_removal_is_refitting.py``.
    Reference: Cook and Weisberg, Residuals and Influence in Regression (1982).
    """
    return head.smoother(g_test).unsqueeze(-1) * (head.residual / head.slack.unsqueeze(-1))


def group_removal_effect(
    head: RidgeHead, g_test: Float[Tensor, "*m D"], indices: Tensor | list[int]
) -> Float[Tensor, "*m C"]:
    """Return ``logit - logit fitted without the group``: ``s_S(g) (I - s_S(G_S))^{-1} R_S``, not the sum of single effects.

    Raises:
        ValueError: An index is out of range or comes twice, or the group is everything.
    """
    S = check_indices(indices, head.G.shape[0]).to(head.G.device)
    if S.numel() == head.G.shape[0]:
        raise ValueError("`indices` must leave at least one training picture; got all of them.")
    inside = torch.eye(S.numel(), dtype=head.G.dtype, device=head.G.device) - head.smoother(head.G[S], S)
    inside.diagonal().copy_(head.slack[S])  # the same numbers, without cancellation
    return head.smoother(g_test, S) @ torch.linalg.solve(inside, head.residual[S])


def relabel_effect(
    head: RidgeHead, g_test: Float[Tensor, "*m D"], i: int, y_new: Float[Tensor, " C"] | int
) -> Float[Tensor, "*m C"]:
    """Return ``logit fitted with picture i relabelled - logit``: ``s_i(g) (y_new - y_i)``.

    Args:
        head: Fitted head.
        g_test: Test embeddings.
        i: Training index.
        y_new: Its new class, or its new row of targets.

    Raises:
        ValueError: ``i`` or the class is out of range.
    """
    index = check_indices([i], head.G.shape[0]).to(head.G.device)
    return head.smoother(g_test, index) * (_targets(head, y_new) - head.Y[i])


def replacement_effect(
    head: RidgeHead,
    g_test: Float[Tensor, "*m D"],
    i: int,
    g_new: Float[Tensor, " D"],
    y_new: Float[Tensor, " C"] | int | None = None,
) -> Float[Tensor, "*m C"]:
    """Return ``logit fitted with picture i replaced by an edited one - logit``: equation (6), a rank-two update.

    Args:
        head: Fitted head.
        g_test: Test embeddings.
        i: Training index.
        g_new: Embedding of the edited picture (a region masked out, say); its weight is that of the old one.
        y_new: Its class or targets; default: the old ones.

    Raises:
        ValueError: ``i`` or the class is out of range.
    """
    index = check_indices([i], head.G.shape[0]).to(head.G.device)
    w, g_new = head.sample_weight[i], g_new.to(head.G).unsqueeze(0)
    y = head.Y[index] if y_new is None else _targets(head, y_new).unsqueeze(0)

    def k_old(g: Tensor) -> Tensor:  # k(g, g_i), without the cancellation of the general formula
        return head.smoother(g, index) / w

    cross = k_old(g_new)
    system = torch.cat(  # C^{-1} + k(U, U) with C = diag(-w, w)
        [
            torch.cat([-head.slack[index, None] / w, cross], -1),
            torch.cat([cross, 1.0 / w + head.kernel(g_new, g_new)], -1),
        ]
    )
    R_U = torch.cat([head.residual[index], y - head.predict(g_new)])
    return torch.cat([k_old(g_test), head.kernel(g_test, g_new)], -1) @ torch.linalg.solve(system, R_U)


def top_training(
    head: RidgeHead,
    g_test: Float[Tensor, "m D"],
    k: int,
    kind: Literal["dual", "label", "removal"] = "dual",
    target: Int[Tensor, " m"] | None = None,
    largest: bool = True,
) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """Return the k training pictures that contribute most to one logit of each test picture, best first.

    Streams over the training set: memory is O(m (k + 4096)), never (m, n, C).

    Args:
        head: Fitted head.
        g_test: Test embeddings.
        k: How many; at most n.
        kind: Which question: ``training_contribution``, ``label_contribution`` or ``removal_effect``.
        target: Class of each test picture; default: the predicted one.
        largest: False: the most negative ones first.

    Returns:
        Contributions and training indices.

    Raises:
        ValueError: ``k``, ``kind`` or ``target`` is out of range.
    """
    n, C = head.Y.shape
    if not 1 <= k <= n:
        raise ValueError(f"`k` must be in 1 .. {n}, the number of training pictures; got {k}.")
    per_picture = {
        "dual": lambda: head.alpha,
        "label": lambda: head.Y,
        "removal": lambda: head.residual / head.slack.unsqueeze(-1),
    }
    if kind not in per_picture:
        raise ValueError(f"`kind` must be one of {tuple(per_picture)}; got {kind!r}.")
    target = head.predict(g_test).argmax(dim=-1) if target is None else target.to(head.G.device)
    if target.numel() and not 0 <= int(target.min()) <= int(target.max()) < C:
        raise ValueError(f"`target` must hold classes 0 .. {C - 1}; got {target.tolist()[:10]}.")
    factor = per_picture[kind]()
    g_test = g_test.to(head.G)
    best_values = g_test.new_empty(g_test.shape[0], 0)
    best_indices = target.new_empty(g_test.shape[0], 0)
    for block in torch.arange(n, device=head.G.device).split(TRAINING_CHUNK):
        inner = g_test @ head.G[block].mT if kind == "dual" else head.smoother(g_test, block)
        values = torch.cat([best_values, inner * factor[block][:, target].mT], dim=1)
        indices = torch.cat([best_indices, block.expand(g_test.shape[0], -1)], dim=1)
        best_values, place = values.topk(min(k, values.shape[1]), dim=1, largest=largest)
        best_indices = indices.gather(1, place)
    return best_values, best_indices


# ---- region to region


def pair_contribution(
    H_test: Float[Tensor, "*b N D"],
    pi_test: Float[Tensor, "*b N"],
    H_train: Float[Tensor, "n K D"],
    pi_train: Float[Tensor, "n K"],
    alpha: Float[Tensor, "n C"],
    target: int | None = None,
) -> Float[Tensor, "..."]:
    """Return ``pi_j pi_ik <h_j, h_ik> alpha_ic``: test region j because of region k of training picture i.

    Summed over k: "region j because of picture i". Over j: "picture i's region k". Over k, i and j, with all training pictures: the logit
    less the bias. Pass the few pictures that matter: the result has N n K C entries.

    Args:
        H_test: Tokens of the test picture.
        pi_test: Its pooling weights.
        H_train: Tokens of n training pictures of K regions each.
        pi_train: Their pooling weights.
        alpha: Their rows of the head's dual weights.
        target: One class; default: all.

    Returns:
        (..., N, n, K, C), or (..., N, n, K) for one class.

    Exactness: exact up to rounding; ``tests/claims/test_12_region_to_region.py``.

    Raises:
        ValueError: ``target`` is out of range.
    """
    C = alpha.shape[-1]
    if target is not None and not 0 <= target < C:
        raise ValueError(f"`target` must be a class 0 .. {C - 1}; got {target}.")
    H_test, pi_test, H_train, pi_train, alpha = widen(H_test, pi_test, H_train, pi_train, alpha)
    test, train = pi_test.unsqueeze(-1) * H_test, pi_train.unsqueeze(-1) * H_train
    inner = torch.einsum("...jd,nkd->...jnk", test, train)
    if target is not None:
        return inner * alpha[:, target].unsqueeze(-1)
    return inner.unsqueeze(-1) * alpha.unsqueeze(-2)


def _targets(head: RidgeHead, y: Tensor | int) -> Tensor:
    """Return a row of targets from a class or a row."""
    C = head.Y.shape[1]
    if isinstance(y, int):
        if not 0 <= y < C:
            raise ValueError(f"`y_new` must be a class 0 .. {C - 1}; got {y}.")
        return torch.nn.functional.one_hot(torch.tensor(y), C).to(head.Y)
    if y.shape != (C,):
        raise ValueError(f"`y_new` must be a class, or a row of ({C},) targets; got {tuple(y.shape)}.")
    return y.to(head.Y)
