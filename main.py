"""CARROT as its guide tells it: pictures through the modules of the theory, one after the other; a closed-form head.

    python main.py                                                  toy birds and their embedded backbone, offline
    python main.py --data DIR --backbone NAME --checkpoint FILE     a folder of class folders, CUB-200-2011, ...
One setting, one --out. `carrot select` chooses settings, `carrot evaluate` measures at length, `carrot explain` draws.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

import carrot
from carrot import attribution
from carrot.data import open_dataset, require_place
from carrot.data.counts import readable_splits
from carrot.data.toy import EMBEDDED_MODEL, embedded_checkpoint
from carrot.embedding import Trace, embed_dataset
from carrot.embedding.spec import DEFAULT_MODEL
from carrot.evaluation import summary
from carrot.explanation import LogitParts
from carrot.readout import norm_source
from carrot.report import accuracy_line, check_line, explanation_lines
from carrot.store import save_tensors


def pipeline(x: torch.Tensor, vit, tiling, builder, diffusion, readout, lift) -> Trace:
    """Return every object of a picture, x to the backbone. Nothing is learnt here, no other picture is looked at."""
    if tiling is None:  # a region is a patch token, which has seen the whole picture
        regions = carrot.RegionSet.from_patches(vit(x[None].to(vit.device))).picture(0)
    else:  # a region is a tile, which the backbone sees alone
        regions = carrot.RegionSet.from_boxes(vit.pooled(x.to(vit.device)), tiling.shares)
    H, P = (values.to("cpu", torch.float64) for values in (regions.features, regions.positions))
    regions = carrot.RegionSet(H, P, regions.grid_hw, boxes=regions.boxes)  # in float64: sums are the logit to rounding
    graph = builder.build(regions)  # W, complete; L = I - D^-1/2 W D^-1/2
    H_prime = diffusion.forward(H, graph)  # exp(-tL) H
    readout = readout.at(len(P), norm_source(H))  # r_i = |h_i|^p / sum_j |h_j|^p; 1 / N for p = 0
    pi = diffusion.pull_back(readout.r, graph)  # exp(-tL) r: the collapsed path, g = H^T pi, by which logits are split
    g = readout.forward(H_prime) if lift.name == "identity" else lift.embed(H, pi)  # H'^T r, or sum_i pi_i phi(h_i)
    return Trace(regions, graph, diffusion, lift, readout.r, pi, H_prime, g)


def attribute(o: Trace, head: carrot.RidgeHead) -> LogitParts:
    """Take the logit of the predicted class c apart, from that of the mean training picture on: its embedding is gm."""
    c, gm, W_star = int(head.predict(o.g).argmax()), head.g_mean, head.W_star
    nodes = {"by": "node", "operator": o.operator, "graph": o.graph, "r": o.r}
    return LogitParts(
        target=c,
        logits=head.predict(o.g),
        prior=float(head.y_mean[c]),
        token=attribution.region_contribution(o.H, o.pi, W_star, lift=o.lift, origin=gm)[:, c],
        node=attribution.region_contribution(o.H, o.pi, W_star, **nodes, lift=o.lift, origin=gm)[:, c],
        drop=attribution.remove_each_region(o.H, o.graph, o.operator, o.readout, head, o.lift)[:, c],
        dual=attribution.training_contribution(o.g, head.G, head.alpha, gm)[:, c],
        label=attribution.label_contribution(head, o.g)[:, c],
        removal=attribution.removal_effect(head, o.g)[:, c],
    )


def main(argv: list[str] | None = None) -> None:
    """Run the pipeline, keep its intermediates, run the protocol."""
    a = arguments(argv)
    toy, head = require_place(a.data) == "toy", carrot.RidgeHead(a.lam, fit_intercept=True)
    name = a.backbone or (EMBEDDED_MODEL if toy else DEFAULT_MODEL)
    weights = embedded_checkpoint() if toy and not (a.backbone or a.checkpoint) else a.checkpoint
    tiling, lift = (None if a.regions == "patches" else carrot.Tiling.from_spec(a.regions)), carrot.lift_from(a.lift)
    crop = "squash" if tiling or (toy and not a.crop) else a.crop or "model"  # a tile is seen whole
    builder = carrot.RegionGraphBuilder(a.sigma_spatial, a.sigma_feature, "direction" if tiling else "median")
    diffusion, readout = carrot.DiffusionOperator(a.t), carrot.GraphReadout("source", a.power)
    vit = carrot.TimmViTPatchBackbone(name, img_size=a.img_size, device=a.device, checkpoint=weights, crop=crop)
    stages, M = (vit, tiling, builder, diffusion, readout, lift), lift.dim(vit.embed_dim)
    data = open_dataset(a.data)  # last: what is wrong without it is refused before
    ids, out = [record.id for record in data.records], a.out or Path("runs") / f"guide-{data.name}"
    y = torch.tensor([record.label for record in data.records])
    if a.explain not in (None, *ids):
        raise ValueError(f"`--explain` must be the id of a record, such as {ids[0]}; got {a.explain}.")

    def look(image) -> torch.Tensor:  # what the backbone sees of it
        return torch.stack([vit.transform(x) for x in tiling.cut(image)]) if tiling else vit.transform(image)

    def embed(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"g": torch.stack([pipeline(one, *stages).g for one in x])}

    # 1. the pipeline: every picture -> g, in shards, so that a killed run goes on; g of the training pictures -> head
    facts = {"backbone": vit.fingerprint(), "regions": a.regions, "power": a.power, "lift": a.lift}
    facts |= {"sigma_spatial": a.sigma_spatial, "sigma_feature": a.sigma_feature, "t": a.t}
    kept, errors = embed_dataset(data, look, embed, {"g": (M,)}, facts, out / "embeddings", dtypes={"g": torch.float64})
    G = kept.read()["g"]  # NaN where a picture can't be read
    for i in G[:, 0].isnan().nonzero().flatten().tolist():
        print("set aside:", errors.get(ids[i], f"{ids[i]}: could not be read when it was embedded"), file=sys.stderr)
    train, test, counts = readable_splits(data, G[:, 0].isfinite().tolist())
    head.fit(G[train], y[train])

    # 2. the intermediates: H, P, W, L, r, pi, H', g of pictures; W*, b, alpha of the head
    chosen = test[0] if a.explain is None else ids.index(a.explain)
    for i in [chosen] if a.store == "explained" else [*train, *test]:
        save_tensors(out / f"pictures/{i:06d}.safetensors", pipeline(look(data.image(i)), *stages).tensors(), id=ids[i])
    save_tensors(out / "head.safetensors", {"W_star": head.W_star, "bias": head.bias, "alpha": head.alpha})

    # 3. the protocol: test pictures, leave-one-out, one logit taken apart
    print(f"{data.name}: {len(data.classes)} classes; {counts.line('measured')}; lam {head.lam:.3g}")
    scores = {"test": summary(head.predict(G[test]), y[test]), "leave-one-out": summary(head.loo_predict(), y[train])}
    for name, s in scores.items():
        print(accuracy_line(name, s, f"± {(s.top1 * (1 - s.top1) / s.n) ** 0.5:.3f} (top-1)"))
    metrics = {"counts": counts.to_dict(), "setting": facts, "lam": head.lam, **{k: vars(s) for k, s in scores.items()}}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2))
    o, names = pipeline(look(data.image(chosen)), *stages), [ids[i] for i in train]
    parts = attribute(o, head)
    print(f"\n{ids[chosen]}, labelled {data.classes[y[chosen]]}:")
    print(*explanation_lines(parts, data.classes, names), sep="\n")
    i, j = int(parts.dual.argmax()), int(parts.removal.abs().argmax())  # brings most; moves most when removed
    z, alpha, gm = pipeline(look(data.image(train[i])), *stages), head.alpha[[i]], head.g_mean
    pairs = attribution.pair_contribution(o.H, o.pi, z.H[None], z.pi[None], alpha, parts.target, lift=lift, origin=gm)
    print(check_line(f"sum over pairs of regions with {names[i]}", float(pairs.sum()), float(parts.dual[i])))
    refit = float(head.without(j).predict(o.g)[parts.target])
    print(check_line(f"logit without {names[j]}, against a refit", parts.logit - float(parts.removal[j]), refit))
    print(f"\nwritten to {out}: embeddings, pictures, head.safetensors, metrics.json")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line: one value for each setting."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add("--data", default="toy", help="a folder, or kind:PATH as in `carrot info` (default: the toy birds)")
    add("--backbone", help=f"timm model (default: {EMBEDDED_MODEL} for the toy birds, else {DEFAULT_MODEL})")
    add("--checkpoint", type=Path, help="its weights, .safetensors or .pth, instead of a download")
    add("--img-size", type=int, help="side of its input in pixels (default: its own)")
    add("--crop", choices=["model", "squash", "border"], help="default: the model's own; squash for the toy birds")
    add("--regions", default="patches", help="patches (the guide's), or tiles that see only themselves, as tiles:3,4")
    add("--power", type=float, default=0.0, help="p of the readout |h|^p; 0 is the mean (default: 0; 8 suits tiles)")
    add("--lift", default="identity", help="identity (the guide's), quadratic, relu:M, fourier:M or sketch:M")
    add("--sigma-spatial", type=float, default=0.5, help="bandwidth in space (default: 0.5)")
    add("--sigma-feature", type=float, default=1.0, help="bandwidth among features (default: 1)")
    add("--t", type=float, default=2.0, help="diffusion time; 0 is mean pooling (default: 2)")
    add("--lam", type=lambda v: v if v == "loo" else float(v), default="loo", help="ridge penalty, or loo (default)")
    add("--explain", metavar="ID", help="record to take apart (default: the first test picture)")
    add("--store", choices=["explained", "all"], default="explained", help="pictures to keep every object of")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of the backbone")
    add("--out", type=Path, help="where to write (default: runs/guide-NAME)")
    return p.parse_args(argv)


if __name__ == "__main__":
    try:
        main()
    except (carrot.CarrotError, ValueError, OSError) as error:
        sys.exit(f"carrot: {error}")
