"""The names splits go by: the same for folders, tables and Hugging Face; folders that may be splits are questioned."""

import itertools
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from carrot.data import CsvFolder, HuggingFace, ImageDataset, ImageFolder, open_dataset, split_indices, splits
from carrot.errors import DataError
from tests.unit.test_data_adapters import LABELLED, Rows

TRAIN = ("train", "Training", "TRN", "trainval", "train_set", "Train-Data", "training images")
TEST = ("test", "Testing", "tst", "val", "VALID", "validation", "eval", "Evaluation", "dev", "test_set", "TestData")


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)


def as_folder(root: Path, names: tuple[str, ...], patch: pytest.MonkeyPatch) -> ImageDataset:
    make(root, *(f"{name}/{label}/{k}.png" for name in names for label in "ab" for k in range(6)))
    return ImageFolder(root)


def as_table(root: Path, names: tuple[str, ...], patch: pytest.MonkeyPatch) -> ImageDataset:
    files = [(f"{label}{k}{name}.png", label, name) for name in names for label in "ab" for k in range(6)]
    make(root, *(file for file, _, _ in files))
    (root / "t.csv").write_text("image,label,split\n" + "".join(",".join(line) + "\n" for line in files))
    return CsvFolder(root)


def as_hub(root: Path, names: tuple[str, ...], patch: pytest.MonkeyPatch) -> ImageDataset:
    module = types.ModuleType("datasets")
    found = {name: Rows(LABELLED, [0] * 6 + [1] * 6) for name in names}
    module.load_dataset = module.load_from_disk = lambda name: found  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "datasets", module)
    return HuggingFace("x")


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("reader", [ImageFolder, CsvFolder])
@pytest.mark.parametrize("test_every", [True, 2.5, "5", 1, 0])
def test_what_every_can_be(tmp_path: Path, reader: Any, test_every: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="test_every must be"):
        reader(tmp_path, test_every)


READERS = [as_folder, as_table, as_hub]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("pair", [*zip(TRAIN, itertools.cycle(("test", "Eval"))), *(("train", name) for name in TEST)])
def test_every_usual_name_is_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: type, pair: tuple[str, str]
) -> None:
    data = reader(tmp_path, pair, monkeypatch)
    assert len(data.classes) == 2
    assert [len(split_indices(data, side)) for side in ("train", "test")] == [12, 12]
    assert data.skipped == {}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("beside", ["val", "dev", "eval", "validation"])
def test_the_best_known_is_for_testing_and_the_other_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: type, beside: str
) -> None:
    with pytest.warns(UserWarning, match=r"set aside \(see \.skipped\)"):
        data = reader(tmp_path, ("train", beside, "testing"), monkeypatch)
    assert [len(split_indices(data, side)) for side in ("train", "test")] == [12, 12]
    tested = {r.id for r in data.records if r.split == "test"}
    assert all("testing" in name for name in tested)
    assert all(beside in name for name in data.skipped)


@pytest.mark.parametrize("reader", [as_folder, as_hub])
def test_two_names_of_one_side_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: type) -> None:
    with pytest.raises(DataError, match="'test' and 'testing' mean the same split|'testing' and 'test' mean"):
        reader(tmp_path, ("train", "test", "testing"), monkeypatch)


def test_names_of_classes_that_only_sound_alike_are_no_split(tmp_path: Path) -> None:
    make(tmp_path, "test/1.png", "testing/1.png", "valid/1.png", "validation/1.png")
    assert len(ImageFolder(tmp_path).classes) == 4


def test_validation_pictures_are_not_tested_beside_trainval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="trainval: a split that is not used"):
        data = as_hub(tmp_path, ("trainval", "train", "val"), monkeypatch)
    assert {r.id.split("/")[0] for r in data.records} == {"train", "val"}
    assert splits.sides(["trainval", "val"], "x") == ("trainval", (), ("val",))


