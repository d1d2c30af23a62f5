"""Claim 1: pooling diffused tokens and pooling tokens with pi are the same embedding."""

from tests.claims.world import World, relative

STATEMENT = "Pooling diffused tokens and pooling tokens with pi are the same embedding"
FORMULA = "H'^T r = H^T exp(-tL) r"
ASSUMPTION = "linear readout, symmetric L"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world = World()
    return relative(world.g, world.literal_g)


def test_claim() -> None:
    assert measure() <= World().tolerance
