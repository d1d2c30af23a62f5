"""In which order to look at labels: how much nearer another class is than a label's own, doubtful labels counting less.

::

    w_i   = sqrt(p_iy / max_c p_ic) >= 1e-3                p = softmax(loo_i / T): how far others believe a label   (1)
    loo'_i                                                 what the head fitted with weights w says of i without i  (2)
    m_c   = sum_{i: y = c} w_i loo'_i / W_c                W_c = sum_{i: y = c} w_i                                 (3)
    S     = sum_i w_i (loo'_i - m_y)(loo'_i - m_y)^T / sum_i w_i,   S + (tr S / C) I                                (4)
    d_ic  = |loo'_i - m_c|^2 in the metric of (4)^{-1};    of its own class m without i: (loo'_i - m_y) W/(W - w_i) (5)
    suspicion_i = (d_iy - min_{c != y} d_ic) / 2           a log ratio of likelihoods; high ones come first         (6)

Each class is a cloud of the same shape around its mean (linear discriminant analysis), in the space of exact
leave-one-out logits. A wrong label pulls on its neighbours' logits and on its class's mean; by (1) it pulls less. (6)
then asks more than the highest logit does: how unusual all of a picture's logits are for its label. Weights are held in
(2): they were taken from leave-one-out logits themselves. It orders pictures and nothing else: whether a label is
doubtful is said by the model itself (``carrot.evaluation.suspects``).

On planted wrong labels of the most similar class it comes before every peer that was tried, and is level with the best
where they are wrong uniformly: ``python -m benchmarks.suspects``, docs/benchmarks.md.

Reference: Hastie, Tibshirani and Buja, JASA 89 (1994), for discriminant analysis of the fits of a ridge regression.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._display.brief import brief
from carrot.evaluation.calibration import probabilities

LEAST = 1e-3  # weight of a label that the others don't believe at all


def belief(loo_logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"], T: float) -> Float[Tensor, " n"]:
    """Return what each picture shall count by how far the others believe its label: equation (1), in [1e-3, 1]."""
    p = probabilities(loo_logits, T)
    return (p.gather(1, labels[:, None])[:, 0] / p.amax(dim=1)).sqrt().clamp(min=LEAST)


@dataclass(frozen=True, eq=False)
class ClassClouds:
    """Where the logits of each class lie: equations (3) and (4).

    Attributes:
        means: m_c; NaN for a class without pictures.
        factor: Lower Cholesky factor of (4).
        weight: W_c.
    """

    means: Float[Tensor, "C C"]
    factor: Float[Tensor, "C C"]
    weight: Float[Tensor, " C"]

    __repr__ = brief

    @classmethod
    def of(
        cls, loo_logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"], weights: Float[Tensor, " n"]
    ) -> "ClassClouds":
        """Return them of pictures, each of which is said by a head that was fitted without it."""
        C, w = loo_logits.shape[1], weights[:, None]
        zero = torch.zeros_like(loo_logits[:1]).expand(C, C)
        W = zero[0].index_add(0, labels, weights)
        means = zero.index_add(0, labels, w * loo_logits) / W[:, None]
        apart = loo_logits - means[labels]
        S = (w * apart).mT @ apart / weights.sum()
        size = float(S.diagonal().mean())
        return cls(means, torch.linalg.cholesky(S + (size or 1.0) * torch.eye(C).to(S)), W)

    def suspicion(
        self, logits: Float[Tensor, "m C"], labels: Int[Tensor, " m"], weights: Float[Tensor, " m"] | None = None
    ) -> Float[Tensor, " m"]:
        """Return equation (6), high for suspicious labels; with one class that has pictures, 0.

        Args:
            logits: Said by a head that was not fitted on the picture.
            labels: Their labels.
            weights: Those that they counted with in the clouds; None: they aren't in there.
        """
        x = torch.linalg.solve_triangular(self.factor, logits.mT, upper=False).mT
        means = torch.linalg.solve_triangular(self.factor, self.means.mT, upper=False).mT
        apart = x - means[labels]
        own = apart.square().sum(dim=1)
        if weights is not None:
            W = self.weight[labels]
            left = W - weights
            own = torch.where(left > 1e-12 * W, own * (W / left).square(), 0.0)  # alone in its class: nothing to say
        # |x|^2 is the same for all classes, and cancels: distances are taken as they are
        squares = torch.cdist(x, means, compute_mode="donot_use_mm_for_euclid_dist").square()
        others = squares.where(self.weight > 0, torch.inf).scatter(1, labels[:, None], torch.inf).amin(dim=1)
        return torch.where(others.isinf() | own.isnan(), 0.0, (own - others) / 2)
