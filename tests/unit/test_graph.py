"""The graph: equations (1) to (4) of ``carrot.graph``."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import carrot.operator  # the checks take it from the package
from carrot.graph import RegionGraphBuilder, _order_statistic, median_pairwise, squared_distances
from carrot.regions import RegionSet, grid_positions
from tests import contract
from tests import reference as ref

GRIDS = [(1, 1), (1, 2), (2, 2), (3, 5), (7, 4), (10, 10), (10, 20)]


def regions(gh: int, gw: int, D: int, seed: int = 0) -> RegionSet:
    H = torch.randn(gh * gw, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return RegionSet(H, grid_positions(gh, gw, torch.float64), (gh, gw))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_graph_equals_the_double_loop(grid: tuple[int, int], dtype: torch.dtype) -> None:
    contract.check_graph(carrot, *grid, D=6, dtype=dtype)


@pytest.mark.parametrize(("sigma_s", "sigma_f"), [(0.1, 0.3), (2.0, 0.5), (0.3, 5.0)])
def test_bandwidths(sigma_s: float, sigma_f: float) -> None:
    contract.check_graph(carrot, 4, 5, 3, torch.float64, sigma_s, sigma_f)


def test_a_batch_is_its_pictures() -> None:
    H = torch.randn(2, 3, 12, 5, dtype=torch.float64)
    P = grid_positions(3, 4, torch.float64)
    batch = RegionGraphBuilder().build(RegionSet(H, P, (3, 4)))
    for b in range(2):
        for a in range(3):
            one = RegionGraphBuilder().build(RegionSet(H[b, a], P, (3, 4)))
            torch.testing.assert_close(batch.W[b, a], one.W, rtol=0, atol=1e-15)
            torch.testing.assert_close(batch.L[b, a], one.L, rtol=0, atol=1e-15)


@given(
    gh=st.integers(1, 6),
    gw=st.integers(1, 6),
    D=st.integers(1, 9),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
@settings(max_examples=60)
def test_what_the_theory_says_of_every_graph(gh: int, gw: int, D: int, seed: int, scale: float) -> None:
    """Symmetric, unit diagonal, degrees >= 1, PSD W, spectra in [0, 1], lowest eigenvector sqrt(d), no feature unit."""
    base = regions(gh, gw, D, seed)
    graph = RegionGraphBuilder().build(base)
    W, L = graph
    assert torch.equal(W.diagonal(), torch.ones(gh * gw, dtype=torch.float64))
    assert (W - W.mT).abs().max() < 1e-15
    assert bool(((W >= 0) & (W <= 1)).all())
    assert bool((graph.degree >= 1).all())
    eps = 10 * gh * gw * torch.finfo(torch.float64).eps
    assert torch.linalg.eigvalsh(W).min() >= -eps
    spectrum = torch.linalg.eigvalsh(L)
    assert spectrum.min() >= -eps
    assert spectrum.max() <= 1 + eps
    assert (L @ graph.degree.sqrt()).abs().max() < eps
    scaled = RegionGraphBuilder().build(RegionSet(base.features * scale + 3 * scale, base.positions, base.grid_hw))
    torch.testing.assert_close(scaled.W, W, rtol=0, atol=1e-8)  # the shift by 3 costs digits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1234567, 3e4])
@pytest.mark.parametrize("N", [1, 2, 3, 49, 200])
def test_identical_tokens_have_feature_kernel_one(dtype: torch.dtype, value: float, N: int) -> None:
    H = torch.full((N, 7), value, dtype=dtype) * torch.linspace(0.3, 1.7, 7, dtype=dtype)
    P = torch.zeros(N, 2, dtype=dtype)
    assert torch.equal(RegionGraphBuilder().build(RegionSet(H, P)).W, torch.ones(N, N, dtype=dtype))


def test_nearly_identical_tokens_are_told_apart() -> None:
    """A relative difference of 1e-5 is signal in float32, not rounding."""
    H = 1.0 + 1e-5 * torch.randn(9, 16)
    W = RegionGraphBuilder().build(RegionSet(H, torch.zeros(9, 2))).W
    expected = RegionGraphBuilder().build(RegionSet(H.double(), torch.zeros(9, 2, dtype=torch.float64))).W
    assert W.min() < 0.8
    torch.testing.assert_close(W.double(), expected, rtol=0, atol=1e-5)


def test_far_apart_kernels_underflow_to_the_identity() -> None:
    graph = RegionGraphBuilder(sigma_spatial=1e-3).build(regions(3, 3, 2))
    assert torch.equal(graph.W, torch.eye(9, dtype=torch.float64))
    assert torch.equal(graph.L, torch.zeros(9, 9, dtype=torch.float64))


@pytest.mark.parametrize("N", [2, 3, 4, 5, 20])
def test_median_is_the_lower_median_of_pairs(N: int) -> None:
    D2 = squared_distances(torch.randn(2, N, 3, dtype=torch.float64))
    i, j = torch.triu_indices(N, N, offset=1)
    expected = D2[:, i, j].median(dim=-1).values
    torch.testing.assert_close(median_pairwise(D2), expected, rtol=1e-14, atol=0)


def test_fixed_feature_scale_is_the_plain_formula() -> None:
    r = regions(2, 3, 4)
    W = RegionGraphBuilder(0.7, 1.3, feature_scale=2.0).build(r).W
    P, H = r.isotropic_positions, r.features
    expected = torch.exp(-torch.cdist(P, P).square() / (2 * 0.7**2) - torch.cdist(H, H).square() / (2 * 2.6**2))
    torch.testing.assert_close(W, expected, rtol=0, atol=1e-14)


def test_nothing_depends_on_other_pictures() -> None:
    H = torch.randn(2, 12, 5)
    P = grid_positions(3, 4)
    alone = RegionGraphBuilder().build(RegionSet(H[0], P, (3, 4))).W
    other = RegionGraphBuilder().build(RegionSet(torch.stack([H[0], 100 * H[1]]), P, (3, 4))).W[0]
    torch.testing.assert_close(alone, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["sigma_spatial", "sigma_feature", "feature_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_bandwidths_are_checked(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        RegionGraphBuilder(**{name: value})


def test_unknown_scale_and_overflow_are_named() -> None:
    with pytest.raises(ValueError, match="median"):
        RegionGraphBuilder(feature_scale="mean")
    with pytest.raises(ValueError, match="too large"):
        RegionGraphBuilder().build(RegionSet(1e30 * torch.randn(4, 3), torch.zeros(4, 2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_graphs_take_the_mirrored_product(dtype: torch.dtype) -> None:
    """From 512 regions on only half of the Gram matrix is multiplied."""
    H = torch.randn(2, 530, 70, dtype=dtype)
    D2 = squared_distances(H)
    expected = torch.cdist(H.double(), H.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(
        D2.double(), expected, rtol=0, atol=10 * torch.finfo(dtype).eps * float(H.square().sum(-1).max())
    )
    i, j = torch.triu_indices(530, 530, offset=1)
    torch.testing.assert_close(median_pairwise(D2), D2[:, i, j].median(dim=-1).values, rtol=0, atol=0)


@given(seed=st.integers(0, 999), n=st.integers(1, 3000), ties=st.booleans())
@settings(max_examples=60)
def test_order_statistics_are_exact(seed: int, n: int, ties: bool) -> None:
    """The bracket is only a short cut: sorted, constant, tied and adversarial entries give what sorting gives."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, n).astype(np.float32) if ties else rng.normal(size=n).astype(np.float32)
    values[::61] = rng.choice([values[0], -100.0, 100.0])  # the very entries that the sample sees
    for rank in {0, n // 3, n // 2, n - 1}:
        assert _order_statistic(values, rank) == np.sort(values)[rank]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mostly_identical_tokens(dtype: torch.dtype) -> None:
    """Flat background: the median must not come from the rounding of a product."""
    contract.check_duplicates(carrot, dtype)


def test_duplicates_keep_the_theory() -> None:
    H = torch.randn(1, 64, dtype=torch.float64).repeat(20, 1)
    H[7] += 10 * torch.randn(64, dtype=torch.float64)
    W, L = RegionGraphBuilder().build(RegionSet(H, grid_positions(4, 5, torch.float64), (4, 5)))
    assert (W - W.mT).abs().max() < 1e-15
    spectrum = torch.linalg.eigvalsh(L)
    assert spectrum.min() > -1e-13
    assert spectrum.max() < 1 + 1e-13


def test_tokens_with_gradients_are_no_trouble() -> None:
    H = torch.randn(6, 3, requires_grad=True)
    assert RegionGraphBuilder().build(RegionSet(H, grid_positions(2, 3), (2, 3))).W.shape == (6, 6)


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (3, 5)])
def test_global_regions_have_no_edges(grid: tuple[int, int], K: int) -> None:
    contract.check_isolated(carrot, *grid, D=4, K=K)


