"""A GPU is fed: decoders get no weights, several shards are in flight, tokens are pooled where float64 is."""

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from carrot.data.loading import in_flight
from carrot.data.toy import ToyBirds
from carrot.embedding import cache as caching
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import Pooling
from carrot.embedding.sent import Rows
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from carrot.errors import BackboneError
from carrot.utils import float64_device

pytestmark = pytest.mark.usefixtures("surveyed_once")
SETTINGS = [Setting("quadratic", 0.5, t=1.0), Setting("identity", regions="tiles:2", power=2.0, global_share=0.2)]


@pytest.fixture(scope="module")
def birds() -> ToyBirds:
    return ToyBirds(n_train_per_class=6, n_test_per_class=1, n_species=3)


@pytest.mark.parametrize("s", SETTINGS, ids=["patches", "tiles"])
def test_a_process_that_decodes_gets_no_weights(s: Setting, birds: ToyBirds) -> None:
    encoder = Encoder("toy", device="cpu").of(s)
    for transform in (encoder.view.transform, encoder.view.probe):
        sent = pickle.dumps(transform)
        assert len(sent) < 10_000
        assert torch.equal(pickle.loads(sent)(birds.image(0)), transform(birds.image(0)))  # noqa: S301 (our own bytes)


@pytest.mark.parametrize("at_a_time", [1, 2, 3, 10])
def test_results_come_in_order_and_an_error_in_its_turn(at_a_time: int) -> None:
    first = threading.Event()
    begun: list[int] = []

    def work(i: int) -> int:
        begun.append(i)
        if i == 0 and at_a_time > 1:
            assert first.wait(10), "the second one is begun before the first is done"
        first.set()
        if i == 5:
            raise BackboneError("five")
        return i * i

    def items() -> Iterator[int]:
        yield from range(20)

    found = []
    with pytest.raises(BackboneError, match="five"):
        found.extend(in_flight(work, items(), at_a_time))
    assert found == [] or found == [0, 1, 4, 9, 16], "what was done before it"
    assert max(begun) < 5 + at_a_time, "nothing is begun after it"
    assert list(in_flight(lambda i: i + 1, range(7), at_a_time)) == list(range(1, 8))
    assert list(in_flight(work, [], at_a_time)) == []


def test_shards_in_flight_are_the_same_bytes(birds: ToyBirds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder("toy", device="cpu")

    def shards(folder: Path, at_a_time: int) -> list[bytes]:
        monkeypatch.setattr(Rows, "at_a_time", at_a_time)
        cache = caching.TokenCache.of(birds, encoder.view, folder, batch_size=4)
        return [path.read_bytes() for path in sorted(cache.folder.glob("*.safetensors"))]

    one, many = shards(tmp_path / "one", 1), shards(tmp_path / "many", 3)
    assert len(one) == 6
    assert one == many


@pytest.mark.parametrize("s", SETTINGS, ids=["patches", "tiles"])
def test_tokens_are_pooled_on_the_device_of_the_cache(
    s: Setting, birds: ToyBirds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder("toy", device="cpu").of(s)
    cache = encoder.cache(birds, tmp_path)
    assert cache.device == torch.device("cpu")
    expected = cache.embed(cache.rows, s), cache.pool(cache.rows, [s])[0]
    sent: list[torch.device] = []

    def to(tokens: Tokens, device: torch.device) -> Tokens:
        sent.append(device)
        return tokens

    monkeypatch.setattr(Tokens, "to", to)
    n = len(list(cache.batches(cache.rows)))
    assert torch.equal(cache.embed(cache.rows, s), expected[0])
    assert torch.equal(cache.pool(cache.rows, [s])[0], expected[1])
    assert sent == [cache.device] * 2 * n, "every batch of both is sent there"


def test_tokens_stay_where_the_backbone_is_until_they_are_asked_for() -> None:
    encoder = Encoder("toy", device="cpu")
    x = torch.rand(2, 3, *encoder.backbone.input_hw)
    there, here = encoder.view.encode(x, None), encoder.view.encode(x)
    assert torch.equal(there.H, here.H)
    assert there.to(None) is there
    assert there.to("cpu") is there
    moved = there.to("meta")
    assert {x.device.type for x in moved.rows().values()} == {"meta"}, "all of its tensors"
    assert torch.equal(Pooling(SETTINGS[0]).g(there), Pooling(SETTINGS[0]).g(here))


def test_apples_gpu_has_no_float64() -> None:
    assert float64_device(torch.device("mps")) == torch.device("cpu")
    for name in ("cpu", "cuda:1"):
        assert float64_device(torch.device(name)) == torch.device(name)
