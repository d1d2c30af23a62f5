"""The readout."""

import pytest
import torch

from carrot.readout import GraphReadout, embed


def test_mean_and_its_weights_agree() -> None:
    H = torch.randn(2, 3, 7, 4, dtype=torch.float64)
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
