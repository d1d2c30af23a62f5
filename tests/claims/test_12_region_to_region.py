"""Claim 12: contributions of pairs of regions, test to training, sum to the logit."""

from carrot.attribution import pair_contribution, training_contribution
from tests.claims.world import World, relative

STATEMENT = "Contributions of pairs of regions, test to training, sum to the logit"
FORMULA = "logit = b + sum_jik pi_j pi_ik <h_j, h_ik> alpha_i"
ASSUMPTION = "training tokens at hand"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    parts = pair_contribution(world.H, world.pi[-1], world.tokens[:-1], world.pi[:-1], world.head.alpha, target=0)
    return relative(parts.sum().reshape(1) + world.head.bias[:1], world.refit()[:1])


def test_claim() -> None:
    world = World()
    terms = training_contribution(world.g, world.head.G, world.head.alpha).abs().sum(0)
    # as in claim 4: the terms are larger than their sum, and round accordingly
    assert measure() <= world.tolerance * float(terms[0] / world.head.predict(world.g)[0].abs())
