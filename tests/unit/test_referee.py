"""The referee: scores and truth tables against real refits, and the adapters in the form that peers ask for."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import carrot.referee.scores
from carrot import RidgeHead
from carrot.referee import Truth, training_scores, write_truth
from carrot.referee.rows import linear
from carrot.referee.scores import contradiction
from tests import reference as ref

N, D, C, M = 30, 6, 3, 5
OF = ("logit", "margin", "log_odds", "contrast")


def world(n: int = N, D: int = D, intercept: bool = True, lam: float = 0.3) -> tuple[RidgeHead, Tensor, Tensor, Tensor]:
    """A head with weights, test embeddings, their classes, and other ones."""
    rng = torch.Generator().manual_seed(n + D)
    y = torch.arange(n) % C
    G = torch.randn(n, D, generator=rng, dtype=torch.float64) + torch.nn.functional.one_hot(y, D)
    w = torch.rand(n, generator=rng, dtype=torch.float64) + 0.5
    g = torch.randn(M, D, generator=rng, dtype=torch.float64)
    targets = torch.arange(M) % C
    return RidgeHead(lam, intercept).fit(G, y, w), g, targets, (targets + 1) % C


def asked(of: str, z: np.ndarray, y: int, a: int) -> float:
    """f of one picture's logits, written out."""
    others = np.delete(z, y)
    named = {"logit": z[y], "margin": z[y] - others.max(), "log_odds": z[y] - np.log(np.exp(others).sum())}
    return float({**named, "contrast": z[y] - z[a]}[of])


def refitted(head: RidgeHead, keep: np.ndarray, g: Tensor) -> np.ndarray:
    """Logits of a fit on some rows, by least squares that shares no code with the package."""
    G, Y, w = (x.numpy()[keep] for x in (head.G, head.Y, head.sample_weight))
    return ref.predict(G, Y, head.lam, head.fit_intercept, g.numpy(), w)


def check_all(scores: Any) -> None:
    for of in OF:
        check_removal(scores, of)


def check_removal(scores: Any, of: str, n: int = N, D: int = D, intercept: bool = True, lam: float = 0.3) -> None:
    """Hold removals against refits, one by one: to 10 x eps x the condition number, of differences of logits."""
    head, g, y, a = world(n, D, intercept, lam)
    found = scores(head, g, y, of=of, against=a if of == "contrast" else None).numpy()
    full = refitted(head, np.arange(n), g)
    condition = ref.condition(head.G.numpy(), lam, intercept, head.sample_weight.numpy())
    tolerance = 10 * np.finfo(np.float64).eps * condition * max(1.0, np.abs(full).max())
    for i in range(n):
        without = refitted(head, np.delete(np.arange(n), i), g)
        for j in range(M):
            expected = asked(of, full[j], int(y[j]), int(a[j])) - asked(of, without[j], int(y[j]), int(a[j]))
            assert abs(found[j, i] - expected) <= tolerance


@pytest.mark.parametrize("of", OF)
@pytest.mark.parametrize(
    ("n", "D", "intercept", "lam"),
    [(30, 6, True, 0.3), (30, 6, False, 1e-4), (9, 20, True, 1e-3), (30, 6, True, 100.0)],
)
def test_removal_is_a_refit_for_every_question(of: str, n: int, D: int, intercept: bool, lam: float) -> None:
    check_removal(training_scores, of, n, D, intercept, lam)


