"""The adapters: torchvision's own classes on files written here, and a stand-in for the package ``datasets``."""

import pickle
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from carrot.data import HuggingFace, Torchvision, open_dataset
from carrot.data.given import as_dataset
from carrot.errors import DataError


def pixels(seed: int, shape: tuple[int, ...] = (6, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def test_a_split_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda self: True)  # the checksums are of the real files
    for side, labels in (("train", [1, 10, 1]), ("test", [10, 1])):
        planes = np.stack([pixels(k, (32, 32, 3)) for k in range(len(labels))], axis=3)
        savemat(tmp_path / f"{side}_32x32.mat", {"X": planes, "y": np.array(labels)[:, None]})
    data = open_dataset(f"torchvision:SVHN:{tmp_path}")
    assert isinstance(data, Torchvision)
    assert data.name == "svhn"
    assert data.classes == ("0", "1")  # SVHN names none; its 10 means the digit 0
    assert [r.label for r in data.records] == [1, 0, 1, 0, 1]
    assert [r.split for r in data.records] == ["train"] * 3 + ["test"] * 2
    assert data.records[4].id == "test/0000001"
    np.testing.assert_array_equal(np.asarray(data.image(1)), pixels(1, (32, 32, 3)))
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 (our own bytes)
    assert again.records == data.records
    np.testing.assert_array_equal(np.asarray(again.image(4)), pixels(1, (32, 32, 3)))


def test_a_train_argument_and_grey_pictures(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, labels in (("train", range(10)), ("t10k", range(2))):
        planes = b"".join(pixels(k, (28, 28)).tobytes() for k in labels)
        head = struct.pack(">iiii", 0x803, len(labels), 28, 28)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(head + planes)
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 0x801, len(labels)) + bytes(labels))
    data = open_dataset(f"torchvision:MNIST:{tmp_path}")
    assert data.classes[3] == "3 - three"
    assert [r.split for r in data.records] == ["train"] * 10 + ["test"] * 2
    assert [r.label for r in data.records] == [*range(10), 0, 1]
    assert data.image(11).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(data.image(11))[..., 1], pixels(1, (28, 28)))


def test_no_split_of_its_own(tmp_path: Path) -> None:
    for number, name in enumerate(("Forest", "River")):
        (tmp_path / "eurosat" / "2750" / name).mkdir(parents=True)
        for k in range(6):
            Image.fromarray(pixels(10 * number + k)).save(tmp_path / "eurosat" / "2750" / name / f"{k}.png")
    data = open_dataset(f"torchvision:EuroSAT:{tmp_path}")
    assert data.classes == ("Forest", "River")
    assert [k for k, r in enumerate(data.records) if r.split == "test"] == [4, 10]
    np.testing.assert_array_equal(np.asarray(data.image(7)), pixels(11))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nothing", "torchvision has no data set 'Nothing'; it has .*CIFAR10"),
        ("vision", "torchvision has no data set 'vision'"),  # a module, no class of theirs
        ("SVHN", "torchvision can't open it: Dataset not found.* Nothing is downloaded: put the files there"),
        ("MNIST", "torchvision can't open it: Dataset not found"),
        ("EMNIST", "torchvision can't open it: Unknown value 'train' for argument split"),
        ("FER2013", "torchvision can't open it"),
        ("Omniglot", "torchvision can't open it"),
        ("CocoDetection", "torchvision's class also needs annFile. It can't be opened by name alone"),
    ],
)
def test_what_torchvision_cannot_open(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=f"torchvision:{name}:.*{message}"):
        Torchvision(name, tmp_path)


class ClassLabel:
    def __init__(self, names: list[str]) -> None:
        self.names = names


class FakeImage:
    pass


FakeImage.__name__ = "Image"  # as the package calls it


class Value:
    pass


class Rows:
    """As much of ``datasets.Dataset`` as the adapter uses."""

    def __init__(self, features: dict[str, Any], labels: list[Any], seed: int = 0) -> None:
        self.features, self.labels, self.seed = features, labels, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return list(self.labels)
        return {"image": self.picture(key), "label": self.labels[key]}

    def picture(self, key: int) -> Image.Image:
        return Image.fromarray(pixels(self.seed + key))


def stand_in(monkeypatch: pytest.MonkeyPatch, found: Any) -> list[tuple[str, str]]:
    calls: list[tuple[str, str]] = []

    def opener(kind: str) -> Any:
        def opened(name: str) -> Any:
            calls.append((kind, name))
            if isinstance(found, Exception):
                raise found
            return found

        return opened

    module = types.ModuleType("datasets")
    module.load_dataset, module.load_from_disk = opener("load"), opener("disk")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


LABELLED = {"id": Value(), "image": FakeImage(), "label": ClassLabel(["1", "0"])}


