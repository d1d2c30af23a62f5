"""Data sets given as objects: torchvision's and torch's, Hugging Face's, data frames; and what is refused."""

import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset, random_split
from torchvision import datasets, transforms

from carrot import Carrot, DataError
from carrot.classifier.fitting import training_set
from carrot.data import ImageDataset
from carrot.data.given import as_dataset
from carrot.data.inputs import PictureList
from tests.unit.test_data_adapters import LABELLED, FakeImage, Rows, Value, pixels

pytestmark = pytest.mark.usefixtures("surveyed_once", "as_user")
CLASSES = ("jay", "robin", "wren")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of each of three classes."""
    for c, name in enumerate(CLASSES):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(pixels(10 * c + k, (40, 40, 3))).save(tmp_path / "birds" / name / f"{k}.png")
    return tmp_path / "birds"


class Frame:
    """As much of a data frame as is asked for."""

    def __init__(self, **columns: list[Any]) -> None:
        self._columns, self.columns = columns, list(columns)
        self.shape = (len(next(iter(columns.values()))), len(columns))

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def __len__(self) -> int:
        return self.shape[0]


class Pairs:
    """As much of a torch data set as is asked for: no list of labels, no names."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def told(data: Any) -> list[tuple[str, str]]:
    """The pictures of a data set that was given, with their classes."""
    found = as_dataset(data)
    assert {r.split for r in found.records} <= {"train"}
    return [(r.id, found.classes[r.label]) for r in found.records]


def test_a_folder_of_torchvision_is_read_from_its_files(folder: Path) -> None:
    given = datasets.ImageFolder(str(folder))
    found = as_dataset(given)
    assert told(given) == [(f"{name}/{k}.png", name) for name in CLASSES for k in range(2)]
    assert [r.path for r in found.records] == [folder / r.id for r in found.records]
    np.testing.assert_array_equal(np.asarray(found.image(3)), pixels(11, (40, 40, 3)))
    assert isinstance(found, ImageDataset)
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 (our own bytes)
    assert again.records == found.records


def test_its_transform_is_left_to_the_model_and_that_is_said(folder: Path) -> None:
    normal = transforms.Compose([transforms.ToTensor()])
    with pytest.warns(UserWarning, match="a ImageFolder: its `transform` is not applied: pictures are read from their"):
        found = as_dataset(datasets.ImageFolder(str(folder), normal))
    np.testing.assert_array_equal(np.asarray(found.image(0)), pixels(0, (40, 40, 3)))


def test_a_subset_has_the_names_and_files_of_the_whole(folder: Path) -> None:
    whole = datasets.ImageFolder(str(folder))
    assert told(Subset(whole, [5, 0, 1])) == [("wren/1.png", "wren"), ("jay/0.png", "jay"), ("jay/1.png", "jay")]
    assert told(Subset(Subset(whole, [5, 0, 1]), [2, 0])) == [("jay/1.png", "jay"), ("wren/1.png", "wren")]
    parts = random_split(whole, [4, 2], torch.Generator().manual_seed(0))
    assert sorted(told(parts[0]) + told(parts[1])) == sorted(told(whole))
    found = as_dataset(Subset(whole, np.array([3])))
    np.testing.assert_array_equal(np.asarray(found.image(0)), pixels(11, (40, 40, 3)))


def test_pairs_of_pictures_and_numbers(folder: Path) -> None:
    tensors = torch.rand(4, 3, 8, 8)
    found = as_dataset(TensorDataset(tensors, torch.tensor([7, 3, 7, 3])))
    assert found.classes == ("3", "7")
    assert found.label_kind == "number"  # type: ignore[attr-defined]
    assert [r.id for r in found.records] == [f"picture {k}" for k in range(4)]
    np.testing.assert_array_equal(np.asarray(found.image(2)), (tensors[2] * 255).round().byte().permute(1, 2, 0))
    arrays = [(pixels(k), k % 2) for k in range(4)]
    assert [label for _, label in told(ConcatDataset([Pairs(arrays), Pairs(arrays)]))] == ["0", "1"] * 4
    assert [label for _, label in told(Subset(Pairs(arrays), [1, 3, 2]))] == ["1", "1", "0"]


