"""``main.py`` as a user runs it: toy birds, a folder, an interruption, mistakes. What it stores is held to theory."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import main
from carrot import BackboneError, Carrot, DataError, StoreError, lift_from
from carrot.data import open_dataset, split_indices
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from tests.conftest import RealFiles

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ["--backbone", EMBEDDED_MODEL, "--checkpoint", str(embedded_checkpoint())]


def residuals(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"residual ([-+.e\d]+)", text)]


def folder_of_birds(root: Path, n: int = 6) -> Path:
    birds = ToyBirds(n_train_per_class=n, n_test_per_class=1, n_species=3)
    for index, record in enumerate(birds.records):
        folder = root / birds.classes[record.label]
        folder.mkdir(parents=True, exist_ok=True)
        birds.image(index).resize((200, 240)).save(folder / f"{index}.png")
    return root


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "embeddings").glob("*.safetensors"))}


@pytest.fixture
def few_birds(monkeypatch: pytest.MonkeyPatch) -> ToyBirds:
    """Make the toy birds few."""
    birds = ToyBirds(n_train_per_class=8, n_test_per_class=2, n_species=4)
    monkeypatch.setattr(main, "open_dataset", lambda data: birds if data == "toy" else open_dataset(data))
    return birds


def test_what_is_stored_of_the_toy_birds_is_the_theory(
    few_birds: ToyBirds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["--out", str(tmp_path), "--store", "all"])
    found = residuals(capsys.readouterr().out)
    assert len(found) == 6, "four sums, the pairs, and one refit"
    assert max(map(abs, found)) < 1e-10  # float64 from the tokens on

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    setting = {"regions": "patches", "power": 0.0, "lift": "identity", "sigma_spatial": 0.5, "sigma_feature": 1.0}
    setting |= {"t": 2.0}
    assert metrics["setting"] == setting | {"backbone": metrics["setting"]["backbone"]}
    counts = metrics["counts"]
    assert (counts["used"], counts["set_aside"]) == (metrics["test"]["n"], 0)
    assert counts["pictures"] == counts["used"] + counts["left_out"]["for training, by the split"]

    stored = sorted((tmp_path / "pictures").glob("*.safetensors"))
    assert len(stored) == 40
    with safe_open(stored[0], "pt") as file:
        assert file.metadata() == {"id": "toy/train/0000/0000"}
    o = load_file(stored[0])
    assert set(o) == {"H", "P", "W", "L", "r", "pi", "H_prime", "g"}
    heat, degree = torch.linalg.matrix_exp(-2.0 * o["L"]), o["W"].sum(dim=1)
    torch.testing.assert_close(o["L"], torch.eye(100).double() - o["W"] / (degree.outer(degree)).sqrt())
    torch.testing.assert_close(heat @ o["H"], o["H_prime"], rtol=0, atol=1e-10)
    torch.testing.assert_close(heat @ o["r"], o["pi"], rtol=0, atol=1e-12)
    torch.testing.assert_close(o["H_prime"].mean(dim=0), o["g"], rtol=0, atol=1e-12)
    torch.testing.assert_close(o["H"].mT @ o["pi"], o["g"], rtol=0, atol=1e-10)  # the collapsed path

    G = torch.stack([load_file(path)["g"] for path in stored])
    torch.testing.assert_close(torch.cat([load_file(tmp_path / "embeddings" / n)["g"] for n in shards(tmp_path)]), G)
    train, test = (split_indices(few_birds, split) for split in ("train", "test"))
    y = torch.tensor([record.label for record in few_birds.records])
    head, Y = load_file(tmp_path / "head.safetensors"), torch.nn.functional.one_hot(y[train]).double()
    A, B = G[train] - G[train].mean(dim=0), Y - Y.mean(dim=0)
    W_star = torch.linalg.solve(A.mT @ A + metrics["lam"] * torch.eye(64).double(), A.mT @ B)
    bias = Y.mean(dim=0) - G[train].mean(dim=0) @ W_star
    torch.testing.assert_close(head["W_star"], W_star)
    torch.testing.assert_close(head["bias"], bias)
    torch.testing.assert_close(A.mT @ head["alpha"], W_star)
    right = (G[test] @ W_star + bias).argmax(dim=1) == y[test]
    assert metrics["test"]["top1"] == float(right.double().mean())
    assert metrics["leave-one-out"]["n"] == len(train)


def test_a_lift_pools_what_the_identity_pools(
    few_birds: ToyBirds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(
        [
            "--out",
            str(tmp_path),
            "--lift",
            "quadratic",
            "--lam",
            "100",
            "--t",
            "0",
            "--explain",
            few_birds.records[3].id,
        ]
    )
    assert max(map(abs, residuals(capsys.readouterr().out))) < 1e-10
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["lam"] == 100.0
    (stored,) = (tmp_path / "pictures").iterdir()
    o = load_file(stored)
    assert stored.name == "000003.safetensors"
    torch.testing.assert_close(o["pi"], o["r"])  # t = 0: no diffusion
    torch.testing.assert_close(lift_from("quadratic").embed(o["H"], o["pi"]), o["g"])
    assert load_file(tmp_path / "head.safetensors")["W_star"].shape == (64 * 65 // 2, 4)


@pytest.mark.parametrize(
    "settings",
    [
        {"regions": "patches", "power": 2.0, "t": 2.0, "lift": "quadratic"},
        {"regions": "tiles:2", "power": 8.0, "t": 0.0, "lift": "quadratic"},
        {"regions": "tiles:1,2@0", "power": 4.0, "t": 2.0, "lift": "identity"},
    ],
    ids=str,
)
def test_the_guides_numbers_are_the_models(
    settings: dict, few_birds: ToyBirds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both compute in float64 from features on; these differ by the backbone's float32 rounding in another batch."""
    main.main(["--out", str(tmp_path), *(f"--{name}={value}" for name, value in settings.items())])
    assert max(map(abs, residuals(capsys.readouterr().out))) < 1e-10
    model = Carrot("toy", device="cpu", dtype="float32", tau=0.0, **settings).fit(few_birds)
    metrics, head = json.loads((tmp_path / "metrics.json").read_text()), load_file(tmp_path / "head.safetensors")
    assert metrics["setting"] == {**metrics["setting"], **settings}
    train, test = (split_indices(few_birds, split) for split in ("train", "test"))
    G = torch.cat([load_file(tmp_path / "embeddings" / name)["g"] for name in shards(tmp_path)])
    close = {"rtol": 0, "atol": 1e-4 * float(model.head_.G.abs().max())}  # |h|^p takes rounding p-fold
    torch.testing.assert_close(G[train], model.head_.G, **close)
    assert metrics["lam"] == pytest.approx(model.head_.lam, rel=1e-3)
    logits = torch.from_numpy(model.decision_function([few_birds.image(i) for i in test]))
    torch.testing.assert_close(G[test] @ head["W_star"] + head["bias"], logits, rtol=0, atol=1e-4)
    (stored,) = (tmp_path / "pictures").iterdir()
    o, trace = load_file(stored), model.trace(few_birds.image(test[0])).tensors()
    for name in ("P", "W", "L", "r", "pi"):
        torch.testing.assert_close(o[name], trace[name], rtol=0, atol=1e-5)


