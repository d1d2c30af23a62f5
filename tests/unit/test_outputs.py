"""What a user asked for goes where the user said: every output of the command x every kind of place."""

import inspect
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from matplotlib.figure import Figure

from carrot import Carrot, DataError, StoreError, UnreadableImageError, cli
from carrot.data.toy import ToyBirds
from carrot.explanation import Explanation
from carrot.explanation.written import check_page
from carrot.store import outputs
from carrot.store.outputs import check_output, csv_text, cut, write_output

pytestmark = pytest.mark.usefixtures("surveyed_once")

SPECIES = ("jay", "robin", "wren")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its pictures, and one more."""
    root = tmp_path_factory.mktemp("home")
    birds = ToyBirds(n_train_per_class=5, n_test_per_class=1, n_species=3)
    for index, record in enumerate(birds.records):
        folder = root / "pictures" / SPECIES[record.label]
        folder.mkdir(parents=True, exist_ok=True)
        birds.image(index).save(folder / f"{index}.png")
    birds.image(0).save(root / "new.png")
    Carrot("toy", lift="identity").fit(root / "pictures").save(root / "model")
    return root


# Every place that the command lets a user name, by command and argument: how it is called, and what it writes.
Call = Callable[[Path, str], list[str]]
OUTPUTS: dict[tuple[str, str], tuple[Call, str]] = {
    ("predict", "csv"): (lambda h, out: ["predict", f"{h}/model", f"{h}/new.png", "--csv", out], "x.csv"),
    ("explain", "out"): (lambda h, out: ["explain", f"{h}/model", f"{h}/new.png", "--out", out], "x.html"),
    ("flip", "out"): (lambda h, out: ["flip", f"{h}/model", f"{h}/new.png", "--out", out], "x.html"),
    ("report", "out"): (lambda h, out: ["report", f"{h}/model", "--out", out], "x.html"),
    ("audit", "csv"): (lambda h, out: ["audit", f"{h}/model", "--no-held-out", "--csv", out], "x.csv"),
    ("export", "out"): (lambda h, out: ["export", f"{h}/model", out], "x.csv"),
}
_NAMES = ("demo", "select", "fit", "merge", "evaluate", "apply")
FOLDERS = {(name, "out") for name in _NAMES}  # named as folders: see the end


def test_every_output_of_the_command_takes_part() -> None:
    found = set()
    for command in cli.COMMANDS:
        hints = get_type_hints(command)
        for name in inspect.signature(command).parameters:
            if name in ("csv", "out") and Path in (hints[name], *get_args(hints[name])):
                found.add((command.__name__, name))
    assert found == OUTPUTS.keys() | FOLDERS


def run(home: Path, output: tuple[str, str], place: Path) -> int:
    return cli.main(OUTPUTS[output][0](home, str(place)))


every = pytest.mark.parametrize("output", OUTPUTS, ids="-".join)


@pytest.fixture
def _blank_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a page's figure goes is what is asked, and not what is drawn."""
    monkeypatch.setattr(Explanation, "plot", lambda _: Figure(figsize=(1, 1)))


@every
@pytest.mark.usefixtures("_blank_figure")
def test_files_links_and_missing_folders(home: Path, tmp_path: Path, output: tuple[str, str]) -> None:
    name = OUTPUTS[output][1]
    new = tmp_path / "a" / "b" / name
    assert run(home, output, new) == 0
    expected = new.read_bytes()
    assert len(expected) > 50
    has_numbers = output == ("explain", "out")  # beside the page

    there = tmp_path / "there" / name
    there.parent.mkdir()
    assert run(home, output, there) == 0
    there.chmod(0o640)
    assert run(home, output, there) == 0
    assert there.read_bytes() == expected
    assert stat.S_IMODE(there.stat().st_mode) == 0o640

    for target, link in ((there, "to_a_file"), (tmp_path / "made" / f"by_a_link_{name}", "to_nothing")):
        folder = tmp_path / link
        folder.mkdir()
        (folder / name).symlink_to(target)
        assert run(home, output, folder / name) == 0
        assert (folder / name).is_symlink(), "the link stays"
        assert target.read_bytes() == expected
    for theirs in ("mine.jpg", f"mine_{name}"):  # a table of edits, say, or a photograph by a slip of the shell
        (tmp_path / theirs).write_bytes(b"the user's")
        assert run(home, output, tmp_path / theirs) in (1, 2)
        assert (tmp_path / theirs).read_bytes() == b"the user's"
    (tmp_path / f"empty_{name}").touch()
    assert run(home, output, tmp_path / f"empty_{name}") == 0
    temporary = [path for path in tmp_path.rglob("*.tmp")]
    assert not temporary
    assert has_numbers == (new.with_suffix(".json")).is_file()


