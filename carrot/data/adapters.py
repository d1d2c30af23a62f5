"""Data sets that torchvision or Hugging Face's ``datasets`` know, as CARROT's records.

What an adapter opens, the other library reads: some of torchvision's own readers unpickle files, after they compared their
checksums. ``Cifar10`` and ``Cifar100`` of this package don't.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from carrot.data.images import upright_rgb
from carrot.data.records import Record, Split
from carrot.data.tables import natural
from carrot.errors import DataError

_TRAIN, _TEST, _EVERY = ("trainval", "train"), ("test", "val", "valid", "validation"), 5


class _Part(NamedTuple):
    """One of the other library's data sets; ``split`` None: every fifth picture of each class is for testing."""

    name: str
    data: Any
    labels: list[int]
    split: Split | None


class _Adapter:
    """What the adapters have in common; ``key`` is what an item's picture is found by."""

    def __init__(self, spec: str, name: str, classes: Sequence[str], parts: Sequence[_Part], key: int | str) -> None:
        self.name, self.classes, self._spec, self._key = name, tuple(classes), spec, key
        self._data = [part.data for part in parts]
        self.split_is_own = all(part.split is not None for part in parts)
        self._places: list[tuple[int, int]] = []
        records = []
        for place, part in enumerate(parts):
            seen = [0] * len(self.classes)
            for number, label in enumerate(part.labels):
                if not 0 <= label < len(self.classes):
                    raise DataError(
                        f"{spec}: picture {number} of {part.name} has the label {label}, of {len(seen)} classes."
                    )
                seen[label] += 1
                split: Split = part.split or ("train" if seen[label] % _EVERY else "test")
                records.append(Record(f"{part.name}/{number:07d}", label, split))
                self._places.append((place, number))
        self.records: Sequence[Record] = tuple(records)
        trained = {record.label for record in records if record.split == "train"}
        untrained = [name for label, name in enumerate(self.classes) if label not in trained]
        if untrained or not trained:
            raise DataError(f"{spec}: has no training picture of {untrained[0] if untrained else 'any class'}.")

    def image(self, index: int) -> Image.Image:
        """Return picture ``index`` as upright RGB.

        Raises:
            UnreadableImageError: The picture can't be decoded.
            DataError: The other library gives no PIL picture.
        """
        place, number = self._places[index]
        where = f"{self._spec}, {self.records[index].id}"
        picture = self._data[place][number][self._key]
        if not isinstance(picture, Image.Image):
            raise DataError(
                f"{where}: must be a PIL picture; got {type(picture).__name__}. Open a data set of pictures."
            )
        return upright_rgb(picture, where)


