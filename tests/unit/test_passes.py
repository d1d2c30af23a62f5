"""Passes over the rows: the same bits whoever goes over them, in whatever order, with however many threads."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils._python_dispatch
from torch import Tensor

from carrot import EngineError, RidgeHead
from carrot import influence as inf
from carrot._ridge import blocks, factor, passes
from carrot.engine import use
from tests import reference as ref

pytestmark = pytest.mark.filterwarnings("ignore:lam = ")  # labels that nothing tells: no penalty is best
F64 = torch.float64
N, D, C = 90, 6, 4


class Shuffled:
    """Workers that take items in any order, do some twice, and lose what they were sent as soon as they may."""

    def __init__(self, workers: int, seed: int = 0) -> None:
        self.workers, self.rng, self.jobs = workers, np.random.default_rng(seed), 0

    def map(self, job: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        self.jobs += 1
        order = [*self.rng.permutation(len(items)), *self.rng.integers(len(items), size=self.workers)]
        for i in order:
            yield items[i], job(items[i])


class Pool:
    """Processes: what they do is sent there and back."""

    workers = 2

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool

    def map(self, job: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        return zip(items, self.pool.map(job, items), strict=True)


class Ends:
    """Workers that give up."""

    workers = 2

    def map(self, job: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        return ((item, job(item)) for item in items[:-1])


def opened(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def squared(block: slice, logits: Tensor) -> Tensor:
    return logits.square().sum(dim=0)


@pytest.fixture
def rows(tmp_path: Path) -> tuple[Callable[[], Tensor], Tensor, Tensor]:
    """Rows in a file, labels and weights."""
    rng = np.random.default_rng(5)
    np.save(tmp_path / "G.npy", (rng.normal(size=(N, D)) + 1.5).astype(np.float16))
    return partial(opened, tmp_path / "G.npy"), torch.arange(N) % C, torch.tensor(rng.uniform(0.5, 2.0, size=N))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several groups of several blocks, none of them whole."""
    monkeypatch.setattr(passes, "GROUP", 25)
    monkeypatch.setattr(blocks, "ENTRIES", 10 * D)
    monkeypatch.setattr(blocks, "STRIP", 4)
    monkeypatch.setattr(factor, "STRIP", 4)


def everything(head: RidgeHead) -> dict[str, Tensor]:
    """What passes answer."""
    s, g = head.statistics, torch.linspace(-1.0, 3.0, 7 * D, dtype=F64).reshape(7, D)
    found = {"S": s.S, "Q": s.Q, "g_mean": s.g_mean, "y_mean": s.y_mean, "W": head.W_star, "bias": head.bias}
    found |= {"slack": head.slack, "loo": torch.cat([x for _, x in head.loo_blocks()])}
    found["map"] = torch.cat([x for _, x in head.loo_map(squared)])
    if head.loo_path is not None:
        found |= {"lams": head.loo_path.lams, "mse": head.loo_path.mse}
    for kind in ("removal", "label", "dual"):
        for values, indices in inf.supporters_and_opposers(head, g, 5, kind):  # type: ignore[arg-type]
            found |= {f"{kind} {len(found)}": values, f"{kind} {len(found)} of": indices}
    return found


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, x in a.items():
        assert torch.equal(x, b[name]), name


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("lam", [0.3, "loo"])
def test_any_workers_in_any_order_give_the_same_bits(
    rows: tuple[Any, Tensor, Tensor], intercept: bool, weighted: bool, lam: float | str
) -> None:
    G, labels, w = rows
    here = everything(RidgeHead(lam, intercept, copy=False).fit(G(), labels, w if weighted else None))  # type: ignore[arg-type]
    for workers in (1, 2, 8):
        engine = Shuffled(workers, workers)
        with use(engine):
            head = RidgeHead(lam, intercept).fit(G, labels, w if weighted else None)  # type: ignore[arg-type]
            assert_same(here, everything(head))
        assert engine.jobs > 7  # nothing was done here


def test_other_processes_give_the_same_bits(rows: tuple[Any, Tensor, Tensor]) -> None:
    G, labels, w = rows
    here = everything(RidgeHead("loo", True).fit(G, labels, w))
    before = (passes.GROUP, blocks.ENTRIES, blocks.STRIP, factor.STRIP)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), _set, before) as pool, use(Pool(pool)):
        assert_same(here, everything(RidgeHead("loo", True).fit(G, labels, w)))


def _set(*sizes: int) -> None:
    passes.GROUP, blocks.ENTRIES, blocks.STRIP, factor.STRIP = sizes


