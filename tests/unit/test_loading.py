"""Batches of model inputs: the same from threads and from processes, bad pictures set aside, content hashed."""

import hashlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from carrot._vit.transform import PictureTransform
from carrot.data import ImageFolder
from carrot.data.loading import batches

TRANSFORM = PictureTransform((32, 32), 1.0, "squash", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for k in range(4):
            Image.new("RGB", (20 + k, 30), (40 * k, 10, 200)).save(tmp_path / label / f"{k}.png")
    (tmp_path / "b" / "2.png").write_bytes(b"broken")
    return ImageFolder(tmp_path, test_every=None)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches(folder: ImageFolder, workers: int) -> None:
    lists = [[0, 1, 2], [3, 4, 6], [7, 5]]
    found = list(batches(folder, TRANSFORM, lists, workers))
    assert [len(batch.x) for batch in found] == [3, 3, 2]
    for indices, batch in zip(lists, found, strict=True):
        for place, index in enumerate(indices):
            path = folder.records[index].path
            assert path is not None
            assert bool(batch.readable[place]) == (index != 6)
            if index != 6:
                torch.testing.assert_close(batch.x[place], TRANSFORM(folder.image(index)))
                assert bytes(batch.sha256[place].tolist()) == hashlib.sha256(path.read_bytes()).digest()
            else:
                assert not batch.sha256[place].any()
                assert len(batch.errors) == 1
                assert "2.png" in batch.errors[0]


@pytest.mark.usefixtures("as_user")
def test_bad_requests(folder: ImageFolder) -> None:
    with pytest.raises(ValueError, match="no empty list"):
        list(batches(folder, TRANSFORM, [[0], []]))
    with pytest.raises(ValueError, match="workers"):
        list(batches(folder, TRANSFORM, [[0]], -1))


def test_a_picture_that_the_transform_refuses_is_set_aside(folder: ImageFolder, tmp_path: Path) -> None:
    Image.new("RGB", (50_000, 4)).save(tmp_path / "a" / "9.png")
    crop = PictureTransform((224, 224), 0.9, "center", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    data = ImageFolder(tmp_path, test_every=None)
    place = next(i for i, record in enumerate(data.records) if record.id == "a/9.png")
    (batch,) = batches(data, crop, [[0, place]])
    assert batch.readable.tolist() == [True, False]
    assert "a/9.png" in batch.errors[0]
