"""What made this logit: regions of the picture, training pictures, and regions of these. Exact, without gradients.

Every function is for the map *tokens -> logit*. A ViT's token has seen the whole picture: what is exact for tokens need
not be faithful to pixels (``docs/claims.md``). Additive answers sum to the logit, or to the logit less the bias where
it says so:

::

    regions, token     logit_c = b_c + sum_i pi_i <phi(h_i), w_c>                                              (1)
    regions, node      logit_c = b_c + sum_i r_i [exp(-tL) s_c]_i,   s_ic = <phi(h_i), w_c>                    (2)
    training, dual     logit_c = b_c + sum_i <g, g_i> alpha_ic                                                 (3)
    training, label    logit_c = sum_i s_i(g) y_ic                                                             (4)
    region to region   logit_c = b_c + sum_j sum_i sum_k pi_j pi_ik k(h_j, h_ik) alpha_ic                      (5)

phi is the lift of ``carrot.lift``, k its kernel; for the identity they are h and the inner product, and (2) is
r_i <h'_i, w_c>, for diffusion acts on nodes and w on features.

With an intercept, (1), (2), (3) and (5) leave b to itself, and b depends on where the origin of the features lies. All
four also hold *relative to the mean training picture*, since sum_i alpha_ic = 0 and logit_c = ym_c + <g - gm, w_c>:
with ``origin=head.g_mean``, which takes gm off embeddings and gm / sum(pi) off lifted tokens, ym_c, the mean target,
stands in for b_c. What is like the average then contributes nothing. ``carrot.explanation.parts`` does so.

Training pictures, added up or taken away, are in ``carrot.influence``; regions taken away are in ``carrot.removal``.
All can be imported from here.
"""

from typing import Literal, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned
from carrot.edits.effects import Edit, edit_effects, edit_effects_by_class, top_edits
from carrot.edits.flips import Flip, RemovalFlips, smallest_relabelling
from carrot.graph import RegionGraph
from carrot.influence import (
    edit_effect,
    group_removal_effect,
    label_contribution,
    relabel_effect,
    removal_effect,
    replacement_effect,
    supporters_and_opposers,
    top_training,
    training_contribution,
)
from carrot.lift import IDENTITY, Lift
from carrot.operator import DiffusionOperator
from carrot.removal import (
    deletion_curve,
    insertion_curve,
    region_interactions,
    region_shapley,
    remove_each_region,
    remove_regions,
)
from carrot.utils import require_shape, require_tensor, whole_number, widen

__all__ = [
    "Edit",
    "Flip",
    "RemovalFlips",
    "deletion_curve",
    "dirichlet_energy",
    "edit_effect",
    "edit_effects",
    "edit_effects_by_class",
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
    "smallest_relabelling",
    "supporters_and_opposers",
    "top_edits",
    "top_training",
    "training_contribution",
]

# ---- regions of the picture


@pinned()
def region_contribution(
    H: Float[Tensor, "*b N D"],
    pi: Float[Tensor, "*b N"],
    W_star: Float[Tensor, "M C"],
    by: Literal["token", "node"] = "token",
    *,
    operator: DiffusionOperator | None = None,
    graph: RegionGraph | None = None,
    r: Float[Tensor, "*#b N"] | None = None,
    lift: Lift = IDENTITY,
    origin: Float[Tensor, " M"] | None = None,
) -> Float[Tensor, "*b N C"]:
    """Return what each region brings to each logit; over regions it sums to the logit less the bias: (1) and (2).

    Args:
        H: Tokens.
        pi: Pooling weights, ``exp(-tL) r``.
        W_star: Primal weights of the head, on lifted embeddings.
        by: "token": what region i's own token brings, wherever diffusion carried it (the graph is held fixed).
            "node": what node i holds after diffusion, whichever token it came from.
        operator: Diffusion, for "node" only.
        graph: Its graph, for "node" only.
        r: Readout weights, for "node"; default 1/N.
        lift: The map of tokens that the head was fitted with.
        origin: Embedding from which contributions are told, ``head.g_mean`` say: they then sum to
            ``<g - origin, w_c>``. Every region takes its share of the origin off, as it weighs: pi_i / sum(pi) for
            "token", r_i / sum(r) for "node". Default: 0.

    Exactness: exact up to rounding; ``tests/claims/test_02_token_sum.py``, ``tests/claims/test_15_lifted_regions.py``.

    Raises:
        ValueError: ``by`` is unknown, "node" comes without operator and graph, or shapes disagree.
    """
    require_tensor("H", H)
    require_tensor("W_star", W_star)
    require_shape("pi", pi, H.shape[:-1], "the regions of H")
    if by not in ("token", "node"):
        raise ValueError(f"`by` must be 'token' or 'node'; got {by!r}.")
    scores = lift.scores(H, W_star)
    pi = pi.to(scores)
    share = pi  # what region i weighs in the sum of weights: the origin is taken off in these shares
    if by == "node":
        if operator is None or graph is None:
            raise ValueError("`by='node'` diffuses the regions' scores: pass `operator` and `graph`.")
        scores = operator.forward(scores, graph)
        N = H.shape[-2]
        share = torch.full_like(pi, 1.0 / N)
        if r is not None:
            require_shape("r", r, (N,), "the regions of H")
            share = r.to(scores).expand(pi.shape)
    parts = share.unsqueeze(-1) * scores
    if origin is None:
        return parts
    offset = _origin(origin, W_star.shape[0]) @ W_star.to(scores)
    _require_weight("pi" if by == "token" else "r", share)
    return parts - (share / share.sum(dim=-1, keepdim=True)).unsqueeze(-1) * offset