class Torchvision(_Adapter):
    """A classification data set of ``torchvision.datasets`` that lies on disk already.

    Args:
        dataset: The name of its class, such as ``"SVHN"``.
        root: What the class takes as ``root``. Nothing is downloaded.

    Attributes:
        name: ``dataset`` in lower case.
        classes: Its ``classes`` or ``categories``; without these, the numbers of the labels.
        records: Training pictures (``train=True``, ``split="trainval"`` or ``"train"``), then test pictures (``train=False``,
            ``split="test"`` or ``"val"``). A class with neither argument is split here: every fifth picture of each class is
            for testing. ``path`` is None.

    Raises:
        DataError: torchvision knows no such data set, doesn't find it, or needs more arguments; labels aren't whole numbers.
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
            opened = [_first(kind, spec, root, _TRAIN), _first(kind, spec, root, _TEST)]
        else:
            opened = [("all", _open(kind, spec, root))]
        splits: tuple[Split | None, ...] = ("train", "test") if len(opened) == 2 else (None,)
        parts = [
            _Part(name, data, _targets(data, spec), split) for (name, data), split in zip(opened, splits, strict=True)
        ]
        n_labels = 1 + max((max(part.labels, default=-1) for part in parts), default=-1)
        super().__init__(spec, dataset.lower(), _class_names(parts[0].data, n_labels), parts, 0)


class HuggingFace(_Adapter):
    """A data set of pictures with labels that the package ``datasets`` opens; that package is an extra of its own.

    Args:
        name: A folder (saved by ``save_to_disk``, or as ``load_dataset`` takes it), or a name on the hub, fetched if need be.

    Attributes:
        name: The last part of ``name``.
        classes: The names of the first ``ClassLabel`` column; of a plain column ``label`` or ``class``, its values, sorted naturally.
        records: Training pictures (``trainval`` or ``train``), then test pictures (``test``, or without labels there ``val``, ``valid``
            or ``validation``); if there are none, every fifth training picture of each class is for testing. ``path`` is None.

    Raises:
        DataError: The package is absent, the data set can't be opened, it has no pictures, labels or training split.
    """

    def __init__(self, name: str) -> None:
        spec = f"hf:{name}"
        splits = _load(name, spec)
        train = next((side for side in _TRAIN if side in splits), None)
        if train is None:
            raise DataError(f"{spec}: has no split {' or '.join(_TRAIN)}; got {list(splits)}.")
        features: Mapping[str, Any] = splits[train].features
        image = next((column for column, kind in features.items() if type(kind).__name__ == "Image"), None)
        label = next((column for column, kind in features.items() if type(kind).__name__ == "ClassLabel"), None)
        label = label or next((column for column in ("label", "class") if column in features), None)
        if image is None or label is None:
            missing = "picture" if image is None else "label"
            raise DataError(
                f"{spec}: has no {missing} column; got {dict(features)}. Open a data set of labelled pictures."
            )
        names = getattr(features[label], "names", None)
        classes = names or sorted(map(str, set(splits[train][label])), key=natural)
        parts = [_Part(train, splits[train], _numbers(splits[train][label], names, classes), "train")]
        for side in _TEST:
            if side in splits and label in splits[side].features:
                numbers = _numbers(splits[side][label], names, classes)
                if numbers and min(numbers) >= 0:
                    parts.append(_Part(side, splits[side], numbers, "test"))
                    break
        if len(parts) == 1:
            parts = [parts[0]._replace(split=None)]
        super().__init__(spec, Path(name).name, classes, parts, image)


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


def _first(kind: Any, spec: str, root: Path | str, names: Sequence[str]) -> tuple[str, Any]:
    """Return the first split, with its name, that the class accepts."""
    for name in names[:-1]:
        try:
            return name, _open(kind, spec, root, split=name)
        except DataError as error:
            if not isinstance(error.__cause__, ValueError):  # which is how torchvision refuses the name of a split
                raise
    return names[-1], _open(kind, spec, root, split=names[-1])


def _targets(data: Any, spec: str) -> list[int]:
    """Return all labels: from the list that most classes keep, if its ends agree with their pictures; else one by one."""
    for name in ("targets", "labels", "_labels", "y"):
        values = getattr(data, name, None)
        if values is None or len(values) != len(data) or not len(data):
            continue
        if all(_whole(values[i]) is not None and _whole(values[i]) == _whole(data[i][1]) for i in (0, len(data) - 1)):
            return [int(value) for value in values]
    labels = [_whole(data[i][1]) for i in range(len(data))]
    if None in labels:
        raise DataError(f"{spec}: picture {labels.index(None)} has no class number. Open a classification data set.")
    return [label for label in labels if label is not None]


def _whole(value: Any) -> int | None:
    try:
        return int(value) if value == int(value) else None
    except (TypeError, ValueError, RuntimeError):
        return None


def _class_names(data: Any, n_labels: int) -> list[str]:
    names = getattr(data, "classes", None) or getattr(data, "categories", None)
    if not isinstance(names, Sequence) or len(names) < n_labels:
        return [str(label) for label in range(n_labels)]
    return [name if isinstance(name, str) else ", ".join(map(str, name)) for name in names]


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
    return dict(found) if isinstance(found, Mapping) else {"train": found}


def _numbers(values: Iterable[Any], names: Sequence[str] | None, classes: Sequence[str]) -> list[int]:
    """Return class indices, -1 where there is no label; of a ``ClassLabel`` column (with ``names``) the values are these."""
    if names is not None:
        return [-1 if value is None else int(value) for value in values]
    number = {name: place for place, name in enumerate(classes)}
    return [number.get(str(value), -1) for value in values]
