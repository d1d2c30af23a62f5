"""``open_dataset``: the table of kinds, how paths are recognised, and what an error says; and the toy set's masks."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import carrot.data
from carrot.data import Box, CsvFolder, ImageDataset, ImageFolder, Pets, Segmented, open_dataset
from carrot.data.opening import KINDS
from carrot.data.toy import ToyBirds
from carrot.errors import DataError
from carrot.store.layout import CONFIG, FORMAT
from tests.conftest import RealFiles


def folder_of_two(root: Path) -> Path:
    for name in ("cat/1.png", "dog/1.png"):
        (root / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / name)
    return root


def test_the_table_in_the_docstring_is_the_table() -> None:
    doc = carrot.data.__doc__
    assert doc is not None
    written = [
        line.split()[0] for line in doc.splitlines() if line.split()[:1] and line.split()[0].split(":")[0] in KINDS
    ]
    assert written == [kind.form for kind in KINDS.values()]
    assert list(KINDS) == [
        *("toy", "cub", "pets", "aircraft", "cars", "flowers102", "cifar10", "cifar100"),
        *("csv", "folder", "object", "wds", "parquet", "torchvision", "hf"),
    ]


def test_every_public_name_is_there() -> None:
    assert all(hasattr(carrot.data, name) for name in carrot.data.__all__)
    assert Box(1, 2, 3, 4).height == 4


def test_kinds(tmp_path: Path) -> None:
    toy = open_dataset("toy")
    assert isinstance(toy, ToyBirds)
    assert isinstance(toy, ImageDataset)
    opened = open_dataset(f"folder:{folder_of_two(tmp_path / 'x')}")
    assert isinstance(opened, ImageFolder)
    assert opened.name == "x"
    for kind in ("cub", "pets", "aircraft", "cars", "flowers102", "cifar10", "cifar100"):
        with pytest.raises(DataError, match="has no .*Give the "):
            open_dataset(f"{kind}:{tmp_path / 'x'}")
        with pytest.raises(DataError, match=f"{kind}:: says not where. Write {kind}:DIR"):
            open_dataset(f"{kind}:")


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder_of_two(tmp_path / "x")
    assert open_dataset("folder:~/x").name == "x"
    assert open_dataset("~/x").name == "x"


@pytest.mark.parametrize("name", ["toy", "cub:birds", "C:data", "hf:a"])
def test_what_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder_of_two(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for spec in (name, Path(name), tmp_path / name, f"folder:{name}"):
        assert isinstance(open_dataset(spec), ImageFolder)
    if name == "toy":
        assert isinstance(open_dataset("toy:"), ToyBirds)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "cubs:here",
            r"cubs:here: there is no such path, and no kind 'cubs' .* one of toy, cub:DIR, .*, hf:NAME_OR_DIR\.",
        ),
        ("CUB:here", r"no kind 'CUB' of data set\. Did you mean cub:\? Give a path"),
        ("cub", r"cub: says not where\. Write cub:DIR"),
        ("nowhere/at/all", r"nowhere/at/all: there is no such file or folder\. Give a path, or one of toy, cub:DIR"),
        (r"C:\birds", r"C:\\birds: there is no such file or folder\."),
        ("", r"Give a path, or one of toy"),
        ("x" * 5000, r"there is no such file or folder"),
        ("a\0b", r"there is no such file or folder"),
        ("toy:here", r"toy:here: the toy data set lies nowhere"),
        ("torchvision:SVHN", r"must name a class and a folder\. Write torchvision:Name:DIR"),
        ("torchvision::here", r"must name a class and a folder"),
        ("folder:nowhere", r"nowhere: is not a folder"),
        ("csv:nowhere", r"nowhere: there is no such file or folder"),
    ],
)
def test_errors_say_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        open_dataset(spec)


def test_an_unknown_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no class folders.*it has none of images\.txt \(cub\), annotations/trainval.*\(csv\)"
    ):
        open_dataset(tmp_path)


def test_a_folder_of_several_data_sets_is_refused(tmp_path: Path) -> None:
    for file in ("CUB_200_2011/images.txt", "oxford-iiit-pet/annotations/trainval.txt"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("")
    with pytest.raises(DataError, match=r"has the files of several data sets\. Say which: cub:DIR or pets:DIR"):
        open_dataset(tmp_path)


def test_a_picture_is_no_data_set(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1\.png: is not a folder, but one picture\. Give a folder of pictures"):
        open_dataset(tmp_path / "1.png")
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(DataError, match=r"t\.xlsx: is not a folder, nor a table that is read\. .*save it as CSV"):
        open_dataset(tmp_path / "t.xlsx")


def test_a_model_is_no_data_set(tmp_path: Path) -> None:
    folder_of_two(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps({"format": FORMAT}))
    with pytest.raises(DataError, match="is a model that CARROT saved, not a data set"):
        open_dataset(tmp_path)
    for text in ('{"format": "of somebody else"}', "[1]", "no json"):
        (tmp_path / CONFIG).write_text(text)
        assert isinstance(open_dataset(tmp_path), ImageFolder)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("spec", [None, b"toy", 7, ["toy"]])
def test_other_kinds_of_names_are_refused(spec: Any) -> None:
    with pytest.raises(TypeError, match=f"by a path or kind:WHERE, as a str or a Path; got {type(spec).__name__}"):
        open_dataset(spec)


@pytest.mark.parametrize("spec", ["https://a.b/c.zip", Path("https://a.b/c.zip"), "http://u:p@a.b/c.zip?x=1"])
def test_an_address_keeps_its_slashes(spec: str | Path) -> None:
    kind = str(spec).split(":")[0]
    with pytest.raises(DataError, match=rf"^{kind}://a\.b/c\.zip: an address is not opened\. Download"):
        open_dataset(spec)


def test_a_table_in_a_folder_is_not_forgotten(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,weight\n1.png,3\n")
    with pytest.raises(
        DataError, match=r"no class folders.*Its table can't be used: .*t\.csv: the first line must name"
    ):
        open_dataset(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "t.csv").write_text("image,label\n1.png,a\n")
    with pytest.raises(DataError, match=r"no pictures.*To read its table, give csv:.*t\.csv"):
        open_dataset(tmp_path)
    for name in ("one", "two"):
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    with pytest.warns(
        UserWarning, match=r"by its class folders, not by its table. To read the table, give csv:.*t\.csv"
    ):
        assert open_dataset(tmp_path).classes == ("one", "two")
    assert open_dataset(f"folder:{tmp_path}").classes == ("one", "two")


def test_the_toy_masks_are_the_bird() -> None:
    birds = ToyBirds(n_train_per_class=2, n_test_per_class=1, n_species=3, shortcut=0)
    assert isinstance(birds, Segmented)
    for index in range(len(birds)):
        rendered, mask = birds.rendered(index), birds.mask(index)
        assert mask.dtype == np.bool_
        assert mask.shape == (160, 160)
        others = [name for name in rendered.names if name in ("background", "watermark") or name.startswith("object")]
        np.testing.assert_array_equal(~mask, np.any([rendered.mask(name) for name in others], axis=0))
        without = birds.rendered(index, [name for name in rendered.names[1:] if name not in others])
        changed = np.any(np.asarray(rendered.image) != np.asarray(without.image), axis=2)
        assert mask[changed].mean() > 0.8  # leaving the bird out changes the bird; the rest is its smooth border
        assert changed[mask].mean() > 0.98


def test_folders_and_the_toy_set_travel_to_another_process(tmp_path: Path) -> None:
    for data in (ImageFolder(folder_of_two(tmp_path)), ToyBirds(1, 1, 2)):
        again = pickle.loads(pickle.dumps(data))  # noqa: S301 (our own bytes)
        assert again.records == data.records
        np.testing.assert_array_equal(np.asarray(again.image(1)), np.asarray(data.image(1)))


def test_real_folders_are_recognised(real: RealFiles) -> None:
    pets = open_dataset(f"pets:{real.data / 'pets370'}")
    assert isinstance(pets, Pets)
    assert all(record.mask is not None for record in pets.records)
    assert isinstance(open_dataset(real.data / "flowers17"), ImageFolder)


def test_a_real_folder_with_a_table(real: RealFiles, tmp_path: Path) -> None:
    names = sorted(path.name for path in (real.data / "pets370" / "images").glob("*.jpg"))[:40]
    for name in names:
        (tmp_path / name).write_bytes((real.data / "pets370" / "images" / name).read_bytes())
    rows = "".join(f"{name},{name.rpartition('_')[0]}\n" for name in names)
    (tmp_path / "labels.csv").write_text("file_name,class\n" + rows)
    data = open_dataset(tmp_path)
    assert isinstance(data, CsvFolder)
    assert len(data.classes) == 4
    assert data.image(39).mode == "RGB"
