"""The CUB reader on a folder written here, on every way in which such a folder can be wrong, and on the real files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carrot.data import Box, Cub, ImageFolder, Objects, Segmented, open_dataset, split_indices
from carrot.data.cub import Box as CubBox
from carrot.errors import DataError, UnreadableImageError
from tests.conftest import RealFiles

PATHS = {
    1: "001.Albatross/a_1.jpg",
    2: "001.Albatross/a 2.jpg",  # a blank in a path
    3: "002.Ani/b_1.jpg",
    7: "002.Ani/b_2.jpg",  # ids need not be consecutive
}
FILES = {
    "images.txt": "".join(f"{i} {path}\n" for i, path in PATHS.items()),
    "classes.txt": "1 001.Albatross\n2 002.Ani\n",
    "image_class_labels.txt": "1 1\n2 1\n3 2\n7 2\n",
    "train_test_split.txt": "1 1\n2 0\n3 1\n7 0\n",
    "bounding_boxes.txt": "1 0.0 0.0 40.0 30.0\n2 10.5 5.0 20.0 10.0\n3 -2.0 3.0 12.0 50.0\n7 100.0 100.0 5.0 5.0\n",
    "parts/parts.txt": "1 back\n2 left eye\n",
    "parts/part_locs.txt": "1 1 3.5 4.5 1\n1 2 0.0 0.0 0\n2 1 12.25 6.0 1\n2 2 39.0 29.0 1\n"
    "3 1 9.5 29.5 1\n3 2 0.0 0.0 0\n7 1 0.0 0.0 0\n7 2 0.0 0.0 0\n",
}


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """Four pictures of 40 x 30 pixels in the official formats, in ``CUB_200_2011`` below the returned folder."""
    root = tmp_path / "CUB_200_2011"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for i, path in PATHS.items():
        file = root / "images" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, size=(30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, format="PNG")  # lossless, whatever the name says
    return tmp_path


def pixels(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, size=(30, 40, 3), dtype=np.uint8)


def test_records(mini: Path) -> None:
    cub = Cub(mini / "CUB_200_2011")
    assert cub.classes == ("001.Albatross", "002.Ani")
    assert [record.id for record in cub.records] == [f"images/{path}" for path in PATHS.values()]
    assert [record.label for record in cub.records] == [0, 0, 1, 1]
    assert [record.split for record in cub.records] == ["train", "test", "train", "test"]
    assert cub.part_names == ("back", "left eye")
    assert cub.records[0].parts == {"back": (3.5, 4.5)}
    assert cub.records[1].parts == {"back": (12.25, 6.0), "left eye": (39.0, 29.0)}
    assert cub.records[3].parts == {}
    np.testing.assert_array_equal(np.asarray(cub.image(3)), pixels(7))


def test_the_parent_folder_will_do(mini: Path) -> None:
    assert Cub(mini).records == Cub(mini / "CUB_200_2011").records
    opened = open_dataset(mini)
    assert isinstance(opened, Cub)
    assert opened.records == Cub(mini).records


def test_labels_follow_the_ids_not_the_order_of_the_lines(mini: Path) -> None:
    folder = mini / "CUB_200_2011"
    before = Cub(folder).records
    for file in folder.rglob("*.txt"):
        file.write_text("\n".join(reversed(file.read_text().splitlines())) + "\n\n")
    assert Cub(folder).records == before
    assert Cub(folder).classes == ("001.Albatross", "002.Ani")


def test_boxes_are_as_in_the_file(mini: Path) -> None:
    assert CubBox is Box
    assert [record.box for record in Cub(mini).records] == [
        (0, 0, 40, 30),
        (10.5, 5, 20, 10),
        (-2, 3, 12, 50),
        (100, 100, 5, 5),
    ]


def test_objects_move_the_parts(mini: Path) -> None:
    cub = Objects(Cub(mini))
    np.testing.assert_array_equal(np.asarray(cub.image(0)), pixels(1))
    np.testing.assert_array_equal(np.asarray(cub.image(1)), pixels(2)[5:15, 10:31])  # x: 10.5 .. 30.5, outwards
    assert cub.records[1].parts == {"back": (2.25, 1.0)}  # (39, 29) is outside
    np.testing.assert_array_equal(np.asarray(cub.image(2)), pixels(3)[3:, :10])  # kept inside the picture
    assert cub.records[2].parts == {"back": (9.5, 26.5)}
    with pytest.raises(UnreadableImageError, match=r"lies outside of its 40 x 30 pixels"):
        cub.image(3)


def grey(i: int) -> np.ndarray:
    """Shares of five annotators, as in the official files."""
    return (np.random.default_rng(i).integers(0, 6, size=(30, 40)) * 51).astype(np.uint8)


def segment(folder: Path, ids: tuple[int, ...]) -> None:
    for i in ids:
        file = (folder / "segmentations" / PATHS[i]).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(grey(i))
        if i == 2:  # some official ones have an alpha channel
            picture = Image.merge("LA", [picture, Image.new("L", (40, 30), 255)])
        picture.save(file)


@pytest.mark.parametrize("beside", [True, False])
def test_segmentations_beside_or_inside(mini: Path, beside: bool) -> None:
    assert Cub(mini).mask(0) is None
    segment(mini if beside else mini / "CUB_200_2011", (1, 2, 3))
    cub, cropped = Cub(mini), Objects(Cub(mini / "CUB_200_2011"))
    assert isinstance(cub, Segmented)
    assert cub.records[3].mask is None
    assert cub.mask(3) is None
    for index, i in enumerate((1, 2, 3)):
        mask = cub.mask(index)
        assert mask is not None
        assert mask.dtype == np.bool_
        assert [[bool(v) for v in row] for row in mask] == [[v in (153, 204, 255) for v in row] for row in grey(i)]
    np.testing.assert_array_equal(cropped.mask(1), (grey(2) > 127)[5:15, 10:31])
    np.testing.assert_array_equal(cropped.mask(2), (grey(3) > 127)[3:, :10])


def test_wrong_segmentations_are_refused(mini: Path) -> None:
    segment(mini, (1, 2))
    cub, file = Cub(mini), (mini / "segmentations" / PATHS[1]).with_suffix(".png")
    Image.new("L", (30, 40)).save(file)
    with pytest.raises(DataError, match=r"a_1\.png: must be 40 x 30 pixels, as its picture is; got 30 x 40"):
        cub.mask(0)
    Image.new("RGB", (40, 30)).save(file)
    with pytest.raises(UnreadableImageError, match=r"a_1\.png: .*must be 8-bit grey .*got mode 'RGB'"):
        cub.mask(0)
    file.rename(mini / "outside.png")
    file.symlink_to(mini / "outside.png")
    with pytest.raises(DataError, match=r"a_1\.png lies outside of"):
        Cub(mini)


def test_it_travels_to_another_process(mini: Path) -> None:
    segment(mini, (1,))
    cub = Objects(Cub(mini))
    again = pickle.loads(pickle.dumps(cub))  # noqa: S301 (our own bytes)
    assert again.records == cub.records
    np.testing.assert_array_equal(np.asarray(again.image(1)), np.asarray(cub.image(1)))
    np.testing.assert_array_equal(again.mask(0), cub.mask(0))


def test_a_part_stays_on_its_pixel_when_cropped(mini: Path) -> None:
    whole, cropped = Cub(mini), Objects(Cub(mini))
    (x, y), (u, v) = whole.records[1].parts["back"], cropped.records[1].parts["back"]
    assert whole.image(1).getpixel((int(x), int(y))) == cropped.image(1).getpixel((int(u), int(v)))


def test_parts_may_be_absent(mini: Path) -> None:
    folder = mini / "CUB_200_2011"
    (folder / "parts" / "parts.txt").unlink()
    with pytest.raises(DataError, match=r"parts\.txt: there is no such file"):
        Cub(mini)
    (folder / "parts" / "part_locs.txt").unlink()
    (folder / "parts").rmdir()
    assert Cub(mini).part_names == ()
    assert all(record.parts == {} for record in Cub(mini).records)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("images.txt", "3 002", "1 002", r"images\.txt, line 3: the id 1 is listed a second time"),
        (
            "images.txt",
            "3 002",
            "x 002",
            r"images\.txt, line 3: must be 'image_id path', but 'x' is not a whole number",
        ),
        ("images.txt", "3 002.Ani/b_1.jpg", "3", r"images\.txt, line 3: must be 'image_id path'; got '3'"),
        ("images.txt", "002.Ani/b_1", "002.Ani/b_9", r"image id 3: there is no file .*b_9\.jpg"),
        ("images.txt", "002.Ani/b_1", "../../secret", r"image id 3 lies outside of"),
        ("images.txt", "002.Ani/b_1", "002.Ani/../002.Ani/b_1", r"image id 3 lies outside of"),
        ("images.txt", "002.Ani/b_1", "/etc/b_1", r"image id 3 lies outside of"),
        ("images.txt", "002.Ani/b_1", "002.Ani/b\0", r"image id 3 is no possible path"),
        ("images.txt", "002.Ani/b_1", "002.Ani/" + 300 * "b", r"image id 3 is no possible path|there is no file"),
        ("images.txt", "002.Ani/b_1", "001.Albatross/a_1", r"images\.txt: id 3 is the same as id 1"),
        ("images.txt", FILES["images.txt"], "\n", r"images\.txt: is empty"),
        ("classes.txt", "2 002.Ani\n", "", r"image id 3 has the class id 2, which classes\.txt does not list"),
        ("classes.txt", "2 002.Ani", "2 001.Albatross", r"classes\.txt: id 2 is the same as id 1: '001.Albatross'"),
        ("classes.txt", "2 002.Ani", "2 002.Ani\n3 003.Auk", r"class 3 \(003.Auk\) has no training picture"),
        ("image_class_labels.txt", "3 2\n", "", r"has no line for image id 3 of images\.txt \(1 missing\)"),
        ("image_class_labels.txt", "3 2", "3 2.0", r"labels\.txt, line 3: .*'2\.0' is not a whole number"),
        ("image_class_labels.txt", "3 2", "4 2", r"labels\.txt, line 3: images\.txt has no image id 4"),
        ("train_test_split.txt", "3 1", "3 2", r"split\.txt, line 3: must be .*'2' is neither 0 nor 1"),
        ("train_test_split.txt", "3 1", "3 0", r"class 2 \(002\.Ani\) has no training picture"),
        ("train_test_split.txt", "7 0\n", "", r"has no line for image id 7"),
        ("bounding_boxes.txt", "12.0 50.0", "12.0", r"boxes\.txt, line 3: must be 'image_id x y width height'; got"),
        ("bounding_boxes.txt", "12.0 50.0", "0.0 50.0", r"boxes\.txt, line 3: .* has no area"),
        ("bounding_boxes.txt", "12.0 50.0", "12.0 nan", r"boxes\.txt, line 3: .*'nan' is not a finite number"),
        ("parts/part_locs.txt", "2 1 12.25", "2 3 12.25", r"part_locs\.txt, line 3: parts\.txt has no part id 3"),
        ("parts/part_locs.txt", "2 1 12.25", "5 1 12.25", r"part_locs\.txt, line 3: images\.txt has no image id 5"),
        ("parts/part_locs.txt", "2 1 12.25", "1 1 12.25", r"part_locs\.txt, line 3: part 1 of image id 1 .*second"),
        ("parts/part_locs.txt", "7 2 0.0 0.0 0\n", "", r"part_locs\.txt: has no line for part 2 of image id 7"),
        ("parts/part_locs.txt", "12.25", "inf", r"part_locs\.txt, line 3: .*'inf' is not a finite number"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(mini: Path, file: str, old: str, new: str, message: str) -> None:
    path = mini / "CUB_200_2011" / file
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message) as caught:
        Cub(mini)
    assert str(mini) in str(caught.value)


@pytest.mark.parametrize("file", [name for name in FILES if name != "images.txt"])
def test_a_missing_file_is_named(mini: Path, file: str) -> None:
    (mini / "CUB_200_2011" / file).unlink()
    with pytest.raises(DataError, match=rf"{Path(file).name}: there is no such file\. Unpack"):
        Cub(mini)


def test_a_file_that_is_no_text(mini: Path) -> None:
    (mini / "CUB_200_2011" / "classes.txt").write_bytes(b"1 \xff\xfe\n")
    with pytest.raises(DataError, match=r"classes\.txt: can't be read as text"):
        Cub(mini)


def test_an_incomplete_folder_is_still_cub(mini: Path) -> None:
    """Rather than pictures of the classes 'images' and 'parts'."""
    (mini / "CUB_200_2011" / "images.txt").unlink()
    for root in (mini, mini / "CUB_200_2011"):
        with pytest.raises(DataError, match=r"no images\.txt"):
            open_dataset(root)
    with pytest.raises(DataError, match="is not a folder"):
        Cub(mini / "nowhere")


def test_a_link_out_of_the_folder_is_refused(mini: Path) -> None:
    outside = mini / "outside.jpg"
    file = mini / "CUB_200_2011" / "images" / PATHS[3]
    file.rename(outside)
    file.symlink_to(outside)
    with pytest.raises(DataError, match="image id 3 lies outside of"):
        Cub(mini)


def test_a_damaged_picture_is_found_when_it_is_read(mini: Path) -> None:
    file = mini / "CUB_200_2011" / "images" / PATHS[3]
    file.write_bytes(file.read_bytes()[:100])
    cub = Cub(mini)
    with pytest.raises(UnreadableImageError, match=r"b_1\.jpg"):
        cub.image(2)


@pytest.mark.usefixtures("as_user")  # half a million lines, each of whose shapes would be checked
def test_the_real_files(real: RealFiles) -> None:
    root = real.data / "cub100"
    cub = open_dataset(root)
    assert isinstance(cub, Cub)
    assert (len(cub.records), len(cub.classes), len(cub.part_names)) == (5902, 100, 15)
    assert len(split_indices(cub, "train")) == 2999
    assert len(split_indices(cub, "test")) == 2903
    assert {record.label for record in cub.records} == set(range(100))
    assert all(cub.classes[record.label] == record.id.split("/")[1] for record in cub.records)
    assert sum(len(record.parts) for record in cub.records) == 70267  # lines of part_locs.txt that end in 1
    assert cub.records[0].parts["beak"] == (176.0, 115.7)
    assert cub.image(0).size == (227, 227)
    assert cub.records[0].box == (0.0, 0.0, 227.0, 227.0)
    assert cub.mask(0) is None


def test_other_folders_are_not_cub(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    assert isinstance(open_dataset(tmp_path), ImageFolder)
