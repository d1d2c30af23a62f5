"""What adapters share: inputs as embeddings, the head as a module, and training rows that are the head's."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carrot.head import RidgeHead
from carrot.utils import require_finite

SAME = 1e-3  # float16 rows, over the largest entry


def embedded(inputs: Tensor, embed: Callable[[Tensor], Tensor] | None) -> Float[Tensor, "m D"]:
    """Return the embeddings of inputs, on the processor."""
    with torch.no_grad():
        return (inputs if embed is None else embed(inputs)).detach().cpu()


def linear(head: RidgeHead, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """Return the head as the module that other libraries ask: embeddings (m, D) to logits (m, C)."""
    D, C = head.W_star.shape
    module = nn.Linear(D, C, bias=head.fit_intercept).to(dtype)
    with torch.no_grad():
        module.weight.copy_(head.W_star.mT)
        if head.fit_intercept:
            module.bias.copy_(head.bias)
    return module.eval()


def require_rows(head: RidgeHead, n: int) -> None:
    """Refuse a training set of another number of rows.

    Raises:
        ValueError: It is.
    """
    if n != len(head.G):
        raise ValueError(f"The training set must be the head's {len(head.G)} rows; got {n}. Fit the head on it.")


def require_same(head: RidgeHead, G: Float[Tensor, "n D"]) -> None:
    """Refuse training rows that aren't the head's, in its order, to the rounding of half precision.

    Raises:
        ValueError: They aren't.
    """
    require_finite("the training set", G)
    if G.shape != head.G.shape or float((G.double() - head.G.double()).abs().max()) > SAME * float(head.G.abs().max()):
        raise ValueError("The training set must be the head's rows, in its order; these are others. Don't shuffle it.")
