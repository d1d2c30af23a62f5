"""Cholesky factors: of a ridge system, or a refusal with its condition number; and what is solved by one."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from carrot.errors import IllConditionedError

SERIAL = 1024  # lines of a system that one thread solves about as fast as several
STRIP = 256  # columns that are whitened at once
P = ParamSpec("P")
Result = TypeVar("Result")
_lock = threading.Lock()


def one_thread(solve: Callable[P, Result]) -> Callable[P, Result]:
    """Have a small system solved by one thread: unlike a product's, its last bits would depend on their number.

    Of over ``SERIAL`` lines they do: to eps times the condition number of the system.
    """

    @wraps(solve)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Result:
        first, threads = cast(Tensor, args[0]), torch.get_num_threads()
        if threads == 1 or first.is_cuda or len(first) > SERIAL:
            return solve(*args, **kwargs)
        with _lock:  # the number is the process's
            torch.set_num_threads(1)
            try:
                return solve(*args, **kwargs)
            finally:
                torch.set_num_threads(threads)

    return inner


@one_thread
def spectrum(S: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, ascending, and eigenvectors of a symmetric matrix."""
    s, V = torch.linalg.eigh(S)
    return s, V


def solve_factored(factor: Tensor, X: Tensor) -> Tensor:
    """Return (C C^T)^{-1} X: two triangular solves, where ``torch.cholesky_solve`` copies the factor first."""
    half = torch.linalg.solve_triangular(factor, X, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)


solve_alike = one_thread(solve_factored)  # of a fit, whose bits go into a model


def inverse_diagonal(factor: Tensor) -> list[Tensor]:
    """Return the inverses of the squares of ``STRIP`` lines along a lower factor's diagonal: for ``whiten``."""
    return [_inverse(factor[i : i + STRIP, i : i + STRIP]) for i in range(0, len(factor), STRIP)]


@one_thread
def _inverse(lower: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(lower, torch.eye(len(lower)).to(lower), upper=False)


def whiten(A: Tensor, factor: Tensor, diagonal: list[Tensor]) -> Tensor:
    """Return C^{-1} a for each row a of A, in its place: as many multiplications as a triangular solve, in products.

    A product's last bit doesn't depend on the number of threads, a solve's does.
    """
    for i, inverse in zip(range(0, len(factor), STRIP), diagonal, strict=True):
        strip = slice(i, i + STRIP)
        A[:, strip] = A[:, strip].addmm_(A[:, :i], factor[strip, :i].mT, alpha=-1.0) @ inverse.mT
    return A


@one_thread
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
