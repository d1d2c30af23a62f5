"""Pictures of every kind become upright RGB, against numpy; damaged ones become one kind of error."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import carrot._images as images
from carrot._images import open_image
from carrot.errors import UnreadableImageError

# What a camera stores for an upright picture U, from the table of the EXIF standard (which side row 0 and column 0
# are).
STORED = {
    1: lambda U: U,  # top, left
    2: lambda U: U[:, ::-1],  # top, right
    3: lambda U: U[::-1, ::-1],  # bottom, right
    4: lambda U: U[::-1],  # bottom, left
    5: lambda U: U.swapaxes(0, 1),  # left, top
    6: lambda U: U[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda U: U[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda U: U[::-1].swapaxes(0, 1),  # left, bottom
}


def random_pixels(*shape: int, high: int = 256, dtype: type = np.uint8) -> NDArray[np.integer]:
    return np.random.default_rng(0).integers(0, high, size=shape).astype(dtype)


def on_white(colour: NDArray[np.integer], alpha: NDArray[np.integer]) -> NDArray[np.float64]:
    share = alpha.astype(float)[..., None] / 255
    return colour * share + 255 * (1 - share)


def opened(path: Path) -> NDArray[np.uint8]:
    image = open_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def header(path: Path) -> tuple[str, object]:
    """The mode and the transparent colour as Pillow sees them: what the test is about was really written."""
    with Image.open(path) as image:
        return image.mode, image.info.get("transparency")


def png(width: int, height: int, bits: int = 8, colour_type: int = 0, rows: bytes = b"\0") -> bytes:
    """A PNG written by hand: one that claims a size and has no pixels, or one that Pillow can't write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_the_picture_is_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = random_pixels(5, 7, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).save(path, exif=exif, lossless=True)
    np.testing.assert_array_equal(opened(path), upright)


@pytest.mark.parametrize("tag", [0, 9, 77])
def test_an_undefined_orientation_changes_nothing(tmp_path: Path, tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(random_pixels(5, 7, 3)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(opened(tmp_path / "a.png"), random_pixels(5, 7, 3))


def test_damaged_exif_is_reported_and_the_picture_kept(tmp_path: Path) -> None:
    Image.fromarray(random_pixels(5, 7, 3)).save(tmp_path / "a.png", exif=b"Exif\0\0not a TIFF header")
    with pytest.warns(UserWarning, match=r"a\.png: damaged EXIF"):
        image = open_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(image), random_pixels(5, 7, 3))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(tmp_path: Path, mode: str) -> None:
    pixels = random_pixels(16, 16, len(mode))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = on_white(pixels[..., :-1], pixels[..., -1])
    assert header(tmp_path / "a.png")[0] == mode
    assert np.abs(opened(tmp_path / "a.png") - expected).max() <= 1  # Pillow composites in 8 bits


def test_palette_and_its_transparency(tmp_path: Path) -> None:
    palette = random_pixels(4, 3)
    index = random_pixels(8, 8, high=4)
    image = Image.fromarray(index)
    image = image.convert("P")
    image.putpalette(palette.tobytes())
    image.putdata(index.ravel().tolist())
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "key.png", transparency=2)
    image.save(tmp_path / "key.gif", transparency=2)
    image.save(tmp_path / "levels.png", transparency=bytes([0, 90, 200, 255]))

    colour = palette[index]
    np.testing.assert_array_equal(opened(tmp_path / "plain.png"), colour)
    keyed = np.where((index == 2)[..., None], 255, colour)
    np.testing.assert_array_equal(opened(tmp_path / "key.png"), keyed)
    np.testing.assert_array_equal(opened(tmp_path / "key.gif"), keyed)
    expected = on_white(colour, np.array([0, 90, 200, 255])[index])
    assert np.abs(opened(tmp_path / "levels.png") - expected).max() <= 1  # Pillow composites in 8 bits


