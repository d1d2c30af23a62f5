"""Near duplicates against a loop over pairs; precision and AUROC against their definitions."""

import itertools
import math

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from carrot import RidgeHead
from carrot.evaluation import duplicates as audit
from carrot.evaluation.duplicates import near_copies, near_duplicates
from carrot.evaluation.ranking import auroc, precision_at
from carrot.evaluation.screening import CentredRows, screens

EPS = torch.finfo(torch.float64).eps


def embeddings(seed: int, n: int, M: int, shift: float = 0.0) -> Tensor:
    """Rows in a few tight clusters, two exact copies."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, M, generator=rng, dtype=torch.float64)
    G = centres[torch.randint(4, (n,), generator=rng)] + 0.2 * torch.randn(n, M, generator=rng, dtype=torch.float64)
    G[n - 2] = G[1] + 0.02 * torch.randn(M, generator=rng, dtype=torch.float64)
    G[n - 1] = G[0]
    return G + shift


def fifth(rows: list[list[float]], i: int) -> float:
    """How far the fifth nearest of row i is, copies aside; the farthest, where there are fewer."""
    apart = sorted(d for j, row in enumerate(rows) if j != i and (d := math.dist(row, rows[i])) > 1e-12)
    return apart[min(5, len(apart), len(rows) - 1) - 1] if apart else math.inf


def by_loop(G: Tensor, threshold: float) -> list[tuple[int, int, float]]:
    rows = G.double().tolist()
    mean = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
    rows = [[x - m for x, m in zip(row, mean, strict=True)] for row in rows]
    found = []
    for i, j in itertools.combinations(range(len(rows)), 2):
        dot = math.fsum(a * b for a, b in zip(rows[i], rows[j], strict=True))
        cosine = dot / math.hypot(*rows[i]) / math.hypot(*rows[j])
        if cosine >= threshold and math.dist(rows[i], rows[j]) <= 0.5 * max(fifth(rows, i), fifth(rows, j)):
            found.append((i, j, cosine))
    return sorted(found, key=lambda pair: -pair[2])


@pytest.mark.parametrize("entries", [None, 21])  # 21: blocks of three rows, and of one where rows are wide
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "M"), [(2, 3), (23, 7), (9, 40), (30, 1)])
def test_near_duplicates_are_those_of_a_loop(
    n: int, M: int, dtype: torch.dtype, entries: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if entries is not None:
        monkeypatch.setattr("carrot._ridge.blocks.ENTRIES", entries)
        monkeypatch.setattr(audit, "SIDE", 7)
    G = embeddings(0, n, M, shift=5.0).to(dtype)
    G[n - 1] = G[0] if n > 2 else -G[0]
    found, expected = near_duplicates(G, 0.8), by_loop(G, 0.8)
    assert {(i, j) for i, j, _ in found} == {(i, j) for i, j, _ in expected}
    assert [c for _, _, c in found] == sorted((c for _, _, c in found), reverse=True)
    known = {(i, j): c for i, j, c in expected}
    # the loop's mean differs in its last digits, and rows near the mean feel it
    assert all(c == pytest.approx(known[i, j], abs=1e-12) for i, j, c in found)
    assert bool(found) == (n > 2)


@pytest.mark.parametrize("entries", [None, 2000])
@pytest.mark.parametrize("clusters", [2, 7])
def test_members_of_one_tight_class_are_no_copies(
    clusters: int, entries: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far clusters: seen from the mean of all, each is one direction. Copies in them, exact and noisy, are found."""
    if entries is not None:
        monkeypatch.setattr("carrot._ridge.blocks.ENTRIES", entries)
        monkeypatch.setattr(audit, "SIDE", 30)
    rng = torch.Generator().manual_seed(3)
    centres = 10.0 * torch.randn(clusters, 64, generator=rng, dtype=torch.float64)
    scale = torch.logspace(-1, 1, clusters, dtype=torch.float64)  # one class is tighter than another
    kind = torch.arange(140) % clusters
    G = centres[kind] + scale[kind, None] * torch.randn(140, 64, generator=rng, dtype=torch.float64)
    assert len(by_cosine(G, 0.95)) > 373
    assert near_duplicates(G, 0.95) == []
    a, b, c = (int((kind == k).nonzero()[0]) for k in (0, 1, 1))
    G = torch.cat([G, G[[a, b]], G[[a, c + clusters]] + 0.1 * scale[[0, 1], None] * torch.randn(2, 64, generator=rng)])
    found = {(i, j) for i, j, _ in near_duplicates(G, 0.95)}
    assert found == {(a, 140), (b, 141), (a, 142), (140, 142), (c + clusters, 143)}
    near, cosines, rows = near_copies(G[:140], G[140:], 0.95)
    assert near.all()
    assert rows.tolist() == [a, b, a, c + clusters]
    fresh = centres[kind] + scale[kind, None] * torch.randn(140, 64, generator=rng, dtype=torch.float64)
    near, cosines, _ = near_copies(G[:140], fresh, 0.95)
    assert (cosines >= 0.95).sum() > 40
    assert not near.any()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("shift", [0.0, 5.0, 1e6])
