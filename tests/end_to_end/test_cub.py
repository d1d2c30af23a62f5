"""CUB-200-2011, 100 species, ViT-Tiny: what exact leave-one-out chooses, and what it is worth on the test pictures."""

from pathlib import Path

import pytest
import torch

from carrot import Carrot
from carrot.data import Cub
from carrot.data.records import Subset
from carrot.evaluation import summary
from tests.conftest import RealFiles

NAME = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.mark.slow
def test_lifted_regions_are_chosen_and_worth_it(real: RealFiles, tmp_path: Path) -> None:
    """Regions only, without diffusion, within two standard errors (.0040) of .953."""
    cub = Cub(real.data / "cub100")
    model = Carrot(NAME, checkpoint=real.weights / NAME / "model.safetensors")
    model.select(cub, grid={"lift": ["identity", "quadratic"], "tau": [0.0, 0.5], "t": [0.0]}, show=False)
    assert (model.setting_.lift, model.setting_.tau) == ("quadratic", 0.5)
    test = Subset(cub, [i for i, record in enumerate(cub.records) if record.split == "test"])
    cache = model.encoder.cache(test, tmp_path)
    labels = torch.tensor([record.label for record in test.records])
    accuracy = summary(model.head_.predict(cache.embed(cache.rows, model.setting_)), labels[cache.rows])
    assert accuracy.n == 2903
    assert accuracy.top1 == pytest.approx(0.953, abs=0.008)