def test_a_second_run_embeds_nothing_and_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data", str(folder_of_birds(tmp_path / "birds")), *EMBEDDED, "--out", str(tmp_path / "out")]
    main.main(arguments)
    first, before = capsys.readouterr().out, shards(tmp_path / "out")
    assert max(map(abs, residuals(first))) < 1e-10
    calls = count_calls(monkeypatch)
    main.main(arguments)
    assert capsys.readouterr().out == first
    assert calls == [3], "the explained picture, to store and to explain, and the training picture that it owes most"
    assert shards(tmp_path / "out") == before


@pytest.mark.usefixtures("few_birds")
def test_another_setting_is_refused_and_not_mixed(tmp_path: Path) -> None:
    main.main(["--out", str(tmp_path)])
    for other in (
        ["--t", "1"],
        ["--lift", "relu:32"],
        ["--sigma-spatial", "1"],
        ["--crop", "border"],
        ["--regions", "tiles:1"],
    ):
        with pytest.raises(StoreError, match="holds embeddings of other settings"):
            main.main(["--out", str(tmp_path), *other])
    main.main(["--out", str(tmp_path), "--lam", "2"])  # the penalty is the head's, and moves no embedding


def count_calls(monkeypatch: pytest.MonkeyPatch, most: float = float("inf")) -> list[int]:
    """Count the pictures that go through the pipeline, and be interrupted after ``most``."""
    original: Callable[..., main.Trace] = main.pipeline
    calls = [0]

    def counted(*arguments: object) -> main.Trace:
        if calls[0] >= most:
            raise KeyboardInterrupt
        calls[0] += 1
        return original(*arguments)

    monkeypatch.setattr(main, "pipeline", counted)
    return calls


