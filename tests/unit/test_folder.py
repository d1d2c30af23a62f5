"""Folders of class folders: order, split, and what is set aside or refused."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from carrot.data import ImageFolder, open_dataset, split_indices
from carrot.data.tables import natural
from carrot.errors import DataError, UnreadableImageError
from tests.conftest import RealFiles


def make(root: Path, *pictures: str) -> Path:
    for picture in pictures:
        file = root / picture
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), "red").save(file, format="PNG")
    return root


def test_classes_are_first_level_folders_in_natural_order(tmp_path: Path) -> None:
    make(tmp_path, "bird 10/a.png", "bird 2/deep/er/2.jpg", "bird 2/deep/er/10.jpg", "bird 2/1.JPG", "Ant/x.webp")
    data = ImageFolder(tmp_path)
    assert data.name == tmp_path.name
    assert data.classes == ("Ant", "bird 2", "bird 10")
    assert [(record.id, record.label) for record in data.records] == [
        ("Ant/x.webp", 0),
        ("bird 2/1.JPG", 1),
        ("bird 2/deep/er/2.jpg", 1),
        ("bird 2/deep/er/10.jpg", 1),
        ("bird 10/a.png", 2),
    ]
    assert all(record.path == tmp_path / record.id for record in data.records)
    assert data.image(3).size == (4, 3)
    assert data.skipped == {}


def test_hidden_and_other_files_are_ignored(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "b/1.png", "a/.1.png", ".cache/1.png", "a/.thumbs/1.png", "__MACOSX/1.png")
    (tmp_path / "README.md").touch()
    (tmp_path / "a" / "notes.txt").touch()
    assert [record.id for record in ImageFolder(tmp_path).records] == ["a/1.png", "b/1.png"]


@pytest.mark.parametrize("test_every", [2, 3, 5])
def test_every_kth_picture_of_a_class_is_for_testing(tmp_path: Path, test_every: int) -> None:
    sizes = {"a": 1, "b": 4, "c": 11}
    make(tmp_path, *(f"{name}/{i}.png" for name, size in sizes.items() for i in range(size)))
    data = ImageFolder(tmp_path, test_every=test_every)
    for label, size in enumerate(sizes.values()):
        splits = [record.split for record in data.records if record.label == label]
        assert splits == ["test" if i % test_every == test_every - 1 else "train" for i in range(size)]
    assert ImageFolder(tmp_path, test_every=test_every).records == data.records


def test_no_test_pictures_if_none_are_asked_for(tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(9)))
    assert split_indices(ImageFolder(tmp_path, test_every=None), "test") == []


@pytest.mark.parametrize("test_every", [1, 0, -5])
def test_the_split_needs_training_pictures(tmp_path: Path, test_every: int) -> None:
    with pytest.raises(ValueError, match=f"test_every must be at least 2, or None .* got {test_every}"):
        ImageFolder(tmp_path, test_every=test_every)


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("train", "val"), ("Train", "VALIDATION")])
def test_a_split_of_its_own(tmp_path: Path, train: str, test: str) -> None:
    make(
        tmp_path, *(f"{train}/{name}/{i}.png" for name in "abc" for i in range(7)), f"{test}/b/0.png", f"{test}/c/0.png"
    )
    data = ImageFolder(tmp_path)
    assert data.classes == ("a", "b", "c")
    assert len(split_indices(data, "train")) == 21
    assert [(r.id, r.label) for r in data.records if r.split == "test"] == [
        (f"{test}/b/0.png", 1),
        (f"{test}/c/0.png", 2),
    ]


def test_test_comes_before_val_which_is_reported(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/2.png", "val/a/3.png")
    with pytest.warns(UserWarning, match="1 set aside .* val/a/3.png: neither in train/ nor in test/"):
        data = ImageFolder(tmp_path)
    assert [record.id for record in data.records] == ["train/a/1.png", "train/b/1.png", "test/a/2.png"]
    assert list(data.skipped) == ["val/a/3.png"]


def test_test_pictures_of_a_class_that_is_not_trained_are_set_aside(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png", "test/c/2.png", "test/B/1.png")
    with pytest.warns(UserWarning, match=r"3 set aside .*: 2 x class 'c' has no training picture; 1 x class 'B' has"):
        data = ImageFolder(tmp_path)
    assert [record.id for record in data.records] == ["train/a/1.png", "train/b/1.png", "test/a/1.png"]
    assert data.skipped["test/c/2.png"] == "class 'c' has no training picture"
    assert data.skipped["test/B/1.png"] == "class 'B' has no training picture; 'b' has, which looks alike"


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    make(tmp_path, "train/1.png", "bus/1.png")
    assert ImageFolder(tmp_path).classes == ("bus", "train")


def test_train_alone_is_explained(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.png", "train/b/1.png")
    with pytest.raises(DataError, match=r"at least two class folders; got only 'train'.*needs both train/ and test/"):
        ImageFolder(tmp_path)
    assert ImageFolder(tmp_path / "train").classes == ("a", "b")


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: is not a folder\. Give a folder that has one"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no class folders\. Put every picture in a folder named by its class"):
        ImageFolder(tmp_path)
    make(tmp_path, "1.png")
    with pytest.raises(DataError, match="has no class folders"):
        open_dataset(tmp_path)
    make(tmp_path, "a/1.png")
    with pytest.raises(DataError, match="at least two class folders; got only 'a'"):
        ImageFolder(tmp_path)
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "b" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"b: this class folder has no pictures\. Add some, or remove it"):
        ImageFolder(tmp_path)


def test_pictures_outside_of_class_folders_are_reported(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "b/1.png", "loose.png")
    with pytest.warns(UserWarning, match=r"loose\.png: not in a class folder"):
        data = ImageFolder(tmp_path)
    assert data.skipped == {"loose.png": "not in a class folder"}
    assert len(data.records) == 2


def test_links_are_never_followed(tmp_path: Path) -> None:
    make(tmp_path, "outside/secret.png", "root/a/1.png", "root/b/1.png")
    root = tmp_path / "root"
    (root / "a" / "out.png").symlink_to(tmp_path / "outside" / "secret.png")
    (root / "a" / "circle").symlink_to(root)
    (root / "b" / "twice.png").symlink_to(root / "a" / "1.png")
    (root / "c").symlink_to(tmp_path / "outside")
    with pytest.warns(UserWarning, match=r"4 set aside \(see \.skipped\)"):
        data = ImageFolder(root)
    assert [record.id for record in data.records] == ["a/1.png", "b/1.png"]
    assert data.skipped.keys() == {"a/out.png", "a/circle", "b/twice.png", "c"}
    assert set(data.skipped.values()) == {"a symbolic link, not followed"}


def test_a_folder_of_links_is_refused_with_the_remedy(tmp_path: Path) -> None:
    make(tmp_path, "store/1.png")
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "1.png").symlink_to(tmp_path / "store" / "1.png")
    with pytest.raises(
        DataError, match=r"no pictures.*links are not followed \(a/1\.png\): copy .* \(cp -rL SOURCE COPY\)"
    ):
        ImageFolder(tmp_path / "root")


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    make(tmp_path / "root", "a/1.png", "b/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    data = ImageFolder(tmp_path / "link")
    assert (data.name, len(data.records)) == ("root", 2)


def test_names_that_are_no_utf8_are_reported(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "b/1.png", "b/ü.png")
    os.rename(os.fsencode(tmp_path / "a" / "1.png"), os.fsencode(tmp_path / "a") + b"/\xff.png")
    make(tmp_path, "a/1.png")
    with pytest.warns(UserWarning, match="not valid UTF-8"):
        data = ImageFolder(tmp_path)
    assert data.skipped == {"a/\\xff.png": "its name is not valid UTF-8"}
    assert [record.id for record in data.records] == ["a/1.png", "b/1.png", "b/ü.png"]


def test_a_damaged_picture_is_found_when_it_is_read(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "0.jpg").touch()
    data = ImageFolder(tmp_path)
    with pytest.raises(UnreadableImageError, match=r"a/0\.jpg.*empty"):
        data.image(0)


@given(st.lists(st.text(st.sampled_from("aB10-é"), max_size=6), unique=True, min_size=2))
def test_the_natural_order_is_total_and_knows_numbers(names: list[str]) -> None:
    ordered = sorted(names, key=natural)
    assert sorted(reversed(names), key=natural) == ordered
    assert sorted(["p12", "p2", "P3", "p02"], key=natural) == ["p02", "p2", "P3", "p12"]


@settings(max_examples=25)
@given(counts=st.lists(st.integers(1, 12), min_size=2, max_size=4), test_every=st.integers(2, 6))
def test_every_picture_is_in_one_split_once(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], test_every: int
) -> None:
    root = tmp_path_factory.mktemp("data")
    for label, count in enumerate(counts):
        (root / f"c{label}").mkdir()
        for i in range(count):
            (root / f"c{label}" / f"{i}.png").touch()
    data = ImageFolder(root, test_every)
    assert sorted(record.id for record in data.records) == sorted(
        f"c{c}/{i}.png" for c, n in enumerate(counts) for i in range(n)
    )
    for label, count in enumerate(counts):
        assert sum(r.split == "test" for r in data.records if r.label == label) == count // test_every


def test_real_flowers(real: RealFiles) -> None:
    data = open_dataset(real.data / "flowers17")
    assert isinstance(data, ImageFolder)
    assert (len(data.records), len(data.classes)) == (1360, 17)
    assert len(split_indices(data, "test")) == 17 * 16
    assert data.skipped == {}
    assert data.image(0).mode == "RGB"
    assert min(data.image(0).size) == 256
