"""CARROT end to end: pictures -> tokens H -> region graph W, L -> diffusion -> embedding g -> closed-form head -> attribution.

    python main.py                                                  toy birds and their embedded backbone, offline
    python main.py --data DIR --backbone NAME --checkpoint FILE     CUB-200-2011, or a folder of class folders

Writes to --out: embeddings (a killed run goes on), head, metrics, every object of the theory for the explained pictures, a figure.
"""

import argparse
import itertools
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from rich.progress import track
from torch import Tensor

from carrot import CarrotError, DiffusionOperator, GraphReadout, RegionGraphBuilder, RegionSet, RidgeHead
from carrot import TimmViTPatchBackbone as Backbone
from carrot.data import ImageDataset, open_dataset, split_indices
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from carrot.evaluation import candidate, select, summary
from carrot.explanation import Trace, explain, refit_without, region_to_region, strongest_pairs
from carrot.readout import embed
from carrot.report import Pair, Panel, accuracy_line, check_line, explanation_figure, explanation_lines
from carrot.store import embed_dataset, save_tensors

DEFAULT_MODEL = "vit_small_patch14_reg4_dinov2.lvd142m"
READOUT = GraphReadout("mean")


class Setting(NamedTuple):
    """Bandwidths of the graph and diffusion time; t = 0 is mean pooling, whatever the bandwidths."""

    sigma_spatial: float
    sigma_feature: float
    t: float


def embed_pictures(backbone: Backbone, x: Tensor, settings: list[Setting]) -> Tensor:
    """(B, 3, h, w) -> g (B, S, D): one backbone pass, a graph for each pair of bandwidths, one recurrence for all t."""
    regions = RegionSet.from_patches(backbone(x.to(backbone.device)))
    r = READOUT.weights(regions.num_regions)
    g = []
    for sigmas, group in itertools.groupby(settings, key=lambda s: s[:2]):
        graph = RegionGraphBuilder(*sigmas).build(regions)
        for pi in DiffusionOperator(0.0).pull_back_path(r, graph, [s.t for s in group]):
            g.append(embed(regions.features, pi))
    return torch.stack(g, dim=1)


def trace_picture(backbone: Backbone, x: Tensor, s: Setting) -> Trace:
    """(3, h, w) -> every object of the theory, by the literal path."""
    patches = backbone(x.unsqueeze(0).to(backbone.device))
    regions = RegionSet(patches.H[0].cpu(), patches.P.cpu(), patches.grid_hw)
    graph, operator = RegionGraphBuilder(s.sigma_spatial, s.sigma_feature).build(regions), DiffusionOperator(s.t)
    pi = operator.pull_back(READOUT.weights(regions.num_regions), graph)
    H_prime = operator.forward(regions.features, graph.L)
    return Trace(regions, graph, pi, H_prime, READOUT.forward(H_prime))


