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

Training pictures, added up or taken away, are in ``carrot.influence``; regions taken away are in ``carrot.removal``. All can be
imported from here.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from carrot.graph import RegionGraph
from carrot.influence import (
    group_removal_effect,
    label_contribution,
    relabel_effect,
    removal_effect,
    replacement_effect,
    top_training,
    training_contribution,
)
from carrot.readout import embed
from carrot.removal import (
    deletion_curve,
    insertion_curve,
    region_interactions,
    region_shapley,
    remove_each_region,
    remove_regions,
)
from carrot.utils import require_shape, widen

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
    N, D = H.shape[-2:]
    require_shape("W_star", W_star, (D, W_star.shape[-1]), "the width of H")
    if by == "token":
        require_shape("pi", pi, H.shape[:-1], "the regions of H")
        H, pi, W_star = widen(H, pi, W_star)
        return pi.unsqueeze(-1) * (H @ W_star)
    if by != "node":
        raise ValueError(f"`by` must be 'token' or 'node'; got {by!r}.")
    if H_prime is None:
        raise ValueError("`by='node'` needs `H_prime`: pass `operator.forward(H, graph.L)`.")
    require_shape("H_prime", H_prime, H.shape, "H")
    if r is not None:
        require_shape("r", r, (N,), "the regions of H")
    H_prime, W_star = widen(H_prime, W_star)
    share = torch.full_like(H_prime[..., 0], 1.0 / H_prime.shape[-2]) if r is None else r.to(H_prime)
    return share.unsqueeze(-1) * (H_prime @ W_star)


def node_energy(H: Float[Tensor, "*b N D"], pi: Float[Tensor, "*b N"]) -> Float[Tensor, "*b N"]:
    """Return ``<pi_i h_i, g>``: each region's share of ``|g|^2``, whatever the class. Sums to ``|g|^2``; may be negative."""
    require_shape("pi", pi, H.shape[:-1], "the regions of H")
    H, pi = widen(H, pi)
    return pi * (H @ embed(H, pi).unsqueeze(-1)).squeeze(-1)


def dirichlet_energy(H: Float[Tensor, "*b N D"], graph: RegionGraph) -> Float[Tensor, "*b N"]:
    """Return ``1/2 sum_j W_ij |h_i / sqrt(d_i) - h_j / sqrt(d_j)|^2``: how unlike its neighbours each node is.

    Sums to ``tr(H^T L H)``. Diffusion never raises the sum.
    """
    require_shape("H", H, (graph.W.shape[-1], H.shape[-1]), "the graph's regions")
    H, W, degree = widen(H, graph.W, graph.degree)
    F = H * degree.rsqrt().unsqueeze(-1)
    norms = F.square().sum(dim=-1)
    # 1/2 sum_j W_ij (|f_i|^2 + |f_j|^2 - 2 <f_i, f_j>)
    return 0.5 * (degree * norms + (W @ norms.unsqueeze(-1)).squeeze(-1)) - (F * (W @ F)).sum(dim=-1)


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
    n, K, D = H_train.shape
    require_shape("pi_test", pi_test, H_test.shape[:-1], "the regions of H_test")
    require_shape("pi_train", pi_train, (n, K), "the regions of H_train")
    require_shape("H_test", H_test, (D,), "the width of H_train")
    require_shape("alpha", alpha, (n, C), "the pictures of H_train")
    H_test, pi_test, H_train, pi_train, alpha = widen(H_test, pi_test, H_train, pi_train, alpha)
    test, train = pi_test.unsqueeze(-1) * H_test, pi_train.unsqueeze(-1) * H_train
    inner = torch.einsum("...jd,nkd->...jnk", test, train)
    if target is not None:
        return inner * alpha[:, target].unsqueeze(-1)
    return inner.unsqueeze(-1) * alpha.unsqueeze(-2)
