"""The stages wired: many settings' weights from shared graphs, patch blocks, rounding, against formulas written out."""

import numpy as np
import pytest
import torch

from carrot import BackboneError, TimmViTPatchBackbone
from carrot.embedding.pooling import Pooling, pool
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from tests import reference as ref

GH, GW, D, B = 4, 6, 5, 3


@pytest.fixture
def tokens() -> Tokens:
    attention = torch.rand(B, GH * GW) / (2 * GH * GW)
    return Tokens(torch.randn(B, GH * GW, D).half(), (GH, GW), torch.randn(B, D).half(), attention)


def weights(tokens: Tokens, s: Setting, b: int) -> np.ndarray:
    """pi by the matrix exponential of a Laplacian built by double loops."""
    H, a = tokens.H[b].double().numpy(), tokens.attention[b].double().numpy()  # type: ignore[index]
    f = s.coarsen
    gh, gw = GH // f, GW // f
    blocks = [
        [(y * f + dy) * GW + (x * f + dx) for dy in range(f) for dx in range(f)] for y in range(gh) for x in range(gw)
    ]
    H = np.stack([H[block].mean(axis=0) for block in blocks])
    a = np.array([a[block].sum() for block in blocks])
    r = a**s.tau / (a**s.tau).sum()
    P = np.array([[(x + 0.5) * 2 / gw - 1, (y + 0.5) * 2 / gh - 1] for y in range(gh) for x in range(gw)])
    P = P * np.array([gw, gh]) / max(gh, gw)
    n = len(H)
    distances = np.array([[np.linalg.norm(H[i] - H[j]) for j in range(n)] for i in range(n)])
    m = np.sort(distances[np.triu_indices(n, 1)])[(n * (n - 1) // 2 - 1) // 2]
    space = ((P[:, None] - P[None]) ** 2).sum(-1) / (2 * s.sigma_spatial**2)
    W = np.exp(-space - distances**2 / (2 * (s.sigma_feature * m) ** 2))
    pi = ref.heat(ref.laplacian(W)[1], s.t) @ r
    return pi if not s.global_share else np.append((1 - s.global_share) * pi, s.global_share)


SETTINGS = [
    Setting(tau=tau, sigma_spatial=0.4, sigma_feature=0.8, t=t, global_share=share, coarsen=coarsen, lift=lift)
    for tau, t, share, coarsen, lift in [
        (0.0, 0.0, 0.0, 1, "identity"),
        (0.5, 0.5, 0.0, 1, "identity"),
        (0.5, 8.0, 0.0, 1, "identity"),
        (0.5, 8.0, 0.0, 1, "quadratic"),
        (0.5, 2.0, 0.3, 1, "quadratic"),
        (1.0, 2.0, 0.0, 2, "quadratic"),
        (0.5, 2.0, 0.3, 2, "identity"),
    ]
]


def test_weights_of_many_settings_are_those_of_each_by_brute_force(tokens: Tokens) -> None:
    together = pool(tokens, SETTINGS)
    for s, pi in zip(SETTINGS, together, strict=True):
        alone = Pooling(s).pi(tokens)
        torch.testing.assert_close(pi, alone, rtol=0, atol=1e-14)
        for b in range(B):
            np.testing.assert_allclose(pi[b].numpy(), weights(tokens, s, b), rtol=0, atol=1e-12, err_msg=str(s))


def test_embeddings_with_and_without_known_weights(tokens: Tokens) -> None:
    for s, pi in zip(SETTINGS, pool(tokens, SETTINGS), strict=True):
        g = Pooling(s).g(tokens)
        torch.testing.assert_close(Pooling(s).g(tokens, pi), g, rtol=0, atol=1e-12)
        H = Pooling(s).stage(tokens)[0].features
        for b in range(B):
            second = (H[b].mT * pi[b]) @ H[b]
            upper = torch.triu_indices(D, D)
            scale = 1.0 + (2.0**0.5 - 1.0) * (upper[0] != upper[1]).double()
            expected = H[b].mT @ pi[b] if s.lift == "identity" else second[upper[0], upper[1]] * scale
            torch.testing.assert_close(
                g[b].abs().sort().values, expected.abs().sort().values, rtol=0, atol=1e-12
            )  # in any order
        one = Tokens(tokens.H[:1], (GH, GW), tokens.class_token[:1], tokens.attention[:1])  # type: ignore[index]
        torch.testing.assert_close(Pooling(s).trace(one).g, g[0], rtol=0, atol=1e-12)


def test_tokens_that_float16_can_not_hold_are_refused() -> None:
    from carrot.embedding.encoder import Encoder

    encoder = Encoder("toy", dtype="float16")
    x = torch.zeros(1, 3, *encoder.backbone.input_hw)
    assert encoder.encode(x).H.dtype == torch.float16
    with torch.no_grad():
        encoder.backbone.model.norm.weight.mul_(1e6)
    with pytest.raises(BackboneError, match="float32"):
        encoder.encode(x)
    assert Tokens.of(encoder.backbone, x).H.dtype == torch.float32


@pytest.mark.usefixtures("as_user")
def test_rows_of_other_pictures_are_refused(tokens: Tokens) -> None:
    assert tokens.class_token is not None
    assert tokens.attention is not None
    with pytest.raises(ValueError, match="`attention` must be"):
        Tokens(tokens.H, tokens.grid_hw, tokens.class_token, tokens.attention[:1])
    with pytest.raises(ValueError, match="`class_token` must be"):
        Tokens(tokens.H, tokens.grid_hw, tokens.class_token[:, :-1])


@pytest.mark.parametrize("s", [Setting(), Setting("quadratic", t=1.0), Setting("sketch:16", sigma_feature=0.7, t=2.0)])
def test_no_pictures_have_no_embeddings(s: Setting) -> None:
    width = {"identity": 8, "quadratic": 36, "sketch:16": 16}[s.lift]
    assert Pooling(s).g(Tokens(torch.zeros(0, 16, 8), (4, 4))).shape == (0, width)


@pytest.fixture(scope="module")
def backbone() -> TimmViTPatchBackbone:
    return TimmViTPatchBackbone("test_vit", pretrained=False, attention=None)


@pytest.mark.parametrize(
    ("s", "words"),
    [
        (Setting("cubic"), "`lift`"),
        (Setting(tau=-1.0), "`tau`"),
        (Setting(global_share=1.5), "`global_share`"),
        (Setting(sigma_spatial=0.0), "`sigma_spatial`"),
        (Setting(sigma_feature=float("nan")), "`sigma_feature`"),
        (Setting(t=-1.0), "`t`"),
        (Setting(coarsen=7), "The blocks of `coarsen` must divide"),
    ],
)
def test_impossible_settings_are_refused_before_a_picture_is_seen(
    backbone: TimmViTPatchBackbone, s: Setting, words: str
) -> None:
    Pooling(Setting("quadratic", 0.5, t=2.0, global_share=0.2, coarsen=2)).require(backbone)
    with pytest.raises(ValueError, match=words):
        Pooling(s).require(backbone)


def test_a_backbone_without_a_class_token_refuses_what_needs_one() -> None:
    plain = TimmViTPatchBackbone("vit_base_patch16_siglip_224", pretrained=False, attention=None, img_size=32)
    for s in (Setting(tau=0.5), Setting(global_share=0.1)):
        with pytest.raises(ValueError, match="Set it to 0"):
            Pooling(s).require(plain)


def test_a_backbone_in_double_takes_pictures_in_single() -> None:
    double = TimmViTPatchBackbone("test_vit", pretrained=False, attention=None).double()
    x = torch.rand(2, 3, *double.input_hw)
    with torch.inference_mode():
        expected = double(x.double()).H.float()
    assert torch.equal(Tokens.of(double, x).H, expected)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_backbone_in_training_answers_as_in_evaluation(freeze: bool) -> None:
    """Before: with dropout, or norms over the batch, a picture had another answer each time and beside others."""
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False, freeze=freeze)
    backbone.model.patch_embed.norm = torch.nn.Sequential(torch.nn.Dropout(0.5), Batch(64))
    x = torch.rand(3, 3, *backbone.input_hw)
    backbone.model.eval()
    expected = Tokens.of(backbone, x).H
    backbone.model.train()
    for _ in range(2):
        assert torch.equal(Tokens.of(backbone, x).H, expected)
    torch.testing.assert_close(Tokens.of(backbone, x[:1]).H, expected[:1], rtol=1e-5, atol=1e-5)
    assert backbone.model.training, "the mode is the user's"
    assert int(backbone.model.patch_embed.norm[1].norm.num_batches_tracked) == 0


class Batch(torch.nn.Module):
    """A norm over the batch, of tokens."""

    def __init__(self, D: int) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(D)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(x.flatten(0, -2)).reshape(x.shape)
        return found


def test_a_backbone_that_gives_nan_is_said_so() -> None:
    broken = TimmViTPatchBackbone("test_vit", pretrained=False)
    with torch.no_grad():
        broken.model.norm.weight[3] = torch.nan
    with pytest.raises(BackboneError, match="NaN or infinity for picture 0"):
        Tokens.of(broken, torch.rand(2, 3, *broken.input_hw))
