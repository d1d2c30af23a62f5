"""Claim 21: what dropping tiles predicts is what the model says of the picture with the others shown alone."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

import carrot
from carrot.classifier.shown import shown
from tests import tiles

STATEMENT = "The logits predicted for any tiles alone are those of the backbone run again on these and nothing else"
FORMULA = "v(S) = b + sum_{i in S} pi_i(S) <phi(h_i), W*>"
ASSUMPTION = "backbone in float64; in float32 its rounding shows, 1e-5 at most"
ASKED = list(product((8.0,), ("mean", "sum"), (0.0, 0.2), (0.0, 1.5)))  # power, readout, share, t


def fitted(dtype: torch.dtype, power: float, readout: Any, share: float, t: float) -> carrot.Carrot:
    """A model of noise: what is exact is so for any head."""
    backbone = carrot.TimmViTPatchBackbone("test_vit", pretrained=False, img_size=32).to(dtype)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 8
            )
    given: dict[str, Any] = {"power": power, "readout": readout, "global_share": share, "t": t, "dtype": "float32"}
    model = carrot.Carrot(backbone, regions=tiles.SPEC, lift="identity", lam=0.1, **given)
    return model.fit([np.asarray(tiles.noise(seed)) for seed in range(6)], list("aabbcc"))


def error(model: carrot.Carrot, subsets: int, seed: int = 0) -> float:
    """Return the largest difference over random subsets of one picture's tiles, relative to the largest logit."""
    picture = np.asarray(tiles.noise(9))
    trace = model.trace(picture)
    keep = np.random.default_rng(seed).random((trace.regions.num_regions, subsets)) < 0.5
    predicted = trace.coalitions(model.head_).logits(torch.tensor(keep))
    measured = torch.stack([shown(model.classifier, picture, column) for column in torch.tensor(keep).T])
    return float((predicted - measured).abs().max() / measured.abs().max())


def measure() -> float:
    """Return the largest difference, over every readout, share and time, in float64."""
    return max(error(fitted(torch.float64, *asked), 4) for asked in ASKED)


def test_claim() -> None:
    assert measure() <= 1e-12
    tiles.check_shown()


def test_the_rounding_of_a_backbone_in_float32_stays_small() -> None:
    assert max(error(fitted(torch.float32, *asked), 4) for asked in ASKED[-2:]) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_ten_thousand_subsets(dtype: torch.dtype, most: float) -> None:
    for number, asked in enumerate(ASKED):
        assert error(fitted(dtype, *asked), 10_000 // len(ASKED), number) <= most


def test_nothing_shown_is_the_bias() -> None:
    for readout in ("mean", "sum"):
        model = fitted(torch.float32, 8.0, readout, 0.2, 0.0)
        picture = np.asarray(tiles.noise(9))
        np.testing.assert_array_equal(model.shown(picture, []), model.head_.bias.numpy())
        one = replace(model.classifier, fitted=replace(model.fitted, setting=replace(model.setting_, global_share=1.0)))
        keep = torch.ones(14, dtype=torch.bool)
        keep[-1] = False
        predicted = one.trace(picture).coalitions(model.head_).logits(keep.unsqueeze(-1))[0]
        np.testing.assert_allclose(shown(one, picture, keep), predicted, rtol=0, atol=1e-12)
