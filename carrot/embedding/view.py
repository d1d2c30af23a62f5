"""How a backbone looks at a picture: once, for a token of each patch; or tile by tile, for one feature of each.

A view says what goes in (a picture to model inputs), what comes out (``Tokens``), and where each region lies.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from carrot._display.brief import brief
from carrot._vit.base import TimmBackbone
from carrot._vit.transform import PictureTransform
from carrot.backbone import TimmViTPatchBackbone
from carrot.embedding.kept import Layout
from carrot.embedding.tokens import Tokens, encoded
from carrot.tiling import Tiling

PASS, PASS_ON_GPU = 32, 256  # inputs that the backbone gets at once; more are slower on a processor
SHARD = 8  # pictures of a shard of tiles: what a kill loses at most ..
WAITING = 512  # .. and tiles that are decoded at once for it: at 224 pixels 300 MB, and as much for the next shard
WHOLE = Tiling(1)


@dataclass(frozen=True, eq=False)
class PatchView:
    """One pass over the whole picture: a region is a patch token.

    Attributes:
        backbone: The frozen backbone.
        dtype: What tokens are rounded to.
    """

    backbone: TimmViTPatchBackbone
    dtype: torch.dtype

    __repr__ = brief

    @property
    def transform(self) -> PictureTransform:
        """The model input of a picture; it holds no weights, so that processes that decode get none."""
        return self.backbone.transform

    even = PASS  # inputs of one pass, where passes must be alike

    @property
    def at_once(self) -> int | None:
        """Inputs of one pass; None: as many as come."""
        return self.even if self.backbone.compiled else None

    def encode(self, x: Float[Tensor, "B 3 img_h img_w"], device: str | torch.device | None = "cpu") -> Tokens:
        """Return the tokens of model inputs, on a device; None: where the backbone is."""
        return Tokens.of(self.backbone, x, self.dtype, self.at_once, device)

    def boxes(self, image_size: tuple[int, int], coarsen: int = 1) -> Float[Tensor, "N 4"]:
        """Return the box of each region in pixels of an original of (width, height)."""
        gh, gw = self.backbone.grid_hw
        return self.backbone.geometry(image_size).patch_boxes((gh // coarsen, gw // coarsen))

    def drawn(self, image_size: tuple[int, int], coarsen: int = 1) -> Float[Tensor, "N 4"]:
        """Return where a map has each region: its box."""
        return self.boxes(image_size, coarsen)

    @property
    def inputs(self) -> tuple[int, ...]:
        """How many model inputs a picture has, as leading axes of ``transform``: none, it is one."""
        return ()

    @property
    def layout(self) -> Layout:
        """How its rows make tokens."""
        return Layout(self.backbone.grid_hw)

    @property
    def probe(self) -> Callable[[Image.Image], Tensor]:
        """What stands for how pictures are decoded and prepared: ``pictures_state``."""
        return self.transform

    @property
    def blank(self) -> Tokens:
        """Tokens of one picture as they will be, all alike."""
        backbone, (gh, gw) = self.backbone, self.backbone.grid_hw
        token = torch.zeros(1, backbone.embed_dim) if backbone.has_class_token else None
        attention = torch.ones(1, gh * gw) if backbone.attention else None
        return Tokens(torch.zeros(1, gh * gw, backbone.embed_dim), (gh, gw), token, attention)


@dataclass(frozen=True, eq=False)
class TileTransform:
    """A picture to the model inputs of its tiles: cut from the original, and then resized.

    Attributes:
        one: A tile to its input.
        tiling: The tiles.
        has_whole: Whether the whole picture is one too, the last.
    """

    one: PictureTransform
    tiling: Tiling
    has_whole: bool

    __repr__ = brief

    def __call__(self, image: Image.Image) -> Float[Tensor, "R 3 img_h img_w"]:
        """Return the inputs.

        Raises:
            UnreadableImageError: The picture can't be decoded.
            ValueError: It is too small for the tiling.
        """
        tiles = self.tiling.cut(image) + (WHOLE.cut(image) if self.has_whole else [])
        return torch.stack([self.one(tile) for tile in tiles])


@dataclass(frozen=True, eq=False)
class TileView:
    """One pass for each tile: a region is the pooled feature of a box of the original, which saw nothing else.

    Attributes:
        backbone: The frozen backbone; a tile becomes its input, whatever its own crop.
        dtype: What features are rounded to.
        tiling: The tiles.
        has_whole: Whether the whole picture is a region too, a global one: the last input.
    """

    backbone: TimmBackbone
    dtype: torch.dtype
    tiling: Tiling
    has_whole: bool = False

    __repr__ = brief

    @cached_property
    def transform(self) -> "TileTransform":
        """The model inputs of a picture; it holds no weights, so that processes that decode get none."""
        one = replace(self.backbone.transform, crop_mode="squash", crop_pct=1.0)
        return TileTransform(one, self.tiling, self.has_whole)

    @property
    def even(self) -> int:
        """Inputs of one pass, where passes must be alike: those of a shard, divided evenly."""
        inputs = self.shard * self.inputs[0]
        return -(-inputs // -(-inputs // self._most))

    @property
    def _most(self) -> int:
        return PASS if self.backbone.device.type == "cpu" else PASS_ON_GPU

    @property
    def at_once(self) -> int:
        """Inputs of one pass: as many as are fast."""
        return self.even if self.backbone.compiled else self._most

    def encode(self, x: Float[Tensor, "B R 3 img_h img_w"], device: str | torch.device | None = "cpu") -> Tokens:
        """Return the features of tiles, in passes of ``at_once``, on a device; None: where the backbone is."""
        features = encoded(self.backbone, x.flatten(0, 1), self.dtype, self.at_once).unflatten(0, x.shape[:2])
        if device is not None:
            features = features.to(device)
        if not self.has_whole:
            return Tokens(features, None, tiling=self.tiling)
        return Tokens(features[:, :-1].contiguous(), None, features[:, -1].contiguous(), tiling=self.tiling)

    def boxes(self, image_size: tuple[int, int], coarsen: int = 1) -> Float[Tensor, "R 4"]:
        """Return the box of each tile in pixels of an original of (width, height): what was cut."""
        return self.tiling.boxes(image_size).double()

    def drawn(self, image_size: tuple[int, int], coarsen: int = 1) -> Float[Tensor, "R 4"]:
        """Return where a map has each tile: the middle of its box, side by side with the others of its grid."""
        return self.tiling.drawn(image_size)

    @property
    def inputs(self) -> tuple[int, ...]:
        """How many model inputs a picture has, as leading axes of ``transform``."""
        return (len(self.tiling) + self.has_whole,)

    @property
    def blank(self) -> Tokens:
        """Tokens of one picture as they will be, all alike."""
        D = self.backbone.embed_dim
        token = torch.zeros(1, D) if self.has_whole else None
        return Tokens(torch.ones(1, len(self.tiling), D), None, token, tiling=self.tiling)

    @property
    def parts(self) -> tuple["TileView", ...]:
        """Views of each scale alone, and of the whole picture, where it is seen: what is kept of each is kept once."""
        tilings = [*self.tiling.scales, *([WHOLE] if self.has_whole else [])]
        return tuple(replace(self, tiling=tiling, has_whole=False) for tiling in tilings)

    @property
    def probe(self) -> Callable[[Image.Image], Tensor]:
        """What stands for how pictures are decoded and prepared, whatever the tiling: ``pictures_state``."""
        return replace(self, tiling=WHOLE, has_whole=False).transform

    @property
    def layout(self) -> Layout:
        """How the rows of its ``parts`` make tokens."""
        return Layout(None, self.tiling, self.has_whole)

    @property
    def shard(self) -> int:
        """Pictures of a shard of its rows."""
        return max(1, min(SHARD, WAITING // self.inputs[0]))

    @property
    def folder(self) -> str:
        """Name of the folder of its rows."""
        spec = self.tiling.spec
        return spec.replace(":", "-") if len(spec) < 32 else f"boxes-{hashlib.sha256(spec.encode()).hexdigest()[:16]}"


View = PatchView | TileView
