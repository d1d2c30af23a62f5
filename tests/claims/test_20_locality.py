"""Claim 20: a tile's feature depends on the pixels of its box and on nothing else, to the bit."""

from tests import tiles

STATEMENT = (
    "A tile's feature, and under a sum without diffusion what it brings to a logit, is a function of the pixels in its "
    "box"
)
FORMULA = "h_r = f(resize(cut(picture, b_r)))"
ASSUMPTION = (
    "the tile goes through the backbone in a batch of the same size; measured: the largest change when every pixel "
    "outside is scrambled"
)


def measure() -> float:
    """Return the largest change of a feature or a contribution when all pixels outside of its box are others."""
    return max(tiles.locality_error(has_whole) for has_whole in (False, True))


def test_claim() -> None:
    assert measure() == 0.0
    tiles.check_boxes()
