"""The FGVC-Aircraft reader on a folder written here in the official formats, and on ways in which it can be wrong."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carrot.data import Aircraft, Box, open_dataset
from carrot.errors import DataError, UnreadableImageError

IDS = ("0034309", "1025794", "0056978", "2031775")
FILES = {
    "variants.txt": "707-320\nBoeing 717\n",
    "families.txt": "Boeing 707\nBoeing 717\n",
    "manufacturers.txt": "Boeing\nMcDonnell Douglas\n",
    "images_variant_trainval.txt": "1025794 707-320\n0034309 Boeing 717\n",
    "images_variant_test.txt": "0056978 707-320\n2031775 Boeing 717\n",
    "images_family_trainval.txt": "1025794 Boeing 707\n0034309 Boeing 717\n",
    "images_family_test.txt": "0056978 Boeing 707\n2031775 Boeing 717\n",
    "images_manufacturer_trainval.txt": "1025794 Boeing\n0034309 McDonnell Douglas\n",
    "images_manufacturer_test.txt": "0056978 Boeing\n2031775 Boeing\n",
    "images_box.txt": "0034309 1 1 64 50\n0056978 3 4 10 12\n1025794 5 6 60 45\n2031775 2 32 9 50\n9999999 1 1 2 2\n",
}


def pixels(image_id: str) -> np.ndarray:
    return np.random.default_rng(int(image_id)).integers(0, 256, size=(50, 64, 3), dtype=np.uint8)


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """Four pictures of 64 x 50 pixels, the banner included."""
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    (data / "images").mkdir(parents=True)
    for name, text in FILES.items():
        (data / name).write_text(text)
    for image_id in IDS:
        Image.fromarray(pixels(image_id)).save(data / "images" / f"{image_id}.jpg", format="PNG")
    return tmp_path


def test_records(mini: Path) -> None:
    aircraft = open_dataset(mini)
    assert isinstance(aircraft, Aircraft)
    assert aircraft.name == "aircraft"
    assert aircraft.classes == ("707-320", "Boeing 717")
    assert [r.id for r in aircraft.records] == [f"data/images/{IDS[i]}.jpg" for i in (1, 0, 2, 3)]
    assert [r.label for r in aircraft.records] == [0, 1, 0, 1]
    assert [r.split for r in aircraft.records] == ["train", "train", "test", "test"]
    assert Aircraft(mini / "fgvc-aircraft-2013b").records == aircraft.records


def test_the_levels(mini: Path) -> None:
    assert Aircraft(mini, "family").classes == ("Boeing 707", "Boeing 717")
    by_maker = Aircraft(mini, "manufacturer")
    assert by_maker.classes == ("Boeing", "McDonnell Douglas")
    assert [r.label for r in by_maker.records] == [0, 1, 0, 0]


def test_the_banner_is_cut_off(mini: Path) -> None:
    np.testing.assert_array_equal(np.asarray(Aircraft(mini).image(1)), pixels(IDS[0])[:30])
    np.testing.assert_array_equal(np.asarray(Aircraft(mini, banner=0).image(1)), pixels(IDS[0]))
    tall = Aircraft(mini, banner=50)
    with pytest.raises(UnreadableImageError, match=r"0034309\.jpg: its height of 50 pixels is no more than .* 50\."):
        tall.image(1)
    assert tall.records[1].box is None


def test_boxes_hold_the_pixels_that_the_official_ones_name(mini: Path) -> None:
    """Painted pixel by pixel from the official numbers (from 1, ends included), then looked at through our box."""
    whole, cut = Aircraft(mini, banner=0), Aircraft(mini)
    for index, (left, top, right, bottom) in enumerate([(5, 6, 60, 45), (1, 1, 64, 50), (3, 4, 10, 12)]):
        for data, height in ((whole, 50), (cut, 30)):
            named = {(x, y) for x in range(left, right + 1) for y in range(top, bottom + 1) if y <= height}
            box = data.records[index].box
            assert box is not None
            ours = {
                (x + 1, y + 1)
                for x in range(64)
                for y in range(height)
                if box.x <= x < box.x + box.width and box.y <= y < box.y + box.height
            }
            assert ours == named
    assert whole.records[3].box == Box(1, 31, 8, 19)
    assert cut.records[3].box is None  # all of it in the banner


def test_boxes_may_be_absent(mini: Path) -> None:
    (mini / "fgvc-aircraft-2013b" / "data" / "images_box.txt").unlink()
    assert [r.box for r in Aircraft(mini).records] == [None] * 4


def test_it_travels_to_another_process(mini: Path) -> None:
    aircraft = Aircraft(mini)
    again = pickle.loads(pickle.dumps(aircraft))  # noqa: S301 (our own bytes)
    assert again.records == aircraft.records
    np.testing.assert_array_equal(np.asarray(again.image(2)), np.asarray(aircraft.image(2)))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("variants.txt", "Boeing 717", "707-320", r"variants\.txt, line 2: '707-320' is listed a second time"),
        ("variants.txt", FILES["variants.txt"], "\n", r"variants\.txt: is empty"),
        ("variants.txt", "Boeing 717\n", "Boeing 717\nA380\n", r"trainval\.txt: class 'A380' has no training picture"),
        ("images_variant_test.txt", "707-320", "707", r"test\.txt, line 1: variants\.txt has no variant '707'"),
        ("images_variant_test.txt", "0056978", "0034309", r"test\.txt, line 1: 0034309 is listed a second time"),
        ("images_variant_test.txt", "0056978", "../../x", r"test\.txt, line 1: images_box\.txt has no box"),
        ("images_variant_test.txt", "0056978", "9999999", r"test\.txt, line 1: there is no file .*9999999\.jpg"),
        ("images_variant_test.txt", "0056978 707-320", "0056978", r"test\.txt, line 1: must be 'image_id name'; got"),
        ("images_box.txt", "3 4 10 12", "3 4 2 12", r"box\.txt, line 2: the box 3 4 2 12 has no area"),
        ("images_box.txt", "3 4 10 12", "3 4 x 12", r"box\.txt, line 2: .*'x' is not a whole number"),
        ("images_box.txt", "9999999", "0034309", r"box\.txt, line 5: 0034309 is listed a second time"),
    ],
)
def test_wrong_files_are_named(mini: Path, file: str, old: str, new: str, message: str) -> None:
    path = mini / "fgvc-aircraft-2013b" / "data" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        Aircraft(mini)


def test_paths_stay_inside(mini: Path) -> None:
    data = mini / "fgvc-aircraft-2013b" / "data"
    (data / "images_box.txt").unlink()
    (data / "images" / f"{IDS[2]}.jpg").rename(data / "out.jpg")
    (data / "images_variant_test.txt").write_text("../out 707-320\n")
    with pytest.raises(DataError, match=r"test\.txt, line 1 lies outside of"):
        Aircraft(mini)


def test_an_incomplete_folder_and_wrong_options(mini: Path, as_user: None) -> None:
    with pytest.raises(ValueError, match="`level` must be one of .* got 'make'"):
        Aircraft(mini, "make")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`banner` must be .* got -1"):
        Aircraft(mini, banner=-1)
    (mini / "fgvc-aircraft-2013b" / "data" / "images_variant_test.txt").unlink()
    with pytest.raises(DataError, match=r"images_variant_test\.txt: there is no such file"):
        open_dataset(mini)
    with pytest.raises(DataError, match=r"has no data/variants\.txt or .* Give the folder"):
        Aircraft(mini / "fgvc-aircraft-2013b" / "data")
