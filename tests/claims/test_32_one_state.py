"""Claim 32: one model, whatever the way: a fit, or parts by any number of workers, killed and resumed, in any order."""

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carrot import Carrot
from carrot.classifier.fitted import Fitted
from carrot.classifier.fitting import training_set
from carrot.classifier.merged import merge
from carrot.data.toy import ToyBirds
from carrot.embedding.extracted import Extracts
from carrot.embedding.extracting import ExtractShard, extract
from carrot.engine import Here
from carrot.store.shards import EmbeddingStore

pytestmark = pytest.mark.usefixtures("surveyed_once")

STATEMENT = (
    "A model is the same bit for bit whether it is fitted in one go or merged of parts, by any number of workers, in "
    "any order, killed and resumed"
)
FORMULA = "G = [g(shard 0); g(shard 1); ...], a shard's bytes a function of its pictures alone"
ASSUMPTION = "one kind of processor and the same versions; on others tokens differ by the backbone's rounding"
WAYS: tuple[tuple[int, dict[str, object]], ...] = (  # pictures of a class, and how they are embedded
    (22, {"lift": "identity", "t": 1.0}),
    (7, {"lift": "identity", "regions": "tiles:2", "global_share": 0.2}),
)


class Killed(BaseException):
    """What stops a worker; nothing of the package catches it."""


@contextmanager
def killed_after(writes: int) -> Iterator[None]:
    """Stop a worker when it would write one shard more."""
    plain, left = EmbeddingStore.write, [writes]

    def write(self: EmbeddingStore, *arguments: object) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        plain(self, *arguments)  # type: ignore[arg-type]

    EmbeddingStore.write = write  # type: ignore[method-assign]
    try:
        yield
    except Killed:
        pass
    finally:
        EmbeddingStore.write = plain  # type: ignore[method-assign]


def state(fitted: Fitted) -> str:
    """Return all that a model is, as text: numbers of the solution to the last bit, and records."""
    numbers = {name: x.double().flatten().tolist() for name, x in fitted.head.state().items()}
    records = [record.to_json() for record in fitted.records]
    return json.dumps([numbers, records, fitted.temperature, fitted.head.lam])


def ways(settings: dict[str, object], birds: ToyBirds, size: int, root: Path) -> Iterator[tuple[Fitted, Fitted]]:
    """Yield the fit, and the merged model of each way."""
    whole = Carrot("toy", **settings).fit(birds)  # type: ignore[arg-type]
    train, _ = training_set(birds, None)
    rng = random.Random(0)
    for workers in (1, 2, 8):
        folders = [root / f"{workers}-{i}" for i in range(min(workers, 2))]  # shared by several
        parts = [(i + 1, workers) for i in range(workers)]
        rng.shuffle(parts)
        for i, n in parts:
            job = ExtractShard.of(train, whole.encoder, whole.setting_, folders[i % len(folders)], shard_size=size)
            with killed_after(rng.randrange(2)):
                extract(job, Here(), (i, n))
            extract(job, Here(), (i, n))
        rng.shuffle(folders)
        yield whole.fitted, merge(Extracts.of(folders)).fitted


def measure() -> float:
    """Compare all ways, of patches and of tiles; return the largest difference of a weight."""
    worst = 0.0
    for n, settings in WAYS:
        birds = ToyBirds(n_train_per_class=n, n_test_per_class=0, n_species=3)
        with tempfile.TemporaryDirectory() as root:
            for whole, merged in ways(settings, birds, 8 if "regions" in settings else 32, Path(root)):
                worst = max(worst, float((whole.head.W_star - merged.head.W_star).abs().max()))
                assert state(merged) == state(whole), "another state"
    return worst


def test_claim() -> None:
    assert measure() == 0.0


def test_shards_in_another_order_would_be_another_state(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = Extracts.blocks
    monkeypatch.setattr(Extracts, "blocks", lambda self: reversed(list(blocks(self))))
    with pytest.raises(AssertionError, match="another state"):
        measure()
