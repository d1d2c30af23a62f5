"""How long each stage takes on this machine, from model input to explanation."""

import statistics
import time
from collections.abc import Callable

import torch

from carrot._ridge.logit import Logit
from carrot.classifier.fitted import Fitted
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import build_graph, embed_tokens, stage, trace_tokens
from carrot.explanation.parts import take_apart
from carrot.operator import DiffusionOperator


def time_stages(encoder: Encoder, fitted: Fitted, pictures: int = 8, rounds: int = 5) -> dict[str, float]:
    """Return the median milliseconds a picture of each stage, on noise of the model's input size.

    Args:
        encoder: Pictures to tokens.
        fitted: The model.
        pictures: Pictures in a batch.
        rounds: How often each stage is timed, after one round that is not.
    """
    s, head = fitted.setting, fitted.head
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(pictures, 3, *encoder.backbone.input_hw, generator=generator)
    tokens = encoder.encode(x)
    regions, readout = stage(tokens, s)
    g = embed_tokens(tokens, s)
    one = type(tokens)(grid_hw=tokens.grid_hw, **{name: v[:1] for name, v in tokens.rows().items()})
    trace = trace_tokens(one, s)
    operator = DiffusionOperator(s.t)
    stages: dict[str, tuple[Callable[[], object], int]] = {
        "backbone": (lambda: encoder.encode(x), pictures),
        "tokens to embedding, all of it": (lambda: embed_tokens(tokens, s), pictures),
    }
    if s.t:
        graph = build_graph(regions, s)
        stages["of it the graph (W)"] = (lambda: build_graph(regions, s), pictures)
        stages["of it the diffusion (pi)"] = (lambda: operator.pull_back(readout.r, graph), pictures)
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