def test_inner_products_at_hand_say_the_same(shift: float, fit_intercept: bool, weighted: bool) -> None:
    """Around another mean, or around 0; where that is too far away they are passed over."""
    G = embeddings(1, 40, 60, shift)
    w = torch.linspace(0.1, 3.0, 40, dtype=torch.float64) if weighted else None
    gram = RidgeHead(1.0, fit_intercept).fit(G, torch.arange(40) % 3, w).gram
    assert gram is not None
    (*known, _, _) = ways = list(screens(CentredRows.of(G), gram))
    assert len(known) == (shift < 1e6 or fit_intercept)
    assert near_duplicates(G, 0.8, gram) == near_duplicates(G, 0.8)
    assert {(i, j) for i, j, _ in near_duplicates(G, 0.8)} == {(i, j) for i, j, _ in by_loop(G, 0.8)}
    U = torch.nn.functional.normalize(G - CentredRows.of(G).mean, dim=1)
    for way in ways:
        assert float((way.block(slice(0, 40), slice(3, 40)) - U @ U[3:].mT).abs().max()) <= way.margin
        assert float((way.lines(torch.tensor([7, 2])) - U[[7, 2]] @ U.mT).abs().max()) <= way.margin


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_what_float32_can_not_tell_apart_is_told_apart(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes so tight that a screen in float32 leaves every pair of theirs open: float64 is asked, and finds two."""
    centres = torch.randn(4, 50, dtype=torch.float64)
    G = centres[torch.arange(80) % 4] + 1e-5 * torch.randn(80, 50, dtype=torch.float64)
    G[79], G[78] = G[3], G[2] + 1e-7 * torch.randn(50, dtype=torch.float64)
    monkeypatch.setattr(audit, "MANY", 3)
    rows = CentredRows.of(scale * G)
    coarse, fine = screens(rows, None)
    assert audit._settled(rows, 0.9, coarse, False) is None
    assert {(i, j) for i, j, _ in audit._settled(rows, 0.9, coarse, True) or ()} == {(2, 78), (3, 79)}
    assert {(i, j) for i, j, _ in audit._settled(rows, 0.9, fine, True) or ()} == {(2, 78), (3, 79)}
    assert {(i, j) for i, j, _ in near_duplicates(scale * G, 0.9)} == {(2, 78), (3, 79)}


def by_cosine(G: Tensor, threshold: float) -> list[tuple[int, int]]:
    U = torch.nn.functional.normalize(G - G.mean(dim=0), dim=1)
    return (U @ U.mT >= threshold).triu(1).nonzero().tolist()


def test_many_copies_of_one_picture_hide_no_near_copy() -> None:
    """Nine copies are nine rows at distance 0: the fifth nearest is the fifth of another picture."""
    G = torch.randn(40, 30, dtype=torch.float64)
    G[1:9] = G[0]
    G[9] = G[0] + 0.01 * torch.randn(30, dtype=torch.float64)
    found = {(i, j) for i, j, _ in near_duplicates(G, 0.95)}
    assert found == set(itertools.combinations(range(10), 2))


@pytest.mark.usefixtures("as_user")
def test_near_copies_refuses_what_is_no_cosine() -> None:
    for threshold, error in ((0.0, ValueError), (1.5, ValueError), (True, TypeError), ("high", TypeError)):
        with pytest.raises(error, match="threshold"):
            near_copies(torch.ones(3, 2), torch.ones(3, 2), threshold)
    assert [len(x) for x in near_copies(torch.randn(3, 2), torch.empty(0, 2), 0.9)] == [0, 0, 0]


def test_the_mean_is_taken_off() -> None:
    """Around the origin all are nearly parallel; around their mean only the first two are."""
    G = torch.tensor([[100.0, 1.0], [100.0, 1.01], [100.0, -1.0]])
    assert [(i, j) for i, j, _ in near_duplicates(G, 0.9)] == [(0, 1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("M", [1, 33, 5000])
def test_copies_are_found_at_one(M: int, dtype: torch.dtype) -> None:
    G = torch.randn(12, M).to(dtype) + 3
    G[7], G[11], G[4] = G[2], G[2], G[0]
    found = near_duplicates(G, 1.0)
    copies = [(0, 4, 1.0), (2, 7, 1.0), (2, 11, 1.0), (7, 11, 1.0)]
    assert [pair for pair in found if pair in copies] == copies
    assert M == 1 or found == copies  # of one number, every two rows on one side of the mean are parallel


def test_what_differs_by_more_than_rounding_is_no_copy() -> None:
    G = torch.randn(6, 10, dtype=torch.float64)
    G[1] = G[0] + 1e-5 * torch.randn(10, dtype=torch.float64)
    assert near_duplicates(G, 1.0) == []
    ((i, j, cosine),) = near_duplicates(G, 1 - 1e-8)
    assert (i, j) == (0, 1)
    assert 0 < 1 - cosine < 1e-8


def test_rows_equal_to_the_mean_pair_with_copies_only() -> None:
    a, b = torch.tensor([0.1, 0.7, -0.3]), torch.tensor([0.3, -0.1, 0.2])
    G = torch.stack([a + b, a, a - b, a]).double()
    G[2] = 2 * a.double() - G[0]
    assert near_duplicates(G, 1e-15) == [(1, 3, 1.0)]  # below the rounding that is allowed: 0 would be a pair


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 1.3])
def test_the_rounding_of_the_mean_is_no_direction(value: float) -> None:
    """Of numbers, every two on one side of the mean are parallel; five lie on it, but for its last digit."""
    G = torch.tensor([value] * 5 + [value + 1, value - 1], dtype=torch.float64)[:, None]
    assert near_duplicates(G, 0.5) == [(i, j, 1.0) for i, j in itertools.combinations(range(5), 2)]


@pytest.mark.parametrize("value", [0.0, 0.1, -7e5])
def test_all_rows_identical(value: float) -> None:
    G = torch.full((4, 3), value)
    assert near_duplicates(G, 1.0) == [(i, j, 1.0) for i, j in itertools.combinations(range(4), 2)]


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_rows_have_no_pair(n: int) -> None:
    assert near_duplicates(torch.ones(n, 3), 0.5) == []


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("G", "threshold", "error", "match"),
    [
        (torch.ones(3, 2), 0.0, ValueError, r"`threshold` must be in \(0, 1\]"),
        (torch.ones(3, 2), 1.1, ValueError, "got 1.1"),
        (torch.ones(3, 2), math.nan, ValueError, "got nan"),
        (torch.ones(3, 2), "high", TypeError, "must be a number"),
        (torch.ones(3, 2).half(), 0.9, TypeError, "`G` must be float32 or float64"),
        (torch.ones(3), 0.9, ValueError, r"`G` must be \(n, M\)"),
        (torch.ones(3, 0), 0.9, ValueError, r"`G` must be \(n, M\)"),
        (torch.tensor([[1.0], [math.inf]]), 0.9, ValueError, "`G` must be finite"),
        (torch.tensor([[1.0], [2.0]]).double() * 1e200, 0.9, ValueError, "Scale it"),
        (torch.tensor([[1.0], [2.0]]).double() * 1e-200, 0.9, ValueError, "Scale it"),
    ],
)
def test_bad_embeddings(G: Tensor, threshold: float, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        near_duplicates(G, threshold)


def drawn(seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Scores with many ties, and at least one wrong and one right label."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 3, (n,), generator=rng).double()
    wrong = torch.rand(n, generator=rng) < 0.4
    wrong[0], wrong[1] = True, False
    return scores, wrong


@pytest.mark.parametrize("seed", range(6))
def test_auroc_is_the_share_of_pairs_in_order(seed: int) -> None:
    scores, wrong = drawn(seed, 5 + 7 * seed)
    pairs = [(float(a), float(b)) for a in scores[wrong] for b in scores[~wrong]]
    expected = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert auroc(scores, wrong) == pytest.approx(expected, abs=10 * EPS)
    assert auroc(scores, wrong) == pytest.approx(roc_auc_score(wrong.numpy(), scores.numpy()), abs=10 * EPS)
    assert auroc(-scores, wrong) == pytest.approx(1 - expected, abs=10 * EPS)


def test_auroc_by_hand() -> None:
    wrong = torch.tensor([True, False, True, False])
    assert auroc(torch.tensor([4.0, 1.0, 3.0, 2.0]), wrong) == 1
    assert auroc(torch.tensor([2.0, 2.0, 2.0, 2.0]), wrong) == 0.5
    assert auroc(torch.tensor([4.0, 3.0, 2.0, 3.0]), wrong) == 0.5
    assert auroc(torch.tensor([4.0, 3.0, 3.0, 1.0]), wrong) == 0.875


@pytest.mark.parametrize("seed", range(4))
def test_precision_is_the_mean_over_all_orders_of_ties(seed: int) -> None:
    scores, wrong = drawn(seed, 6)
    for k in range(1, 7):
        shares = []
        for order in itertools.permutations(range(6)):
            if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
                shares.append(sum(bool(wrong[i]) for i in order[:k]) / k)
        assert precision_at(scores, wrong, k) == pytest.approx(sum(shares) / len(shares), abs=100 * EPS)


def test_precision_by_hand() -> None:
    scores, wrong = torch.tensor([0.1, 0.9, 0.5, 0.7]), torch.tensor([True, True, False, False])
    assert [precision_at(scores, wrong, k) for k in (1, 2, 3, 4)] == [1, 0.5, pytest.approx(1 / 3), 0.5]


@pytest.mark.usefixtures("as_user")
def test_bad_scores() -> None:
    scores, wrong = torch.tensor([1.0, 2.0]), torch.tensor([True, False])
    for measure in (auroc, lambda s, w: precision_at(s, w, 1)):
        with pytest.raises(ValueError, match=r"must be \(n,\)"):
            measure(scores, wrong[:1])
        with pytest.raises(ValueError, match="n >= 1"):
            measure(scores[:0], wrong[:0])
        with pytest.raises(ValueError, match="`scores` must be finite"):
            measure(scores * math.nan, wrong)
        with pytest.raises(TypeError, match="`wrong` must be boolean"):
            measure(scores, wrong.long())
        with pytest.raises(TypeError, match="`scores` must be floating point"):
            measure(scores.long(), wrong)
    for k, error in ((0, ValueError), (3, ValueError), (1.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"`k` must be a whole number in 1 \.\. 2"):
            precision_at(scores, wrong, k)
    for same in (wrong | True, wrong & False):
        with pytest.raises(ValueError, match="must hold wrong and right labels"):
            auroc(scores, same)


def test_copies_are_looked_for_at_the_largest_cosine_around_the_mean() -> None:
    G, g = torch.randn(300, 7, dtype=torch.float64) + 5.0, torch.randn(290, 7, dtype=torch.float64) + 5.0
    g[3] = G[17]
    near, cosines, rows = near_copies(G, g, 0.999)
    a, b = (g - G.mean(dim=0)).numpy(), (G - G.mean(dim=0)).numpy()
    for i in (0, 3, 100, 289):
        every = [float(a[i] @ row / (a[i] @ a[i]) ** 0.5 / (row @ row) ** 0.5) for row in b]
        assert int(rows[i]) == max(range(300), key=every.__getitem__)
        assert float(cosines[i]) == pytest.approx(max(every), abs=1e-12)
    assert int(rows[3]) == 17
    assert float(cosines[3]) == pytest.approx(1.0)
    assert near.nonzero().flatten().tolist() == [3]
    equal = torch.ones(4, 2, dtype=torch.float64)
    assert near_copies(equal, equal, 0.9)[1].tolist() == [0.0] * 4


@pytest.mark.usefixtures("as_user")
def test_copies_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="`G` and `g`"):
        near_copies(torch.ones(3, 2), torch.ones(3, 4), 0.9)
