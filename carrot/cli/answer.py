"""``carrot predict``: what a model says of pictures, of folders of them, of a table."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrot.cli import early
from carrot.cli.options import (
    STRICT,
    Checkpoint,
    Device,
    EngineOptions,
    Extra,
    Json,
    Strict,
    UsageError,
    Whole,
    note,
    printable,
    report_set_aside,
    show,
    write_config,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carrot.classifier.label_sets import LabelSets
    from carrot.classifier.top_training import Collected, Leaning
    from carrot.data.records import Box
    from carrot.model import Carrot
    from carrot.tiling import Tiling

WAYS = ("fall", "rise")


def predict(
    model: Path,
    pictures: list[Path],
    /,
    *,
    top: Whole = 1,
    sets: float | None = None,
    per_class: Extra = False,
    training: Whole | None = None,
    box: str | None = None,
    csv: Path | None = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: EngineOptions = EngineOptions(),  # noqa: B008
    strict: Strict = False,
    json: Json = False,
) -> int:
    """Say what is in pictures, with calibrated probabilities. Pictures that can't be read are set aside.

    Those of a folder come in natural order ("2" before "10"), folder by folder.

    ```
    carrot predict my_model new.jpg
    carrot predict my_model holiday/ --top 3 --csv predictions.csv
    carrot predict my_model holiday/ --sets 0.1
    carrot predict my_model holiday/ --training 3 --json
    ```

    Args:
        model: Folder of the model.
        pictures: Files, or folders, which are searched.
        top: How many classes to give for each picture.
        sets: Give each picture the set of labels that can't be excluded: at most this share of new pictures, 0.1 say,
            miss their true label in it. An empty set: unlike all training pictures; all labels: nothing can be
            excluded.
        per_class: With --sets: keep that promise class by class, not on the average of classes.
        training: Name so many training pictures without which each answer would fall most, and as many without which it
            would rise most: exactly as a fit without that one would have it.
        box: Only what lies in this box: X,Y,WIDTH,HEIGHT in pixels, as object:DATA cuts the pictures of a data set.
        csv: Write the table to this file too; with --training its columns falls_1, falls_1_by, .., rises_1, rises_1_by
            are those of the predicted class.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
        engine: Who looks at the pictures, and goes over the embeddings of training pictures, where there are many.
        strict: End with status 3 if a picture had to be set aside.
        json: Print the result as JSON.
    """
    from carrot.data.counts import Counts
    from carrot.store.outputs import check_output, check_replaced

    if top < 1:
        raise UsageError(f"`--top` must be at least 1; got {top}.")
    if per_class and sets is None:
        raise UsageError("`--per-class` says how `--sets` are made: give `--sets` too, 0.1 say.")
    if sets is not None and not 0.0 < sets < 1.0:
        raise UsageError(f"`--sets` must be between 0 and 1, the share of pictures that miss their label; got {sets}.")
    if training is not None and training < 1:
        raise UsageError(f"`--training` must be at least 1; got {training}.")
    if training is not None and sets is not None:
        raise UsageError("`--training` and `--sets` are two questions: ask one, then the other.")
    early.need_model(model, *pictures[:1])
    early.need_checkpoint(checkpoint)
    engine.require()
    if csv is not None:
        check_output(csv)
        check_replaced(csv)
    rows: list[dict[str, Any]] = []
    aside: list[dict[str, str]] = []
    where, files = early.box_from(box), _files(pictures, aside)
    if box is not None and len(files) != 1:
        raise UsageError(f"`--box` goes with one picture; got {len(files)}. A data set with boxes is object:DATA.")
    if len(files) == 1:
        early.need_picture(files[0])

    from carrot._progress import progress
    from carrot.classifier.classifier import BATCH
    from carrot.classifier.top_training import Collected
    from carrot.engine import HERE, in_order
    from carrot.model import Carrot

    carrot = Carrot.load(model, checkpoint=checkpoint, device=device)
    early.say_if_whole(carrot, where)
    tiling = carrot.classifier.encoder.tiling
    fitted_on = {record.sha256 for record in carrot.records_}
    known, promise = list[str](), list[str]()
    leaning = None if training is None else Collected(carrot.fitted, training)
    batches = [files[i : i + BATCH] for i in range(0, len(files), BATCH)]
    each = range(len(batches))
    with engine.at_work() as at:
        waits = at is not HERE  # a pool of workers is started for each question: one for all pictures, then
        read = Read(batches, where, tiling, not waits)
        what = "reading" if waits else "predicting"
        done = progress(at.map(read, each), what, len(batches), "pictures", BATCH, len(files))
        found = in_order(done, each)
        if waits:
            found = iter([[one for some in found for one in some]])
        for some in found:
            aside += [{"picture": str(one.file), "problem": one.problem} for one in some if one.problem]
            good = [one for one in some if not one.problem]
            images = [early.cut(one.file, where) if one.image is None else one.image for one in good]
            names = [printable(os.fsencode(one.file).decode("utf-8", "backslashreplace")) for one in good]
            known += [name for name, one in zip(names, good, strict=True) if one.sha256 in fitted_on]
            if images and sets is not None:
                labels = carrot.predict_set(images, sets, per_class)
                promise = [labels.promise]
                rows += _with_sets(labels, names, top)
            elif images and leaning is not None:
                rows += _leaning(carrot, names, images, top, leaning)
            elif images:
                rows += _answers(carrot, names, carrot.predict_proba(images), top)
        if leaning is not None:
            for row, answer in zip(rows, leaning.asked().answers, strict=True):
                row["training"] = answer
    if not rows:
        raise ValueError(aside[0]["problem"] if len(aside) == 1 else f"none of the {len(aside)} pictures can be read.")
    report_set_aside({item["picture"]: item["problem"] for item in aside})
    if csv is not None:
        _write_table(csv, rows)
        asked = {"top": top, "sets": sets, "per_class": per_class or None, "training": training, "box": box}
        write_config(csv.parent, "predict", {"model": model, "pictures": pictures, **asked}, csv)
    lines = [
        f"{row['picture']}   "
        + "   ".join(f"{c['class']} {c['probability']:.3f}" for c in row["classes"][:top])
        + (f"   set: {row['in_words']}" if "in_words" in row else "")
        + "".join(f"\n  {line}" for line in (row["training"].lines() if "training" in row else []))
        for row in rows
    ]
    counts = Counts(len(rows), set_aside=len(aside))
    if len(files) > 1:
        note(counts.line("predicted"))
    for line in promise:
        note(line)
    if known:
        which = "this picture" if len(files) == 1 else f"{len(known):,} of these {len(files):,} pictures"
        note(f"the model was fitted on {which}: there it says what it was told. What the others say: carrot audit")
    made = {"sets": {"alpha": sets, "per_class": per_class, "promise": promise[-1]}} if sets is not None else {}
    result = {
        "model": str(model),
        "predictions": [_plain(row) for row in rows],
        "fitted_on": known,
        "set_aside": aside,
        "counts": counts.to_dict(),
        **made,
    }
    show(result, lines, json)
    return STRICT if strict and aside else 0


@dataclass(frozen=True)
class Picture:
    """A file as it was read: with its picture, if that is kept, or with what is wrong with it."""

    file: Path
    sha256: str = ""
    image: Any = None
    problem: str = ""


@dataclass(frozen=True)
class Read:
    """The job that reads files, a batch at a time: which are pictures, and which."""

    batches: list[list[Path]]
    box: "Box | None"
    tiling: "Tiling | None"
    keeps: bool

    def __call__(self, place: int) -> list[Picture]:
        """Return what became of each file of a batch."""
        return [self._read(file) for file in self.batches[place]]

    def _read(self, file: Path) -> Picture:
        from carrot.data.inputs import as_picture, content_of
        from carrot.errors import UnreadableImageError

        try:
            image = as_picture(early.cut(file, self.box))
            if self.tiling is not None:
                self.tiling.boxes(image.size)  # of a picture that is large enough for them
            return Picture(file, content_of(early.cut(file, self.box)), image if self.keeps else None)
        except UnreadableImageError as error:
            return Picture(file, problem=str(error))
        except ValueError as error:
            return Picture(file, problem=f"{file}: {error}")


def _files(pictures: Iterable[Path], aside: list[dict[str, str]]) -> list[Path]:
    """Return the pictures that are named, and those in folders that are; ``aside`` notes what is passed over there."""
    from carrot.data.walking import pictures_in

    files: list[Path] = []
    for path in pictures:
        if not os.path.isdir(path):  # also of a name that is none
            files.append(path)
            continue
        skipped: dict[str, str] = {}
        files += pictures_in(path, skipped)
        aside += [
            {"picture": str(path / name), "problem": f"{path / name}: {reason}"} for name, reason in skipped.items()
        ]
    if not files:
        why = f" {len(aside)} are left out; the first: {aside[0]['problem']}." if aside else ""
        raise ValueError(f"no pictures: the folders hold none.{why} Give files, or folders that hold some.")
    return files


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a picture as JSON has it."""
    found = {name: value for name, value in row.items() if name != "in_words"}
    if "training" in found:
        found["training"] = {way: [asdict(one) for one in getattr(found["training"], way)] for way in WAYS}
    return found


