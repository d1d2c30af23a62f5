"""One picture from a file: upright, RGB, 8 bits per channel, or an error that names the file.

Pixels are converted, never guessed:

- EXIF orientation is applied;
- transparency, in whichever form, is composited on **white**;
- 16-bit grey is scaled by its full range, ``round(v / 257)``, where Pillow's own conversion clips at 255; 16-bit
  colour keeps its high byte, as Pillow decodes it;
- CMYK goes through Pillow's plain formula; embedded colour profiles are not applied;
- of an animation or a file of several pages, the first picture is taken;
- a picture whose numbers have no defined white (32-bit integers, floating point) is refused.
"""

import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carrot.errors import UnreadableImageError

T = TypeVar("T")

MAX_PIXELS = 150_000_000
"""Larger pictures are refused before they are decoded (450 MB as RGB). Pillow itself refuses from 179 million."""

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""The formats that are read. Others of Pillow's are left out: EPS would run Ghostscript, several are mere stubs."""

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height
_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_open_lock = threading.Lock()


def open_image(path: Path | str) -> Image.Image:
    """Return the picture in ``path`` as upright RGB, 8 bits per channel.

    Raises:
        UnreadableImageError: The file is missing, empty, truncated, no picture, larger than ``MAX_PIXELS`` pixels, or
            of a kind that has no defined conversion. The message and ``.path`` name the file.
    """
    path = Path(path)
    return _read(path, lambda image: _to_rgb(_upright(image, path), image.format))


def open_codes(path: Path | str) -> Image.Image:
    """Return the numbers stored in ``path``, one byte per pixel (mode "L"): a label picture, not colours.

    Of a picture with a palette these are the indices. No orientation is applied.

    Raises:
        UnreadableImageError: As ``open_image``, or the pixels aren't one byte each.
    """
    return _read(Path(path), _to_codes)


def open_grey(path: Path | str) -> NDArray[np.uint8]:
    """Return (img_h, img_w), the grey values stored in ``path``; of grey with alpha the grey alone. No orientation is applied.

    Raises:
        UnreadableImageError: As ``open_image``, or the picture isn't 8-bit grey.
    """
    return np.asarray(_read(Path(path), _to_grey))


def image_size(path: Path | str) -> tuple[int, int]:
    """Return (width, height) of ``open_image(path)``, from the file's header: pixels are not decoded, nor checked.

    Raises:
        UnreadableImageError: As ``open_image``, where the header shows it.
    """
    path = Path(path)
    return _read(path, lambda image: _upright_size(image, path), decode=False)


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return a picture that another library opened as ``open_image`` gives it; ``name`` is what an error calls it.

    Raises:
        UnreadableImageError: The picture is damaged, or of a kind that has no defined conversion.
    """
    try:
        return _to_rgb(_upright(image, Path(name)), image.format)
    except Exception as error:
        raise UnreadableImageError(f"{name}: can't be read as a picture: {error or type(error).__name__}.") from error


def _read(path: Path, convert: Callable[[Image.Image], T], decode: bool = True) -> T:
    try:
        if not path.is_file():  # also keeps a named pipe from blocking
            raise OSError("there is no such file" if not path.exists() else "not a regular file")
        if path.stat().st_size == 0:
            raise OSError("the file is empty (0 bytes)")
        with _open_quietly(path) as image:
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} = {pixels:,} pixels, and the limit is {MAX_PIXELS:,}")
            if decode:
                image.load()
            return convert(image)
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise UnreadableImageError(
            f"{path}: can't be read as a picture: {error or type(error).__name__}. Replace the file or remove it.",
            str(path),
        ) from error


@cache
def image_extensions() -> frozenset[str]:
    """Return the extensions of ``FORMATS``, in lower case, with their dot."""
    formats = _available_formats()
    return frozenset(extension for extension, name in Image.registered_extensions().items() if name in formats)


@cache
def _available_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # AVIF and WEBP depend on how Pillow was built


def _open_quietly(path: Path) -> Image.Image:
    """Open without Pillow's warning at half its limit: ours is an error, at one size, whatever the filters are."""
    with _open_lock, warnings.catch_warnings():  # the filters are global: one thread at a time
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=_available_formats())


def _upright(image: Image.Image, path: Path) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception as error:  # the pixels are sound: only the camera's notes are damaged
        warnings.warn(f"{path}: damaged EXIF ({error}); the picture is taken as upright", stacklevel=5)
        orientation = 1
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _upright_size(image: Image.Image, path: Path) -> tuple[int, int]:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # `open_image` warns of it
        orientation = 1
    return (image.height, image.width) if orientation in _SIDEWAYS else image.size


def _to_rgb(image: Image.Image, file_format: str | None) -> Image.Image:
    if image.mode in _GREY_16 or (image.mode == "I" and file_format in ("PNG", "PPM")):  # both formats mean 16 bits
        return _from_grey_16(np.asarray(image).astype(np.uint32), image.info.get("transparency"))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode!r} has no defined white; save it with 8 or 16 bits per channel")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")  # a copy, also where it is RGB already: the file may be closed


def _to_codes(image: Image.Image) -> Image.Image:
    if image.mode not in ("L", "P"):
        raise ValueError(f"a label picture has one byte per pixel (mode 'L' or 'P'); got mode {image.mode!r}")
    return Image.fromarray(np.asarray(image))


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode not in ("L", "LA"):
        raise ValueError(f"must be 8-bit grey (mode 'L' or 'LA'); got mode {image.mode!r}")
    return image.getchannel(0)


def _from_grey_16(grey: NDArray[np.uint32], transparent: object) -> Image.Image:
    if isinstance(transparent, int):
        grey = np.where(grey == transparent, np.uint32(65535), grey)  # that grey is a hole: white shows
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