@pytest.mark.parametrize(("n", "width"), [(3000, 24), (1500, 130)])
def test_any_number_of_threads_gives_the_same_bits(n: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are as they were measured to be; sums and solves of a fit are kept to one thread."""
    for module, name, size in ((blocks, "ENTRIES", 1 << 24), (blocks, "STRIP", 256), (factor, "STRIP", 192)):
        monkeypatch.setattr(module, name, size)
    monkeypatch.setattr(passes, "GROUP", n // 2)
    rng = torch.Generator().manual_seed(1)
    G, w = torch.randn(n, width, generator=rng) + 1.0, 0.5 + torch.rand(n, generator=rng, dtype=F64)
    threads, found = torch.get_num_threads(), list[dict[str, Tensor]]()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            head = RidgeHead("loo", True).fit(G, torch.arange(n) % 9, w)
            values, best = inf.top_training(head, G[:80], 5, "removal")
            loo = torch.cat([x for _, x in head.loo_blocks()])
            path = head.loo_path
            assert path is not None
            found.append({"W": head.W_star, "slack": head.slack, "loo": loo, "mse": path.mse, "k": values, "i": best})
            assert torch.get_num_threads() == count  # as it was
    finally:
        torch.set_num_threads(threads)
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])


@pytest.mark.parametrize("intercept", [True, False])
def test_groups_change_no_answer(rows: tuple[Any, Tensor, Tensor], intercept: bool) -> None:
    """Held against sums over whole matrices and fits without a picture."""
    G, labels, w = rows
    X, Y = G().double().numpy(), np.eye(C)[labels.numpy()]
    with use(Shuffled(2)):
        head = RidgeHead(0.3, intercept).fit(G, labels, w)
    loo = ref.loo(X, Y, 0.3, intercept, w.numpy())
    np.testing.assert_allclose(torch.cat([x for _, x in head.loo_blocks()]).numpy(), loo, rtol=0, atol=1e-11)
    mean = w.numpy() @ X / w.sum().item()
    S = (X - mean).T @ (w.numpy()[:, None] * (X - mean))
    np.testing.assert_allclose(head.statistics.S.numpy(), S, rtol=0, atol=1e-12 * S.max())
    told = torch.stack([x for _, x in head.loo_map(squared)]).sum(dim=0)
    np.testing.assert_allclose(told.numpy(), np.square(loo).sum(axis=0), rtol=1e-10)


def alone_rows(tmp_path: Path) -> Callable[[], Tensor]:
    """A picture nearly alone in a direction: 1 - leverage and its residual are rounding."""
    rng = np.random.default_rng(14)
    G = rng.normal(size=(N, D))
    G[:, -1] = 0.0
    G[70, -1] = 1e5
    np.save(tmp_path / "alone.npy", G)
    return partial(opened, tmp_path / "alone.npy")


def test_a_picture_alone_in_a_direction_is_settled_here(tmp_path: Path) -> None:
    G, labels = alone_rows(tmp_path), torch.arange(N) % C
    here = RidgeHead("loo", True, lams=[0.5, 2.0]).fit(G, labels)
    with use(Shuffled(3)):
        there = RidgeHead("loo", True, lams=[0.5, 2.0]).fit(G, labels)
        assert_same(everything(here), everything(there))
    assert float(here.slack[70]) < 1e-6
    X, Y, g = G().numpy(), np.eye(C)[labels.numpy()], torch.ones(1, D, dtype=F64)
    for j, lam in enumerate((0.5, 2.0)):
        mse = np.square(Y - ref.loo(X, Y, lam, True)).mean()
        assert float(there.loo_path.mse[j]) == pytest.approx(mse, rel=1e-6)  # type: ignore[union-attr]
    values, indices = inf.top_training(there, g, N, "removal", 1)
    told = dict(zip(indices[0].tolist(), values[0].tolist(), strict=True))
    refit = here.predict(g)[0, 1] - here.without(70).predict(g)[0, 1]
    assert told[70] == pytest.approx(float(refit), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("intercept", [True, False])
def test_the_best_are_those_of_refits(rows: tuple[Any, Tensor, Tensor], intercept: bool) -> None:
    """Brute force: a fit without each picture; and duals of the whole matrix, against another class."""
    G, labels, w = rows
    head = RidgeHead(0.3, intercept).fit(G, labels, w)
    g = torch.tensor(np.random.default_rng(3).normal(size=(3, D)))
    target, against, row = torch.tensor([0, 2, 1]), torch.tensor([1, 3, 0]), torch.arange(3)
    moved = torch.stack([head.predict(g) - head.without(i).predict(g) for i in range(N)], dim=1)
    dual = (g @ G().double().mT).unsqueeze(-1) * head.alpha
    for kind, every in (("removal", moved), ("dual", dual)):
        chosen = every[row, :, target] - every[row, :, against]
        head._system.__dict__.pop("alpha", None)  # type: ignore[union-attr]  # of the rows, not of what is at hand
        with use(Shuffled(2)):
            both = inf.supporters_and_opposers(head, g, 7, kind, target, against)  # type: ignore[arg-type]
        for largest, (values, indices) in zip((True, False), both, strict=True):
            torch.testing.assert_close(values, chosen.topk(7, largest=largest).values, rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(chosen.gather(1, indices), values, rtol=1e-9, atol=1e-11)


def test_neither_n_by_C_nor_n_by_m_numbers_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that attributing many tests, and summing up leave-one-out, makes is a block."""
    n, width, classes, m = 4000, 8, 300, 200
    monkeypatch.setattr(passes, "GROUP", 1000)
    monkeypatch.setattr(blocks, "ENTRIES", 1 << 15)
    head = RidgeHead("loo", True, lams=[0.1, 1.0, 10.0]).fit(torch.randn(n, width), torch.arange(n) % classes)
    with _Largest() as largest:
        inf.supporters_and_opposers(head, torch.randn(m, width), 3, "removal")
        inf.supporters_and_opposers(head, torch.randn(m, width), 3, "dual")
        inf.group_removal_effect(head, torch.randn(1, width), [17])
        assert sum(int((x.argmax(dim=1) == b.start).sum()) for b, x in head.loo_blocks()) >= 0
    assert largest.numbers <= 2 * blocks.ENTRIES  # n m is 800,000, n C 1,200,000


class _Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers how many numbers the largest result had."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, Tensor):
                self.numbers = max(self.numbers, x.untyped_storage().nbytes() // 8 if x.is_floating_point() else 0)
        return result


def test_what_an_engine_does_not_do(rows: tuple[Any, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    G, labels, _ = rows
    with pytest.raises(EngineError, match="3 of 4 groups"), use(Ends()):
        RidgeHead(1.0).fit(G, labels)
    few = Shuffled(2)
    with use(few):
        RidgeHead(1.0).fit(G(), labels)  # its workers can't open these
        RidgeHead(1.0).fit(lambda: G()[:D], labels[:D])
        assert not few.jobs
        monkeypatch.setattr(passes, "WIDE", D - 1)
        RidgeHead("loo", True).fit(G, labels)
    assert not few.jobs


def test_wide_rows_are_one_group_and_solved_for(
    rows: tuple[Any, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    G, labels, w = rows
    narrow = everything(RidgeHead(0.3, True).fit(G, labels, w))
    for module in (passes, factor):
        monkeypatch.setattr(module, "WIDE", D - 1)
    wide = everything(RidgeHead(0.3, True).fit(G, labels, w))
    assert len(passes.groups(N, D)) == 1
    del narrow["map"]  # block by block, and blocks are of groups
    for name, x in narrow.items():
        torch.testing.assert_close(wide[name], x, rtol=1e-9, atol=1e-11)


def test_a_worker_that_opens_other_rows_is_named(rows: tuple[Any, Tensor, Tensor]) -> None:
    G, labels, _ = rows
    calls = iter([G(), G()[:-1]])
    with pytest.raises(EngineError, match=r"opened rows \(89, 6\).*has \(90, 6\)"), use(Shuffled(1)):
        RidgeHead(1.0).fit(lambda: next(calls), labels)


def test_a_worker_that_finds_no_rows_is_told_what_it_needs(rows: tuple[Any, Tensor, Tensor]) -> None:
    G, labels, _ = rows
    first = iter([G()])

    def moved() -> Tensor:
        if (found := next(first, None)) is None:
            raise FileNotFoundError(2, "No such file or directory", "/models/rows.safetensors")
        return found

    with (
        pytest.raises(EngineError, match=r"/models/rows.safetensors.*Every node must see the model's"),
        use(Shuffled(1)),
    ):
        RidgeHead(1.0).fit(moved, labels)


def test_rows_that_are_no_numbers_are_refused_by_workers_too(tmp_path: Path) -> None:
    G = np.ones((N, D), dtype=np.float32)
    G[60, 2] = np.inf
    np.save(tmp_path / "inf.npy", G)
    with pytest.raises(ValueError, match="`G`.*finite"), use(Shuffled(2)):
        RidgeHead(1.0).fit(partial(opened, tmp_path / "inf.npy"), torch.arange(N) % C)
