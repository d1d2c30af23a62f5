"""What the readers share: sizes from headers, grey values, pictures of other libraries, and .mat files."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from carrot._images import image_size, open_grey, open_image, upright_rgb
from carrot.data.matlab import read_mat, whole
from carrot.data.tables import Inside, each_is_trained, has_sign, natural, unpacked
from carrot.errors import DataError, UnreadableImageError


def oriented(file: Path, orientation: int) -> Image.Image:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(6, 9, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(file, exif=exif)
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_the_size_in_the_header_is_that_of_the_upright_picture(
    tmp_path: Path, orientation: int, extension: str
) -> None:
    file = tmp_path / f"x.{extension}"
    oriented(file, orientation)
    assert image_size(file) == open_image(file).size == ((9, 6) if orientation < 5 else (6, 9))
    with Image.open(file) as foreign:
        np.testing.assert_array_equal(np.asarray(upright_rgb(foreign, "x")), np.asarray(open_image(file)))


def test_the_size_needs_the_header_only(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(60, 90, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:200])
    assert image_size(file) == (90, 60)
    for content in (b"", b"no picture"):
        file.write_bytes(content)
        with pytest.raises(UnreadableImageError, match=r"x\.png: can't be read as a picture"):
            image_size(file)


def test_pictures_of_other_libraries() -> None:
    half = Image.fromarray(np.dstack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 51, np.uint8)]))
    assert upright_rgb(half, "x").getpixel((0, 0)) == (204, 204, 204)  # a fifth of black on white
    with pytest.raises(UnreadableImageError, match=r"some data, train/7: can't be read as a picture: mode 'F'"):
        upright_rgb(Image.new("F", (4, 4)), "some data, train/7")


def test_grey_values(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, size=(5, 7), dtype=np.uint8)
    file = tmp_path / "x.png"
    for picture in (Image.fromarray(grey), Image.merge("LA", [Image.fromarray(grey), Image.new("L", (7, 5), 9)])):
        picture.save(file)
        np.testing.assert_array_equal(open_grey(file), grey)
    Image.new("1", (7, 5)).save(file)
    with pytest.raises(UnreadableImageError, match=r"x\.png: .*must be 8-bit grey .*got mode '1'"):
        open_grey(file)


def test_matlab_files(tmp_path: Path) -> None:
    file = tmp_path / "x.mat"
    savemat(file, {"row": np.array([[1, 2]]), "one": 3.0, "table": np.ones((2, 2))})
    row, one = read_mat(file, ["row", "one"], "A")
    assert (row.tolist(), one.tolist()) == ([1, 2], [3.0])
    with pytest.raises(DataError, match=r"x\.mat: 'table' must be a row or a column; got shape \(2, 2\)"):
        read_mat(file, ["table"], "A")
    assert whole(np.float64(3), "x", "A") == whole(np.uint8(3), "x", "A") == 3
    for wrong in (3.5, -1, np.nan, np.inf, "3", None, [3]):
        with pytest.raises(DataError, match="x must be a whole number; got"):
            whole(wrong, "x", "A")


def test_where_an_archive_was_unpacked(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "sign.txt").touch()
    for root in (tmp_path, tmp_path / "A", str(tmp_path)):
        assert has_sign(root, "A", ["sign.txt"])
        assert unpacked(root, "A", ["other.txt", "sign.txt"], "A") == tmp_path / "A"
    assert not has_sign(tmp_path, "B", ["sign.txt"])
    with pytest.raises(
        DataError, match=r"has no sign\.txt, and neither has B in it\. Give the folder of the unpacked B"
    ):
        unpacked(tmp_path, "B", ["sign.txt"], "B")


def test_nothing_outside_of_a_folder_is_found(tmp_path: Path) -> None:
    root, twin = tmp_path / "data", tmp_path / "data2"  # the one's name begins with the other's
    for file in (root / "a" / "in.png", twin / "out.png", tmp_path / "up.png"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (root / "file.png").symlink_to(twin / "out.png")
    (root / "folder").symlink_to(twin)
    (root / "a" / "folder").symlink_to(root / "folder")
    (root / "round").symlink_to(root / "a")
    (root / "loop").symlink_to(root / "loop")
    (tmp_path / "entry").symlink_to(root)
    for start in (root, tmp_path / "entry", root / "a" / ".."):
        inside = Inside(start, "A")
        for path in ("a/in.png", "round/in.png", "a/./in.png"):
            assert inside(path, "here") == start / path
            assert inside.find(path, "here") == (start / path, str(root.resolve() / "a" / "in.png"))
        wrong = ("file.png", "folder/out.png", "a/folder/out.png", "../up.png", "a/../a/in.png", "../data2/out.png")
        for path in (*wrong, "..", str(tmp_path / "up.png"), str(twin / "out.png"), "folder/nothing.png"):
            for _ in range(2):  # the second time its folder is known already
                with pytest.raises(DataError, match="here lies outside of"):
                    inside(path, "here")
        for path in ("a", "nothing.png", "a/in.png/x.png", "nowhere/x.png", "", "."):
            assert inside.find(path, "here") is None
            with pytest.raises(DataError, match="here: there is no file"):
                inside(path, "here")
        for path in ("loop", "a\0b", "x" * 300):
            with pytest.raises(DataError, match="here is no possible path"):
                inside(path, "here")


def test_untrained_classes_and_order() -> None:
    each_is_trained(["a", "b"], {0, 1}, "f", "A")
    with pytest.raises(DataError, match="f: class 'b' has no training picture"):
        each_is_trained(["a", "b"], {0}, "f", "A")
    assert sorted(["b10", "B2", "a"], key=natural) == ["a", "B2", "b10"]


DIGITS = "".join(chr(c) for c in range(sys.maxunicode + 1) if chr(c).isdigit() or chr(c).isnumeric())


@given(st.lists(st.text(st.sampled_from(DIGITS + "0123456789ab."), min_size=1, max_size=5), min_size=2, unique=True))
def test_any_digits_can_be_sorted(names: list[str]) -> None:
    assert sorted(reversed(sorted(names, key=natural)), key=natural) == sorted(names, key=natural)


def test_numbers_of_any_length_are_sorted_by_value() -> None:
    long = "9" * 5000  # int() refuses it
    assert sorted([f"1{long}", "0" * 5000 + "7", long, "8"], key=natural) == ["0" * 5000 + "7", "8", long, f"1{long}"]
