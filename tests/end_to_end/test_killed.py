"""Killed at any moment, a model is the old one or the new one, and work goes on to the same bytes as if nothing had happened.

The victims are forked from a server that has imported what they need, so that a kill at a random moment falls into the work.
"""

import hashlib
import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from carrot import Carrot
from carrot.data.toy import ToyBirds

KILLS = 6  # of each kind
N_TRAIN, SPECIES = 24, 4
GONE = "toy/train/0001/0003"


def birds() -> ToyBirds:
    return ToyBirds(n_train_per_class=N_TRAIN, n_test_per_class=1, n_species=SPECIES)


def fit(root: str) -> None:
    torch.set_num_threads(1)
    Carrot("toy", lift="identity", t=1.0).fit(birds(), tokens=Path(root) / "model" / "tokens").save(
        Path(root) / "model"
    )


def forget(root: str) -> None:
    torch.set_num_threads(1)
    model = Carrot.load(Path(root) / "model")
    if any(record.id == GONE for record in model.records_):
        model.forget(GONE, verify=False)
        model.save(Path(root) / "model")


def save_by_turns(root: str) -> None:
    """Save two models over each other, for ever."""
    torch.set_num_threads(1)
    models = [Carrot.load(Path(root) / name) for name in ("a", "b")]
    for turn in range(100_000):
        models[turn % 2].save(Path(root) / "model", overwrite=True)


def content(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the model's own files and of its tokens."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix in (".json", ".jsonl", ".safetensors")]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def run() -> Callable[..., float | None]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["carrot.model", "timm", "carrot.data.toy", "carrot.classifier.selecting"])

    def start(work: Callable[[str], None], root: Path, kill_after: float | None = None) -> float | None:
        """Run ``work``; return the seconds that it took, or None if it was killed."""
        victim = context.Process(target=work, args=(str(root),))
        began = time.monotonic()
        victim.start()
        victim.join(kill_after)
        if victim.is_alive():
            victim.kill()
            victim.join()
            return None
        assert victim.exitcode == 0
        return time.monotonic() - began

    return start


def test_a_killed_fit_goes_on_to_the_same_bytes(run: Callable[..., float | None], tmp_path: Path) -> None:
    run(fit, tmp_path / "warm")
    seconds = run(fit, tmp_path / "unbroken")
    assert seconds is not None
    expected = content(tmp_path / "unbroken" / "model")
    assert len([name for name in expected if "embeddings-" in name]) == SPECIES * N_TRAIN // 32
    chance, killed = random.Random(0), 0
    for number in range(KILLS):
        root = tmp_path / str(number)
        for _ in range(2):  # twice in a row, then to the end
            killed += run(fit, root, chance.uniform(0.0, seconds)) is None
            if (root / "model" / "config.json").exists():
                Carrot.load(root / "model")
        run(fit, root)
        assert content(root / "model") == expected
    assert killed >= KILLS, "most of the kills fell into the work"


def test_a_killed_forget_leaves_the_old_model_or_the_new_one(run: Callable[..., float | None], tmp_path: Path) -> None:
    run(fit, tmp_path / "0")
    before = Carrot.load(tmp_path / "0" / "model").head_.W_star.clone()
    seconds = run(forget, tmp_path / "0")
    assert seconds is not None
    after = Carrot.load(tmp_path / "0" / "model").head_.W_star
    assert not torch.equal(before, after)
    chance = random.Random(1)
    for number in range(KILLS):
        root = tmp_path / f"k{number}"
        run(fit, root)
        run(forget, root, chance.uniform(0.0, seconds))
        model = Carrot.load(root / "model")
        is_new = all(record.id != GONE for record in model.records_)
        assert torch.equal(model.head_.W_star, after if is_new else before)
        assert len(model.records_) == len(model.head_.G)
        run(forget, root)
        assert torch.equal(Carrot.load(root / "model").head_.W_star, after)


def test_a_killed_save_leaves_one_of_the_two(run: Callable[..., float | None], tmp_path: Path) -> None:
    model = Carrot("toy", lift="quadratic").fit(birds())
    model.save(tmp_path / "a")
    model.forget(GONE, verify=False)
    model.save(tmp_path / "b")
    kept = [Carrot.load(tmp_path / name).head_.W_star for name in ("a", "b")]
    Carrot.load(tmp_path / "a").save(tmp_path / "model")
    chance, seen = random.Random(2), [0, 0]
    for _ in range(2 * KILLS):
        assert run(save_by_turns, tmp_path, 0.4 + chance.uniform(0.0, 0.4)) is None
        found = Carrot.load(tmp_path / "model").head_.W_star
        which = [torch.equal(found, W) for W in kept]
        assert sum(which) == 1
        seen[which.index(True)] += 1
    assert min(seen) > 0, "kills fell on both"
    Carrot.load(tmp_path / "a").save(tmp_path / "model")
    names = {p.name for p in (tmp_path / "model").iterdir()}
    assert len(names) == 3, "what the killed ones left behind is gone"


def forget_slowly(root: str, name: str) -> None:
    """As ``carrot forget`` does, with a pause between reading and writing."""
    from carrot.store.files import locked

    torch.set_num_threads(1)
    folder = Path(root) / "model"
    with locked(folder):
        model = Carrot.load(folder)
        time.sleep(1.0)
        model.forget(name, verify=False)
        model.save(folder)


def test_two_that_change_a_model_at_once_do_not_undo_each_other(
    run: Callable[..., float | None], tmp_path: Path
) -> None:
    run(fit, tmp_path)
    context = multiprocessing.get_context("forkserver")
    names = ["toy/train/0000/0001", "toy/train/0002/0005"]
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
