"""One prediction taken apart: every region, every training picture, and each sum beside the logit that it must give.

With an intercept everything additive is told relative to the mean training picture, whose logit is the mean target ym:

::

    logit_c = ym_c + sum_i pi_i <phi(h_i) - gm / sum(pi), w_c> = ym_c + sum_i <g - gm, g_i - gm> alpha_ic

Told from the origin of the features instead, all terms would share the mean's part, which says nothing of this picture.
Without an intercept gm and ym are 0, and these are the plain formulas of ``carrot.attribution``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot.ambient import pinned, pinned_class
from carrot.attribution import pair_contribution, region_contribution, remove_each_region
from carrot.blocks import times
from carrot.graph import RegionGraph
from carrot.head import RidgeHead
from carrot.lift import IDENTITY, Lift
from carrot.operator import DiffusionOperator
from carrot.readout import Readout
from carrot.regions import RegionSet
from carrot.rows import check_indices


@pinned_class
@dataclass(frozen=True)
class Trace:
    """Every object of the theory for one picture.

    Attributes:
        regions: H and P; global regions last.
        graph: W, L.
        r: Readout weights.
        pi: Pooling weights ``exp(-tL) r``.
        H_prime: ``exp(-tL) H``, the diffused tokens, to look at.
        g: ``sum_i pi_i phi(h_i)``; without a lift it is ``H'^T r``.
        logits: (C,), where a head was there to give them.
    """

    regions: RegionSet
    graph: RegionGraph
    r: Float[Tensor, " N"]
    pi: Float[Tensor, " N"]
    H_prime: Float[Tensor, "N D"]
    g: Float[Tensor, " M"]
    logits: Float[Tensor, " C"] | None = None

    @property
    def H(self) -> Float[Tensor, "N D"]:
        """Tokens."""
        return self.regions.features

    @property
    def P(self) -> Float[Tensor, "N 2"]:
        """Centres (x, y) in [-1, 1]."""
        return self.regions.positions

    @property
    def W(self) -> Float[Tensor, "N N"]:
        """Adjacency."""
        return self.graph.W

    @property
    def L(self) -> Float[Tensor, "N N"]:
        """Normalised Laplacian."""
        return self.graph.L

    @classmethod
    def of(
        cls,
        regions: RegionSet,
        graph: RegionGraph,
        operator: DiffusionOperator,
        readout: Readout,
        lift: Lift = IDENTITY,
    ) -> "Trace":
        """Return the trace of one picture."""
        H = regions.features
        r = readout.weights(regions.num_regions, H.dtype)
        pi = operator.pull_back(r, graph)
        return cls(regions, graph, r, pi, operator.forward(H, graph), lift.embed(H, pi))

    def tensors(self) -> dict[str, Tensor]:
        """Return H, P, W, L, r, pi, H_prime and g by name, as they are stored."""
        W, L = self.graph
        H, P = self.regions.features, self.regions.positions
        return {"H": H, "P": P, "W": W, "L": L, "r": self.r, "pi": self.pi, "H_prime": self.H_prime, "g": self.g}


@pinned_class
@dataclass(frozen=True)
class LogitParts:
    """What made one logit, or the difference of two. Token level: exact for tokens -> logit; the backbone does not run again.

    Attributes:
        target: Class index c.
        logits: (C,).
        prior: Logit of the mean training picture, the mean target of class c; 0 without an intercept.
        token: What each region's own token brings (N regions, the global ones last); with the prior sums to the logit.
        node: What each node holds after diffusion; with the prior sums to the logit.
        drop: How much the logit falls when the region alone is removed; sums to nothing.
        dual: Training pictures: what the score is made of; with the prior sums to the logit.
        label: Training pictures: whose labels; sums to the logit.
        removal: Training pictures: logit less the logit refitted without them; sums to nothing.
        num_global: How many of the regions, the last ones, stand for the whole picture.
        against: Class index a: everything is for the difference logit_c - logit_a, "why c and not a"; None: for logit_c.
    """

    target: int
    logits: Float[Tensor, " C"]
    prior: float
    token: Float[Tensor, " N"]
    node: Float[Tensor, " N"]
    drop: Float[Tensor, " N"]
    dual: Float[Tensor, " n"]
    label: Float[Tensor, " n"]
    removal: Float[Tensor, " n"]
    num_global: int = 0
    against: int | None = None

    @property
    def logit(self) -> float:
        """The logit that is explained, or the difference of logits."""
        return float(_contrast(self.logits, self.target, self.against))

    @property
    def sums(self) -> dict[str, float]:
        """Return for every additive answer what it sums to, prior included: each must be the logit."""
        return {
            "regions by token": float(self.token.sum()) + self.prior,
            "regions by node": float(self.node.sum()) + self.prior,
            "training pictures, dual": float(self.dual.sum()) + self.prior,
            "training pictures, label": float(self.label.sum()),
        }

    def top_training(self, k: int) -> Int[Tensor, " k"]:
        """Return the k training pictures with the largest dual contribution (all, if there are fewer)."""
        return self.dual.topk(min(k, len(self.dual))).indices


@pinned()
def take_apart(
    trace: Trace,
    operator: DiffusionOperator,
    readout: Readout,
    head: RidgeHead,
    target: int | None = None,
    lift: Lift = IDENTITY,
    against: int | None = None,
) -> LogitParts:
    """Take one logit apart, or the difference of two.

    Args:
        trace: The picture.
        operator: Diffusion, as in the trace.
        readout: Readout, as in the trace.
        head: Fitted head.
        target: Class; default: the predicted one.
        lift: Lift, as in the trace.
        against: Another class: explain ``logit_target - logit_against``. Every part is linear in the targets, so every sum holds.

    Raises:
        ValueError: ``target`` or ``against`` is out of range, or they are the same.
    """
    H, g = trace.regions.features, trace.g.double()
    logits = head.predict(g)
    c = int(logits.argmax()) if target is None else target
    if not 0 <= c < len(logits):
        raise ValueError(f"`target` must be a class 0 .. {len(logits) - 1}; got {target}.")
    if against is not None and (not 0 <= against < len(logits) or against == c):
        raise ValueError(f"`against` must be a class 0 .. {len(logits) - 1} other than `target` = {c}; got {against}.")

    def one(per_class: Tensor) -> Tensor:  # (..., C) -> (...)
        return _contrast(per_class, c, against)

    by_token = region_contribution(H, trace.pi, head.W_star, lift=lift, origin=head.g_mean)
    by_node = region_contribution(
        H, trace.pi, head.W_star, "node", operator=operator, graph=trace.graph, r=trace.r, lift=lift, origin=head.g_mean
    )
    smoother = head.smoother(g)
    return LogitParts(
        target=c,
        logits=logits,
        prior=float(one(head.y_mean)),
        token=one(by_token),
        node=one(by_node),
        drop=one(remove_each_region(H, trace.graph, operator, readout, head, lift)),
        dual=times(head.G, head.g_mean, (g - head.g_mean).unsqueeze(-1))[:, 0] * one(head.alpha),
        label=smoother * one(head.Y),
        removal=smoother * one(head.residual) / head.slack,
        num_global=trace.regions.num_global,
        against=against,
    )


def _contrast(per_class: Tensor, target: int, against: int | None) -> Tensor:
    """Return column ``target`` of (..., C), less column ``against``."""
    return per_class[..., target] if against is None else per_class[..., target] - per_class[..., against]


@pinned()
def region_to_region(
    test: Trace,
    train: Trace,
    head: RidgeHead,
    i: int,
    target: int,
    lift: Lift = IDENTITY,
    against: int | None = None,
) -> Float[Tensor, "N K"]:
    """Return what each pair of a test region and a region of training picture i brings; sums to the picture's dual contribution.

    Args:
        test: The test picture.
        train: Training picture i, traced with the same settings.
        head: Fitted head.
        i: Its row in the training set.
        target: Class.
        lift: Lift, as in the traces.
        against: Another class, whose part is taken off.

    Raises:
        ValueError: ``i``, ``target`` or ``against`` is out of range, or the two classes are the same.
    """
    check_indices([i], len(head.G))
    for name, c in (("target", target), ("against", against)):
        if c is not None and (not 0 <= c < head.Y.shape[1] or (name == "against" and c == target)):
            raise ValueError(f"`{name}` must be a class 0 .. {head.Y.shape[1] - 1}, and the two different; got {c}.")
    return pair_contribution(
        test.regions.features,
        test.pi,
        train.regions.features.unsqueeze(0),
        train.pi.unsqueeze(0),
        _contrast(head.alpha[i : i + 1], target, against).unsqueeze(-1),
        target=0,
        lift=lift,
        origin=head.g_mean,
    )[:, 0]


@pinned()
def strongest_pairs(pairs: Float[Tensor, "N K"], k: int) -> list[tuple[int, int, float]]:
    """Return the k pairs that bring most: (test region, training region, contribution), best first."""
    values, flat = pairs.flatten().topk(min(k, pairs.numel()))
    return [(int(f) // pairs.shape[1], int(f) % pairs.shape[1], float(v)) for v, f in zip(values, flat, strict=True)]


@pinned()
def refit_without(head: RidgeHead, i: int) -> RidgeHead:
    """Return a head really fitted again without training picture i, at the same lam: what ``removal_effect`` claims to equal."""
    check_indices([i], len(head.G))
    stay = torch.arange(len(head.G)) != i
    return RidgeHead(head.lam, head.fit_intercept).fit(head.G[stay], head.Y[stay], head.sample_weight[stay])
