"""The question, one column of a head: equal to what is said of all classes, and no other class is ever scored."""

from pathlib import Path

import numpy as np
import pytest
import torch

from carrot import Carrot, RidgeHead
from carrot._ridge.logit import Logit
from carrot.attribution import region_interactions
from carrot.data.inputs import PictureList
from carrot.explanation.parts import take_apart
from carrot.lift import IDENTITY, lift_from
from carrot.protocol import evaluate
from carrot.removal import Coalitions
from tests.claims.world import World
from tests.unit.test_parts import trace


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of classes of every product of tokens with a head's weights, as they come."""
    found: list[int] = []
    for kind in (type(IDENTITY), type(lift_from("quadratic")), type(lift_from("relu:8"))):

        def noted(self, H, W_star, real=kind._scores):  # type: ignore[no-untyped-def]
            found.append(W_star.shape[1])
            return real(self, H, W_star)

        monkeypatch.setattr(kind, "_scores", noted)
    return found


@pytest.mark.parametrize("against", [None, 1])
@pytest.mark.parametrize("intercept", [True, False])
def test_it_is_a_column_of_the_head(intercept: bool, against: int | None) -> None:
    world = World(intercept=intercept)
    head, logit = world.head, world.head.logit(3, against)
    for name in ("W_star", "bias", "y_mean", "alpha", "Y", "residual"):
        whole = getattr(head, name)
        expected = whole[..., 3:4] if against is None else whole[..., 3:4] - whole[..., 1:2]
        torch.testing.assert_close(getattr(logit, name), expected, rtol=1e-12, atol=1e-14)
    expected = head.predict(world.g)[3] - (0.0 if against is None else head.predict(world.g)[1])
    assert float(logit.predict(world.g)) == pytest.approx(float(expected), abs=1e-13)
    assert Logit.predicted(head, world.g).target == int(head.predict(world.g).argmax())


@pytest.mark.parametrize("against", [None, 1])
@pytest.mark.parametrize("change", ["add", "remove", "relabel"])
def test_it_is_of_the_head_as_it_is_now(change: str, against: int | None) -> None:
    head, g = World().head, World().g
    logit = head.logit(3, against)
    names = ("W_star", "bias", "y_mean", "alpha", "Y", "residual")
    before = {name: getattr(logit, name).clone() for name in names}
    if change == "add":
        head.add(g.unsqueeze(0), torch.tensor([3]))
    elif change == "remove":
        head.remove([3, 4])
    else:
        head.relabel([0], torch.tensor([3]))
    fresh = head.logit(3, against)
    for name in names:
        assert torch.equal(getattr(logit, name), getattr(fresh, name))
    assert not torch.equal(logit.W_star, before["W_star"])
    assert float(logit.predict(g)) == pytest.approx(float(g @ logit.W_star[:, 0] + logit.bias[0]), abs=1e-12)


@pytest.mark.parametrize(("target", "against", "error"), [
    (5, None, ValueError), (-1, None, ValueError), (0, 0, ValueError), (0, 5, ValueError),
    (1.5, None, TypeError), (True, None, TypeError),
])  # fmt: skip
def test_a_class_that_is_none(target: int, against: int | None, error: type[Exception]) -> None:
    with pytest.raises(error, match="target|against"):
        World().head.logit(target, against)


@pytest.mark.parametrize("against", [None, 1])
def test_coalitions_of_one_logit_are_those_of_all_classes(against: int | None) -> None:
    world = World()
    test = trace(world, -1)
    logit, whole = world.head.logit(3, against), test.coalitions(world.head)
    one, order = test.coalitions(logit), torch.randperm(world.N, generator=torch.Generator().manual_seed(0))

    def same(found: torch.Tensor, every: torch.Tensor) -> None:
        torch.testing.assert_close(found, logit.column(every), rtol=0, atol=1e-12)

    same(one.each(), whole.each())
    same(one.deletion(order), whole.deletion(order))
    same(one.insertion(order), whole.insertion(order))
    same(one.shapley(4, seed=2)[0], whole.shapley(4, seed=2)[0])
    few = Coalitions(test.H[:6], sub(world, 6), test.operator, world.readout, world.head)
    for c in range(5):
        alone = region_interactions(test.H[:6], sub(world, 6), test.operator, world.readout, world.head, c)
        torch.testing.assert_close(alone, few.interactions()[..., c], rtol=0, atol=1e-13)


def sub(world: World, n: int):  # type: ignore[no-untyped-def]
    from carrot.graph import RegionGraph

    W = world.graphs.W[-1][:n, :n]
    return RegionGraph(W, W.sum(dim=-1))


@pytest.mark.parametrize("spec", ["identity", "quadratic", "relu:8"])
def test_an_answer_costs_one_class(spec: str, scored: list[int]) -> None:
    world, lift = World(), lift_from(spec)
    head = RidgeHead(1.0, True).fit(lift.embed(world.tokens[:-1], world.pi[:-1]), torch.tensor(world.labels))
    from carrot.embedding.trace import Trace

    plain = trace(world, -1)
    test = Trace.of(plain.regions, plain.graph, world.operator, world.readout, lift)
    for logit in (head.logit(2), head.logit(2, 0)):
        take_apart(test, logit)
        coalitions = test.coalitions(logit)
        coalitions.deletion(torch.arange(world.N))
        coalitions.shapley(4)
    assert set(scored) == {1}
    region_interactions(test.H, test.graph, test.operator, world.readout, head, 1, lift)
    assert set(scored) == {1}
    test.coalitions(head).each()  # of all classes, for who asks
    assert set(scored) == {1, 5}


def test_an_explanation_and_an_evaluation_cost_one_class_a_picture(
    tmp_path: Path, scored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(24)]
    data = PictureList(pictures, [str(i % 8) for i in range(24)])
    model = Carrot("toy", lam=1.0).fit(data)
    model.explain(pictures[0], k=2)
    assert scored, "nothing was scored: the test looks in the wrong place"
    assert set(scored) == {1}
    scored.clear()
    from PIL import Image

    folder = tmp_path / "pictures"
    for i, array in enumerate(pictures[:16]):
        place = folder / str(i % 8)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - array).save(place / f"{i}.png")
    evaluate(model, str(folder), tmp_path, explained=3, occluded=0, refits=0, baselines=False)
    assert scored
    assert set(scored) == {1}
