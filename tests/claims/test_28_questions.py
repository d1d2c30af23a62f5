"""Claim 28: whatever is asked of the logits, what a training picture's absence takes from it is a refit's."""

import numpy as np
import torch

from carrot.referee import training_scores
from tests.claims.world import World, relative

STATEMENT = "What a logit, margin, log odds or contrast loses without any one training picture is what a refit says"
FORMULA = "f(z) - f(z - s_i(g) R_i / (1 - leverage_i))"
ASSUMPTION = "lam held"
Y, A = 1, 3


def asked(z: np.ndarray) -> np.ndarray:
    """Return the four, written out."""
    others = np.delete(z, Y)
    return np.array([z[Y], z[Y] - max(others), z[Y] - np.log(sum(np.exp(others))), z[Y] - z[A]])


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    g, y, a = world.g.unsqueeze(0), torch.tensor([Y]), torch.tensor([A])
    found = [training_scores(world.head, g, y, of=of)[0] for of in ("logit", "margin", "log_odds")]
    found.append(training_scores(world.head, g, y, of="contrast", against=a)[0])
    full = asked(world.refit())
    return relative(torch.stack(found, dim=1), np.stack([full - asked(world.refit(gone=[i])) for i in range(world.n)]))


def test_claim() -> None:
    assert measure() <= 10 * World().tolerance  # effects are a tenth of logits, of which they are differences
