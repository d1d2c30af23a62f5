"""One prediction taken apart: every region, every training picture, and each sum beside the logit that it must give.

With an intercept everything additive is told relative to the mean training picture, whose logit is the mean target ym:

::

    logit_c = ym_c + sum_i pi_i <phi(h_i) - gm / sum(pi), w_c> = ym_c + sum_i <g - gm, g_i - gm> alpha_ic

Told from the origin of the features instead, all terms would share the mean's part, which says nothing of this picture.
Without an intercept gm and ym are 0, and these are the plain formulas of ``carrot.attribution``. So they are under a
readout that is a sum, told from the picture of which nothing is shown, whose logit is the bias b: there a region's part
of the mean would depend on the others, and what it brings would not be what its loss takes.
"""

import math
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from carrot._ambient import pinned, pinned_class
from carrot._ridge.logit import Logit
from carrot._ridge.rows import check_indices
from carrot.attribution import pair_contribution, region_contribution
from carrot.embedding.trace import Trace
from carrot.head import RidgeHead

LEAST = 0.2  # of what a training picture brings: pairs that together carry less tell too little to be shown


@pinned_class
@dataclass(frozen=True)
class LogitParts:
    """What made one logit, or the difference of two.

    Token level: exact for tokens -> logit; the backbone does not run again.

    Attributes:
        target: Class index c.
        logits: (C,).
        prior: Logit of the mean training picture, the mean target of class c; 0 without an intercept; under a readout
            that is a sum the bias.
        token: What each region's own token brings (N regions, the global ones last); with the prior sums to the logit.
        node: What each node holds after diffusion; with the prior sums to the logit.
        drop: How much the logit falls when the region alone is dropped; sums to nothing.
        dual: Training pictures: what the score is made of; with the prior sums to the logit.
        label: Training pictures: whose labels; sums to the logit.
        removal: Training pictures: logit less the logit refitted without them; sums to nothing.
        num_global: How many of the regions, the last ones, stand for the whole picture.
        against: Class index a: everything is for the difference logit_c - logit_a, "why c and not a"; None: for
            logit_c.
        is_additive: Whether the readout is a sum: told from the empty picture, and at t = 0 ``token`` is ``drop``.
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
    is_additive: bool = False

    def __repr__(self) -> str:
        less = "" if self.against is None else f" less class {self.against}"
        seen = f"{len(self.token)} regions, {len(self.dual)} training pictures"
        return f"<LogitParts of class {self.target}{less}: logit {self.logit:+.6f}; {seen}>"

    @property
    def start(self) -> str:
        """Whose logit ``prior`` is, in words."""
        return "a picture's of which nothing is shown" if self.is_additive else "the mean training picture's"

    @property
    def logit(self) -> float:
        """The logit that is explained, or the difference of logits."""
        lead = self.logits[self.target]
        return float(lead if self.against is None else lead - self.logits[self.against])

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

    def most_missed(self, k: int) -> Int[Tensor, " k"]:
        """Return the k training pictures without which the logit would fall most (all, if there are fewer)."""
        return self.removal.topk(min(k, len(self.removal))).indices


def is_unmixed(parts: LogitParts) -> bool:
    """Return whether regions keep to themselves, t = 0: what each brings and what its node holds are then one map."""
    token, node = parts.token, parts.node
    size = max(float(values.abs().max()) for values in (token, node))
    return float((token - node).abs().max()) <= 1e-9 * size


@pinned()
def take_apart(trace: Trace, logit: Logit) -> LogitParts:
    """Take one logit apart, or the difference of two: at the cost of one class, however many there are.

    Args:
        trace: The picture.
        logit: The question: ``head.logit(target, against)``, or ``Logit.predicted(head, trace.g)``.
    """
    g, head = trace.g.double(), logit.head

    def regions(by: Literal["token", "node"]) -> Tensor:
        return region_contribution(
            trace.H,
            trace.pi,
            logit.W_star,
            by,
            operator=trace.operator,
            graph=trace.graph,
            r=trace.r,
            lift=trace.lift,
            origin=_origin(trace, head),
        )[:, 0]

    products, smoother = head.account(g)
    if trace.is_additive:
        products = head.G.to(g) @ g
    return LogitParts(
        target=logit.target,
        logits=head.predict(g),
        prior=float(logit.bias if trace.is_additive else logit.y_mean),
        token=regions("token"),
        node=regions("node"),
        drop=trace.coalitions(logit).each()[:, 0],
        dual=products * logit.alpha[:, 0],
        label=smoother * logit.Y[:, 0],
        removal=smoother * logit.residual[:, 0] / head.slack,
        num_global=trace.regions.num_global,
        against=logit.against,
        is_additive=trace.is_additive,
    )


def _origin(trace: Trace, head: RidgeHead) -> Tensor | None:
    """Return the embedding that contributions are told from; None: 0."""
    return None if trace.is_additive else head.g_mean


@pinned()
def region_to_region(test: Trace, train: Trace, logit: Logit, i: int) -> Float[Tensor, "N K"]:
    """Return what each pair of a test region and one of training picture i brings; sums to its dual contribution.

    Args:
        test: The test picture.
        train: Training picture i, traced with the same settings.
        logit: The question.
        i: Its row in the training set.

    Raises:
        ValueError: ``i`` is out of range.
    """
    check_indices([i], len(logit.head.G))
    return pair_contribution(
        test.H,
        test.pi,
        train.H.unsqueeze(0),
        train.pi.unsqueeze(0),
        logit.alpha[i : i + 1],
        target=0,
        lift=test.lift,
        origin=_origin(test, logit.head),
    )[:, 0]


@pinned()
def strongest_pairs(pairs: Float[Tensor, "N K"], k: int) -> list[tuple[int, int, float]]:
    """Return the k pairs that bring most: (test region, training region, contribution), best first."""
    values, flat = pairs.flatten().topk(min(k, pairs.numel()))
    return [(int(f) // pairs.shape[1], int(f) % pairs.shape[1], float(v)) for v, f in zip(values, flat, strict=True)]


@pinned()
def separate_pairs(found: Tensor, k: int) -> list[tuple[int, int, float]]:
    """Return up to k pairs that bring most, each region once, best first; none below 0.

    A pair is (region, training region, contribution).
    """
    left, best = found.clone(), []
    for _ in range(min(k, *found.shape)):
        region, training_region, value = strongest_pairs(left, 1)[0]
        if value <= 0:
            break
        best.append((region, training_region, value))
        left[region], left[:, training_region] = -math.inf, -math.inf
    return best


def telling_pairs(found: Float[Tensor, "N K"], k: int) -> list[tuple[int, int, float]]:
    """Return ``separate_pairs``, or none where together they carry less than ``LEAST`` of what all pairs bring."""
    best, whole = separate_pairs(found, k), float(found.sum())
    return best if whole > 0 and sum(value for _, _, value in best) >= LEAST * whole else []
