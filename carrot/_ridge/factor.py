"""Cholesky factors: of a ridge system, or a refusal with its condition number; and what is solved by one."""

import torch
from torch import Tensor

from carrot.errors import IllConditionedError


def solve_factored(factor: Tensor, X: Tensor) -> Tensor:
    """Return (C C^T)^{-1} X: two triangular solves, where ``torch.cholesky_solve`` copies the factor first."""
    half = torch.linalg.solve_triangular(factor, X, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)


def cholesky(S: Tensor, lam: float) -> Tensor:
    """Return the lower Cholesky factor of S + lam I, or raise with the condition number. S is overwritten."""
    S.diagonal().add_(lam)
    # |S_ij|^2 <= S_ii S_jj: where the diagonal is finite, so is the rest
    if not bool(torch.isfinite(S.diagonal()).all()):
        raise IllConditionedError("The ridge system overflows float64: the embeddings are too large. Scale them down.")
    factor, info = torch.linalg.cholesky_ex(S.mT, out=(S.mT, torch.empty(0, dtype=torch.int32, device=S.device)))
    diagonal = factor.diagonal()
    # max/min of the factor's squared diagonal bounds the condition number from below
    eps = torch.finfo(S.dtype).eps
    if int(info) == 0 and float(diagonal.min() / diagonal.max()) ** 2 > eps:
        return factor
    singular = torch.linalg.svdvals(factor) if int(info) == 0 else None
    what = f"over {1 / eps:.0e}" if singular is None else f"{float(singular[0] / singular[-1]) ** 2:.1e}"
    raise IllConditionedError(
        f"The ridge system is singular in float64 at lam = {lam:.3g}: its condition number is {what}. "
        "Raise `lam`, or use lam='loo'."
    )