@pytest.mark.parametrize("scale", ["median", 2.0])
def test_global_regions_change_nothing_among_the_others(scale: str | float) -> None:
    """Not their bandwidth, however far away the global token lies; in a batch too."""
    H, tokens = torch.randn(2, 12, 5, dtype=torch.float64), 1e3 * torch.randn(2, 2, 5, dtype=torch.float64)
    plain = RegionSet(H, grid_positions(3, 4, torch.float64), (3, 4))
    builder = RegionGraphBuilder(feature_scale=scale)
    alone, graph = builder.build(plain), builder.build(plain.with_global(tokens))
    assert torch.equal(graph.W[:, :12, :12], alone.W)
    assert torch.equal(graph.degree[:, :12], alone.degree)
    assert torch.equal(graph.L[:, :12, :12], alone.L)
    assert torch.equal(graph.W[:, 12:], torch.eye(14, dtype=torch.float64)[12:].expand(2, 2, 14))
    assert torch.equal(graph.degree[:, 12:], torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("method", ["expm", "eigh", "chebyshev"])
def test_heat_neither_reaches_nor_leaves_global_regions(method: str) -> None:
    regions_ = regions(3, 3, 4).with_global(torch.randn(1, 4, dtype=torch.float64))
    graph = RegionGraphBuilder().build(regions_)
    operator = carrot.DiffusionOperator(3.0, method)
    r = carrot.GraphReadout(global_share=0.3).at(10, num_global=1).weights(10)
    pi = operator.pull_back(r, graph)
    assert float(pi[9]) == pytest.approx(0.3, abs=1e-14)
    torch.testing.assert_close(operator(regions_.features, graph.L)[9], regions_.features[9], rtol=1e-13, atol=1e-13)
    alone = operator.pull_back(0.7 * carrot.GraphReadout().weights(9), RegionGraphBuilder().build(regions_.local))
    torch.testing.assert_close(pi[:9], alone, rtol=1e-12, atol=1e-14)


def degenerate(case: str) -> torch.Tensor:
    """Tokens, (36, 8), whose median distance is 0, or nothing but rounding, although not all are equal."""
    g = torch.Generator().manual_seed(3)
    ground, object_ = (
        torch.randn(1, 8, generator=g, dtype=torch.float64),
        torch.randn(10, 8, generator=g, dtype=torch.float64),
    )
    H = ground.repeat(36, 1)
    if case == "one stands out":
        H[5] = object_[0]
    elif case == "two kinds":
        H[:8] = object_[:1]
    elif case == "tiny":
        H[:10] = object_
        H = 1e-25 * H
    elif case == "zeros":
        H = torch.zeros(36, 8, dtype=torch.float64)
        H[:10] = object_
    elif case == "far from 0":
        H[:10] = object_
        H = H + 1e3
    else:
        H[:10] = object_
    return H


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["flat ground", "one stands out", "two kinds", "tiny", "zeros", "far from 0"])
def test_a_median_of_zero_makes_the_kernel_its_limit(case: str, dtype: torch.dtype) -> None:
    """Equal tokens are one, unlike ones have no edge: the double loop with a bandwidth of 0.

    Alone, in a batch, beside global ones.
    """
    H = degenerate(case).to(dtype)
    P = grid_positions(6, 6, dtype)
    expected, _, _ = ref.graph(H.double().numpy(), P.double().numpy(), 0.5, 1.0)
    assert (expected == 0.0).any()
    plain = RegionSet(H, P, (6, 6))
    batch = RegionSet(torch.stack([torch.randn(36, 8).to(H), H]), P, (6, 6))
    beside = plain.with_global(torch.ones(1, 8, dtype=dtype))
    ours = {
        "alone": RegionGraphBuilder().build(plain).W,
        "in a batch": RegionGraphBuilder().build(batch).W[1],
        "with another sigma": RegionGraphBuilder(sigma_feature=3.0).build(plain).W,
        "beside a global region": RegionGraphBuilder().build(beside).W[:36, :36],
    }
    for where, W in ours.items():
        torch.testing.assert_close(W.double(), torch.tensor(expected), rtol=0, atol=1e-6, msg=where)
        assert torch.linalg.eigvalsh(W.double()).min() > (-1e-5 if dtype == torch.float32 else -1e-13), where


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tokens_equal_to_rounding_are_equal(dtype: torch.dtype) -> None:
    """A flat ground out of a network is equal up to its last bits: what stands out of it has no edge to it either."""
    H = degenerate("flat ground").to(dtype)
    noisy = H * (1.0 + torch.finfo(dtype).eps * torch.randn(36, 8, dtype=dtype))
    P = torch.zeros(36, 2, dtype=dtype)
    W = RegionGraphBuilder().build(RegionSet(noisy, P)).W
    unlike = torch.cdist(H, H) > 0.1
    assert W[unlike].max() == 0.0
    assert W[~unlike].min() > 0.5
    assert torch.linalg.eigvalsh(W.double()).min() > -1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("N", [49, 530])