@every
@pytest.mark.usefixtures("_blank_figure")
def test_pipes_and_open_files_are_written_into(home: Path, tmp_path: Path, output: tuple[str, str]) -> None:
    plain = tmp_path / "plain" / OUTPUTS[output][1]
    assert run(home, output, plain) == 0
    (tmp_path / "pipe").mkdir()
    pipe = tmp_path / "pipe" / OUTPUTS[output][1]
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    assert run(home, output, pipe) == 0
    reader.join(10)
    assert read == [plain.read_bytes()]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(pipe.parent.iterdir()) == [pipe], "nothing lies beside a pipe"

    got, put = os.pipe()
    received: list[bytes] = []

    def drained() -> None:
        with open(got, "rb") as file:
            received.append(file.read())

    drain = threading.Thread(target=drained)
    drain.start()
    link = tmp_path / "link" / OUTPUTS[output][1]
    link.parent.mkdir()
    link.symlink_to(f"/proc/self/fd/{put}")
    assert run(home, output, link) == 0
    os.close(put)
    drain.join(10)
    assert received == [plain.read_bytes()]
    assert link.is_symlink()
    assert list(link.parent.iterdir()) == [link]


@every
def test_what_can_not_be_written_is_told_before_the_work(
    home: Path,
    tmp_path: Path,
    output: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = OUTPUTS[output][1]
    (tmp_path / "file").write_text("a file")
    (tmp_path / f"folder_{name}").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / name).symlink_to("/dev/full")
    assert run(home, output, tmp_path / "full" / name) == 1
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == [name]

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was read")

    monkeypatch.setattr("carrot.classifier.files.load", load)
    monkeypatch.setattr(Carrot, "load", load)
    cases = [
        (tmp_path / f"folder_{name}", "is a folder"),
        (tmp_path / "file" / name, "is no folder"),
        (tmp_path / f"{'x' * 260}{name}", "bytes is too long"),
        (tmp_path / f"{'鸟' * 90}{name}", "bytes is too long"),
    ]
    for place, message in cases:
        assert run(home, output, place) == 1
        told = capsys.readouterr()
        assert message in told.err
        assert not told.out
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for one who is not root
    assert run(home, output, tmp_path / name) == 1
    assert "Permission denied" in capsys.readouterr().err


