"""The Oxford-IIIT Pet reader on folders written here, on every way in which they can be wrong, and on real files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carrot.data import ImageFolder, Pets, Segmented, open_dataset, split_indices
from carrot.errors import DataError, UnreadableImageError
from tests.conftest import RealFiles

NAMES = ("american_bulldog_10", "american_bulldog_2", "Abyssinian_5", "Abyssinian_1")  # neither sorted nor by class
HEADER = """#Image CLASS-ID SPECIES BREED ID
#ID: 1:37 Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-25:Cat 1:12:Dog
#All images with 1st letter as captial are cat images
#images with small first letter are dog images
"""
FILES = {
    "trainval.txt": "american_bulldog_10 2 2 1\nAbyssinian_5 1 1 1\n",
    "test.txt": "american_bulldog_2 2 2 1\nAbyssinian_1 1 1 1\n",
    "list.txt": HEADER
    + "Abyssinian_1 1 1 1\nAbyssinian_5 1 1 1\namerican_bulldog_10 2 2 1\namerican_bulldog_2 2 2 1\n",
}
IDS = [f"images/{name}.jpg" for name in ("american_bulldog_10", "Abyssinian_5", "american_bulldog_2", "Abyssinian_1")]


def pixels(name: str) -> np.ndarray:
    return np.random.default_rng(NAMES.index(name)).integers(0, 256, size=(30, 40, 3), dtype=np.uint8)


def trimap(name: str) -> np.ndarray:
    return np.random.default_rng(NAMES.index(name)).integers(1, 4, size=(30, 40), dtype=np.uint8)


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """Four pictures of 40 x 30 pixels in the official formats, in ``oxford-iiit-pet`` below the returned folder."""
    root = tmp_path / "oxford-iiit-pet"
    (root / "images").mkdir(parents=True)
    (root / "annotations" / "trimaps").mkdir(parents=True)
    for file, text in FILES.items():
        (root / "annotations" / file).write_text(text)
    for name in NAMES:
        Image.fromarray(pixels(name)).save(root / "images" / f"{name}.jpg", format="PNG")  # as some official ones are
        Image.fromarray(trimap(name)).save(root / "annotations" / "trimaps" / f"{name}.png")
        (root / "annotations" / "trimaps" / f"._{name}.png").write_bytes(b"Mac OS X")  # as in the official archive
    return tmp_path


def test_records(mini: Path) -> None:
    pets = Pets(mini / "oxford-iiit-pet")
    assert pets.name == "pets"
    assert pets.classes == ("Abyssinian", "american_bulldog")  # in the order of class_id, not of the lines
    assert [record.id for record in pets.records] == IDS
    assert [record.label for record in pets.records] == [1, 0, 1, 0]
    assert [record.split for record in pets.records] == ["train", "train", "test", "test"]
    assert all(record.path == mini / "oxford-iiit-pet" / record.id for record in pets.records)
    np.testing.assert_array_equal(np.asarray(pets.image(2)), pixels("american_bulldog_2"))


def test_the_parent_folder_will_do(mini: Path) -> None:
    assert Pets(mini).records == Pets(mini / "oxford-iiit-pet").records
    for root in (mini, mini / "oxford-iiit-pet"):
        opened = open_dataset(root)
        assert isinstance(opened, Pets)
        assert opened.records == Pets(mini).records


def test_class_ids_order_the_classes_and_need_not_be_consecutive(mini: Path) -> None:
    for file in FILES:
        path = mini / "oxford-iiit-pet" / "annotations" / file
        path.write_text(path.read_text().replace(" 1 1 1", " 30 1 1") + "\n# the end\n")
    assert Pets(mini).classes == ("american_bulldog", "Abyssinian")
    assert [record.label for record in Pets(mini).records] == [0, 1, 0, 1]


def test_list_may_be_absent_or_longer(mini: Path) -> None:
    file = mini / "oxford-iiit-pet" / "annotations" / "list.txt"
    before = Pets(mini).records
    file.write_text(FILES["list.txt"] + "Bengal_1 6 1 2\n")
    assert Pets(mini).records == before
    file.unlink()
    assert Pets(mini).records == before


def test_unlisted_pictures_play_no_part(mini: Path) -> None:
    images = mini / "oxford-iiit-pet" / "images"
    (images / "Abyssinian_100.mat").touch()
    (images / "._Abyssinian_1.jpg").touch()
    (images / "Egyptian_Mau_1.jpg").touch()
    assert [record.id for record in Pets(mini).records] == IDS


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "JPEG", "BMP"])
def test_the_content_decides_on_the_format(mini: Path, file_format: str) -> None:
    Image.new("RGB", (40, 30), "red").save(mini / "oxford-iiit-pet" / IDS[0], format=file_format)
    assert Pets(mini).image(0).size == (40, 30)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("trainval.txt", "Abyssinian_5 1 1 1", "Abyssinian_5 1 1", r"trainval\.txt, line 2: must be 'name class_id"),
        ("trainval.txt", "Abyssinian_5 1 1 1", "Abyssinian_5 1 1 1 1", r"line 2: .*'1 1' is not a whole number"),
        ("trainval.txt", "Abyssinian_5 1", "Abyssinian_5 x", r"trainval\.txt, line 2: .*'x' is not a whole number"),
        ("trainval.txt", "Abyssinian_5 1 1", "Abyssinian_5 1 3", r"line 2: .*'3' is neither 1 \(cat\) nor 2 \(dog\)"),
        ("trainval.txt", "Abyssinian_5", "Abyssinian", r"line 2: .*'Abyssinian' is no name like Abyssinian_100"),
        ("trainval.txt", "Abyssinian_5", "_5", r"line 2: .*'_5' is no name like"),
        ("trainval.txt", "Abyssinian_5", "Abyssinian_5.jpg", r"line 2: .*'Abyssinian_5\.jpg' is no name like"),
        ("trainval.txt", "Abyssinian_5", "../../Abyssinian_5", r"line 2: .*'\.\./\.\./Abyssinian_5' is no name like"),
        ("trainval.txt", "Abyssinian_5", "/etc/Abyssinian_5", r"line 2: .* is no name like"),
        ("trainval.txt", "Abyssinian_5", "..\\Abyssinian_5", r"line 2: .* is no name like"),
        (
            "trainval.txt",
            "Abyssinian_5",
            "Abyssinian_6",
            r"trainval\.txt, line 2: there is no file .*Abyssinian_6\.jpg",
        ),
        ("trainval.txt", "Abyssinian_5", "Abyssinian_" + 300 * "5", r"line 2( is no possible path|: there is no file)"),
        (
            "trainval.txt",
            "Abyssinian_5",
            "Ben\0gal_1 6 1 2\nAbyssinian_5",
            r"trainval\.txt, line 2 is no possible path",
        ),
        (
            "trainval.txt",
            "Abyssinian_5 1",
            "Abyssinian_5 2",
            r"line 2: class_id 2 is 'Abyssinian' here and 'american_b",
        ),
        (
            "trainval.txt",
            "Abyssinian_5 1",
            "Abyssinian_5 3",
            r"test\.txt, line 2: 'Abyssinian' has class_id 1 here and 3",
        ),
        (
            "trainval.txt",
            "Abyssinian_5 1 1 1\n",
            "",
            r"test\.txt, line 2: class 1 \(Abyssinian\) has no training picture",
        ),
        ("trainval.txt", FILES["trainval.txt"], "# none\n", r"trainval\.txt: is empty"),
        (
            "trainval.txt",
            "Abyssinian_5",
            "Abyssinian_1",
            r"test\.txt, line 2: Abyssinian_1 is listed .*trainval\.txt, line 2\.",
        ),
        (
            "test.txt",
            "american_bulldog_2 2",
            "Abyssinian_1 1",
            r"test\.txt, line 2: Abyssinian_1 is listed a second time",
        ),
        ("list.txt", "Abyssinian_5 1", "Abyssinian_5 2", r"list\.txt, line 8: Abyssinian_5 has class_id 2 here and 1"),
        (
            "list.txt",
            "Abyssinian_5 1 1 1",
            "Abyssinian_5",
            r"list\.txt, line 8: must be 'name class_id species breed_id'",
        ),
        ("list.txt", "Abyssinian_5", "Abyssinian_1", r"list\.txt, line 8: Abyssinian_1 is listed a second time"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(mini: Path, file: str, old: str, new: str, message: str) -> None:
    path = mini / "oxford-iiit-pet" / "annotations" / file
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message) as caught:
        Pets(mini)
    assert str(mini) in str(caught.value)
    assert str(caught.value).endswith("or unpack the official Oxford-IIIT Pet archive again.")


def test_an_incomplete_folder_is_still_pets(mini: Path) -> None:
    """Rather than pictures of the classes 'annotations' and 'images'."""
    annotations = mini / "oxford-iiit-pet" / "annotations"
    (annotations / "test.txt").unlink()
    with pytest.raises(DataError, match=r"test\.txt: there is no such file\. Unpack"):
        open_dataset(mini)
    (annotations / "trainval.txt").unlink()
    for root in (mini, mini / "oxford-iiit-pet"):
        with pytest.raises(DataError, match=r"has no annotations/trainval\.txt"):
            open_dataset(root)
    with pytest.raises(DataError, match="nowhere: is not a folder"):
        Pets(mini / "nowhere")


def test_a_file_that_is_no_text(mini: Path) -> None:
    (mini / "oxford-iiit-pet" / "annotations" / "test.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match=r"test\.txt: can't be read as text"):
        Pets(mini)


def test_a_link_out_of_the_folder_is_refused(mini: Path) -> None:
    outside = mini / "outside.jpg"
    file = mini / "oxford-iiit-pet" / IDS[1]
    file.rename(outside)
    file.symlink_to(outside)
    with pytest.raises(DataError, match=r"trainval\.txt, line 2 lies outside of"):
        Pets(mini)


def test_a_damaged_picture_is_found_when_it_is_read(mini: Path) -> None:
    file = mini / "oxford-iiit-pet" / IDS[1]
    file.write_bytes(file.read_bytes()[:100])
    pets = Pets(mini)
    with pytest.raises(UnreadableImageError, match=r"Abyssinian_5\.jpg"):
        pets.image(1)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_the_trimap_is_the_file_and_the_mask_is_the_pet(mini: Path, mode: str) -> None:
    picture = Image.fromarray(trimap("Abyssinian_5"))
    if mode == "P":
        picture.putpalette([255, 0, 0] * 256)  # colours for the eye, that must not become the codes
    file = mini / "oxford-iiit-pet" / "annotations" / "trimaps" / "Abyssinian_5.png"
    picture.save(file)
    pets = Pets(mini)
    assert isinstance(pets, Segmented)
    assert pets.records[1].mask == file
    found, mask = pets.trimap(1), pets.mask(1)
    assert found is not None
    assert found.mode == "L"
    np.testing.assert_array_equal(np.asarray(found), trimap("Abyssinian_5"))
    assert mask is not None
    assert mask.dtype == np.bool_
    for row in range(30):
        for column in range(40):
            assert mask[row, column] == (trimap("Abyssinian_5")[row, column] == 1)  # neither background nor border


def test_it_travels_to_another_process(mini: Path) -> None:
    pets = Pets(mini)
    again = pickle.loads(pickle.dumps(pets))  # noqa: S301 (our own bytes)
    assert again.records == pets.records
    np.testing.assert_array_equal(np.asarray(again.image(2)), pixels("american_bulldog_2"))
    np.testing.assert_array_equal(again.mask(2), pets.mask(2))


def test_masks_may_be_absent(mini: Path) -> None:
    trimaps = mini / "oxford-iiit-pet" / "annotations" / "trimaps"
    (trimaps / "Abyssinian_5.png").unlink()
    assert Pets(mini).mask(1) is None
    assert Pets(mini).records[1].mask is None
    trimaps.rename(mini / "elsewhere")
    assert [Pets(mini).mask(index) for index in range(4)] == [None] * 4
    assert [Pets(mini).trimap(index) for index in range(4)] == [None] * 4


def test_a_wrong_mask_is_refused(mini: Path) -> None:
    pets, file = Pets(mini), mini / "oxford-iiit-pet" / "annotations" / "trimaps" / "Abyssinian_5.png"
    Image.new("L", (40, 30), 0).save(file)
    with pytest.raises(DataError, match=r"Abyssinian_5\.png: must have 1 \(pet\), 2 .* only; got 0\."):
        pets.mask(1)
    Image.new("L", (30, 40), 1).save(file)
    with pytest.raises(DataError, match=r"Abyssinian_5\.png: must be 40 x 30 pixels, as its picture is; got 30 x 40"):
        pets.mask(1)
    Image.new("RGB", (40, 30)).save(file)
    with pytest.raises(UnreadableImageError, match=r"Abyssinian_5\.png: .* one byte per pixel .* got mode 'RGB'"):
        pets.mask(1)
    file.rename(mini / "outside.png")
    file.symlink_to(mini / "outside.png")
    with pytest.raises(DataError, match=r"Abyssinian_5\.png lies outside of"):
        pets.mask(1)


def test_other_folders_are_not_pets(tmp_path: Path) -> None:
    for name in ("annotations", "images"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    assert isinstance(open_dataset(tmp_path), ImageFolder)


def test_the_real_files(real: RealFiles) -> None:
    pets = open_dataset(real.data / "pets370")
    assert isinstance(pets, Pets)
    assert (len(pets.records), len(pets.classes)) == (370, 37)
    assert len(split_indices(pets, "train")) == 259
    assert len(split_indices(pets, "test")) == 111
    assert pets.classes[:2] == ("Abyssinian", "american_bulldog")
    assert pets.classes[-1] == "yorkshire_terrier"
    assert all(record.id.startswith(f"images/{pets.classes[record.label]}_") for record in pets.records)
    assert pets.records[0].id == "images/Abyssinian_101.jpg"
    for index in range(0, 370, 37):
        mask = pets.mask(index)
        assert mask is not None
        assert mask.shape == pets.image(index).size[::-1]
        assert 0.02 < mask.mean() < 0.98
