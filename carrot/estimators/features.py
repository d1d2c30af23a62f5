"""Pictures as embeddings, for scikit-learn's pipelines: the frozen backbone and every stage up to g; no head."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from carrot._ambient import pinned
from carrot._vit.base import TimmBackbone
from carrot._vit.transform import Crop
from carrot.data.frames import is_frame
from carrot.data.given import pictures_of
from carrot.data.inputs import PictureLike
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import AXES, Setting
from carrot.embedding.spec import DEFAULT_MODEL, Precision
from carrot.estimators.conventions import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    check_is_fitted,
)
from carrot.estimators.tokens import PictureTokens
from carrot.tiling import Tiling

BACKBONES = 2  # that are held for the estimators of a process, so that a clone doesn't build its own


class CarrotFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pictures to embeddings (n, M), float64, as ``Carrot`` makes them: with the same settings the same numbers.

    Nothing is learnt: the backbone is frozen, and a picture's embedding depends on no other picture. ``fit`` checks the
    settings against the backbone. A pipeline of it and ``RidgeHeadClassifier("loo")`` is ``Carrot``'s classifier.

    The backbone and how it is built, and every setting of the embedding, are arguments as ``Carrot`` has them.

    Args:
        tokens: Folder where the backbone's tokens of each picture are kept, by its content: a search over settings of
            the head, the lift or the readout, in whatever folds and processes, runs the backbone once for a picture.
            None: nothing is kept, and each call runs it.

    Attributes (after ``fit``):
        setting_: All that an embedding depends on, beside the backbone.
        n_features_out_: M.

    Exactness: exact; ``tests/unit/test_carrot_features.py``.
    """

    def __init__(
        self,
        backbone: str | TimmBackbone = DEFAULT_MODEL,
        *,
        sigma_spatial: float = 0.5,
        sigma_feature: float = 1.0,
        t: float = 0.0,
        lift: str = "quadratic",
        tau: float | None = None,
        regions: str | Tiling = "patches",
        power: float | None = None,
        readout: Literal["mean", "sum"] = "mean",
        tile_size: int = 0,
        global_share: float = 0.0,
        coarsen: int = 1,
        checkpoint: str | Path | None = None,
        img_size: int | tuple[int, int] | None = None,
        crop: Crop = "model",
        device: str = "auto",
        dtype: Literal["float16", "float32"] = "float16",
        precision: Precision = "float32",
        compile: bool = False,
        tokens: str | Path | None = None,
    ) -> None:
        self.backbone = backbone
        self.sigma_spatial = sigma_spatial
        self.sigma_feature = sigma_feature
        self.t = t
        self.lift = lift
        self.tau = tau
        self.regions = regions
        self.power = power
        self.readout = readout
        self.tile_size = tile_size
        self.global_share = global_share
        self.coarsen = coarsen
        self.checkpoint = checkpoint
        self.img_size = img_size
        self.crop = crop
        self.device = device
        self.dtype = dtype
        self.precision = precision
        self.compile = compile
        self.tokens = tokens

    @pinned()
    def fit(self, X: Any, y: Any = None) -> "CarrotFeatures":
        """Check the settings against each other and the backbone.

        Args:
            X: Pictures, as ``Carrot.predict`` takes them: paths, arrays, PIL pictures; a data frame's column.
            y: Not looked at.

        Raises:
            ValueError: There is no picture, or a setting is out of range.
            BackboneError: The backbone doesn't give what is asked for.
        """
        if not len(_pictures(X)):
            raise ValueError("`X` must hold at least one picture; got none.")
        given = {name: getattr(self, name) for name in AXES}
        asked = Setting.asked(given, False)
        if self.tau is None and not asked.is_tiled:  # only then the backbone is looked at
            asked = Setting.asked(given, bool(self._encoder().backbone.attention))
        encoder = self._encoder().of(asked)
        pooling = Pooling(asked).require(encoder.view)
        self.setting_ = asked
        self.n_features_out_ = pooling.lift.dim(encoder.backbone.embed_dim)
        return self

    @pinned()
    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the embeddings of pictures, (n, M).

        Raises:
            UnreadableImageError: A picture can't be read; the message names it.
            StoreError: Kept tokens are damaged.
        """
        check_is_fitted(self)
        pictures = _pictures(X)
        kept = PictureTokens(self._encoder().of(self.setting_), None if self.tokens is None else Path(self.tokens))
        pooling = Pooling(self.setting_)
        G = torch.empty(len(pictures), self.n_features_out_, dtype=torch.float64)
        for rows, tokens in kept.batches(pictures):
            G[rows] = pooling.g(tokens)
        return G.numpy()

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, False
        tags.input_tags.three_d_array, tags.input_tags.string = True, True
        return tags

    def _encoder(self) -> Encoder:
        how = (self.img_size, self.crop, self.device, self.dtype, self.precision, self.compile)
        if isinstance(self.backbone, TimmBackbone):
            return Encoder(self.backbone, self.checkpoint, *how)
        if self.checkpoint is None:
            return _shared(self.backbone, None, None, *how)
        path = Path(self.checkpoint).resolve()
        return _shared(self.backbone, path, path.stat().st_mtime_ns if path.exists() else None, *how)


def _pictures(X: Any) -> Sequence[PictureLike]:
    """Return the pictures of what came; of a data frame with one column that column, whatever its name."""
    if is_frame(X) and X.shape[1] == 1:
        return list(X[X.columns[0]])
    return pictures_of(X)


@lru_cache(maxsize=BACKBONES)
def _shared(backbone: str, checkpoint: Path | None, changed: int | None, *how: Any) -> Encoder:
    """Return the encoder of a description; copies of it share the backbone, which is built when it is needed."""
    return Encoder(backbone, checkpoint, *how)
