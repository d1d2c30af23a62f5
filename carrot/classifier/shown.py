"""The picture of which only some tiles are shown: the backbone run again on these, and on nothing else.

What ``Coalitions`` predicts without the backbone must be this: tiles that aren't shown never entered the features of
those that are.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, SupportsIndex

import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from carrot.classifier.classifier import Classifier
from carrot.data.inputs import PictureLike, as_picture
from carrot.embedding.pooling import Pooling
from carrot.regions import RegionSet, kept
from carrot.tiling import Tiling

Regions = Tensor | NDArray[Any] | Iterable[SupportsIndex] | SupportsIndex


def shown(classifier: Classifier, picture: PictureLike, regions: Regions) -> Float[Tensor, " C"]:
    """Return the logits of a picture of which only some tiles are shown; see ``Carrot.shown``."""
    s = classifier.fitted.setting
    if not s.is_tiled:
        raise ValueError(
            "`shown` needs a model of tiles: a patch token has seen the whole picture, so that no pass of the backbone "
            'sees some patches alone. Fit with regions="tiles:3,4", or ask `what_if(picture, regions=...)`.'
        )
    R = len(Tiling.from_spec(s.regions))
    there = ~kept(regions, R + bool(s.global_share))
    g = shown_embedding(classifier, picture, there)
    return classifier.fitted.head.predict(g)


def shown_embedding(classifier: Classifier, picture: PictureLike, there: Bool[Tensor, " N"]) -> Float[Tensor, " M"]:
    """Return the embedding of a picture of which only the tiles that are ``there`` are shown."""
    s = classifier.fitted.setting
    tiling, image = Tiling.from_spec(s.regions), as_picture(picture)
    R, is_sum, D = len(tiling), s.readout == "sum", classifier.encoder.backbone.embed_dim
    local, has_whole = there[:R].nonzero().flatten(), bool(there[R:].any())
    lift = classifier.pooling.lift
    if not has_whole and s.global_share == 1.0:  # what is left weighs nothing
        local = local[:0]
    if not len(local):  # the whole picture as a global region, or nothing
        if not has_whole:
            return torch.zeros(lift.dim(D), dtype=torch.float64)
        alone = replace(s, regions="tiles:1", global_share=0.0, readout="mean", t=0.0)
        return Pooling(alone).g(classifier.encoder.of(alone).tokens([image]))[0] * (s.global_share if is_sum else 1.0)
    boxes = tiling.shares[local]
    seen, place = boxes.unique(dim=0, return_inverse=True)  # two scales may hold the same box
    part = replace(s, regions=Tiling.from_boxes(seen).spec, global_share=s.global_share if has_whole else 0.0)
    pooling = Pooling(part)
    regions, readout = pooling.stage(classifier.encoder.of(part).tokens([image]))
    r = readout.r[:, place]
    if is_sum:  # 1 / R is of all tiles, and so is what a told share leaves them
        r = r * (len(seen) / R * (1.0 if has_whole else 1.0 - s.global_share))
    elif part.global_share < 1.0:
        r = r * ((1.0 - part.global_share) / r.sum())
    whole = regions.features[:, len(seen) :]
    regions = RegionSet.from_boxes(regions.features[:, place], boxes)
    if has_whole:
        regions = regions.with_global(whole)
        r = torch.cat([r, readout.r[:, len(seen) :]], dim=1)
    pi = pooling.operator.pull_back(r, pooling.builder.build(regions)) if s.t else r
    return lift.embed(regions.features, pi)[0]
