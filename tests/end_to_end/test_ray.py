"""``--engine ray`` on a cluster of this machine: the same bits as one process, lost workers, what goes wrong on a node.

Each ``map`` starts a pool of workers, which takes seconds: a test asks for as few as it can.
"""

import hashlib
import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from carrot import BackboneError, Carrot, EngineError, ModelError, StoreError, cli, engine, protocol
from carrot._ridge import passes
from carrot.classifier.files import load, save
from carrot.data.toy import ToyBirds
from carrot.embedding import filling
from carrot.embedding.cache import TokenCache
from carrot.embedding.encoder import Encoder
from carrot.embedding.sent import SentView
from carrot.engine import on_ray
from carrot.engine.on_ray import OnRay
from tests.unit.test_embedding import ROW, Embed, Plain, transform
from tests.unit.test_loaded_rows import made

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings(r"ignore:`use_\w+` is deprecated:DeprecationWarning"),  # what Ray Data says of itself
]
BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=2, n_species=4)


@pytest.fixture(scope="module")
def ray() -> Iterator[OnRay]:
    with OnRay(workers=2) as started:
        yield started


def files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file but what says when it was made."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".yaml"
    }


def pictures(folder: Path) -> Path:
    for i, record in enumerate(BIRDS.records):
        path = folder / BIRDS.classes[record.label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        BIRDS.image(i).save(path)
    return folder


@pytest.mark.usefixtures("ray")
def test_the_command_makes_the_same_model_and_a_second_run_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pictures(tmp_path / "birds")
    broken = data / BIRDS.classes[0] / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    words = ["fit", str(data), "--backbone", "toy", "--regions", "tiles:2", "--out"]
    plain, by_ray = tmp_path / "plain", tmp_path / "ray"
    assert cli.main([*words, str(plain)]) == 0
    told = capsys.readouterr()
    assert cli.main([*words, str(by_ray), "--engine", "ray", "--address", "auto"]) == 0
    theirs = capsys.readouterr()
    assert theirs.out == told.out.replace(str(plain), str(by_ray))
    assert "broken.png" in theirs.err
    assert "Ray" not in theirs.err
    assert files(plain) == files(by_ray)
    assert len(files(by_ray)) > 3

    before = {path: path.stat().st_mtime_ns for path in by_ray.rglob("embeddings-*")}
    given: list[Any] = []
    own = OnRay.map

    def counted(self: OnRay, job: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        given.extend(items)
        return own(self, job, items)

    monkeypatch.setattr(OnRay, "map", counted)
    assert cli.main([*words, str(by_ray), "--engine", "ray", "--overwrite"]) == 0
    assert given == []
    assert {path: path.stat().st_mtime_ns for path in by_ray.rglob("embeddings-*")} == before


def test_select_and_what_is_asked_of_it_are_the_same(ray: OnRay, tmp_path: Path) -> None:
    data, grid = str(pictures(tmp_path / "birds")), {"regions": ["patches"], "lift": ["identity"], "t": [0.0, 1.0]}
    plain = Carrot("toy").select(data, grid=grid, tokens=tmp_path / "a", show=False)
    ours = protocol.evaluate(plain, data, tmp_path / "a", 0, 0, 0, False)
    with engine.use(ray):
        other = Carrot("toy").select(data, grid=grid, tokens=tmp_path / "b", show=False)
        theirs = protocol.evaluate(other, data, tmp_path / "b", 0, 0, 0, False)
        proba = other.predict_proba(BIRDS)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert torch.equal(plain.head_.G, other.head_.G)
    assert torch.equal(plain.head_.W_star, other.head_.W_star)
    assert list(plain.selection_) == list(other.selection_)
    assert (plain.predict_proba(BIRDS) == proba).all()
    assert ours["accuracy"] == theirs["accuracy"]
    assert ours["calibration"] == theirs["calibration"]


class Deadly(Plain):
    """Pictures that can't all be read, and one that takes its worker along: each time, or the first."""

    def __init__(self, mark: Path, always: bool = False) -> None:
        super().__init__(bad=(1, 8))
        self.mark, self.always = mark, always
        self.home = os.getpid()

    def image(self, index: int) -> Image.Image:
        if index == 5 and os.getpid() != self.home and (self.always or not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().image(index)


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost_or_counted_twice(
    ray: OnRay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, wrong = filling.embed_dataset(Plain(bad=(1, 8)), transform, Embed(), ROW, {}, tmp_path / "a", batch_size=2)
    deadly, seen = Deadly(tmp_path / "mark"), list[int]()

    class Counting:
        workers = 2

        def map(self, job: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
            for item, result in ray.map(job, items):
                seen.append(item)
                yield item, result

    with engine.use(Counting()):
        other, theirs = filling.embed_dataset(deadly, transform, Embed(), ROW, {}, tmp_path / "b", batch_size=2)
    assert (tmp_path / "mark").exists()
    assert sorted(seen) == list(range(5))
    assert theirs == wrong == {"1": "picture 1 is broken", "8": "picture 8 is broken"}
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert torch.equal(plain.read()["sha256"], other.read()["sha256"])
    assert capsys.readouterr().out == ""


def test_what_kills_every_worker_ends_with_what_to_do(
    ray: OnRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "RETRIES", 1)
    with engine.use(ray), pytest.raises(EngineError, match=r"workers were lost.*fewer `workers`.*goes on from there"):
        filling.embed_dataset(Deadly(tmp_path / "m", True), transform, Embed(), ROW, {}, tmp_path / "c", batch_size=10)


class OnlySmallFiles(Plain):
    """Pictures of a machine whose disk is full, as good as: it takes no file of more than 64 bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.home = os.getpid()

    def image(self, index: int) -> Image.Image:
        if os.getpid() != self.home:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
        return super().image(index)


def test_a_disk_that_takes_no_more_is_named_with_its_node(
    ray: OnRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_local", False)
    with engine.use(ray), pytest.raises(StoreError, match=rf"on node {os.uname().nodename}: .*can't be written"):
        filling.embed_dataset(OnlySmallFiles(), transform, Embed(), ROW, {}, tmp_path / "store", batch_size=10)
    assert list(files(tmp_path / "store")) == ["manifest.json"]


def test_weights_that_changed_on_the_way_are_refused(
    ray: OnRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SentView, "of", classmethod(lambda cls, view: cls(view, "0" * 64)))
    with engine.use(ray), pytest.raises(ModelError, match="sent with fingerprint 000000000000"):
        TokenCache.of(BIRDS, Encoder("toy").view, tmp_path)


def test_a_node_that_sees_another_disk_is_told(ray: OnRay, tmp_path: Path) -> None:
    class Moves:
        workers = 2

        def map(self, job: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
            (tmp_path / "store").rename(tmp_path / "gone")
            return ray.map(job, items)

    with engine.use(Moves()), pytest.raises(StoreError, match=r"store: is not the folder.*every node sees"):
        filling.embed_dataset(Plain(), transform, Embed(), ROW, {}, tmp_path / "store", batch_size=10)


class Odd:
    """A job with a mistake of its own."""

    def __call__(self, item: int) -> int:
        if item:
            raise BackboneError(f"item {item}")
        return {}[item]


def test_an_error_that_nobody_foresaw_says_where(ray: OnRay) -> None:
    with pytest.raises(KeyError) as caught:
        list(ray.map(Odd(), [0]))
    assert "return {}[item]" in "".join(caught.value.__notes__)


def test_when_no_worker_comes_it_is_said_after_a_while(
    ray: OnRay, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray, "is_local", False)
    monkeypatch.setattr(ray, "_threads", 64)
    monkeypatch.setattr(on_ray, "WAIT", 0.4)
    monkeypatch.setattr(on_ray, "SOON", 0.2)
    with pytest.raises(EngineError, match=r"no worker came in 0.4 s: a worker needs 64 CPUs, and of the 2 CPUs"):
        list(ray.map(Odd(), [0]))
    assert "waiting for Ray" in capsys.readouterr().err


def test_the_rows_of_a_loaded_model_are_gone_over_by_workers(
    ray: OnRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They open its file themselves. Leverages need moments, too: three passes."""
    save(tmp_path / "m", made())
    monkeypatch.setattr(passes, "GROUP", 25)
    plain, head, asked = load(tmp_path / "m").fitted.head, load(tmp_path / "m").fitted.head, list[int]()
    leverage = plain.leverage
    own = OnRay.map

    def counted(self: OnRay, job: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        asked.append(len(items))
        return own(self, job, items)

    monkeypatch.setattr(OnRay, "map", counted)
    with engine.use(ray):
        assert torch.equal(head.leverage, leverage)
    assert asked == [4, 4, 4]
    assert torch.equal(head.statistics.S, plain.statistics.S)
