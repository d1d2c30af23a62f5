"""``carrot predict`` where regions are tiles: a picture that is too small for them is set aside, and is named."""

from pathlib import Path

import pytest
from PIL import Image

from carrot import Carrot
from carrot.cli import predict
from carrot.data.toy import ToyBirds
from carrot.protocol.pixel_level import inputs_of


def test_a_picture_too_small_for_the_tiles_is_set_aside_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    birds = ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=2)
    model = Carrot("toy", regions="tiles:3").fit(birds)
    model.save(tmp_path / "model")
    birds.image(0).save(tmp_path / "good.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "tiny.png")
    assert predict(tmp_path / "model", [tmp_path / "tiny.png", tmp_path / "good.png"]) == 0
    said = capsys.readouterr()
    assert "good.png" in said.out
    assert "tiny.png: A picture of 1 x 1 pixels (width x height) is too small for tiles:3" in said.err
    with pytest.raises(ValueError, match=r"tiny\.png: A picture of 1 x 1 pixels"):
        predict(tmp_path / "model", [tmp_path / "tiny.png"])
    assert inputs_of(model.classifier) == 9