def test_equal_tokens_are_one_at_any_bandwidth(dtype: torch.dtype, N: int) -> None:
    """At small bandwidths the rounding of a product would tell copies apart."""
    H = 5.0 + torch.randn(N, 80, generator=torch.Generator().manual_seed(0), dtype=dtype)
    H[7], P = H[3], torch.full((N, 2), 0.3, dtype=dtype)
    for builder in (
        RegionGraphBuilder(sigma_feature=1e-3),
        RegionGraphBuilder(feature_scale=1e-3),
        RegionGraphBuilder(sigma_spatial=1e-4, sigma_feature=1e-3),
    ):
        assert builder.build(RegionSet(H, P)).W[3, 7] > 1.0 - 1e-4
    W = RegionGraphBuilder(sigma_spatial=1e-4).build(RegionSet(H, P)).W
    assert W[3, 7] > 1.0 - 1e-4


def test_removing_regions_keeps_the_bandwidth_of_the_whole_picture() -> None:
    """Without the flat ground the median of what is left is not 0; the graph of the whole picture holds."""
    H = degenerate("flat ground")
    graph = RegionGraphBuilder().build(RegionSet(H, grid_positions(6, 6, torch.float64), (6, 6)))
    keep = torch.zeros(36, 1, dtype=torch.bool)
    keep[:10] = True
    pi = carrot.DiffusionOperator(2.0).pull_back_subsets(graph, keep)[:10, 0]
    torch.testing.assert_close(pi, torch.full((10,), 0.1, dtype=torch.float64))  # no edge among the ten


@pytest.mark.parametrize("spread", [1e-6, 1e-5, 5e-5])
def test_tokens_that_nearly_coincide_are_told_apart_to_their_own_rounding(spread: float) -> None:
    """13 of 16 tokens within ``spread`` of one another.

    They were scaled by a number that rounded them, W was off by up to .023.
    """
    X = torch.randn(16, 8)
    X[:13] = X[0] + spread * torch.randn(13, 8)
    W = RegionGraphBuilder(sigma_spatial=0.5).build(RegionSet(X, torch.zeros(16, 2))).W
    D2 = (X.double()[:, None] - X.double()[None]).square().sum(-1)
    i, j = torch.triu_indices(16, 16, 1)
    m2 = D2[i, j].sort().values[(len(i) - 1) // 2]
    torch.testing.assert_close(W.double(), (-D2 / (2 * m2)).exp(), rtol=0, atol=1e-5)
