"""The pictures below a folder: one walker for every folder that a user names.

Files and folders come in natural order ("2" before "10"). What is passed over in silence: hidden files and folders,
``HIDDEN``, and files that are no pictures (Thumbs.db, texts, tables). What is passed over and **told**, in ``skipped``:
symbolic links, which may leave the folder, run in a circle or show one picture twice; names that aren't UTF-8; and
pictures of formats that aren't read.

A file is judged by its extension, and by its first bytes where the extension says nothing: pictures without an
extension are read.
"""

import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from carrot._images import image_extensions
from carrot.data.tables import natural
from carrot.errors import DataError

LINK = "a symbolic link, not followed"
UNREAD = "is a format that isn't read: convert it to JPEG or PNG"
HIDDEN = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
"""What archives, network disks and systems put beside a user's files: copies, thumbnails, things thrown away."""

NOT_UTF8 = "its name is not valid UTF-8"


def _extensions(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


_NOT_READ = _extensions(
    """3fr arw bay cap cr2 cr3 crw dcr dng erf fff gpr iiq kdc mdc mef mos mrw nef nrw orf pef ptx r3d raf raw rw2 rwl
    sr2 srf srw x3f ai avci avif avifs cdr dcm dicom djvu dpx emf eps exr fits hdr heic heics heif heifs hif ico icns
    jls jxl jxr pcx pict psb psd sgi svg svgz wdp webp wmf xbm xcf xpm"""
)
_NO_PICTURES = _extensions(
    """txt md json jsonl xml yaml yml toml csv tsv xls xlsx html htm log ini db cfg conf py ipynb sh pdf doc docx mat
    npy npz pkl pt pth safetensors h5 hdf5 parquet zip tar gz tgz 7z rar mp4 mov avi mkv webm m4v mp3 wav aae xmp thm
    lnk url tmp part crdownload bak old orig"""
)
_MAGIC = tuple(
    (re.compile(pattern, re.DOTALL), extension)  # "": read by every build of Pillow
    for pattern, extension in (
        (rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|\x00{3}\x0cjP  |\xff\x4f\xff\x51|II\*\x00|MM\x00\*", ""),
        (rb"BM.{4}\x00{4}|P[1-6]\s+[0-9#]", ""),
        (rb".{4}ftypavi[fs]", ".avif"),
        (rb"RIFF.{4}WEBP", ".webp"),
        (rb".{4}ftyp(hei[cxms]|hev[cm]|mif1|msf1)", ".heic"),
        (rb".{4}ftypcrx ", ".cr3"),
        (rb"\xff\x0a|\x00{3}\x0cJXL ", ".jxl"),
        (rb"8BPS\x00", ".psd"),
        (rb"gimp xcf", ".xcf"),
        (rb"v/1\x01", ".exr"),
        (rb"#\?RADIANCE", ".hdr"),
        (rb"FUJIFILMCCD-RAW", ".raf"),
        (rb"<svg", ".svg"),
        (rb".{128}DICM", ".dcm"),
    )
)


def pictures_in(folder: str | os.PathLike[str], skipped: dict[str, str] | None = None) -> list[Path]:
    """Return the pictures of a folder, at any depth and in natural order: what ``predict`` answers for, in that order.

    Args:
        folder: Where to look.
        skipped: What is passed over is added here, the reason by its path below the folder; None: it is warned of.

    Raises:
        DataError: A folder can't be listed, or there is no picture.
    """
    root, passed = Path(folder), dict[str, str]()
    found = [root / name for name in pictures_below(root, passed)]
    if skipped is not None:
        skipped |= passed
        return found
    some = next(iter(passed.items()), None)
    told = "" if some is None else f"{len(passed)} passed over; the first: {some[0]}: {some[1]}."
    if not found:
        raise DataError(f"{folder}: holds no picture that is read. {told or 'Give another folder.'}")
    if told:
        warnings.warn(f"{folder}: {told}", stacklevel=3)
    return found


def pictures_below(folder: Path, skipped: dict[str, str], root: Path | None = None) -> Iterator[str]:
    """Yield the path below ``root`` (default: ``folder``), with ``/``, of every picture at any depth of ``folder``.

    Args:
        folder: Where to look; it may be a link itself.
        skipped: What is passed over and told is added here: the reason by its path below ``root``.
        root: What paths count from.

    Raises:
        DataError: A folder can't be listed.
    """
    root = root or folder
    for entry in visible(folder):
        if told(root, entry, skipped):
            continue
        if entry.is_dir():
            yield from pictures_below(Path(entry.path), skipped, root)
        elif is_picture(root, entry, skipped):
            yield below(root, entry)


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, sorted naturally, without what is hidden.

    Raises:
        DataError: It can't be listed.
    """
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in HIDDEN]
    except OSError as error:
        raise DataError(f"{folder}: can't be listed: {error.strerror}. Make it readable, or remove it.") from error
    return sorted(shown, key=lambda entry: natural(entry.name))


def told(root: Path, entry: os.DirEntry[str], skipped: dict[str, str]) -> bool:
    """Note the entry in ``skipped``, and return True, if it is a link or has a name that can't be stored."""
    reason = LINK if entry.is_symlink() else "" if printable(entry.name) == entry.name else NOT_UTF8
    if reason:
        skipped[printable(below(root, entry))] = reason
    return bool(reason)


def is_picture(root: Path, entry: os.DirEntry[str], skipped: dict[str, str]) -> bool:
    """Return whether a file is a picture that is read; note it in ``skipped`` if it is one that isn't."""
    reason = why_unread(entry.path)
    if reason:
        skipped[below(root, entry)] = reason
    return reason == ""


def why_unread(file: str | os.PathLike[str], by_name: bool = False) -> str | None:
    """Return "" for a picture of a format that is read, why not for one of another, and None for what is no picture.

    Args:
        file: Which.
        by_name: Only its name is there, or it may not be opened: one without an extension that is known is none.
    """
    extension = os.path.splitext(file)[1].lower()
    if extension in image_extensions():
        return ""
    if extension not in _NOT_READ:
        unknown = extension in _NO_PICTURES or extension.endswith("~") or by_name
        found = None if unknown else _by_content(file)
        if not found or found in image_extensions():
            return None if found is None else ""
        extension = found
    return f"{extension[1:].upper()} {UNREAD}"


def below(root: Path, entry: os.DirEntry[str]) -> str:
    """Return the path of ``entry`` below ``root``, with ``/``."""
    start = f"{root}/"
    if os.sep == "/" and entry.path.startswith(start):  # a tenth of the time of a Path
        return entry.path[len(start) :]
    return Path(entry.path).relative_to(root).as_posix()


def printable(name: str) -> str:
    """Return a name with the bytes written out that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _by_content(file: str | os.PathLike[str]) -> str | None:
    """Return the usual extension of the format that a file's first bytes show.

    It is "" for a format that is always read, None for no picture.
    """
    try:
        if not os.path.isfile(file):  # a named pipe would block
            return None
        with open(file, "rb") as opened:
            head = opened.read(132)
    except OSError:  # what can't be opened and isn't called a picture
        return None
    return next((extension for magic, extension in _MAGIC if magic.match(head)), None)
