"""The smallest flip: the bound, the search, and what a user is told."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrot import Carrot
from carrot._ridge import subsets
from carrot.attribution import RemovalFlips, group_removal_effect, smallest_relabelling
from carrot.data.toy import ToyBirds
from carrot.head import RidgeHead

F64 = torch.float64


def system(n: int, strength: float, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """E, a and b, so that I - E is positive definite."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n + 2))
    S = X @ X.T / (n + 2)
    S = np.eye(n) + strength * (S / np.sqrt(np.outer(S.diagonal(), S.diagonal())) - np.eye(n))
    return torch.eye(n, dtype=F64) - torch.tensor(S), *torch.tensor(rng.normal(size=(2, n)))


def effect(E: torch.Tensor, a: torch.Tensor, b: torch.Tensor, U: tuple[int, ...]) -> float:
    inside = np.eye(len(U)) - E.numpy()[np.ix_(U, U)]
    return float(a.numpy()[list(U)] @ np.linalg.inv(inside) @ b.numpy()[list(U)])


@given(st.integers(2, 8), st.floats(0.0, 0.95), st.integers(0, 10_000))
@settings(max_examples=40)
def test_no_set_comes_to_more_than_its_bound(n: int, strength: float, seed: int) -> None:
    E, a, b = system(n, strength, seed)
    for k in range(1, n + 1):
        h, most = subsets.bound(a, b, subsets.row_sums(E, k), k)
        for U in itertools.combinations(range(n), k):
            value = effect(E, a, b, U)
            room = 1e-9 * (1.0 + abs(value))
            assert value <= float(h[list(U)].sum()) + room
            assert value <= most + room


@given(st.integers(3, 8), st.floats(0.0, 0.95), st.integers(0, 10_000), st.data())
@settings(max_examples=40)
def test_the_search_finds_a_set_where_there_is_one(n: int, strength: float, seed: int, data: Any) -> None:
    E, a, b = system(n, strength, seed)
    k = data.draw(st.integers(1, min(n, 5)))
    values = sorted((effect(E, a, b, U) for U in itertools.combinations(range(n), k)), reverse=True)
    best = values[0]
    above = best + 1e-6 * (1.0 + abs(best))
    assert subsets.Search(10_000, None).find(E, a, b, above, k) is None
    found = subsets.Search(10_000, None).find(E, a, b, best - 1e-6 * (1.0 + abs(best)), k)
    assert found is not None
    assert len(set(found)) == k
    assert effect(E, a, b, tuple(found)) >= best - 1e-5 * (1.0 + abs(best))


def world(seed: int = 3) -> tuple[RidgeHead, torch.Tensor]:
    torch.manual_seed(seed)
    y = torch.arange(40) % 3
    G = torch.randn(40, 12, dtype=F64) + 1.5 * torch.nn.functional.one_hot(y, 12)
    return RidgeHead(5.0, True).fit(G, y), G[0] + 0.2


def test_where_the_budget_ends_both_ends_are_told() -> None:
    head, g = world()
    whole, cut = RemovalFlips(head).of(g), RemovalFlips(head).of(g, nodes=0)
    assert whole.is_smallest
    assert cut.least <= len(whole.indices) <= len(cut.indices)
    assert not (cut.is_smallest and len(cut.indices) > len(whole.indices))
    left = head.predict(g) - group_removal_effect(head, g, list(whole.indices))
    torch.testing.assert_close(whole.logits[-1], left, rtol=0, atol=1e-12)


def test_rows_of_e_that_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    head, g = world()
    whole = RemovalFlips(head).of(g)
    monkeypatch.setattr("carrot.edits.flips.KEPT", 1_000)  # of 1,600
    part = RemovalFlips(head).of(g)
    assert part.indices == whole.indices
    assert part.is_smallest


def test_labels_of_one_class() -> None:
    head, g = world()
    any_label, one = smallest_relabelling(head, g), smallest_relabelling(head, g, to=1)
    assert set(one.labels) == {1}
    assert len(one.indices) >= len(any_label.indices) > 0


@pytest.mark.usefixtures("as_user")
def test_mistakes_of_one_head() -> None:
    head, g = world()
    with pytest.raises(ValueError, match="0 .. 2, a class"):
        smallest_relabelling(head, g, to=3)
    with pytest.raises(ValueError, match="one embedding"):
        RemovalFlips(head).of(g.unsqueeze(0))


BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=1, n_species=4)
TEST = BIRDS.image(next(i for i, record in enumerate(BIRDS.records) if record.split == "test"))


@pytest.fixture(scope="module")
def model() -> Carrot:
    return Carrot("toy", t=1.0, lift="identity", lam=0.1).fit(BIRDS)


def test_a_user_is_told_in_words(model: Carrot) -> None:
    before = model.predict(TEST)[0]
    answer = model.smallest_flip(TEST, verify=True)
    assert answer.predicted == before
    assert answer.difference is not None
    assert answer.difference < 1e-9
    ids = [step.training_id for step in answer.steps]
    asked = model.what_if(TEST, without=ids) if not answer.emptied else None
    assert asked is None or asked.prediction == answer.becomes
    text = str(answer)
    assert f"the model says {answer.becomes}, not {before}" in text
    assert ("it takes no more than" in text) == (not answer.is_smallest)
    assert f"without {ids[0]}" in text
    assert answer.to_dict()["size"] == len(ids)
    assert answer.to_html().count("<img") == 1 + min(10, len(ids))
    assert answer.training_id is None
    own = next(i for i, record in enumerate(BIRDS.records) if record.split == "train")
    told = model.smallest_flip(BIRDS.image(own))
    assert told.training_id == BIRDS.records[own].id
    assert f"was fitted on this picture ({told.training_id})" in str(told)


def test_other_labels_in_words(model: Carrot) -> None:
    answer = model.smallest_flip(TEST, "relabelling", verify=True)
    moved = {step.training_id: step.becomes for step in answer.steps}
    assert model.what_if(TEST, relabel=moved).prediction == answer.becomes
    assert answer.is_smallest
    assert "labelled" in str(answer)


@pytest.mark.usefixtures("as_user")
def test_mistakes(model: Carrot) -> None:
    with pytest.raises(ValueError, match="removal"):
        model.smallest_flip(TEST, "deletion")
    with pytest.raises(ValueError, match="relabelling"):
        model.smallest_flip(TEST, to=0)


def test_of_few_pictures_no_set_is_claimed_that_is_not_smallest() -> None:
    """Rows of |E| sum to more than 1, so that sets are searched with one in until nobody is left."""
    for seed in range(24):
        rng = np.random.default_rng(seed)
        G, labels = rng.normal(size=(5, 2)), np.arange(5) % 2
        G[2:] = G[:3]
        head = RidgeHead(1e-3, seed % 2 == 0).fit(torch.tensor(G), torch.tensor(labels))
        g = torch.tensor(rng.normal(size=2))
        c, flips = int(head.predict(g).argmax()), RemovalFlips(head)
        sets = [U for k in range(1, 5) for U in itertools.combinations(range(5), k)]
        after = torch.stack([head.without(U).predict(g) for U in sets])
        lead = (after[:, 1 - c] - after[:, c]).tolist()
        smallest = min((len(U) for U, ahead in zip(sets, lead, strict=True) if ahead > 1e-9), default=5)
        for nodes in (0, 1, 3, 5_000):
            flip = flips.of(g, nodes=nodes)
            assert flip.least <= smallest
            assert flip.becomes is None or len(flip.indices) >= smallest
            assert not flip.is_smallest or len(flip.indices) == smallest
        assert flip.least == smallest
