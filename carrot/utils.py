"""Small checks at the public door: every message says argument, rule, what came and what to do.

One rule for each kind of argument. Whole numbers are of any kind that Python takes for an index (``int``, numpy's, a
tensor of one), real ones of any kind that is a number; a bool is neither. Tensors are tensors: an array is named, with
what to do. Floating-point tensors of two precisions meet in the wider.
"""

import operator
from numbers import Real
from typing import SupportsFloat, SupportsIndex

import numpy as np
import torch
from torch import Tensor

GRAPH_DTYPES = (torch.float32, torch.float64)


def whole_number(
    name: str, value: SupportsIndex, low: int | None = None, high: int | None = None, what: str = ""
) -> int:
    """Return ``value`` as an int, if it is a whole number of any kind from ``low`` to ``high``.

    Raises:
        TypeError: It is no whole number: a bool, a float, text.
        ValueError: It is out of range.
    """
    bounds = "" if low is None else f" >= {low}" if high is None else f" in {low} .. {high}"
    try:
        if _is_bool(value):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be a whole number{bounds}{what}; got {value!r}.") from None
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"`{name}` must be a whole number{bounds}{what}; got {number}.")
    return number


def real_number(name: str, value: SupportsFloat) -> float:
    """Return ``value`` as a float, if it is a real number of any kind, or an array or tensor of one.

    Raises:
        TypeError: It is something else: a bool, text, a tensor with axes.
    """
    is_scalar = isinstance(value, Tensor | np.ndarray) and value.ndim == 0
    if _is_bool(value) or not (isinstance(value, Real) or is_scalar):
        raise TypeError(f"`{name}` must be a number; got {value!r}.")
    return float(value)


def require_tensor(name: str, x: object) -> None:
    """Refuse what is no tensor of real numbers.

    Raises:
        TypeError: ``x`` is an array, a list, a complex tensor.
    """
    if not isinstance(x, Tensor) or x.is_complex():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"`{name}` must be a real torch.Tensor; got {kind}. Use `torch.as_tensor`.")


def require_float(name: str, tensor: Tensor) -> None:
    """Refuse a tensor that is not float32 or float64.

    Raises:
        TypeError: ``tensor`` is of another kind (half precision would lose the graph's small weights).
    """
    require_tensor(name, tensor)
    if tensor.dtype not in GRAPH_DTYPES:
        raise TypeError(f"`{name}` must be float32 or float64; got {tensor.dtype}. Convert it with `.float()`.")


def require_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        TypeError: ``tensor`` is no tensor of real numbers.
        ValueError: An entry is not finite; the message counts them.
    """
    require_tensor(name, tensor)
    if bool(torch.isfinite(tensor.sum())):  # NaN and infinity outlive a sum: one cheap pass in the usual case
        return
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ValueError(
            f"`{name}` must be finite; {bad} of its {tensor.numel()} entries are NaN or infinite. "
            "Look for a broken picture or an overflow in the backbone (half precision?)."
        )


def require_positive(name: str, value: SupportsFloat) -> float:
    """Return ``value`` as a float if it is a finite number above 0.

    Raises:
        TypeError: It is no number.
        ValueError: It is not finite, or not above 0.
    """
    number = real_number(name, value)
    if not 0.0 < number < float("inf"):
        raise ValueError(f"`{name}` must be a finite number > 0; got {value!r}.")
    return number


def require_shape(name: str, tensor: Tensor, shape: tuple[int, ...], why: str) -> None:
    """Refuse a tensor whose last axes are not ``shape``; leading (batch) axes are free.

    Broadcasting would turn a wrong shape into wrong numbers in silence.

    Raises:
        TypeError: ``tensor`` is no tensor of real numbers.
        ValueError: They are not.
    """
    require_tensor(name, tensor)
    if tuple(tensor.shape[tensor.ndim - len(shape) :]) != shape or tensor.ndim < len(shape):
        wanted = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"`{name}` must end in ({wanted}) to match {why}; got {tuple(tensor.shape)}.")


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in float64: the precision of the head and of every attribution.

    Raises:
        TypeError: One is no tensor of real numbers.
    """
    for tensor in tensors:
        require_tensor("every token and weight", tensor)
    return tuple(tensor.to(torch.float64) for tensor in tensors)


def promoted(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in the widest of their floating-point precisions."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def directions_of(X: Tensor) -> Tensor:
    """Return each row over its length, in units where no square overflows or underflows; a row of zeros stays one."""
    largest = X.abs().amax(dim=-1, keepdim=True)
    X = X / torch.where(largest > 0, largest, 1.0)
    return X / torch.linalg.vector_norm(X, dim=-1, keepdim=True).clamp(min=1.0)  # the longest entry is 1


def _is_bool(value: object) -> bool:
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) in (torch.bool, np.dtype(bool))


def float64_device(device: torch.device) -> torch.device:
    """Return where float64 is computed for a backbone's device: there, or on the processor for Apple's, which has none.

    Exactness: the sums over regions are exact to rounding of float64 alone, so that a narrower type is no way out.
    """
    return torch.device("cpu") if device.type == "mps" else device


def existing_device(name: str) -> str:
    """Return a device that is there; "auto": a GPU if there is one.

    Raises:
        ValueError: It isn't.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch's own words are many lines
        why = str(error).splitlines()[0].split(" device type")[0].rstrip(".")[:100]
        raise ValueError(f'`device` = {name!r} is not there ({why}). Use "cpu".') from error
    return name
