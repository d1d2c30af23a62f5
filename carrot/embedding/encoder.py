"""Pictures to tokens, the same way every time: the frozen backbone, how to build it again, how tokens are rounded."""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._ambient import pinned_class
from carrot._vit.base import TimmBackbone
from carrot._vit.transform import Crop
from carrot.backbone import TimmViTPatchBackbone
from carrot.data import ImageDataset
from carrot.data.inputs import PictureLike, as_picture
from carrot.data.records import ids_of
from carrot.embedding.built import Built
from carrot.embedding.cache import TokenCache
from carrot.embedding.filling import pictures_state
from carrot.embedding.setting import Setting
from carrot.embedding.spec import PRECISIONS, TOY, BackboneSpec, Precision
from carrot.embedding.tokens import Tokens
from carrot.embedding.view import PASS, PatchView, TileView, View
from carrot.errors import BackboneError, StoreError
from carrot.store.shards import EmbeddingStore
from carrot.tiling import Tiling
from carrot.utils import existing_device

MAX_WORKERS = 16  # processes that decode for a GPU; on the processor threads keep the backbone busy
DTYPES = {"float16": torch.float16, "float32": torch.float32}


@pinned_class
class Encoder:
    """Pictures to rounded tokens. The backbone is built when it is first needed.

    Args:
        backbone: timm's name, "toy", or a ``TimmViTPatchBackbone``; for tiles also a ``TimmPooledBackbone``.
        checkpoint: Local weights, for a name.
        img_size: As ``TimmViTPatchBackbone`` has it, for a name.
        crop: As ``TimmViTPatchBackbone`` has it, for a name.
        device: "auto": a GPU if there is one.
        dtype: What tokens are rounded to.
        precision: What the backbone computes in, for a name: its weights are cast once. A backbone that was given, and
            a ``spec``, have their own.
        compile: Whether its blocks are compiled, where that can be: ``TimmBackbone.compile_blocks``. Tokens are then
            the same up to rounding, and are kept apart; the fingerprint, and so a model, knows nothing of it.
        fingerprint: What the backbone's must be; None: any.
        spec: All of the description, where there is more of it than the arguments above.
        rebuilds: Whether the description is known to build the backbone again; None: it is tried, for a backbone that
            was given.

    Raises:
        ValueError: An unknown ``dtype`` or ``precision``, or another one than the backbone that was given has.
        ModelError: The backbone that was given has another fingerprint.
    """

    def __init__(
        self,
        backbone: str | TimmBackbone,
        checkpoint: str | Path | None = None,
        img_size: int | tuple[int, int] | None = None,
        crop: Crop = "model",
        device: str = "auto",
        dtype: Literal["float16", "float32"] = "float16",
        precision: Precision = "float32",
        compile: bool = False,
        fingerprint: str | None = None,
        spec: BackboneSpec | None = None,
        rebuilds: bool | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f'`dtype` must be "float16" or "float32"; got {dtype!r}.')
        if precision not in PRECISIONS:
            names = ", ".join(f'"{name}"' for name in PRECISIONS)
            raise ValueError(f"`precision` must be one of {names}; got {precision!r}.")
        path = None if checkpoint is None else str(Path(checkpoint).resolve())
        if crop not in ("model", "squash", "border"):
            raise ValueError(f'`crop` must be "model", "squash" or "border"; got {crop!r}.')
        if not isinstance(backbone, str | TimmBackbone):
            raise TypeError(
                "`backbone` must be a name, a TimmViTPatchBackbone or a TimmPooledBackbone; got "
                f"{type(backbone).__name__}."
            )
        if isinstance(backbone, TimmBackbone):
            self.spec = BackboneSpec.of(backbone)
            if precision not in ("float32", self.spec.precision):
                raise ValueError(
                    f'`precision` = "{precision}", and the backbone that was given computes in {self.spec.precision}. '
                    f"Cast it, backbone.to(torch.{precision}), or leave `precision` out."
                )
        else:
            if backbone == TOY and (path is not None or img_size is not None):
                raise ValueError(
                    '`backbone` = "toy" comes with its weights and its size: leave `checkpoint` and `img_size` out.'
                )
            crop = "squash" if backbone == TOY else crop
            own = BackboneSpec(backbone, path, img_size, crop, precision=precision)
            self.spec = own if spec is None else replace(spec, checkpoint=path)
            rebuilds = rebuilds is not False
        self.device = existing_device(device)
        self.dtype, self.compile = dtype, compile
        self.tiling: Tiling | None = None
        self.tile_size, self.has_whole = 0, False
        given = backbone if isinstance(backbone, TimmBackbone) else None
        self._built = Built(self.spec, given, self.device, fingerprint, rebuilds)

    def __repr__(self) -> str:
        return f"<Encoder {self.spec.name}, {self.dtype}>"

    @staticmethod
    def require_device(name: str) -> None:
        """Refuse a device that isn't there.

        Raises:
            ValueError: It isn't.
        """
        existing_device(name)

    def of(self, setting: Setting) -> "Encoder":
        """Return the encoder that looks at pictures as a setting has it: patches, or tiles alone.

        Raises:
            ValueError: A backbone that was given has another input than the tiles are to have.
        """
        return self._looking(setting, None, same=False)

    def looking(self, setting: Setting, tile_size: int | None = None) -> "Encoder":
        """Return the same, for a fingerprint that is known to be of this setting.

        Args:
            setting: As for ``of``.
            tile_size: Of a model that was kept; default: the setting's.

        Raises:
            ValueError: As ``of``; or the toy backbone's tiles are to be of another size than its own.
        """
        return self._looking(setting, tile_size, same=True)

    def _looking(self, setting: Setting, tile_size: int | None, same: bool) -> "Encoder":
        made = copy(self)
        made.__dict__.pop("view", None)
        made.tiling = Tiling.from_spec(setting.regions) if setting.is_tiled else None
        made.has_whole = bool(setting.global_share) and setting.is_tiled
        made.tile_size = (tile_size or setting.tile_size) if setting.is_tiled else 0
        if self._built.given is not None and setting.is_tiled:
            height, width = self.backbone.input_hw
            if made.tile_size not in (0, height, width):
                raise ValueError(
                    f"`tile_size` = {made.tile_size}, and the backbone that was given takes {height} x {width} pixels. "
                    f"Build it with img_size={made.tile_size}, or set tile_size to 0."
                )
            made.tile_size = height
        elif self.spec.name == TOY and made.tile_size:
            raise ValueError(
                f'`tile_size` = {made.tile_size}, and `backbone` = "toy" comes with its size. Leave `tile_size` out.'
            )
        made._built = self._built.at(made.tile_size if setting.is_tiled else None, same)
        return made

    def passes(self, setting: Setting) -> float:
        """Return what a picture's regions cost, in passes of this backbone at its own input for patches.

        Of a vision transformer it is counted from the sizes of its products, 12 N D^2 + 2 N^2 D multiplications a block
        for N tokens; of another model, convolutions say, by the area of its input.
        """
        if not setting.is_tiled:
            return 1.0
        tiles = self.of(setting)
        (inputs,) = tiles.view.inputs
        if not isinstance(tiles.backbone, TimmViTPatchBackbone):
            return inputs * prod(tiles.backbone.input_hw) / prod(self.spec.own_input)

        def one(backbone: TimmBackbone) -> float:
            (gh, gw), D = backbone.grid_hw, backbone.embed_dim
            N = gh * gw + backbone.num_prefix_tokens
            return 12.0 * N * D * D + 2.0 * N * N * D

        return inputs * one(tiles.backbone) / one(self.of(Setting()).backbone)

    @cached_property
    def view(self) -> View:
        """How the backbone looks at a picture.

        Raises:
            ModelError, BackboneError: As ``backbone``.
        """
        backbone = self.backbone
        if self.tiling is not None:
            return TileView(backbone, DTYPES[self.dtype], self.tiling, self.has_whole)
        if not isinstance(backbone, TimmViTPatchBackbone):
            raise BackboneError(
                f"{self.spec.name} gives one feature of an input, and no patch tokens: it serves for tiles. Set "
                'regions="tiles:3,4", or give a vision transformer.'
            )
        return PatchView(backbone, DTYPES[self.dtype])

    @property
    def backbone(self) -> TimmBackbone:
        """The frozen backbone.

        Raises:
            ModelError: Its weights or its preprocessing are not those that a model was fitted with.
            BackboneError: As ``BackboneSpec.build``.
        """
        return self._built.backbone(self._compile)

    def _compile(self, backbone: TimmBackbone) -> None:
        """Compile it, if that is asked for and can be: it is told where it can't."""
        if not self.compile or backbone.compiled:
            return
        tiles = TileView(backbone, DTYPES[self.dtype], self.tiling) if self.tiling is not None else None
        if why := backbone.compile_blocks(PASS if tiles is None else tiles.parts[0].even):
            warnings.warn(f"{self.spec.name} is not compiled, and runs without: {why}.", stacklevel=2)

    @property
    def rebuilds(self) -> bool:
        """Whether ``spec`` builds this very backbone again.

        Of one that was given it is tried, once for each state of its weights.
        """
        return self._built.rebuilds(lambda: self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that tokens depend on, but their rounding."""
        return self._built.foretold or self.backbone.fingerprint()

    def to_json(self) -> dict[str, object]:
        """Return what builds it again, and what tells whether it is the same, as plain JSON."""
        return {
            **self.spec.to_json(),
            "fingerprint": self.fingerprint,
            "dtype": self.dtype,
            "rebuilds": self.rebuilds,
            "tile_size": self.tile_size,
        }

    @classmethod
    def from_json(
        cls,
        found: Mapping[str, Any],
        setting: Setting,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        backbone: TimmBackbone | None = None,
    ) -> "Encoder":
        """Return the encoder that ``to_json`` wrote, for a setting; the others are as ``Carrot.load`` has them.

        Raises:
            KeyError, TypeError, ValueError: It was not written so.
            ModelError: The backbone that was given has another fingerprint.
        """
        spec = BackboneSpec.from_json(found)
        made = cls(
            backbone or spec.name,
            checkpoint or spec.checkpoint,
            device=device,
            dtype=found["dtype"],
            fingerprint=found["fingerprint"],
            spec=spec,
            rebuilds=None if backbone is not None else found.get("rebuilds", True),
        )
        return made.looking(setting, found.get("tile_size"))

    def tokens(self, pictures: Sequence[PictureLike]) -> Tokens:
        """Return the tokens of some pictures."""
        view = self.view
        return view.encode(torch.stack([view.transform(as_picture(picture)) for picture in pictures]))

    def encode(self, x: Float[Tensor, "B *R 3 img_h img_w"]) -> Tokens:
        """Return the tokens of model inputs: of one for each picture, or of its tiles."""
        return self.view.encode(x)

    def cache(self, dataset: ImageDataset, root: Path) -> TokenCache:
        """Return the tokens of a data set, computed or found below ``root``; a killed run goes on.

        They lie in a folder of their own for each backbone, preprocessing, precision, and list of pictures with their
        contents: what was changed is computed anew, and nothing is ever mixed with what was there before.

        Raises:
            StoreError: A shard is damaged.
        """
        key, state = self._place(dataset)
        workers = min(MAX_WORKERS, (os.cpu_count() or 1) - 1) if self.device.startswith("cuda") else 0
        return TokenCache.of(dataset, self.view, root / key, workers=workers, state=state)

    def is_kept(self, dataset: ImageDataset, root: Path) -> bool:
        """Return whether ``cache`` would find all tokens of a data set below ``root``: the backbone would not run."""
        if not root.is_dir():
            return False
        key, _ = self._place(dataset)
        view = self.view
        places = [root / key / part.folder for part in view.parts] if isinstance(view, TileView) else [root / key]
        try:
            return all(not EmbeddingStore.existing(place).missing() for place in places)
        except StoreError:  # none, or a damaged one: ``cache`` says so
            return False

    def _place(self, dataset: ImageDataset) -> tuple[str, dict[str, str]]:
        """Return the name of the folder of a data set's tokens, and its ``pictures_state``."""
        state = pictures_state(dataset, self.view.probe)  # the same for every ladder: they share their scales
        ids = list(ids_of(dataset.records))
        facts = [self.fingerprint, self.dtype, ids, state, *(["compiled"] if self.view.backbone.compiled else [])]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        return key, state
