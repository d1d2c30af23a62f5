"""Explainers that are not ours, on our backbone and head: a map over a picture's pixels for one class.

::

    random, centre           know nothing, and that objects stand in the middle
    rollout                  attention from block to block, with the residual (Abnar and Zuidema, ACL 2020): no class
    FeatureAblation          Captum: each region (each cell, where regions overlap) in the picture's mean colour, alone
    Occlusion                Captum: squares of an eighth of the picture, one at a time, in the same colour
    IntegratedGradients      Captum: from that colour to the picture in ``STEPS`` steps
    GradCAM                  pytorch-grad-cam: the last block's first norm; of tiles, each tile's own, in its place

The first two of Captum's ask the model itself (``carrot.export.attribution``); those by gradient ask
``benchmarks.differentiable``. Packages are those of the extra ``bench``.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

from benchmarks.differentiable import Differentiable
from carrot import Carrot
from carrot.classifier.classifier import Classifier
from carrot.evaluation.cells import cells
from carrot.evaluation.localisation import centre_map
from carrot.export.attribution import RegionAttribution
from carrot.tiling import coverage, pixel_map

STEPS = 16  # of integrated gradients
SQUARE = 8  # squares of occlusion on a side


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and a picture.

    Attributes:
        model: The model.
        image: Upright RGB.
    """

    model: Carrot
    image: Image.Image

    @property
    def classifier(self) -> Classifier:
        """The fitted classifier."""
        return self.model.classifier

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.image.height, self.image.width

    @property
    def x(self) -> Tensor:
        """The picture as a tensor (1, 3, img_h, img_w) in [0, 1]."""
        return to_tensor(self.image)[None]

    @property
    def fill(self) -> Tensor:
        """Its mean colour, everywhere."""
        return self.x.mean(dim=(2, 3), keepdim=True).expand_as(self.x)

    @property
    def boxes(self) -> Tensor:
        """Where its regions lie."""
        return self.classifier.encoder.view.boxes(self.image.size, self.classifier.fitted.setting.coarsen)

    @cached_property
    def differentiable(self) -> Differentiable:
        """The model as a function with gradients."""
        return Differentiable(self.classifier)


Explain = Callable[[Subject, int], Tensor]  # -> (img_h, img_w), float64


def random(subject: Subject, target: int) -> Tensor:
    """Return a normal value for each region, the same whenever it is asked for."""
    generator = torch.Generator().manual_seed(zlib.crc32(subject.image.tobytes()) + target)
    values = torch.randn(len(subject.boxes), generator=generator, dtype=torch.float64)
    return pixel_map(values, subject.boxes, subject.hw)


def centre(subject: Subject, target: int) -> Tensor:
    """Return a Gaussian in the middle."""
    h, w = subject.hw
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    corners = torch.stack([x, y, x + 1, y + 1], dim=-1).reshape(-1, 4).double()
    return centre_map(corners).reshape(h, w)


def feature_ablation(subject: Subject, target: int) -> Tensor:
    """Return how much the logit falls when each region's pixels take the mean colour: cells, where regions overlap."""
    from captum.attr import FeatureAblation

    mask = torch.zeros(1, 1, *subject.hw, dtype=torch.long)
    for i, (x0, y0, x1, y1) in enumerate(cells(subject.boxes).boxes.round().long().tolist()):
        mask[..., y0:y1, x0:x1] = i + 1  # 0: what no region shows
    ablation = FeatureAblation(RegionAttribution(subject.model))
    with torch.no_grad():
        a = ablation.attribute(
            subject.x, baselines=subject.fill, target=target, feature_mask=mask, perturbations_per_eval=8
        )
    size = torch.bincount(mask.flatten())[mask[0, 0]]
    return a[0, 0].double() / size  # each pixel was given all that its region is worth


