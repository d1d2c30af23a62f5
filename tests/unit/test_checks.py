"""The checks say how far apart two ways are: nearly nothing for a right head, and plainly something for a wrong one."""

import pytest
import torch

import carrot.protocol.checks as checks
from carrot.explanation.parts import take_apart
from carrot.head import RidgeHead
from carrot.protocol.checks import Difference, group_removal_check, leave_one_out_check, sums_check
from tests import contract
from tests.unit.test_parts import lifted_trace


def fitted(n: int = 30, D: int = 8, seed: int = 0) -> RidgeHead:
    rng = torch.Generator().manual_seed(seed)
    G = torch.randn(n, D, generator=rng, dtype=torch.float64)
    return RidgeHead(0.5, True).fit(G, torch.arange(n) % 3, 0.5 + torch.rand(n, generator=rng, dtype=torch.float64))


def test_difference_by_hand() -> None:
    a, b = torch.tensor([1.0, -4.0]), torch.tensor([1.5, -4.0])
    assert Difference.of(a, b, 2) == Difference(2, 0.5, 0.125)
    assert Difference.of(a * 0, b * 0, 2) == Difference(2, 0.0, 0.0)
    with pytest.raises(ValueError, match="must have the shape"):
        Difference.of(a, b[:1], 1)


@pytest.mark.parametrize(("n", "D"), [(30, 8), (10, 40)])
def test_leave_one_out_is_exact(n: int, D: int) -> None:
    head = fitted(n, D)
    found = leave_one_out_check(head, 4, seed=1)
    assert found.n == 4
    assert found.relative < 1e-12
    assert leave_one_out_check(head, 1000).n == n


def test_a_wrong_leave_one_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    head = fitted()
    monkeypatch.setattr(RidgeHead, "loo_predict", lambda self: self.predict(self.G))  # forgets to leave out
    assert leave_one_out_check(head, 5).relative > 0.01


def test_the_pictures_left_out_are_drawn_by_the_seed_without_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    head, drawn = fitted(), []
    refit = RidgeHead.without

    def noted(head: RidgeHead, i: int) -> RidgeHead:
        drawn.append(i)
        return refit(head, i)

    monkeypatch.setattr(RidgeHead, "without", noted)
    for seed in (0, 0, 1):
        leave_one_out_check(head, 8, seed)
    first, again, other = (drawn[k : k + 8] for k in (0, 8, 16))
    assert len(set(first)) == len(set(other)) == 8
    assert first == again != other


def test_group_removal_is_exact() -> None:
    head = fitted()
    found = group_removal_check(head, [[0], [3, 4, 9], list(range(20))], torch.randn(5, 8, dtype=torch.float64))
    assert found.n == 3
    assert found.relative < 1e-11


def test_a_wrong_group_removal_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of single removals is not the removal of the group."""
    head = fitted()

    def summed(head: RidgeHead, g: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return sum(carrot_effect(head, g, [int(i)]) for i in indices)  # type: ignore[return-value]

    carrot_effect = checks.group_removal_effect
    monkeypatch.setattr(checks, "group_removal_effect", summed)
    assert group_removal_check(head, [[3, 4, 9, 12]], torch.randn(5, 8, dtype=torch.float64)).relative > 1e-3


def test_sums_of_every_kind() -> None:
    import carrot

    w = contract.Lifted(carrot, "quadratic", 8, tau=3.0, share=0.3)
    parts = [take_apart(lifted_trace(w, i), w.head.logit(0)) for i in (-1, -2)]
    found = sums_check(parts)
    assert set(found) == set(parts[0].sums)
    assert all(d.n == 2 and d.relative < 1e-9 for d in found.values())
    broken = [*parts[:1], parts[1].__class__(**{**vars(parts[1]), "token": parts[1].token * 1.1})]
    again = sums_check(broken)
    assert again["regions by token"].relative > 1e-3
    assert again["regions by node"] == found["regions by node"]


@pytest.mark.usefixtures("as_user")
def test_bad_input() -> None:
    head = fitted()
    with pytest.raises(ValueError, match="at least one picture"):
        sums_check([])
    with pytest.raises(ValueError, match="`k` must be a whole number >= 1"):
        leave_one_out_check(head, 0)
    with pytest.raises(ValueError, match="at least two training pictures"):
        leave_one_out_check(RidgeHead(1.0).fit(torch.ones(1, 2), torch.ones(1, 2)), 1)
    g = torch.ones(2, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match="at least one group"):
        group_removal_check(head, [], g)
    with pytest.raises(ValueError, match="at least one test picture"):
        group_removal_check(head, [[0]], g[:0])
    for group, match in (
        ([], "0 .. 29"),
        ([30], "0 .. 29"),
        ([1, 1], "come twice"),
        (list(range(30)), "leave at least"),
    ):
        with pytest.raises(ValueError, match=match):
            group_removal_check(head, [group], g)
