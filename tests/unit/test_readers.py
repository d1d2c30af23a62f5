"""Every reader of ``carrot.data`` against the one battery of ``reader_contract``: how each format writes a world."""

import io
import json
import sys
import tarfile
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from carrot.data import ImageDataset, open_dataset
from carrot.data.flowers102 import FLOWERS
from carrot.data.opening import KINDS
from tests.unit.reader_contract import HEIGHT, SOUND, WIDTH, Picture, ReaderContract, World

DECLARED_BY_PICTURES = "classes are declared by their pictures"


def put(file: Path, content: bytes | str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


class TestFolder(ReaderContract):
    kind, official, judges_files = "folder", False, True
    cannot: ClassVar = {
        "a_label_that_is_no_class": "a folder is its own label",
        "a_picture_on_both_sides": "a file has one place; links are not followed (test_folder)",
        "two_classes_of_one_name": "a folder has one name",
    }

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        for name in given.classes:
            (root / "train" / name).mkdir(parents=True, exist_ok=True)
        (root / "test").mkdir(exist_ok=True)
        for picture in given.pictures:
            put(root / self.id_of(given, picture), picture.content)
        return open_dataset(root)

    def id_of(self, given: World, picture: Picture) -> str:
        folder = picture.split if picture.label is None else f"{picture.split}/{picture.label}"
        return f"{folder}/{picture.name}{picture.extension}"


class TestCsv(ReaderContract):
    kind, official, judges_files = "csv", False, True
    spec, more = "{}", ("", "")  # further columns
    cannot: ClassVar = {
        "a_label_that_is_no_class": "a table declares no classes",
        "a_class_that_is_in_test_only": "a table declares no classes: see an_extra_class_in_test",
        "an_empty_class": "a table declares no classes",
        "two_classes_of_one_name": "a table declares no classes",
    }

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        lines = [f"image,label,split{self.more[0]}"]
        for picture in given.pictures:
            put(root / self.id_of(given, picture), picture.content)
            lines.append(f"{self.id_of(given, picture)},{picture.label or ''},{picture.split}{self.more[1]}")
        put(root / "labels.csv", "\n".join(lines) + "\n")
        return open_dataset(self.spec.format(root))

    def id_of(self, given: World, picture: Picture) -> str:
        return f"{picture.name}{picture.extension}"


class TestObject(TestCsv):
    kind, spec = "object", "object:{}"
    more = (",box_x,box_y,box_width,box_height", ",2.5,3,10,20")


class TestCub(ReaderContract):
    kind, official = "cub", True

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        place = {name: number for number, name in enumerate(given.classes, start=1)}
        files = {"classes.txt": [f"{number} {name}" for number, name in enumerate(given.classes, start=1)]}
        files |= {name: [] for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")}
        files["bounding_boxes.txt"] = []
        for number, picture in enumerate(given.pictures, start=1):
            put(root / self.id_of(given, picture), picture.content)
            files["images.txt"].append(f"{number} {picture.name}.jpg")
            if picture.label is not None:
                files["image_class_labels.txt"].append(f"{number} {place.get(picture.label, 99)}")
            files["train_test_split.txt"].append(f"{number} {int(picture.split == 'train')}")
            files["bounding_boxes.txt"].append(f"{number} 1 1 5 5")
        for name, lines in files.items():
            put(root / name, "\n".join(lines) + "\n")
        return open_dataset(root)

    def id_of(self, given: World, picture: Picture) -> str:
        return f"images/{picture.name}.jpg"


class TestPets(ReaderContract):
    kind, official = "pets", True
    cannot: ClassVar = {
        "a_label_that_is_no_class": DECLARED_BY_PICTURES,
        "a_class_that_is_in_test_only": f"{DECLARED_BY_PICTURES}: see an_extra_class_in_test",
        "an_empty_class": DECLARED_BY_PICTURES,
        "two_classes_of_one_name": f"{DECLARED_BY_PICTURES}; ids that disagree with names are refused (test_pets)",
        "letters_that_are_taken_for_line_ends": "a breed's name has no blanks, and these are blanks",
    }

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        place = {name: number for number, name in enumerate(given.classes, start=1)}
        for split, file in (("train", "trainval.txt"), ("test", "test.txt")):
            lines = []
            for picture in given.side(split):
                put(root / self.id_of(given, picture), picture.content)
                name = Path(self.id_of(given, picture)).stem
                lines.append(name if picture.label is None else f"{name} {place.get(picture.label, 99)} 1 1")
            put(root / "annotations" / file, "\n".join(lines) + "\n")
        return open_dataset(f"pets:{root}")

    def id_of(self, given: World, picture: Picture) -> str:
        return f"images/{(picture.label or 'cat').replace(' ', '-')}_{picture.name[1:]}.jpg"

    def holds(self, found: ImageDataset, given: World) -> None:
        names = {name: name.replace(" ", "-") for name in given.classes}  # a breed's name has no blanks
        pictures = (Picture(p.name, p.split, p.label and names.get(p.label, p.label)) for p in given.pictures)
        super().holds(found, World(tuple(names.values()), tuple(pictures)))


class TestAircraft(ReaderContract):
    kind, official = "aircraft", True

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        put(root / "data" / "variants.txt", "\n".join(given.classes) + "\n")
        for split, file in (("train", "trainval"), ("test", "test")):
            lines = [f"{p.name} {p.label or ''}" for p in given.side(split)]
            put(root / "data" / f"images_variant_{file}.txt", "\n".join(lines) + "\n")
        for picture in given.pictures:
            put(root / self.id_of(given, picture), picture.content)
        return open_dataset(root)

    def id_of(self, given: World, picture: Picture) -> str:
        return f"data/images/{picture.name}.jpg"


class TestCars(ReaderContract):
    kind, official = "cars", True
    cannot: ClassVar = {"a_picture_on_both_sides": "each side has a folder of its own"}

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        (root / "devkit").mkdir(exist_ok=True)
        names = np.empty((1, len(given.classes)), dtype=object)
        names[0, :] = given.classes
        savemat(root / "devkit" / "cars_meta.mat", {"class_names": names})
        place = {name: number for number, name in enumerate(given.classes, start=1)}
        fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
        for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
            array = np.zeros((1, len(given.side(split))), dtype=[(field, object) for field in fields])
            for column, picture in enumerate(given.side(split)):
                put(root / self.id_of(given, picture), picture.content)
                class_id = 0 if picture.label is None else place.get(picture.label, 99)
                array[0, column] = (1, 1, 5, 5, class_id, f"{picture.name}.jpg")
            savemat(root / file, {"annotations": array})
        return open_dataset(root)

    def id_of(self, given: World, picture: Picture) -> str:
        return f"cars_{picture.split}/{picture.name}.jpg"


class TestFlowers102(ReaderContract):
    kind, official = "flowers102", True
    cannot: ClassVar = {
        "a_class_that_is_in_test_only": f"{DECLARED_BY_PICTURES}: see an_extra_class_in_test",
        "an_empty_class": DECLARED_BY_PICTURES,
        "twin_names": "the names are this package's own",
        "two_classes_of_one_name": "the names are this package's own",
        "letters_that_are_taken_for_line_ends": "the names are this package's own",
        "a_class_called_nan": "the names are this package's own",
        "digits_of_other_scripts": "the names are this package's own",
    }

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        place = {"cat": 1, "dog": 2, "wolf": 103, None: 0}
        numbers = self.numbers(given)
        labels = {picture.name: place[picture.label] for picture in given.pictures}
        sets = {"trnid": given.side("train"), "valid": [], "tstid": given.side("test")}
        savemat(root / "imagelabels.mat", {"labels": np.array([list(labels.values())], np.uint8)})
        savemat(root / "setid.mat", {k: np.array([[numbers[p.name] for p in v]], np.uint16) for k, v in sets.items()})
        for picture in given.pictures:
            put(root / self.id_of(given, picture), picture.content)
        return open_dataset(root)

    def numbers(self, given: World) -> dict[str, int]:
        return {name: number for number, name in enumerate(dict.fromkeys(p.name for p in given.pictures), start=1)}

    def id_of(self, given: World, picture: Picture) -> str:
        return f"jpg/image_{self.numbers(given)[picture.name]:05d}.jpg"

    def holds(self, found: ImageDataset, given: World) -> None:
        found.classes = tuple({FLOWERS[0]: "cat", FLOWERS[1]: "dog"}[name] for name in found.classes)
        super().holds(found, given)


class _Cifar(ReaderContract):
    official = True
    folder: ClassVar[str]
    train: ClassVar[tuple[str, ...]]
    test: ClassVar[str]
    cannot: ClassVar = {
        "a_missing_label": "a row begins with its label",
        "a_picture_on_both_sides": "rows have no names",
        "a_format_that_is_not_read": "any bytes are pixels",
        "a_damaged_picture": "any bytes are pixels; a file cut short is refused (test_data_cifar)",
    }

    def names(self, root: Path, given: World) -> None:
        raise NotImplementedError

    def row(self, label: int) -> bytes:
        raise NotImplementedError

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        self.names(root / self.folder, given)
        place = {name: number for number, name in enumerate(given.classes)}
        data = {file: b"" for file in (*self.train, self.test)}
        for picture in given.pictures:
            data[self._file(given, picture)[0]] += self.row(place.get(picture.label or "", 200))
        for file, rows in data.items():
            put(root / self.folder / file, rows)
        return open_dataset(root)

    def _file(self, given: World, picture: Picture) -> tuple[str, int]:
        """Return the file and the place in it: training rows are dealt in turn."""
        side = given.side(picture.split)
        number = [p.name for p in side].index(picture.name)
        if picture.split == "test":
            return self.test, number
        return self.train[number % len(self.train)], number // len(self.train)

    def id_of(self, given: World, picture: Picture) -> str:
        file, number = self._file(given, picture)
        return f"{file}/{number:05d}"


class TestCifar10(_Cifar):
    kind, folder, test = "cifar10", "cifar-10-batches-bin", "test_batch.bin"
    train = tuple(f"data_batch_{number}.bin" for number in range(1, 6))

    def names(self, root: Path, given: World) -> None:
        put(root / "batches.meta.txt", "\n".join(given.classes) + "\n")

    def row(self, label: int) -> bytes:
        return bytes([label]) + bytes(3072)

    def filled(self, given: World) -> World:
        """None of the five training files may be empty: fill up a small world."""
        missing = max(5 - len(given.side("train")), 0) if given.pictures else 0
        return given.having(*(Picture(f"more{k}", "train", given.classes[0]) for k in range(missing)))

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        return super().open(root, self.filled(given), patch)

    def holds(self, found: ImageDataset, given: World) -> None:
        super().holds(found, self.filled(given))


class TestCifar100(_Cifar):
    kind, folder, train, test = "cifar100", "cifar-100-binary", ("train.bin",), "test.bin"

    def names(self, root: Path, given: World) -> None:
        put(root / "fine_label_names.txt", "\n".join(given.classes) + "\n")
        put(root / "coarse_label_names.txt", "all\n")

    def row(self, label: int) -> bytes:
        return bytes([0, label]) + bytes(3072)


def numbered(given: World, picture: Picture) -> str:
    """Return the id of a picture whose format has rows only."""
    return f"{picture.split}/{[p.name for p in given.side(picture.split)].index(picture.name):07d}"


class _Rows:
    """Pictures with labels as another library holds them: decoded when they are asked for."""

    def __init__(self, pictures: list[Picture], labels: list[Any]) -> None:
        self.pictures, self.targets = pictures, labels

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        picture = Image.open(io.BytesIO(self.pictures[index].content))
        picture.load()
        return picture, self.targets[index]


class TestTorchvision(ReaderContract):
    kind, official = "torchvision", False
    cannot: ClassVar = {
        "a_picture_on_both_sides": "rows have no names",
        "two_classes_of_one_name": "not refused: ImageNet has two cranes; they are told apart (test_data_adapters)",
    }

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        from torchvision import datasets

        place: dict[str | None, int] = {name: number for number, name in enumerate(given.classes)} | {None: -1}

        def opened(root: str, split: str = "train") -> _Rows:
            if split not in ("train", "test"):
                raise ValueError(split)
            pictures = given.side(split)
            rows = _Rows(pictures, [place.get(p.label, 99) for p in pictures])
            rows.classes = list(given.classes)  # type: ignore[attr-defined]
            return rows

        made = type("Made", (), {"__new__": lambda cls, root, split="train": opened(root, split)})
        patch.setattr(datasets, "Made", made, raising=False)
        patch.setattr(datasets, "__all__", (*datasets.__all__, "Made"))
        return open_dataset(f"torchvision:Made:{root}")

    id_of = staticmethod(numbered)  # type: ignore[assignment]


class _Table:
    """As much of ``datasets.Dataset`` as the reader uses."""

    def __init__(self, features: dict[str, Any], rows: _Rows) -> None:
        self.features, self.rows = features, rows

    def __getitem__(self, key: int | str) -> Any:
        return list(self.rows.targets) if isinstance(key, str) else {"image": self.rows[key][0]}


class TestHuggingFace(ReaderContract):
    kind, official = "hf", False
    cannot: ClassVar = {
        "a_picture_on_both_sides": "rows have no names",
        "two_classes_of_one_name": "not refused: ImageNet has two cranes; they are told apart (test_data_adapters)",
    }

    def column(self, given: World) -> tuple[Any, dict[str | None, Any]]:
        """Return the column's kind, and how a label is written."""
        made = type("ClassLabel", (), {"names": list(given.classes)})()
        return made, {None: None, **{name: place for place, name in enumerate(given.classes)}}

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        column, written = self.column(given)
        features = {"image": type("Image", (), {})(), "label": column}
        found = {}
        for split in ("train", "test"):
            pictures = given.side(split)
            labels = [written[p.label] if p.label in written else self.unknown(p.label) for p in pictures]
            found[split] = _Table(features, _Rows(pictures, labels))
        module = types.ModuleType("datasets")
        module.load_dataset = module.load_from_disk = lambda name: found  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "datasets", module)
        return open_dataset("hf:someone/pictures")

    def unknown(self, label: str | None) -> Any:
        return 99

    id_of = staticmethod(numbered)  # type: ignore[assignment]


class TestHuggingFaceWithPlainLabels(TestHuggingFace):
    cannot: ClassVar = {
        "a_picture_on_both_sides": "rows have no names",
        "two_classes_of_one_name": DECLARED_BY_PICTURES,
        "a_label_that_is_no_class": DECLARED_BY_PICTURES,
        "a_class_that_is_in_test_only": f"{DECLARED_BY_PICTURES}: see an_extra_class_in_test",
        "an_empty_class": DECLARED_BY_PICTURES,
    }

    def column(self, given: World) -> tuple[Any, dict[str | None, Any]]:
        return object(), {None: None, **{name: name for name in given.classes}}

    def unknown(self, label: str | None) -> Any:
        return label


def tar_of(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


class TestWebDataset(ReaderContract):
    """As img2dataset writes them, with the label in the JSON."""

    kind, official, judges_files = "wds", False, True
    cannot: ClassVar = {
        "a_picture_on_both_sides": "a key counts in its shard: CLIP benchmark's test keys are those of training again",
        "a_label_that_is_no_class": DECLARED_BY_PICTURES,
        "a_class_that_is_in_test_only": f"{DECLARED_BY_PICTURES}: see an_extra_class_in_test",
        "an_empty_class": DECLARED_BY_PICTURES,
        "two_classes_of_one_name": DECLARED_BY_PICTURES,
    }

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        for split in ("train", "test"):
            members = []
            for picture in given.side(split):
                members.append((picture.name + picture.extension, picture.content))
                members += self.beside(given, picture)
            put(root / f"{split}-000000.tar", tar_of(members))
        return open_dataset(f"wds:{root}/{{train,test}}-{{000000..000000}}.tar")

    def beside(self, given: World, picture: Picture) -> list[tuple[str, bytes]]:
        said = {"caption": picture.name, **({} if picture.label is None else {"label": picture.label})}
        return [(f"{picture.name}.json", json.dumps(said).encode()), (f"{picture.name}.txt", b"a caption")]

    def id_of(self, given: World, picture: Picture) -> str:
        return f"{picture.split}-000000.tar/{picture.name}{picture.extension}"


class TestWebDatasetWithNumbers(TestWebDataset):
    """As CLIP benchmark writes them: numbers, and a file of names beside the shards."""

    cannot: ClassVar = {
        "a_picture_on_both_sides": TestWebDataset.cannot["a_picture_on_both_sides"],
        "two_classes_of_one_name": "not refused: ImageNet has two cranes; they are told apart (test_data_adapters)",
    }

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        put(root / "classnames.txt", "\n".join(given.classes) + "\n")
        return super().open(root, given, patch)

    def beside(self, given: World, picture: Picture) -> list[tuple[str, bytes]]:
        if picture.label is None:
            return []
        place = given.classes.index(picture.label) if picture.label in given.classes else 99
        return [(f"{picture.name}.cls", str(place).encode())]


class TestParquet(ReaderContract):
    """As the hub has them: a struct of bytes and path, and a ClassLabel."""

    kind, official = "parquet", False
    cannot: ClassVar = {
        "a_picture_on_both_sides": "rows have no names",
        "two_classes_of_one_name": "not refused: ImageNet has two cranes; they are told apart (test_data_adapters)",
    }

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        kind, metadata, written = self.column(arrow, given)
        picture_kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
        schema = arrow.schema([("image", picture_kind), ("label", kind)], metadata=metadata)
        for split in ("train", "test"):
            side = given.side(split)
            columns = {
                "image": [{"bytes": p.content, "path": None} for p in side],
                "label": [written[p.label] if p.label in written else self.unknown(p.label) for p in side],
            }
            file = root / f"{split}-00000-of-00001.parquet"
            parquet.write_table(arrow.table(columns, schema=schema), file, row_group_size=3)
        return open_dataset(root)

    def column(self, arrow: Any, given: World) -> tuple[Any, dict[str, str], dict[str | None, Any]]:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(given.classes)}}
        numbers = {name: place for place, name in enumerate(given.classes)}
        return arrow.int64(), {"huggingface": json.dumps({"info": {"features": features}})}, {None: -1, **numbers}

    def unknown(self, label: str | None) -> Any:
        return 99

    def id_of(self, given: World, picture: Picture) -> str:
        number = [p.name for p in given.side(picture.split)].index(picture.name)
        return f"{picture.split}-00000-of-00001.parquet/{number:07d}"