def test_a_hub_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "test": Rows(LABELLED, [-1, -1]),
        "validation": Rows(LABELLED, [1], 50),
        "train": Rows(LABELLED, [0, 1, 0]),
    }
    calls = stand_in(monkeypatch, found)
    with pytest.warns(UserWarning, match="1 set aside .* test: a split without labelled pictures"):
        data = open_dataset("hf:someone/digits")
    assert isinstance(data, HuggingFace)
    assert calls == [("load", "someone/digits")]
    assert (data.name, data.classes) == ("digits", ("1", "0"))
    assert [r.id for r in data.records] == ["train/0000000", "train/0000001", "train/0000002", "validation/0000000"]
    assert [r.label for r in data.records] == [0, 1, 0, 1]  # numbers, though the names are digits too
    assert [r.split for r in data.records] == ["train", "train", "train", "test"]  # the test split has no labels
    np.testing.assert_array_equal(np.asarray(data.image(3)), pixels(50))
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 (our own bytes)
    assert again.records == data.records
    np.testing.assert_array_equal(np.asarray(again.image(1)), pixels(1))


def test_a_saved_folder_of_one_split_with_plain_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state.json").touch()
    labels = ["c10", "c2"] * 5
    calls = stand_in(monkeypatch, Rows({"image": FakeImage(), "label": Value()}, labels))
    data = HuggingFace(str(tmp_path))
    assert calls == [("disk", str(tmp_path))]
    assert data.classes == ("c2", "c10")
    assert [r.label for r in data.records] == [1, 0] * 5
    assert [k for k, r in enumerate(data.records) if r.split == "test"] == [8, 9]


def test_a_torchvision_test_side_without_labels_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    class Made:
        def __init__(self, root: str, split: str) -> None:
            if split not in ("train", "test"):
                raise ValueError(split)
            self.labels = [0, 4] * 5 if split == "train" else [-1, -1]

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.fromarray(pixels(index)), self.labels[index]

    monkeypatch.setattr(datasets, "Made", Made, raising=False)
    monkeypatch.setattr(datasets, "__all__", (*datasets.__all__, "Made"))
    with pytest.warns(UserWarning, match="1 set aside .* test: a split without labelled pictures"):
        data = open_dataset(f"torchvision:Made:{tmp_path}")
    assert data.classes == ("0", "4")  # the labels that occur
    assert [k for k, r in enumerate(data.records) if r.split == "test"] == [8, 9]


def test_two_classes_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    features = {"image": FakeImage(), "label": ClassLabel(["crane", "wren", "crane"])}
    stand_in(monkeypatch, {"train": Rows(features, [0, 1, 2]), "test": Rows(features, [2])})
    with pytest.warns(
        UserWarning, match=r"'crane' is the name of 2 classes \(1 such names\)\. Their numbers are added"
    ):
        data = HuggingFace("x")
    assert data.classes == ("crane (0)", "wren", "crane (2)")
    assert [r.label for r in data.records] == [0, 1, 2, 2]


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), "", " "])
def test_labels_that_are_missing(monkeypatch: pytest.MonkeyPatch, missing: Any) -> None:
    features = {"image": FakeImage(), "label": Value()}
    stand_in(monkeypatch, {"train": Rows(features, ["a", missing, "b"]), "test": Rows(features, [missing, "b", "a"])})
    with pytest.warns(UserWarning, match="2 set aside .* train/0000001: it has no label"):
        data = HuggingFace("x")
    assert data.classes == ("a", "b")
    assert [(r.id, r.label) for r in data.records] == [
        ("train/0000000", 0),
        ("train/0000002", 1),
        ("test/0000001", 1),
        ("test/0000002", 0),
    ]
    assert set(data.skipped) == {"train/0000001", "test/0000000"}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            Rows({"image": FakeImage(), "label": Value()}, [["a", "b"], ["c"]]),
            r"must be a name or a number; got \['a', 'b'\]",
        ),
        (ConnectionError("no route"), "hf:x: can't be opened: no route. Give a folder, or a name that the hub has"),
        ({"dev": Rows(LABELLED, [0])}, r"hf:x: has no split trainval or train; got \['dev'\]"),
        (Rows({"label": ClassLabel(["a"])}, [0]), "hf:x: has no picture column"),
        (Rows({"image": FakeImage(), "caption": Value()}, ["a"]), "hf:x: has no label column"),
        (Rows(LABELLED, [0, 7]), "no training picture of 0 .*1 are left out; the first: its label 7 is none of the 2"),
        (Rows(LABELLED, [0, 0]), "hf:x: has no training picture of 0"),
        (Rows(LABELLED, []), "hf:x: has no training picture of 1"),
    ],
)
def test_what_the_hub_cannot_give(monkeypatch: pytest.MonkeyPatch, found: Any, message: str) -> None:
    stand_in(monkeypatch, found)
    with pytest.raises(DataError, match=message):
        HuggingFace("x")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="hf:x: needs the package 'datasets', which is absent: pip install datasets"):
        open_dataset("hf:x")


def test_a_streamed_data_set_is_told_what_to_do() -> None:
    stream = type("IterableDataset", (), {"features": {}})()
    for data in (stream, {"train": stream}):
        with pytest.raises(
            DataError, match=r"is streamed, and pictures of a stream can't be found again.*parquet:hf://"
        ):
            as_dataset(data)
