"""The ridge head: against least squares, n real refits, and scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifierCV, RidgeCV

import carrot
import carrot.attribution
from carrot import IllConditionedError, NotFittedError, RidgeHead
from carrot._ridge.statistics import MOST_LOST
from tests import contract

F64 = torch.float64
SIZES = [(60, 7), (40, 39), (40, 40), (40, 41), (15, 60), (2, 5)]
LAMS = [1e-4, 1.0, 100.0]


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks and strips at the sizes of these tests."""
    monkeypatch.setattr(carrot._ridge.blocks, "ENTRIES", 40)
    monkeypatch.setattr(carrot._ridge.blocks, "STRIP", 3)


def problem(n: int, D: int, C: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    G = torch.randn(n, D, generator=g, dtype=F64) + 0.5
    labels = torch.arange(n) % C
    return G + labels[:, None] * torch.linspace(-1, 1, D, dtype=F64), labels


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("lam", LAMS)
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_fit_and_leave_one_out_equal_real_refits(n: int, D: int, lam: float, intercept: bool, weighted: bool) -> None:
    contract.check_head(carrot, n, D, 3, lam, intercept, weighted)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("lam", LAMS)
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_equals_scikit_learn(n: int, D: int, lam: float, intercept: bool) -> None:
    G, labels = problem(n, D, 2)
    w = np.linspace(0.5, 2.0, n)
    head = RidgeHead(lam, intercept).fit(G, labels, torch.tensor(w))
    peer = Ridge(alpha=lam, fit_intercept=intercept, solver="svd").fit(G.numpy(), head.Y.numpy(), sample_weight=w)
    scale = np.abs(peer.predict(G.numpy())).max()
    condition = float(torch.linalg.matrix_norm(G, 2) ** 2 / lam)
    np.testing.assert_allclose(
        head.predict(G).numpy(), peer.predict(G.numpy()), atol=10 * 2.2e-16 * condition * scale + 1e-13
    )


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("n", "D"), [(60, 7), (20, 40)])
def test_lam_by_leave_one_out_is_scikit_learns_choice(n: int, D: int, intercept: bool) -> None:
    G, labels = problem(n, D)
    lams = np.logspace(-3, 3, 13)
    head = RidgeHead("loo", intercept, lams=lams.tolist()).fit(G, labels)
    peer = RidgeCV(alphas=lams, fit_intercept=intercept, store_cv_results=True).fit(G.numpy(), head.Y.numpy())
    np.testing.assert_allclose(head.loo_path.mse.numpy(), peer.cv_results_.mean(axis=(0, 1)), rtol=1e-9)
    assert head.lam == pytest.approx(peer.alpha_)
    # the classifier codes its targets -1 and 1: errors are four times ours, and the choice is the same
    assert head.lam == pytest.approx(
        RidgeClassifierCV(alphas=lams, fit_intercept=intercept).fit(G.numpy(), labels.numpy()).alpha_
    )


def test_the_default_path_follows_the_scale_of_the_features() -> None:
    G, labels = problem(60, 7)
    one, big = RidgeHead("loo", True).fit(G, labels), RidgeHead("loo", True).fit(1e3 * G, labels)
    assert big.lam == pytest.approx(1e6 * one.lam)
    torch.testing.assert_close(big.predict(1e3 * G), one.predict(G), rtol=1e-9, atol=1e-10)


def test_noise_chooses_the_end_of_the_path_and_says_so() -> None:
    G = torch.randn(30, 3, dtype=F64)
    with pytest.warns(UserWarning, match="a better one may lie beyond"):
        head = RidgeHead("loo", True, lams=[1e-6, 1e-5]).fit(G, torch.arange(30) % 2)
    assert head.lam == 1e-5


def test_ties_take_the_larger_lam() -> None:
    path = carrot._ridge.loo.LooPath(torch.tensor([1.0, 2.0, 3.0], dtype=F64), torch.tensor([0.5, 0.5, 0.7], dtype=F64))
    assert path.best == 1


