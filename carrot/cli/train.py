"""``carrot select`` and ``carrot fit``: from pictures to a model in a folder."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from carrot._display.words import counted
from carrot.cli import early
from carrot.cli.options import (
    SETTING,
    STRICT,
    BackboneOptions,
    EngineOptions,
    Extra,
    GridOptions,
    Json,
    SettingOptions,
    Strict,
    as_config,
    note,
    quoted,
    report_set_aside,
    show,
    write_config,
)
from carrot.embedding.setting import short_regions

if TYPE_CHECKING:
    from carrot.data import ImageDataset
    from carrot.model import Carrot

Out = Annotated[Path | None, Parameter(name=("--out", "-o"), help="Folder of the model. [default: runs/NAME]")]
ClassWeight = Annotated[
    Literal["balanced"] | None,
    Parameter(group=SETTING, help="balanced: every class counts alike, however many pictures it has."),
]
Overwrite = Annotated[bool, Parameter(negative="", help="Replace a model that was made otherwise.")]


def select(
    data: str,
    /,
    *,
    out: Out = None,
    backbone: BackboneOptions = BackboneOptions(),  # noqa: B008
    grid: GridOptions = GridOptions(),  # noqa: B008
    passes: Annotated[float | None, Parameter(group=SETTING)] = None,
    again: Extra = False,
    class_weight: ClassWeight = None,
    overwrite: Overwrite = False,
    engine: EngineOptions = EngineOptions(),  # noqa: B008
    strict: Strict = False,
    verbose: Extra = False,
    json: Json = False,
) -> int:
    """Choose how pictures are embedded by exact leave-one-out on the training pictures, and fit.

    Tiles, whose map shows what the model saw, are taken unless they lose more than a standard error. What that gave up
    or gained is said, whether fewer passes would do, and the best of each kind of regions with what it costs. Tokens
    are computed once and kept in the model's folder; a killed run goes on.

    ```
    carrot select my_pictures --out my_model
    carrot select cub:CUB_200_2011 --backbone vit_base_patch14_reg4_dinov2.lvd142m --out birds
    carrot select my_pictures --out my_model --lift identity quadratic --t 0 1 4 --global-share 0 0.3
    carrot select my_pictures --out my_model --regions tiles:2 tiles:3 tiles:3,4,5 --passes 30
    ```

    Args:
        data: Folder of class folders, or kind:PATH, such as cub:DIR or csv:FILE; carrot info lists the kinds.
        out: Folder of the model.
        backbone: The frozen vision transformer.
        grid: To choose from, by exact leave-one-out.
        passes: What the regions of a picture may cost, in passes of the backbone over a whole picture; default: any.
        again: Also choose again without each training picture, exactly: how many would have another setting, lam or
            prediction, and leave-one-out accuracy that no choice flatters. Takes longer.
        class_weight: balanced: every class counts alike, however many pictures it has.
        overwrite: Replace a model that was made otherwise.
        engine: Who looks at the pictures.
        strict: End with status 3 if a picture had to be set aside.
        verbose: Print every setting that was tried.
        json: Print the result as JSON.
    """
    axes = {name: values for name, values in asdict(grid).items() if values}
    settings = {} if class_weight is None else {"class_weight": class_weight}
    early.need_passes(passes)
    return _train(
        "select", data, out, backbone, settings, axes, overwrite, engine, strict, json, passes, verbose, again
    )


def fit(
    data: str,
    /,
    *,
    out: Out = None,
    backbone: BackboneOptions = BackboneOptions(),  # noqa: B008
    setting: SettingOptions = SettingOptions(),  # noqa: B008
    lam: Annotated[float | Literal["loo"], Parameter(group=SETTING)] = "loo",
    class_weight: ClassWeight = None,
    overwrite: Overwrite = False,
    engine: EngineOptions = EngineOptions(),  # noqa: B008
    strict: Strict = False,
    json: Json = False,
) -> int:
    """Fit the closed-form head with settings of your own. To have them chosen, use select.

    ```
    carrot fit my_pictures --out my_model
    carrot fit my_pictures --out guide --lift identity --tau 0 --t 2
    carrot fit my_pictures --out tiled --regions tiles:3,4
    ```

    Args:
        data: Folder of class folders, or kind:PATH, as in select.
        out: Folder of the model.
        backbone: The frozen vision transformer.
        setting: How pictures are embedded.
        lam: Ridge penalty, or loo: by exact leave-one-out.
        class_weight: balanced: every class counts alike, however many pictures it has.
        overwrite: Replace a model that was made otherwise.
        engine: Who looks at the pictures.
        strict: End with status 3 if a picture had to be set aside.
        json: Print the result as JSON.
    """
    settings: dict[str, Any] = {**asdict(setting), "lam": lam}
    if class_weight is not None:
        settings["class_weight"] = class_weight
    return _train("fit", data, out, backbone, settings, None, overwrite, engine, strict, json)


def _train(
    command: str,
    data: str,
    out: Path | None,
    options: BackboneOptions,
    settings: Mapping[str, Any],
    grid: Mapping[str, tuple[Any, ...]] | None,
    overwrite: bool,
    engine: EngineOptions,
    strict: bool,
    as_json: bool,
    passes: float | None = None,
    verbose: bool = False,
    again: bool = False,
) -> int:
    """Fit with settings, or, with a grid, choose among them; ``command`` is what that is called."""
    from carrot.data import split_indices
    from carrot.data.opening import require_place
    from carrot.store.files import locked
    from carrot.store.layout import refuse_other_folder

    if grid is not None and "regions" in grid:
        grid = {**grid, "regions": tuple(early.regions_from(text) for text in grid["regions"])}
    if "regions" in settings:
        settings = {**settings, "regions": early.regions_from(settings["regions"])}
    chosen = {**(grid or {}), **settings, **({} if passes is None else {"passes": passes})}
    early.need_numbers(chosen)
    early.need_words(chosen)
    early.need_checkpoint(options.checkpoint)
    engine.require()
    folder = out or Path("runs") / _name(data)
    data = require_place(data)
    arguments = {"data": data, **asdict(options), **chosen, **({"again": True} if again else {})}
    refuse_inside(folder, data)
    refuse_other_folder(folder)

    from carrot.classifier.changes import edited_ids
    from carrot.classifier.fittable import MAX_EMBEDDINGS
    from carrot.classifier.selecting import Plan
    from carrot.classifier.selection_table import table_lines
    from carrot.data.counts import FORGOTTEN, HELD_OUT, Counts
    from carrot.model import Carrot

    named = options.backbone or ("toy" if data == "toy" else None)
    same: dict[str, Any] = {n: value for n, value in asdict(options).items() if n != "backbone" and value is not None}
    if named is not None:
        same["backbone"] = named
    model = Carrot(**same, **settings)
    if not _is_there(folder, command, arguments, overwrite):
        model.require(grid, passes)  # of a large data set even the list takes long
    dataset, beyond = _opened(data), tuple[tuple[str, float], ...]()
    with locked(folder):
        if _is_there(folder, command, arguments, overwrite):
            model = Carrot.load(folder, checkpoint=options.checkpoint, device=options.device)
            _refuse_changed(folder, data, dataset, model)
            edited = edited_ids(folder)
            since = f", and {len(edited)} of them forgotten or relabelled since" if edited else ""
            note(
                f"{folder}: fitted with these settings on these pictures already{since}. --overwrite fits again, on "
                "all as they are."
            )
        else:
            note(_split_line(dataset, data))
            with engine.at_work():
                if grid is None:
                    model.fit(data, tokens=folder / "tokens")
                else:
                    model.select(data, grid=grid, tokens=folder / "tokens", passes=passes, again=again, show=False)
            if grid is not None:
                beyond = Plan.of(grid, model.encoder, len(model.records_), MAX_EMBEDDINGS, passes).beyond
            model.save(folder)
            write_config(folder, command, arguments)
    report_set_aside(model.set_aside_)
    held_out = len(split_indices(dataset, "test"))
    known = {record.id for record in model.records_} | model.set_aside_.keys()
    forgotten = sum(dataset.records[i].id not in known for i in split_indices(dataset, "train"))
    counts = Counts(len(model.records_), {HELD_OUT: held_out, FORGOTTEN: forgotten}, len(model.set_aside_))
    loo = model.fitted.leave_one_out()
    tried, n = model.selection_, len(model.records_)
    are = "is" if held_out == 1 else "are"
    measuring = f"the {held_out} held out {are} for measuring: carrot evaluate {quoted(folder)}"
    limit = math.inf if passes is None else passes
    table = list(table_lines(tried, model.setting_, n, verbose, limit, beyond)) if tried else []
    show(
        {
            "model": str(folder),
            "sha256": model.sha256,
            **model.facts(),
            **loo,
            "held_out": held_out,
            "set_aside": dict(model.set_aside_),
            "counts": counts.to_dict(),
            "tried": list(model.selection_),
            **({} if model.selected_again_ is None else {"chosen_again": model.selected_again_.to_dict()}),
        },
        [
            *table,
            f"{counted(len(model.classes_), 'class', 'classes')}, {counted(n, 'training picture')}; "
            f"{model.setting_}, lam {model.head_.lam:.3g}",
            counts.line("fitted on", data),
            *([measuring] if held_out else []),
            f"exact leave-one-out accuracy {loo['loo_accuracy']:.4f} ({_seen(model)})",
            *([] if model.selected_again_ is None else str(model.selected_again_).splitlines()),
            f"model: {folder} (state {model.sha256[:12]})",
        ],
        as_json,
    )
    return STRICT if strict and model.set_aside_ else 0


def _opened(data: str) -> "ImageDataset":
    """Open the data set, to look at it before the dear work; its warnings are given when it is fitted."""
    from carrot.data import open_dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_dataset(data)


def _split_line(dataset: "ImageDataset", data: str) -> str:
    """Say at once what is fitted on and what is held out, and who decided that."""
    from carrot.data import split_indices, split_is_own

    train, test = (len(split_indices(dataset, side)) for side in ("train", "test"))
    if not test:
        return f"{data}: {counted(train, 'picture')} to fit on; none are held out for testing"
    who = "its own split" if split_is_own(dataset) else "every fifth of a class, for it has no split of its own"
    are = "is" if test == 1 else "are"
    return f"{data}: {counted(train, 'picture')} to fit on; {test} {are} held out for testing ({who})"


def _refuse_changed(folder: Path, data: str, dataset: "ImageDataset", model: "Carrot") -> None:
    """Refuse to call a model the same when its pictures are not."""
    from carrot.classifier.changes import Changes, edited_ids
    from carrot.errors import ModelError

    changes = Changes.of(model.fitted, dataset, edited_ids(folder))
    if changes:
        raise ModelError(
            f"{folder}: the training pictures of {data} are not those that it was fitted on: {changes}. --overwrite "
            "fits again on what is there now; another --out keeps this model."
        )


def refuse_inside(folder: Path, data: str) -> None:
    """Refuse to write a model among the pictures: its folders would be taken for classes."""
    from carrot.errors import ModelError

    root = Path(data.removeprefix("folder:"))
    inside = root.is_dir() and folder.resolve().is_relative_to(root)
    if inside and not any(part.startswith(".") for part in folder.resolve().relative_to(root).parts):
        raise ModelError(
            f"{folder}: lies in the data set {root}, where it would be taken for a class. Give another `--out`."
        )


def _seen(model: "Carrot") -> str:
    """Return what of a picture the backbone saw."""
    s = model.setting_
    return (
        f"regions {short_regions(s.regions)}, cut from the whole picture"
        if s.is_tiled
        else (f"crop {model.encoder.spec.crop!r}")
    )


def _name(data: str) -> str:
    kind, colon, path = data.partition(":")
    return (
        (Path(path).resolve().name or kind)
        if colon and path
        else (data if data == "toy" else Path(data).resolve().name)
    )


def _is_there(folder: Path, command: str, arguments: dict[str, object], overwrite: bool) -> bool:
    """Return whether the folder holds a model that the same command made.

    One that another made is refused, but with ``overwrite``.
    """
    import yaml

    from carrot.errors import ModelError
    from carrot.store.layout import CONFIG

    if overwrite or not (folder / CONFIG).exists():
        return False
    try:
        found = yaml.safe_load((folder / f"{command}.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        found = None
    wanted = as_config(command, arguments)
    if found == wanted:
        return True
    other = next((name for name in ("select", "fit") if name != command and (folder / f"{name}.yaml").exists()), None)
    changes = f"made by carrot {other}" if other and found is None else "made otherwise"
    if isinstance(found, dict) and all(isinstance(found.get(group), dict) for group in wanted):
        there, here = ({**settings["given"], **settings[command]} for settings in (found, wanted))
        names = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
        changes = ", ".join(
            f"{name} {there.get(name, 'absent')} there, {here.get(name, 'absent')} here" for name in names
        )
    raise ModelError(f"{folder}: holds a model already ({changes}). Give another --out, or --overwrite.")
