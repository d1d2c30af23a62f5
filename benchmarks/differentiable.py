"""A classifier as one torch function of a picture's pixels, with gradients: what explainers by gradient need.

::

    x (3, img_h, img_w) in [0, 1]  ->  boxes in whole pixels, cut  ->  bicubic, antialiased, to the input's size
       ->  clamped to [0, 1], normalised  ->  backbone  ->  weights, lift and head, the model's own

The model itself resizes in two passes, along rows and along columns, with 8 bits after each, and rounds features to
float16; this rounds nothing and differs from it by that: ``apart`` measures it.
"""

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

from carrot._vit.class_attention import last_attention
from carrot.classifier.classifier import Classifier
from carrot.embedding.tokens import Tokens
from carrot.tiling import Tiling


class Differentiable(nn.Module):
    """Pictures (B, 3, img_h, img_w) in [0, 1], all of one size, to logits (B, C) of a model of tiles or of patches.

    Raises:
        ValueError: The model has a global region, or, when asked, a crop that pads.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        if classifier.fitted.setting.global_share:
            raise ValueError("`classifier` must have no global region.")
        self.classifier, self.view = classifier, classifier.encoder.view
        self.backbone = self.view.backbone
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, float64."""
        return self.classifier.logits_of(self.tokens(x))

    def tokens(self, x: Tensor) -> Tokens:
        """Return features of the tiles, or tokens of the patches, not rounded."""
        backbone, model, K = self.backbone, self.backbone.bare_model, self.backbone.num_prefix_tokens
        tiling: Tiling | None = getattr(self.view, "tiling", None)
        inputs = self.inputs(x)
        if backbone.attention:
            features, attention = last_attention(model, inputs, K)
        else:
            features, attention = model.forward_features(inputs), None
        if tiling is None:
            return Tokens(features[:, K:], backbone.grid_hw, None, attention)
        pooled = features[:, 0] if backbone.has_class_token else features.mean(dim=1)
        return Tokens(pooled.unflatten(0, (len(x), len(tiling))), None, tiling=tiling)

    def inputs(self, x: Tensor) -> Tensor:
        """Return the model's inputs: one a picture, or one a tile, picture by picture."""
        size = (x.shape[3], x.shape[2])
        tiling, transform = getattr(self.view, "tiling", None), self.backbone.transform
        if tiling is None:
            geometry = transform.geometry(size)
            (top, left), (h, w) = geometry.offset_hw, geometry.input_hw
            if min(top, left) < 0:
                raise ValueError("`classifier` must not pad pictures: its crop adds what is no pixel of them.")
            resized = _resized(x, geometry.resized_hw)[..., top : top + h, left : left + w]
        else:
            cut = [x[:, :, y0:y1, x0:x1] for x0, y0, x1, y1 in tiling.boxes(size).tolist()]
            resized = torch.stack([_resized(tile, transform.input_hw) for tile in cut], dim=1).flatten(0, 1)
        mean, std = (x.new_tensor(values)[:, None, None] for values in (transform.mean, transform.std))
        return (resized - mean) / std


def _resized(x: Tensor, hw: tuple[int, int]) -> Tensor:
    found: Tensor = F.interpolate(x, size=hw, mode="bicubic", antialias=True, align_corners=False)
    return found.clamp(0.0, 1.0)


def apart(classifier: Classifier, image: Image.Image) -> float:
    """Return the largest difference of its logits from the model's, of one picture."""
    with torch.no_grad():
        found = Differentiable(classifier)(to_tensor(image)[None])
    return float((found - classifier.logits([image])).abs().max())