def test_named_classes_without_files() -> None:
    given = Pairs([(Image.fromarray(pixels(k)), k % 3) for k in range(6)])
    given.classes, given.targets = list(CLASSES), [k % 3 for k in range(6)]  # type: ignore[attr-defined]
    assert told(given) == [(f"picture {k}", CLASSES[k % 3]) for k in range(6)]
    assert as_dataset(given).label_kind == "name"  # type: ignore[attr-defined]
    some = Subset(given, [1, 2, 4])
    assert as_dataset(some).classes == ("robin", "wren"), "those that occur"
    assert told(some) == [("picture 1", "robin"), ("picture 2", "wren"), ("picture 4", "robin")]


def test_pictures_without_a_label_are_set_aside() -> None:
    with pytest.warns(UserWarning, match="1 set aside .* picture 1: it has no label"):
        found = as_dataset(Pairs([(pixels(k), y) for k, y in enumerate([0, -1, 1, 0])]))
    assert [r.id for r in found.records] == ["picture 0", "picture 2", "picture 3"]
    np.testing.assert_array_equal(np.asarray(found.image(1)), pixels(2))


def test_hugging_faces_objects() -> None:
    one = Rows(LABELLED, [0, 1, 0])
    assert told(one) == [("train/0000000", "1"), ("train/0000001", "0"), ("train/0000002", "1")]
    assert len(told(Rows({"image": FakeImage(), "label": Value()}, ["a", "b"] * 5))) == 10, "all are for training"
    found = as_dataset({"train": one, "test": Rows(LABELLED, [1], 50)})
    assert [r.split for r in found.records] == ["train", "train", "train", "test"]
    with pytest.raises(DataError, match="`data`, a Rows: has no label column"):
        as_dataset(Rows({"image": FakeImage()}, [0, 1]))


def test_a_frame_of_paths_and_labels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(folder / name / f"{k}.png") for name in CLASSES for k in range(2)]
    labels = [name for name in CLASSES for _ in range(2)]
    assert told(Frame(Path=paths, Species=labels, weight=[1.0] * 6)) == list(zip(paths, labels, strict=True))
    split = ["train", "Test", "training", "val", "train", "test"]
    assert told(Frame(image=paths, label=labels, split=split)) == [(paths[k], labels[k]) for k in (0, 2, 4)]
    assert len(told(Frame(image=paths, label=labels, usage=["public"] * 6))) == 6
    numbers = as_dataset(Frame(image=paths, label=[3, 3, 1, 1, 2, 2]))
    assert (numbers.classes, numbers.label_kind) == (("1", "2", "3"), "number")  # type: ignore[attr-defined]
    monkeypatch.chdir(folder)
    assert told(Frame(image=["jay/0.png", "wren/1.png"], label=[True, False]))[0] == ("jay/0.png", "True")


