"""What the model would say of a picture, had something not been so: ``what-if``, ``flip``, what ``explain`` asks.

Nothing is changed.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from os.path import exists
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from carrot._choices import cell
from carrot.cli import early
from carrot.cli.options import Checkpoint, Device, Extra, Json, Several, UsageError, Whole, show

if TYPE_CHECKING:
    from carrot.classifier.hidden import HiddenRegions
    from carrot.explanation.record import Explanation
    from carrot.model import Carrot


def what_if(
    model: Path,
    picture: Path,
    /,
    *,
    without: Several = (),
    relabel: Several = (),
    replace: str | None = None,
    region: Several = (),
    box: str | None = None,
    verify: Extra = False,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Say what the model would have said of a picture otherwise: exactly as fitting again answers. Nothing is changed.

    Logits are exact. Probabilities are made with the temperature of now, which forget and relabel fit anew.

    ```
    carrot what-if my_model new.jpg --without robin/17.jpg robin/18.jpg
    carrot what-if my_model new.jpg --relabel robin/3.jpg=wren --verify
    carrot what-if my_model new.jpg --region 3,4 3,5
    ```

    Args:
        model: Folder of the model.
        picture: The picture.
        without: Training pictures that had not been there.
        relabel: Training pictures that had had another label: ID=CLASS.
        replace: One training picture in whose place another had stood: ID=FILE.
        region: Regions of the picture that had not been there: ROW,COLUMN from 0, or their number row by row. Of tiles
            of several grids, ROW,COLUMN@K of the K x K one ("1,2@3"), or their number.
        box: Only what lies in this box: X,Y,WIDTH,HEIGHT in pixels, as object:DATA cuts the pictures of a data set.
        verify: Fit again, really, and print the largest difference.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        json: Print the result as JSON.
    """
    if not (without or relabel or replace or region):
        raise UsageError("Say what had not been so: --without, --relabel, --replace or --region.")
    for flag, texts in (("relabel", relabel), ("replace", [replace] if replace else [])):
        for text in texts:
            if "=" not in text:
                raise UsageError(f"`--{flag}` must be {'ID=CLASS' if flag == 'relabel' else 'ID=FILE'}; got {text!r}.")
    places = [_place(text) for text in region]
    early.need_model(model, picture)
    early.need_picture(picture)
    where = early.box_from(box)
    early.need_checkpoint(checkpoint)

    from carrot.model import Carrot

    found = Carrot.load(model, checkpoint=checkpoint, device=device)
    early.say_if_whole(found, where)
    shown = early.cut(picture, where)
    labels = [_halves(found, text, found.fitted.classes.__contains__) for text in relabel]
    if twice := [name for name, count in Counter(name for name, _ in labels).items() if count > 1]:
        raise ValueError(f"`relabel` must name each training picture once; {twice[0]!r} comes twice.")
    files = [_halves(found, text, exists) for text in ([replace] if replace else [])]
    others = {name: Path(file) for name, file in files}
    answer = found.what_if(shown, without, dict(labels), others, _regions(found, places), verify)
    show({"model": str(model), **answer.to_dict()}, str(answer).splitlines(), json)
    return 0


