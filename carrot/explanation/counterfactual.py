"""What a page needs to answer "what if" by itself: a small table of inner products, exact for every question of it.

A logit is affine in an embedding, and an embedding is a sum of lifted regions. So is a training picture of which tiles
are hidden. With points p_0 = 0, the mean, phi of each region, and some training pictures, the model enters through

::

    F_pc = logit_c(p),      K_pq = k(p, q)        equation (4) of ``carrot.head``                                 (1)

and any embedding ``sum_r pi_r phi(h_r)`` is the point of weights pi_r, and 1 - sum pi_r for p_0. Training pictures u_j
taken out (c_j = -w_j), put in (c_j = w_j), or put in otherwise (both) change every logit by

::

    F'_pc - F_pc = K_pU (C^{-1} + K_UU)^{-1} (Y_U - F_U)        equation (3) of ``carrot.influence``              (2)

as fitting again would. The page computes (2) and the weights pi of the regions that are left (``carrot.readout``,
``carrot.operator``); nothing of it is estimated. ``page/engine.js`` is that, and is held against this package.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ambient import pinned
from carrot._display.brief import brief
from carrot._ridge.asked import are_held
from carrot._ridge.streamed import residual_at
from carrot.embedding.trace import Trace
from carrot.head import RidgeHead

LOST = 1e-7  # rounding of |g|^2 / lam; a logit lost up to four times that, and a page must hold to 1e-6
MOST = 2**26  # numbers of all points' embeddings, 512 MB ..
CARRIED = 2**17  # .. and of what a page carries, 1 MB: tiles of fewer pictures can be hidden where there would be more


@dataclass(frozen=True, eq=False)
class Counterfactuals:
    """The points of one explanation, and what of the model they need.

    Attributes:
        rows: Training pictures that a page can take out, relabel or hide tiles of, those that count most first.
        kernel: K of all points, with those of which a picture that is taken out or put in is made. The points are p_0,
            the mean, the picture's regions, ``rows``, the regions of ``traces``; the latter p_0 and the last two.
        values: F of all points.
        counts: Training pictures of each class.
        weights: w of ``rows``.
        slack: 1 - leverage of ``rows``; it and the next, as differences of what is above, would lose the digits that
            a removal needs.
        residual: Their targets less their logits.
        total: Sum of all training pictures' weights.
        class_weights: What a picture counts by its class; None where classes are balanced anew with every change, so
            that nothing short of fitting again would do.
        has_intercept: Whether the mean moves with the training pictures.
        picture: The picture.
        traces: Those of ``rows`` whose regions can be hidden, by their place among them.
    """

    rows: tuple[int, ...]
    kernel: Float[Tensor, "m q"]
    values: Float[Tensor, "m C"]
    counts: Int[Tensor, " C"]
    weights: Float[Tensor, " K"]
    slack: Float[Tensor, " K"]
    residual: Float[Tensor, "K C"]
    total: float
    class_weights: Float[Tensor, " C"] | None
    has_intercept: bool
    picture: Trace
    traces: dict[int, Trace]

    __repr__ = brief


@pinned()
def counterfactuals(
    head: RidgeHead,
    labels: Int[Tensor, " n"],
    class_weights: Float[Tensor, " C"] | None,
    picture: Trace,
    rows: Sequence[int],
    traces: Sequence[Trace | None],
) -> Counterfactuals | None:
    """Return what a page needs; None: it would be too much for one, or too inexact.

    Args:
        head: The model's.
        labels: Class of each training picture.
        class_weights: As in ``Counterfactuals``.
        picture: The picture.
        rows: Training pictures, those that count most first.
        traces: Of the first of them, whose regions may be hidden; None: tokens are gone. They are left out from the
            first on with which there would be too much.
    """
    (M, C), N, K, index = head.W_star.shape, len(picture.H), len(rows), list(rows)

    def fits(regions: int) -> bool:
        m = 2 + N + K + regions
        return m * M <= MOST and m * (1 + K + regions + C) <= CARRIED

    if not fits(0):
        return None
    G = head.G[index].double()
    if K and float(G.square().sum(dim=1).max()) * torch.finfo(G.dtype).eps > LOST * head.lam:
        return None
    kept: dict[int, Trace] = {}
    points = [torch.zeros(1, M, dtype=torch.float64), head.g_mean[None], picture.lift.features(picture.H)]
    for place, trace in enumerate(traces):
        if trace is not None and not fits(sum(len(one.H) for one in (*kept.values(), trace))):
            break
        if trace is not None:
            kept[place] = trace
    hidden = torch.cat([points[0][:0], *(trace.lift.features(trace.H) for trace in kept.values())])
    changing = torch.cat([G, hidden])
    every = torch.cat([*points, changing])
    kernel = head.kernel(every, torch.cat([points[0], changing]))
    w = head.sample_weight[index]
    kernel[2 + N : 2 + N + K, 1 : 1 + K] = (torch.eye(K, dtype=w.dtype) - head.slack_among(index)) / w
    return Counterfactuals(
        rows=tuple(index),
        kernel=kernel,
        values=head.predict(every),
        counts=torch.bincount(labels, minlength=len(head.bias)),
        weights=w,
        slack=head.slack[index],
        residual=head.residual[index] if are_held(head) else residual_at(head, torch.tensor(index)),
        total=float(head.sample_weight.sum()),
        class_weights=class_weights,
        has_intercept=head.fit_intercept,
        picture=picture,
        traces=kept,
    )