def _leaning(
    carrot: "Carrot", names: list[str], images: list[Any], top: int, leaning: "Collected"
) -> list[dict[str, Any]]:
    """Return ``_answers``; embeddings are asked for their training pictures, so that the backbone runs once."""
    import torch

    from carrot.data.given import pictures_of
    from carrot.evaluation.calibration import probabilities

    fitted, logits, place = carrot.fitted, list[Any](), 0
    for g in carrot.classifier.embedded(pictures_of(images)):
        logits.append(fitted.head.predict(g))
        leaning.add(names[place : place + len(g)], g)
        place += len(g)
    return _answers(carrot, names, probabilities(torch.cat(logits), fitted.temperature).numpy(), top)


def _answers(carrot: "Carrot", names: list[str], p: "NDArray[Any]", top: int) -> list[dict[str, Any]]:
    rows = []
    for name, row in zip(names, p, strict=True):
        best = (-row).argsort(kind="stable")[:top]
        rows.append(
            {"picture": name, "classes": [{"class": carrot.classes_[c], "probability": float(row[c])} for c in best]}
        )
    return rows


def _with_sets(found: "LabelSets", names: list[str], top: int) -> list[dict[str, Any]]:
    """Return the most probable classes of each picture and those of its set, with their p-values."""
    rows = []
    for i, name in enumerate(names):
        probable, p = found.probabilities[i], found.p[i]
        order = probable.argsort(descending=True, stable=True).tolist()
        classes = [
            {"class": found.classes[c], "probability": float(probable[c]), "p_value": float(p[c]), "in_set": held}
            for rank, c in enumerate(order)
            if (held := bool(p[c] > found.alpha)) or rank < top
        ]
        rows.append({"picture": name, "classes": classes, "set": list(found.named(i)), "in_words": found.in_words(i)})
    return rows


def _write_table(file: Path, rows: list[dict[str, Any]]) -> None:
    from carrot.store.outputs import csv_text, write_output

    lines = [{"picture": row["picture"], "rank": rank, **c} for row in rows for rank, c in enumerate(row["classes"], 1)]
    more = ["p_value", "in_set"] if "p_value" in lines[0] else []
    if "training" in rows[0]:
        sides = [[_in_columns(row["training"], way) for row in rows] for way in WAYS]
        further = [max(side, key=len) for side in sides]  # fewer move an answer than were asked for, perhaps
        more += [name for columns in further for name in columns]
        empty = dict.fromkeys(more)
        firsts = iter({**fall, **rise} for fall, rise in zip(*sides, strict=True))
        lines = [{**empty, **line, **(next(firsts) if line["rank"] == 1 else {})} for line in lines]
    write_output(file, csv_text(("picture", "rank", "class", "probability", *more), lines).encode())


def _in_columns(answer: "Leaning", way: str) -> dict[str, object]:
    """Return the training pictures of one way, as columns."""
    each = list(enumerate(getattr(answer, way), 1))
    return {f"{way}s_{k}{part}": value for k, one in each for part, value in (("", one.id), ("_by", one.effect))}