def test_a_transparent_colour_without_an_alpha_channel(tmp_path: Path) -> None:
    colour = random_pixels(8, 8, 3, high=2) * 200
    Image.fromarray(colour).save(tmp_path / "rgb.png", transparency=(200, 0, 200))
    hole = (colour == [200, 0, 200]).all(axis=-1, keepdims=True)
    np.testing.assert_array_equal(opened(tmp_path / "rgb.png"), np.where(hole, 255, colour))

    grey = random_pixels(8, 8, high=4) * 50
    Image.fromarray(grey).save(tmp_path / "grey.png", transparency=100)
    np.testing.assert_array_equal(opened(tmp_path / "grey.png")[..., 0], np.where(grey == 100, 255, grey))

    deep = random_pixels(8, 8, high=4, dtype=np.uint16) * np.uint16(5140)
    Image.fromarray(deep).save(tmp_path / "deep.png", transparency=5140)
    assert header(tmp_path / "deep.png") == ("I;16", 5140)
    np.testing.assert_array_equal(opened(tmp_path / "deep.png")[..., 1], np.where(deep == 5140, 255, deep // 257))


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    deep = random_pixels(32, 32, high=65536, dtype=np.uint16)
    deep[0, :4] = 0, 128, 129, 65535
    expected = np.rint(deep / 257)  # never a tie: 257 is odd
    for name in ("a.png", "a.tiff"):
        Image.fromarray(deep).save(tmp_path / name)
        assert header(tmp_path / name)[0] == "I;16"
        np.testing.assert_array_equal(opened(tmp_path / name)[..., 2], expected)
    Image.frombytes("I;16B", (32, 32), deep.astype(">u2").tobytes()).save(tmp_path / "big.tiff")
    assert header(tmp_path / "big.tiff")[0] == "I;16B"
    np.testing.assert_array_equal(opened(tmp_path / "big.tiff")[..., 0], expected)
    (tmp_path / "a.pgm").write_bytes(b"P5 32 32 65535\n" + deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(opened(tmp_path / "a.pgm")[..., 0], expected)


def test_16_bit_grey_is_upright_too(tmp_path: Path) -> None:
    deep = random_pixels(3, 5, high=65536, dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(STORED[6](deep))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(opened(tmp_path / "a.png")[..., 0], np.rint(deep / 257))


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_and_alpha(tmp_path: Path, colour_type: int, channels: int) -> None:
    deep = random_pixels(8, 8, channels, high=65536, dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    (tmp_path / "a.png").write_bytes(png(8, 8, 16, colour_type, rows))
    if channels == 3:
        assert np.abs(opened(tmp_path / "a.png") - deep / 257).max() < 1  # Pillow keeps the high byte
    else:
        expected = on_white(deep[..., :-1] / 257, deep[..., -1] / 257)
        assert np.abs(opened(tmp_path / "a.png") - expected).max() < 2  # the same, and 8-bit compositing


def test_one_bit_and_grey(tmp_path: Path) -> None:
    bits = random_pixels(9, 13, high=2).astype(bool)
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(opened(tmp_path / "bits.png"), np.repeat(bits[..., None], 3, axis=2) * 255)
    Image.fromarray(bits).save(tmp_path / "hole.png", transparency=0)
    np.testing.assert_array_equal(opened(tmp_path / "hole.png"), np.full((9, 13, 3), 255))
    grey = random_pixels(9, 13)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(opened(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))


def test_cmyk(tmp_path: Path) -> None:
    ink = random_pixels(16, 16, 4)
    image = Image.frombytes("CMYK", (16, 16), ink.tobytes())
    image.save(tmp_path / "a.tiff")
    light = 255 - ink.astype(float)
    assert np.abs(opened(tmp_path / "a.tiff") - light[..., :3] * light[..., 3:] / 255).max() <= 1  # 8-bit rounding
    for name, inks, rgb in (("red", (0, 255, 255, 0), (255, 0, 0)), ("black", (0, 0, 0, 255), (0, 0, 0))):
        Image.new("CMYK", (16, 16), inks).save(tmp_path / f"{name}.jpg", quality=95)
        assert np.abs(opened(tmp_path / f"{name}.jpg").astype(int) - rgb).max() <= 2  # JPEG


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(opened(tmp_path / "a.gif"), np.full((8, 8, 3), (255, 0, 0)))


@pytest.mark.parametrize("size", [(1, 1), (30_000, 10), (10, 30_000)])
def test_extreme_shapes(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "green").save(tmp_path / "a.png")
    assert open_image(str(tmp_path / "a.png")).size == size


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_defined_white_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4), 1000).save(tmp_path / "a.tiff")
    with pytest.raises(UnreadableImageError, match="no defined white; save it with 8 or 16 bits"):
        open_image(tmp_path / "a.tiff")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    Image.fromarray(random_pixels(64, 64, 3)).save(tmp_path / "whole.jpg")
    Image.fromarray(random_pixels(64, 64, 3)).save(tmp_path / "whole.png")
    for kind in ("jpg", "png"):
        whole = (tmp_path / f"whole.{kind}").read_bytes()
        (tmp_path / f"truncated.{kind}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {
        "truncated.jpg": "truncated",
        "truncated.png": "truncated",
        "empty.jpg": "empty",
        "text.jpg": "cannot identify",
        "script.eps": "cannot identify",
        "folder.jpg": "it is a folder",
        "pipe.jpg": "not a regular file",
        "absent.jpg": "no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnreadableImageError, match=reason) as caught:
            open_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert caught.value.path == str(tmp_path / name)


@pytest.mark.parametrize("side", [12_300, 60_000])  # between our limit and Pillow's; far beyond both
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png(side, side))
    with pytest.raises(UnreadableImageError, match="limit") as caught:
        open_image(tmp_path / "bomb.png")
    assert "bomb.png" in str(caught.value)


def test_below_the_limit_there_is_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # Pillow warns from 50 and refuses from 100 pixels
    assert open_image(tmp_path / "a.png").size == (9, 9)  # warnings are errors in this suite
    monkeypatch.setattr(images, "MAX_PIXELS", 80)
    with pytest.raises(UnreadableImageError, match="9 x 9 = 81 pixels, and the limit is 80"):
        open_image(tmp_path / "a.png")


def test_the_limit_is_below_pillows_refusal() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < images.MAX_PIXELS < 2 * Image.MAX_IMAGE_PIXELS


@settings(max_examples=150)
@given(suffix=st.sampled_from(["jpg", "png", "gif", "tiff", "webp", "bmp"]), data=st.data())
def test_any_damage_gives_a_picture_or_the_one_error(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(random_pixels(12, 12, 3)).save(path, exif=exif)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        outcome = open_image(path).mode
    except UnreadableImageError as error:
        outcome = error.path
    assert outcome in ("RGB", str(path))


def test_extensions_are_those_of_pictures() -> None:
    extensions = images.image_extensions()
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp"} <= extensions
    assert not {".eps", ".pdf", ".mp4", ".txt", ".h5"} & extensions