MUTANTS = {
    "first order, no leverage": ("residual / head.slack.unsqueeze(-1)", "residual"),
    "leverage for slack": ("residual / head.slack.unsqueeze(-1)", "residual / head.leverage.unsqueeze(-1)"),
    "margin to all classes": ("others.amax(dim=-1) if", "logits.amax(dim=-1) if"),
    "log odds to all classes": ("else others.logsumexp", "else logits.logsumexp"),
    "contrast without the other": ("return own - self._own(logits, self.against)", "return own"),
    "what is left for what is lost": ("(now - f(without))", "f(without)"),
    "pictures added for left out": ("without = logits - smoother", "without = logits + smoother"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_damaged_copies_are_rejected(name: str) -> None:
    text, instead = MUTANTS[name]
    source = Path(carrot.referee.scores.__file__).read_text()
    assert source.count(text) == 1
    module = ModuleType("carrot.referee.damaged")
    sys.modules[module.__name__] = module
    try:
        exec(compile(source.replace(text, instead), "damaged", "exec"), module.__dict__)
        with pytest.raises(AssertionError):
            check_all(module.training_scores)
    finally:
        del sys.modules[module.__name__]


def test_additive_kinds_sum_to_the_answer() -> None:
    head, g, y, a = world()
    z = head.predict(g)
    own, other = z[torch.arange(M), y], z[torch.arange(M), a]
    torch.testing.assert_close(training_scores(head, g, y, kind="label").sum(1), own, rtol=0, atol=1e-12)
    dual = training_scores(head, g, y, kind="dual").sum(1)
    torch.testing.assert_close(dual + head.bias[y], own, rtol=0, atol=1e-12)
    contrast = training_scores(head, g, y, kind="label", of="contrast", against=a).sum(1)
    torch.testing.assert_close(contrast, own - other, rtol=0, atol=1e-12)
    torch.testing.assert_close(training_scores(head, g), training_scores(head, g, z.argmax(1)))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    head, g, y, _ = world()
    whole = training_scores(head, g, y, of="margin")
    monkeypatch.setattr("carrot.referee.scores.BLOCK", 1)
    assert torch.equal(training_scores(head, g, y, of="margin"), whole)
    assert training_scores(head, g[:0], y[:0], of="margin").shape == (0, len(head.Y))


def test_contradiction_is_the_leave_one_out_margin() -> None:
    head, *_ = world()
    labels = head.Y.argmax(1)
    for i in (0, 7, 29):
        z = refitted(head, np.delete(np.arange(N), i), head.G[i : i + 1])[0]
        assert float(contradiction(head)[i]) == pytest.approx(-asked("margin", z, int(labels[i]), 0), abs=1e-11)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "influence"}, "kind"),
        ({"of": "loss"}, "`of`"),
        ({"of": "contrast"}, "against"),
        ({"against": [1, 2, 0, 1, 2]}, "against"),
        ({"of": "contrast", "against": [0, 1, 2, 0, 1]}, "other than its target"),
        ({"kind": "dual", "of": "margin"}, "splits a sum"),
        ({"targets": [0, 1]}, r"must be \(5,\)"),
        ({"targets": [0, 1, 2, 3, 0]}, "0 .. 2"),
    ],
)
def test_what_can_not_be_asked_is_refused(given: dict[str, Any], message: str) -> None:
    head, g, y, _ = world()
    with pytest.raises(ValueError, match=message):
        training_scores(head, g, **{"targets": y.tolist(), **given})


# ---- truth


@pytest.mark.parametrize("of", ["logit", "log_odds"])
def test_truth_is_what_refits_say(tmp_path: Path, of: str) -> None:
    head, g, y, a = world()
    truth = write_truth(head, g, tmp_path, y, of=of, group_sizes=(2, 12, 99), groups=3, subsets=4, alpha=0.6, seed=1)

    def f(z: np.ndarray) -> np.ndarray:
        return np.array([asked(of, z[j], int(y[j]), int(a[j])) for j in range(M)])

    full, everybody = f(refitted(head, np.arange(N), g)), np.arange(N)
    for i in range(N):
        np.testing.assert_allclose(truth.loo[i], full - f(refitted(head, np.delete(everybody, i), g)), atol=1e-11)
    assert list(truth.groups) == [2, 12], "a group of more than there are is left out"
    for effects, groups in truth.groups.values():
        for effect, group in zip(effects, groups, strict=True):
            assert len(set(group.tolist())) == groups.shape[1]
            np.testing.assert_allclose(effect, full - f(refitted(head, np.delete(everybody, group), g)), atol=1e-10)
    assert truth.subsets.shape == (4, 18)
    for rows, logits in zip(truth.subsets, truth.subset_logits, strict=True):
        np.testing.assert_allclose(logits, refitted(head, rows, g), atol=1e-11)
    assert truth.facts["largest_error_over_largest_effect"] < 1e-12
    values, indices = truth.for_lds()
    assert values.shape == (4, M)
    np.testing.assert_allclose(values[2].numpy(), f(truth.subset_logits[2]))
    assert indices.tolist() == truth.subsets.tolist()
    assert truth.for_loo_corr()[0].shape == (N, M)
    assert truth.for_quanda()["subset_logits"][3].shape == (M, C)
    again = Truth.load(tmp_path)
    assert np.array_equal(again.loo, truth.loo)