class TestParquetWithPlainLabels(TestParquet):
    cannot: ClassVar = TestHuggingFaceWithPlainLabels.cannot

    def column(self, arrow: Any, given: World) -> tuple[Any, dict[str, str], dict[str | None, Any]]:
        return arrow.string(), {}, {None: None, **{name: name for name in given.classes}}

    def unknown(self, label: str | None) -> Any:
        return label


class TestFolderAtAnAddress(TestFolder):
    cannot: ClassVar = {
        **TestFolder.cannot,
        "an_empty_class": "a folder without files isn't there",
        "a_class_that_is_in_test_only": "a folder without files isn't there: see an_extra_class_in_test",
    }

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        pytest.importorskip("fsspec")
        for picture in given.pictures:
            put(root / self.id_of(given, picture), picture.content)
        return open_dataset(f"file://{root}")


class TestCsvAtAnAddress(TestCsv):
    spec = "file://{}/labels.csv"

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        pytest.importorskip("fsspec")
        return super().open(root, given, patch)


class TestToy(ReaderContract):
    kind, official = "toy", True
    cannot: ClassVar = dict.fromkeys(
        (name.removeprefix("test_") for name in dir(ReaderContract) if name.startswith("test_")),
        "it is rendered: there is nothing to read (test_toy)",
    )


READERS = [value for value in list(globals().values()) if isinstance(value, type) and issubclass(value, ReaderContract)]


def test_every_kind_takes_part() -> None:
    assert {reader.kind for reader in READERS if hasattr(reader, "kind")} == set(KINDS)


@pytest.mark.parametrize("reader", [reader for reader in READERS if reader is not ReaderContract])
def test_what_cannot_be_expressed_is_a_situation_and_has_a_reason(reader: type[ReaderContract]) -> None:
    for name, reason in reader.cannot.items():
        assert callable(getattr(reader, f"test_{name}"))
        assert reason


def test_the_worlds_pictures_are_what_they_say() -> None:
    for picture in SOUND.pictures:
        assert Image.open(io.BytesIO(picture.content)).size == (WIDTH, HEIGHT)
