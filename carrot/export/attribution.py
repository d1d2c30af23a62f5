"""A model as libraries of explainers have one: tensors in, logits and attributions of the tensors' shape out.

::

    x (B, 3, img_h, img_w) in [0, 1]  ->  logits (B, C)                       those of ``Carrot.decision_function``
    a_bkij = map_b(i, j) / 3,  k = 1 .. 3                    sum_kij a_bkij = sum_r value_br, regions r with a place (1)

with the map over pixels of ``carrot.tiling.pixel_map``. ``attribute`` is what Captum calls so, the object itself is the
model (a ``torch.nn.Module``) that metrics of Captum and Quantus ask; neither is imported. A picture has 8 bits a
channel: x is rounded to them. Nothing here has a gradient.
"""

from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeAlias, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from carrot.classifier.classifier import BATCH
from carrot.explanation.parts import take_apart
from carrot.model import Carrot
from carrot.tiling import pixel_map
from carrot.utils import require_finite, whole_number

BEYOND = 0.5  # how far outside of [0, 1] the noise of a metric may lead; what was normalised goes further
MAPS = ("token", "node", "drop")
Inputs = TypeVar("Inputs", Tensor, tuple[Tensor])  # Captum gives a tuple of one where it may, and wants one back
Target: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | NDArray[Any] | Tensor | None


class RegionAttribution(nn.Module):
    """A fitted model with Captum's ``attribute(inputs, target)``; called itself, it returns the logits.

    Inputs are pictures (B, 3, img_h, img_w), floating point in [0, 1], before any normalisation: the model does its
    own. What noise leads outside of it is clamped, as no picture has such values.

    Args:
        model: A fitted model; its answers are those of its state when they are asked for.
        by: Which map: "token", what each region brings to the logit; "node", after diffusion; "drop", how much the
            logit falls without it. The first two, with the prior and what a global region brings, sum to the logit.

    Raises:
        TypeError: The model is no ``Carrot``.
        ValueError: There is no such map.
        NotFittedError: The model is not fitted.
    """

    def __init__(self, model: Carrot, by: str = "token") -> None:
        super().__init__()
        if not isinstance(model, Carrot):
            raise TypeError(f"`model` must be a fitted `Carrot`; got {type(model).__name__}.")
        if by not in MAPS:
            raise ValueError(f"`by` must be one of {MAPS}; got {by!r}.")
        _ = model.classifier
        self.carrot, self.by = model, by
        self.eval()  # it never trains, and Quantus asks

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (B, C) in float64, those of ``Carrot.decision_function`` for the same pictures.

        Raises:
            TypeError: Not a floating-point tensor.
            ValueError: Wrong shape, NaN or infinity, or values that no picture has: normalised ones.
        """
        pictures = _pictures(inputs)
        return self.carrot.classifier.logits(list(pictures)).to(inputs.device)

    def attribute(self, inputs: Inputs, target: Target = None) -> Inputs:
        """Return attributions of the inputs' shape and type, equation (1).

        Args:
            inputs: As for ``forward``; a tuple of one tensor gives a tuple.
            target: Index of a class, in the order of ``classes_``; one, or one for each picture; None: the predicted
                ones.

        Raises:
            TypeError, ValueError: As ``forward``, or a target is no class.
        """
        if isinstance(inputs, tuple):
            return (self._attribute(inputs[0], target),)
        return self._attribute(inputs, target)

    def _attribute(self, inputs: Tensor, target: Target) -> Tensor:
        pictures, now = _pictures(inputs), self.carrot.classifier
        fitted, size = now.fitted, (inputs.shape[3], inputs.shape[2])
        targets = _targets(target, len(pictures), len(fitted.classes))
        boxes, maps = now.encoder.view.boxes(size, fitted.setting.coarsen), []
        batches = [now.encoder.tokens(list(block)) for block in pictures.split(BATCH)]
        for i in range(len(pictures)):
            row = i % BATCH
            trace = now.trace(batches[i // BATCH][row : row + 1])
            logit = now.question(trace) if targets is None else fitted.head.logit(targets[i])
            values = getattr(take_apart(trace, logit), self.by)[: len(boxes)]
            maps.append(pixel_map(values, boxes, size[::-1]))
        spread = torch.stack(maps).unsqueeze(1).expand(-1, 3, -1, -1) / 3.0
        return spread.to(inputs.device, inputs.dtype)


def _pictures(inputs: Tensor) -> Tensor:
    """Return inputs as pictures have them, or refuse them."""
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"`inputs` must be a floating-point tensor; got {kind}. Use `torch.as_tensor(x) / 255`.")
    if inputs.ndim != 4 or inputs.shape[1] != 3 or 0 in inputs.shape:
        raise ValueError(f"`inputs` must be (B, 3, img_h, img_w), at least one picture; got {tuple(inputs.shape)}.")
    require_finite("inputs", inputs)
    low, high = float(inputs.min()), float(inputs.max())
    if low < -BEYOND or high > 1.0 + BEYOND:
        raise ValueError(
            f"`inputs` must be in [0, 1], before any normalisation: the model does its own; got {low:.3g} to "
            f"{high:.3g}. (Noise may lead {BEYOND:g} outside, and is clamped.)"
        )
    return inputs.detach().clamp(0.0, 1.0)


def _targets(target: Target, B: int, C: int) -> list[int] | None:
    """Return a class for each picture; None: the predicted ones."""
    if target is None:
        return None
    given: Any = target.tolist() if hasattr(target, "tolist") else target
    many = list(given) if isinstance(given, Sequence) else [given]
    many = many * B if len(many) == 1 else many
    if len(many) != B:
        raise ValueError(f"`target` must be one class, or one for each of {B} pictures; got {len(many)}.")
    return [whole_number("target", c, 0, C - 1, ", a class") for c in many]