def test_rows_without_a_label_are_set_aside(folder: Path) -> None:
    paths = [str(folder / name / "0.png") for name in CLASSES]
    with pytest.warns(UserWarning, match="1 set aside .*robin/0.png: it has no label"):
        found = as_dataset(Frame(image=paths, label=[1.0, float("nan"), 2.0]))  # as pandas has whole numbers with gaps
    assert found.classes == ("1", "2")
    assert list(found.skipped.values()) == ["it has no label"]  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="2 set aside"):
        assert len(told(Frame(image=[None, *paths[1:]], label=["a", " ", "b"]))) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: Frame(file=[p], species=["a"], breed=["b"]), "one column label or class; got more than one in"),
        (lambda p: Frame(where=[p], label=["a"]), "one column image or filename or file_name or path; got none in"),
        (
            lambda p: Frame(image=["gone.png", p], label=["a", "b"]),
            "1 of 2 pictures are not there: gone.png. Paths",
        ),
        (lambda p: Frame(image=[p, p], label=["a", "b"], split=["train", "x"]), "row 1: the split must be train, test"),
        (lambda p: Frame(image=[p], label=["a"], split=["test"]), "at least one row for training"),
        (lambda p: Pairs([]), "`data`, a Pairs: has no pictures"),
        (lambda p: Pairs([(pixels(0), -1)]), "`data`, a Pairs: no picture has a label"),
    ],
)
def test_data_that_is_wrong_is_refused(folder: Path, make: Callable[[str], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_dataset(make(str(folder / "jay" / "0.png")))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: DataLoader(d), r"got DataLoader. It is made of one: give its `dataset`, a Pairs"),
        (lambda d: [pixels(0), pixels(1)], "got list. Pictures alone have no classes: give `y` too"),
        (lambda d: np.zeros((2, 8, 8, 3), np.uint8), "got ndarray. Pictures alone have no classes: give `y` too"),
        (lambda d: 7, "got int"),
        (lambda d: type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(())})(), "got Stream"),
        (lambda d: Pairs([{"image": pixels(0), "label": 0}]), r"`data`\[0\] must be \(picture, label\); got dict"),
        (lambda d: Pairs([("gone", 0), (7, 1)][1:]), r"`data`\[0\]: A picture must be a path.*; got int"),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_ways(make: Callable[[Any], Any], message: str) -> None:
    pairs = Pairs([(pixels(k), k % 2) for k in range(4)])
    with pytest.raises(TypeError, match=message) as refused:
        training_set(make(pairs), None)
    if "picture must" not in message:
        for way in ("a folder or kind:PATH", "torchvision", "Hugging Face", "data frame", "pictures with `y`"):
            assert way in str(refused.value)


def test_normalised_tensors_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"`data`\[0\]: A floating-point tensor must be in \[0, 1\], before any"):
        as_dataset(TensorDataset(torch.randn(4, 3, 8, 8), torch.arange(4)))


def test_labels_twice_are_refused(folder: Path) -> None:
    pairs = Pairs([(pixels(k), k % 2) for k in range(4)])
    given = (datasets.ImageFolder(str(folder)), pairs, Frame(image=["x"], label=["y"]), PictureList([pixels(0)], ["a"]))
    for data in given:
        with pytest.raises(ValueError, match=re.escape(f"this {type(data).__name__} is a data set, whose labels are")):
            training_set(data, [0, 1])


def test_pictures_of_any_sequence_still_take_y() -> None:
    class Pictures(Pairs):
        def __iter__(self) -> Any:
            return iter(self.items)

    train, _ = training_set(Pictures([pixels(0), pixels(1)]), ["a", "b"])
    assert len(train.records) == 2


def test_a_model_of_a_given_folder_finds_its_pictures_when_it_is_loaded(folder: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="has no split, so that all of its 6 pictures are for training"):
        model = Carrot("toy", lam=1.0).fit(datasets.ImageFolder(str(folder)))
    assert model.classes_.tolist() == list(CLASSES)
    model.save(tmp_path / "model")
    e = Carrot.load(tmp_path / "model").explain(folder / "wren" / "0.png", k=6)
    assert set(e.training_ids) == {f"{name}/{k}.png" for name in CLASSES for k in range(2)}
    assert len(e.shown_pictures) == 6


def test_numbers_come_back_as_numbers() -> None:
    model = Carrot("toy", lam=1.0).fit(Pairs([(pixels(k, (40, 40, 3)), 3 + k % 2) for k in range(6)]))
    assert model.classes_.tolist() == [3, 4]
    assert model.predict(pixels(0, (40, 40, 3))).dtype == np.int64


