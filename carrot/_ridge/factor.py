"""Cholesky factors: of a ridge system, or a refusal with its condition number; and what is solved by one."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.blocks import each_block
from carrot._ridge.passes import WIDE
from carrot._ridge.rows import Rows
from carrot.errors import IllConditionedError

SERIAL = 1024  # lines of a system that one thread solves about as fast as several
STRIP = 192  # columns that are whitened at once
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


@dataclass(frozen=True, eq=False)
class Whitened:
    """A pass: |C^{-1} (g - gm)|^2 of each row, with C a lower factor.

    Of a strip s of columns, z those before it:

    ::

        C_ss^{-1} (a_s - C_s: z) = [-C_ss^{-1} C_s:, C_ss^{-1}] (z, a_s),    z whitened already                    (1)

    As many multiplications as a triangular solve, in products, whose last bits don't depend on the number of threads.

    Attributes:
        g_mean: gm.
        factor: C.
        pieces: The matrices of (1), D^2 / 2 numbers; of over ``WIDE`` columns none, and rows are solved for.
    """

    g_mean: Tensor
    factor: Tensor
    pieces: list[Tensor]

    __repr__ = brief

    @classmethod
    def by(cls, factor: Tensor, g_mean: Tensor) -> "Whitened":
        """Return the pass of a factor."""
        starts = range(0, len(factor) if len(factor) <= WIDE else 0, STRIP)
        return cls(g_mean, factor, [_piece(factor[i : i + STRIP, : i + STRIP]) for i in starts])

    def __call__(self, rows: Rows, start: int) -> Tensor:
        """Return the squares; a block of rows is whitened in its place, squared and dropped."""
        squares = torch.empty_like(rows.w)
        for block, A in each_block(rows.G, self.g_mean):
            for piece in self.pieces:
                stop, width = piece.shape
                A[:, stop - width : stop] = A[:, :stop] @ piece
            white = A if self.pieces else torch.linalg.solve_triangular(self.factor, A.mT, upper=False).mT
            squares[block] = white.square_().sum(dim=1)
        return squares


@one_thread
def _piece(lines: Tensor) -> Tensor:
    before = lines.shape[1] - len(lines)
    inverse = torch.linalg.solve_triangular(lines[:, before:], torch.eye(len(lines)).to(lines), upper=False)
    return torch.cat([-(inverse @ lines[:, :before]), inverse], dim=1).mT.contiguous()
