"""``carrot extract`` and ``carrot merge`` as a user has them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from carrot import Carrot, StoreError, cli
from carrot.data.toy import ToyBirds

pytestmark = pytest.mark.usefixtures("surveyed_once")

FLAGS = ("--backbone", "toy", "--lift", "identity", "--shard-size", "32")


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 pictures to fit on, in three shards, one of which can't be read."""
    root = tmp_path_factory.mktemp("home") / "birds"
    drawn = ToyBirds(n_train_per_class=35, n_test_per_class=1, n_species=2)
    for index, record in enumerate(drawn.records):
        path = root / record.split / "ab"[record.label] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.image(index).resize((32, 32)).save(path)
    (root / "train/b/66.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command; return its status, what it printed and what it said."""

    def run(*words: object) -> tuple[int, str, str]:
        status = cli.main([str(word) for word in words])
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


def test_parts_in_a_folder_and_at_an_address_make_the_model_of_fit(birds: Path, tmp_path: Path, told: Any) -> None:
    pytest.importorskip("fsspec")
    bucket = f"memory://key:secret@{tmp_path.name}"
    status, out, err = told("extract", birds, "--out", tmp_path / "one", "--shard", "1/2", *FLAGS)
    assert (status, out.splitlines()) == (
        0,
        [
            "part 1 of 2: 2 shards of 3, 38 pictures: 2 computed",
            f"1 of 3 shards is not in {tmp_path / 'one'}: other parts compute it",
        ],
    )
    assert "66.png" in err
    assert told("merge", tmp_path / "one", "--out", tmp_path / "m")[::2] == (
        1,
        "carrot: 1 of 3 shards is missing (1): computed by the same carrot extract with --shard 2/2.\n",
    )
    assert not (tmp_path / "m").exists()
    status, out, err = told("extract", birds, "--out", bucket, "--shard", "2/2", *FLAGS)
    assert (status, f"2 of 3 shards are not in memory://{tmp_path.name}:" in out, "secret" in out + err) == (0, True, 0)
    status, out, err = told("merge", bucket, bucket, tmp_path / "one", "--out", tmp_path / "m", "--json")
    found = json.loads(out)
    assert "secret" not in out + err
    assert not [path for path in (tmp_path / "m").iterdir() if b"secret" in path.read_bytes()]
    assert (status, found["shards"], found["twice"], list(found["set_aside"])) == (0, 3, {}, ["train/b/66.png"])
    assert told("fit", birds, "--out", tmp_path / "f", "--backbone", "toy", "--lift", "identity")[0] == 0
    merged, fitted = ({p.name: p.read_bytes() for p in (tmp_path / x).iterdir() if p.is_file()} for x in "mf")
    merged.pop("merge.yaml"), fitted.pop("fit.yaml")
    m, f = (json.loads(files.pop("config.json")) for files in (merged, fitted))
    assert merged == fitted, "tensors and records"
    assert {name for name in f if m[name] != f[name]} == {"tokens", "checksum"}
    status, out, _ = told("predict", tmp_path / "m", birds / "train/a/00.png")
    assert (status, "a" in out) == (0, True)


def test_a_second_run_says_what_was_there_and_strict_ends_with_3(birds: Path, tmp_path: Path, told: Any) -> None:
    assert told("extract", birds, "--out", tmp_path / "x", *FLAGS, "--strict")[0] == 3
    status, out, _ = told("extract", birds, "--out", tmp_path / "x", *FLAGS, "--json")
    found = json.loads(out)
    assert status == 0
    assert {name: found[name] for name in ("made", "found", "again", "missing", "pictures")} == {
        "made": [],
        "found": [0, 1, 2],
        "again": [],
        "missing": [],
        "pictures": 70,
    }
    assert told("extract", birds, "--out", tmp_path / "x", *FLAGS)[1].splitlines() == [
        "3 shards of 3, 70 pictures: 3 there already",
        f"all 3 shards are there: carrot merge {tmp_path / 'x'} --out MODEL",
    ]
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    status, _, err = told("merge", tmp_path / "x", tmp_path / "y", "--out", tmp_path / "m", "--strict")
    assert status == 3
    assert f"shard 0 lies in {tmp_path / 'x'} and {tmp_path / 'y'}, with the same content: it counts once" in err
    assert (
        "holds a model already. Give another --out, or --overwrite"
        in told("merge", tmp_path / "x", "--out", tmp_path / "m")[2]
    )
    assert told("merge", tmp_path / "x", "--out", tmp_path / "m", "--overwrite", "--lam", "3")[0] == 0
    assert json.loads((tmp_path / "m" / "config.json").read_bytes())["ridge"]["lam"] == 3.0


@pytest.mark.parametrize(
    ("words", "status", "match"),
    [
        ("--shard 0/8", 2, "`--shard` must be i/n with i from 1 to n, 3/8 say; got '0/8'. In a job array of SLURM"),
        ("--shard 9/8", 2, "`--shard` must be"),
        ("--shard eight", 2, "`--shard` must be"),
        ("--shard-size 0", 2, "`--shard-size` must be at least 1; got 0"),
        ("--shard-size 40", 1, "`--shard-size` must be a multiple of 32, the pictures of a pass"),
        ("--rows float8", 2, "float8"),
        ("--lift cubic", 2, "`--lift` must be one of"),
        ("--t -1", 2, "`--t` must be a finite number >= 0"),
        ("--checkpoint nowhere.pth", 2, "there is no such file"),
    ],
)
def test_what_is_wrong_is_refused_and_leaves_nothing(
    words: str, status: int, match: str, birds: Path, tmp_path: Path, told: Any
) -> None:
    found = told("extract", birds, "--out", tmp_path / "x", "--backbone", "toy", *words.split())
    assert (found[0], match in found[2]) == (status, True), found
    assert not (tmp_path / "x").exists()


def test_places_that_are_others_are_refused(birds: Path, tmp_path: Path, told: Any) -> None:
    assert "lies in the data set" in told("extract", birds, "--out", birds / "shards", *FLAGS)[2]
    assert told("extract", birds, "--out", tmp_path / ".shards", *FLAGS)[0] == 0
    for place in (birds / "model", birds / "train" / "model"):
        assert "lies in the data set" in told("merge", tmp_path / ".shards", "--out", place)[2]
        assert not place.exists()
    (tmp_path / "notes.txt").write_text("")
    assert "holds other files (notes.txt)" in told("extract", birds, "--out", tmp_path, *FLAGS)[2]
    assert "holds other files (notes.txt)" in told("merge", tmp_path / "x", "--out", tmp_path)[2]
    said = told("merge", tmp_path / "nowhere", "--out", tmp_path / "m")[2]
    assert f"{tmp_path / 'nowhere'}: holds nothing that carrot extract wrote. Give a folder that it did." in said
    told("extract", birds, "--out", tmp_path / "x", *FLAGS)
    said = told("extract", birds, "--out", tmp_path / "x", *FLAGS, "--regions", "tiles:2", "--t", 1)[2]
    assert "settings.embedding.t: 0.0 there, 1.0 here" in said
    assert not re.search("[0-9a-f]{64}", said), "the beginning of a hash tells as much"
    assert not (tmp_path / "m").exists()


def test_python_has_extract_and_merge_too(birds: Path, tmp_path: Path, told: Any) -> None:
    asked = Carrot("toy", lift="identity")
    first = asked.extract(birds, tmp_path / "x", part=(1, 2), shard_size=32)
    assert (first.own, first.missing, first.of("made")) == ((0, 2), (1,), [0, 2])
    with pytest.raises(StoreError, match="1 of 3 shards is missing"):
        Carrot.merge(tmp_path / "x")
    second = asked.extract(birds, tmp_path / "y", part=(2, 2), shard_size=32)
    assert list({**first.errors, **second.errors}) == ["train/b/66.png"]
    merged, fitted = Carrot.merge(tmp_path / "y", tmp_path / "x"), Carrot("toy", lift="identity").fit(birds)
    assert merged.sha256 == fitted.sha256
    assert merged.set_aside_ == fitted.set_aside_
    assert merged.explain(next(birds.glob("test/a/*.png"))).target == "a"
    shown = merged.classifier.find(merged.records_[0])
    assert isinstance(shown, Image.Image), "it finds its training pictures"
    merged.save(tmp_path / "m")
    _, out, _ = told("merge", tmp_path / "x", tmp_path / "y", "--out", tmp_path / "n")
    assert out.splitlines()[-1] == f"model: {tmp_path / 'n'} (state {merged.sha256[:12]})"
    assert Carrot.load(tmp_path / "m").sha256 == Carrot.load(tmp_path / "n").sha256 == merged.sha256
    with pytest.raises(ValueError, match=r"`part` must be \(i, n\) with i from 1 to n; got \(3, 2\)"):
        asked.extract(birds, tmp_path / "z", part=(3, 2))
    assert not (tmp_path / "z").exists()
    with pytest.raises(ValueError, match="at least one folder"):
        Carrot.merge()
