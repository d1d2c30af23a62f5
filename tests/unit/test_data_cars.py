"""The Stanford Cars reader on .mat files written here with the official variables and fields."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from carrot.data import Box, Cars, open_dataset
from carrot.errors import DataError

NAMES = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012")
TRAIN = [(39, 116, 569, 375, 2, "00001.jpg"), (1, 1, 60, 40, 1, "00002.jpg")]
TEST = [(30, 52, 246, 147, 1, "00001.jpg")]
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
Entry = tuple[Any, ...]


def annotations(file: Path, entries: list[Entry], fields: tuple[str, ...] = FIELDS) -> None:
    """Write a 1 x n structure array, as the devkit's files hold."""
    array = np.zeros((1, len(entries)), dtype=[(field, object) for field in fields])
    for place, entry in enumerate(entries):
        for field, value in zip(FIELDS, entry, strict=True):
            if field in fields:
                array[0, place][field] = value if isinstance(value, str) else np.uint16(value)
    savemat(file, {"annotations": array})


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(40, 60, 3), dtype=np.uint8)


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    root = tmp_path / "stanford_cars"
    for folder in ("devkit", "cars_train", "cars_test"):
        (root / folder).mkdir(parents=True)
    names = np.empty((1, 2), dtype=object)
    names[0, :] = NAMES
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": names})
    annotations(root / "devkit" / "cars_train_annos.mat", TRAIN)
    annotations(root / "devkit" / "cars_test_annos.mat", TEST, (*FIELDS[:4], "fname"))
    annotations(root / "cars_test_annos_withlabels.mat", TEST)
    for seed, name in enumerate(("cars_train/00001.jpg", "cars_train/00002.jpg", "cars_test/00001.jpg")):
        Image.fromarray(pixels(seed)).save(root / name, format="PNG")
    return tmp_path


def test_records(mini: Path) -> None:
    cars = open_dataset(mini)
    assert isinstance(cars, Cars)
    assert cars.name == "cars"
    assert cars.classes == NAMES
    assert [r.id for r in cars.records] == ["cars_train/00001.jpg", "cars_train/00002.jpg", "cars_test/00001.jpg"]
    assert [r.label for r in cars.records] == [1, 0, 0]
    assert [r.split for r in cars.records] == ["train", "train", "test"]
    assert cars.records[0].box == Box(38, 115, 531, 260)
    assert cars.records[1].box == Box(0, 0, 60, 40)  # all of the picture
    np.testing.assert_array_equal(np.asarray(cars.image(2)), pixels(2))
    assert Cars(mini / "stanford_cars").records == cars.records


def test_the_labelled_file_may_lie_in_the_devkit(mini: Path) -> None:
    before, root = Cars(mini).records, mini / "stanford_cars"
    (root / "cars_test_annos_withlabels.mat").rename(root / "devkit" / "cars_test_annos_withlabels.mat")
    assert Cars(mini).records == before
    (root / "devkit" / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(DataError, match=r"has no cars_test_annos_withlabels\.mat, .* the test pictures have no labels"):
        Cars(mini)


def test_it_travels_to_another_process(mini: Path) -> None:
    cars = Cars(mini)
    again = pickle.loads(pickle.dumps(cars))  # noqa: S301 (our own bytes)
    assert again.records == cars.records
    np.testing.assert_array_equal(np.asarray(again.image(1)), pixels(1))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ((1, 1, 5, 5, 3, "00001.jpg"), r"annos\.mat, annotation 1: class must be in 1 \.\. 2; got 3"),
        ((1, 1, 5, 5, 0, "00001.jpg"), r"annotation 1: class must be in 1 \.\. 2; got 0"),
        ((9, 1, 5, 5, 2, "00001.jpg"), r"annotation 1: the box \(9, 1, 5, 5\) has no area"),
        ((1, 1, 5, 5, "Audi", "00001.jpg"), r"annotation 1: class must be a whole number; got 'Audi'"),
        ((1, 1, 5, 5, 2, 7), r"annotation 1: fname must be a text; got "),
        ((1, 1, 5, 5, 2, "00009.jpg"), r"annotation 1: there is no file .*cars_train/00009\.jpg"),
        ((1, 1, 5, 5, 2, "../cars_test/00001.jpg"), r"annotation 1 lies outside of .*cars_train"),
        ((1, 1, 5, 5, 2, "00002.jpg"), r"annotation 2: cars_train/00002\.jpg is listed a second time"),
        ((1, 1, 5, 5, 1, "00001.jpg"), r"class 'Acura RL Sedan 2012' has no training picture"),
    ],
)
def test_a_wrong_annotation_is_named(mini: Path, entry: Entry, message: str) -> None:
    annotations(mini / "stanford_cars" / "devkit" / "cars_train_annos.mat", [entry, TRAIN[1]])
    with pytest.raises(DataError, match=message):
        Cars(mini)


def test_wrong_files_are_named(mini: Path) -> None:
    file = mini / "stanford_cars" / "devkit" / "cars_train_annos.mat"
    annotations(file, TRAIN, FIELDS[:4])
    with pytest.raises(DataError, match=r"annotations have no field 'class'"):
        Cars(mini)
    savemat(file, {"other": 1})
    with pytest.raises(DataError, match=r"cars_train_annos\.mat: has no variable 'annotations'"):
        Cars(mini)
    for content in (b"", b"no matlab file at all" * 20, b"\x89HDF\r\n\x1a\n" + bytes(600)):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"cars_train_annos\.mat: can't be read as a \.mat file"):
            Cars(mini)
    file.unlink()
    with pytest.raises(DataError, match=r"cars_train_annos\.mat: there is no such file"):
        open_dataset(mini)
    with pytest.raises(DataError, match="is not a folder"):
        Cars(mini / "nowhere")
