"""A backbone's blocks compiled (``torch.compile``): one graph for all of them, of inputs of one number.

Blocks are compiled where they are, and not the model around them: a model of 12 or 24 equal blocks costs one
compilation of a few seconds, and whichever way the model is asked (``forward_intermediates``, ``forward_features``, the
attention of the last block) goes through them. Weights keep their names.

Compiled kernels round in other places than torch's own: the tokens are the same up to rounding of the precision, and
not the same bits (``tests/unit/test_compiling.py``). A whole block is one graph or an error, so that nothing falls back
in silence.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from carrot.errors import BackboneError

GRAPHS = 64  # of one block's code, for as many numbers of inputs and models; torch's own limit is 8
BOUND = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}  # of the tokens' norm
# Roundings of a dozen blocks add up to 1e-7 and 1e-2 of it in float32 and bfloat16; a wrong kernel is off by 1.


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a transformer; none where a model has no list of that name."""
    blocks = getattr(model, "blocks", None)
    return list(blocks) if isinstance(blocks, nn.Sequential | nn.ModuleList) else []


def is_compiled(model: nn.Module) -> bool:
    """Return whether its blocks run compiled."""
    blocks = blocks_of(model)
    return bool(blocks) and all(getattr(block, "_compiled_call_impl", None) is not None for block in blocks)


def start_compiling(model: nn.Module) -> None:
    """Have the blocks compiled when they first run."""
    from torch._dynamo import config

    config.cache_size_limit = max(config.cache_size_limit, GRAPHS)
    for block in blocks_of(model):
        block.compile(dynamic=False, fullgraph=True)


def stop_compiling(model: nn.Module) -> None:
    """Have the blocks run as torch's own kernels have it."""
    for block in blocks_of(model):
        block._compiled_call_impl = None


def compile_checked(model: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> str:
    """Compile a model's blocks for inputs like ``x``; return why that can't be, and leave them as they were; "": it is.

    Args:
        model: The model.
        run: Its tokens of an input.
        x: As many inputs as every pass will have.
    """
    if not blocks_of(model):
        return "it has no list of transformer blocks"
    expected = run(x).double()
    try:
        start_compiling(model)
        found = run(x).double()
    except Exception as error:  # a compiler that isn't there, a kernel that it can't make: many types
        stop_compiling(model)
        return _first_line(error)
    off = float((found - expected).norm() / expected.norm())
    if not off <= BOUND[x.dtype]:
        stop_compiling(model)
        return f"compiled, it gives other tokens, by {off:.1e} of their norm"
    return ""


@contextmanager
def compiler_errors(model: nn.Module) -> Iterator[None]:
    """Say in a user's words that a graph can't be compiled: of another number of inputs than was tried, say.

    Raises:
        BackboneError: It can't.
    """
    try:
        yield
    except Exception as error:
        if is_compiled(model) and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            why = _first_line(error)
            raise BackboneError(f"The backbone can't be compiled ({why}). Run without compile.") from error
        raise


def padded(x: Tensor, size: int) -> Tensor:
    """Return inputs, and zeros below them, ``size`` in all."""
    return x if len(x) == size else torch.cat([x, x.new_zeros(size - len(x), *x.shape[1:])])


def _first_line(error: BaseException) -> str:
    said: Any = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {said[0][:200]}"
