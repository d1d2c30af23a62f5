"""What is a picture below a folder, what is told, what is passed over in silence.

Fitting and predicting walk alike.
"""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from carrot._images import FORMATS, image_extensions, open_image
from carrot.cli.answer import _files
from carrot.data import CsvFolder, ImageFolder
from carrot.data.walking import _MAGIC, _NO_PICTURES, _NOT_READ, pictures_below, why_unread
from carrot.errors import DataError
from tests.unit.reader_contract import HEIC

UNREAD = {
    "heic": HEIC,
    "jxl": b"\xff\x0a" + bytes(40),
    "psd": b"8BPS\x00\x01" + bytes(40),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "cr3": b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01" + bytes(40),
    "raf": b"FUJIFILMCCD-RAW 0201" + bytes(40),
    "exr": b"v/1\x01" + bytes(40),
}
SILENT = ("Thumbs.db", "desktop.ini", "notes.txt", "labels.json", "a.xml", ".DS_Store", "._1.jpg", "clip.mov", "1.jpg~")


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name, "PNG")


def encoded(file_format: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, file_format)
    return out.getvalue()


@pytest.mark.parametrize(
    "extension", ["heic", "HEIF", "jxl", "dng", "CR2", "cr3", "nef", "arw", "psd", "svg", "raw", "ico"]
)
def test_formats_that_are_not_read_are_told_by_name(tmp_path: Path, extension: str) -> None:
    make(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    for k in range(3):
        (tmp_path / "a" / f"x{k}.{extension}").write_bytes(HEIC)
    with pytest.warns(
        UserWarning, match=rf"3 set aside .* a/x0\.{extension}: {extension.upper()} is a format that isn't"
    ):
        data = ImageFolder(tmp_path)
    assert len(data.records) == 3
    assert set(data.skipped) == {f"a/x{k}.{extension}" for k in range(3)}


def test_a_class_of_which_nothing_is_read_says_why(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "c").mkdir()
    for k in range(20):
        (tmp_path / "c" / f"{k}.HEIC").touch()
    with pytest.raises(
        DataError, match=r"c: this class folder has no pictures.* 20 are left out: HEIC is a format .*JPEG"
    ):
        ImageFolder(tmp_path)


@pytest.mark.parametrize("name", ["noextension", "2023.12.01", "IMG_0001.jpg_large", "picture."])
@pytest.mark.parametrize(
    "file_format", [f for f in ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP") if f in FORMATS]
)
def test_pictures_without_an_extension_are_read(tmp_path: Path, name: str, file_format: str) -> None:
    (tmp_path / name).write_bytes(encoded(file_format))
    skipped: dict[str, str] = {}
    assert list(pictures_below(tmp_path, skipped)) == [name]
    assert skipped == {}
    assert open_image(tmp_path / name).size == (16, 16)


@pytest.mark.parametrize("extension", UNREAD)
def test_without_an_extension_other_formats_are_told(tmp_path: Path, extension: str) -> None:
    (tmp_path / "picture").write_bytes(UNREAD[extension])
    skipped: dict[str, str] = {}
    assert list(pictures_below(tmp_path, skipped)) == []
    assert skipped["picture"].startswith(f"{extension.upper()} is a format that isn't read")


@pytest.mark.parametrize("name", SILENT)
def test_what_is_no_picture_is_passed_over_in_silence(tmp_path: Path, name: str) -> None:
    make(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / name).write_bytes(encoded("PNG"))  # even so
    (tmp_path / "a" / "README").write_text("P5 is not what this is\nBM, neither")
    (tmp_path / "a" / "empty").touch()
    data = ImageFolder(tmp_path)
    assert [r.id for r in data.records] == ["a/1.png", "b/1.png"]
    assert data.skipped == {}


def test_the_lists_do_not_overlap() -> None:
    assert not _NO_PICTURES & (_NOT_READ | image_extensions())
    assert not {extension for _, extension in _MAGIC} & _NO_PICTURES
    assert {".avif", ".webp"} <= _NOT_READ | image_extensions(), "told where Pillow was built without them"


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert why_unread(tmp_path / "pipe") is None


def test_a_table_tells_formats_that_are_not_read(tmp_path: Path) -> None:
    make(tmp_path, "1.png", "2.png", "plain")
    (tmp_path / "3.heic").write_bytes(HEIC)
    (tmp_path / "t.csv").write_text("image,label\n1.png,a\n2.png,b\n3.heic,a\nplain,b\n")
    with pytest.warns(UserWarning, match=r"1 set aside .* 3\.heic: HEIC is a format that isn't read"):
        data = CsvFolder(tmp_path)
    assert [r.id for r in data.records] == ["1.png", "2.png", "plain"]


def test_fitting_and_predicting_walk_alike(tmp_path: Path) -> None:
    root = tmp_path / "root"
    names = ("a/2.png", "a/10.png", "a/deep/1.png", "a/folder.jpg/1.png", "b/plain")
    make(
        root,
        *names,
        "a/.hidden/1.png",
        "a/.1.png",
        "__MACOSX/1.png",
        "a/__MACOSX/1.png",
        "a/@eaDir/2.png/t.png",
        "../out/1.png",
    )
    (root / "a" / "link.png").symlink_to(root / "a" / "2.png")
    (root / "b" / "out").symlink_to(tmp_path / "out")
    (root / "b" / "1.heic").write_bytes(HEIC)
    (root / "b" / "Thumbs.db").touch()
    with pytest.warns(UserWarning, match="3 set aside"):
        data = ImageFolder(root, test_every=None)
    aside: list[dict[str, str]] = []
    assert {r.id for r in data.records} == set(names)
    assert _files([root], aside) == [root / r.id for r in data.records]
    assert {item["picture"] for item in aside} == {str(root / name) for name in data.skipped}
    assert all(reason in {item["problem"].split(": ", 1)[1] for item in aside} for reason in data.skipped.values())


def test_a_folder_without_pictures_to_predict_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "1.heic").write_bytes(HEIC)
    with pytest.raises(
        ValueError, match=r"the folders hold none\. 1 are left out; the first: .*1\.heic: HEIC is a format"
    ):
        _files([tmp_path], [])
