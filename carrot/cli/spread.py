"""``carrot extract`` and ``carrot merge``: embeddings by several machines, and a model of what they left."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from carrot._display.words import are, counted
from carrot.cli import early
from carrot.cli.options import (
    SETTING,
    STRICT,
    BackboneOptions,
    EngineOptions,
    Json,
    SettingOptions,
    Strict,
    UsageError,
    Whole,
    note,
    quoted,
    report_set_aside,
    show,
    write_config,
)
from carrot.cli.train import ClassWeight, Overwrite, refuse_inside

SOME = 3  # that are named, of many


def extract(
    data: str,
    /,
    *,
    out: Annotated[str, Parameter(name=("--out", "-o"))],
    shard: str | None = None,
    rows: Literal["float64", "float32", "float16"] = "float64",
    shard_size: Whole | None = None,
    backbone: BackboneOptions = BackboneOptions(),  # noqa: B008
    setting: SettingOptions = SettingOptions(),  # noqa: B008
    engine: EngineOptions = EngineOptions(),  # noqa: B008
    strict: Strict = False,
    json: Json = False,
) -> int:
    """Compute the embeddings of the training pictures, in parts that several machines may do at once.

    Merge makes a model of them: that of fit, bit for bit, however many parts there were. What is there already is not
    computed again: a killed run goes on, and pictures that were changed since are computed anew.

    In a job array of SLURM, --array=1-8, each task does its part:

    ```
    carrot extract my_pictures --out my_shards
    carrot extract my_pictures --out my_shards --shard $SLURM_ARRAY_TASK_ID/8
    carrot merge my_shards --out my_model
    ```

    Args:
        data: Folder of class folders, or kind:PATH, as in select.
        out: Folder of the embeddings, or an address, s3://BUCKET/FOLDER say; one for all parts or one for each.
        shard: Which part to do, i/n with i from 1 to n: every n-th shard from the i-th on; default: all.
        rows: What embeddings are rounded to. Only float64 gives the model of fit.
        shard_size: Pictures of a file; default: what makes 64 files, a thousand at most, fewer where rows are wide or
            tiles many.
        backbone: The frozen vision transformer.
        setting: How pictures are embedded.
        engine: Who looks at the pictures.
        strict: End with status 3 if a picture had to be set aside.
        json: Print the result as JSON.
    """
    from carrot.data.addresses import is_address, public
    from carrot.data.opening import require_place
    from carrot.store.places import refuse_other_place

    part = _part(shard)
    settings: dict[str, Any] = {**asdict(setting), "regions": early.regions_from(setting.regions)}
    early.need_numbers(settings)
    early.need_words(settings)
    early.need_checkpoint(backbone.checkpoint)
    engine.require()
    if shard_size is not None and shard_size < 1:
        raise UsageError(f"`--shard-size` must be at least 1; got {shard_size}.")
    data = require_place(data)
    if not is_address(out):
        refuse_inside(Path(out), data)
    refuse_other_place(out)

    from carrot.model import Carrot

    named = {**asdict(backbone), "backbone": backbone.backbone or ("toy" if data == "toy" else None)}
    model = Carrot(**{name: value for name, value in named.items() if value is not None}, **settings)
    with engine.at_work():
        found = model.extract(data, out, part=part, rows=rows, shard_size=shard_size)
    report_set_aside(found.errors)
    (i, n), where = part, public(out)
    mine = f"part {i} of {n}: " if n > 1 else ""
    what = {"made": "computed", "found": "there already", "again": "computed again, for their pictures were changed"}
    states = [f"{len(found.of(how))} {words}" for how, words in what.items() if found.of(how)]
    gone = len(found.missing)
    rest = (
        f"{gone} of {found.shards} shards {are(gone)} not in {where}: other parts compute "
        f"{'it' if gone == 1 else 'them'}"
        if gone
        else f"{'the one shard is' if found.shards == 1 else f'all {found.shards:,} shards are'} there: carrot merge "
        f"{quoted(where)} --out MODEL"
    )
    show(
        {
            "folder": where,
            "part": {"i": i, "n": n},
            "shards": found.shards,
            **{how: found.of(how) for how in what},
            "missing": list(found.missing),
            "pictures": found.pictures,
            "set_aside": found.errors,
        },
        [
            f"{mine}{counted(len(found.own), 'shard')} of {found.shards}, {counted(found.pictures, 'picture')}"
            + f": {', '.join(states)}" * bool(states),
            rest,
        ],
        json,
    )
    return STRICT if strict and found.errors else 0


def merge(
    folders: list[str],
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    lam: Annotated[float | Literal["loo"], Parameter(group=SETTING)] = "loo",
    class_weight: ClassWeight = None,
    engine: EngineOptions = EngineOptions(),  # noqa: B008
    overwrite: Overwrite = False,
    strict: Strict = False,
    json: Json = False,
) -> int:
    """Fit the closed-form head on what extract left, in one folder or in several, in any order.

    The model is that of fit on the same pictures with the same settings, bit for bit. No picture is read, and no
    backbone runs: the data set need not be there. Each shard counts once, wherever it lies; parts of other pictures or
    settings are refused, and missing ones named.

    ```
    carrot merge my_shards --out my_model
    carrot merge node1/my_shards node2/my_shards --out my_model --class-weight balanced
    ```

    Args:
        folders: Those of carrot extract, or addresses.
        out: Folder of the model.
        lam: Ridge penalty, or loo: by exact leave-one-out.
        class_weight: balanced: every class counts alike, however many pictures it has.
        engine: Who goes over the embeddings, where there are many.
        overwrite: Replace a model that is there.
        strict: End with status 3 if a picture had to be set aside.
        json: Print the result as JSON.
    """
    from carrot.errors import ModelError
    from carrot.store.files import locked
    from carrot.store.layout import CONFIG, refuse_other_folder

    early.need_numbers({"lam": lam})
    engine.require()
    refuse_other_folder(out)
    if (out / CONFIG).exists() and not overwrite:
        raise ModelError(f"{out}: holds a model already. Give another --out, or --overwrite.")

    from carrot.classifier import files
    from carrot.classifier.merged import merge as merged
    from carrot.data.addresses import public
    from carrot.embedding.extracted import Extracts

    extracts = Extracts.of(folders)
    refuse_inside(out, extracts.facts["data"] or "")
    _say_twice(extracts.twice)
    with locked(out), engine.at_work():
        model = merged(extracts, lam, class_weight, out)
        files.save(out, model)
        write_config(out, "merge", {"folders": list(map(public, folders)), "lam": lam, "class_weight": class_weight})
    fitted, loo = model.fitted, model.fitted.leave_one_out()
    report_set_aside(fitted.set_aside)
    show(
        {
            "model": str(out),
            **model.facts(),
            **loo,
            "shards": len(extracts.place),
            "twice": {str(shard): list(where) for shard, where in extracts.twice.items()},
            "set_aside": dict(fitted.set_aside),
        },
        [
            f"{counted(len(extracts.place), 'shard')} of {counted(len(extracts.stores), 'folder')}",
            f"{counted(len(fitted.classes), 'class', 'classes')}, "
            f"{counted(len(fitted.records), 'training picture')}; {fitted.setting}, lam {fitted.head.lam:.3g}",
            f"exact leave-one-out accuracy {loo['loo_accuracy']:.4f}",
            f"model: {out} (state {model.sha256[:12]})",
        ],
        json,
    )
    return STRICT if strict and fitted.set_aside else 0


def _part(text: str | None) -> tuple[int, int]:
    """Return (i, n) of the part that is written.

    Raises:
        UsageError: It is none.
    """
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", "1/1" if text is None else text)
    i, n = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= i <= n:
        raise UsageError(
            f"`--shard` must be i/n with i from 1 to n, 3/8 say; got {text!r}. In a job array of SLURM with "
            "--array=1-8 it is $SLURM_ARRAY_TASK_ID/8."
        )
    return i, n


def _say_twice(twice: Mapping[int, tuple[str, ...]]) -> None:
    for shard, folders in list(twice.items())[:SOME]:
        note(f"shard {shard} lies in {' and '.join(folders)}, with the same content: it counts once")
    if len(twice) > SOME:
        note(f"so do {len(twice) - SOME} more")
