"""How long each stage takes on this machine, from model input to explanation."""

import statistics
import time
from collections.abc import Callable

import torch

from carrot._ridge.logit import Logit
from carrot.classifier.classifier import Classifier
from carrot.embedding.view import TileView
from carrot.explanation.parts import take_apart


def time_stages(classifier: Classifier, pictures: int = 8, rounds: int = 5) -> dict[str, float]:
    """Return the median milliseconds a picture of each stage, on noise of the model's input size.

    Args:
        classifier: The model.
        pictures: Pictures in a batch.
        rounds: How often each stage is timed, after one round that is not.
    """
    encoder, pooling, head = classifier.encoder, classifier.pooling, classifier.fitted.head
    generator = torch.Generator().manual_seed(0)
    tiles = encoder.view.inputs
    if isinstance(encoder.view, TileView):
        pictures = min(pictures, encoder.view.shard)
    x = torch.randn(pictures, *tiles, 3, *encoder.backbone.input_hw, generator=generator)
    tokens = encoder.encode(x)
    regions, readout = pooling.stage(tokens)
    g = pooling.g(tokens)
    trace = pooling.trace(tokens[:1])
    stages: dict[str, tuple[Callable[[], object], int]] = {
        "backbone": (lambda: encoder.encode(x), pictures),
        "tokens to embedding, all of it": (lambda: pooling.g(tokens), pictures),
    }
    if classifier.fitted.setting.t:
        graph = pooling.builder.build(regions)
        stages["of it the graph (W)"] = (lambda: pooling.builder.build(regions), pictures)
        stages["of it the diffusion (pi)"] = (lambda: pooling.operator.pull_back(readout.r, graph), pictures)
    stages |= {
        "head": (lambda: head.predict(g), pictures),
        "explanation: regions, removals, training pictures": (
            lambda: take_apart(trace, Logit.predicted(head, trace.g)),
            1,
        ),
    }
    return {name: _milliseconds(run, rounds, encoder.device) / n for name, (run, n) in stages.items()}


def _milliseconds(run: Callable[[], object], rounds: int, device: str) -> float:
    times = []
    for number in range(rounds + 1):
        start = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        if number:
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)
