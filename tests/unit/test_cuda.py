"""On a GPU the same code gives the same numbers: every stage in float64 against the processor."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from carrot import DiffusionOperator, GraphReadout, RegionGraphBuilder, RegionSet, RidgeHead
from carrot.data.toy import ToyBirds
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from carrot.removal import remove_each_region

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SIDE, D = 14, 64
N = SIDE * SIDE
SETTINGS = [
    Setting("identity", 0.5),
    Setting("quadratic", 0.5, t=2.0, global_share=0.3),
    Setting("relu:64", 0.0, t=8.0),
    Setting("fourier:64", 0.5, global_share=0.5),
    Setting("sketch:64", 0.5, t=0.5, coarsen=2),
]


def agree(compute: Callable[[str], Tensor], tolerance: float = 1e-12) -> None:
    there, here = compute("cuda"), compute("cpu")
    assert there.device.type == "cuda"
    assert float((there.cpu() - here).abs().max()) <= tolerance * float(here.abs().max())


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def regions(device: str) -> RegionSet:
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIDE, dtype=torch.float64)] * 2, indexing="ij")
    return RegionSet(random(N, D).to(device), torch.stack([x.flatten(), y.flatten()], -1).to(device), (SIDE, SIDE))


def tokens(device: str, batch: int = 3) -> Tokens:
    attention = random(batch, N, seed=2).softmax(dim=-1).to(device)
    return Tokens(random(batch, N, D).to(device), (SIDE, SIDE), random(batch, D, seed=1).to(device), attention)


def test_the_graph_is_the_same() -> None:
    agree(lambda device: RegionGraphBuilder().build(regions(device)).W)
    agree(lambda device: RegionGraphBuilder().build(regions(device)).L)


@pytest.mark.parametrize("t", [0.0, 2.0, 50.0])
def test_diffusion_is_the_same(t: float) -> None:
    r = GraphReadout().weights(N)
    agree(lambda device: DiffusionOperator(t).pull_back(r, RegionGraphBuilder().build(regions(device))))
    agree(lambda device: DiffusionOperator(t)(regions(device).features, RegionGraphBuilder().build(regions(device)).L))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("lam", ["loo", 1.0])
@pytest.mark.parametrize("M", [40, 500])
def test_the_head_is_the_same(M: int, lam: float | Literal["loo"], fit_intercept: bool) -> None:
    G, y = random(300, M) + 3.0 * torch.nn.functional.one_hot(torch.arange(300) % 7, M), torch.arange(300) % 7

    def head(device: str) -> RidgeHead:
        return RidgeHead(lam, fit_intercept).fit(G.to(device), y.to(device))

    agree(lambda device: head(device).W_star)
    agree(lambda device: head(device).alpha)
    agree(lambda device: head(device).loo_predict())
    agree(lambda device: head(device).remove([1, 2, 3]).W_star)
    agree(lambda device: head(device).add(G[:3].to(device) + 1.0, y[:3].to(device)).W_star)


def test_regions_removed_are_the_same() -> None:
    G, y = random(50, D, seed=3), torch.arange(50) % 5

    def parts(device: str) -> tuple:
        where = regions(device)
        graph = RegionGraphBuilder().build(where)
        return (
            where.features,
            graph,
            DiffusionOperator(2.0),
            GraphReadout(),
            RidgeHead(1.0).fit(G.to(device), y.to(device)),
        )

    agree(lambda device: remove_each_region(*parts(device)), 1e-11)


@pytest.mark.parametrize("s", SETTINGS, ids=str)
def test_every_embedding_is_the_same(s: Setting) -> None:
    agree(lambda device: Pooling(s).g(tokens(device)))
    agree(lambda device: Pooling(s).pi(tokens(device)))
    agree(lambda device: Pooling(s).trace(tokens(device, 1)).g)


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-5), ("bfloat16", 0.05)])
@pytest.mark.parametrize("compile", [False, True])
def test_tokens_are_the_same_up_to_rounding(
    precision: Literal["float32", "bfloat16"], bound: float, compile: bool
) -> None:
    pictures = [ToyBirds(2, 1, n_species=2).image(i) for i in range(3)]
    here = Encoder("toy", device="cpu", dtype="float32").tokens(pictures).H
    encoder = Encoder("toy", device="cuda", dtype="float32", precision=precision, compile=compile)
    there = encoder.tokens(pictures)
    assert there.H.device.type == "cpu"
    assert float((there.H - here).norm() / here.norm()) < bound
    assert encoder.backbone.compiled == compile
    x = torch.stack([encoder.view.transform(picture) for picture in pictures])
    stays = encoder.view.encode(x, None)
    assert stays.H.device.type == "cuda"
    assert torch.equal(stays.H.cpu(), there.H)


@pytest.mark.parametrize("s", [Setting("quadratic", 0.5, t=1.0), Setting("identity", regions="tiles:2")], ids=str)
def test_a_data_set_is_embedded_there(s: Setting, tmp_path: Path) -> None:
    birds = ToyBirds(20, 1, n_species=3)
    cache = Encoder("toy", device="cuda").of(s).cache(birds, tmp_path)
    assert cache.device.type == "cuda"
    there = cache.embed(cache.rows, s)
    pi = cache.pool(cache.rows, [s])[0]
    cache.device = torch.device("cpu")
    here = cache.embed(cache.rows, s)
    assert {there.device.type, pi.device.type} == {"cpu"}
    assert float((there - here).abs().max()) <= 1e-12 * float(here.abs().max())
    assert float((cache.embed(cache.rows, s, pi) - here).abs().max()) <= 1e-12 * float(here.abs().max())
