"""What costs nothing to know is refused before torch is loaded, in the user's own words."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from carrot import Carrot, cli, lift_from
from carrot._display import extras
from carrot.cli import early
from carrot.cli.options import UsageError, flags_of
from carrot.cli.train import fit, select
from carrot.data import opening
from carrot.data.toy import ToyBirds
from carrot.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
MISTAKES: list[tuple[str, int, str]] = [  # words, status, what is said
    ("predict nowhere new.png", 1, "nowhere: there is no such folder"),
    ("predict pictures new.png", 1, "carrot fit pictures --out MODEL"),
    ("predict new.png model", 1, "The model comes first"),
    ("predict model nowhere.png", 1, "nowhere.png: there is no such file"),
    ("predict model new.png --top 0", 2, "`--top`"),
    ("predict model new.png --training 0", 2, "`--training`"),
    ("predict model new.png --training 2 --sets 0.1", 2, "two questions"),
    ("predict model new.png --csv pictures", 1, "is a folder"),
    ("predict damaged new.png", 1, "config.json: is damaged"),
    ("predict newer new.png", 1, "Upgrade it"),
    ("predict model phone.heic", 1, "HEIC is a format that isn't read"),
    ("predict model/config.json new.png", 1, "config.json: is a file"),
    ("explain new.png model", 1, "The model comes first"),
    ("explain model pictures --target robin", 2, "`--target` goes with one picture"),
    ("explain model pictures --pages -1", 2, "`--pages`"),
    ("explain model pictures --out page.html", 2, "`--out` must be a folder"),
    ("report pictures", 1, "carrot fit pictures"),
    ("report model --out page.pdf", 2, "must end in .html"),
    ("explain model nowhere.png", 1, "nowhere.png: there is no such file"),
    ("explain model new.png --out page.pdf", 2, "must end in .html"),
    ("explain model new.png --out new.png/x.html", 1, "is no folder"),
    ("explain model new.png --training 0", 2, "`--training`"),
    ("explain model new.png --checkpoint nowhere.pth", 2, "`--checkpoint` nowhere.pth"),
    ("what-if nowhere new.png --without a", 1, "nowhere: there is no such folder"),
    ("what-if model nowhere.png --without a", 1, "nowhere.png: there is no such file"),
    ("what-if new.png model --without a", 1, "The model comes first"),
    ("what-if model new.png", 2, "--without, --relabel, --replace or --region"),
    ("what-if model new.png --relabel a", 2, "ID=CLASS"),
    ("what-if model new.png --replace a", 2, "ID=FILE"),
    ("what-if model new.png --region 1,2,3", 2, "`--region`"),
    ("what-if model new.png --without a --checkpoint nowhere.pth", 2, "`--checkpoint` nowhere.pth"),
    *(
        (f"{words} {number}", 2, "whole number; got '1.5'" if number == "1.5" else "whole number; got 'x'")
        for words in (
            *("predict model new.png --top", "explain model new.png --training", "audit model --top"),
            *("evaluate model --explained", "evaluate model --occluded", "evaluate model --refits"),
            *("bench model --pictures", "bench model --rounds", "export model t.csv --influences", "demo --pictures"),
            *("fit pictures --coarsen", "fit pictures --img-size", "select pictures --img-size"),
        )
        for number in ("1.5", "x")
    ),
    ("select pictures --coarsen 1 2.5", 2, "--coarsen: unable to convert"),
    ("evaluate model nowhere", 1, "nowhere"),
    ("evaluate model --explained -1", 2, "`--explained`"),
    ("audit pictures", 1, "carrot fit pictures"),
    ("audit model --duplicates 2", 2, "`--duplicates`"),
    ("export model table.xlsx", 1, "must end in .csv, .parquet or .onnx"),
    ("export model new.png/table.csv", 1, "is no folder"),
    ("forget nowhere a.png", 1, "nowhere: there is no such folder"),
    ("forget model", 2, "Which pictures?"),
    ("relabel nowhere a.png b", 1, "nowhere: there is no such folder"),
    ("add model nowhere.png --label a", 1, "nowhere.png: there is no such file"),
    ("apply model nowhere.csv", 1, "nowhere.csv"),
    ("apply model edits.csv", 1, "edits.csv, line 2: the action must be one of"),
    ("info pictures", 1, "carrot fit pictures"),
    ("bench model --rounds 0", 2, "`--rounds`"),
    ("fit nowhere --backbone toy", 1, "nowhere: there is no such file or folder"),
    ("fit model --backbone toy", 1, "is a model that CARROT saved"),
    ("fit new.png --backbone toy", 1, "one picture"),
    ("fit pictures --backbone toy --lift cubic", 2, "`--lift`"),
    ("fit pictures --backbone toy --lift relu:0", 2, "`--lift`"),
    ("fit pictures --backbone toy --lam -1", 2, "`--lam`"),
    ("fit pictures --backbone toy --t -1", 2, "`--t`"),
    ("fit pictures --backbone toy --crop oval", 2, "crop"),
    ("fit pictures --backbone toy --out pictures/m", 1, "lies in the data set"),
    ("fit pictures --backbone toy --out theirs", 1, "holds other files (notes.txt)"),
    ("fit pictures --backbone toy --readout summ", 2, "`--readout` must be mean or sum; got 'summ'"),
    ("fit pictures --backbone toy --regions tiles:0", 2, "`--regions`"),
    ("fit pictures --backbone toy --regions tiles:2 --power -1", 2, "`--power`"),
    ("fit pictures --backbone toy --global-share 1.5", 2, "`--global-share`"),
    ("fit pictures --backbone toy --tile-size -1", 2, "`--tile-size`"),
    ("fit cub:nowhere --backbone toy", 1, "nowhere"),
    ("select pictures --backbone toy --readout mean summ", 2, "got 'summ'"),
    ("select pictures --backbone toy --passes 0", 2, "`--passes`"),
    ("select pictures --backbone toy --passes nan", 2, "`--passes`"),
    ("select pictures --backbone toy --t 1 -2", 2, "`--t`"),
    ("select pictures --backbone toy --checkpoint nowhere.pth", 2, "`--checkpoint` nowhere.pth"),
    ("train pictures", 2, "train"),
    ("fit pictures --config nowhere.yaml", 2, "nowhere.yaml"),
]
SCRIPT = """
import contextlib, io, json, sys
from carrot import cli
found = []
for words in json.loads(sys.argv[1]):
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        status = cli.main(words.split())
    found.append([status, told.getvalue(), "torch" in sys.modules])
