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
from carrot.laplacian import chebyshev_coefficients
from carrot.operator import DiffusionOperator
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


@pytest.mark.parametrize("t", [0.3, 4.0])
def test_laplacians_of_others(t: float) -> None:
    contract.check_any_laplacian(carrot, t)


def test_the_oracle_itself_agrees_with_scipy() -> None:
    L = graph_of(30).L.numpy()
    for t in (0.0, 0.1, 2.0, 40.0):
        np.testing.assert_allclose(ref.heat(L, t), expm(-t * L), atol=1e-13)


@given(t=st.floats(0.0, 50.0), s=st.floats(0.0, 50.0), N=st.integers(1, 40), seed=st.integers(0, 999))
@settings(max_examples=40)
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
    assert DiffusionOperator(1e4)._resolve(carrot.laplacian.DiffusionSystem.of(graph), "chebyshev") == "eigh"
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


def laplacians(N: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Symmetric matrices that somebody may take for L: only the first is what the collapsed path was made for."""
    g = torch.Generator().manual_seed(5)
    graph = graph_of(N, dtype=dtype)
    W = graph.W.clone()
    bare = W - torch.eye(N, dtype=dtype)
    ring = torch.roll(torch.eye(N, dtype=dtype), 1, 0)
    root = bare.sum(-1).rsqrt()
    X = torch.randn(N, N, generator=g, dtype=dtype)
    signed = X + X.mT
    return {
        "ours": graph.L,
        "combinatorial": torch.diag_embed(W.sum(-1)) - W,
        "without self-loops": torch.eye(N, dtype=dtype) - root[:, None] * bare * root,
        "a ring, normalised": torch.eye(N, dtype=dtype) - 0.5 * (ring + ring.mT),
        "twice ours": 2.0 * graph.L,
        "shifted up": graph.L + 0.5 * torch.eye(N, dtype=dtype),
        "shifted down": graph.L - 0.5 * torch.eye(N, dtype=dtype),
        "signed": 0.1 * signed,
        "zero": torch.zeros(N, N, dtype=dtype),
        "identity": torch.eye(N, dtype=dtype),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("t", [0.0, 0.7, 5.0])
@pytest.mark.parametrize("method", ["auto", "expm", "eigh", "chebyshev", "truncated"])
@pytest.mark.parametrize("name", list(laplacians(3)))
def test_any_symmetric_matrix_is_diffused_within_the_bound_or_refused(
    name: str, method: str, t: float, dtype: torch.dtype
) -> None:
    """forward, pull_back and pull_back_path against the power series, for every route.

    Within ``error_bound``, or a ``ValueError``.
    """
    N = 12
    L = laplacians(N, dtype)[name]
    operator = DiffusionOperator(t, method, rank=4 if method == "truncated" else None)
    expected = torch.tensor(ref.heat(L.double().numpy(), t))
    r = torch.linspace(0.5, 1.5, N, dtype=dtype) / N
    if method == "chebyshev" and name not in ("ours", "zero"):
        for refused in (
            operator.pull_back,
            lambda r, L: operator.forward(r[:, None], L),
            lambda _, L: operator.error_bound(L),
        ):
            with pytest.raises(ValueError, match="spectrum"):
                refused(r, L)
        return
    bound = float(operator.error_bound(L))
    size = float(torch.linalg.matrix_norm(L.double(), 2))
    rounding = 20 * torch.finfo(dtype).eps * N * (1 + t * size) * float(torch.linalg.matrix_norm(expected, 2))
    tolerance = bound * (1 + 1e-6) + rounding
    found = operator.forward(torch.eye(N, dtype=dtype), L).double()
    assert float(torch.linalg.matrix_norm(found - expected, 2)) <= tolerance
    for pi in (operator.pull_back(r, L), operator.pull_back_path(r, L, [0.0, t])[1]):
        assert float((pi.double() - expected @ r.double()).norm()) <= tolerance * float(r.norm())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("t", [0.0, 2.0, 30.0])
def test_a_graph_of_ones_own_is_diffused_as_it_is(t: float, dtype: torch.dtype) -> None:
    """Nearest neighbours, with self-loops: not positive semidefinite, S has eigenvalues down to -1/3.

    Whole, in part, batched.
    """
    N = 12
    W = torch.eye(N, dtype=dtype)
    for step in (1, 3):
        ring = torch.roll(torch.eye(N, dtype=dtype), step, 0)
        W = W + ring + ring.mT
    assert torch.linalg.eigvalsh(W).min() < -0.5
    graph = carrot.RegionGraph(W, W.sum(-1))
    r = torch.linspace(0.5, 1.5, N, dtype=dtype) / N
    tolerance = 20 * torch.finfo(dtype).eps * (1 + t)
    expected = torch.tensor(ref.pooling(W.double().numpy(), t, r.double().numpy()))
    for method in ("auto", "expm", "eigh", "chebyshev"):
        operator = DiffusionOperator(t, method)
        for L in (graph, graph.L):
            torch.testing.assert_close(operator.pull_back(r, L).double(), expected, rtol=0, atol=tolerance)
    keep = torch.ones(N, 2, dtype=torch.bool)
    keep[[1, 2, 7], 1] = False
    index = keep[:, 1].nonzero().flatten()
    pi = DiffusionOperator(t).pull_back_subsets(graph, keep, r).double()
    torch.testing.assert_close(pi[:, 0], expected / r.double().sum(), rtol=0, atol=tolerance)
    part = ref.pooling(W.double().numpy()[np.ix_(index, index)], t, (r[index] / r[index].sum()).double().numpy())
    torch.testing.assert_close(pi[index, 1], torch.tensor(part), rtol=0, atol=tolerance)


@pytest.mark.usefixtures("as_user")
def test_a_graph_that_is_none_is_refused() -> None:
    """At every door that takes a graph, and once: the graph remembers that it was looked at."""
    W = graph_of(5).W
    upper, eye = torch.triu(W), torch.eye(5, dtype=torch.float64)
    cases = {
        "symmetric": (upper, upper.sum(-1)),
        "row sums": (W, W.sum(-1) + 1.0),
        "self-loop": (W - eye, (W - eye).sum(-1)),
        ">= 0": (2.0 * eye - W, (2.0 * eye - W).sum(-1)),
        "finite": (W * float("nan"), W.sum(-1)),
        "square": (W[:4], W[:4].sum(-1)),
    }
    operator = DiffusionOperator(1.0)
    r, H, keep = torch.ones(5), torch.ones(5, 2, dtype=torch.float64), torch.ones(5, 1, dtype=torch.bool)
    for words, (matrix, degree) in cases.items():
        graph = carrot.RegionGraph(matrix, degree)
        for door in (
            lambda g=graph: operator.pull_back(r, g),
            lambda g=graph: operator.forward(H, g),
            lambda g=graph: operator.error_bound(g),
            lambda g=graph: operator.pull_back_subsets(g, keep),
        ):
            with pytest.raises(ValueError, match=words):
                door()
    sound = carrot.RegionGraph(W, W.sum(-1))
    assert sound.verified is sound
    assert "verified" in vars(sound)


@pytest.mark.usefixtures("as_user")
def test_an_L_that_is_not_symmetric_is_refused_by_every_route() -> None:
    graph = graph_of(6)
    walk = torch.eye(6, dtype=torch.float64) - graph.W / graph.degree[:, None]
    for method in ("auto", "expm", "eigh", "chebyshev"):
        operator = DiffusionOperator(1.0, method)
        for door in (operator.forward, operator.pull_back, lambda r, L, o=operator: o.error_bound(L)):
            with pytest.raises(ValueError, match="symmetric"):
                door(torch.ones(6, 1, dtype=torch.float64) if door == operator.forward else torch.ones(6), walk)
    with pytest.raises(ValueError, match="square"):
        DiffusionOperator(1.0).pull_back(torch.ones(6), graph.L[:5])


def test_an_exponential_that_overflows_is_refused() -> None:
    L = -5.0 * torch.eye(4, dtype=torch.float32)
    for method in ("auto", "expm", "eigh"):
        with pytest.raises(ValueError, match="overflows"):
            DiffusionOperator(30.0, method).forward(torch.ones(4, 1), L)


def test_a_built_graph_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its spectrum is known by construction: the fast path pays nothing."""
    graph = graph_of(6)
    for name in ("require_symmetric", "require_finite", "require_float"):
        monkeypatch.setattr(carrot.graph, name, lambda *_: pytest.fail("looked at"))
    monkeypatch.setattr(carrot.laplacian, "require_symmetric", lambda *_: pytest.fail("looked at"))
    DiffusionOperator(1.0).pull_back(torch.ones(6, dtype=torch.float64), graph)
    DiffusionOperator(1.0).pull_back_subsets(graph, torch.ones(6, 1, dtype=torch.bool))
    assert "L" not in vars(graph)


@pytest.mark.parametrize("method", ["expm", "eigh", "chebyshev"])
@pytest.mark.parametrize("left", DTYPES)
@pytest.mark.parametrize("right", DTYPES)
def test_two_precisions_meet_in_the_wider(method: str, left: torch.dtype, right: torch.dtype) -> None:
    graph, H = graph_of(8, dtype=right), torch.randn(8, 3, dtype=left)
    wide = torch.promote_types(left, right)
    expected = torch.tensor(ref.heat(graph.L.double().numpy(), 2.0) @ H.double().numpy())
    for L in (graph, graph.L):
        found = DiffusionOperator(2.0, method)(H, L)
        assert found.dtype == wide
        torch.testing.assert_close(
            found.double(), expected, rtol=0, atol=1e-14 if left == right == torch.float64 else 1e-5
        )


@pytest.mark.parametrize("t", [0.3, 0.5, 1.0, 4.0])
def test_the_exponential_of_float32_is_that_of_float64_rounded(t: float) -> None:
    """torch's own of float32 is off by 130 eps at t |L| near .5."""
    r = torch.full((10,), 0.1)
    found = DiffusionOperator(t, "expm").pull_back(r, torch.eye(10))
    torch.testing.assert_close(found.double(), torch.full((10,), 0.1).double() * np.exp(-t), rtol=4e-7, atol=0)
