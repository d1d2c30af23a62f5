"""Long work says how far it is, and who interrupts it finds everything as it was, or whole."""

import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from carrot import Carrot, _progress, cli
from carrot.data import open_dataset
from carrot.data.records import Subset
from carrot.data.toy import ToyBirds
from carrot.embedding import filling


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in folders, a model of tiles, new pictures, and all that commands write of them."""
    place = tmp_path_factory.mktemp("made")
    birds = ToyBirds(n_train_per_class=6, n_test_per_class=1, n_species=2)
    for i, record in enumerate(birds.records):
        folder = place / ("new" if record.split == "test" else f"pictures/c{record.label}")
        folder.mkdir(parents=True, exist_ok=True)
        birds.image(i).save(folder / f"{i}.png")
    Carrot("toy", regions="tiles:2", lift="identity", lam=1.0, device="cpu").fit(place / "pictures").save(place / "m")
    return place


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be changed, and to stand in."""
    for name in ("pictures", "new", "m"):
        shutil.copytree(made / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


PICTURE = "pictures/c0/0.png"
LOOPS: list[tuple[str, list[str]]] = [  # a command, and what it does of each picture
    ("fit pictures --backbone toy --lift identity --out f", ["reading pictures: 10 of 10", "embedding pictures"]),
    ("predict m new", ["predicting: 2 of 2"]),
    (f"explain m {PICTURE} --hidden --out p.html", ["hiding regions: 10 of 10"]),
    (
        "evaluate m pictures --explained 2 --occluded 0 --no-baselines",
        [
            "comparing pictures with the model: 1",
            "looking for test pictures in pictures",
            "reading ",
            "explaining: 2 of",
        ],
    ),
    ("add m new/12.png --label c0", ["embedding pictures to add: 1 of 1"]),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("words", "said"), LOOPS)
def test_every_loop_over_pictures_says_how_far_it_is(
    words: str, said: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_LINES", -1.0)  # a line for each piece
    assert cli.main(words.split()) == 0, capsys.readouterr().err
    told = capsys.readouterr()
    for line in said:
        assert line in told.err
        assert line not in told.out


def test_a_model_that_is_there_is_compared_and_says_so(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = LOOPS[0][0].split()
    assert cli.main(words) == 0
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_LINES", -1.0)
    assert cli.main(words) == 0
    assert re.search(r"comparing pictures with the model: (\d+) of \1,", capsys.readouterr().err)


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


EVALUATE = "evaluate m --no-baselines --occluded 0 --refits 0"
CUTS: list[tuple[str, str, str]] = [  # a command, the same otherwise, where that is cut
    (
        f"explain m {PICTURE} --out p.html",
        "explain m new/12.png --out p.html",
        "carrot.explanation.record.Explanation.plot",
    ),
    ("predict m pictures --csv t.csv", "predict m new --csv t.csv", "carrot.model.Carrot.predict_proba"),
    (f"{EVALUATE} --explained 0", f"{EVALUATE} --explained 1", "carrot.protocol.explanations.take_apart"),
    (f"{EVALUATE} --explained 0", f"{EVALUATE} --explained 1", "carrot.protocol.tables.markdown_of"),
    ("export m x.csv", "export m x.csv --influences 1", "carrot.export.table.training_rows"),
    ("audit m --csv a.csv", "audit m --csv a.csv --duplicates 0.5", "carrot.classifier.audit.Audit.to_csv"),
    ("add m new/12.png --label c0", "add m new/13.png --label c1", "carrot.classifier.updates.batches"),
    (
        "fit pictures --backbone toy --out f",
        "fit pictures --backbone toy --out f --overwrite --t 1",
        "carrot.head.RidgeHead.fit",
    ),
]


@pytest.mark.parametrize(("first", "then", "cut"), CUTS)
def test_who_interrupts_finds_everything_as_it_was(
    first: str, then: str, cut: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(first.split()) == 0, capsys.readouterr().err
    before = contents(here)
    monkeypatch.setattr(cut, interrupt)
    assert cli.main(then.split()) == 130
    assert "interrupted" in capsys.readouterr().err
    after = contents(here)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert not {name for name in changed if "tokens" not in name}, "tokens alone are kept for the next run"
    monkeypatch.undo()
    monkeypatch.chdir(here)
    if not then.startswith("evaluate"):  # which takes seconds
        assert cli.main(then.split()) == 0, "it can be done again"
        assert contents(here) != before


def test_files_that_nobody_waits_for_are_not_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, read = open_dataset(here / "pictures"), list[str]()

    def slow(record: Any) -> str:
        read.append(record.id)
        time.sleep(0.02)
        return ""

    monkeypatch.setattr(filling, "file_digest", slow)
    monkeypatch.setattr(filling, "progress", lambda pieces, *_, **__: map(interrupt, pieces))
    many = Subset(dataset, list(range(len(dataset.records))) * 20)
    with pytest.raises(KeyboardInterrupt):
        filling.pictures_state(many, lambda image: pytest.fail("decoded"))
    assert len(read) < len(many.records) / 2


def contents(folder: Path) -> dict[str, bytes]:
    """All files by name, but for the locks."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("lock")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
