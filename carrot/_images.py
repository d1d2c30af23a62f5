"""One picture, from a file, from its bytes or as another library opened it: upright, RGB, 8 bits per channel.

What can't be made so is an error that names the picture. Pixels are converted, never guessed:

- EXIF orientation is applied, once: what comes out says nothing of it any more;
- transparency, in whichever form, is composited on **white**;
- 16-bit grey is scaled by its full range, ``round(v / 257)``, where Pillow's own conversion clips at 255; 16-bit
  colour keeps its high byte, as Pillow decodes it;
- CMYK goes through Pillow's plain formula; embedded colour profiles are not applied;
- of an animation or a file of several pages, the first picture is taken;
- a picture whose numbers have no defined white (32-bit integers, floating point) is refused.
"""

import io
import os
import re
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from carrot.errors import UnreadableImageError

T = TypeVar("T")

MAX_PIXELS = 150_000_000
"""Larger pictures are refused before they are decoded (450 MB as RGB). Pillow itself refuses from 179 million."""

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""The formats that are read. Others of Pillow's are left out: EPS would run Ghostscript, several are mere stubs."""

_ORIENTATION_TAG = 0x0112
_UPRIGHT: dict[object, Image.Transpose] = {
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
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+")  # two letters at least: "C:/" is a drive
_PILLOW = Path(Image.__file__).parent
_warnings_lock = threading.Lock()


def open_image(path: Path | str) -> Image.Image:
    """Return the picture in ``path`` as upright RGB, 8 bits per channel.

    Raises:
        UnreadableImageError: The file is missing, empty, truncated, no picture, larger than ``MAX_PIXELS`` pixels, or
            of a kind that has no defined conversion. The message and ``.path`` name the file.
    """
    return _read(path, _upright_rgb)


def decode_image(content: bytes, name: str) -> Image.Image:
    """Return the picture whose file holds ``content``, as ``open_image`` gives it; ``name`` is what an error calls it.

    Raises:
        UnreadableImageError: As ``open_image``.
    """
    try:
        if not content:
            raise ValueError("it is empty (0 bytes)")
        with _open_quietly(io.BytesIO(content), name) as image:
            return _upright_rgb(image, name)
    except Exception as error:
        raise UnreadableImageError(f"{name}: can't be read as a picture: {_reason(error)}.") from error


class Header(NamedTuple):
    """What a picture's file says of itself, before it is decoded."""

    width: int
    height: int
    is_animated: bool


def header(content: bytes, name: str) -> Header:
    """Return what the file that holds ``content`` says of itself; pixels are not checked.

    Raises:
        UnreadableImageError: It is of no format that is read.
    """
    try:
        with _open_quietly(io.BytesIO(content), name) as image:
            return Header(image.width, image.height, bool(getattr(image, "is_animated", False)))
    except Exception as error:
        raise UnreadableImageError(f"{name}: can't be read as a picture: {_reason(error)}.") from error


def open_codes(path: Path | str) -> Image.Image:
    """Return the numbers stored in ``path``, one byte per pixel (mode "L"): a label picture, not colours.

    Of a picture with a palette these are the indices. No orientation is applied.

    Raises:
        UnreadableImageError: As ``open_image``, or the pixels aren't one byte each.
    """
    return _read(path, _to_codes)


def open_grey(path: Path | str) -> NDArray[np.uint8]:
    """Return (img_h, img_w), the grey values stored in ``path``; of grey with alpha the grey alone.

    No orientation is applied.

    Raises:
        UnreadableImageError: As ``open_image``, or the picture isn't 8-bit grey.
    """
    return np.asarray(_read(path, _to_grey))


def image_size(path: Path | str) -> tuple[int, int]:
    """Return (width, height) of ``open_image(path)``, from the file's header: pixels are not checked.

    Raises:
        UnreadableImageError: As ``open_image``, where the header shows it.
    """
    return _read(path, _upright_size)


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return a picture that another library opened as ``open_image`` gives it; ``name`` is what an error calls it.

    f(f(x)) = f(x): what comes out is a picture of its own, with nothing left that says how to turn it.

    Raises:
        UnreadableImageError: The picture is damaged or too large, its file was closed, or it is of a kind that has no
            defined conversion.
    """
    try:
        return _upright_rgb(image, name)
    except Exception as error:
        raise UnreadableImageError(f"{name}: can't be read as a picture: {_reason(error)}.") from error


def _read(path: Path | str, convert: Callable[[Image.Image, str], T]) -> T:
    name = str(path)
    try:
        path = Path(path)
        if not path.is_file():  # also keeps a named pipe from blocking
            if not path.exists() and (url := _URL.match(name)):
                name = f"{url[1]}://{name[url.end() :]}"  # a Path has lost a slash of it
                raise OSError("nothing is fetched from elsewhere: download it, and give the file")
            if path.is_dir():
                raise OSError("it is a folder; give the pictures in it")
            raise OSError("there is no such file" if not path.exists() else "not a regular file")
        if path.stat().st_size == 0:
            raise OSError("the file is empty (0 bytes)")
        with _open_quietly(path, name) as image:
            return convert(image, name)
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        told = bool(_URL.match(name)) or os.path.isdir(path)  # what to do has been said
        remedy = "" if told else " Replace the file or remove it."
        raise UnreadableImageError(f"{name}: can't be read as a picture: {_reason(error)}.{remedy}", name) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # Pillow's words hold an address
        return f"cannot identify its format, which must be one of {', '.join(_available_formats())}"
    if isinstance(error, Image.DecompressionBombError):  # Pillow's words speak of an attack
        return f"it has far too many pixels, and the limit is {MAX_PIXELS:,}"
    return str(error).rstrip(".") or type(error).__name__


@cache
def image_extensions() -> frozenset[str]:
    """Return the extensions of ``FORMATS``, in lower case, with their dot."""
    formats = _available_formats()
    return frozenset(extension for extension, name in Image.registered_extensions().items() if name in formats)


@cache
def _available_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # AVIF and WEBP depend on how Pillow was built


def _open_quietly(file: Path | io.BytesIO, name: str) -> Image.Image:
    """Open without Pillow's warning at half its limit: ours is an error, at one size, whatever the filters are."""
    opened: list[Image.Image] = []
    try:
        _naming(name, lambda: opened.append(Image.open(file, formats=_available_formats())))
    except Exception:
        for image in opened:  # a warning is an error to this caller
            image.close()
        raise
    return opened[0]


def _naming(name: str, ask: Callable[[], T]) -> T:
    """Return what Pillow answers; what it warns of, say with the name of the picture, which Pillow leaves out."""
    with _warnings_lock, warnings.catch_warnings(record=True) as caught:  # the filters are global: one thread at a time
        warnings.simplefilter("always")
        answer = ask()
    for found in caught:
        if Path(found.filename).parent != _PILLOW:  # another thread's
            warnings.warn_explicit(found.message, found.category, found.filename, found.lineno)
        elif not issubclass(found.category, Image.DecompressionBombWarning):
            warnings.warn(f"{name}: {found.message}", found.category, stacklevel=2)
    return answer


def _orientation(image: Image.Image, name: str) -> object:
    try:
        return _naming(name, lambda: image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception as error:  # the pixels are sound: only the camera's notes are damaged
        warnings.warn(f"{name}: damaged EXIF ({error}); the picture is taken as upright", stacklevel=2)
        return 1


def _refuse_too_large(image: Image.Image) -> None:
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} = {pixels:,} pixels, and the limit is {MAX_PIXELS:,}")


def _decode(image: Image.Image, name: str) -> None:
    if 0 in image.size:
        raise ValueError(f"it has no pixels ({image.width} x {image.height})")
    _refuse_too_large(image)
    if not isinstance(image, TiffImageFile):
        image.load()
        return
    _orientation(image, name)  # decoding reads it, and would warn without a name
    file = image.filename
    image.filename = ""  # with a name, Pillow maps an unpacked file into memory, at its upright size: scrambled
    try:
        image.load()
    finally:
        image.filename = file


def _upright_size(image: Image.Image, name: str) -> tuple[int, int]:
    _refuse_too_large(image)
    try:
        sideways = _orientation(image, name) in _SIDEWAYS
    except Warning:  # an error where the filters say so; `open_image` warns of it
        sideways = False
    tags = getattr(
        image, "tag_v2", None
    )  # of a TIFF some versions of Pillow give the stored size, others the upright one
    width, height = image.size if tags is None else (int(tags[256]), int(tags[257]))
    return (height, width) if sideways else (width, height)


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Take every picture's one way: pixels as they are stored -> RGB -> upright -> a new picture with nothing else."""
    _decode(image, name)
    method = _UPRIGHT.get(
        _orientation(image, name)
    )  # asked after decoding: a TIFF is upright then, and a PNG may end with it
    rgb = _to_rgb(image)
    return Image.fromarray(np.asarray(rgb if method is None else rgb.transpose(method)))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _GREY_16 or (image.mode == "I" and image.format in ("PNG", "PPM")):  # both formats mean 16 bits
        return _from_grey_16(np.asarray(image).astype(np.uint32), image.info.get("transparency"))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"mode {image.mode!r} has no defined white; save it with 8 or 16 bits per channel"
            + ("" if image.format else " (a copy in memory no longer knows what format it had: a file does)")
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_codes(image: Image.Image, name: str) -> Image.Image:
    _decode(image, name)
    if image.mode not in ("L", "P"):
        raise ValueError(f"a label picture has one byte per pixel (mode 'L' or 'P'); got mode {image.mode!r}")
    return Image.fromarray(np.asarray(image))


def _to_grey(image: Image.Image, name: str) -> Image.Image:
    _decode(image, name)
    if image.mode not in ("L", "LA"):
        raise ValueError(f"must be 8-bit grey (mode 'L' or 'LA'); got mode {image.mode!r}")
    return image.getchannel(0)


def _from_grey_16(grey: NDArray[np.uint32], transparent: object) -> Image.Image:
    if isinstance(transparent, int):
        grey = np.where(grey == transparent, np.uint32(65535), grey)  # that grey is a hole: white shows
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
