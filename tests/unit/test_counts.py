"""Every command that measures says how many pictures it used, left out and set aside, under the same keys.

Warnings are told once.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from carrot import cli
from carrot.cli.grouped import Grouped
from carrot.data.counts import Counts
from carrot.data.toy import ToyBirds

pytestmark = pytest.mark.usefixtures("surveyed_once")

BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=0, n_species=2)
FOR_TRAINING, FITTED_ON = "for training, by the split", "the model was fitted on them"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data: 6 pictures a class, 1 held out and 1 broken; other: 3 pictures, 1 known, 1 broken; and a model of data."""
    root = tmp_path_factory.mktemp("home")
    for i in range(12):
        path = root / "data" / f"species {i // 6}" / f"{i % 6}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        BIRDS.image(i).save(path)
        if i in (5, 7, 8):
            other = root / "other" / path.parent.name / f"x{i}.png"
            other.parent.mkdir(parents=True, exist_ok=True)
            BIRDS.image(i if i == 7 else (i + 1) % 12).rotate(0 if i == 7 else 9).save(other)
    (root / "data" / "species 0" / "3.png").write_bytes(b"broken")
    (root / "other" / "species 1" / "broken.png").write_bytes(b"broken")
    assert cli.main(["fit", str(root / "data"), "--out", str(root / "model"), "--backbone", "toy"]) == 0
    return root


OWN = {"pictures": 12, "used": 2, "left_out": {FOR_TRAINING: 10}, "set_aside": 0}
OTHER = {"pictures": 4, "used": 2, "left_out": {FITTED_ON: 1}, "set_aside": 1}
TRAINED = {"pictures": 9, "used": 9, "left_out": {}, "set_aside": 0}
FITTED = {"pictures": 12, "used": 9, "left_out": {"held out for testing": 2}, "set_aside": 1}
QUICK = ["--explained", "0", "--refits", "0", "--no-baselines"]
COMMANDS: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "fit": (["fit", "data", "--out", "model", "--backbone", "toy"], {"counts": FITTED}, "12 pictures of"),
    "select": (
        ["select", "data", "--out", "chosen", "--backbone", "toy", "--lift", "identity", "--t", "0", "--tau", "0"],
        {"counts": FITTED},
        "9 fitted on, 2 left out (held out for testing), 1 set aside",
    ),
    "evaluate": (["evaluate", "model", *QUICK], {"counts": OWN}, "2 measured, 10 left out"),
    "evaluate other": (
        ["evaluate", "model", "other", *QUICK],
        {"counts": OTHER},
        "4 pictures of other: 2 measured, 1 left out (the model was fitted on them), 1 set aside",
    ),
    "audit": (["audit", "model"], {"counts": TRAINED, "held_out_counts": OWN}, "2 audited, 10 left out"),
    "audit other": (
        ["audit", "model", "--data", "other"],
        {"counts": TRAINED, "held_out_counts": OTHER},
        "2 audited, 1 left out",
    ),
    "export": (["export", "model", "table.csv"], {"counts": TRAINED}, "9 pictures: 9 written"),
    "export other": (
        ["export", "model", "table.csv", "--data", "other"],
        {"counts": TRAINED, "held_out_counts": OTHER},
        "2 written, 1 left out",
    ),
    "predict": (
        ["predict", "model", "other"],
        {"counts": {"pictures": 4, "used": 3, "left_out": {}, "set_aside": 1}},
        "4 pictures: 3 predicted, 1 set aside",
    ),
    "bench": (
        ["bench", "model", "--pictures", "2", "--rounds", "1"],
        {"counts": {"pictures": 2, "used": 2, "left_out": {}, "set_aside": 0}},
        "2 timed",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_counted_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setattr("carrot.protocol.measure.time_stages", lambda *_: {"backbone": 1.0})  # which takes seconds
    words, expected, text = COMMANDS[name]
    shown: list[Any] = []
    for module in ("answer", "ask", "give", "measure", "train"):
        monkeypatch.setattr(f"carrot.cli.{module}.show", lambda result, lines, _: shown.append((result, list(lines))))
    capsys.readouterr()
    assert cli.main(words) == 0
    ((result, lines),) = shown
    said = capsys.readouterr()
    assert text in "\n".join(lines) + said.out + said.err
    found = json.loads(json.dumps(result))
    for key, counts in expected.items():
        assert found[key] == counts
        assert counts["pictures"] == counts["used"] + sum(counts["left_out"].values()) + counts["set_aside"]


def test_numbers_of_another_data_set_have_a_folder_of_their_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setattr("carrot.protocol.measure.time_stages", lambda *_: {"backbone": 1.0})
    assert cli.main(["evaluate", "model", *QUICK]) == 0
    own = (home / "model" / "evaluation" / "metrics.json").read_bytes()
    for out in ([], ["--out", str(tmp_path / "numbers")]):
        assert cli.main(["evaluate", "model", "other", *QUICK, *out]) == 0
    assert (home / "model" / "evaluation" / "metrics.json").read_bytes() == own
    (folder,) = (path for path in (home / "model" / "evaluation").iterdir() if path.is_dir())
    assert folder.name.startswith("other-")
    for found in (folder, tmp_path / "numbers"):
        assert json.loads((found / "metrics.json").read_bytes())["counts"] == OTHER


def test_counts_add_up() -> None:
    counts = Counts(90, {"a": 3, "b": 0}, 2)
    assert counts.pictures == 95
    assert counts.line("measured", "birds").startswith(
        "95 pictures of birds: 90 measured, 3 left out (a), 2 set aside ("
    )
    assert Counts(1).line("measured") == "1 picture: 1 measured"


def test_a_warning_that_is_the_same_of_many_pictures_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(), Grouped() as grouped:
        warnings.simplefilter("always")
        warnings.showwarning = grouped.show
        for _ in range(2):  # two passes over the pictures
            for k in range(6):
                warnings.warn(f"d/{k}.jpg: damaged EXIF (bad {k}); the picture is taken as upright", stacklevel=1)
        warnings.warn("d: 2 set aside (see .skipped)", stacklevel=1)
    assert capsys.readouterr().err.splitlines() == [
        "carrot: d/0.jpg: damaged EXIF (bad 0); the picture is taken as upright",
        "carrot: d: 2 set aside (see .skipped)",
        "carrot: the same of 5 more: d/1.jpg, d/2.jpg, d/3.jpg, ...: damaged EXIF; the picture is taken as upright",
    ]
