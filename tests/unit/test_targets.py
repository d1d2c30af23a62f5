"""Labels answer as the matrix that they stand for."""

import pytest
import torch

import carrot
from carrot._ridge.targets import Targets
from tests import contract

F64 = torch.float64
LABELS = torch.tensor([2, 0, 1, 1, 2, 0, 3])
Y = torch.eye(5, dtype=F64)[LABELS]
SOME = slice(2, 6)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "D", "C"), [(40, 4, 3), (40, 4, 12), (14, 20, 3)])
def test_a_head_of_labels_is_that_of_their_matrix(n: int, D: int, C: int, intercept: bool) -> None:
    contract.check_labels(carrot, n, D, C, intercept)


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_products_are_those_of_the_matrix(shift: float) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, w = Y + shift, torch.rand(7, generator=generator, dtype=F64) + 0.5
    targets = Targets.of(matrix)
    assert targets.are_labels == (shift == 0.0)
    X, T, mean = torch.randn(4, 3, dtype=F64), torch.randn(5, 2, dtype=F64), (w / w.sum()) @ matrix
    torch.testing.assert_close(targets.mean(w), mean)
    total = torch.ones(5, 3, dtype=F64)
    targets.add_products(total, X, SOME, mean)
    left = torch.outer(mean, X.sum(dim=0)) if targets.are_labels else 0.0
    torch.testing.assert_close(total - left, 1.0 + (matrix[SOME] - mean).mT @ X)
    torch.testing.assert_close(targets.times(T, SOME), matrix[SOME] @ T)
    residual = torch.randn(4, 5, dtype=F64)
    torch.testing.assert_close(targets.minus(residual.clone(), SOME), matrix[SOME] - residual)
    torch.testing.assert_close(targets.squares(mean, SOME), (matrix[SOME] - mean).square().sum(dim=1))
    assert targets.reach == 1.0 + shift
    assert targets.most_of_a_class == (2 if targets.are_labels else 7)
    for index in (torch.tensor([6, 0]), SOME):
        assert torch.equal(targets[index].dense, matrix[index])
    assert torch.equal(targets.row(3), matrix[3])


def test_labels_and_targets_mix() -> None:
    labels, real = Targets(LABELS, 5), Targets.of(torch.full((2, 5), 0.5, dtype=F64))
    assert torch.equal(labels.then(labels).values, torch.cat([LABELS, LABELS]))
    assert torch.equal(labels.then(real).dense, torch.cat([Y, real.dense]))
    where = torch.tensor([1, 4])
    assert torch.equal(labels.put(where, real).dense, Y.index_copy(0, where, real.dense))
    assert torch.equal(
        labels.put(where, labels[where.flip(0)]).values, LABELS.index_copy(0, where, LABELS[where.flip(0)])
    )


@pytest.mark.parametrize("matrix", [2.0 * Y, Y + Y.roll(1, 0), 0.0 * Y, -Y, Y * (1.0 + 2.0**-52)])
def test_other_matrices_are_no_labels(matrix: torch.Tensor) -> None:
    targets = Targets.of(matrix)
    assert not targets.are_labels
    assert torch.equal(targets.dense, matrix)
