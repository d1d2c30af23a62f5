"""Claim 14: shapley values over few regions are those of all orders."""

from carrot.attribution import region_shapley
from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = "Shapley values over few regions are those of all orders"
FORMULA = "sum_S |S|! (N - |S| - 1)! / N! (v(S + i) - v(S))"
ASSUMPTION = "N <= 16, or sampling with its standard error"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World(gh=2, gw=3)
    W_star, b = world.head.W_star.numpy(), world.head.bias.numpy()
    H, W = world.H.numpy(), world.graph.W.numpy()
    expected = ref.shapley(lambda keep: ref.embed_subset(H, W, world.t, keep) @ W_star + b, world.N)
    values, _ = region_shapley(world.H, world.graph, world.operator, world.readout, world.head)
    return relative(values, expected)


def test_claim() -> None:
    assert measure() <= World().tolerance
