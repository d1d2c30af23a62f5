"""Killed at any moment, a model is the old one or the new one, and work goes on to the same bytes as if nothing had
happened.

The victims are forked from a server that has imported what they need, so that a kill at a random moment falls into the
work.
"""

import hashlib
import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from carrot import Carrot
from carrot.data.toy import ToyBirds

KILLS = 6  # of each kind
N_TRAIN, SPECIES = 24, 4
GONE = "train/b/3.png"


def fit(root: str) -> None:
    torch.set_num_threads(1)
    model = Path(root) / "model"
    Carrot("toy", lift="identity", t=1.0).fit(Path(root).parent / "birds", tokens=model / "tokens").save(model)


def forget(root: str) -> None:
    torch.set_num_threads(1)
    model = Carrot.load(Path(root) / "model")
    if any(record.id == GONE for record in model.records_):
        model.forget(GONE, verify=False)
        model.save(Path(root) / "model")


def save_by_turns(root: str) -> None:
    """Save two models over each other, for ever; say when it has begun."""
    torch.set_num_threads(1)
    models = [Carrot.load(Path(root) / name) for name in ("a", "b")]
    for turn in range(100_000):
        models[turn % 2].save(Path(root) / "model", overwrite=True)
        if turn == 0:
            (Path(root) / "begun").touch()


def content(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the model's own files and of its tokens."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix in (".json", ".jsonl", ".safetensors")]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def run() -> Callable[..., float | None]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["carrot.classifier.selecting", "timm", "scipy.optimize", "pytest"])

    def start(
        work: Callable[[str], None], root: Path, kill_after: float | None = None, begun: Path | None = None
    ) -> float | None:
        """Run ``work``; return the seconds that it took, or None if it was killed, so long after it began."""
        victim = context.Process(target=work, args=(str(root),))
        began = time.monotonic()
        victim.start()
        while begun is not None and not begun.exists() and victim.is_alive():
            time.sleep(0.001)
        victim.join(kill_after)
        if victim.is_alive():
            victim.kill()
            victim.join()
            return None
        assert victim.exitcode == 0
        return time.monotonic() - began

    return start


@pytest.fixture(scope="module")
def home(run: Callable[..., float | None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, and beside it ``fitted/model``, which is fitted on them."""
    root = tmp_path_factory.mktemp("home")
    birds = ToyBirds(n_train_per_class=N_TRAIN, n_test_per_class=1, n_species=SPECIES)
    for index, record in enumerate(birds.records):
        path = root / "birds" / record.split / "abcd"[record.label] / f"{index % N_TRAIN}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        birds.image(index).save(path)
    run(fit, root / "fitted")
    return root


def test_a_killed_fit_goes_on_to_the_same_bytes(run: Callable[..., float | None], home: Path) -> None:
    seconds = run(fit, home / "unbroken")
    assert seconds is not None
    expected = content(home / "unbroken" / "model")
    assert len([name for name in expected if "embeddings-" in name]) == SPECIES * N_TRAIN // 32
    chance, killed = random.Random(0), 0
    for number in range(KILLS):
        root = home / str(number)
        for _ in range(2):  # twice in a row, then to the end
            killed += run(fit, root, chance.uniform(0.0, 0.75 * seconds)) is None  # the machine may be quicker by now
            if (root / "model" / "config.json").exists():
                Carrot.load(root / "model")
        run(fit, root)
        assert content(root / "model") == expected
    assert killed >= KILLS // 2, "many of the kills fell into the work"


def test_a_killed_forget_leaves_the_old_model_or_the_new_one(
    run: Callable[..., float | None], home: Path, tmp_path: Path
) -> None:
    shutil.copytree(home / "fitted", tmp_path / "0")
    before = Carrot.load(tmp_path / "0" / "model").head_.W_star.clone()
    seconds = run(forget, tmp_path / "0")
    assert seconds is not None
    after = Carrot.load(tmp_path / "0" / "model").head_.W_star
    assert not torch.equal(before, after)
    chance = random.Random(1)
    for number in range(KILLS):
        root = tmp_path / f"k{number}"
        shutil.copytree(home / "fitted", root)
        run(forget, root, chance.uniform(0.0, seconds))
        model = Carrot.load(root / "model")
        is_new = all(record.id != GONE for record in model.records_)
        assert torch.equal(model.head_.W_star, after if is_new else before)
        assert len(model.records_) == len(model.head_.G)
        run(forget, root)
        assert torch.equal(Carrot.load(root / "model").head_.W_star, after)


def test_a_killed_save_leaves_one_of_the_two(run: Callable[..., float | None], home: Path, tmp_path: Path) -> None:
    model = Carrot("toy", lift="quadratic").fit(home / "birds")
    model.save(tmp_path / "a")
    model.forget(GONE, verify=False)
    model.save(tmp_path / "b")
    kept = [Carrot.load(tmp_path / name).head_.W_star for name in ("a", "b")]
    Carrot.load(tmp_path / "a").save(tmp_path / "model")
    chance, seen = random.Random(2), [0, 0]
    for _ in range(2 * KILLS):
        (tmp_path / "begun").unlink(missing_ok=True)
        assert run(save_by_turns, tmp_path, chance.uniform(0.0, 0.1), tmp_path / "begun") is None
        found = Carrot.load(tmp_path / "model").head_.W_star
        which = [torch.equal(found, W) for W in kept]
        assert sum(which) == 1
        seen[which.index(True)] += 1
    assert min(seen) > 0, "kills fell on both"
    Carrot.load(tmp_path / "a").save(tmp_path / "model")
    names = {p.name for p in (tmp_path / "model").iterdir()}
    assert len(names) == 4, "what the killed ones left behind is gone"


def forget_slowly(root: str, name: str) -> None:
    """As ``carrot forget`` does; who reads and is to write waits until the other was refused."""
    from carrot import StoreError
    from carrot.store.files import locked

    torch.set_num_threads(1)
    folder, refused = Path(root) / "model", Path(root) / "refused"
    try:
        with locked(folder):
            model = Carrot.load(folder)
            deadline = time.monotonic() + 10
            while not refused.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            model.forget(name, verify=False)
            model.save(folder)
    except StoreError:
        refused.touch()
        raise


def test_two_that_change_a_model_at_once_do_not_undo_each_other(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "fitted", tmp_path, dirs_exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    names = ["train/a/1.png", "train/c/5.png"]
    victims = [context.Process(target=forget_slowly, args=(str(tmp_path), name)) for name in names]
    for victim in victims:
        victim.start()
    for victim in victims:
        victim.join()
    refused = [victim.exitcode != 0 for victim in victims]
    assert sum(refused) == 1, "the second is told to wait"
    ids = {record.id for record in Carrot.load(tmp_path / "model").records_}
    assert [name in ids for name in names] == refused
    assert not (tmp_path / "model" / ".lock").exists()
    forget_slowly(str(tmp_path), names[refused.index(True)])
    assert not {record.id for record in Carrot.load(tmp_path / "model").records_} & set(names)
