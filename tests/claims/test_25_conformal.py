"""Claim 25: p-values of every label are those of n + 1 real refits with it; nothing is split off for calibration."""

import numpy as np

from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = (
    "The conformal p-value of every label is that of n + 1 real refits with the picture and that label; where pictures "
    "are exchangeable, the labels with p > alpha hold the true one with a probability of at least 1 - alpha"
)
FORMULA = (
    "p(y) = #{i: margin_i <= margin_g} / (n + 1), c = w / (1 + w k(g, g)), "
    "logit_{-i}(g_i) = y_i - (R_i - c k_i (e_y - f)) / (slack_i + c w_i k_i^2)"
)
ASSUMPTION = "lam and settings chosen without the picture; training pictures and it exchangeable"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world, one = World(), np.ones(60)
    G, worst = world.embeddings[:-1].numpy(), 0.0
    for per_class in (False, True):
        found = world.head.label_p_values(world.g.unsqueeze(0), per_class)[0]
        expected = ref.conformal(
            G, world.labels, world.C, world.lam, world.intercept, world.literal_g, one, np.ones(world.C), per_class
        )
        worst = max(worst, relative(found, expected))
    return worst


def test_claim() -> None:
    assert measure() <= World().tolerance