def flip(
    model: Path,
    picture: Path,
    /,
    *,
    relabel: Extra = False,
    to: str | None = None,
    exact: Whole = 5,
    nodes: Whole = 5000,
    box: str | None = None,
    verify: Extra = False,
    out: Path | None = None,
    data: str | None = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Name the fewest training pictures that an answer stands on: without them, the model would say another class.

    All sets of up to --exact pictures are searched, so that no smaller one is overlooked. Where it takes more, a set is
    found step by step, and it is told how many are needed at least. Nothing is changed.

    ```
    carrot flip my_model new.jpg
    carrot flip my_model new.jpg --relabel --verify
    carrot flip my_model new.jpg --out flip.html
    ```

    Args:
        model: Folder of the model.
        picture: The picture.
        relabel: Give training pictures other labels, instead of leaving them out.
        to: With --relabel: the class that all of them get. [default: whichever does most]
        exact: Up to which size all sets are searched.
        nodes: How long: systems of equations that may be looked at. Where they run out, the size is told as between two
            numbers.
        box: Only what lies in this box: X,Y,WIDTH,HEIGHT in pixels, as object:DATA cuts the pictures of a data set.
        verify: Fit again, really, and print the largest difference.
        out: Write it as a page, with the pictures: FILE.html, or FILE.json.
        data: Where the training pictures are now, if the data set has moved.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        json: Print the result as JSON.
    """
    from carrot.store.outputs import check_output, check_replaced

    if to is not None and not relabel:
        raise UsageError("`--to` is a new label: it goes with --relabel.")
    if exact < 1 or nodes < 0:
        raise UsageError(f"`--exact` must be at least 1 and `--nodes` at least 0; got {exact} and {nodes}.")
    if out is not None and out.suffix.lower() not in (".html", ".json"):
        raise UsageError(f"`--out` must end in .html or .json; got {out}.")
    if out is not None:
        check_output(out)
        check_replaced(out)
    early.need_model(model, picture)
    early.need_picture(picture)
    where = early.box_from(box)
    early.need_checkpoint(checkpoint)
    early.need_data(data)

    from carrot.model import Carrot

    found = Carrot.load(model, checkpoint=checkpoint, device=device, data=data)
    early.say_if_whole(found, where)
    by: Literal["removal", "relabelling"] = "relabelling" if relabel else "removal"
    answer = found.smallest_flip(early.cut(picture, where), by, to, exact, nodes, verify)
    lines = str(answer).splitlines()
    if out is not None:
        lines.append(f"page: {answer.save(out)}")
    show({"model": str(model), **answer.to_dict()}, lines, json)
    return 0


class _Place(NamedTuple):
    """A region as it is written: a number, or a row and a column, of the grid of this many a side."""

    text: str
    numbers: tuple[int, ...]
    side: int | None


def _place(text: str) -> _Place:
    match = re.fullmatch(r" *([0-9]+) *(?:, *([0-9]+) *(?:@ *([1-9][0-9]*) *)?)?", text)
    if match is None:
        raise UsageError(f"`--region` must be ROW,COLUMN, ROW,COLUMN@K or a number, from 0; got {text!r}.")
    row, column, side = (None if part is None else int(part) for part in match.groups())
    return _Place(text, tuple(n for n in (row, column) if n is not None), side)


def _regions(found: "Carrot", places: Sequence[_Place]) -> list[int] | None:
    if not places:
        return None
    s = found.setting_
    if s.is_tiled:
        return [_tile(place, s.region_places(), s.region_names()) for place in places]
    gh, gw = s.grid_hw(found.encoder.backbone.grid_hw)
    regions, N = [], gh * gw + bool(s.global_share)
    for place in places:
        if place.side is not None:
            raise ValueError(f"`region` = {place.text}: @K is of tiles, and this model's regions are patches.")
        if len(place.numbers) == 1:
            regions.append(_number(place, N, ", or ROW,COLUMN"))
            continue
        row, column = place.numbers
        if not (row < gh and column < gw):
            raise ValueError(f"`region` must be in {gh} rows and {gw} columns, from 0; got {row},{column}.")
        regions.append(row * gw + column)
    return regions


def _tile(place: _Place, places: Sequence[str], names: Sequence[str]) -> int:
    """Return the number of a tile, by its number or by its place in a grid."""
    if len(place.numbers) == 1:
        return _number(place, len(names), "")
    row, column = place.numbers
    start = cell(row, column, f" of {place.side} x" if place.side else " of ")
    fits = [i for i, there in enumerate(places) if there.startswith(start)]
    if len(fits) == 1:
        return fits[0]
    if not fits:
        raise ValueError(f"`region` = {place.text}: there is no such tile; there are {names[0]} .. {names[-1]}.")
    which = " or ".join(names[i] for i in fits)
    raise ValueError(f"`region` = {place.text} may be {which}. Write its number, or ROW,COLUMN@K.")


def _number(place: _Place, N: int, other: str) -> int:
    (number,) = place.numbers
    if number >= N:
        raise ValueError(f"`region` must be in 0 .. {N - 1}{other}; got {number}.")
    return number


def _halves(found: "Carrot", text: str, is_right: Callable[[str], bool]) -> tuple[str, str]:
    """Split at the sign between a training picture's id and what ``is_right``; both may hold such signs."""
    cuts = [place for place, sign in enumerate(text) if sign == "="]
    cut = max(cuts, key=lambda cut: (text[:cut] in found.fitted.places, is_right(text[cut + 1 :])))
    return text[:cut], text[cut + 1 :]


def further(
    e: "Explanation", shapley: bool, interactions: bool, hidden: "HiddenRegions | None" = None, k: int = 5
) -> tuple[list[str], dict[str, Any]]:
    """Return what was asked of an explanation besides: the k largest numbers of each as lines, all JSON-ready."""
    from carrot.explanation.record import ORDERS

    lines, more = list[str](), dict[str, Any]()
    if shapley:
        values, errors = e.shapley()
        more["shapley"] = {"values": values.tolist(), "standard_errors": errors.tolist()}
        how = "exact" if not errors.any() else f"{ORDERS} sampled orders"
        total, bias = float(values.sum()), e.without(range(len(values)))
        whole = f"they sum to {total:+.6f}, the logit less the bias ({bias:+.6f})"
        lines.append(f"Shapley values of the regions ({how}); {whole}:")
        for region in values.abs().argsort(descending=True, stable=True).tolist()[:k]:
            value, error = float(values[region]), float(errors[region])
            lines.append(f"    {e.region_name(region):<44} {value:+.6f} ± {error:.6f}")
    if interactions:
        both = e.interactions()
        more["interactions"] = both.tolist()
        lines.append("pairs of regions that need each other (+) or stand in for each other (-):")
        upper = both.triu(1)
        for place in upper.abs().flatten().argsort(descending=True, stable=True).tolist()[:k]:
            i, j = divmod(place, len(both))
            lines.append(f"    {e.region_name(i)} and {e.region_name(j)}: {float(both[i, j]):+.6f}")
    if hidden is not None:
        more["hidden"] = hidden.to_dict()
        lines += str(hidden).splitlines()
    return lines, more
