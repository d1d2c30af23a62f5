"""The readout: the mean, a source that says which regions to listen to, and global regions' share."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import carrot
from carrot.readout import KINDS, BoundReadout, GraphReadout, Readout, attention_source, cosine_source, embed
from tests import contract
from tests import reference as ref

F64 = torch.float64


def test_mean_and_its_weights_agree() -> None:
    H = torch.randn(2, 3, 7, 4, dtype=F64)
    r = GraphReadout().weights(7)
    assert float(r.sum()) == pytest.approx(1.0)
    expected = sum(H[..., i, :] / 7 for i in range(7))
    torch.testing.assert_close(GraphReadout().forward(H), expected)
    torch.testing.assert_close(embed(H, r.expand(2, 3, 7)), expected)


def test_embed_is_the_weighted_sum() -> None:
    H, pi = torch.randn(2, 5, 3), torch.randn(2, 5)
    torch.testing.assert_close(embed(H, pi), (H * pi[..., None]).sum(1))


def test_unknown_kind_and_no_regions() -> None:
    with pytest.raises(ValueError, match="mean"):
        GraphReadout("max")
    with pytest.raises(ValueError, match=">= 1"):
        GraphReadout().weights(0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("tau", [0.0, 0.5, 3.0, 50.0])
@pytest.mark.parametrize(("N", "K"), [(1, 1), (5, 0), (5, 1), (4, 3)])
def test_weights_equal_the_loops(N: int, K: int, tau: float, share: float) -> None:
    if K or not share:
        contract.check_readout(carrot, N, K, tau, share)


@given(
    u=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9),
    tau=st.floats(0.0, 100.0),
    share=st.floats(0.0, 1.0),
    K=st.integers(1, 3),
)
@settings(max_examples=60)
def test_weights_are_weights(u: list[float], tau: float, share: float, K: int) -> None:
    """>= 0, sum to 1, the same for all scores moved alike, and the patches hold 1 - rho."""
    readout, N, scores = GraphReadout("source", tau, share), len(u) + K, torch.tensor(u, dtype=F64)
    r = readout.at(N, scores, K).weights(N)
    assert bool((r >= 0).all())
    assert float(r.sum()) == pytest.approx(1.0, abs=1e-13)
    assert float(r[:-K].sum()) == pytest.approx(1.0 - share, abs=1e-13)
    moved = readout.at(N, scores + 7.0, K).weights(N)
    torch.testing.assert_close(moved, r, rtol=0, atol=1e-11)  # tau u of 1e5 times eps


def test_tau_zero_is_the_mean() -> None:
    r = GraphReadout("source", 0.0).at(6, torch.randn(2, 6)).weights(6)
    assert torch.equal(r, GraphReadout().weights(6).expand(2, 6))
    assert torch.equal(GraphReadout().at(6).weights(6), GraphReadout().weights(6))


def test_some_of_the_regions_renormalised_are_the_softmax_over_those() -> None:
    u, keep = torch.randn(8, dtype=F64), torch.tensor([0, 3, 4, 7])
    r = GraphReadout("source", 2.0).at(8, u).weights(8)[keep]
    torch.testing.assert_close(r / r.sum(), GraphReadout("source", 2.0).at(4, u[keep]).weights(4))


def test_a_bound_readout_is_its_weights() -> None:
    H, u = torch.randn(3, 5, 4, dtype=F64), torch.randn(3, 5, dtype=F64)
    bound = GraphReadout("source").at(5, u)
    torch.testing.assert_close(
        bound.forward(H), torch.stack([torch.softmax(v, 0) @ h for v, h in zip(u, H, strict=True)])
    )
    assert bound.weights(5, torch.float32).dtype == torch.float32
    assert GraphReadout("source").at(5, u.float()).weights(5).dtype == F64
    torch.testing.assert_close(GraphReadout().at(5).forward(H), H.mean(1))
    for readout in (bound, GraphReadout()):
        assert isinstance(readout, Readout)
    with pytest.raises(ValueError, match=r"`r` must end in \(6,\)"):
        bound.weights(6)


def test_batches_are_their_pictures() -> None:
    u = torch.randn(2, 3, 5, dtype=F64)
    r = GraphReadout("source", 2.0, 0.2).at(6, u, 1).weights(6)
    for b in range(2):
        for a in range(3):
            torch.testing.assert_close(r[b, a], GraphReadout("source", 2.0, 0.2).at(6, u[b, a], 1).weights(6))


def test_what_depends_on_the_picture_says_so() -> None:
    for readout in (GraphReadout("source"), GraphReadout("source", 0.0), GraphReadout(global_share=0.1)):
        with pytest.raises(ValueError, match=r"readout\.at"):
            readout.weights(5)
        with pytest.raises(ValueError, match=r"readout\.at"):
            readout.forward(torch.zeros(5, 2))


@pytest.mark.usefixtures("as_user")
def test_bad_scores_and_numbers_are_refused() -> None:
    source = GraphReadout("source", 2.0)
    for call, words in (
        (lambda: source.at(5), "needs the scores `u`"),
        (lambda: source.at(5, torch.zeros(4)), r"`u` must end in \(5,\)"),
        (lambda: source.at(5, torch.zeros(5), 1), r"`u` must end in \(4,\)"),
        (lambda: source.at(5, torch.zeros(5, 1)), r"`u` must end in \(5,\)"),
        (lambda: source.at(5, torch.tensor(0.0)), r"`u` must end in \(5,\)"),
        (lambda: source.at(5, torch.full((5,), math.nan)), "`u` must be finite"),
        (lambda: source.at(5, torch.full((5,), -math.inf)), "`u` must be finite"),
        (lambda: source.at(0), "at least one region"),
        (lambda: source.at(2, torch.zeros(0), 2), "at least one region"),
        (lambda: source.at(5, torch.zeros(6), -1), "at least one region"),
        (lambda: GraphReadout(global_share=0.1).at(5), "with_global"),
        (lambda: cosine_source(torch.zeros(5, 3), torch.zeros(2)), r"`source` must end in \(3,\)"),
        (lambda: cosine_source(torch.zeros(2, 5, 3), torch.zeros(3)), r"`source` must end in \(2, 3\)"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf])
def test_numbers_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="`tau` must be a finite number >= 0"):
        GraphReadout("source", value)
    with pytest.raises(ValueError, match=r"`global_share` must be in \[0, 1\]"):
        GraphReadout(global_share=value)
    with pytest.raises(ValueError, match=r"`global_share` must be in \[0, 1\]"):
        GraphReadout(global_share=1.1)


def test_cosines_equal_the_loops() -> None:
    H, source = torch.randn(2, 5, 3, dtype=F64), torch.randn(2, 3, dtype=F64)
    u = cosine_source(H, source)
    for b in range(2):
        contract.close(u[b], ref.cosines(H[b].numpy(), source[b].numpy()), 1e-15, "cosines")
        torch.testing.assert_close(cosine_source(H[b], source[b]), u[b])
    torch.testing.assert_close(cosine_source(3.0 * H, 0.1 * source), u)
    H[0, 2] = 0.0
    assert float(cosine_source(H, source)[0, 2]) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_cosines_do_not_depend_on_the_scale(dtype: torch.dtype) -> None:
    """Powers of two change no digit, down to where squares underflow."""
    H, source = torch.randn(5, 3, dtype=dtype), torch.randn(3, dtype=dtype)
    assert torch.equal(cosine_source(H * 2.0**-50, source * 2.0**-50), cosine_source(H, source))


def test_powers_of_attention() -> None:
    A = torch.rand(2, 6, dtype=F64) + 0.01
    for tau in (0.0, 0.5, 1.0, 3.0):
        r = GraphReadout("source", tau).at(6, attention_source(A)).weights(6)
        torch.testing.assert_close(r, A**tau / (A**tau).sum(-1, keepdim=True), rtol=1e-13, atol=0)
    nothing = GraphReadout("source").at(3, attention_source(torch.tensor([0.0, 0.5, 0.25]))).weights(3)
    assert nothing.tolist() == pytest.approx([0.0, 2 / 3, 1 / 3], abs=1e-7)


def test_is_written_as_it_was_made() -> None:
    assert repr(GraphReadout()) == "GraphReadout('mean')"
    assert repr(GraphReadout("source", 2.0, 0.25)) == "GraphReadout('source', tau=2, global_share=0.25)"
    assert KINDS == ("mean", "source", "sum")
    assert isinstance(GraphReadout().at(2), BoundReadout)
