"""Curves and their areas against hand-worked cases and loops; pixel occlusion against pictures painted one by one."""

import math

import pytest
import torch
from torch import Tensor

from carrot.evaluation.faithfulness import (
    area,
    input_boxes,
    occlusion_curves,
    order_of,
    random_areas,
    relevance_gain,
)
from carrot.removal import deletion_curve, insertion_curve
from tests.unit.test_attribution import Setting


def test_area_by_hand() -> None:
    assert area(torch.tensor([1.0, 0.0])) == 0.5
    assert area(torch.tensor([4.0, 2.0, 0.0, 0.0])) == pytest.approx((3 + 1 + 0) / 3)
    assert area(torch.full((9,), 3.5)) == 3.5
    assert area(torch.tensor([4.0, 2.0, 0.0]), torch.tensor([0.0, 0.1, 1.0])) == pytest.approx(0.1 * 3 + 0.9 * 1)


def test_area_does_not_depend_on_the_number_of_steps_of_a_line() -> None:
    for steps in (2, 3, 50):
        assert area(torch.linspace(3.0, -1.0, steps)) == pytest.approx(1.0, abs=1e-6)


def test_order_is_by_value_and_ties_are_not_in_reading_order() -> None:
    assert order_of(torch.tensor([[1.0, 3.0], [2.0, -4.0]])).tolist() == [1, 2, 0, 3]
    tied = order_of(torch.zeros(50))
    assert sorted(tied.tolist()) == list(range(50))
    assert tied.tolist() != list(range(50))
    assert torch.equal(tied, order_of(torch.zeros(50)))
    values = torch.arange(60) % 4
    expected = sorted(values.tolist(), reverse=True)
    assert values[order_of(values)].tolist() == expected


def test_token_level_areas_of_all_orders_bound_and_average() -> None:
    """With 4 regions all 24 orders can be walked: random orders average to their mean, within 4 standard errors."""
    import itertools

    s = Setting(2, 2)

    def curve(order: Tensor) -> Tensor:
        return deletion_curve(*s.stages, order)[:, 0]

    every = [area(curve(torch.tensor(order))) for order in itertools.permutations(range(4))]
    mean, error = random_areas(curve, 4, 200, seed=1)
    assert abs(mean - sum(every) / 24) < 4 * error
    spread = math.sqrt(sum((a - sum(every) / 24) ** 2 for a in every) / 24)
    assert error == pytest.approx(spread / math.sqrt(200), rel=0.25)  # a standard deviation of 200 is known to 5 %
    assert random_areas(curve, 4, 10, seed=3) == random_areas(curve, 4, 10, seed=3)


def test_the_standard_error_of_random_areas_by_hand() -> None:
    areas = iter([1.0, 2.0, 6.0, 3.0])
    mean, error = random_areas(lambda _: torch.full((3,), next(areas), dtype=torch.float64), 5, 4)
    assert mean == pytest.approx(3.0)
    assert error == pytest.approx(math.sqrt((4 + 1 + 9 + 0) / 3 / 4))


def test_deletion_of_an_order_is_insertion_of_its_reverse() -> None:
    s = Setting(2, 3)
    order = torch.randperm(6)
    assert area(deletion_curve(*s.stages, order)[:, 1]) == pytest.approx(
        area(insertion_curve(*s.stages, order.flip(0))[:, 1]), abs=1e-12
    )


def test_relevance_gain_by_hand() -> None:
    deletion, insertion = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 1.0])
    assert relevance_gain(deletion, insertion) == pytest.approx(0.5)
    fractions = torch.tensor([0.0, 0.2, 1.0])
    assert relevance_gain(deletion, insertion, fractions) == pytest.approx(0.9 - 0.1)


def test_relevance_gain_is_between_the_deletion_curves_of_both_orders() -> None:
    s, order = Setting(2, 3), torch.randperm(6, generator=torch.Generator().manual_seed(2))
    deletion, insertion = (curve(*s.stages, order)[:, 1] for curve in (deletion_curve, insertion_curve))
    least_first = deletion_curve(*s.stages, order.flip(0))[:, 1]
    assert relevance_gain(deletion, insertion) == pytest.approx(area(least_first) - area(deletion), abs=1e-12)


# ---- pixel level

GRID, SIZE = (2, 3), (4, 9)
X = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
V = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def predict(batch: Tensor) -> Tensor:
    """Two logits that no two pictures share."""
    return torch.einsum("bchw,kchw->bk", batch.double().sin(), V)


