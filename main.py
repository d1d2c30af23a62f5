"""CARROT end to end: pictures -> tokens H -> region graph W, L -> diffusion -> embedding g -> closed-form head -> attribution.

    python main.py                                                  toy birds and their embedded backbone, offline
    python main.py --data DIR --backbone NAME --checkpoint FILE     CUB-200-2011, Oxford-IIIT Pet, or a folder of class folders

Writes to --out: tokens (N x D float32 a picture; a killed run goes on), head, metrics, every object of the theory for the explained
pictures, a figure.
The guide's CARROT is --lift identity --tau 0; its numbers are printed beside those of the setting chosen by leave-one-out.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from carrot import CarrotError, DataError, Logit
from carrot import TimmViTPatchBackbone as Backbone
from carrot.classifier.fitting import refuse_empty_classes
from carrot.data import ImageDataset, open_dataset, split_indices
from carrot.data.counts import FOR_TRAINING, Counts
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from carrot.embedding import Setting, TokenCache, Trace
from carrot.embedding.pooling import Pooling
from carrot.evaluation import Candidate, candidate, select, summary
from carrot.explanation.parts import region_to_region, strongest_pairs, take_apart
from carrot.report import Pair, Panel, accuracy_line, check_line, explanation_figure, explanation_lines
from carrot.store.tensors import save_tensors

DEFAULT_MODEL = "vit_small_patch14_reg4_dinov2.lvd142m"
Best = Candidate[Setting]


def explain_picture(
    data: ImageDataset, backbone: Backbone, cache: TokenCache, best: Best, test: int, train: list[int], out: Path
) -> None:
    """Take one prediction apart; print every sum beside the logit; store the objects; draw the figure."""
    s, head, records = best.setting, best.head, data.records

    def look(index: int) -> Trace:
        trace = Pooling(s).trace(cache.picture(index))
        save_tensors(out / "explained" / f"{index:06d}.safetensors", trace.tensors(), id=records[index].id)
        return trace

    def panel(index: int, title: str) -> Panel:
        image, label = data.image(index), data.classes[records[index].label]
        return Panel(image, backbone.pixel_boxes(image.size), backbone.grid_hw, f"{label}\n{title}")

    trace, ids = look(test), [records[i].id for i in train]
    e = take_apart(trace, logit := Logit.predicted(head, trace.g))
    heading = f"{records[test].id}, labelled {data.classes[records[test].label]}"
    print(f"\n{heading}:", *explanation_lines(e, data.classes, ids), sep="\n")
    top = e.top_training(4).tolist()
    pairs = region_to_region(trace, look(train[top[0]]), logit, top[0])
    print(check_line(f"sum over pairs of regions with {ids[top[0]]}", float(pairs.sum()), float(e.dual[top[0]])))
    key = int(e.removal.abs().argmax())
    refitted = float(head.without(key).predict(trace.g)[e.target])
    print(check_line(f"logit without {ids[key]}, against a refit", e.logit - float(e.removal[key]), refitted))
    N = trace.regions.local.num_regions
    maps = {"regions by token": e.token, "regions by node": e.node, "drop when removed": e.drop}
    explanation_figure(
        panel(test, f"logit of {data.classes[e.target]}: {e.logit:.3f}"),
        {name: values[:N] for name, values in maps.items()},
        [panel(train[i], f"dual {float(e.dual[i]):+.3f}") for i in top],
        [Pair(*pair) for pair in strongest_pairs(pairs[:N, :N], 3)],
        f"{heading}: what makes it {data.classes[e.target]}. Token level: exact for tokens -> logit",
    ).savefig(out / "explanation.png", dpi=110)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add(
        "--data", type=Path, help="CUB-200-2011, Oxford-IIIT Pet, or a folder of class folders (default: the toy birds)"
    )
    add("--backbone", help=f"timm model (default: {EMBEDDED_MODEL} for the toy birds, else {DEFAULT_MODEL})")
    add("--checkpoint", type=Path, help="local weights, .safetensors or .pth, instead of a download")
    add("--img-size", type=int, help="side of the model's input in pixels (default: the model's own)")
    crops = ["model", "squash", "border"]
    add("--crop", choices=crops, help="default: the model's own; squash for the toy birds")
    add(
        "--lift",
        nargs="+",
        default=["identity", "quadratic"],
        help="lifts to choose from; others: relu:M fourier:M sketch:M",
    )
    add(
        "--tau",
        type=float,
        nargs="+",
        help="powers of the class token's attention to choose from, beside 0 (default: 0.5 if the backbone gives it)",
    )
    add(
        "--global-share",
        type=float,
        default=0.0,
        help="weight of the class token as one more, global region (default: 0)",
    )
    add("--sigma-spatial", type=float, nargs="+", default=[0.2, 0.5], help="bandwidths to choose from")
    add("--sigma-feature", type=float, nargs="+", default=[0.7, 1.0], help="bandwidths to choose from")
    add("--times", type=float, nargs="+", default=[0.5, 2.0, 8.0], help="t to choose from, beside 0")
    add("--explain", metavar="ID", help="record to explain (default: the first test picture)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    which = ["explained", "all"]
    add("--store", choices=which, default="explained", help="pictures whose H, P, W, L, r, pi, H', g to keep")
    add("--out", type=Path, help="where to write (default: runs/NAME)")
    return p.parse_args(argv)


def choose(cache: TokenCache, train: list[int], labels: Tensor, settings: Sequence[Setting], name: str) -> Best:
    """Return the setting of the smallest exact leave-one-out error, with its head; lam is chosen likewise for each."""
    shown = track(settings, f"leave-one-out, {name}", disable=len(settings) < 2)
    return select(candidate(cache.embed(train, s), labels[train], s) for s in shown)


def main(argv: list[str] | None = None) -> None:
    """Embed, select, evaluate, explain."""
    a = arguments(argv)
    toy, embedded = a.data is None, a.data is None and a.backbone is None
    data: ImageDataset = ToyBirds() if toy else open_dataset(a.data)
    name, crop = a.backbone or (EMBEDDED_MODEL if toy else DEFAULT_MODEL), a.crop or ("squash" if toy else "model")
    weights, out = a.checkpoint or (embedded_checkpoint() if embedded else None), a.out or Path("runs") / data.name
    backbone = Backbone(name, img_size=a.img_size, device=a.device, checkpoint=weights, crop=crop, attention=None)
    default = [0.5] if backbone.attention else []
    taus = sorted({0.0, *(default if a.tau is None else a.tau)})
    graphs = list(itertools.product(a.sigma_spatial, a.sigma_feature, sorted(set(a.times) - {0.0})))

    def diffused(s: Setting) -> list[Setting]:
        return [s, *(replace(s, sigma_spatial=ss, sigma_feature=sf, t=t) for ss, sf, t in graphs)]

    mean = Setting()
    plain = [Setting(lift, tau, global_share=a.global_share) for lift in a.lift for tau in taus]
    [Pooling(s).require(backbone) for s in (*diffused(mean), *plain)]
    if a.explain is not None and a.explain not in {record.id for record in data.records}:
        raise ValueError(f"`--explain` must be the id of a record, such as {data.records[0].id}; got {a.explain}.")
    cache = TokenCache.of(data, backbone, out / "tokens")
    for error in cache.errors.values():
        print(f"set aside: {error}", file=sys.stderr)
    train, test = ([i for i in split_indices(data, split) if cache.readable[i]] for split in ("train", "test"))
    refuse_empty_classes(data, train)
    if not test:
        raise DataError(f"{data.name}: has no test picture that can be read.")
    index = {data.records[i].id: i for i in [*test, *train]}
    if a.explain is not None and a.explain not in index:
        raise DataError(f"{a.explain}: can't be explained, for it can't be read.")
    y = torch.tensor([record.label for record in data.records])
    counts = Counts(len(test), {FOR_TRAINING: len(train)}, len(cache.errors) + len(getattr(data, "skipped", {})))
    print(f"{data.name}: {len(data.classes)} classes; {counts.line('measured')}")

    start = choose(cache, train, y, plain, "lift and readout")
    rows = {
        "mean pooling (t = 0)": choose(cache, train, y, [mean], "mean"),
        "identity, diffused": choose(cache, train, y, diffused(mean), "graph, identity"),
        "CARROT": choose(cache, train, y, diffused(start.setting), "graph"),
    }
    caches = dict.fromkeys(rows, cache)
    if embedded:
        torch.manual_seed(0)
        caches["untrained backbone"] = TokenCache.of(
            data, Backbone(name, pretrained=False, crop=crop), out / "untrained"
        )
        rows["untrained backbone"] = choose(caches["untrained backbone"], train, y, [mean], "untrained")
    metrics: dict[str, object] = {"counts": counts.to_dict()}
    for row, c in rows.items():
        accuracy = summary(c.head.predict(caches[row].embed(test, c.setting)), y[test])
        metrics[row] = {
            **c.setting.to_dict(),
            "lam": c.head.lam,
            "loo_mse": c.loo_mse,
            "loo": c.loo_accuracy,
            **asdict(accuracy),
        }
        print(accuracy_line(row, accuracy, f"(leave-one-out {c.loo_accuracy:.3f}; {c.setting}, lam {c.head.lam:.2g})"))
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2))
    best = rows["CARROT"]
    save_tensors(
        out / "head.safetensors", {"W_star": best.head.W_star, "bias": best.head.bias, "alpha": best.head.alpha}
    )

    explain_picture(data, backbone, cache, best, index[a.explain or next(iter(index))], train, out)
    if a.store == "all":
        for record_id, i in track(index.items(), "storing H, P, W, L, r, pi, H' and g"):
            trace = Pooling(best.setting).trace(cache.picture(i))
            save_tensors(out / "pictures" / f"{i:06d}.safetensors", trace.tensors(), id=record_id)
    print(f"\nwritten to {out}: metrics.json, head.safetensors, the explained pictures' objects, explanation.png")


if __name__ == "__main__":
    try:
        main()
    except (CarrotError, ValueError, OSError) as error:
        sys.exit(f"carrot: {error}")