@pinned()
def node_energy(H: Float[Tensor, "*b N D"], pi: Float[Tensor, "*b N"], lift: Lift = IDENTITY) -> Float[Tensor, "*b N"]:
    """Return ``<pi_i phi(h_i), g>``: each region's share of ``|g|^2``, whatever the class.

    Sums to ``|g|^2``; may be negative.
    """
    require_tensor("H", H)
    require_shape("pi", pi, H.shape[:-1], "the regions of H")
    H, pi = widen(H, pi)
    return pi * (lift.kernel(H, H) @ pi.unsqueeze(-1)).squeeze(-1)


@pinned()
def dirichlet_energy(H: Float[Tensor, "*b N D"], graph: RegionGraph) -> Float[Tensor, "*b N"]:
    """Return ``1/2 sum_j W_ij |h_i / sqrt(d_i) - h_j / sqrt(d_j)|^2``: how unlike its neighbours each node is.

    Sums to ``tr(H^T L H)``. Diffusion never raises the sum.
    """
    require_tensor("H", H)
    require_shape("H", H, (graph.W.shape[-1], H.shape[-1]), "the graph's regions")
    H, W, degree = widen(H, graph.verified.W, graph.degree)
    F = H * degree.rsqrt().unsqueeze(-1)
    norms = F.square().sum(dim=-1)
    # 1/2 sum_j W_ij (|f_i|^2 + |f_j|^2 - 2 <f_i, f_j>)
    return 0.5 * (degree * norms + (W @ norms.unsqueeze(-1)).squeeze(-1)) - (F * (W @ F)).sum(dim=-1)


# ---- region to region


@pinned()
def pair_contribution(
    H_test: Float[Tensor, "*b N D"],
    pi_test: Float[Tensor, "*b N"],
    H_train: Float[Tensor, "n K D"],
    pi_train: Float[Tensor, "n K"],
    alpha: Float[Tensor, "n C"],
    target: SupportsIndex | None = None,
    *,
    lift: Lift = IDENTITY,
    origin: Float[Tensor, " M"] | None = None,
) -> Float[Tensor, "..."]:
    """Return ``pi_j pi_ik k(h_j, h_ik) alpha_ic``: test region j because of region k of training picture i.

    Summed over k: "region j because of picture i". Over j: "picture i's region k". Over k, i and j, with all training
    pictures: the logit less the bias. Pass the few pictures that matter: the result has N n K C entries.

    Args:
        H_test: Tokens of the test picture.
        pi_test: Its pooling weights.
        H_train: Tokens of n training pictures of K regions each.
        pi_train: Their pooling weights.
        alpha: Their rows of the head's dual weights.
        target: One class; default: all.
        lift: The map of tokens that the head was fitted with; k is its kernel.
        origin: Embedding from which both sides are told, ``head.g_mean`` say: pairs of picture i then sum to
            ``<g - origin, g_i - origin> alpha_ic``. Default: 0.

    Returns:
        (..., N, n, K, C), or (..., N, n, K) for one class.

    Exactness: exact up to rounding; ``tests/claims/test_12_region_to_region.py``,
        ``tests/claims/test_15_lifted_regions.py``.

    Raises:
        ValueError: ``target`` is out of range, or shapes disagree.
    """
    for name, x in (("H_test", H_test), ("H_train", H_train), ("alpha", alpha)):
        require_tensor(name, x)
    C = alpha.shape[-1]
    place = None if target is None else whole_number("target", target, 0, C - 1, ", a class")
    n, K, D = H_train.shape
    require_shape("pi_test", pi_test, H_test.shape[:-1], "the regions of H_test")
    require_shape("pi_train", pi_train, (n, K), "the regions of H_train")
    require_shape("H_test", H_test, (D,), "the width of H_train")
    require_shape("alpha", alpha, (n, C), "the pictures of H_train")
    H_test, pi_test, H_train, pi_train, alpha = widen(H_test, pi_test, H_train, pi_train, alpha)
    k = lift.kernel(H_test, H_train.flatten(0, 1).expand(*H_test.shape[:-2], n * K, D)).unflatten(-1, (n, K))
    if origin is not None:  # <phi(h_j) - o / sum pi, phi(h_ik) - o / sum pi_i>, written out
        _require_weight("pi_test", pi_test)
        _require_weight("pi_train", pi_train)
        o = _origin(origin, lift.dim(D)).unsqueeze(-1)
        total, totals = pi_test.sum(dim=-1)[..., None, None, None], pi_train.sum(dim=-1)[:, None]
        k = k - lift.scores(H_test, o).unsqueeze(-1) / totals - lift.scores(H_train, o).squeeze(-1) / total
        k = k + o.square().sum() / (total * totals)
    pairs = pi_test[..., :, None, None] * pi_train * k
    if place is not None:
        return pairs * alpha[:, place].unsqueeze(-1)
    return pairs.unsqueeze(-1) * alpha.unsqueeze(-2)


def _origin(origin: Tensor, M: int) -> Tensor:
    """Return the origin in float64; refuse one of another width."""
    require_shape("origin", origin, (M,), "the lifted tokens")
    return origin.to(torch.float64)


def _require_weight(name: str, weights: Tensor) -> None:
    """Refuse weights that sum to 0: an origin is taken off in shares of their sum."""
    if bool((weights.sum(dim=-1) == 0).any()):
        raise ValueError(
            f"`{name}` must not sum to 0 where an `origin` is given: it is taken off in shares of that sum."
        )
