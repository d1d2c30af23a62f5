"""Probabilities from logits, by one temperature, and how far they can be trusted: arrays in, numbers out. (Being replaced.)"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def fit_temperature(logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> float:
    from scipy.optimize import minimize_scalar

    def nll(log_t: float) -> float:
        p = torch.log_softmax(logits / float(torch.tensor(log_t).exp()), dim=-1)
        return float(-p.gather(1, labels[:, None]).mean())

    return float(torch.tensor(minimize_scalar(nll, bounds=(-12, 6), method="bounded").x).exp())


def probabilities(logits: Float[Tensor, "m C"], T: float) -> Float[Tensor, "m C"]:
    return torch.softmax(logits / T, dim=-1)


def negative_log_likelihood(p: Float[Tensor, "m C"], labels: Int[Tensor, " m"]) -> float:
    return float(-p.gather(1, labels[:, None]).log().mean())


def expected_calibration_error(p: Float[Tensor, "m C"], labels: Int[Tensor, " m"], bins: int = 15) -> float:
    best, said = p.max(dim=1)
    right = (said == labels).double()
    place = (best * bins).long().clamp(max=bins - 1)
    return float(sum(abs(float((right - best)[place == b].sum())) for b in range(bins)) / len(p))