def test_data_frames_of_pandas(folder: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pip install '.[frames]'")
    paths = [str(folder / name / f"{k}.png") for name in CLASSES for k in range(2)]
    frame = pandas.DataFrame({"image": paths, "label": ["jay", "jay", None, "robin", "wren", pandas.NA]})
    with pytest.warns(UserWarning, match="2 set aside"):
        assert [label for _, label in told(frame)] == ["jay", "jay", "robin", "wren"]
    gaps = pandas.DataFrame({"image": paths, "label": pandas.array([1, 2, 1, None, 2, 1], dtype="Int64")})
    with pytest.warns(UserWarning, match="1 set aside"):
        assert as_dataset(gaps).classes == ("1", "2")
    plain = pandas.DataFrame({"image": paths, "label": pandas.Categorical(["a", "b"] * 3)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(told(plain)) == 6
    train, _ = training_set(plain["image"], plain["label"])
    assert [r.id for r in train.records] == paths


def forms(folder: Path) -> list[Any]:
    """All pictures of a folder of class folders, in each way that ``fit`` takes them, in one order."""
    paths = [path for name in CLASSES for path in sorted((folder / name).iterdir())]
    labels = [CLASSES.index(path.parent.name) for path in paths]
    rows = Rows(LABELLED | {"label": Classes(CLASSES)}, labels)
    rows.picture = lambda key: Image.open(paths[key])  # type: ignore[attr-defined]
    return [
        datasets.ImageFolder(str(folder)),
        Subset(datasets.ImageFolder(str(folder)), range(len(paths))),
        Frame(image=list(map(str, paths)), label=[path.parent.name for path in paths]),
        Pairs([(np.asarray(Image.open(path)), label) for path, label in zip(paths, labels, strict=True)]),
        PictureList(paths, [path.parent.name for path in paths]),
        rows,
        f"folder:{folder}",
    ]


class Classes:
    """As much of ``datasets.ClassLabel`` as is asked for."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = list(names)


Classes.__name__ = "ClassLabel"


@pytest.fixture
def others(folder: Path, tmp_path: Path) -> Path:
    """One picture of each class that is not in ``folder``."""
    for c, name in enumerate(CLASSES):
        (tmp_path / "others" / name).mkdir(parents=True)
        Image.fromarray(pixels(90 + c, (40, 40, 3))).save(tmp_path / "others" / name / "9.png")
    return tmp_path / "others"


def test_what_fit_takes_is_predicted_scored_and_audited_too(folder: Path, others: Path) -> None:
    paths = [others / name / "9.png" for name in CLASSES]
    of = [folder / name / f"{k}.png" for name in CLASSES for k in range(2)]
    model = Carrot("toy", lam=1.0).fit(of, [path.parent.name for path in of])
    expected = model.decision_function(paths)
    right = (model.predict(paths) == np.array(CLASSES)).mean()
    for given in forms(others):
        np.testing.assert_array_equal(model.decision_function(given), expected)
        assert model.predict(given).tolist() == model.predict(paths).tolist()
        assert model.predict_proba(given).shape == (3, 3)
        if not isinstance(given, Pairs):  # which has numbers for classes
            assert model.score(given) == pytest.approx(right)
            assert len(model.audit(given).held_out) == 3
    for given in forms(others)[:-1]:
        with pytest.raises(ValueError, match="is a data set, whose labels are its own. Leave `y` out"):
            model.score(given, list(CLASSES))


def test_what_was_fitted_on_is_not_scored(folder: Path, others: Path) -> None:
    model = Carrot("toy", lam=1.0).fit(Subset(datasets.ImageFolder(str(folder)), range(6)))
    for given in [forms(folder)[i] for i in (0, 1, 2, 4)]:
        with pytest.raises(DataError, match="fitted on every one of its 6 pictures, so that none is left.*held out"):
            model.score(given)
    frame = forms(folder)[2]
    both = [path for name in CLASSES for path in sorted((others / name).iterdir())]
    split = Frame(
        image=[*frame["image"], *map(str, both)],
        label=[*frame["label"], *CLASSES],
        split=["train"] * 6 + ["test"] * 3,
    )
    assert model.score(split) == model.score(others)
    assert len(model.predict(split)) == 9, "every row is answered"


def test_one_side_of_a_split_has_no_split_to_tell_of(folder: Path) -> None:
    folder.rename(folder.with_name("train"))
    training_set(datasets.ImageFolder(str(folder.with_name("train"))), None)  # warnings are errors here


def test_a_data_set_is_no_one_picture(folder: Path) -> None:
    model = Carrot("toy", lam=1.0).fit(Subset(datasets.ImageFolder(str(folder)), range(6)))
    given = datasets.ImageFolder(str(folder))
    with pytest.raises(TypeError, match=r"give one picture: data\[0\]\[0\]"):
        model.explain(given)
    with pytest.raises(TypeError, match=r"give its first, item\[0\]"):
        model.explain(given[0])
