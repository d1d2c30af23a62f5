"""What else could make regions classify better? Everything that was tried beside what Carrot offers, on one data set.

Usage: python -m benchmarks.search NAME --data DIR --backbone MODEL --checkpoint FILE [--crop model]
                                   [--test-every 2] [--only WORD]

Each variant changes one thing of the reference, the quadratic lift with tau = 1/2 (or with the mean readout), t = 0.
All are fixed and see one picture at a time, but for "whitened", which looks at training tokens and is here to show what
a better metric could bring. Two backbone passes (as it is, mirrored) are held in memory: 4.5 GB for 6,000 pictures of
196 tokens of width 192. Writes benchmarks/results/search-NAME.json: leave-one-out error and accuracy, test accuracy;
docs/decisions refers to it.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.harness import write
from carrot import DiffusionOperator, RegionGraphBuilder, RegionSet, TimmViTPatchBackbone
from carrot._vit.class_attention import last_attention
from carrot.data import ImageFolder, open_dataset, split_indices
from carrot.data.loading import batches
from carrot.evaluation import candidate
from carrot.lift import QuadraticLift
from carrot.readout import cosine_source
from carrot.regions import grid_positions

BATCH = 64
BLOCKS = (-5, -3, -2, -1)  # the last four that are looked at, counted from the end
Pooled = Callable[[slice], Tensor]


class Pictures:
    """Tokens of several blocks (each through the model's final norm), class tokens, attention; plain and mirrored."""

    def __init__(self, backbone: TimmViTPatchBackbone, dataset, mirrored: bool) -> None:
        n, (gh, gw), D = len(dataset.records), backbone.grid_hw, backbone.embed_dim
        self.grid = (gh, gw)
        blocks = (-1,) if mirrored else BLOCKS
        self.H = {b: torch.empty(n, gh * gw, D) for b in blocks}
        self.cls, self.A = torch.empty(n, D), torch.empty(n, gh * gw)
        places = [list(range(i, min(i + BATCH, n))) for i in range(0, n, BATCH)]
        depth = len(backbone.model.blocks)
        todo = zip(places, batches(dataset, backbone.transform, places), strict=True)
        with torch.inference_mode():
            for rows, batch in track(todo, "tokens" + ", mirrored" * mirrored, len(places)):
                x = batch.x.flip(-1) if mirrored else batch.x
                maps = backbone.model.forward_intermediates(
                    x, indices=[depth + b for b in blocks], norm=True, output_fmt="NLC",
                    return_prefix_tokens=True, intermediates_only=True,
                )  # fmt: skip
                for b, (tokens, _) in zip(blocks, maps, strict=True):
                    self.H[b][rows] = tokens
                self.cls[rows] = maps[-1][1][:, 0]
                self.A[rows] = last_attention(backbone.model, x, backbone.num_prefix_tokens)[1]

    def weights(self, rows: slice, power: float, tau: float = 0.0) -> Tensor:
        """Return r, proportional to A^power exp(tau cosine)."""
        u = power * self.A[rows].log() + tau * cosine_source(self.H[-1][rows], self.cls[rows])
        return torch.softmax(u.double(), dim=-1)


def variants(p: Pictures, m: Pictures, train: Tensor) -> Iterator[tuple[str, Pooled]]:
    """Yield (name, rows -> embeddings)."""
    quadratic = QuadraticLift()
    P = grid_positions(*p.grid, dtype=torch.float64)
    H = p.H[-1]

    def graph(rows: slice, sigma_s: float, sigma_f: float, tokens: Tensor | None = None):
        tokens = H[rows].double() if tokens is None else tokens
        return RegionGraphBuilder(sigma_s, sigma_f).build(RegionSet(tokens, P, p.grid))

    def quad(tokens: Tensor, r: Tensor) -> Tensor:
        return quadratic.embed(tokens, r)

    def half(rows: slice) -> Tensor:
        return p.weights(rows, 0.5)

    uniform = torch.full((H.shape[1],), 1.0 / H.shape[1], dtype=torch.float64)
    yield "reference: quadratic, mean", lambda s: quad(H[s], uniform.expand(len(H[s]), -1))
    yield "reference: quadratic, tau 1/2", lambda s: quad(H[s], half(s))

    # tokens
    for b in BLOCKS[:-1]:
        yield f"block {b}", lambda s, b=b: quad(p.H[b][s], half(s))
    yield "blocks -2 and -1, side by side", lambda s: torch.cat([quad(p.H[b][s], half(s)) for b in (-2, -1)], -1)
    yield (
        "blocks -3, -2 and -1, side by side",
        lambda s: torch.cat([quad(p.H[b][s], half(s)) for b in (-3, -2, -1)], -1),
    )
    yield "blocks -2 and -1, products between them too", lambda s: quad(torch.cat([p.H[-2][s], H[s]], -1), half(s))
    yield "token directions, h / |h|", lambda s: quad(torch.nn.functional.normalize(H[s], dim=-1), half(s))
    scale = float(H[train[:64]].norm(dim=-1).mean())
    for c in (0.1, 0.3):  # (<a, b> + c |h|^2)^2: the linear part beside the quadratic, scaled to token norms
        weight = math.sqrt(2.0 * c) * scale
        yield (
            f"inhomogeneous, c = {c} |h|^2",
            lambda s, w=weight: torch.cat([quad(H[s], half(s)), w * (half(s).unsqueeze(-1) * H[s]).sum(-2)], -1),
        )
    yield (
        "picture and mirrored picture averaged",
        lambda s: 0.5 * (quad(H[s], half(s)) + quad(m.H[-1][s], m.weights(s, 0.5))),
    )
    sample = H[train[:600]].flatten(0, 1).double()
    values, V = torch.linalg.eigh(torch.cov(sample.mT))
    values = values.clamp(min=float(values[-1]) * 1e-4)
    for power in (0.25, 0.5):
        T = (V * values ** (-power)) @ V.mT
        yield (
            f"whitened by training tokens, power {power} (not allowed)",
            lambda s, T=T: quad(H[s].double() @ T, half(s)),
        )

    # weights
    yield "attention and cosine, powers 1/2 and 4", lambda s: quad(H[s], p.weights(s, 0.5, 4.0))
    yield (
        "mean and tau 1, side by side",
        lambda s: torch.cat([quad(H[s], uniform.expand(len(H[s]), -1)), quad(H[s], p.weights(s, 1.0))], -1),
    )
    yield "squared token norms", lambda s: quad(H[s], torch.softmax(H[s].double().square().sum(-1).log(), -1))

    # diffusion
    for sigma_s, sigma_f, t in ((0.2, 0.7, 1.0), (0.2, 0.7, 4.0), (0.5, 1.0, 4.0)):
        name = f"sigma_s {sigma_s}, sigma_f {sigma_f}, t {t:g}"

        def heat(s: slice, power: float, a: float = sigma_s, b: float = sigma_f, t: float = t) -> Tensor:
            return DiffusionOperator(t).pull_back(p.weights(s, power), graph(s, a, b))

        def heated(s: slice, a: float = sigma_s, b: float = sigma_f, t: float = t) -> Tensor:
            return DiffusionOperator(t).forward(H[s].double(), graph(s, a, b).L)

        yield f"heat, mean, {name}", lambda s, heat=heat: quad(H[s], heat(s, 0.0))
        yield f"heat, tau 1/2, {name}", lambda s, heat=heat: quad(H[s], heat(s, 0.5))
        yield f"heat, tau 1, {name}", lambda s, heat=heat: quad(H[s], heat(s, 1.0))
        yield f"second order after diffusion, tau 1/2, {name}", lambda s, heated=heated: quad(heated(s), half(s))
        yield (
            f"second order before and after diffusion, tau 1/2, {name}",
            lambda s, heated=heated: torch.cat([quad(H[s], half(s)), quad(heated(s), half(s))], -1),
        )
        yield (
            f"high-pass filter 2 - exp(-t lambda), tau 1/2, {name}",
            lambda s, heat=heat: quad(H[s], 2.0 * half(s) - heat(s, 0.5)),
        )
    yield (
        "heat from the class token as a node, sigma_f 0.7, t 2",
        lambda s: quad(H[s], _from_class_token(p, s, 0.7, 2.0)),
    )

    # scale
    gh, gw = p.grid
    if gh % 2 == 0 and gw % 2 == 0:

        def coarse(s: slice) -> Tensor:
            return RegionSet(H[s], P.float(), p.grid).coarsen(2).features

        def coarse_half(s: slice) -> Tensor:
            r = half(s).unflatten(-1, (gh // 2, 2, gw // 2, 2)).sum((-3, -1))
            return r.flatten(-2)

        yield "coarsened 2 x 2", lambda s: quad(coarse(s), coarse_half(s))
        yield (
            "patches and 2 x 2 blocks, side by side",
            lambda s: torch.cat([quad(H[s], half(s)), quad(coarse(s), coarse_half(s))], -1),
        )


def _from_class_token(p: Pictures, s: slice, sigma_f: float, t: float) -> Tensor:
    """Return how heat let go at the class token, a node tied to patches by feature alone, spreads over the patches."""
    X = torch.cat([p.H[-1][s], p.cls[s].unsqueeze(-2)], -2).double()
    D2 = torch.cdist(X, X).square()
    W = torch.exp(-D2 / (2.0 * sigma_f**2 * D2.flatten(-2).median(dim=-1).values[:, None, None]))
    root = W.sum(-1).rsqrt()
    L = torch.eye(X.shape[-2], dtype=X.dtype) - root[..., :, None] * W * root[..., None, :]
    start = torch.zeros(X.shape[:-1], dtype=X.dtype)
    start[..., -1] = 1.0
    pi = DiffusionOperator(t).pull_back(start, L)[..., :-1]
    return pi / pi.sum(-1, keepdim=True)


def main() -> None:
    """Measure every variant, then write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--crop", default="model")
    parser.add_argument("--test-every", type=int, help="split of a plain folder")
    parser.add_argument("--only", default="", help="variants whose name holds this word")
    a = parser.parse_args()
    dataset = ImageFolder(a.data, test_every=a.test_every) if a.test_every else open_dataset(a.data)
    backbone = TimmViTPatchBackbone(a.backbone, checkpoint=a.checkpoint, crop=a.crop, attention=True)
    p, m = (Pictures(backbone, dataset, mirrored) for mirrored in (False, True))
    train, test = (torch.tensor(split_indices(dataset, split)) for split in ("train", "test"))
    y = torch.tensor([record.label for record in dataset.records])
    rows: list[dict[str, object]] = []
    n = len(y)
    for name, pooled in variants(p, m, train):
        if a.only not in name:
            continue
        G = torch.cat([pooled(slice(i, min(i + BATCH, n))).float() for i in range(0, n, BATCH)])
        G /= G[train].norm(dim=-1).mean()
        c = candidate(G[train], y[train], name)
        accuracy = float((c.head.predict(G[test]).argmax(-1) == y[test]).double().mean())
        rows.append({"variant": name, "M": G.shape[1], "loo_mse": c.loo_mse, "loo": c.loo_accuracy, "test": accuracy})
        print(f"{name:<70} LOO mse {c.loo_mse * 1e4:7.2f}  LOO {c.loo_accuracy:.4f}  test {accuracy:.4f}", flush=True)
    print(
        "written:",
        write(f"search-{a.name}", rows, backbone=a.backbone, crop=a.crop, n_train=len(train), n_test=len(test)).name,
    )


if __name__ == "__main__":
    main()
