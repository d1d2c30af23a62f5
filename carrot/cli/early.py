"""What costs nothing to know is refused before torch loads: a model that isn't there, a picture, a package, a word."""

import json
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrot._choices import LIFTS, read, read_readout, read_regions
from carrot._display.extras import how_to_install, missing
from carrot._display.words import counted
from carrot.cli.options import UsageError, note, quoted
from carrot.embedding.setting import AXES, Axis
from carrot.errors import ModelError, UnreadableImageError
from carrot.store.layout import CONFIG, FORMAT, load_config

if TYPE_CHECKING:
    from carrot.data.inputs import PictureLike
    from carrot.data.records import Box
    from carrot.model import Carrot

LAM = Axis("Ridge penalty", "Ridge penalty", 1.0, "loo", (), "> 0")
NUMBERS = {"lam": LAM, **{name: axis for name, axis in AXES.items() if axis.rule is not None}}
_ELSEWHERE = ("toy", "torchvision", "hf")  # opened by what loads torch, or by another library
_SOME = 200  # entries of a folder that are looked at


def need_model(model: Path, *others: Path) -> None:
    """Refuse a model that isn't there, or is damaged.

    Args:
        model: What stands where the model should.
        others: What stands where pictures or data should: the model may be among them.

    Raises:
        ModelError: It is no model; the message says what it looks like.
    """
    swapped = next((path for path in others if _is_model(path)), None)
    if swapped is not None and not _is_model(model):
        raise ModelError(f"{model}: is no model, but {swapped} is one. The model comes first.")
    if not model.exists():
        raise ModelError(f"{model}: there is no such folder. Give the folder of a model; carrot fit makes one.")
    if not model.is_dir():
        raise ModelError(f"{model}: is a file. Give the folder of a model.")
    if not (model / CONFIG).exists() and _holds_pictures(model):
        raise ModelError(
            f"{model}: holds no model, but pictures, it seems. Make one of them first: carrot fit {quoted(model)} "
            "--out MODEL"
        )
    load_config(model)


def need_picture(picture: Path) -> None:
    """Refuse one picture that isn't there.

    Raises:
        UnreadableImageError: There is no such file, or it is a folder.
    """
    if picture.is_dir():
        raise UnreadableImageError(
            f"{picture}: is a folder. Give one picture in it; carrot predict takes folders.", str(picture)
        )
    if not picture.exists():
        raise UnreadableImageError(f"{picture}: there is no such file.", str(picture))
    from carrot.data.walking import why_unread

    if reason := why_unread(picture):
        raise UnreadableImageError(f"{picture}: {reason}.", str(picture))


def box_from(text: str | None) -> "Box | None":
    """Return the box that is written.

    Raises:
        UsageError: It is none.
    """
    if text is None:
        return None
    try:
        x, y, width, height = (float(part) for part in text.split(","))
        if not (width > 0 and height > 0 and all(map(math.isfinite, (x, y, width, height)))):
            raise ValueError
    except ValueError:
        raise UsageError(f"`--box` must be X,Y,WIDTH,HEIGHT in pixels, with an area; got {text!r}.") from None
    from carrot.data.records import Box

    return Box(x, y, width, height)


def cut(picture: Path, box: "Box | None") -> "PictureLike":
    """Return the picture, or what lies in the box, for a model to look at."""
    from carrot.data.records import Cut

    return picture if box is None else Cut(picture, box)


def say_if_whole(found: "Carrot", box: "Box | None", flag: str = "--box X,Y,WIDTH,HEIGHT") -> None:
    """Say that a picture is taken whole, where the model's own were cut from their files; ``flag`` cuts it."""
    if box is None and any(record.window is not None for record in found.records_):
        note(
            "the model was fitted on parts of files, such as the boxes of objects; this picture is taken whole. To cut "
            f"it the same way: {flag}"
        )


def say_where(reasons: Iterable[str], data: str | None) -> None:
    """Say what to write where training pictures are no longer where they were."""
    from carrot.classifier.records import NOT_FOUND

    gone = sum(reason == NOT_FOUND for reason in reasons)
    if gone:
        there = f" (in {data} they are not)" if data is not None else ""
        note(f"{counted(gone, 'training picture')} could not be found: has the data set moved{there}? --data DATA")