def occlusion(subject: Subject, target: int) -> Tensor:
    """Return how much the logit falls when a square is covered, at each of its pixels."""
    from captum.attr import Occlusion

    h, w = (max(2, side // SQUARE) for side in subject.hw)
    with torch.no_grad():
        a = Occlusion(RegionAttribution(subject.model)).attribute(
            subject.x,
            sliding_window_shapes=(3, h, w),
            strides=(3, h, w),
            baselines=subject.fill,
            target=target,
            perturbations_per_eval=8,
        )
    return a[0, 0].double()


def integrated_gradients(subject: Subject, target: int) -> Tensor:
    """Return gradients along the way from the mean colour, times the way, summed over channels."""
    from captum.attr import IntegratedGradients

    a = IntegratedGradients(subject.differentiable).attribute(
        subject.x, baselines=subject.fill, target=target, n_steps=STEPS, internal_batch_size=1
    )
    return a[0].sum(dim=0).double()


def grad_cam(subject: Subject, target: int) -> Tensor:
    """Return the positive part of Grad-CAM of the last block's input, in the place of each model input."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    backbone, model = subject.differentiable.backbone, subject.differentiable
    K, (gh, gw) = backbone.num_prefix_tokens, backbone.grid_hw
    layer = backbone.bare_model.blocks[-1].norm1
    with GradCAM(model, [layer], lambda t: t[:, K:].unflatten(1, (gh, gw)).permute(0, 3, 1, 2)) as cam:
        cam(subject.x.requires_grad_(), [ClassifierOutputTarget(target)])
        seen = cam.activations_and_grads
        activations, gradients = (x[0].detach().numpy() for x in (seen.activations, seen.gradients))
        # not what `cam` returns: that scales the map of each input, here of each tile, to [0, 1]
        raw = cam.get_cam_image(subject.x, layer, [target], activations, gradients)
    return in_place(subject, torch.from_numpy(raw).double().clamp(min=0.0).flatten(1))


def rollout(subject: Subject, target: int) -> Tensor:
    """Return how much of the class token is each patch's, block by block; of tiles, by their weights in the readout."""
    backbone = subject.differentiable.backbone
    with torch.no_grad(), attentions(backbone.bare_model) as found:
        tokens = subject.differentiable.tokens(subject.x)
        pi = subject.classifier.pooling.pi(tokens)[0]
    eye = torch.eye(found[0].shape[-1])
    way = eye.expand_as(found[0])
    for A in found:
        way = (0.5 * A + 0.5 * eye) @ way
    patches = way[:, 0, backbone.num_prefix_tokens :].double()
    return in_place(subject, patches if len(patches) == 1 else pi[:, None] * patches)


@contextmanager
def attentions(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect each block's attention (B, T, T), mean over heads, while the model runs; plain timm blocks."""
    found: list[Tensor] = []

    def read(attn: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0]
        q, k, _ = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        found.append(torch.softmax((attn.q_norm(q) * attn.scale) @ attn.k_norm(k).mT, dim=-1).mean(dim=1))

    hooks = [block.attn.register_forward_pre_hook(read) for block in model.blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def in_place(subject: Subject, patches: Tensor) -> Tensor:
    """Return maps of the patches (inputs, N) of each model input as one over the picture's pixels, overlaps summed."""
    backbone, classifier = subject.differentiable.backbone, subject.classifier
    if len(patches) == 1 and not classifier.fitted.setting.is_tiled:
        return pixel_map(patches[0], backbone.pixel_boxes(subject.image.size), subject.hw)
    (gh, gw), found = backbone.grid_hw, torch.zeros(subject.hw, dtype=torch.float64)
    for (x0, y0, x1, y1), values in zip(subject.boxes.tolist(), patches, strict=True):
        xs = torch.linspace(x0, x1, gw + 1, dtype=torch.float64)
        ys = torch.linspace(y0, y1, gh + 1, dtype=torch.float64)
        row, column = torch.meshgrid(torch.arange(gh), torch.arange(gw), indexing="ij")
        boxes = torch.stack([xs[column], ys[row], xs[column + 1], ys[row + 1]], dim=-1).reshape(-1, 4)
        found += pixel_map(values, boxes, subject.hw)
    return found


def own(name: str) -> Explain:
    """Return the explainer that is a model's own map of that name."""

    def explain(subject: Subject, target: int) -> Tensor:
        asked = RegionAttribution(subject.model, name)
        return asked.attribute(subject.x.double(), target)[0].sum(dim=0)

    return explain


def over_boxes(found: Tensor, boxes: Tensor) -> Tensor:
    """Return the sum of a map over the pixels of each box: (N,)."""
    rows, columns = coverage(boxes, (found.shape[0], found.shape[1]))
    return ((rows @ found) * columns).sum(dim=1)


PEERS: dict[str, Explain] = {
    "random": random,
    "centre": centre,
    "rollout": rollout,
    "GradCAM": grad_cam,
    "FeatureAblation": feature_ablation,
    "Occlusion": occlusion,
    "IntegratedGradients": integrated_gradients,
}