@given(
    n=st.integers(3, 25),
    D=st.integers(1, 25),
    intercept=st.booleans(),
    seed=st.integers(0, 99),
    lam=st.sampled_from(LAMS),
)
@settings(max_examples=60)
def test_what_the_theory_says_of_every_fit(n: int, D: int, intercept: bool, seed: int, lam: float) -> None:
    """Leverage in (0, 1), W* = G^T alpha, duals sum to 0 with intercept, smoother rows sum to 1 with intercept."""
    G, labels = problem(n, D, 2, seed)
    head = RidgeHead(lam, intercept).fit(G, labels)
    assert bool(((head.leverage > 0) & (head.leverage < 1 + 1e-12)).all())
    # alpha = R / lam carries the rounding of R, |Y| eps = eps, 1 / lam times over; the system's condition is at most
    # |G|^2 / lam
    rounding = 10 * torch.finfo(F64).eps * (1.0 + float(G.square().sum()) / lam)
    torch.testing.assert_close(G.mT @ head.alpha, head.W_star, rtol=0, atol=rounding)
    if intercept:
        assert head.alpha.sum(0).abs().max() <= rounding
        torch.testing.assert_close(head.smoother(G).sum(-1), torch.ones(n, dtype=F64), rtol=0, atol=1e-9)
    torch.testing.assert_close(head.smoother(G).diagonal(), head.leverage, rtol=0, atol=1e-9)


def test_a_weight_of_two_is_a_picture_twice() -> None:
    G, labels = problem(20, 4)
    twice = torch.cat([torch.arange(20), torch.tensor([3])])
    w = torch.ones(20, dtype=F64)
    w[3] = 2.0
    a, b = RidgeHead(1.0, True).fit(G, labels, w), RidgeHead(1.0, True).fit(G[twice], labels[twice])
    torch.testing.assert_close(a.W_star, b.W_star, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("n", "D"), [(60, 7), (20, 40), (41, 40)])
def test_add_and_remove_equal_refitting(n: int, D: int, intercept: bool) -> None:
    """(41, 40) goes from the primal form to the dual when two pictures leave, and back."""
    G, labels = problem(n, D)
    head = RidgeHead(0.5, intercept).fit(G, labels)
    gone = [1, 5]
    stay = [i for i in range(n) if i not in gone]
    refit = RidgeHead(0.5, intercept).fit(G[stay], labels[stay])
    head.remove(gone)
    for name in ("W_star", "bias", "alpha", "leverage", "G", "Y"):
        torch.testing.assert_close(getattr(head, name), getattr(refit, name), rtol=1e-9, atol=1e-10)
    order = stay + gone
    head.add(G[gone], labels[gone])
    refit = RidgeHead(0.5, intercept).fit(G[order], labels[order])
    for name in ("W_star", "bias", "alpha", "leverage", "G", "Y"):
        torch.testing.assert_close(getattr(head, name), getattr(refit, name), rtol=1e-9, atol=1e-10)
    assert head.statistics.n == n


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("n", "D"), [(30, 6), (12, 30), (22, 20), (21, 20)])
def test_pictures_come_and_go(n: int, D: int, intercept: bool, weighted: bool, tiny_blocks: None) -> None:
    """Five steps, each against least squares; (22, 20) and (21, 20) change their form on the way."""
    contract.check_updates(carrot, n, D, 0.3, intercept, weighted)
    contract.check_updates(carrot, n, D, 0.3, intercept, weighted, giant=1e6)


