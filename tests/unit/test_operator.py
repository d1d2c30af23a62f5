"""Diffusion: four routes to exp(-tL), one recurrence for every t, sub-graphs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

import carrot
from carrot.graph import RegionGraphBuilder
from carrot.operator import DiffusionOperator, chebyshev_coefficients
from carrot.readout import GraphReadout
from carrot.regions import RegionSet, grid_positions
from tests import contract
from tests import reference as ref

DTYPES = [torch.float32, torch.float64]


def graph_of(
    N: int, seed: int = 0, dtype: torch.dtype = torch.float64, batch: tuple[int, ...] = ()
) -> carrot.RegionGraph:
    H = torch.randn(*batch, N, 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return RegionGraphBuilder().build(RegionSet(H, grid_positions(1, N, dtype), (1, N)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("t", [0.0, 1e-3, 0.5, 2.0, 16.0, 300.0])
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (3, 4), (10, 20)])
def test_every_route_equals_the_power_series(grid: tuple[int, int], t: float, dtype: torch.dtype) -> None:
    contract.check_diffusion(carrot, *grid, D=5, t=t, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("t", [0.0, 2.0, 50.0])
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (3, 4), (8, 9)])
def test_subsets_equal_rebuilding_the_subgraph(grid: tuple[int, int], t: float, dtype: torch.dtype) -> None:
    contract.check_subsets(carrot, *grid, D=5, t=t, dtype=dtype)


def test_the_oracle_itself_agrees_with_scipy() -> None:
    L = graph_of(30).L.numpy()
    for t in (0.0, 0.1, 2.0, 40.0):
        np.testing.assert_allclose(ref.heat(L, t), expm(-t * L), atol=1e-13)


@given(t=st.floats(0.0, 50.0), s=st.floats(0.0, 50.0), N=st.integers(1, 40), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_semigroup_positivity_and_the_fixed_vector(t: float, s: float, N: int, seed: int) -> None:
    """exp(-tL) exp(-sL) = exp(-(t+s)L); non-negative weights stay so; sqrt(d) is fixed; energy only falls."""
    graph = graph_of(N, seed)
    r = GraphReadout().weights(N)
    twice = DiffusionOperator(t).pull_back(DiffusionOperator(s).pull_back(r, graph), graph)
    torch.testing.assert_close(twice, DiffusionOperator(t + s).pull_back(r, graph), rtol=0, atol=1e-14)
    pi = DiffusionOperator(t).pull_back(r, graph)
    assert bool((pi > -1e-15).all())
    root = graph.degree.sqrt()
    torch.testing.assert_close(DiffusionOperator(t).pull_back(root, graph), root, rtol=1e-13, atol=0)
    assert pi.norm() <= r.norm() * (1 + 1e-13)


def test_t_zero_is_mean_pooling_and_large_t_its_limit() -> None:
    graph = graph_of(20)
    r = GraphReadout().weights(20)
    for method in ("auto", "expm", "eigh", "chebyshev"):
        torch.testing.assert_close(DiffusionOperator(0.0, method).pull_back(r, graph), r, rtol=1e-13, atol=0)
    d = graph.degree
    limit = d.sqrt() * d.sqrt().sum() / (20 * d.sum())
    torch.testing.assert_close(DiffusionOperator(1e8).pull_back(r, graph), limit, rtol=1e-6, atol=0)


def test_one_recurrence_serves_every_t() -> None:
    graph = graph_of(30, batch=(3,))
    r = GraphReadout().weights(30)
    times = [0.0, 0.5, 2.0, 8.0, 64.0]
    for method in ("auto", "eigh"):
        for t, pi in zip(times, DiffusionOperator(0.0, method).pull_back_path(r, graph, times), strict=True):
            assert pi.shape == (3, 30)
            torch.testing.assert_close(pi, DiffusionOperator(t, method).pull_back(r, graph), rtol=0, atol=1e-15)


def test_auto_turns_to_the_spectrum_for_enormous_t() -> None:
    """Chebyshev would need sqrt(t) terms; both routes agree where both can go."""
    graph = graph_of(10)
    assert DiffusionOperator(1e4)._resolve(graph.W, "chebyshev") == "eigh"
    r = GraphReadout().weights(10)
    far = DiffusionOperator(1e4, "chebyshev").pull_back(r, graph)
    torch.testing.assert_close(DiffusionOperator(1e4).pull_back(r, graph), far, rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", [0.0, 1e-6, 0.3, 2.0, 77.0, 1e3, 1e6])
def test_chebyshev_coefficients_sum_to_one_and_stop_in_time(t: float) -> None:
    full = chebyshev_coefficients(t, 1e-300)
    assert sum(full) == pytest.approx(1.0, abs=1e-11)
    short = chebyshev_coefficients(t, 1e-7)
    assert short == full[: len(short)]
    assert sum(full[len(short) :]) <= 1e-7
    if len(short) > 1:
        assert sum(full[len(short) - 1 :]) > 1e-7  # not one term more than needed


def test_ten_terms_at_two_in_float32() -> None:
    """The cost that DESIGN promises."""
    assert len(chebyshev_coefficients(2.0, torch.finfo(torch.float32).eps / 2)) <= 10


@pytest.mark.parametrize("rank", [1, 3, 10, 20, 50])
@pytest.mark.parametrize("t", [0.5, 4.0])
def test_truncated_error_is_the_bound(rank: int, t: float) -> None:
    """The spectral norm of the error equals the stated bound: it is tight, and 0 from rank N on."""
    L = graph_of(20).L
    operator = DiffusionOperator(t, "truncated", rank=rank)
    error = operator(torch.eye(20, dtype=torch.float64), L) - torch.tensor(expm(-t * L.numpy()))
    measured = float(torch.linalg.matrix_norm(error, 2))
    assert measured == pytest.approx(float(operator.error_bound(L)), abs=1e-13)


def test_transfer_function() -> None:
    torch.testing.assert_close(
        DiffusionOperator(3.0).filter(torch.tensor([0.0, 1.0])), torch.tensor([1.0, math.exp(-3.0)])
    )


def test_subsets_with_other_readout_weights_and_batches() -> None:
    graph = graph_of(6, batch=(2,))
    r = torch.rand(6, dtype=torch.float64)
    keep = torch.rand(6, 9, generator=torch.Generator().manual_seed(3)) < 0.6
    pi = DiffusionOperator(1.5).pull_back_subsets(graph, keep, r)
    assert pi.shape == (2, 6, 9)
    for b in range(2):
        for c in range(9):
            index = keep[:, c].nonzero().flatten()
            if len(index) == 0:
                assert not pi[b, :, c].any()
                continue
            W = graph.W[b][index][:, index].numpy()
            expected = ref.pooling(W, 1.5, (r[index] / r[index].sum()).numpy())
            np.testing.assert_allclose(pi[b, index, c].numpy(), expected, atol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"t": -1.0}, "mean pooling"),
        ({"t": float("nan")}, "finite"),
        ({"t": 1.0, "method": "magic"}, "chebyshev"),
        ({"t": 1.0, "rank": 3}, "truncated"),
        ({"t": 1.0, "method": "truncated"}, "rank"),
        ({"t": 1.0, "method": "truncated", "rank": 0}, ">= 1"),
        ({"t": 1.0, "tol": 2.0}, "tol"),
    ],
)
def test_bad_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DiffusionOperator(**arguments)


@pytest.mark.usefixtures("as_user")
def test_bad_shapes_and_numbers() -> None:
    graph = graph_of(5)
    with pytest.raises(ValueError, match=r"match H with N = 6"):
        DiffusionOperator(1.0).forward(torch.zeros(6, 2, dtype=torch.float64), graph.L)
    with pytest.raises(ValueError, match="finite"):
        DiffusionOperator(1.0).forward(torch.zeros(5, 2, dtype=torch.float64), graph.L * float("nan"))
    with pytest.raises(ValueError, match="column"):
        DiffusionOperator(1.0).pull_back_subsets(graph, torch.ones(4, 2, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"keep\.bool"):
        DiffusionOperator(1.0).pull_back_subsets(graph, torch.ones(5, 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_readout_weights_take_the_graphs_precision(dtype: torch.dtype) -> None:
    """``weights(N)`` is float64; a float32 graph takes it as it is."""
    graph = graph_of(9, dtype=dtype)
    r = GraphReadout().weights(9)
    assert DiffusionOperator(2.0).pull_back(r, graph).dtype == dtype
    assert DiffusionOperator(2.0).pull_back_subsets(graph, torch.ones(9, 1, dtype=torch.bool), r).dtype == dtype


def test_a_time_beyond_the_precision_is_refused() -> None:
    """Rounding of L alone moves exp(-tL) by t eps: at t = 1e8 in float32 the answer would be 12 times itself."""
    graph = graph_of(9, dtype=torch.float32)
    r = GraphReadout().weights(9)
    for method in ("auto", "expm", "eigh", "chebyshev"):
        with pytest.raises(ValueError, match="float64"):
            DiffusionOperator(1e8, method).pull_back(r, graph)
    exact = graph_of(9)
    t = 1e8
    far = DiffusionOperator(t)(torch.eye(9, dtype=torch.float64), exact.L)
    d = exact.degree.sqrt()
    torch.testing.assert_close(far, torch.outer(d, d) / exact.degree.sum(), rtol=0, atol=t * 2.2e-16 * 9)


@pytest.mark.usefixtures("as_user")
def test_what_would_broadcast_or_spread_is_refused() -> None:
    graph = graph_of(6)
    operator = DiffusionOperator(1.0)
    keep = torch.ones(6, 2, dtype=torch.bool)
    for r in (torch.ones(1), torch.ones(5), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="`r` must end in"):
            operator.pull_back(r, graph)
        with pytest.raises(ValueError, match="`r` must end in"):
            operator.pull_back_subsets(graph, keep, r)
    with pytest.raises(ValueError, match="renormalised"):
        operator.pull_back_subsets(graph, keep, torch.tensor([1.0, -1, 1, 1, 1, 1]))
    with pytest.raises(ValueError, match="finite"):
        operator.pull_back(torch.full((6,), float("nan")), graph)
    with pytest.raises(ValueError, match="finite"):
        operator.pull_back(torch.ones(6), graph.L * float("nan"))
    with pytest.raises(TypeError, match="float32 or float64"):
        operator.pull_back(torch.ones(6), graph.L.half())
    with pytest.raises(ValueError, match="at least one"):
        operator.pull_back_path(torch.ones(6), graph, [])


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("method", ["expm", "eigh", "chebyshev"])
def test_one_picture_on_many_graphs(method: str) -> None:
    graphs = graph_of(7, batch=(2,))
    H = torch.randn(7, 3, dtype=torch.float64)
    many = DiffusionOperator(1.0, method)(H, graphs.L)
    for b in range(2):
        torch.testing.assert_close(many[b], DiffusionOperator(1.0, method)(H, graphs.L[b]), rtol=0, atol=1e-14)