@pytest.mark.parametrize(
    "name", ["bus", "trains", "strain", "tester", "valley", "developer", "7", "", "_", "set", "data"]
)
def test_what_is_no_split(name: str) -> None:
    assert splits.kind_of(name) is None


@pytest.mark.parametrize(
    "names",
    [
        ("First/a", "First/b", "Second/a", "Second/b"),
        ("x1/a", "x1/b", "x1/c", "x2/a", "x2/b"),
        ("fold1/a", "fold1/b", "fold2/a", "fold2/b", "samples"),
        ("images/train", "images/test", "masks/train", "masks/test"),
        ("seg_train/seg_train/a", "seg_train/seg_train/b", "seg_test/seg_test/a", "seg_pred"),
        ("train/a", "train/b", "new"),
    ],
)
def test_folders_that_may_be_splits_are_questioned(tmp_path: Path, names: tuple[str, ...]) -> None:
    make(tmp_path, *(f"{name}/{k}.png" for name in names for k in range(2)))
    for opened in (ImageFolder, open_dataset):
        with pytest.raises(DataError, match="look like another level above the classes: .* folders such as") as caught:
            opened(tmp_path)
        assert "train" in str(caught.value)
    for nested in (ImageFolder(tmp_path, nested=True), open_dataset(f"folder:{tmp_path}")):
        assert nested.classes == tuple(sorted({name.split("/")[0] for name in names}))


def test_a_split_below_the_classes_is_told_how_to_turn(tmp_path: Path) -> None:
    make(tmp_path, *(f"{label}/{side}/1.png" for label in ("cat", "dog") for side in ("train", "test")))
    with pytest.raises(DataError, match=r"Put the split above the classes: .*train/CLASS and .*test/CLASS"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("cat/1.png", "cat/front/2.png", "cat/side/3.png", "dog/front/1.png", "dog/side/1.png"),  # a picture of its own
        ("cat/images/1.png", "dog/images/1.png"),  # one folder says nothing
        ("cat/old/1.png", "dog/new/1.png"),
        ("train/1.png", "bus/1.png"),
        ("steam_train/1.png", "bus/2020/1.png"),
    ],
)
def test_folders_of_classes_are_not_questioned(tmp_path: Path, names: tuple[str, ...]) -> None:
    make(tmp_path, *names)
    data = ImageFolder(tmp_path)
    assert set(data.classes) == {name.split("/")[0] for name in names}
    assert len(data.records) == len(names)


def test_two_levels_of_classes_are_told(tmp_path: Path) -> None:
    make(tmp_path, "animals/cat/1.png", "animals/dog/1.png", "plants/rose/1.png", "plants/elm/1.png")
    with pytest.warns(
        UserWarning, match=r"its 2 folders; the 4 folders in these, such as animals/cat, are not told apart"
    ):
        data = ImageFolder(tmp_path)
    assert data.classes == ("animals", "plants")
    with warnings.catch_warnings():
        assert len(ImageFolder(tmp_path, nested=True).records) == 4


@pytest.mark.parametrize("loose", [True, False])
def test_a_test_folder_without_labels_is_told_and_another_serves(tmp_path: Path, loose: bool) -> None:
    make(tmp_path, *(f"train/{label}/{k}.png" for label in "ab" for k in range(5)))
    make(tmp_path, *(["test/1.png", "test/2.png"] if loose else []))
    (tmp_path / "test" / "a").mkdir(parents=True)
    (tmp_path / "test" / "a" / "1.heic").touch()
    with pytest.warns(UserWarning, match="1 x a split without labelled pictures"):
        data = ImageFolder(tmp_path)
    assert [r.id for r in data.records if r.split == "test"] == ["train/a/4.png", "train/b/4.png"]
    assert set(data.skipped) == {"test", "test/a/1.heic"}
    make(tmp_path, "val/a/1.png")
    with pytest.warns(UserWarning, match="1 x a split without labelled pictures"):
        data = ImageFolder(tmp_path)
    assert [r.id for r in data.records if r.split == "test"] == ["val/a/1.png"]