def say_if_known(found: "Carrot", model: Path, picture: Path, box: "Box | None") -> None:
    """Say that a picture is one that the model was fitted on: it then is a reason of its own."""
    from carrot.data.inputs import content_of

    content = content_of(cut(picture, box))
    known = next((record for record in found.records_ if record.sha256 == content), None)
    if known is not None:
        note(
            f"the model was fitted on this picture ({known.id}), which speaks for its own label. What it says without: "
            f"carrot what-if {quoted(model)} {quoted(picture)} --without {quoted(known.id)}"
        )


def need_data(data: str | None) -> None:
    """Refuse a data set that isn't there, or is not what its format says.

    Raises:
        DataError: It isn't.
    """
    if data is None or data.partition(":")[0] in _ELSEWHERE:
        return
    from carrot.data import open_dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # given when it is read
        open_dataset(data, for_testing=True)


def need_packages(kind: str) -> None:
    """Refuse an export whose packages aren't installed.

    Raises:
        UsageError: One isn't; the message says how to get it.
    """
    extra = {".parquet": "export", ".onnx": "onnx"}.get(kind)
    if extra is not None and (absent := missing(extra)):
        raise UsageError(f"{kind} needs {', '.join(absent)}: {how_to_install(extra)}.")


def need_words(settings: Mapping[str, Any]) -> None:
    """Refuse a word that is no lift, or no readout; what isn't given is passed over.

    Raises:
        UsageError: One is.
    """
    for name, known in (("lift", lambda word: read(LIFTS, word)), ("readout", read_readout)):
        given = settings.get(name, ())
        for word in (given,) if isinstance(given, str) else given:
            try:
                known(word)
            except ValueError as error:
                raise UsageError(str(error)) from None


def regions_from(text: str) -> str:
    """Return regions as settings have them: the word itself, or the boxes in a file.

    Args:
        text: "patches", "tiles:3,4", "boxes:...", or a JSON file: a list of [x0, y0, x1, y1] in shares of the picture's
            width and height.

    Raises:
        UsageError: It is none of these, or the file holds something else.
    """
    file = Path(text)
    if file.suffix.lower() == ".json":
        try:
            boxes = json.loads(file.read_bytes())
            text = "boxes:" + ";".join(",".join(repr(float(x)) for x in box) for box in boxes)
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(
                f"`--regions` {file}: can't be read as a list of [x0, y0, x1, y1] in shares of the picture's width and "
                f"height ({error})."
            ) from None
    try:
        read_regions(text)
    except ValueError as error:
        raise UsageError(str(error).replace("`regions`", "`--regions`", 1)) from None
    return text


def need_numbers(settings: Mapping[str, Any]) -> None:
    """Refuse numbers that are out of range; words and what isn't given are passed over.

    Raises:
        UsageError: One is.
    """
    for name, axis in NUMBERS.items():
        given = settings.get(name)
        for x in given if isinstance(given, tuple) else (given,):
            if isinstance(x, int | float) and not axis.holds(x):
                raise UsageError(f"`--{name.replace('_', '-')}` must be a finite number {axis.rule}; got {x}.")


def need_passes(passes: float | None) -> None:
    """Refuse what no picture can cost.

    Raises:
        UsageError: It is no finite number > 0.
    """
    if passes is not None and not 0 < passes < math.inf:
        raise UsageError(f"`--passes` must be a finite number > 0; got {passes}.")


def need_checkpoint(checkpoint: Path | None) -> None:
    """Refuse weights that aren't there.

    Raises:
        UsageError: There is no such file or folder.
    """
    if checkpoint is not None and not checkpoint.exists():
        raise UsageError(f"`--checkpoint` {checkpoint}: there is no such file.")


def _is_model(path: Path) -> bool:
    try:
        return bool(json.loads((path / CONFIG).read_bytes())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _holds_pictures(folder: Path) -> bool:
    """Whether the beginning of a folder, or of a folder in it, is pictures."""
    from carrot._images import image_extensions

    def some(place: Path) -> list[Path]:
        return [path for path, _ in zip(place.iterdir(), range(_SOME), strict=False)]

    first = some(folder)
    inside = [path for part in first[:5] if part.is_dir() for path in some(part)]
    return any(path.suffix.lower() in image_extensions() for path in (*first, *inside))
