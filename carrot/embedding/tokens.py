"""The tokens of pictures, as a frozen backbone gives them: of patches, or of tiles; rounded alike."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carrot._ambient import pinned
from carrot._display.brief import brief
from carrot._vit.base import TimmBackbone
from carrot._vit.compiling import compiler_errors, padded
from carrot.backbone import PatchOutput, TimmViTPatchBackbone
from carrot.errors import BackboneError
from carrot.tiling import Tiling


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of a batch of pictures, as a backbone gave them.

    Attributes:
        H: Patch tokens, or features of tiles.
        grid_hw: The patches' grid, row-major; None for tiles.
        class_token: The whole picture's; None if the backbone has none, or didn't look at it.
        attention: The class token's to each patch; None if the backbone doesn't give it.
        tiling: Where tiles lie; None for patches.
    """

    H: Float[Tensor, "B N D"]
    grid_hw: tuple[int, int] | None
    class_token: Float[Tensor, "B D"] | None = None
    attention: Float[Tensor, "B N"] | None = None
    tiling: Tiling | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        B, N, D = self.H.shape
        if (self.grid_hw is None) == (self.tiling is None):
            raise ValueError("`Tokens` must have either the `grid_hw` of patches or the `tiling` of tiles.")
        for name, shape in (("class_token", (B, D)), ("attention", (B, N))):
            values = getattr(self, name)
            if values is not None and values.shape != shape:
                raise ValueError(f"`{name}` must be {shape}, as `H` is {(B, N, D)}; got {tuple(values.shape)}.")

    @classmethod
    @pinned()
    def of(
        cls,
        backbone: TimmViTPatchBackbone,
        x: Float[Tensor, "B 3 img_h img_w"],
        dtype: torch.dtype = torch.float32,
        at_once: int | None = None,
        device: str | torch.device | None = "cpu",
    ) -> "Tokens":
        """Run the backbone; return its tokens, rounded to ``dtype``.

        Whatever mode it is in, it answers as in evaluation.

        Rounding is a map of each token alone: what is exact for tokens -> logit stays so, as long as all pictures are
        rounded alike. The attention stays float32. A picture alone and in a batch differ by the backbone's own
        rounding.

        Args:
            backbone: The backbone.
            x: Inputs, one a picture.
            dtype: What tokens are rounded to.
            at_once: Inputs of one pass; None: all of them.
            device: Where tokens go; None: they stay where the backbone is.

        Raises:
            BackboneError: A token is NaN or infinite, or too large for ``dtype``; the message names the place in the
                batch.
        """
        grid_hw, blocks = backbone.grid_hw, list[dict[str, Tensor]]()
        with torch.no_grad(), _evaluating(backbone), compiler_errors(backbone.bare_model):
            for block, size in _passes(backbone, x, at_once):
                patches: PatchOutput = backbone(block)
                grid_hw, prefix = patches.grid_hw, patches.prefix
                token = prefix[:, 0] if prefix is not None and backbone.has_class_token else None
                found = {"H": patches.H, "class_token": token, "attention": patches.attention}
                blocks.append({name: values[:size] for name, values in found.items() if values is not None})
        rows = {n: torch.cat([block[n] for block in blocks]) for n in blocks[0]} if len(blocks) > 1 else blocks[0]
        kept = {n: _rounded(values, torch.float32 if n == "attention" else dtype) for n, values in rows.items()}
        return cls.of_rows(kept, grid_hw).to(device)

    @classmethod
    def of_rows(
        cls, rows: Mapping[str, Tensor], grid_hw: tuple[int, int] | None, tiling: Tiling | None = None
    ) -> "Tokens":
        """Return the tokens that ``rows`` gave; of other rows, what a store adds, nothing is taken."""
        return cls(rows["H"], grid_hw, rows.get("class_token"), rows.get("attention"), tiling)

    @classmethod
    def joined(cls, batches: Sequence["Tokens"]) -> "Tokens":
        """Return the tokens of all pictures of several batches, which are of one kind."""
        rows = [batch.rows() for batch in batches]
        whole = {name: torch.cat([one[name] for one in rows]) for name in rows[0]}
        return cls.of_rows(whole, batches[0].grid_hw, batches[0].tiling)

    def rows(self) -> dict[str, Tensor]:
        """Return the tensors there are, by name: one row a picture."""
        named = {"H": self.H, "class_token": self.class_token, "attention": self.attention}
        return {name: values for name, values in named.items() if values is not None}

    def to(self, device: str | torch.device | None) -> "Tokens":
        """Return them on a device; None: where they are."""
        if device is None or torch.device(device) == self.H.device:
            return self
        return self.of_rows({name: x.to(device) for name, x in self.rows().items()}, self.grid_hw, self.tiling)

    def __getitem__(self, pictures: slice) -> "Tokens":
        return self.of_rows({name: values[pictures] for name, values in self.rows().items()}, self.grid_hw, self.tiling)


@pinned()
def encoded(
    backbone: TimmBackbone, x: Float[Tensor, "K 3 img_h img_w"], dtype: torch.dtype, at_once: int
) -> Float[Tensor, "K D"]:
    """Return one pooled feature of each input, where the backbone is, rounded: ``TimmBackbone.pooled``.

    Args:
        backbone: The backbone; it answers as in evaluation.
        x: Inputs, each a tile.
        dtype: What features are rounded to.
        at_once: Inputs of one pass.

    Raises:
        BackboneError: As ``Tokens.of``.
    """
    with torch.no_grad(), _evaluating(backbone), compiler_errors(backbone.bare_model):
        found = [backbone.pooled(block)[:size] for block, size in _passes(backbone, x, at_once)]
    return _rounded(torch.cat(found), dtype)


def _passes(backbone: TimmBackbone, x: Tensor, at_once: int | None) -> Iterator[tuple[Tensor, int]]:
    """Yield the inputs of each pass where the backbone is, and how many of them are pictures.

    A compiled backbone's passes are all of one size: the last is filled up with zeros.
    """
    size = max(1, len(x) if at_once is None else at_once)
    for block in x.split(size):
        yield padded(block.to(backbone.device, backbone.dtype), size if backbone.compiled else len(block)), len(block)


def _rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return values rounded, where they are; refuse those that aren't finite then."""
    rounded = values.to(dtype)  # on a GPU before they leave it: half of the bytes go over
    bad = (~torch.isfinite(rounded.flatten(1)).all(dim=1)).nonzero().flatten().tolist()
    if bad and bool(torch.isfinite(values[bad]).all()):
        raise BackboneError(f"{dtype} can't hold the backbone's tokens (picture {bad[0]} of the batch). Use float32.")
    if bad:
        raise BackboneError(
            f"The backbone gave NaN or infinity for picture {bad[0]} of the batch. Look at its weights."
        )
    return rounded


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