def test_truth_is_drawn_again_alike_and_refuses_what_is_newer(tmp_path: Path) -> None:
    head, g, *_ = world()
    small: dict[str, Any] = {"groups": 2, "subsets": 2, "group_sizes": (2,)}
    one, two = (write_truth(head, g, tmp_path / name, **small) for name in "ab")
    assert np.array_equal(one.subsets, two.subsets)
    assert len(repr(one)) < 220, "shapes, not numbers"
    facts = json.loads((tmp_path / "a" / "truth.json").read_text())
    (tmp_path / "a" / "truth.json").write_text(json.dumps({**facts, "version": 99}))
    with pytest.raises(ValueError, match="version 99"):
        Truth.load(tmp_path / "a")
    for share in (0.0, 1.0, -0.5):
        with pytest.raises(ValueError, match="alpha"):
            write_truth(head, g, tmp_path / "c", alpha=share)


# ---- adapters, on the base classes as their libraries define them (quanda 0.5.0, dattri 0.3.0)


class Explainer:
    accepted_tasks: list[str] = []  # noqa: RUF012

    def __init__(
        self, model: Any, train_dataset: Any, task: str, checkpoints: Any = None, checkpoints_load_func: Any = None
    ) -> None:
        assert task in self.accepted_tasks
        self.model, self.train_dataset = model, train_dataset


class BaseAttributor:
    pass


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, cls in (("quanda.explainers.base", Explainer), ("dattri.algorithm.base", BaseAttributor)):
        parts = name.split(".")
        for k in range(1, len(parts) + 1):
            module = ModuleType(".".join(parts[:k]))
            module.__path__ = []  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module.__name__, module)
        setattr(sys.modules[name], cls.__name__, cls)
    yield
    for ours in ("carrot.referee.quanda", "carrot.referee.dattri"):
        sys.modules.pop(ours, None)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("of", ["logit", "log_odds"])
def test_adapters_say_what_the_scores_say(of: str) -> None:
    head, g, y, _ = world()
    labels = head.Y.argmax(1)
    train, test = TensorDataset(head.G, labels), TensorDataset(g, y)
    expected = training_scores(head, g, y, of=of).float()
    quanda = importlib.import_module("carrot.referee.quanda").CarrotExplainer(linear(head), train, head=head, of=of)
    assert torch.equal(quanda.explain(g, y.tolist()), expected)
    assert torch.equal(quanda.self_influence(), contradiction(head).float())
    dattri = importlib.import_module("carrot.referee.dattri").CarrotAttributor(head, of=of)
    for size in (3, 100):
        loaders = DataLoader(train, batch_size=size), DataLoader(test, batch_size=size)
        torch.testing.assert_close(dattri.attribute(*loaders), expected.mT)
    assert torch.equal(dattri.self_attribute(loaders[0]), contradiction(head).float())
    shuffled = TensorDataset(head.G.flip(0), labels.flip(0))
    with pytest.raises(ValueError, match="in its order"):
        dattri.cache(DataLoader(shuffled, batch_size=8))
    with pytest.raises(ValueError, match="30 rows; got 29"):
        dattri.cache(DataLoader(TensorDataset(head.G[1:], labels[1:]), batch_size=8))


@pytest.mark.usefixtures("libraries")
def test_adapters_embed_inputs() -> None:
    head, g, y, _ = world()
    train = TensorDataset(head.G / 2, head.Y.argmax(1))
    quanda = importlib.import_module("carrot.referee.quanda").CarrotExplainer(
        linear(head), train, head=head, embed=lambda x: 2 * x, kind="label"
    )
    torch.testing.assert_close(quanda.explain(g / 2, y), training_scores(head, g, y, kind="label").float())


def test_the_head_as_a_module() -> None:
    for intercept in (True, False):
        head, g, *_ = world(intercept=intercept)
        torch.testing.assert_close(linear(head, torch.float64)(g), head.predict(g))


@pytest.mark.parametrize("library", ["quanda", "dattri"])
def test_without_the_library_the_adapter_says_what_to_install(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"pip install {library}"):
        importlib.import_module(f"carrot.referee.{library}")
