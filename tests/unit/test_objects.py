"""Pictures cut to the boxes of their objects: one answer, whichever door a picture comes in by."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carrot import Carrot
from carrot.cli import main
from carrot.data import Box, CsvFolder, Cut, Objects, Window, open_dataset
from carrot.data.inputs import PictureList, as_picture, content_sha256
from carrot.data.records import Record
from carrot.errors import DataError, UnreadableImageError

BOX = Box(10.5, 4, 48, 60)  # of every picture; columns 10 .. 58, rows 4 .. 63


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of pictures whose class is in the box alone; around it, noise."""
    root = tmp_path_factory.mktemp("boxed")
    lines = ["image,label,split,bbox_x,bbox_y,bbox_width,bbox_height"]
    rng = np.random.default_rng(0)
    for i in range(16):
        pixels = rng.integers(0, 256, size=(80, 90, 3), dtype=np.uint8)
        pixels[4:64, 10:59] = rng.integers(0, 120, size=3) + 60 * (i % 2)
        Image.fromarray(pixels).save(root / f"{i}.png")
        side, label = "test" if i > 11 else "train", "light" if i % 2 else "dark"
        lines.append(f"{i}.png,{label},{side},{','.join(map(str, BOX))}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def fitted(boxed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = Carrot("toy", regions="tiles:2", lam=1e-2).fit(f"object:{boxed}")
    folder = tmp_path_factory.mktemp("models") / "model"
    model.save(folder)
    return folder


@pytest.mark.parametrize(
    ("window", "box"),
    [
        (Window(), (0, 0, 8, 6)),
        (Window(2, 1, 5, 4), (2, 1, 5, 4)),
        (Window(bottom=-2), (0, 0, 8, 4)),
        (Window(5, 5, 100, 100), (5, 5, 8, 6)),
        (Box(-2.5, 0.5, 4, 1).window, (0, 0, 2, 2)),
        (Window(1, 1, 3, 2).within(Window(2, 1, None, -1)), (3, 2, 5, 3)),
    ],
)
def test_windows(window: Window, box: tuple[int, int, int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(6, 8, 3), dtype=np.uint8))
    assert window.of(image, "x").tobytes() == image.crop(box).tobytes()


@pytest.mark.parametrize(
    "window", [Window(8), Window(top=6), Window(bottom=-6), Box(-9, 0, 4, 4).window, Window(3, 0, 3)]
)
def test_a_window_outside_is_refused_by_name(window: Window) -> None:
    with pytest.raises(UnreadableImageError, match=r"a\.png: its part .* lies outside of its 8 x 6 pixels"):
        window.of(Image.new("RGB", (8, 6)), "a.png")


def test_every_door_sees_the_object_and_nothing_else(boxed: Path, fitted: Path, tmp_path: Path) -> None:
    data, model = open_dataset(f"object:{boxed}"), Carrot.load(fitted)
    assert isinstance(data, Objects)
    scrambled = tmp_path / "13.png"
    pixels = np.asarray(Image.open(boxed / "13.png")).copy()
    pixels[:4], pixels[64:], pixels[:, :10], pixels[:, 59:] = 1, 2, 3, 4
    Image.fromarray(pixels).save(scrambled)
    wanted = model.decision_function(data.image(13))
    assert data.image(13).size == (49, 60)
    for picture in (
        Cut(boxed / "13.png", BOX),
        Cut(scrambled, BOX),
        Cut(pixels, BOX),
        Image.open(scrambled).crop((10, 4, 59, 64)),
    ):
        np.testing.assert_array_equal(model.decision_function(picture), wanted)
        explanation = model.explain(picture)
        np.testing.assert_array_equal(explanation.parts.logits.numpy(), wanted[0])
        np.testing.assert_allclose(model.shown(picture, range(4)), wanted[0], atol=1e-12)
        np.testing.assert_array_equal(
            model.what_if(picture, regions=[0]).before, model.what_if(data.image(13), regions=[0]).before
        )
    assert abs(model.decision_function(boxed / "13.png") - wanted).max() > 1e-3  # the noise is seen where nobody cuts


def test_training_pictures_are_found_as_they_were_fitted(boxed: Path, fitted: Path) -> None:
    data, model = open_dataset(f"object:{boxed}"), Carrot.load(fitted)
    assert all(record.window == (10, 4, 59, 64) for record in model.records_)
    explanation = model.explain(data.image(13))
    assert not explanation.missing
    for row, picture in explanation.shown_pictures.items():
        assert picture.image.tobytes() == data.image(model.records_[row].row or 0).tobytes()
    dropped = model.what_if(data.image(13), without=model.records_[0].id, verify=True)
    assert dropped.difference is not None
    assert dropped.difference <= 1e-10
    hidden = model.hidden_regions(data.image(13), k=1, verify=True)  # the backbone sees a training picture's box again
    assert hidden.difference is not None
    assert hidden.difference <= 1e-8
    assert len(model.audit(f"object:{boxed}").held_out) == 4


def test_adding_a_cut_picture_is_fitting_with_it(boxed: Path, fitted: Path) -> None:
    data, model = open_dataset(f"object:{boxed}"), Carrot.load(fitted)
    before = model.decision_function(data.image(13))
    gone = model.records_[3]
    model.forget([gone.id])
    model.add([Cut(boxed / gone.id, BOX)], [model.fitted.classes[gone.label]])
    assert model.records_[-1].sha256 == gone.sha256
    assert model.records_[-1].window == gone.window
    np.testing.assert_allclose(model.decision_function(data.image(13)), before, atol=1e-9)


def test_the_command_adds_a_cut_picture(
    boxed: Path, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(fitted, folder)
    model, box = Carrot.load(folder), ",".join(map(str, BOX))
    gone = model.records_[3]
    label, picture = model.fitted.classes[gone.label], str(boxed / gone.id)
    assert main(["forget", str(folder), gone.id]) == 0
    capsys.readouterr()
    assert main(["add", str(folder), picture, "--label", label, "--box", box]) == 0
    assert "taken whole" not in capsys.readouterr().err
    added = Carrot.load(folder).records_[-1]
    assert (added.sha256, added.window, added.id) == (gone.sha256, gone.window, gone.id)
    assert main(["add", str(folder), picture, "--label", label, "--box", "0,0,30,30"]) == 0
    assert Carrot.load(folder).records_[-1].id == f"{gone.id} (box 0,0,30,30)", "another object of the same picture"
    assert main(["add", str(folder), str(boxed / "13.png"), "--label", label]) == 0
    assert "this picture is taken whole. To cut it the same way: --box X,Y" in capsys.readouterr().err
    edits = tmp_path / "edits.csv"
    edits.write_text(f"id,action,label\n{boxed / '15.png'},add,{label}\n")
    assert main(["apply", str(folder), str(edits)]) == 0
    assert "taken whole. To cut it the same way: --box of carrot add" in capsys.readouterr().err
    assert main(["add", str(folder), picture, picture, "--label", label, "--box", box]) == 2
    assert main(["add", str(folder), picture, "--label", label, "--box", "1,2,3"]) == 2


def test_the_content_is_of_the_part(boxed: Path) -> None:
    whole, part = Record("a", 0, "train", boxed / "1.png"), Record("a", 0, "train", boxed / "1.png", window=BOX.window)
    other = Record("a", 0, "train", boxed / "1.png", window=Window(1))
    assert len({content_sha256(record) for record in (whole, part, other)}) == 3
    assert PictureList([Cut(str(boxed / "1.png"), BOX)]).records[0].window == part.window
    assert as_picture(Cut(boxed / "1.png", BOX)).size == (49, 60)


def test_the_command(boxed: Path, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, box = str(boxed / "13.png"), ",".join(map(str, BOX))
    assert main(["predict", str(fitted), picture, "--box", box, "--json"]) == 0
    said = capsys.readouterr()
    assert "taken whole" not in said.err
    wanted = Carrot.load(fitted).predict_proba(open_dataset(f"object:{boxed}").image(13)).max()
    assert json.loads(said.out)["predictions"][0]["classes"][0]["probability"] == wanted
    for command in (["explain", "--out", str(tmp_path / "a.html")], ["what-if", "--region", "0"]):
        assert main([command[0], str(fitted), picture, *command[1:], "--box", box]) == 0
        assert "taken whole" not in capsys.readouterr().err
        assert main([command[0], str(fitted), picture, *command[1:]]) == 0
        assert "this picture is taken whole. To cut it the same way: --box" in capsys.readouterr().err
    assert main(["evaluate", str(fitted), f"object:{boxed}", "--explained", "0", "--out", str(tmp_path / "e")]) == 0
    for wrong in ("1,2,3", "1,2,0,4", "1,2,nan,4", "a,b,c,d"):
        assert main(["predict", str(fitted), picture, "--box", wrong]) == 2
        assert "`--box` must be X,Y,WIDTH,HEIGHT in pixels" in capsys.readouterr().err
    assert main(["predict", str(fitted), str(boxed), "--box", box]) == 2
    assert "`--box` goes with one picture" in capsys.readouterr().err
    assert main(["predict", str(fitted), picture, "--box", "500,500,10,10"]) != 0
    assert "lies outside of its 90 x 80 pixels" in capsys.readouterr().err


def test_a_picture_without_a_box_is_refused_by_name(boxed: Path, tmp_path: Path) -> None:
    lines = (boxed / "labels.csv").read_text().splitlines()
    lines[3] = lines[3].rsplit(",", 4)[0] + ",,,,"
    table = boxed / "some.csv"
    table.write_text("\n".join(lines))
    assert CsvFolder(table).records[2].box is None
    with pytest.raises(DataError, match=r"1 of 16 pictures have no box of their object; the first: 2\.png"):
        open_dataset(f"object:{table}")
    table.write_text("image,label,box_x\n0.png,a,1\n")
    with pytest.raises(DataError, match="names some of box_x, .* and not box_y"):
        CsvFolder(table)
    for cells in ("1,2,3,", "1,2,0,4", "1,2,x,4", "1,2,inf,4"):
        table.write_text(f"image,label,box_x,box_y,box_width,box_height\n0.png,a,{cells}\n1.png,b,1,1,1,1\n")
        with pytest.raises(DataError, match="line 2: box_x, box_y, box_width, box_height must be four numbers"):
            CsvFolder(table)
    table.unlink()


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    "box", [(0, 0, float("nan"), 1), (0, 0, float("inf"), 1), ("a", 0, 1, 1), (1, 2, 3), None, (0, 0, 0, 5)]
)
def test_what_is_no_box_is_refused(boxed: Path, box: Any) -> None:
    with pytest.raises(ValueError, match="must be x, y, width and height in pixels"):
        Cut(boxed / "1.png", box)


def test_cuts_at_hand_are_numbered_on(boxed: Path) -> None:
    pictures = [Image.open(boxed / f"{i}.png") for i in range(5)]
    cuts, labels = [Cut(picture, BOX) for picture in pictures], ["dark", "light", "dark", "light"]
    model = Carrot("toy", regions="tiles:2", lam=1.0).fit(cuts[:4], labels)
    model.add(cuts[4:], ["dark"])
    assert model.records_[4].id.startswith("picture 4 (box ")
