"""64 photographs of birds, saved as phones save them: turned, with a note that says how."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carrot import Carrot
from carrot.cli import main
from carrot.data import Cub, open_image
from tests.conftest import RealFiles

STORED = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
CLASSES, TRAIN, TEST = 8, 20, 8
NAME = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.mark.slow
def test_64_photographs_are_read_as_upright(
    real: RealFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At d8bafd7 the command was right less often than from upright files, and explained a class it didn't predict."""
    cub = Cub(real.data / "cub100")

    def some(split: str, most: int) -> list[tuple[Path, str]]:
        found = []
        for label in range(CLASSES):
            names = [record.id for record in cub.records if record.split == split and record.label == label]
            found += [(cub.root / name, cub.classes[label]) for name in names[:most]]
        return found

    train, test = some("train", TRAIN), some("test", TEST)
    assert len(test) == 64
    checkpoint = real.weights / NAME / "model.safetensors"
    model = Carrot(NAME, checkpoint=checkpoint).fit([path for path, _ in train], [name for _, name in train])
    model.save(tmp_path / "model")
    turned = []
    for k, (path, _) in enumerate(test):
        orientation = (3, 6, 8)[k % 3]
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned.append(tmp_path / f"{k:02}.png")  # without loss: the answers must be the same, not only as often right
        open_image(path).transpose(STORED[orientation]).save(turned[-1], exif=exif, compress_level=1)
    upright = model.predict_proba([path for path, _ in test])
    np.testing.assert_allclose(model.predict_proba(turned), upright, atol=1e-9)
    assert main(["predict", str(tmp_path / "model"), *map(str, turned), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    said = [row["classes"][0]["class"] for row in rows]
    names = [name for _, name in test]
    right = sum(map(str.__eq__, said, names))
    expected = [model.classes_[c] for c in upright.argmax(axis=1)]
    assert said == expected
    assert right == sum(map(str.__eq__, expected, names))
    explained = [model.explain(path, k=1).target for path in turned]
    assert explained == said
    with capsys.disabled():
        print(
            f"\n64 turned photographs: {right} right, "
            f"{sum(map(str.__ne__, explained, said))} explained as another class"
        )
