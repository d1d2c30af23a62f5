"""The CIFAR readers on binary files written here, byte by byte."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from carrot.data import Cifar10, Cifar100, open_dataset
from carrot.errors import DataError, UnreadableImageError

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(32, 32, 3), dtype=np.uint8)


def encode(labels: tuple[int, ...], pixels: np.ndarray) -> bytes:
    """One row of the file: labels, then all of red, all of green, all of blue, row by row."""
    row = bytearray(labels)
    for channel in range(3):
        for y in range(32):
            for x in range(32):
                row.append(int(pixels[y, x, channel]))
    return bytes(row)


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    for batch in range(5):
        rows = [encode((2 * batch + k,), picture(10 * batch + k)) for k in range(2)]
        (folder / f"data_batch_{batch + 1}.bin").write_bytes(b"".join(rows))
    (folder / "test_batch.bin").write_bytes(encode((9,), picture(99)))
    return tmp_path


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("apple\naquarium_fish\nbaby\n")
    (folder / "coarse_label_names.txt").write_text("fruit\nliving\n")
    rows = [encode(labels, picture(k)) for k, labels in enumerate([(1, 2), (0, 0), (1, 1)])]
    (folder / "train.bin").write_bytes(b"".join(rows))
    (folder / "test.bin").write_bytes(encode((1, 1), picture(9)))
    return tmp_path


def test_cifar10(ten: Path) -> None:
    cifar = open_dataset(ten)
    assert isinstance(cifar, Cifar10)
    assert (cifar.name, cifar.classes) == ("cifar10", tuple(TEN))
    assert [r.label for r in cifar.records] == [*range(10), 9]
    assert [r.split for r in cifar.records] == ["train"] * 10 + ["test"]
    assert cifar.records[3].id == "data_batch_2.bin/00001"
    np.testing.assert_array_equal(np.asarray(cifar.image(3)), picture(11))
    np.testing.assert_array_equal(np.asarray(cifar.image(10)), picture(99))
    assert cifar.image(0).mode == "RGB"
    assert Cifar10(ten / "cifar-10-batches-bin").records == cifar.records


def test_cifar100(hundred: Path) -> None:
    fine, coarse = open_dataset(hundred), Cifar100(hundred, coarse=True)
    assert isinstance(fine, Cifar100)
    assert (fine.name, fine.classes) == ("cifar100", ("apple", "aquarium_fish", "baby"))
    assert [r.label for r in fine.records] == [2, 0, 1, 1]
    assert coarse.classes == ("fruit", "living")
    assert [r.label for r in coarse.records] == [1, 0, 1, 1]
    assert [r.id for r in coarse.records] == ["train.bin/00000", "train.bin/00001", "train.bin/00002", "test.bin/00000"]
    for index, seed in enumerate((0, 1, 2, 9)):
        np.testing.assert_array_equal(np.asarray(fine.image(index)), picture(seed))
        np.testing.assert_array_equal(np.asarray(coarse.image(index)), picture(seed))


def test_they_travel_to_another_process_without_the_pixels(ten: Path) -> None:
    cifar = Cifar10(ten)
    message = pickle.dumps(cifar)
    assert len(message) < 3072  # less than one picture
    again = pickle.loads(message)  # noqa: S301 (our own bytes)
    assert again.records == cifar.records
    np.testing.assert_array_equal(np.asarray(again.image(0)), picture(0))


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(
    ("folder", "files", "archive"),
    [
        ("cifar-10-batches-py", ("data_batch_1", "batches.meta"), r"cifar-10-binary\.tar\.gz"),
        ("cifar-100-python", ("train", "test", "meta"), r"cifar-100-binary\.tar\.gz"),
    ],
)
def test_pickles_are_refused(tmp_path: Path, folder: str, files: tuple[str, ...], archive: str, inside: bool) -> None:
    (tmp_path / folder).mkdir()
    for file in files:
        (tmp_path / folder / file).write_bytes(b"\x80\x02.")
    with pytest.raises(
        DataError, match=rf"pickled: opening it could run anything\. Unpack the binary version, {archive}"
    ):
        open_dataset(tmp_path / folder if inside else tmp_path)


def test_wrong_files_are_named(ten: Path, hundred: Path) -> None:
    file = ten / "cifar-10-batches-bin" / "data_batch_3.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: must be whole rows of 3073 bytes; got 6145 bytes"):
        Cifar10(ten)
    file.write_bytes(whole[:3073] + b"\x0a" + whole[3074:])
    with pytest.raises(
        DataError, match=r"data_batch_3\.bin: picture 1 has the label 10, and batches\.meta\.txt has 10"
    ):
        Cifar10(ten)
    file.write_bytes(whole[:3073])
    with pytest.raises(DataError, match="class 'dog' has no training picture"):
        Cifar10(ten)
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"data_batch_3\.bin: must be whole rows .* got 0 bytes"):
        Cifar10(ten)
    file.unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin: there is no such file\. Unpack cifar-10-binary\.tar\.gz"):
        Cifar10(ten)
    (hundred / "cifar-100-binary" / "fine_label_names.txt").unlink()
    with pytest.raises(DataError, match=r"has no fine_label_names\.txt, and neither has cifar-100-binary"):
        Cifar100(hundred)


def test_a_file_that_shrinks_later_is_one_unreadable_picture(ten: Path) -> None:
    cifar, file = Cifar10(ten), ten / "cifar-10-batches-bin" / "test_batch.bin"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UnreadableImageError, match=r"test_batch\.bin: picture 0 can't be read"):
        cifar.image(10)
    file.unlink()
    with pytest.raises(UnreadableImageError, match=r"test_batch\.bin: picture 0 can't be read"):
        cifar.image(10)
