"""Small checks at the public door: every message says argument, rule, what came and what to do."""

import torch
from torch import Tensor

GRAPH_DTYPES = (torch.float32, torch.float64)


def require_float(name: str, tensor: Tensor) -> None:
    """Refuse a tensor that is not float32 or float64.

    Raises:
        TypeError: ``tensor`` is of another kind (half precision would lose the graph's small weights).
    """
    if tensor.dtype not in GRAPH_DTYPES:
        raise TypeError(f"`{name}` must be float32 or float64; got {tensor.dtype}. Convert it with `.float()`.")


def require_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: An entry is not finite; the message counts them.
    """
    if bool(torch.isfinite(tensor.sum())):  # NaN and infinity outlive a sum: one cheap pass in the usual case
        return
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ValueError(
            f"`{name}` must be finite; {bad} of its {tensor.numel()} entries are NaN or infinite. "
            "Look for a broken picture or an overflow in the backbone (half precision?)."
        )


def require_positive(name: str, value: float) -> float:
    """Return ``value`` as a float if it is a finite number above 0.

    Raises:
        ValueError: It is not.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0.0 < number < float("inf"):
        raise ValueError(f"`{name}` must be a finite number > 0; got {value!r}.")
    return number


def require_shape(name: str, tensor: Tensor, shape: tuple[int, ...], why: str) -> None:
    """Refuse a tensor whose last axes are not ``shape``; leading (batch) axes are free.

    Broadcasting would turn a wrong shape into wrong numbers in silence.

    Raises:
        ValueError: They are not.
    """
    if tuple(tensor.shape[tensor.ndim - len(shape) :]) != shape or tensor.ndim < len(shape):
        wanted = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"`{name}` must end in ({wanted}) to match {why}; got {tuple(tensor.shape)}.")


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in float64: the precision of the head and of every attribution."""
    return tuple(tensor.to(torch.float64) for tensor in tensors)
