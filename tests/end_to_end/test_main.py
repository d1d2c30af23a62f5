"""``main.py`` as a user runs it: the toy birds, a folder of pictures, mistakes."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import main
from carrot import DataError, lift_from
from carrot.data import open_dataset
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from tests.conftest import RealFiles

pytestmark = pytest.mark.usefixtures("surveyed_once")

ROOT = Path(__file__).resolve().parents[2]
FEW = ["--sigma-spatial", "0.5", "--sigma-feature", "1.0", "--times", "2.0"]
EMBEDDED = ["--backbone", EMBEDDED_MODEL, "--checkpoint", str(embedded_checkpoint())]


def residuals(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"residual ([-+.e\d]+)", text)]


def few_birds() -> ToyBirds:
    return ToyBirds(n_train_per_class=10, n_test_per_class=4, n_species=6)


def folder_of_birds(root: Path, n: int = 6) -> Path:
    birds = ToyBirds(n_train_per_class=n, n_test_per_class=1, n_species=3)
    for index, record in enumerate(birds.records):
        folder = root / birds.classes[record.label]
        folder.mkdir(parents=True, exist_ok=True)
        birds.image(index).resize((200, 240)).save(folder / f"{index}.png")
    return root


def test_toy_birds_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(main, "ToyBirds", few_birds)
    main.main(["--out", str(tmp_path), "--store", "all", *FEW])
    text = capsys.readouterr().out
    found = residuals(text)
    assert len(found) == 6, "four sums, the pairs, and one refit"
    assert max(map(abs, found)) < 1e-10  # float64 from the tokens on
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    trained, untrained = metrics["CARROT"], metrics["untrained backbone"]
    assert trained["top1"] > untrained["top1"] + 0.3
    assert metrics["mean pooling (t = 0)"]["t"] == 0.0
    counts = metrics["counts"]
    assert (counts["used"], counts["set_aside"]) == (trained["n"], 0)
    assert counts["pictures"] == counts["used"] + counts["left_out"]["for training, by the split"]
    with Image.open(tmp_path / "explanation.png") as figure:
        assert min(figure.size) > 300
    head = load_file(tmp_path / "head.safetensors")
    M = {"identity": 64, "quadratic": 64 * 65 // 2}[trained["lift"]]
    assert {k: tuple(v.shape) for k, v in head.items()} == {"W_star": (M, 6), "bias": (6,), "alpha": (60, 6)}
    guide, mean = metrics["identity, diffused"], metrics["mean pooling (t = 0)"]
    assert guide["lift"] == mean["lift"] == "identity"
    assert guide["loo_mse"] <= mean["loo_mse"]
    assert trained["loo_mse"] <= mean["loo_mse"]
    stored = sorted((tmp_path / "pictures").glob("*.safetensors"))
    assert len(stored) == 84
    with safe_open(stored[0], "pt") as file:
        assert file.metadata() == {"id": "toy/train/0000/0000"}
    o = load_file(stored[0])
    assert set(o) == {"H", "P", "W", "L", "r", "pi", "H_prime", "g"}
    # what is stored is the theory: g two ways, from the file alone
    heat = torch.linalg.matrix_exp(-trained["t"] * o["L"])
    torch.testing.assert_close(heat @ o["H"], o["H_prime"], rtol=0, atol=1e-10)
    torch.testing.assert_close(heat @ o["r"], o["pi"], rtol=0, atol=1e-12)
    torch.testing.assert_close(lift_from(trained["lift"]).embed(o["H"], o["pi"]), o["g"], rtol=0, atol=1e-9)


def test_the_guides_identity_and_a_global_region_are_one_argument_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder_of_birds(tmp_path / "birds")
    base = ["--data", str(data), *EMBEDDED, "--out", str(tmp_path / "out"), *FEW]
    main.main([*base, "--lift", "identity", "--tau", "0"])
    guide = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert guide["CARROT"] == guide["identity, diffused"]
    capsys.readouterr()
    main.main([*base, "--lift", "quadratic", "relu:100", "--global-share", "0.3"])
    told = capsys.readouterr().out
    assert max(map(abs, residuals(told))) < 1e-10
    assert "class token, a global region" in told
    shared = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert shared["CARROT"]["global_share"] == 0.3
    assert shared["identity, diffused"] == guide["identity, diffused"]


def test_a_folder_of_class_folders_and_a_second_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder_of_birds(tmp_path / "birds")
    arguments = ["--data", str(data), *EMBEDDED, "--out", str(tmp_path / "out"), *FEW]
    main.main(arguments)
    first = capsys.readouterr().out
    shards = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "tokens").glob("*.safetensors")}
    main.main([*arguments, "--explain", first.split(", labelled")[0].splitlines()[-1]])
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "tokens").glob("*.safetensors")} == shards
    assert capsys.readouterr().out.split("top-1")[1] == first.split("top-1")[1]
    assert max(map(abs, residuals(first))) < 1e-10


def test_a_broken_picture_is_reported_and_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder_of_birds(tmp_path / "birds")
    broken = sorted(data.rglob("*.png"))[2]
    broken.write_bytes(broken.read_bytes()[:500])
    main.main(["--data", str(data), *EMBEDDED, "--out", str(tmp_path / "out"), *FEW])
    told = capsys.readouterr()
    assert "1 set aside" in told.out
    assert broken.name in told.err


@pytest.mark.parametrize("which", ["test", "a class"])
def test_nothing_readable_is_said_by_name(which: str, tmp_path: Path) -> None:
    data = folder_of_birds(tmp_path / "birds")
    last = len(open_dataset(data).classes) - 1
    for record in open_dataset(data).records:
        if record.split == "test" if which == "test" else record.label == last:
            assert record.path is not None
            record.path.write_bytes(b"no picture")
    words = "has no test picture" if which == "test" else open_dataset(data).classes[last]
    with pytest.raises(DataError, match=words):
        main.main(["--data", str(data), *EMBEDDED, "--out", str(tmp_path / "out"), *FEW])


@pytest.mark.parametrize(
    "arguments",
    [["--lift", "bogus"], ["--tau", "-1"], ["--sigma-spatial", "0"], ["--times", "-1"], ["--explain", "nope"]],
)
def test_mistakes_are_found_before_a_picture_is_embedded(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "ToyBirds", few_birds)
    monkeypatch.setattr(main.TokenCache, "of", lambda *_: pytest.fail("embedded"))
    with pytest.raises(ValueError, match=r"`(lift|tau|sigma_spatial|t|--explain)`"):
        main.main(["--out", str(tmp_path), *arguments])


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--backbone", "resnet18"], "resnet18"),
        (["--backbone", "vit_tiny_patch17_224"], "vit_tiny_patch1"),
        (["--checkpoint", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--img-size", "161"], "161"),
        (["--explain", "toy/test/9999/0000", *FEW], "--explain"),
        (["--lift", "cubic"], "quadratic"),
        (["--global-share", "1.5"], "global_share"),
        (["--backbone", "test_vit2", "--checkpoint", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_mistakes_end_in_one_line_without_a_traceback(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text that a script exits with is printed to standard error, with status 1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("carrot.data.toy.ToyBirds", few_birds)
    monkeypatch.setattr(sys, "argv", ["main.py", "--out", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
    assert isinstance(ended.value.code, str)
    assert ended.value.code.startswith("carrot: ")
    assert words in ended.value.code.splitlines()[-1]


def test_a_mistake_in_a_fresh_interpreter(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "main.py"), "--out", str(tmp_path), "--data", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "nowhere" in done.stderr.splitlines()[-1]


def test_the_minimal_example_checks_itself(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "minimal.py"), run_name="__main__")
    assert capsys.readouterr().out.count("brute force") == 4


@pytest.mark.slow
def test_cub_with_a_pretrained_vit(real: RealFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ViT-Tiny, 100 species, the model's own crop: mean pooling and lifted regions, within two standard errors (.0064, .0040)."""
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    weights = str(real.weights / name / "model.safetensors")
    arguments = ["--data", str(real.data / "cub100"), "--backbone", name, "--checkpoint", weights]
    main.main([*arguments, "--out", str(tmp_path), *FEW])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["mean pooling (t = 0)"]["top1"] == pytest.approx(0.869, abs=0.013)
    assert metrics["CARROT"]["top1"] == pytest.approx(0.953, abs=0.008)
    assert metrics["CARROT"]["n"] == 2903
    assert max(map(abs, residuals(capsys.readouterr().out))) < 1e-10
