"""The tokens of pictures, as a frozen backbone gives them, rounded alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carrot._ambient import pinned
from carrot.backbone import TimmViTPatchBackbone
from carrot.errors import BackboneError


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of a batch of pictures, as a backbone gave them.

    Attributes:
        H: Patch tokens.
        grid_hw: Their grid, row-major.
        class_token: None if the backbone has none.
        attention: The class token's to each patch; None if the backbone doesn't give it.
    """

    H: Float[Tensor, "B N D"]
    grid_hw: tuple[int, int]
    class_token: Float[Tensor, "B D"] | None = None
    attention: Float[Tensor, "B N"] | None = None

    def __post_init__(self) -> None:
        B, N, D = self.H.shape
        for name, shape in (("class_token", (B, D)), ("attention", (B, N))):
            values = getattr(self, name)
            if values is not None and values.shape != shape:
                raise ValueError(f"`{name}` must be {shape}, as `H` is {(B, N, D)}; got {tuple(values.shape)}.")

    @classmethod
    @pinned()
    def of(
        cls, backbone: TimmViTPatchBackbone, x: Float[Tensor, "B 3 img_h img_w"], dtype: torch.dtype = torch.float32
    ) -> "Tokens":
        """Run the backbone; return its tokens on the processor, rounded to ``dtype``.

        Whatever mode it is in, it answers as in evaluation.

        Rounding is a map of each token alone: what is exact for tokens -> logit stays so, as long as all pictures are
        rounded alike. The attention stays float32. A picture alone and in a batch differ by the backbone's own
        rounding.

        Raises:
            BackboneError: A token is NaN or infinite, or too large for ``dtype``; the message names the place in the
                batch.
        """
        with torch.no_grad(), _evaluating(backbone):
            patches = backbone(x.to(backbone.device, backbone.dtype))
        token = None if patches.prefix is None or not backbone.has_class_token else patches.prefix[:, 0]
        found = {"H": patches.H, "class_token": token, "attention": patches.attention}
        rows = {name: values for name, values in found.items() if values is not None}
        kept = {name: v.to("cpu", torch.float32 if name == "attention" else dtype) for name, v in rows.items()}
        for name, values in kept.items():
            bad = (~torch.isfinite(values.flatten(1)).all(dim=1)).nonzero().flatten().tolist()
            if bad and bool(torch.isfinite(rows[name][bad]).all()):
                raise BackboneError(
                    f"{dtype} can't hold the backbone's tokens (picture {bad[0]} of the batch). Use float32."
                )
            if bad:
                raise BackboneError(
                    f"The backbone gave NaN or infinity for picture {bad[0]} of the batch. Look at its weights."
                )
        return cls(grid_hw=patches.grid_hw, **kept)

    def rows(self) -> dict[str, Tensor]:
        """Return the tensors there are, by name: one row a picture."""
        named = {"H": self.H, "class_token": self.class_token, "attention": self.attention}
        return {name: values for name, values in named.items() if values is not None}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Keep every module in evaluation mode for a while: dropout and batch norms would answer another way each time."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