def explain_picture(
    data: ImageDataset, backbone: Backbone, head: RidgeHead, s: Setting, test: int, train: list[int], out: Path
) -> None:
    """Take one prediction apart; print every sum beside the logit; store the objects; draw the figure."""

    def look(index: int) -> Trace:
        trace = trace_picture(backbone, backbone.transform(data.image(index)), s)
        save_tensors(out / "explained" / f"{index:06d}.safetensors", trace.tensors(), id=data.records[index].id)
        return trace

    def panel(index: int, title: str) -> Panel:
        image, label = data.image(index), data.classes[data.records[index].label]
        return Panel(image, backbone.pixel_boxes(image.size), backbone.grid_hw, f"{label}\n{title}")

    ids = [data.records[i].id for i in train]
    trace = look(test)
    e = explain(trace, DiffusionOperator(s.t), READOUT, head)
    heading = f"{data.records[test].id}, labelled {data.classes[data.records[test].label]}"
    print(f"\n{heading}:", *explanation_lines(e, data.classes, ids), sep="\n")
    top = e.top_training(4).tolist()
    pairs = region_to_region(trace, look(train[top[0]]), head, top[0], e.target)
    print(check_line(f"sum over pairs of regions with {ids[top[0]]}", float(pairs.sum()), float(e.dual[top[0]])))
    key = int(e.removal.abs().argmax())
    refitted = float(refit_without(head, key).predict(trace.g.double())[e.target])
    print(check_line(f"logit without {ids[key]}, against a refit", e.logit - float(e.removal[key]), refitted))
    explanation_figure(
        panel(test, f"logit of {data.classes[e.target]}: {e.logit:.3f}"),
        {"regions by token": e.token, "regions by node": e.node, "drop when removed": e.drop},
        [panel(train[i], f"dual {float(e.dual[i]):+.3f}") for i in top],
        [Pair(*pair) for pair in strongest_pairs(pairs, 3)],
        f"{heading}: what makes it {data.classes[e.target]}. Token level: exact for tokens -> logit",
    ).savefig(out / "explanation.png", dpi=110)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, help="CUB-200-2011 or a folder of class folders (default: the toy birds)")
    p.add_argument(
        "--backbone",
        help=f"timm model (default: the embedded {EMBEDDED_MODEL} for the toy birds, else {DEFAULT_MODEL})",
    )
    p.add_argument("--checkpoint", type=Path, help="local weights, .safetensors or .pth, instead of a download")
    p.add_argument("--img-size", type=int, help="side of the model's input in pixels (default: the model's own)")
    p.add_argument(
        "--crop", choices=["model", "squash", "border"], help="default: the model's own; squash for the toy birds"
    )
    p.add_argument("--sigma-spatial", type=float, nargs="+", default=[0.2, 0.5], help="bandwidths to choose from")
    p.add_argument("--sigma-feature", type=float, nargs="+", default=[0.7, 1.0], help="bandwidths to choose from")
    p.add_argument(
        "--times", type=float, nargs="+", default=[0.5, 1.0, 2.0, 4.0, 8.0, 16.0], help="t to choose from, beside 0"
    )
    p.add_argument("--explain", metavar="ID", help="record to explain (default: the first test picture)")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument(
        "--store",
        choices=["explained", "all"],
        default="explained",
        help="pictures whose H, P, W, L, pi, H', g to keep",
    )
    p.add_argument("--out", type=Path, help="where to write (default: runs/NAME)")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Embed, fit, evaluate, explain."""
    a = arguments(argv)
    toy = a.data is None
    data: ImageDataset = ToyBirds() if toy else open_dataset(a.data)
    embedded = toy and a.backbone is None
    weights, crop = (
        a.checkpoint or (embedded_checkpoint() if embedded else None),
        a.crop or ("squash" if toy else "model"),
    )
    name = a.backbone or (EMBEDDED_MODEL if toy else DEFAULT_MODEL)
    backbone = Backbone(name, img_size=a.img_size, device=a.device, checkpoint=weights, crop=crop)
    out = a.out or Path("runs") / data.name
    times = sorted(set(a.times) - {0.0})
    settings = [Setting(a.sigma_spatial[0], a.sigma_feature[0], 0.0)]
    settings += [Setting(*s) for s in itertools.product(a.sigma_spatial, a.sigma_feature, times)]

    def embeddings(model: Backbone, chosen: list[Setting], folder: str) -> Tensor:
        facts = {"backbone": model.fingerprint(), "settings": [list(s) for s in chosen], "readout": READOUT.kind}
        shape = (len(chosen), model.embed_dim)
        g, errors = embed_dataset(
            data, model.transform, lambda x: embed_pictures(model, x, chosen), shape, facts, out / folder
        )
        for error in errors.values():
            print(f"set aside: {error}", file=sys.stderr)
        return g

    G = embeddings(backbone, settings, "embeddings")
    readable = torch.isfinite(G[:, 0, 0])
    train, test = ([i for i in split_indices(data, split) if readable[i]] for split in ("train", "test"))
    y = torch.tensor([record.label for record in data.records])
    counts = f"{len(train)} training and {len(test)} test pictures; {int((~readable).sum())} set aside"
    print(f"{data.name}: {len(data.classes)} classes, {counts}")

    choices = [candidate(G[train, k], y[train], k) for k in track(range(len(settings)), "leave-one-out")]
    best = select(choices)
    rows = {"mean pooling (t = 0)": (choices[0], G), "CARROT (chosen by leave-one-out)": (best, G)}
    if embedded:
        torch.manual_seed(0)
        G_0 = embeddings(Backbone(name, pretrained=False, device=a.device, crop=crop), settings[:1], "untrained")
        rows["untrained backbone (t = 0)"] = (candidate(G_0[train, 0], y[train]), G_0)
    metrics = {}
    for row, (c, g) in rows.items():
        s, accuracy = settings[c.index], summary(c.head.predict(g[test, c.index]), y[test])
        metrics[row] = {**s._asdict(), "lam": c.head.lam, "loo_mse": c.loo_mse, **asdict(accuracy)}
        chosen = f"sigma_s {s.sigma_spatial:g}, sigma_f {s.sigma_feature:g}, t {s.t:g}, lam {c.head.lam:.2g}"
        print(accuracy_line(row, accuracy, f"({chosen}; leave-one-out {c.loo_accuracy:.3f})"))
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2))
    head, s = best.head, settings[best.index]
    save_tensors(out / "head.safetensors", {"W_star": head.W_star, "bias": head.bias, "alpha": head.alpha})

    index = {data.records[i].id: i for i in [*test, *train]}
    if a.explain is not None and a.explain not in index:
        raise ValueError(
            f"`--explain` must be the id of a readable record, such as {next(iter(index))}; got {a.explain}."
        )
    explain_picture(data, backbone, head, s, index[a.explain or next(iter(index))], train, out)
    if a.store == "all":
        for record_id, i in track(index.items(), "storing H, P, W, L, pi, H' and g"):
            trace = trace_picture(backbone, backbone.transform(data.image(i)), s)
            save_tensors(out / "pictures" / f"{i:06d}.safetensors", trace.tensors(), id=record_id)
    print(f"\nwritten to {out}: metrics.json, head.safetensors, the explained pictures' objects, explanation.png")


if __name__ == "__main__":
    try:
        main()
    except (CarrotError, ValueError, OSError) as error:
        sys.exit(f"carrot: {error}")