print(json.dumps(found))
"""


def test_mistakes_are_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    birds = ToyBirds(n_train_per_class=3, n_test_per_class=0, n_species=2)
    for index, record in enumerate(birds.records):
        folder = tmp_path / "pictures" / f"c{record.label}"
        folder.mkdir(parents=True, exist_ok=True)
        birds.image(index).save(folder / f"{index}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "new.png")
    Carrot("toy", lift="identity", lam=1.0).fit(tmp_path / "pictures").save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for name, text in (("damaged", "{"), ("newer", json.dumps({**config, "format_version": 99})), ("theirs", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("notes.txt" if text is None else "config.json")).write_text(text or "")
    (tmp_path / "phone.heic").write_bytes(b"")
    (tmp_path / "edits.csv").write_text("id,action,label\na,burn,\n")
    before = sorted(path for path in tmp_path.rglob("*"))
    words = json.dumps([mistake[0] for mistake in MISTAKES])
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, words],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for (line, status, message), (got, told, loaded) in zip(MISTAKES, json.loads(ended.stdout), strict=True):
        assert (got, loaded) == (status, False), f"{line}: {told}"
        assert message in told, f"{line}: {told}"
        assert told.count("carrot: ") == 1
    assert sorted(path for path in tmp_path.rglob("*")) == before, "a refusal leaves nothing behind"


WRONG: dict[str, tuple[str, ...]] = {  # flags by name: values that are wrong whatever the pictures are
    "backbone": ("no_such_model", "resnet18"),
    "checkpoint": ("nowhere.pth", "here.pth"),
    "img_size": ("0", "161"),
    "crop": ("oval",),
    "device": ("banana",),
    "dtype": ("float8",),
    "precision": ("float8",),
    "lift": ("cubic", "identity:3"),
    "tau": ("-1", "nan", "0.5 --regions tiles:2"),
    "sigma_spatial": ("0", "inf"),
    "sigma_feature": ("0", "nan"),
    "t": ("-1", "nan"),
    "global_share": ("1.5", "-0.1"),
    "coarsen": ("0", "3", "2 --regions tiles:2"),
    "regions": ("tiles:0", "squares", "nowhere.json", "tiles:40", "boxes:0,0,2,1"),
    "power": ("-1", "inf"),
    "readout": ("summ",),
    "tile_size": ("-1", "8 --regions tiles:2"),
    "lam": ("0", "much"),
    "class_weight": ("heavy",),
    "passes": ("0", "-1", "inf", "0.5", "3.9 --regions tiles:2"),
    "out": ("theirs", "pictures/model"),
    "engine": ("dask",),
    "address": ("auto",),  # and no engine
    "workers": ("2", "0 --engine ray", "1.5 --engine ray"),
}
ELSEWHERE = {
    "compile",
    "data",
    "again",
    "overwrite",
    "strict",
    "verbose",
    "json",
}  # judged by their own tests, or never wrong


@pytest.fixture
def unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that takes long to list, say: who opens it fails."""
    for name in ("pictures", "theirs"):
        (tmp_path / name).mkdir()
    (tmp_path / "theirs" / "notes.txt").write_text("")
    (tmp_path / "here.pth").write_bytes(b"no weights")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "_open_path", lambda path, _: pytest.fail(f"opened {path}"))


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("command", [fit, select])
def test_what_is_wrong_whatever_the_pictures_are_is_refused_before_they_are_opened(
    command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, before = flags_of(command), sorted(tmp_path.rglob("*"))
    assert own <= WRONG.keys() | ELSEWHERE, "every flag is judged"
    for name in sorted(own & WRONG.keys()):
        for value in WRONG[name]:
            toy = [] if name == "backbone" else ["--backbone", "toy"]
            words = [command.__name__, "pictures", *toy, f"--{name.replace('_', '-')}", *value.split()]
            status, told = cli.main(words), capsys.readouterr().err
            assert status in (1, 2), words
            assert "Traceback" not in told
            assert told.count("carrot: ") == 1, told
    assert sorted(tmp_path.rglob("*")) == before, "a refusal leaves nothing behind"
    with pytest.raises(pytest.fail.Exception, match="opened"):
        cli.main([command.__name__, "pictures", "--backbone", "toy"])


@pytest.mark.usefixtures("unread", "as_user")
def test_so_it_is_in_python() -> None:
    with pytest.raises(ValueError, match="divide the grid"):
        Carrot("toy", coarsen=3).fit("pictures")
    for grid, passes, words in (
        ({}, 0.5, "leaves nothing"),
        ({}, 0.0, "`passes`"),
        ({"lft": ["identity"]}, None, "got 'lft'"),
        ({"regions": ["tiles:2"], "coarsen": [2]}, None, "`coarsen` means something to patches alone"),
        ({"t": [-1.0]}, None, "`t`"),
    ):
        with pytest.raises(ValueError, match=words):
            Carrot("toy").select("pictures", grid=grid, passes=passes)
    for ask in (Carrot("no_such_model").fit, Carrot("no_such_model").select):
        with pytest.raises(DataError, match="nowhere: there is no such file"):
            ask("nowhere")  # a name costs less than a backbone


@pytest.mark.parametrize(
    "word",
    [
        "identity",
        "quadratic",
        "relu",
        "relu:64",
        "fourier:8",
        "sketch:1",
        "cubic",
        "relu:",
        "quadratic:3",
        "relu:x",
        "relu:0",
        "relu:08",
        "Identity",
    ],
)
def test_the_early_words_are_those_of_the_lifts(word: str) -> None:
    try:
        lift_from(word)
        right = True
    except ValueError:
        right = False
    with nullcontext() if right else pytest.raises(UsageError, match="lift"):
        early.need_words({"lift": word})


def test_packages_are_looked_for_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    for kind, packages in ((".parquet", "pyarrow"), (".onnx", "onnx onnxscript onnxruntime")):
        with pytest.raises(early.UsageError, match=f"pip install {packages}"):
            early.need_packages(kind)
    early.need_packages(".csv")
