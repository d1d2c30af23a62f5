"""``carrot.engine``: who works is told around a block; what is wrong with that is said at once, without an engine."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from carrot import EngineError, StoreError, cli, engine
from carrot._display import extras
from carrot.embedding import filling
from carrot.engine.on_ray import OnRay
from carrot.engine.ray_worker import Worker, differences
from tests.unit.test_embedding import ROW, Embed, Plain, transform


class Square:
    """A job with an ``each`` of its own, which tells how it was called."""

    def __init__(self) -> None:
        self.called: list[Sequence[int]] = []

    def __call__(self, x: int) -> int:
        return x * x

    def each(self, items: Sequence[int]) -> Iterator[int]:
        self.called.append(items)
        return map(self, items)


class Backwards:
    """An engine that does the last item first, and what is wrong with a disk that isn't shared."""

    workers = 2

    def __init__(self, forgets: int | None = None) -> None:
        self.forgets = forgets

    def map(self, job: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        for item in reversed(items):
            result = job(item)
            if item == self.forgets:
                job.store.path(item).unlink()  # type: ignore[attr-defined]
            yield item, result


def test_this_process_does_items_in_turn_by_the_jobs_own_each() -> None:
    job = Square()
    assert list(engine.current().map(job, [3, 1])) == [(3, 9), (1, 1)]
    assert job.called == [[3, 1]]
    assert list(engine.Here().map(lambda x: x + 1, [1])) == [(1, 2)]


def test_results_are_put_in_order() -> None:
    items = range(5)
    assert list(engine.in_order(Backwards().map(lambda x: x, items), items)) == [0, 1, 2, 3, 4]
    with pytest.raises(EngineError, match="no result of 1 of 2 items"):
        list(engine.in_order(iter([(0, 0)]), [0, 1]))


def test_an_engine_works_inside_its_block_alone() -> None:
    with engine.use(Backwards()) as now:
        assert engine.current() is now
        with engine.use(None):
            assert engine.current() is engine.HERE
        assert engine.current() is now
    assert engine.current() is engine.HERE


def test_shards_are_the_same_bytes_whoever_fills_them(tmp_path: Path) -> None:
    plain, wrong = filling.embed_dataset(Plain(bad=(4,)), transform, Embed(), ROW, {}, tmp_path / "a", batch_size=3)
    with engine.use(Backwards()):
        other, theirs = filling.embed_dataset(
            Plain(bad=(4,)), transform, Embed(), ROW, {}, tmp_path / "b", batch_size=3
        )
    assert wrong == theirs == {"4": "picture 4 is broken"}
    for shard in range(plain.n_shards):
        assert plain.path(shard).read_bytes() == other.path(shard).read_bytes()


def test_a_shard_that_is_not_where_all_see_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "PATIENCE", 0.0)
    monkeypatch.setattr("platform.node", lambda: "node-7")
    with engine.use(Backwards(forgets=1)), pytest.raises(StoreError, match=r"00001.*on node node-7.*every node sees"):
        filling.embed_dataset(Plain(), transform, Embed(), ROW, {}, tmp_path, batch_size=3)


def test_a_machine_that_has_another_folder_there_is_told(tmp_path: Path) -> None:
    store, _ = filling.embed_dataset(Plain(), transform, Embed(), ROW, {}, tmp_path / "store", batch_size=3)
    fill = filling.Fill(Plain(), transform, Embed(), ROW, {"g": torch.float32}, store, 0)
    fill.arrive()
    store.folder = tmp_path / "elsewhere"
    with pytest.raises(StoreError, match=r"elsewhere: is not the folder.*every node sees"):
        fill.arrive()
    filling.EmbeddingStore(tmp_path / "elsewhere", {"of": "others"}, ["x"])
    with pytest.raises(StoreError, match="is not the folder"):
        fill.arrive()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"engine": None, "workers": 2}, "`workers` goes with an engine"),
        ({"engine": None, "address": "auto"}, "`address` goes with an engine"),
        ({"engine": "dask"}, "`engine` must be 'ray'"),
        ({"engine": "ray", "workers": 0}, "`workers` must be at least 1"),
    ],
)
def test_what_is_wrong_is_said_before_ray_is_imported(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words), engine.use(**arguments):
        pass
    assert "ray" not in sys.modules


def test_without_ray_it_says_how_to_have_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"needs ray: pip install ray\[data\]"):
        OnRay()
    assert cli.main(["fit", "toy", "--out", str(tmp_path / "m"), "--engine", "ray"]) == 1
    said = capsys.readouterr().err
    assert "`--engine` = ray needs ray" in said
    assert not list(tmp_path.iterdir())


def test_ray_without_the_packages_that_it_needs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """``pip install ray`` brings no pandas, and Ray Data can't be imported."""
    monkeypatch.setattr(extras, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"can't be loaded: .*pip install ray\[data\]"), OnRay():
        pass


@pytest.mark.parametrize(
    ("address", "words"),
    [("nowhere", "HOST:PORT"), ("127.0.0.1:1", "no cluster answers"), ("ray://127.0.0.1:1", "ray job submit")],
)
def test_an_address_where_nothing_is_is_told_at_once(address: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: True)  # installed or not
    with pytest.raises(EngineError, match=words):
        engine.require("ray", address)


def test_room_is_shared_by_as_many_threads_as_let_all_workers_in() -> None:
    def room(sizes: Sequence[tuple[int, int]], workers: int | None = None) -> tuple[int, int, int]:
        one = OnRay.__new__(OnRay)
        one._asked = workers
        one._nodes = [{"Resources": {"CPU": float(c), "GPU": float(g)} if g else {"CPU": float(c)}} for c, g in sizes]
        return one._room()

    assert room([(2, 0)]) == (1, 0, 2)
    assert room([(2, 0)], 1) == (2, 0, 1)
    assert room([(2, 0)], 8) == (1, 0, 8)
    assert room([(3, 0), (5, 0)], 2) == (3, 0, 2)
    assert room([(16, 0)]) == (4, 0, 4)
    assert room([(16, 2), (16, 2)]) == (8, 1, 4)
    assert room([(0, 0)]) == (1, 0, 1)
    with pytest.raises(EngineError, match="2 at most, one for each GPU"):
        room([(16, 2)], 3)


def test_other_versions_on_a_node_are_named() -> None:
    assert differences({"torch": "2.6", "timm": "1"}, {"torch": "2.7"}) == (
        "torch 2.7 there, 2.6 here, timm absent there, 1 here"
    )
    worker = Worker([], ".", {"torch": "0.1"}, 1, 1, True)
    assert isinstance(worker._error, EngineError)
    assert "torch" in str(worker._error)
    assert "0.1 here" in str(worker._error)
