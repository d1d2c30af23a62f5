"""Accuracy against scikit-learn where there are no ties, and against a plain sort where there are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score

from carrot.evaluation.accuracy import mean_per_class_accuracy, summary, top_k_accuracy

EXACT = 10 * np.finfo(float).eps  # means of at most 200 numbers in [0, 1]


@st.composite
def problems(draw: st.DrawFn, ties: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    m, n_classes = draw(st.integers(1, 30)), draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.integers(-2, 3, size=(m, n_classes)).astype(float) if ties else rng.standard_normal((m, n_classes))
    return logits, rng.integers(0, n_classes, size=m)


def sorted_top_k(logits: NDArray[np.float64], labels: NDArray[np.int64], k: int) -> list[bool]:
    """Right in the top k, row by row: best first, the lower index first where logits are equal."""
    order = [sorted(range(len(row)), key=lambda c, row=row: (-row[c], c)) for row in logits]
    return [label in best[:k] for best, label in zip(order, labels, strict=True)]


@given(problems(ties=False), st.data())
def test_agrees_with_scikit_learn(problem: tuple[NDArray[np.float64], NDArray[np.int64]], data: st.DataObject) -> None:
    logits, labels = problem
    n_classes = logits.shape[1]
    k = data.draw(st.integers(1, n_classes))
    predicted = logits.argmax(axis=1)
    if 1 < k < n_classes and n_classes > 2:  # scikit-learn reads two columns, and k >= C, in its own way
        oracle = top_k_accuracy_score(labels, logits, k=k, labels=range(n_classes))
        assert top_k_accuracy(logits, labels, k) == pytest.approx(oracle, abs=EXACT)
    assert top_k_accuracy(logits, labels, 1) == pytest.approx(accuracy_score(labels, predicted), abs=EXACT)
    # averaged over the classes present; scikit-learn warns where a prediction is of none of these
    recalls = [(predicted[labels == c] == c).mean() for c in np.unique(labels)]
    assert mean_per_class_accuracy(logits, labels) == pytest.approx(np.mean(recalls), abs=EXACT)
    if set(predicted) <= set(labels) and len(set(labels)) > 1:
        oracle = balanced_accuracy_score(labels, predicted)
        assert mean_per_class_accuracy(logits, labels) == pytest.approx(oracle, abs=EXACT)


@given(problems(ties=True), st.data())
def test_ties_go_to_the_lowest_index(
    problem: tuple[NDArray[np.float64], NDArray[np.int64]], data: st.DataObject
) -> None:
    logits, labels = problem
    k = data.draw(st.integers(1, logits.shape[1]))
    assert top_k_accuracy(logits, labels, k) == pytest.approx(np.mean(sorted_top_k(logits, labels, k)), abs=EXACT)
    assert top_k_accuracy(logits, labels, 1) == pytest.approx(np.mean(logits.argmax(axis=1) == labels), abs=EXACT)


def test_a_constant_prediction_is_class_0() -> None:
    logits = torch.zeros(4, 3)
    assert [top_k_accuracy(logits, torch.tensor([0, 1, 2, 0]), k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]


def test_classes_count_alike_and_absent_ones_not_at_all() -> None:
    logits = np.eye(5)[[0, 0, 0, 1, 3]]
    labels = [0, 0, 0, 0, 3]  # class 0: 3 of 4; class 3: 1 of 1; classes 1, 2, 4 don't occur
    assert mean_per_class_accuracy(logits, labels) == (3 / 4 + 1) / 2
    assert top_k_accuracy(logits, labels, 1) == 4 / 5


@pytest.mark.parametrize("n_classes", [1, 2, 5, 9])
def test_summary(n_classes: int) -> None:
    rng = np.random.default_rng(3)
    logits, labels = rng.standard_normal((200, n_classes)), rng.integers(0, n_classes, size=200)
    result = summary(logits, labels)
    assert result.n == 200
    assert result.top1 == top_k_accuracy(logits, labels, 1)
    assert result.top5 == top_k_accuracy(logits, labels, min(5, n_classes))
    assert result.mean_per_class == mean_per_class_accuracy(logits, labels)
    assert (result.top5 == 1.0) == (n_classes <= 5)
    assert all(type(value) is float for value in (result.top1, result.top5, result.mean_per_class))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_arrays_tensors_and_lists_give_the_same(dtype: torch.dtype) -> None:
    logits = torch.randint(-9, 9, (50, 6)).to(dtype)
    labels = torch.randint(0, 6, (50,))
    expected = summary(logits, labels)
    read_only = labels.to(torch.uint8).numpy()
    read_only.setflags(write=False)
    assert summary(logits.requires_grad_(dtype.is_floating_point), labels.to(torch.int16)) == expected
    assert summary(logits.detach().double().numpy(), read_only) == expected
    assert summary(logits.detach().tolist(), labels.tolist()) == expected
    assert summary(logits.detach().double().numpy(), labels.numpy().astype(np.uint16)) == expected


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 1], r"\(m, C\) and labels \(m,\); got \(3, 2\) and \(2,\)"),
        (np.zeros(3), [0, 1, 0], r"got \(3,\) and \(3,\)"),
        (np.zeros((3, 2)), [[0], [1], [0]], r"got \(3, 2\) and \(3, 1\)"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), r"at least one picture and one class; got shape \(0, 2\)"),
        (np.zeros((2, 0)), [0, 0], r"at least one picture and one class; got shape \(2, 0\)"),
        (np.zeros((2, 3)), [0, 3], r"labels must be from 0 to C - 1 = 2; got 0 to 3"),
        (np.zeros((2, 3)), [-1, 2], r"got -1 to 2"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), [0, 1], r"logits must be finite; row 1 is not"),
        (np.array([[np.inf, 1.0], [0.0, 0.0]]), [0, 1], r"logits must be finite; row 0 is not"),
    ],
)
def test_wrong_values(logits: NDArray[np.float64], labels: list[int], message: str) -> None:
    for measure in (summary, mean_per_class_accuracy, lambda s, y: top_k_accuracy(s, y, 1)):
        with pytest.raises(ValueError, match=message):
            measure(logits, labels)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_is_from_1_to_the_number_of_classes(k: int) -> None:
    with pytest.raises(ValueError, match=f"`k` must be a whole number in 1 .. 3, the number of classes; got {k}"):
        top_k_accuracy(np.zeros((2, 3)), [0, 1], k)


def test_wrong_kinds() -> None:
    for labels in ([0.0, 1.0], [True, False]):
        with pytest.raises(TypeError, match="labels must be integers"):
            summary(np.zeros((2, 3)), labels)
    for logits in (np.zeros((2, 3), dtype=bool), np.zeros((2, 3), dtype=complex)):
        with pytest.raises(TypeError, match="logits must be real numbers"):
            summary(logits, [0, 1])
