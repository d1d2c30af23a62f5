"""Whether a model is still that of its data set is judged by contents: ways in which pictures change, and in which they don't."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from carrot import Carrot, cli
from carrot.classifier.changes import Changes, edited_ids
from carrot.data import open_dataset
from carrot.data.records import Subset
from carrot.data.toy import ToyBirds
from carrot.embedding.encoder import Encoder

pytestmark = pytest.mark.usefixtures("surveyed_once")

BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=0, n_species=2)


def save(index: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    BIRDS.image(index).save(path)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of 5 readable pictures a class, one broken one, and a model of it."""
    home = tmp_path_factory.mktemp("home")
    for i in range(12):
        if i % 6 < 5:
            save(i, home / "data" / f"species {i // 6}" / f"{i % 6}.bmp")
    (home / "data" / "species 0" / "6.bmp").write_bytes(b"broken")
    assert cli.main(["fit", str(home / "data"), "--out", str(home / "model"), "--backbone", "toy"]) == 0
    return home / "data", home / "model"


def replace(folder: Path, name: str) -> None:
    """Another picture of the same size, at the same time: what ``cp -p`` leaves."""
    path = folder / name
    before = path.stat()
    save(5, path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def touch_all(folder: Path) -> None:
    for path in folder.rglob("*.bmp"):
        os.utime(path, (1, 1))


def move_class(folder: Path) -> None:
    shutil.move(folder / "species 0" / "1.bmp", folder / "species 1" / "1b.bmp")


NOTHING = ((), (), ())
EDITS: dict[str, tuple[Callable[[Path], object], tuple[tuple[str, ...], ...]]] = {
    "nothing": (lambda folder: None, NOTHING),
    "times only": (touch_all, NOTHING),
    "a file that is no picture": (lambda folder: (folder / "notes.txt").write_text("x"), NOTHING),
    "a held-out picture": (lambda folder: replace(folder, "species 1/4.bmp"), NOTHING),
    "the first picture": (lambda folder: replace(folder, "species 0/0.bmp"), (("species 0/0.bmp",), (), ())),
    "another picture": (lambda folder: replace(folder, "species 1/2.bmp"), (("species 1/2.bmp",), (), ())),
    "the broken one mended": (lambda folder: save(5, folder / "species 0" / "6.bmp"), (("species 0/6.bmp",), (), ())),
    "one broken": (
        lambda folder: (folder / "species 0" / "0.bmp").write_bytes(b"x"),
        (("species 0/0.bmp",), (), ()),
    ),
    "one added": (lambda folder: save(5, folder / "species 1" / "9.bmp"), ((), ("species 1/9.bmp",), ())),
    "one deleted": (
        lambda folder: (folder / "species 1" / "3.bmp").unlink(),
        ((), ("species 1/4.bmp",), ("species 1/3.bmp",)),  # the split goes by place
    ),
    "one moved to another class": (
        move_class,
        ((), ("species 0/4.bmp", "species 1/1b.bmp", "species 1/4.bmp"), ("species 0/1.bmp", "species 1/3.bmp")),
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("edit", EDITS)
def test_changes_are_those_of_contents(fitted: tuple[Path, Path], tmp_path: Path, edit: str) -> None:
    data, model = fitted
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    change, expected = EDITS[edit]
    change(copy)
    found = Changes.of(Carrot.load(model).fitted, open_dataset(copy))
    assert (found.changed, found.new, found.gone) == expected
    assert bool(found) == any(expected)


def test_a_changed_picture_is_named_and_overwrite_computes_anew(
    fitted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It used to say "fitted already" and to end with 0; --overwrite failed in "settings.pictures.first_input"."""
    data, model = tmp_path / "data", tmp_path / "model"
    shutil.copytree(fitted[0], data)
    words = ["fit", str(data), "--out", str(model), "--backbone", "toy"]
    assert cli.main(words) == 0
    touch_all(data)
    assert cli.main(words) == 0
    assert "on these pictures already" in capsys.readouterr().err
    for name in ("species 0/0.bmp", "species 1/2.bmp"):
        before = Carrot.load(model)
        replace(data, name)
        assert cli.main(words) == 1
        assert f"1 changed ({name}). --overwrite fits again" in capsys.readouterr().err
        assert Carrot.load(model).records_ == before.records_
        assert cli.main([*words, "--overwrite"]) == 0
        after, fresh = Carrot.load(model), Carrot("toy").fit(data)
        assert torch.equal(after.head_.W_star, fresh.head_.W_star)
        assert not torch.equal(after.head_.W_star, before.head_.W_star)
        capsys.readouterr()
    assert cli.main(["forget", str(model), "species 0/1.bmp"]) == 0
    assert edited_ids(model) == {"species 0/1.bmp"}
    assert cli.main(words) == 0, "what was forgotten on purpose is no change of the data"


def test_tokens_are_those_of_the_contents(tmp_path: Path) -> None:
    """Also of test pictures that were replaced between two evaluations; times don't count, and what was there before is found again."""
    for i in range(4):
        save(i, tmp_path / "data" / "abcd"[i // 2] / f"{i}.bmp")
    data, encoder = open_dataset(tmp_path / "data"), Encoder("toy")
    test, root = Subset(data, [0, 1, 2, 3]), tmp_path / "tokens"
    first = encoder.cache(test, root)
    touch_all(tmp_path / "data")
    assert encoder.cache(test, root).key == first.key
    shutil.copytree(tmp_path / "data", tmp_path / "kept")
    replace(tmp_path / "data", "a/0.bmp")
    second = encoder.cache(test, root)
    assert second.folder != first.folder
    assert torch.equal(second.picture(0).H, encoder.tokens([tmp_path / "data" / "a" / "0.bmp"]).H)
    assert not torch.equal(second.picture(0).H, first.picture(0).H)
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "kept", tmp_path / "data")
    assert encoder.cache(test, root).key == first.key
