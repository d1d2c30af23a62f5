"""Shapley values over regions are exact by enumeration, and unbiased with an honest standard error by sampling."""

from types import SimpleNamespace

import numpy as np
import torch

import carrot
from carrot import attribution as a
from carrot.readout import norm_source
from carrot.removal import Coalitions
from tests import contract
from tests import reference as ref
from tests.unit.test_attribution import Setting


def test_enumeration_equals_all_orders() -> None:
    s = Setting(2, 3)
    expected = ref.shapley(s.value, 6)
    values, errors = a.region_shapley(*s.stages)
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-13)
    assert not errors.any()


def test_values_sum_to_what_the_picture_adds() -> None:
    s = Setting(3, 4)
    total = s.value(np.ones(12, bool)) - s.value(np.zeros(12, bool))
    for n_samples in (None, 4, 20):
        values, _ = a.region_shapley(*s.stages, n_samples=n_samples)
        np.testing.assert_allclose(values.sum(0).numpy(), total, atol=1e-13)


def test_standard_errors_are_honest() -> None:
    """Over 30 seeds, errors in units of their standard error have an RMS near 1 (t distribution, 19 d.f.: 1.06)."""
    s = Setting(2, 3)
    exact, _ = a.region_shapley(*s.stages)
    z = []
    for seed in range(30):
        values, errors = a.region_shapley(*s.stages, n_samples=40, seed=seed)
        if seed < 3:
            assert torch.equal(values, a.region_shapley(*s.stages, n_samples=40, seed=seed)[0])
        z.append(((values - exact) / errors).flatten())
    rms = float(torch.cat(z).square().mean().sqrt())
    assert 0.8 < rms < 1.3  # 540 correlated values; 15 independent ones a seed would give 1.06 +- 0.04


def test_sampling_under_a_lift_and_a_source_is_unbiased() -> None:
    """Against all orders of phi written out: the mean of 400 sampled orders, within 5 standard errors."""
    w = contract.Lifted(carrot, "quadratic", 20, tau=3.0, share=0.3)
    expected = ref.shapley(w.value, w.N)
    values, errors = a.region_shapley(*w.x, n_samples=400, lift=w.lift)
    assert float(((values - torch.tensor(expected)).abs() / errors).max()) < 5.0


def test_an_additive_game_is_answered_without_orders() -> None:
    """Under a sum and without diffusion drops are the Shapley values: as enumeration has them, and for any N."""
    generator = torch.Generator().manual_seed(5)
    for N in (6, 40):
        H = torch.randn(N, 4, generator=generator, dtype=torch.float64)
        graph = carrot.RegionGraphBuilder(feature_scale="direction").build(
            carrot.RegionSet(H, torch.rand(N, 2, generator=generator, dtype=torch.float64))
        )
        readout = carrot.GraphReadout("sum", 3.0).at(N, norm_source(H))
        W = torch.randn(4, 2, generator=generator, dtype=torch.float64)
        head = SimpleNamespace(W_star=W, bias=torch.zeros(2, dtype=torch.float64))
        game = Coalitions(H, graph, carrot.DiffusionOperator(0.0), readout, head)
        values, errors = game.shapley()
        assert not errors.any()
        assert not game.interactions().any()
        torch.testing.assert_close(values, readout.r[:, None] * (H @ W), rtol=1e-12, atol=1e-14)
        if N <= 6:
            torch.testing.assert_close(values, game._exact_shapley(), rtol=1e-12, atol=1e-14)
        mixed = Coalitions(H, graph, carrot.DiffusionOperator(1.0), readout, head)
        assert not mixed.is_additive
        assert bool(mixed.interactions().abs().max() > 1e-6)