def test_taking_pictures_out_of_the_dual_form_takes_no_product_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the inner products are kept: n^2 D is the cost of a fit."""
    formed = []
    original = carrot._ridge.gram.inner_products
    monkeypatch.setattr(carrot._ridge.gram, "inner_products", lambda G, c: formed.append(len(G)) or original(G, c))
    G, labels = problem(20, 40)
    head = RidgeHead("loo", True).fit(G, labels)
    assert formed == [20], "the path and the solve share them"
    head.remove([3, 4]).add(G[:1], labels[:1]).remove([0])
    assert formed == [20]


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("lam", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize(("n", "D"), [(60, 7), (15, 60), (33, 30)])
def test_removals_add_up(n: int, D: int, lam: float, intercept: bool) -> None:
    contract.check_removals(carrot, n, D, lam, intercept)


@pytest.mark.parametrize(("n", "D"), [(80, 32), (40, 64)])
def test_a_removal_solves_nothing_until_pictures_are_asked_about(
    n: int, D: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are rows gathered; a head that shares the system is not changed, and what is gone is in no state."""
    solved, original = [], carrot._ridge.removed.solve
    monkeypatch.setattr(carrot._ridge.removed, "solve", lambda *given: solved.append(1) or original(*given))
    G, labels = problem(n, D)
    head, other = RidgeHead(1.0, True).fit(G, labels), RidgeHead(1.0, True)
    other._system, other._rows, before = head._system, head._rows, head.W_star.clone()
    head.remove([3, 4]).remove(5)
    assert repr(head).count(f"fitted on {n - 3} embeddings") == 1
    assert not torch.equal(head.W_star, before)
    torch.testing.assert_close(head.predict(G[:5]), RidgeHead(1.0, True).fit(*kept(G, labels)).predict(G[:5]))
    assert not solved
    assert torch.equal(other.W_star, before)
    assert len(other.slack) == n
    assert torch.equal(head.state()["G"], kept(G, labels)[0])
    assert len(solved) == (n <= D), "dual weights are in a state where they are the solution"
    head.remove(0), head.add(G[:1], labels[:1])
    assert len(head.slack) == n - 3


