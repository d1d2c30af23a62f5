"""The Flowers 102 reader on .mat files and segmentations written here."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.io import savemat

from carrot.data import Flowers102, Segmented, open_dataset
from carrot.data.flowers102 import FLOWERS
from carrot.errors import DataError

LABELS = [77, 1, 77, 1, 102, 102]
SETS = {"trnid": [2, 1, 5], "valid": [4], "tstid": [6, 3]}


def write(root: Path, labels: list[int] = LABELS, sets: dict[str, list[int]] = SETS) -> None:
    savemat(root / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    savemat(root / "setid.mat", {name: np.array([numbers], np.uint16) for name, numbers in sets.items()})


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, size=(30, 40, 3), dtype=np.uint8)


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    root = tmp_path / "flowers-102"
    (root / "jpg").mkdir(parents=True)
    write(root)
    for number in range(1, 7):
        Image.fromarray(pixels(number)).save(root / "jpg" / f"image_{number:05d}.jpg", format="PNG")
    return tmp_path


def test_records(mini: Path) -> None:
    flowers = open_dataset(mini)
    assert isinstance(flowers, Flowers102)
    assert flowers.name == "flowers102"
    assert flowers.classes == ("pink primrose", "passion flower", "blackberry lily")
    assert [r.id for r in flowers.records] == [f"jpg/image_0000{n}.jpg" for n in (2, 1, 5, 4, 6, 3)]
    assert [r.label for r in flowers.records] == [0, 1, 2, 0, 2, 1]
    assert [r.split for r in flowers.records] == ["train"] * 4 + ["test"] * 2
    assert [r.mask for r in flowers.records] == [None] * 6
    assert flowers.mask(0) is None
    np.testing.assert_array_equal(np.asarray(flowers.image(3)), pixels(4))


def test_the_validation_pictures_may_be_left_out(mini: Path) -> None:
    assert [r.id[-5] for r in Flowers102(mini, with_valid=False).records] == ["2", "1", "5", "6", "3"]


def test_the_names_are_torchvisions() -> None:
    from torchvision import datasets

    theirs = getattr(datasets.Flowers102, "classes", None)
    if theirs is None:
        pytest.skip("this torchvision has no names")
    assert [name.rstrip("?") for name in theirs] == list(FLOWERS)


def test_what_is_painted_blue_is_background(mini: Path) -> None:
    folder = mini / "flowers-102" / "segmim"
    folder.mkdir()
    photo = Image.new("RGB", (96, 64), (0, 0, 254))
    ImageDraw.Draw(photo).ellipse((20, 10, 70, 50), fill=(90, 60, 200))  # a bluish flower
    truth = np.any(np.asarray(photo) != (0, 0, 254), axis=2)
    photo.save(mini / "flowers-102" / "jpg" / "image_00002.jpg")
    photo.save(folder / "segmim_00002.jpg", quality=90)  # which blurs the outline
    flowers = Flowers102(mini)
    assert isinstance(flowers, Segmented)
    mask = flowers.mask(0)
    assert mask is not None
    assert mask.shape == (64, 96)
    y, x = np.nonzero(mask != truth)
    distance = np.abs(np.hypot((x - 45) / 25, (y - 30) / 20) - 1) * 20
    assert distance.max(initial=0) < 2.5  # only pixels of the outline differ
    assert flowers.mask(1) is None
    Image.new("RGB", (9, 9)).save(folder / "segmim_00002.jpg")
    with pytest.raises(DataError, match=r"segmim_00002\.jpg: must be 96 x 64 pixels, as its picture is; got 9 x 9"):
        flowers.mask(0)


def test_it_travels_to_another_process(mini: Path) -> None:
    flowers = Flowers102(mini)
    again = pickle.loads(pickle.dumps(flowers))  # noqa: S301 (our own bytes)
    assert again.records == flowers.records
    np.testing.assert_array_equal(np.asarray(again.image(0)), pixels(2))


@pytest.mark.parametrize(
    ("labels", "sets", "message"),
    [
        ([77, 1, 77, 1, 102, 103], SETS, r"imagelabels\.mat: label 6 must be in 1 \.\. 102; got 103"),
        (LABELS[:5], SETS, r"setid\.mat: tstid has picture 6, and imagelabels\.mat labels 1 \.\. 5"),
        (LABELS, {**SETS, "valid": [2]}, r"setid\.mat: picture 2 is in trnid and in valid"),
        (LABELS, {**SETS, "trnid": [2, 1]}, r"setid\.mat: class 'blackberry lily' has no training picture"),
        ([*LABELS, 1], {**SETS, "valid": [4, 7]}, r"setid\.mat: picture 7: there is no file .*image_00007\.jpg"),
    ],
)
def test_wrong_files_are_named(mini: Path, labels: list[int], sets: dict[str, list[int]], message: str) -> None:
    write(mini / "flowers-102", labels, sets)
    with pytest.raises(DataError, match=message):
        Flowers102(mini)


def test_a_link_out_of_the_folder_is_refused(mini: Path) -> None:
    file = mini / "flowers-102" / "jpg" / "image_00002.jpg"
    file.rename(mini / "outside.jpg")
    file.symlink_to(mini / "outside.jpg")
    with pytest.raises(DataError, match=r"setid\.mat: picture 2 lies outside of"):
        Flowers102(mini)


def test_a_missing_file_is_named(mini: Path) -> None:
    (mini / "flowers-102" / "imagelabels.mat").unlink()
    with pytest.raises(DataError, match=r"imagelabels\.mat: there is no such file"):
        open_dataset(mini)
