"""Confusions against loops over pictures, and one table worked by hand."""

import json
from dataclasses import asdict

import pytest
import torch
from sklearn.metrics import confusion_matrix as by_scikit_learn
from torch import Tensor

from carrot.evaluation.confusion import ClassResult, Confusion, confusion_counts, confusion_pairs, per_class

#   predicted: ant bee cat owl
BY_HAND = [
    [5, 2, 2, 0],  # ant
    [0, 4, 0, 0],  # bee
    [2, 0, 0, 0],  # cat
    [0, 0, 0, 0],  # owl
]
NAMES = ["ant", "bee", "cat", "owl"]


def pictures(matrix: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Predictions and labels that count up to ``matrix``."""
    said_and_true = [(k, c) for c, row in enumerate(matrix) for k, count in enumerate(row) for _ in range(count)]
    predicted, labels = torch.tensor(said_and_true).unbind(dim=1)
    return predicted, labels


def drawn(seed: int, n: int, C: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(C, (n,), generator=rng), torch.randint(C, (n,), generator=rng)


@pytest.mark.parametrize(("n", "C"), [(0, 3), (1, 1), (40, 4), (5, 9)])
def test_the_matrix_counts(n: int, C: int) -> None:
    predicted, labels = drawn(0, n, C)
    expected = [[0] * C for _ in range(C)]
    for said, y in zip(predicted.tolist(), labels.tolist(), strict=True):
        expected[y][said] += 1
    found = confusion_counts(predicted, labels, C)
    assert found == [(c, k, count) for c, row in enumerate(expected) for k, count in enumerate(row) if count]
    if C > 1 and n:  # scikit-learn refuses no picture, and warns of one class
        assert expected == by_scikit_learn(labels, predicted, labels=range(C)).tolist()


def test_narrow_indices_do_not_overflow() -> None:
    index = torch.tensor([119], dtype=torch.int8)
    assert confusion_counts(index, index, 120) == [(119, 119, 1)]


def test_per_class_by_hand() -> None:
    assert per_class(*pictures(BY_HAND), NAMES) == [
        ClassResult("ant", 9, 5, 5 / 9, "bee", 2),
        ClassResult("bee", 4, 4, 1.0, None, 0),
        ClassResult("cat", 2, 0, 0.0, "ant", 2),
        ClassResult("owl", 0, 0, None, None, 0),
    ]


def test_pairs_by_hand() -> None:
    assert confusion_pairs(*pictures(BY_HAND), NAMES) == [
        Confusion("cat", "ant", 2, 1.0),
        Confusion("ant", "bee", 2, 2 / 9),
        Confusion("ant", "cat", 2, 2 / 9),
    ]
    assert confusion_pairs(*pictures([[1, 0], [0, 1]]), ["a", "b"]) == []


def test_results_agree_with_loops_over_pictures() -> None:
    C = 5
    predicted, labels = drawn(1, 200, C)
    names = [f"class {c}" for c in range(C)]
    said_and_true = list(zip(predicted.tolist(), labels.tolist(), strict=True))
    for c, result in enumerate(per_class(predicted, labels, names)):
        own = [said for said, y in said_and_true if y == c]
        others = [sum(said == k for said in own) for k in range(C) if k != c]
        assert (result.n, result.right, result.mistaken) == (len(own), own.count(c), max(others))
        assert own.count(names.index(str(result.mistaken_for))) == max(others)
    pairs = confusion_pairs(predicted, labels, names)
    assert sum(pair.count for pair in pairs) == sum(said != y for said, y in said_and_true)
    assert [pair.count for pair in pairs] == sorted((pair.count for pair in pairs), reverse=True)
    for pair in pairs:
        c, k = names.index(pair.true), names.index(pair.predicted)
        assert pair.count == sum((said, y) == (k, c) for said, y in said_and_true)
        assert pair.share == pair.count / sum(y == c for _, y in said_and_true)


def test_results_are_ready_for_json() -> None:
    results: list[ClassResult | Confusion] = [
        *per_class(*pictures(BY_HAND), NAMES),
        *confusion_pairs(*pictures(BY_HAND), NAMES),
    ]
    for result in results:
        assert json.loads(json.dumps(asdict(result), allow_nan=False)) == asdict(result)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("predicted", "labels", "C", "error", "match"),
    [
        ([0, 3], [0, 0], 3, ValueError, "`predicted` must be from 0 to C - 1 = 2; got 0 to 3"),
        ([0, 0], [-1, 0], 3, ValueError, "`labels` must be from 0 to C - 1 = 2; got -1 to 0"),
        ([0, 0], [0], 3, ValueError, r"must be \(n,\)"),
        ([[0]], [[0]], 3, ValueError, r"must be \(n,\)"),
        ([0.0], [0], 3, TypeError, "`predicted` must be integers"),
        ([0], [True], 3, TypeError, "`labels` must be integers"),
        ([0], [0], 0, ValueError, "`C` must be a whole number >= 1"),
    ],
)
def test_bad_predictions(
    predicted: list[float], labels: list[float], C: int, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        confusion_counts(torch.tensor(predicted), torch.tensor(labels), C)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("function", [per_class, confusion_pairs])
@pytest.mark.parametrize(
    ("names", "error", "match"),
    [
        (["a"], ValueError, "from 0 to C - 1 = 0; got 0 to 1.*name every class"),
        ([], ValueError, "`names` must name at least one class"),
        ("ab", TypeError, "got the string 'ab'"),
    ],
)
def test_bad_names(  # type: ignore[no-untyped-def]
    function, names: list[str], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        function(torch.tensor([0, 1]), torch.tensor([0, 0]), names)