@every
@pytest.mark.usefixtures("_blank_figure")
def test_a_full_disk_leaves_what_was_there(
    home: Path,
    tmp_path: Path,
    output: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / OUTPUTS[output][1]
    assert run(home, output, place) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    fsync = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run(home, output, place) == 1
    monkeypatch.setattr(os, "fsync", fsync)
    assert "No space left on device. Free the disk" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("_blank_figure")
def test_what_lies_beside_a_page_is_the_pages_own(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The picture new.png lay where the figure of new.html would: it was replaced."""
    picture = tmp_path / "new.png"
    shutil.copy(home / "new.png", picture)
    before = picture.read_bytes()
    assert cli.main(["explain", f"{home}/model", str(picture), "--out", str(tmp_path / "new.html")]) == 1
    assert "new.png: is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["new.png"]
    assert picture.read_bytes() == before
    page = tmp_path / "page.html"
    for _ in range(2):  # its own are replaced
        assert cli.main(["explain", f"{home}/model", str(picture), "--out", str(page)]) == 0
    with pytest.raises(StoreError, match=r"end in \.html"):
        check_page(tmp_path / "x.pdf")


def test_settings_that_no_command_wrote_stay(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "x.csv.yaml"
    mine.write_text("title: mine\n")
    assert cli.main(["audit", f"{home}/model", "--no-held-out", "--csv", str(tmp_path / "x.csv")]) == 0
    assert mine.read_text() == "title: mine\n"
    assert "is left as it is" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "select", "demo"])
def test_a_folder_of_other_files_is_refused_before_the_work(
    home: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carrot.TimmViTPatchBackbone.forward", None)
    monkeypatch.setattr("carrot.data.toy.ToyBirds", partial(ToyBirds, n_species=2))
    theirs = tmp_path / "model-best.safetensors"
    theirs.write_text("the user's")
    words = [command, *([] if command == "demo" else [f"{home}/pictures", "--backbone", "toy"]), "--out", str(tmp_path)]
    assert cli.main(words) == 1
    assert "holds other files (model-best.safetensors)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [theirs]


def test_apply_makes_a_model_in_a_new_folder_and_in_no_other(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "model", tmp_path / "model")
    edits, theirs, new = tmp_path / "edits.csv", tmp_path / "theirs", tmp_path / "new"
    first = Carrot.load(home / "model").fitted.records[0]
    edits.write_text(f"id,action,label\n{first.id},forget,\n")
    theirs.mkdir()
    (theirs / "a.txt").write_text("the user's")
    apply = ["apply", f"{tmp_path}/model", str(edits), "--out"]
    for taken in (theirs, tmp_path / "model", edits):
        assert cli.main([*apply, str(taken)]) != 0
    assert (theirs / "a.txt").read_text() == "the user's"
    assert edits.read_text().startswith("id,action")
    assert cli.main([*apply, str(new)]) == 0
    before, after = (len(Carrot.load(where).fitted.records) for where in (tmp_path / "model", new))
    assert after == before - 1, "the model that it was made from stays"


def test_evaluate_writes_into_the_folder_that_is_named(home: Path, tmp_path: Path) -> None:
    words = ["evaluate", f"{home}/model", "--explained", "0", "--refits", "0", "--no-baselines", "--out"]
    assert cli.main([*words, str(tmp_path / "a" / "b")]) == 0
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} >= {"metrics.json", "tables.md", "evaluate.yaml"}
    (tmp_path / "file").write_text("")
    assert cli.main([*words, str(tmp_path / "file" / "b")]) == 1
    (tmp_path / "metrics.json").write_text("mine")
    assert cli.main([*words, str(tmp_path)]) == 1
    assert (tmp_path / "metrics.json").read_text() == "mine"


# ---- names

LONG = ["x" * 240 + ".png", "鸟" * 80 + ".png", "é" * 120 + ".png", "a" * 251 + ".png"]


@pytest.mark.parametrize("name", LONG, ids=["ascii", "cjk", "accents", "the longest"])
def test_pictures_with_long_names_go_all_the_way(home: Path, tmp_path: Path, name: str) -> None:
    root, model = tmp_path / "p", tmp_path / "m"
    shutil.copytree(home / "pictures", root)
    shutil.copy(home / "new.png", root / "jay" / name)
    picture = root / "jay" / name
    assert cli.main(["fit", str(root), "--backbone", "toy", "--lift", "identity", "--out", str(model)]) == 0
    assert cli.main(["predict", str(model), str(picture)]) == 0
    assert cli.main(["explain", str(model), str(picture)]) == 0
    assert len(list((model / "explanations").glob("*.html"))) == 1
    long = picture.with_suffix(".html")
    shutil.move(picture, root / "picture.png")
    if len(os.fsencode(long.name)) <= outputs.NAME_MAX:
        assert cli.main(["explain", str(model), str(root / "picture.png"), "--out", str(long)]) == 0


def test_one_impossible_name_among_many_is_set_aside(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["x" * 300 + ".png", f"{home}/no\x00thing.png", f"{home}/new.png"]
    assert cli.main(["predict", f"{home}/model", *names, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["predictions"]) == 1
    assert len(told["set_aside"]) == 2


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "no\x00thing.png"], ids=["too long", "a zero byte"])
def test_python_refuses_an_impossible_name_as_a_picture(home: Path, name: str) -> None:
    model = Carrot.load(home / "model")
    jay = model.classes_[0]
    for ask in (model.predict, model.explain, lambda given: model.score([given], [jay])):
        with pytest.raises(UnreadableImageError, match="can't be read as a picture"):
            ask(name)
    with pytest.raises(DataError, match="class 'b' has no training picture that can be read"):
        Carrot("toy").fit([str(home / "new.png"), name], ["a", "b"])


def test_cut_names_are_short_different_and_text() -> None:
    for name in ("x" * 300, "鸟" * 100, "e\u0301" * 100):
        short = cut(name, 60)
        assert len(os.fsencode(short)) <= 60
        assert short != cut(name + "y", 60)
    assert cut("short.png", 60) == "short.png"


def test_a_python_users_outputs_are_the_same(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        write_output(tmp_path, b"x")
    with pytest.raises(StoreError, match="is a folder"):
        check_output(tmp_path)
    write_output(tmp_path / "a" / "b.txt", b"x")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"x"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StoreError):
        write_output(tmp_path / "loop", b"x")


# ---- streams


@pytest.fixture(scope="module")
def foreign(home: Path) -> Path:
    """A model of classes and pictures with names that few encodings hold."""
    root = home / "Ä鸟±"
    for name in ("Ä鸟±", "eule"):
        shutil.copytree(home / "pictures" / "jay", root / "pictures" / name, dirs_exist_ok=True)
    shutil.copy(home / "new.png", root / "Ä鸟±.png")
    Carrot("toy", lift="identity", lam=1.0).fit(root / "pictures").save(root / "model")
    return root


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[io.BytesIO, io.BytesIO]]:
    def make(encoding: str) -> tuple[io.BytesIO, io.BytesIO]:
        raw = io.BytesIO(), io.BytesIO()
        for name, stream in zip(("stdout", "stderr"), raw, strict=True):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding=encoding, errors="strict"))
        return raw

    return make


ASKED = {
    "info": ["info", "{0}/model"],
    "predict": ["predict", "{0}/model", "{0}/Ä鸟±.png"],
    "explain": ["explain", "{0}/model", "{0}/Ä鸟±.png"],
    "evaluate": ["evaluate", "{0}/model", "{0}/pictures", "--explained", "0", "--refits", "0", "--no-baselines"],
    "audit": ["audit", "{0}/model", "--no-held-out"],
    "forget": ["forget", "{0}/model", "Ä鸟±/nobody.png"],
    "fit": ["fit", "{0}/nowhere鸟"],
    "help": ["explain", "--help"],
    "bench": ["bench", "{0}/model", "--pictures", "1", "--rounds", "1"],
}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp437"])
@pytest.mark.parametrize("name", ASKED)
def test_any_text_goes_into_any_stream(
    foreign: Path, streams: Callable[[str], tuple[io.BytesIO, io.BytesIO]], name: str, encoding: str
) -> None:
    words = [word.format(foreign) for word in ASKED[name]]
    out, err = streams(encoding)
    status = cli.main(words)
    sys.stdout.flush(), sys.stderr.flush()
    assert status == (1 if name in ("forget", "fit") else 0), err.getvalue()
    assert (err if status else out).getvalue().decode(encoding)
    assert b"codec" not in err.getvalue()
    assert sys.stdout.errors == "strict", "the stream is as it was"
    if name in ("predict", "info", "audit"):
        out, _ = streams(encoding)
        assert cli.main([*words, "--json"]) == 0
        sys.stdout.flush()
        assert "鸟" in json.dumps(json.loads(out.getvalue().decode(encoding)), ensure_ascii=False)


def test_an_output_that_is_closed_or_full_is_no_success(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert cli.main(["info", f"{home}/model"]) == 1
    assert "standard output is closed" in capsys.readouterr().err
    with open("/dev/full", "w") as full:  # the loss shows when the interpreter ends
        ended = subprocess.run(
            [sys.executable, "-m", "carrot", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (ended.returncode, ended.stderr) == (
        1,
        "carrot: standard output can't be written: No space left on device.\n",
    )


def test_a_table_as_csv_keeps_every_digit_and_letter() -> None:
    rows = [{"a": 0.1 + 0.2, "b": 'say "x, y"'}, {"b": "two\nlines é", "a": None}, {"a": np.int64(3), "b": False}]
    assert csv_text(["a", "b"], rows) == ('a,b\n0.30000000000000004,"say ""x, y"""\n,"two\nlines é"\n3,False\n')
    assert csv_text({"a": int}, []) == "a\n"
    with pytest.raises(ValueError, match="'c'"):
        csv_text(["a"], [{"a": 1, "c": 2}])
