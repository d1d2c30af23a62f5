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
from carrot.data import open_dataset, split_indices
from carrot.data.counts import FOR_TRAINING, Counts
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from carrot.embedding import Trace, embed_dataset
from carrot.embedding.encoder import Encoder
from carrot.embedding.spec import DEFAULT_MODEL
from carrot.evaluation import summary
from carrot.explanation import LogitParts
from carrot.report import accuracy_line, check_line, explanation_lines
from carrot.store import save_tensors


def pipeline(x: torch.Tensor, backbone, builder, diffusion, readout, lift) -> Trace:
    """Return every object of a picture, x to the backbone. Nothing is learnt here, no other picture is looked at."""
    regions = carrot.RegionSet.from_patches(backbone(x[None].to(backbone.device)))
    H, P = (values.to("cpu", torch.float64) for values in (regions.features[0], regions.positions))
    regions = carrot.RegionSet(H, P, regions.grid_hw)  # in float64, so that sums are the logit to rounding
    graph = builder.build(regions)  # W, complete; L = I - D^-1/2 W D^-1/2
    H_prime = diffusion.forward(H, graph)  # exp(-tL) H
    g = readout.forward(H_prime)  # H'^T r
    r = readout.weights(len(P))  # 1 / N
    pi = diffusion.pull_back(r, graph)  # exp(-tL) r: the collapsed path, g = H^T pi, by which logits are split
    if lift.name != "identity":
        g = lift.embed(H, pi)  # sum_i pi_i phi(h_i)
    return Trace(regions, graph, diffusion, lift, r, pi, H_prime, g)


def attribute(o: Trace, head: carrot.RidgeHead) -> LogitParts:
    """Take the logit of the predicted class c apart, from that of the mean training picture on: its embedding is gm."""
    c, gm = int(head.predict(o.g).argmax()), head.g_mean
    return LogitParts(
        target=c,
        logits=head.predict(o.g),
        prior=float(head.y_mean[c]),
        token=attribution.region_contribution(o.H, o.pi, head.W_star, lift=o.lift, origin=gm)[:, c],
        node=attribution.region_contribution(
            o.H, o.pi, head.W_star, "node", operator=o.operator, graph=o.graph, r=o.r, lift=o.lift, origin=gm
        )[:, c],
        drop=attribution.remove_each_region(o.H, o.graph, o.operator, carrot.GraphReadout(), head, o.lift)[:, c],
        dual=attribution.training_contribution(o.g, head.G, head.alpha, gm)[:, c],
        label=attribution.label_contribution(head, o.g)[:, c],
        removal=attribution.removal_effect(head, o.g)[:, c],
    )


def main(argv: list[str] | None = None) -> None:
    """Run the pipeline, keep its intermediates, run the protocol."""
    a = arguments(argv)
    data = open_dataset(a.data)
    ids, y = [record.id for record in data.records], torch.tensor([record.label for record in data.records])
    if a.explain not in (None, *ids):
        raise ValueError(f"`--explain` must be the id of a record, such as {ids[0]}; got {a.explain}.")
    Encoder.require_device(a.device)
    toy, out = isinstance(data, ToyBirds), a.out or Path("runs") / f"guide-{data.name}"
    name, crop = a.backbone or (EMBEDDED_MODEL if toy else DEFAULT_MODEL), a.crop or ("squash" if toy else "model")
    weights = embedded_checkpoint() if toy and not (a.backbone or a.checkpoint) else a.checkpoint
    builder, diffusion = carrot.RegionGraphBuilder(a.sigma_spatial, a.sigma_feature), carrot.DiffusionOperator(a.t)
    readout, lift, head = carrot.GraphReadout(), carrot.lift_from(a.lift), carrot.RidgeHead(a.lam, fit_intercept=True)
    vit = carrot.TimmViTPatchBackbone(name, img_size=a.img_size, device=a.device, checkpoint=weights, crop=crop)

    # 1. the pipeline: every picture -> g, in shards, so that a killed run goes on; g of the training pictures -> head
    def embed(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"g": torch.stack([pipeline(one, vit, builder, diffusion, readout, lift).g for one in x])}

    facts = {"backbone": vit.fingerprint(), **{k: vars(a)[k] for k in ("lift", "sigma_spatial", "sigma_feature", "t")}}
    row, dtypes = {"g": (lift.dim(vit.embed_dim),)}, {"g": torch.float64}
    store, errors = embed_dataset(data, vit.transform, embed, row, facts, out / "embeddings", dtypes=dtypes)
    G = store.read()["g"]  # NaN where a picture can't be read
    for i in G[:, 0].isnan().nonzero().flatten().tolist():
        print("set aside:", errors.get(ids[i], f"{ids[i]}: could not be read when it was embedded"), file=sys.stderr)
    train, test = ([i for i in split_indices(data, split) if G[i, 0].isfinite()] for split in ("train", "test"))
    lacking = [f"training picture of {name!r}" for c, name in enumerate(data.classes) if c not in y[train]]
    if lacking or not test:
        raise carrot.DataError(f"{data.name}: has no {[*lacking, 'test picture'][0]} that can be read.")
    head.fit(G[train], y[train])

    # 2. the intermediates: H, P, W, L, r, pi, H', g of pictures; W*, b, alpha of the head
    def picture(i: int) -> Trace:
        return pipeline(vit.transform(data.image(i)), vit, builder, diffusion, readout, lift)

    chosen = test[0] if a.explain is None else ids.index(a.explain)
    for i in [chosen] if a.store == "explained" else [*train, *test]:
        save_tensors(out / "pictures" / f"{i:06d}.safetensors", picture(i).tensors(), id=ids[i])
    save_tensors(out / "head.safetensors", {"W_star": head.W_star, "bias": head.bias, "alpha": head.alpha})

    # 3. the protocol: test pictures, leave-one-out, one logit taken apart
    aside = len(ids) - len(train + test) + len(getattr(data, "skipped", ()))
    counts = Counts(len(test), {FOR_TRAINING: len(train)}, aside)
    print(f"{data.name}: {len(data.classes)} classes; {counts.line('measured')}; lam {head.lam:.3g}")
    scores = {"test": summary(head.predict(G[test]), y[test]), "leave-one-out": summary(head.loo_predict(), y[train])}
    for name, s in scores.items():
        print(accuracy_line(name, s, f"± {(s.top1 * (1 - s.top1) / s.n) ** 0.5:.3f} (top-1)"))
    metrics = {"counts": counts.to_dict(), "setting": facts, "lam": head.lam, **{k: vars(s) for k, s in scores.items()}}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2))
    o, names = picture(chosen), [ids[i] for i in train]
    parts = attribute(o, head)
    print(f"\n{ids[chosen]}, labelled {data.classes[y[chosen]]}:")
    print(*explanation_lines(parts, data.classes, names), sep="\n")
    i, j = int(parts.dual.argmax()), int(parts.removal.abs().argmax())  # brings most; moves most when removed
    z, alpha, gm = picture(train[i]), head.alpha[[i]], head.g_mean
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
