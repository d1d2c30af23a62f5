"""Data sets that torchvision or Hugging Face's ``datasets`` know, as CARROT's records.

What an adapter opens, the other library reads: some of torchvision's own readers unpickle files, after they compared
their checksums. ``Cifar10`` and ``Cifar100`` of this package don't.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from carrot.data import splits
from carrot.data.adapter import Adapter, Part
from carrot.data.records import Split
from carrot.data.reporting import NO_LABEL, UNLABELLED, untrained, warn_of_skipped, warn_of_twins
from carrot.data.tables import natural
from carrot.errors import DataError

_UNREADABLE = "it can't be read, and its label only with it"


class Torchvision(Adapter):
    """A classification data set of ``torchvision.datasets`` that lies on disk already.

    Args:
        dataset: The name of its class, such as ``"SVHN"``.
        root: What the class takes as ``root``. Nothing is downloaded.

    Attributes:
        name: ``dataset`` in lower case.
        classes: Its ``classes`` or ``categories``; without these, the numbers that occur as labels of training
            pictures.
        records: Training pictures (``train=True``, ``split="trainval"`` or ``"train"``), then test pictures
            (``train=False``, ``split="test"`` or ``"val"``). A class with neither argument is split here: every fifth
            picture of each class is for testing; so are pictures of the training side where the test side has no
            labels. ``path`` is None.
        skipped: What was set aside: pictures without a label, or with one that no class has; the reason by ``id``.

    Raises:
        DataError: torchvision knows no such data set, doesn't find it, or needs more arguments; labels aren't whole
            numbers; a class has no training picture.
    """

    def __init__(self, dataset: str, root: Path | str) -> None:
        from torchvision import datasets

        spec = f"torchvision:{dataset}:{root}"
        kind = getattr(datasets, dataset, None) if dataset in datasets.__all__ else None
        if not inspect.isclass(kind):
            raise DataError(f"{spec}: torchvision has no data set {dataset!r}; it has {', '.join(datasets.__all__)}.")
        parameters = inspect.signature(kind).parameters
        if "train" in parameters:
            opened = [("train", _open(kind, spec, root, train=True)), ("test", _open(kind, spec, root, train=False))]
        elif "split" in parameters:
            train = _first(kind, spec, root, splits.TRAINING)
            beside = ("test",) if train[0] == "trainval" else splits.TESTING
            opened = [train, _first(kind, spec, root, beside)]
        else:
            opened = [("all", _open(kind, spec, root))]
        targets = [targets_of(data) for _, data in opened]
        if len(targets[0]) and set(targets[0]) == {NO_LABEL}:
            raise DataError(f"{spec}: no picture has a class number. Open a classification data set.")
        unused: dict[str, str] = {}
        if len(opened) == 2 and set(targets[1]) <= {NO_LABEL}:
            unused[opened.pop()[0]] = UNLABELLED
            targets.pop()
        sides: tuple[Split | None, ...] = ("train", "test") if len(opened) == 2 else (None,)
        names = class_names(opened[0][1], targets[0])
        parts = [
            Part(name, data, label_places(labels, names), side)
            for (name, data), labels, side in zip(opened, targets, sides, strict=True)
        ]
        super().__init__(spec, dataset.lower(), list(names.values()), parts, 0)
        self.skipped |= unused
        warn_of_skipped(spec, self.skipped)
        warn_of_twins(self.classes, spec)


class HuggingFace(Adapter):
    """A data set of pictures with labels that the package ``datasets`` opens; that package is an extra of its own.

    Args:
        data: A folder (saved by ``save_to_disk``, or as ``load_dataset`` takes it), or a name on the hub, fetched if
            need be; or what the package opened: one split, all for training, or several by their names.
        for_testing: Whether one split that the package opened is all for testing instead.

    Attributes:
        name: The last part of the name.
        classes: The names of the first ``ClassLabel`` column; of a plain column ``label`` or ``class``, its values
            among the training pictures, sorted naturally.
        records: Training pictures, then test pictures, of the splits that ``carrot.data.splits`` knows by their names:
            of several for testing the best known that has labels. If there are none, every fifth training picture of
            each class is for testing. ``path`` is None.
        skipped: What was set aside, the reason by ``id``: pictures without a label, test pictures of a class that has
            no training picture; and splits that are not used, by their names.

    Raises:
        DataError: The package is absent, the data set can't be opened, it has no pictures, labels or training split; a
            class has no training picture.
    """

    def __init__(self, data: Any, for_testing: bool = False) -> None:
        is_named = isinstance(data, str)
        name = data if is_named else type(data).__name__
        spec = f"hf:{name}" if is_named else f"`data`, a {name}"
        found = _load(data, spec) if is_named else _splits(data)
        _refuse_streams(found, spec)
        train, tests, others = splits.sides(found, spec)
        if train is None:
            raise DataError(
                f"{spec}: has no split {' or '.join(splits.TRAINING)}; got {list(found)}. Known are {splits.known()}."
            )
        features: Mapping[str, Any] = found[train].features
        image = next((column for column, kind in features.items() if type(kind).__name__ == "Image"), None)
        label = next((column for column, kind in features.items() if type(kind).__name__ == "ClassLabel"), None)
        label = label or next((column for column in ("label", "class") if column in features), None)
        if image is None or label is None:
            missing = "picture" if image is None else "label"
            raise DataError(
                f"{spec}: has no {missing} column; got {dict(features)}. Open a data set of labelled pictures."
            )
        names = getattr(features[label], "names", None)
        values = [_label(value, names is not None, spec) for value in found[train][label]]
        classes = tuple(names or sorted({value for value in values if isinstance(value, str)}, key=natural))
        parts = [Part(train, found[train], _numbers(values, classes), "train")]
        unused = dict.fromkeys(others, "a split that is not used")
        for side in tests:
            labels = found[side][label] if label in found[side].features else ()
            values = [_label(value, names is not None, spec) for value in labels]
            if len(parts) > 1:
                unused[side] = f"a split beside a {parts[1].name} split"
            elif all(value is None for value in values):
                unused[side] = UNLABELLED
            else:
                parts.append(Part(side, found[side], _numbers(values, classes), "test"))
        if len(parts) == 1:
            parts = [parts[0]._replace(split=None if is_named else "test" if for_testing else "train")]
        super().__init__(spec, Path(name).name, classes, parts, image)
        self.skipped |= unused
        warn_of_skipped(spec, self.skipped)
        warn_of_twins(self.classes, spec)


def _open(kind: Any, spec: str, root: Path | str, **given: object) -> Any:
    parameters = inspect.signature(kind).parameters
    offered = {"root": str(root), "download": False, **given}
    arguments = {name: value for name, value in offered.items() if name in parameters}
    required = [p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if missing := [name for name in required if name not in arguments]:
        raise DataError(
            f"{spec}: torchvision's class also needs {', '.join(missing)}. It can't be opened by name alone."
        )
    try:
        return kind(**arguments)
    except (RuntimeError, OSError, ImportError, ValueError) as error:
        advice = "Nothing is downloaded: put the files there as torchvision's documentation says"
        raise DataError(f"{spec}: torchvision can't open it: {str(error).rstrip('.')}. {advice}.") from error


def _first(kind: Any, spec: str, root: Path | str, splits_of: Sequence[str]) -> tuple[str, Any]:
    """Return the first split, with its name, that the class accepts, of several kinds."""
    names = [name for one in splits_of for name in splits.NAMES[one]]
    refused: dict[str, DataError] = {}
    for name in names:
        try:
            return name, _open(kind, spec, root, split=name)
        except DataError as error:
            if not isinstance(error.__cause__, ValueError):  # which is how torchvision refuses the name of a split
                raise
            refused[name] = error
    raise refused[splits.NAMES[splits_of[-1]][0]]


def targets_of(data: Any) -> list[int | str]:
    """Return all labels, or why there is none.

    From the list that most classes keep, if its ends agree with their pictures. Without such a list from the pictures,
    one by one.
    """
    n = len(data)
    labels: list[int | str | None]
    for name in ("targets", "labels", "_labels", "y"):
        values = getattr(data, name, None)
        if values is None or len(values) != n or not n:
            continue
        readable = (
            next((i for i in order if _item(data, i) != _UNREADABLE), 0) for order in (range(n), range(n)[::-1])
        )
        if all(_whole(values[i]) is not None and _whole(values[i]) == _item(data, i) for i in readable):
            labels = [_whole(value) for value in values]
            break
    else:
        labels = [_item(data, i) for i in range(n)]
    return [NO_LABEL if label is None or label == -1 else label for label in labels]  # -1 is how torchvision says so


def _item(data: Any, index: int) -> int | str | None:
    """Return the label that comes with a picture."""
    try:
        return _whole(data[index][1])
    except Exception:  # a damaged picture; ``image`` says what is wrong with it
        return _UNREADABLE


def _whole(value: Any) -> int | None:
    try:
        return int(value) if value == int(value) else None
    except (TypeError, ValueError, RuntimeError):
        return None


def class_names(data: Any, labels: Sequence[int | str]) -> dict[int, str]:
    """Return the classes' names by label: the data set's own, or without any the labels that occur, as numbers."""
    names = getattr(data, "classes", None) or getattr(data, "categories", None)
    if not isinstance(names, Sequence):
        return {label: str(label) for label in sorted({label for label in labels if isinstance(label, int)})}
    return {label: name if isinstance(name, str) else ", ".join(map(str, name)) for label, name in enumerate(names)}


def label_places(labels: Sequence[int | str], names: Mapping[int, str]) -> list[int | str]:
    """Return the class of each label, its place among the names, or why there is none."""
    place: dict[int | str, int] = {label: place for place, label in enumerate(names)}
    return [label if isinstance(label, str) else place.get(label, _no_class(label, len(names))) for label in labels]


def _no_class(label: int, n_classes: int) -> str:
    return f"its label {label} is none of the {n_classes} classes"


def _load(name: str, spec: str) -> dict[str, Any]:
    """Return the other library's data sets by the names of their splits."""
    try:
        datasets = import_module("datasets")
    except ImportError as error:
        raise DataError(f"{spec}: needs the package 'datasets', which is absent: pip install datasets.") from error
    saved = any((Path(name) / sign).is_file() for sign in ("dataset_dict.json", "state.json"))
    try:
        found = datasets.load_from_disk(name) if saved else datasets.load_dataset(name)
    except Exception as error:  # a name that isn't there, no network, a wrong folder: a dozen classes of errors
        reason = str(error).rstrip(".") or type(error).__name__
        raise DataError(f"{spec}: can't be opened: {reason}. Give a folder, or a name that the hub has.") from error
    return _splits(found)


