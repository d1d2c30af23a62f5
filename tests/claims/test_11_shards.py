"""Claim 11: statistics of shards, merged, give the head of the whole."""

from carrot._ridge.statistics import RidgeStatistics
from carrot.head import RidgeHead
from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = "Statistics of shards, merged, give the head of the whole"
FORMULA = "S_a + S_b + (w_a w_b / w) delta delta^T"
ASSUMPTION = "none"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    G, Y = world.head.G, world.head.Y
    shards = [RidgeStatistics.from_rows(g, y) for g, y in zip(G.split(13), Y.split(13), strict=True)]
    merged = shards[3] + shards[0] + shards[4] + shards[2] + shards[1]
    W_star, _ = ref.fit(G.numpy(), Y.numpy(), world.lam, world.intercept)
    return relative(RidgeHead.from_statistics(merged, world.lam, world.intercept).W_star, W_star)


def test_claim() -> None:
    assert measure() <= World().tolerance
