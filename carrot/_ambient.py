"""The ambient state of torch, held still: what a caller set for something else must not move an answer.

Five settings reach into code that never mentions them, and each was seen to change numbers, or to stop a computation:

- autocast: float32 products come back with 8 or 11 bits (float64 is left alone);
- inference mode: tensors that outlive it can't be changed in place, nor counted;
- the default device: ``torch.ones(n)`` on "meta" holds no numbers;
- the default type: a model is built in it, pictures are scaled in it;
- the precision of float32 products (``torch.set_float32_matmul_precision``): 8 or 11 bits again, where the processor
  has them; and of a GPU's float32 convolutions, 11 bits by torch's default, through which a picture enters a ViT.

The first three belong to a thread, the other two to the process. Those two are set only where they aren't plain
already, as long as a call lasts, and set back when the last of several threads leaves. Gradients are not touched:
whether a public function is differentiable is its own affair. Threads and the choice of kernels (deterministic or not)
stay the caller's: they move answers by rounding only.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, ExitStack, contextmanager
from functools import cached_property, wraps
from types import FunctionType
from typing import Any, TypeVar, cast

import torch

_AUTOCAST = ("cpu", "cuda", "xpu", "mps")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_PLAIN = ("ieee", "none")  # of a float32 product: as float32 has it; "none" asks for nothing else


class _Depth(threading.local):
    """How many calls of a thread are pinned, one inside the other: the outermost does the work."""

    value = 0


_depth = _Depth()


class pinned(ContextDecorator):
    """Run a block, or a function, with torch's ambient state as a fresh interpreter has it.

    Inside of another it costs nothing.
    """

    def __enter__(self) -> None:
        self._stack = ExitStack()
        if not _depth.value:
            self._stack.enter_context(_plain_state())
        _depth.value += 1

    def __exit__(self, *error: object) -> None:
        _depth.value -= 1
        self._stack.close()

    def __call__(self, function: F) -> F:
        """Return the function, pinned."""

        @wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            if _depth.value:
                return function(*args, **kwargs)
            with pinned():
                return function(*args, **kwargs)

        return cast(F, inner)


@contextmanager
def _plain_state() -> Iterator[None]:
    with ExitStack() as stack:
        for device in _AUTOCAST:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())  # the line above would switch gradients on
        stack.enter_context(_process.held())
        yield


def pinned_class(cls: type[T]) -> type[T]:
    """Pin every public method and property of a class, its constructor and ``__call__`` (a class decorator)."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name not in ("__init__", "__post_init__", "__call__"):
            continue
        if isinstance(member, FunctionType):
            setattr(cls, name, pinned()(member))
        elif isinstance(member, classmethod):
            setattr(cls, name, classmethod(pinned()(member.__func__)))
        elif isinstance(member, property) and member.fget is not None:
            setattr(cls, name, property(pinned()(member.fget), member.fset, member.fdel, member.__doc__))
        elif isinstance(member, cached_property):
            member.func = pinned()(member.func)
    return cls


class _Process:
    """What the whole process shares: the default type and the precision of float32 products.

    Counted: the last one out sets it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._found: list[tuple[Any, str, object]] = []

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            self._holders += 1
            self._pin()
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._restore()

    def _pin(self) -> None:
        if torch.get_default_dtype() != torch.float32:
            self._found.append((torch, "dtype", torch.get_default_dtype()))
            torch.set_default_dtype(torch.float32)
        if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # before torch 2.9
            if (legacy := torch.get_float32_matmul_precision()) != "highest":
                self._found.append((torch, "matmul", legacy))
                torch.set_float32_matmul_precision("highest")
            if torch.backends.cudnn.allow_tf32:
                self._found.append((torch.backends.cudnn, "allow_tf32", True))
                torch.backends.cudnn.allow_tf32 = False
            return
        mkldnn, cudnn = cast(Any, torch.backends.mkldnn), cast(Any, torch.backends.cudnn)
        for backend in (torch.backends.cuda.matmul, mkldnn.matmul, mkldnn.conv):
            if (precision := backend.fp32_precision) not in _PLAIN:
                self._found.append((backend, "fp32_precision", precision))
                backend.fp32_precision = "ieee"
        if (precision := cudnn.conv.fp32_precision) not in _PLAIN:
            both = precision == cudnn.rnn.fp32_precision  # then by torch's older flag, of both: it can be read still
            owner, name, plain = (cudnn, "allow_tf32", False) if both else (cudnn.conv, "fp32_precision", "ieee")
            self._found.append((owner, name, True if both else precision))
            setattr(owner, name, plain)

    def _restore(self) -> None:
        while self._found:
            owner, name, value = self._found.pop()
            if name == "dtype":
                torch.set_default_dtype(value)  # type: ignore[arg-type]
            elif name == "matmul":
                torch.set_float32_matmul_precision(str(value))
            else:
                setattr(owner, name, value)


_process = _Process()