def _refuse_streams(found: Mapping[str, Any], spec: str) -> None:
    if any(type(part).__name__ == "IterableDataset" for part in found.values()):
        raise DataError(
            f"{spec}: is streamed, and pictures of a stream can't be found again. Load it without streaming=True, or "
            "read its shards where they are: parquet:hf://datasets/OWNER/NAME/**/*.parquet."
        )


def _splits(found: Any) -> dict[str, Any]:
    return dict(found) if isinstance(found, Mapping) else {"train": found}


def _label(value: Any, is_number: bool, spec: str) -> int | str | None:
    """Return a label: the index of a ``ClassLabel``, of another column the name; None: there is none."""
    if value is None or value != value or (is_number and value == -1):  # NaN; -1 is how the hub says so
        return None
    if is_number:
        return int(value)
    if isinstance(value, list | tuple | dict):
        raise DataError(
            f"{spec}: a label must be a name or a number; got {value!r}. Open a data set of one label a picture."
        )
    return str(value) if str(value).strip() else None


def _numbers(values: Iterable[int | str | None], classes: tuple[str, ...]) -> list[int | str]:
    """Return the class of each label, or why there is none."""
    place = {name: place for place, name in enumerate(classes)}
    labels: list[int | str] = []
    for value in values:
        if value is None:
            labels.append(NO_LABEL)
        elif isinstance(value, str):
            labels.append(place[value] if value in place else untrained(value, classes))
        else:
            labels.append(value if 0 <= value < len(classes) else _no_class(value, len(classes)))
    return labels
