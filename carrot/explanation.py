"""One prediction taken apart: every region, every training picture, and each sum beside the logit that it must give.

With an intercept everything additive is told relative to the mean training picture, whose logit is the mean target ym:

::

    logit_c = ym_c + sum_i pi_i <h_i - gm / sum(pi), w_c> = ym_c + sum_i <g - gm, g_i - gm> alpha_ic

Told from the origin of the features instead, all terms would share the mean's part, which says nothing of this picture.
Without an intercept gm and ym are 0, and these are the plain formulas of ``carrot.attribution``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot import attribution as attr
from carrot.graph import RegionGraph
from carrot.head import RidgeHead
from carrot.operator import DiffusionOperator
from carrot.readout import GraphReadout
from carrot.regions import RegionSet
from carrot.rows import check_indices


@dataclass(frozen=True)
class Trace:
    """Every object of the theory for one picture, by the literal path: what is diffused can be looked at.

    Attributes:
        regions: H and P.
        graph: W, L.
        pi: Pooling weights ``exp(-tL) r``.
        H_prime: ``exp(-tL) H``.
        g: ``H'^T r``.
    """

    regions: RegionSet
    graph: RegionGraph
    pi: Float[Tensor, " N"]
    H_prime: Float[Tensor, "N D"]
    g: Float[Tensor, " D"]

    def tensors(self) -> dict[str, Tensor]:
        """Return H, P, W, L, pi, H_prime and g by name, as they are stored."""
        W, L = self.graph
        H, P = self.regions.features, self.regions.positions
        return {"H": H, "P": P, "W": W, "L": L, "pi": self.pi, "H_prime": self.H_prime, "g": self.g}


@dataclass(frozen=True)
class Explanation:
    """What made one logit. Token level: exact for tokens -> logit; the backbone does not run again.

    Attributes:
        target: Class index c.
        logits: (C,).
        prior: Logit of the mean training picture, the mean target of class c; 0 without an intercept.
        token: What each region's own token brings; with the prior sums to the logit.
        node: What each node holds after diffusion; with the prior sums to the logit.
        drop: How much the logit falls when the region alone is removed; sums to nothing.
        dual: Training pictures: what the score is made of; with the prior sums to the logit.
        label: Training pictures: whose labels; sums to the logit.
        removal: Training pictures: logit less the logit refitted without them; sums to nothing.
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

    @property
    def logit(self) -> float:
        """The logit that is explained."""
        return float(self.logits[self.target])

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


def explain(
    trace: Trace, operator: DiffusionOperator, readout: GraphReadout, head: RidgeHead, target: int | None = None
) -> Explanation:
    """Take one logit apart.

    Args:
        trace: The picture.
        operator: Diffusion, as in the trace.
        readout: Readout, as in the trace.
        head: Fitted head.
        target: Class; default: the predicted one.

    Raises:
        ValueError: ``target`` is out of range.
    """
    H, g = trace.regions.features, trace.g.double()
    logits = head.predict(g)
    c = int(logits.argmax()) if target is None else target
    if not 0 <= c < len(logits):
        raise ValueError(f"`target` must be a class 0 .. {len(logits) - 1}; got {target}.")
    tokens, nodes = _centred(trace, head), trace.H_prime.double() - head.g_mean  # the readout's r sums to 1
    return Explanation(
        target=c,
        logits=logits,
        prior=float(head.y_mean[c]),
        token=attr.region_contribution(tokens, trace.pi.double(), head.W_star)[:, c],
        node=attr.region_contribution(tokens, trace.pi.double(), head.W_star, by="node", H_prime=nodes)[:, c],
        drop=attr.remove_each_region(H, trace.graph, operator, readout, head)[:, c],
        dual=attr.training_contribution(g - head.g_mean, head.G - head.g_mean, head.alpha)[:, c],
        label=attr.label_contribution(head, g)[:, c],
        removal=attr.removal_effect(head, g)[:, c],
    )


def region_to_region(test: Trace, train: Trace, head: RidgeHead, i: int, target: int) -> Float[Tensor, "N K"]:
    """Return what each pair of a test region and a region of training picture i brings; sums to the picture's dual contribution.

    Args:
        test: The test picture.
        train: Training picture i, traced with the same settings.
        head: Fitted head.
        i: Its row in the training set.
        target: Class.
    """
    check_indices([i], len(head.G))
    alpha = head.alpha[i : i + 1]
    H_train, pi_train = _centred(train, head).unsqueeze(0), train.pi.double().unsqueeze(0)
    return attr.pair_contribution(_centred(test, head), test.pi.double(), H_train, pi_train, alpha, target=target)[:, 0]


def strongest_pairs(pairs: Float[Tensor, "N K"], k: int) -> list[tuple[int, int, float]]:
    """Return the k pairs that bring most: (test region, training region, contribution), best first."""
    values, flat = pairs.flatten().topk(min(k, pairs.numel()))
    return [(int(f) // pairs.shape[1], int(f) % pairs.shape[1], float(v)) for v, f in zip(values, flat, strict=True)]


def refit_without(head: RidgeHead, i: int) -> RidgeHead:
    """Return a head really fitted again without training picture i, at the same lam: what ``removal_effect`` claims to equal."""
    check_indices([i], len(head.G))
    stay = torch.arange(len(head.G)) != i
    return RidgeHead(head.lam, head.fit_intercept).fit(head.G[stay], head.Y[stay], head.sample_weight[stay])


def _centred(trace: Trace, head: RidgeHead) -> Float[Tensor, "N D"]:
    """Return ``h_i - gm / sum(pi)``: tokens whose pooled sum is ``g - gm``."""
    return trace.regions.features.double() - head.g_mean / trace.pi.double().sum()