def kept(G: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is left without 3 and 4, and then without what is 5 by then."""
    stay = [i for i in range(len(G)) if i not in (3, 4, 7)]
    return G[stay], labels[stay]


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("lam", LAMS)
@pytest.mark.parametrize(("n", "D"), [(60, 7), (15, 60)])
def test_blocks_change_no_answer(n: int, D: int, lam: float, intercept: bool, tiny_blocks: None) -> None:
    contract.check_head(carrot, n, D, 3, lam, intercept)
    contract.check_training_attribution(carrot, n, D, 3, lam, intercept)
    contract.check_float32_rows(carrot, n, D, lam, intercept)


def test_a_picture_alone_in_its_direction_is_told_as_by_refits() -> None:
    contract.check_alone(carrot)


@pytest.mark.parametrize(("n", "D"), [(60, 7), (12, 20)])
@pytest.mark.parametrize("lam", [1.0, "loo"])
def test_rows_that_stay_in_a_file_answer_as_copies_of_them(
    n: int, D: int, lam: float, tmp_path: Path, tiny_blocks: None
) -> None:
    G, labels = problem(n, D)
    np.save(tmp_path / "G.npy", G.half().numpy())
    rows = torch.from_numpy(np.load(tmp_path / "G.npy", mmap_mode="c"))
    head, copied = RidgeHead(lam, True, copy=False).fit(rows, labels), RidgeHead(lam, True).fit(rows.double(), labels)
    assert head.G.data_ptr() == rows.data_ptr()
    assert head.lam == copied.lam
    torch.testing.assert_close(head.W_star, copied.W_star, rtol=0, atol=1e-12)
    torch.testing.assert_close(head.loo_predict(), copied.loo_predict(), rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.cat([x for _, x in head.loo_blocks()]), copied.loo_predict(), rtol=0, atol=1e-12)
    head.remove([2]), copied.remove([2])
    torch.testing.assert_close(head.W_star, copied.W_star, rtol=0, atol=1e-12)
    torch.testing.assert_close(head.slack, copied.slack, rtol=0, atol=1e-12)
    rows[3, 0] = torch.inf
    with pytest.raises(ValueError, match=f"`G` must be finite; 1 of its {n * D} entries"):
        RidgeHead(lam, True, copy=False).fit(rows, labels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, F64])
def test_rows_keep_their_precision_and_answers_are_float64(dtype: torch.dtype) -> None:
    for n, D in ((30, 5), (12, 20)):
        G, labels = problem(n, D)
        G = G.to(dtype)
        head = RidgeHead("loo", True, lams=[1.0]).fit(G, labels)
        wide = RidgeHead(head.lam, True).fit(G.double(), labels)
        assert head.G.dtype == (F64 if dtype == F64 else torch.float32)
        assert torch.equal(head.G.double(), G.double())
        for name in ("W_star", "bias", "g_mean", "y_mean", "alpha", "residual", "slack", "leverage", "Y"):
            assert getattr(head, name).dtype == F64
            assert torch.equal(getattr(head, name), getattr(wide, name)), name
        for ours, theirs in (
            (head.predict(G), wide.predict(G)),
            (head.smoother(G), wide.smoother(G)),
            (head.kernel(G, G[:2]), wide.kernel(G, G[:2])),
            (head.loo_predict(), wide.loo_predict()),
            (carrot.attribution.training_contribution(G, head.G, head.alpha), G.double() @ G.double().mT),
            (carrot.attribution.group_removal_effect(head, G, [1, 2]), wide.predict(G)),
            (carrot.attribution.replacement_effect(head, G, 1, G[0]), wide.predict(G)),
            (carrot.attribution.top_training(head, G, 2, "removal")[0], wide.predict(G)),
        ):
            assert ours.dtype == theirs.dtype == F64
        assert torch.equal(head.smoother(G), wide.smoother(G.double()))


def test_rows_of_two_precisions_are_kept_in_the_wider() -> None:
    G, labels = problem(20, 4)
    head = RidgeHead(1.0).fit(G.float(), labels).add(G[:2], labels[:2])
    assert head.G.dtype == F64
    assert torch.equal(head.G[20:], G[:2])
    assert RidgeHead(1.0).fit(G, labels).add(G[:2].float(), labels[:2]).G.dtype == F64


def test_a_class_may_be_forgotten_whole() -> None:
    G, labels = problem(30, 5)
    head = RidgeHead(1.0, True).fit(G, labels)
    head.remove((labels == 2).nonzero().flatten())
    assert head.W_star.shape == (5, 3)
    assert float(head.W_star[:, 2].abs().max()) < 1e-12


def test_duplicate_rows_and_constant_columns_are_no_trouble() -> None:
    G, labels = problem(20, 6)
    G = torch.cat([G, G])
    G[:, 2] = 4.0
    head = RidgeHead(1e-3, True).fit(G, torch.cat([labels, labels]))
    assert bool(torch.isfinite(head.loo_predict()).all())


def test_float32_rows_are_solved_in_float64() -> None:
    """What comes in as float32 is the same fit as its float64 copy, to the bit."""
    G, labels = problem(50, 30)
    narrow = G.float()
    a, b = RidgeHead(1e-4, True).fit(narrow, labels), RidgeHead(1e-4, True).fit(narrow.double(), labels)
    assert a.W_star.dtype == F64
    assert torch.equal(a.W_star, b.W_star)


def test_a_failed_fit_leaves_the_old_one() -> None:
    G, labels = problem(20, 4)
    head = RidgeHead(1e-30).fit(G, labels)
    W_star = head.W_star.clone()
    with pytest.raises(IllConditionedError, match="condition number"):
        head.fit(torch.ones(20, 4, dtype=F64), labels)
    assert torch.equal(head.W_star, W_star)
    with pytest.raises(IllConditionedError, match="condition number"):
        RidgeHead(1e-30).fit(torch.ones(4, 20, dtype=F64), torch.tensor([0, 1, 0, 1]))


def test_from_statistics_knows_no_single_picture() -> None:
    G, labels = problem(20, 4)
    head = RidgeHead.from_statistics(RidgeHead(1.0, True).fit(G, labels).statistics, 1.0, True)
    torch.testing.assert_close(head.predict(G), RidgeHead(1.0, True).fit(G, labels).predict(G))
    for name in ("alpha", "leverage", "G", "Y", "residual"):
        with pytest.raises(NotFittedError, match="statistics alone"):
            getattr(head, name)


def test_unfitted() -> None:
    with pytest.raises(NotFittedError, match="fit"):
        RidgeHead().predict(torch.zeros(1, 3))
    with pytest.raises(NotFittedError, match="chosen by `fit`"):
        _ = RidgeHead("loo").lam
    assert RidgeHead(2.0).lam == 2.0


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"G": torch.zeros(4)}, ValueError, r"\(n, D\)"),
        ({"G": torch.zeros(0, 3)}, ValueError, r"\(n, D\)"),
        ({"G": torch.ones(4, 3, dtype=torch.long)}, TypeError, "floating"),
        ({"G": torch.full((4, 3), float("nan"))}, ValueError, "12 of its 12"),
        ({"Y": torch.tensor([0, 1, 0])}, ValueError, "n = 4"),
        ({"Y": torch.tensor([1, 1, 1, 1])}, ValueError, "only class 1"),
        ({"Y": torch.tensor([0, 2, 0, 2])}, ValueError, "label 1"),
        ({"Y": torch.tensor([0, -1, 0, 1])}, ValueError, ">= 0"),
        ({"Y": torch.tensor([0.0, 1.0, 0.0, 1.0])}, TypeError, "integer labels"),
        ({"sample_weight": torch.tensor([1.0, 0.0, 1.0, 1.0])}, ValueError, "> 0"),
        ({"sample_weight": torch.ones(3)}, ValueError, "sample_weight"),
    ],
)
def test_bad_training_sets(change: dict, error: type, words: str) -> None:
    good = {"G": torch.randn(4, 3), "Y": torch.tensor([0, 1, 0, 1])}
    with pytest.raises(error, match=words):
        RidgeHead().fit(**{**good, **change})


@pytest.mark.usefixtures("as_user")
def test_bad_arguments() -> None:
    for lam in (0.0, -1.0, float("nan"), "best"):
        with pytest.raises(ValueError, match="lam"):
            RidgeHead(lam)
    with pytest.raises(ValueError, match="at least one"):
        RidgeHead("loo", lams=[])
    with pytest.raises(ValueError, match="at least two"):
        RidgeHead("loo").fit(torch.randn(1, 3), torch.randn(1, 2))
    head = RidgeHead().fit(*problem(20, 4))
    with pytest.raises(ValueError, match=r"\(\.\.\., 4\)"):
        head.predict(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="g"):
        head.predict(torch.full((2, 4), float("inf")))
    for indices in ([], [20], [-1], [2, 2], list(range(20))):
        with pytest.raises(ValueError, match="indices"):
            head.remove(indices)
    with pytest.raises(ValueError, match="known classes"):
        head.add(torch.zeros(1, 4), torch.tensor([3]))
    with pytest.raises(ValueError, match="columns"):
        head.add(torch.zeros(1, 5), torch.tensor([0]))


def test_the_head_keeps_its_own_rows() -> None:
    """Writing into what was passed, after ``fit``, changes nothing that is computed later."""
    G, labels = problem(20, 3)
    expected = RidgeHead(1.0).fit(G.clone(), labels).alpha
    head = RidgeHead(1.0).fit(G, labels)
    G.mul_(0.0)
    torch.testing.assert_close(head.alpha, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("n", "intercept"), [(20, False), (20, True), (21, True), (19, True)])
def test_leave_one_out_where_every_picture_has_leverage_one(n: int, intercept: bool) -> None:
    """n = D, or D + 1 with an intercept, at lam = 1e-12: the primal form loses all but three digits of 1 - leverage."""
    from tests import reference as ref

    G = np.random.default_rng(1).normal(size=(n, 20))
    Y = np.random.default_rng(2).normal(size=(n, 2))
    head = RidgeHead(1e-12, intercept).fit(torch.tensor(G), torch.tensor(Y))
    expected = ref.loo(G, Y, 1e-12, intercept)
    tolerance = (
        10 * 2.2e-16 * np.sqrt(ref.condition(G, 1e-12, intercept))
    )  # least squares sees the root of the condition
    np.testing.assert_allclose(head.loo_predict().numpy(), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("size", [1e4, 1e6, 1e7])
def test_a_picture_alone_in_its_direction(size: float) -> None:
    """Its leverage is 1 to 16 digits, and its leave-one-out still that of a refit."""
    from tests import reference as ref

    rng = np.random.default_rng(0)
    G, Y = rng.normal(size=(40, 4)), rng.normal(size=(40, 2))
    G[:, 3] = 0.0
    G[5, 3] = size
    for intercept in (False, True):
        head = RidgeHead(1e-3, intercept).fit(torch.tensor(G), torch.tensor(Y))
        assert bool((head.slack > 0).all())
        expected = ref.predict(np.delete(G, 5, 0), np.delete(Y, 5, 0), 1e-3, intercept, G[5])
        np.testing.assert_allclose(head.loo_predict()[5].numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e4, 1e6, 1e8])
def test_a_giant_picture_is_forgotten_to_the_last_digit(size: float) -> None:
    """Subtracting its moments would leave their rounding in the model."""
    G, labels = problem(40, 4)
    G[0] *= size
    forgotten = RidgeHead(1.0, True).fit(G, labels).remove([0])
    refit = RidgeHead(1.0, True).fit(G[1:], labels[1:])
    torch.testing.assert_close(forgotten.W_star, refit.W_star, rtol=1e-9, atol=1e-12)
    w = torch.ones(40, dtype=F64)
    w[:5] = 1e7
    heavy = RidgeHead(1.0, True).fit(problem(40, 4)[0], labels, w).remove(list(range(5)))
    torch.testing.assert_close(
        heavy.W_star, RidgeHead(1.0, True).fit(problem(40, 4)[0][5:], labels[5:]).W_star, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "D"), [(32, 30), (34, 30), (60, 30), (20, 30)])
def test_giants_are_gone_to_the_last_digits(n: int, D: int, intercept: bool) -> None:
    contract.check_giants(carrot, n, D, intercept)


def test_embeddings_that_are_all_equal_choose_no_wild_head() -> None:
    G = (10 * torch.randn(1, 100, dtype=F64)).repeat(50, 1)
    with pytest.warns(UserWarning, match="end of the path"):
        head = RidgeHead("loo", True).fit(G, torch.arange(50) % 2)
    assert float((head.predict(1.0001 * G[:1]) - 0.5).abs().max()) < 1e-3


def test_the_path_is_dropped_when_pictures_come_or_go() -> None:
    G, labels = problem(20, 3)
    assert RidgeHead("loo", True).fit(G, labels).remove([0]).loo_path is None
    assert RidgeHead("loo", True).fit(G, labels).add(G[:1], labels[:1]).loo_path is None


@pytest.mark.usefixtures("as_user")
def test_more_mistakes() -> None:
    G, labels = problem(20, 3)
    with pytest.raises(ValueError, match="flatten"):
        RidgeHead().fit(G, labels[:, None])
    with pytest.raises(TypeError, match="as_tensor"):
        RidgeHead().fit(G.numpy(), labels)
    with pytest.raises(ValueError, match="999999998 such classes"):
        RidgeHead().fit(G, torch.tensor([0] * 19 + [10**9 - 1]))
    head = RidgeHead(1.0, True).fit(G, labels)
    for indices in (torch.zeros(20, dtype=torch.bool), [1.7]):
        with pytest.raises(TypeError, match="whole number"):
            head.remove(indices)
    with pytest.raises(ValueError, match="number > 0"):
        RidgeHead.from_statistics(head.statistics, "loo")
    with pytest.raises(ValueError, match="at least two"):
        _ = RidgeHead(1.0, True).fit(G[:1], torch.randn(1, 2)).slack
    with pytest.raises(IllConditionedError, match="overflows"):
        RidgeHead(1.0).fit(1e160 * G, labels)


def test_removal_among_duplicates_at_a_tiny_lam_is_a_refit() -> None:
    """Dual form: off the diagonal too, I - s must not cancel. A copy stays behind, so both leverages are a half."""
    from carrot.attribution import group_removal_effect

    for intercept in (True, False):
        G, g = torch.randn(30, 90, dtype=torch.float64), torch.randn(2, 90, dtype=torch.float64)
        G[1] = G[0]
        Y = torch.randn(30, 2, dtype=torch.float64)
        lam = 1e-7 * float((G @ G.mT).diagonal().mean())
        head, gone = RidgeHead(lam, intercept).fit(G, Y), [0, 5, 6, 7]
        stay = [i for i in range(30) if i not in gone]
        refit = RidgeHead(lam, intercept).fit(G[stay], Y[stay])
        found = head.predict(g) - group_removal_effect(head, g, gone)
        condition = 1.0 + float(torch.linalg.eigvalsh(G @ G.mT).max()) / lam
        torch.testing.assert_close(found, refit.predict(g), rtol=0, atol=10 * 2.2e-16 * condition)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_giants_removed_one_group_after_the_other_leave_nothing_behind(intercept: bool, offset: float) -> None:
    """Each step alone takes away little more than what stays; all together take away 1e8 times it."""
    scales = [90.0**4, 90.0**3, 90.0**2, 90.0, 1.0]
    G = torch.cat([scale * torch.randn(20, 5, dtype=torch.float64) for scale in scales]) + (
        offset if intercept else 0.0
    )
    Y = torch.randn(100, 2, dtype=torch.float64)
    head = RidgeHead(1.0, intercept).fit(G, Y)
    for step in range(1, 5):
        head.remove(range(20))
        refit = RidgeHead(1.0, intercept).fit(G[20 * step :], Y[20 * step :])
        left = G[20 * step :] - (G[20 * step :].mean(dim=0) if intercept else 0.0)
        condition = float(torch.linalg.cond(left.mT @ left + torch.eye(5, dtype=torch.float64)))
        # three digits may go by subtraction, and as many as the offset is larger than the spread
        lost = (MOST_LOST + offset) * condition * max(1.0, float(refit.W_star.abs().max()))
        torch.testing.assert_close(head.W_star, refit.W_star, rtol=0, atol=10 * torch.finfo(torch.float64).eps * lost)


@pytest.mark.usefixtures("as_user")
def test_adding_a_list_of_labels_says_what_is_wanted() -> None:
    head = RidgeHead(1.0).fit(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(TypeError, match="`Y` must be a real torch.Tensor"):
        head.add(torch.rand(1, 3), [1])  # type: ignore[arg-type]


@pytest.mark.parametrize("D", [3, 30])
@pytest.mark.parametrize("intercept", [False, True])
def test_one_picture_a_class_leaves_leave_one_out_nothing_to_choose_by(D: int, intercept: bool) -> None:
    """Whichever end of the path it takes: the class of what is left out is then unknown."""
    G = torch.randn(12, D, dtype=F64)
    for Y in (torch.arange(12), torch.eye(12, dtype=F64)):
        with pytest.warns(UserWarning, match="one training picture.*can't choose lam") as caught:
            head = RidgeHead("loo", intercept).fit(G, Y)
        assert len(caught) == 1
        assert f"{head.lam:.3g}" in str(caught[0].message)
    labels = torch.arange(12) // 2
    assert "one training picture" not in str(
        RidgeHead("loo", intercept, lams=[1.0]).fit(G, labels).loo_path.doubt(carrot._ridge.targets.Targets(labels, 6))
    )
    assert RidgeHead("loo", intercept, lams=[1.0]).fit(G, torch.arange(12)).lam == 1.0  # one penalty: nothing to choose


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("size", [1e4, 1e6, 1e7])
def test_a_picture_alone_in_its_direction_on_the_path(size: float, intercept: bool) -> None:
    """1 - leverage is nothing but rounding there: the error on the path is still that of real refits."""
    from tests import reference as ref

    rng = np.random.default_rng(0)
    G, Y = rng.normal(size=(40, 4)), rng.normal(size=(40, 2))
    G[:, 3] = 0.0
    G[5, 3] = size
    lams = [1e-3, 1e-1, 10.0]
    path = carrot._ridge.loo.loo_path(
        carrot._ridge.rows.checked_rows(torch.tensor(G), torch.tensor(Y), None), intercept, lams
    )
    for lam, mse in zip(lams, path.mse.tolist(), strict=True):
        expected = float(np.mean((Y - ref.loo(G, Y, lam, intercept)) ** 2))
        assert mse == pytest.approx(
            expected, rel=max(1e-9, 10 * 2.2e-16 * size**2)
        )  # the condition number is some size^2


@pytest.mark.parametrize(("n", "D"), [(20, 4), (5, 9)])
def test_embeddings_may_come_with_gradients(n: int, D: int) -> None:
    """Of a backbone that is trained, or asked outside of ``no_grad``: logits pass them on, other answers carry none."""
    G = torch.randn(n, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain, g = RidgeHead(0.5, True).fit(G, torch.arange(n) % 2), G[:3].clone().requires_grad_()
    head = RidgeHead(0.5, True, copy=False).fit(G.clone().requires_grad_(), torch.arange(n) % 2)
    for name in ("predict", "smoother", "account", "inverse_times", "label_p_values"):
        found, expected = (torch.stack(list(getattr(h, name)(x))) for h, x in ((head, g), (plain, G[:3])))
        assert torch.equal(found, expected)
        assert found.requires_grad == (name == "predict")
    head.predict(g)[:, 1].sum().backward()
    assert torch.equal(g.grad, head.W_star[:, 1].expand(3, -1))