@pytest.mark.usefixtures("few_birds")
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["--out", str(tmp_path / "unbroken")])
    expected = capsys.readouterr().out.replace("unbroken", "broken")
    with monkeypatch.context() as patch:
        count_calls(patch, most=35)
        with pytest.raises(KeyboardInterrupt):
            main.main(["--out", str(tmp_path / "broken")])
    assert len(shards(tmp_path / "broken")) == 1  # of 32 pictures; there are 40
    calls = count_calls(monkeypatch)
    main.main(["--out", str(tmp_path / "broken")])
    assert calls == [40 - 32 + 3]
    assert capsys.readouterr().out == expected
    for name in ("head.safetensors", "metrics.json", "pictures/000032.safetensors"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
    assert shards(tmp_path / "broken") == shards(tmp_path / "unbroken")


def test_a_broken_picture_is_set_aside_by_name_in_every_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder_of_birds(tmp_path / "birds")
    broken = sorted(data.rglob("*.png"))[2]
    broken.write_bytes(broken.read_bytes()[:500])
    arguments = ["--data", str(data), *EMBEDDED, "--out", str(tmp_path / "out")]
    for _ in range(2):
        main.main(arguments)
        told = capsys.readouterr()
        assert "1 set aside" in told.out
        assert broken.name in told.err
    with pytest.raises(DataError, match=broken.name):
        main.main([*arguments, "--explain", broken.relative_to(data).as_posix()])


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
        main.main(["--data", str(data), *EMBEDDED, "--out", str(tmp_path / "out")])


MISTAKES: list[tuple[list[str], type[Exception], str]] = [  # whatever the pictures are
    (["--backbone", "resnet18"], BackboneError, "resnet18"),
    (["--backbone", "vit_tiny_patch17_224"], BackboneError, "vit_tiny_patch1"),
    (["--backbone", "test_vit2", "--checkpoint", "nowhere.pth"], BackboneError, "nowhere.pth"),
    (["--checkpoint", "nowhere.safetensors"], BackboneError, "nowhere.safetensors"),
    (["--img-size", "161"], BackboneError, "161"),
    (["--lift", "cubic"], ValueError, "quadratic"),
    (["--regions", "tiles:0"], ValueError, "`regions`"),
    (["--regions", "tiles:2", "--power", "-1"], ValueError, ">= 0"),
    (["--sigma-spatial", "0"], ValueError, "`sigma_spatial`"),
    (["--sigma-feature", "nan"], ValueError, "`sigma_feature`"),
    (["--t", "-1"], ValueError, "`t`"),
    (["--lam", "0"], ValueError, "`lam`"),
    (["--device", "abacus"], ValueError, "`device`"),
]


@pytest.mark.parametrize(("arguments", "kind", "words"), MISTAKES)
def test_mistakes_are_found_before_the_data_set_is_opened(
    arguments: list[str], kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "open_dataset", lambda _: pytest.fail("opened"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=words):
        main.main(arguments)
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_every_flag_has_its_mistake() -> None:
    judged = {word for arguments, *_ in MISTAKES for word in arguments if word.startswith("--")}
    flags = {f"--{name.replace('_', '-')}" for name in vars(main.arguments([]))}
    words = {"--crop", "--store"}  # argparse has their list
    assert flags - judged - words == {"--data", "--explain", "--out"}


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["--data", "nowhere"], DataError, "nowhere"),
        (["--explain", "toy/test/9999/0000"], ValueError, "`--explain`"),
    ],
)
@pytest.mark.usefixtures("few_birds")
def test_mistakes_are_found_before_a_picture_is_embedded(
    arguments: list[str], kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "embed_dataset", lambda *_, **__: pytest.fail("embedded"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=words):
        main.main(arguments)
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_mistake_in_a_fresh_interpreter_ends_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "main.py"), "--data", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("carrot: nowhere: ")
    assert done.stderr.count("\n") == 1


def test_a_wrong_kind_of_value_is_refused_by_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["--lam", "much"])
    assert ended.value.code == 2
    assert "--lam" in capsys.readouterr().err.splitlines()[-1]


def test_the_minimal_example_checks_itself(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "minimal.py"), run_name="__main__")
    assert capsys.readouterr().out.count("brute force") == 4


@pytest.mark.slow
@pytest.mark.parametrize(("t", "top1", "loo"), [(0, 0.869, 0.845), (8, 0.872, 0.848)])
def test_cub_with_a_pretrained_vit(t: float, top1: float, loo: float, real: RealFiles, tmp_path: Path) -> None:
    """ViT-Tiny, 100 species, the model's own crop: the rows "mean" and "identity, diffused" of docs/accuracy.md."""
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    weights = str(real.weights / name / "model.safetensors")
    arguments = ["--data", str(real.data / "cub100"), "--backbone", name, "--checkpoint", weights]
    main.main([*arguments, "--t", str(t), "--out", str(tmp_path)])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test"]["n"] == 2903
    assert metrics["test"]["top1"] == pytest.approx(top1, abs=0.001)
    assert metrics["leave-one-out"]["top1"] == pytest.approx(loo, abs=0.001)
