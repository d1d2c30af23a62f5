"""A compiled backbone: the same tokens up to rounding, in passes of one size, kept apart; told where it can't be."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from carrot import BackboneError, Carrot, StoreError
from carrot._vit import compiling
from carrot.classifier.fitting import training_set
from carrot.data.toy import ToyBirds
from carrot.embedding.encoder import Encoder
from carrot.embedding.extracting import ExtractShard
from carrot.embedding.setting import Setting
from carrot.embedding.view import PASS, TileView
from carrot.tiling import Tiling

pytestmark = pytest.mark.usefixtures("surveyed_once")
TILES = Setting("identity", regions="tiles:3")


@pytest.fixture(scope="module")
def birds() -> ToyBirds:
    return ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=2)


@pytest.fixture(scope="module")
def pictures(birds: ToyBirds) -> list[Image.Image]:
    return [birds.image(i) for i in range(3)]


def pretend(monkeypatch: pytest.MonkeyPatch, kernel: Callable[[nn.Module, Tensor], Tensor]) -> None:
    """Let ``kernel`` be what compiling makes of a block."""

    def compile(block: Any, **_: object) -> None:
        block._compiled_call_impl = lambda x, *_, **__: kernel(block, x)

    monkeypatch.setattr(nn.Module, "compile", compile)


def off(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def test_compiled_tokens_are_torchs_own_up_to_rounding(
    birds: ToyBirds, pictures: list[Image.Image], tmp_path: Path
) -> None:
    plain, compiled = (Encoder("toy", dtype="float32", device="cpu", compile=c) for c in (False, True))
    if not compiled.backbone.compiled:  # another test says that this is told
        pytest.skip("no compiler")
    expected, found = plain.tokens(pictures), compiled.tokens(pictures)
    assert off(found.H, expected.H) < 1e-5
    assert compiled.fingerprint == plain.fingerprint, "weights, precision and preprocessing are the same"
    assert compiled.cache(birds, tmp_path).folder != plain.cache(birds, tmp_path).folder, "their bits are not"
    assert torch.equal(compiled.tokens(pictures[:1]).H[0], found.H[0]), "a picture alone, and in company"


def test_every_pass_has_one_size(monkeypatch: pytest.MonkeyPatch, pictures: list[Image.Image]) -> None:
    sizes = []

    def kernel(block: nn.Module, x: Tensor) -> Tensor:
        sizes.append(len(x))
        return block.forward(x)  # type: ignore[no-any-return]

    plain = Encoder("toy", dtype="float32", device="cpu")
    expected = plain.tokens(pictures), plain.of(TILES).tokens(pictures)
    pretend(monkeypatch, kernel)
    encoder = Encoder("toy", dtype="float32", device="cpu", compile=True)
    many = torch.stack([encoder.view.transform(pictures[0])] * (PASS + 1))
    assert off(encoder.tokens(pictures).H, expected[0].H) < 1e-5
    assert encoder.encode(many).H.shape[0] == PASS + 1, "two passes"
    assert set(sizes) == {PASS}
    sizes.clear()
    tiled = encoder.of(TILES)
    assert off(tiled.tokens(pictures).H, expected[1].H) < 1e-5
    assert set(sizes) == {24}, "a shard, 8 pictures of 9 tiles, is three passes of 24, and not two of 32 and one of 8"


@pytest.mark.parametrize("spec", ["tiles:2", "tiles:3", "tiles:4", "tiles:5", "tiles:7"])
def test_a_shard_of_tiles_is_whole_passes(spec: str) -> None:
    view = TileView(Encoder("toy", device="cpu").of(TILES).backbone, torch.float32, Tiling.from_spec(spec))
    assert view.at_once == PASS, "as before, where nothing is compiled"
    inputs = view.shard * view.inputs[0]
    passes = -(-inputs // view.even)
    assert view.even <= PASS
    assert passes * view.even - inputs < passes, "less than one input of each pass is filled up"


def test_what_cant_be_compiled_is_told_and_runs_without(
    monkeypatch: pytest.MonkeyPatch, birds: ToyBirds, pictures: list[Image.Image], tmp_path: Path
) -> None:
    def no_compiler(block: nn.Module, x: Tensor) -> Tensor:
        raise RuntimeError("g++ is nowhere\nand more lines")

    plain = Encoder("toy", device="cpu")
    for kernel, why in ((no_compiler, "RuntimeError: g[+][+] is nowhere[.]"), (lambda _, x: x, "gives other tokens")):
        pretend(monkeypatch, kernel)
        encoder = Encoder("toy", device="cpu", compile=True)
        with pytest.warns(UserWarning, match=f"toy is not compiled, and runs without: .*{why}"):
            encoder.backbone  # noqa: B018
        assert not encoder.backbone.compiled
        assert torch.equal(encoder.tokens(pictures).H, plain.tokens(pictures).H)
    assert encoder.cache(birds, tmp_path).folder == plain.cache(birds, tmp_path).folder
    cnn = Encoder("test_resnet", device="cpu", compile=True)
    monkeypatch.setattr("carrot.embedding.spec.BackboneSpec.build", lambda *_, **__: _cnn())
    with pytest.warns(UserWarning, match="no list of transformer blocks"):
        assert not cnn.of(TILES).backbone.compiled


def _cnn() -> Any:
    from carrot import TimmPooledBackbone

    return TimmPooledBackbone("test_resnet", pretrained=False)


def test_a_graph_that_fails_later_is_an_error_and_no_other_bits(
    monkeypatch: pytest.MonkeyPatch, pictures: list[Image.Image]
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    fails: list[bool] = []

    def kernel(block: nn.Module, x: Tensor) -> Tensor:
        if fails:
            raise TorchDynamoException("no more graphs")
        return block.forward(x)  # type: ignore[no-any-return]

    pretend(monkeypatch, kernel)
    encoder = Encoder("toy", device="cpu", compile=True)
    both = encoder, encoder.of(TILES)
    assert all(asked.backbone.compiled for asked in both)
    fails.append(True)
    for asked in both:
        with pytest.raises(BackboneError, match="can't be compiled .*no more graphs.*Run without"):
            asked.tokens(pictures)


def test_a_copy_is_compiled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda block, x: block.forward(x))
    backbone = Encoder("toy", device="cpu", compile=True).backbone
    sent = pickle.loads(pickle.dumps(Encoder("toy", device="cpu").backbone))  # noqa: S301
    assert not sent.compiled
    again = copy.deepcopy(Encoder("toy", device="cpu").backbone)
    assert not again.compiled
    for block in compiling.blocks_of(backbone.bare_model):  # a kernel of this test can't be pickled; torch's drop out
        block._compiled_call_impl = compiling.padded
    assert pickle.loads(pickle.dumps(backbone)).compiled  # noqa: S301
    assert copy.deepcopy(backbone).compiled
    compiling.stop_compiling(backbone.bare_model)
    assert not backbone.compiled


def test_a_loaded_model_runs_without(monkeypatch: pytest.MonkeyPatch, birds: ToyBirds, tmp_path: Path) -> None:
    pretend(monkeypatch, lambda block, x: block.forward(x))
    model = Carrot("toy", lift="identity", lam=1.0, device="cpu", compile=True).fit(birds)
    assert model.encoder.backbone.compiled
    model.save(tmp_path / "m")
    assert not Carrot.load(tmp_path / "m", device="cpu").encoder.backbone.compiled


def test_extracted_shards_are_of_one_kind_of_kernels(
    monkeypatch: pytest.MonkeyPatch, birds: ToyBirds, tmp_path: Path
) -> None:
    pretend(monkeypatch, lambda block, x: block.forward(x))
    train, _ = training_set(birds, None)
    for setting in (Setting("identity"), TILES):
        folder = tmp_path / setting.regions.replace(":", "-")
        job = ExtractShard.of(train, Encoder("toy", device="cpu", compile=True), setting, folder)
        assert job(0).pictures == 6
        with pytest.raises(StoreError, match="compiled"):
            ExtractShard.of(train, Encoder("toy", device="cpu"), setting, folder)
