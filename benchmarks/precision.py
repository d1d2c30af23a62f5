"""What do bfloat16 and compiled kernels move? Tokens, logits and accuracy of one data set, beside float32.

The backbone's weights cast once (what ``precision="bfloat16"`` does), torch's autocast as its peer (weights float32,
each product in bfloat16), and both precisions compiled. Each gives tokens of all pictures in the same passes of 32, of
which the head is fitted on the training pictures, lam by exact leave-one-out. Told are the tokens' relative distance,
the largest change of a test logit under the same head (float32's) and under a head fitted on one's own tokens, how many
answers change, accuracy, and the processor's milliseconds for a picture (one thread).

Usage: python -m benchmarks.precision DATA --backbone NAME [--checkpoint FILE] [--lift quadratic] [--limit N]
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import write
from carrot import RidgeHead, TimmViTPatchBackbone
from carrot._ambient import pinned
from carrot.data import ImageDataset, open_dataset
from carrot.data.loading import batches
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from carrot.embedding.view import PASS

PLAIN = "float32"
Ways = dict[str, Callable[[Tensor], Tokens]]


def ways(build: Callable[[], TimmViTPatchBackbone]) -> Ways:
    """Return what makes tokens of inputs, by name."""

    def of(dtype: torch.dtype, compile: bool) -> Callable[[Tensor], Tokens]:
        backbone = build().to(dtype)
        if compile and (why := backbone.compile_blocks(PASS)):
            raise SystemExit(f"not compiled: {why}")
        return lambda x: Tokens.of(backbone, x, torch.float16, PASS)

    mixed = build()

    @pinned()
    def autocast(x: Tensor) -> Tokens:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = mixed(x)
        token = None if found.prefix is None else found.prefix[:, 0].half()
        attention = None if found.attention is None else found.attention.float()
        return Tokens(found.H.half(), found.grid_hw, token, attention)

    return {
        PLAIN: of(torch.float32, False),
        "bfloat16": of(torch.bfloat16, False),
        "bfloat16 by autocast": autocast,
        "float32, compiled": of(torch.float32, True),
        "bfloat16, compiled": of(torch.bfloat16, True),
    }


def embedded(dataset: ImageDataset, view: Ways, transform: Callable, s: Setting, n: int) -> tuple[dict, dict, dict]:
    """Return g of n pictures, the tokens' mean and largest distance from the first way's, and seconds, by way."""
    pooling, G = Pooling(s), {name: list[Tensor]() for name in view}
    off, took = {name: list[float]() for name in view}, dict.fromkeys(view, 0.0)
    lists = [list(range(i, min(i + PASS, n))) for i in range(0, n, PASS)]
    for batch in batches(dataset, transform, lists):
        plain: Tensor | None = None
        for name, encode in view.items():
            start = time.process_time()
            tokens = encode(batch.x)
            took[name] += time.process_time() - start
            H = tokens.H.float()
            plain = H if plain is None else plain
            off[name].append(float((H - plain).norm() / plain.norm()))
            G[name].append(pooling.g(tokens))
    return {name: torch.cat(g) for name, g in G.items()}, off, took


def measure(
    dataset: ImageDataset, build: Callable[[], TimmViTPatchBackbone], s: Setting, limit: int | None = None
) -> list[dict[str, object]]:
    """Return a row for each way."""
    view, n = ways(build), min(limit or len(dataset.records), len(dataset.records))
    G, off, took = embedded(dataset, view, build().transform, s, n)
    labels = torch.tensor([record.label for record in dataset.records[:n]])
    is_test = torch.tensor([record.split == "test" for record in dataset.records[:n]])
    heads = {name: RidgeHead("loo", True).fit(g[~is_test], labels[~is_test]) for name, g in G.items()}
    plain = heads[PLAIN].predict(G[PLAIN][is_test])
    rows = []
    for name, g in G.items():
        same, own = heads[PLAIN].predict(g[is_test]), heads[name].predict(g[is_test])
        rows.append(
            {
                "way": name,
                "ms": 1e3 * took[name] / n,
                "tokens_off": sum(off[name]) / len(off[name]),
                "logit_change": float((same - plain).abs().max()),
                "logit_change_own_head": float((own - plain).abs().max()),
                "logits_from": float(plain.min()),
                "logits_to": float(plain.max()),
                "answers_changed": int((same.argmax(dim=1) != plain.argmax(dim=1)).sum()),
                "accuracy": float((own.argmax(dim=1) == labels[is_test]).double().mean()),
                "test": int(is_test.sum()),
                "train": int((~is_test).sum()),
            }
        )
    return rows


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--checkpoint", default=None)
    parser.add_argument("--lift", default="quadratic")
    parser.add_argument("--limit", type=int, default=None, help="first so many pictures; nothing is written then")
    a = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(a.data)

    def build() -> TimmViTPatchBackbone:
        return TimmViTPatchBackbone(a.backbone, checkpoint=a.checkpoint, attention=True)

    rows = measure(dataset, build, Setting(a.lift, 0.75), a.limit)
    for row in rows:
        print(row)
    if a.limit is None:
        print("written:", write(f"precision-{dataset.name}", rows, backbone=a.backbone, lift=a.lift, tau=0.75).name)


if __name__ == "__main__":
    main()