def painted(fill: Tensor, patches: list[int]) -> Tensor:
    """The input with some patches replaced, pixel by pixel."""
    x = X.clone()
    for i in patches:
        row, column = divmod(i, 3)
        for y in range(2 * row, 2 * row + 2):
            for z in range(3 * column, 3 * column + 3):
                x[:, y, z] = fill[:, y, z]
    return x


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("kind", ["mean", "colour", "another picture"])
def test_occlusion_equals_painting(steps: int, kind: str) -> None:
    fills = {"mean": None, "colour": torch.tensor([0.3, -1.0, 2.0])[:, None, None], "another picture": X.flip(2)}
    fill = fills[kind]
    whole = torch.zeros_like(X) if fill is None else fill.expand_as(X)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    counts = [round(6 * k / steps) for k in range(steps + 1)]
    curves = occlusion_curves(predict, X, input_boxes(GRID, SIZE), order, steps, fill)
    assert curves.fractions.tolist() == [n / 6 for n in counts]
    for k, n in enumerate(counts):
        gone, left = order[:n].tolist(), order[n:].tolist()
        torch.testing.assert_close(curves.deletion[k], predict(painted(whole, gone)[None])[0])
        torch.testing.assert_close(curves.insertion[k], predict(painted(whole, left)[None])[0])


def test_the_backbone_gets_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return predict(batch)

    monkeypatch.setattr("carrot.evaluation.faithfulness.BATCH", 3)
    curves = occlusion_curves(counted, X, input_boxes(GRID, SIZE), torch.arange(6), 6)
    assert max(sizes) == 3
    assert sum(sizes) == 12
    monkeypatch.undo()
    whole = occlusion_curves(predict, X, input_boxes(GRID, SIZE), torch.arange(6), 6)
    torch.testing.assert_close(curves.deletion, whole.deletion)
    torch.testing.assert_close(curves.insertion, whole.insertion)


def test_the_backbone_never_gets_an_empty_batch() -> None:
    def strict(batch: Tensor) -> Tensor:
        assert len(batch)
        return predict(batch)

    curves = occlusion_curves(strict, X, input_boxes(GRID, SIZE), torch.arange(6), 1)
    ends = torch.stack([predict(X[None])[0], predict(0 * X[None])[0]])
    torch.testing.assert_close(curves.deletion, ends)
    torch.testing.assert_close(curves.insertion, ends.flip(0))


def test_input_boxes_by_hand() -> None:
    assert input_boxes((1, 2), (3, 8)).tolist() == [[0, 0, 4, 3], [4, 0, 8, 3]]
    assert input_boxes((2, 1), (4, 5)).tolist() == [[0, 0, 5, 2], [0, 2, 5, 4]]


@pytest.mark.usefixtures("as_user")
def test_bad_curves_orders_and_fills() -> None:
    boxes, order = input_boxes(GRID, SIZE), torch.arange(6)
    for curve in (torch.ones(1), torch.ones(3, 2)):
        with pytest.raises(ValueError, match="`curve` must be"):
            area(curve)
    with pytest.raises(ValueError, match="`curve` must be finite"):
        area(torch.tensor([1.0, math.nan]))
    for fractions in ([0.0, 0.5], [0.0, 0.9, 0.8, 1.0], [0.1, 0.5, 1.0], [0.0, 0.5, 0.9]):
        with pytest.raises(ValueError, match="increasing numbers from 0 to 1"):
            area(torch.ones(3), torch.tensor(fractions))
    with pytest.raises(ValueError, match="`values` must be finite"):
        order_of(torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match="got none"):
        order_of(torch.ones(0))
    with pytest.raises(ValueError, match="`n_orders` must be a whole number >= 2"):
        random_areas(lambda _: torch.ones(3), 4, 1)
    with pytest.raises(ValueError, match="permutation"):
        occlusion_curves(predict, X, boxes, torch.tensor([0, 1, 2, 3, 4, 4]), 2)
    with pytest.raises(TypeError, match="`order` must be integers"):
        occlusion_curves(predict, X, boxes, order.double(), 2)
    with pytest.raises(ValueError, match="`x` must be finite"):
        occlusion_curves(predict, X * math.nan, boxes, order, 2)
    for steps in (0, 7, True):
        with pytest.raises((TypeError, ValueError), match="`steps` must be a whole number in 1"):
            occlusion_curves(predict, X, boxes, order, steps)
    for wrong in (boxes + 0.5, boxes + 1, boxes[:, [2, 3, 0, 1]], boxes - 1):
        with pytest.raises(ValueError, match="whole pixels of the input"):
            occlusion_curves(predict, X, wrong, order, 2)
    for fill in (torch.ones(3), torch.ones(3, 2, 2), torch.ones(1, 4, 8)):
        with pytest.raises(ValueError, match="`fill` must be"):
            occlusion_curves(predict, X, boxes, order, 2, fill)
    with pytest.raises(ValueError, match="`fill` must be finite"):
        occlusion_curves(predict, X, boxes, order, 2, torch.full((3, 1, 1), math.inf))
    with pytest.raises(ValueError, match="`predict` must return logits"):
        occlusion_curves(lambda batch: predict(batch)[0], X, boxes, order, 2)
    with pytest.raises(ValueError, match="must tile the input"):
        input_boxes((3, 3), SIZE)
