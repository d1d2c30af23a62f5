"""How much does a choice lean on single pictures? Setting and lam chosen again without each training picture, exactly.

Usage: python -m benchmarks.again NAME --data DATA --checkpoint FILE --tokens DIR [--tau 0.25 0.5 ...] [--lift ...]
                                  [--regions patches ...] [--t 0 ...] [--backbone NAME]

``Carrot.select(again=True)`` on the training pictures of a data set, over a grid; the figures of its report, and
those of the default setting (with the first lift), lam alone chosen again. Checked first: for a few pictures lam and
logits are those of ``RidgeHead("loo")`` really fitted without them. Seconds are those of one thread, the tokens at
hand.
"""

import argparse
import time
from pathlib import Path

import torch

from benchmarks.harness import write
from carrot import Carrot
from carrot.head import RidgeHead

CHECKED = 2


def checked(head: RidgeHead) -> tuple[float, dict[str, object]]:
    """Return the largest difference of a logit from a real fit's, and what is chosen again of lam alone."""
    start = time.perf_counter()
    again = head.loo_again()
    seconds, worst, n = time.perf_counter() - start, 0.0, len(head.G)
    other = again.changed.nonzero().flatten().tolist()
    for i in [*other[:CHECKED], *range(0, n, n // CHECKED)][:CHECKED]:
        left = head.without(i, again=True)
        if left.lam != float(again.lams[i]):
            raise SystemExit(f"picture {i}: lam {float(again.lams[i])}, and {left.lam} of a real fit")
        worst = max(worst, float((left.predict(head.G[i]) - again.logits[i]).abs().max()))
    if worst > 1e-8:
        raise SystemExit(f"a logit differs from a real fit's by {worst:.1e}")
    held, labels = head.loo_predict(), head.Y.argmax(dim=1)
    right = [float((x.argmax(dim=1) == labels).double().mean()) for x in (again.logits, held)]
    moved = int((again.logits.argmax(dim=1) != held.argmax(dim=1)).sum())
    numbers = {"other_setting": 0, "other_lam": len(other), "other_prediction": moved}
    return worst, {**numbers, "loo_accuracy": right[0], "loo_accuracy_held": right[1], "seconds": seconds}


def main() -> None:
    """Select, choose again, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--checkpoint")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--backbone", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    for axis, kind in (("tau", float), ("lift", str), ("regions", str), ("t", float), ("power", float)):
        parser.add_argument(f"--{axis}", nargs="+", type=kind)
    a = parser.parse_args()
    lift = "quadratic" if a.lift is None else a.lift[0]
    model = Carrot(a.backbone, checkpoint=a.checkpoint, lift=lift).fit(a.data, tokens=a.tokens)
    default, (apart, lam_alone) = str(model.setting_), checked(model.head_)
    print("lam alone:", lam_alone, f"apart {apart:.1e}", flush=True)
    names = ("tau", "lift", "regions", "t", "power")
    grid = {name: values for name in names if (values := getattr(a, name)) is not None}
    start = time.perf_counter()
    model.select(a.data, grid=grid, tokens=a.tokens, again=True)
    again, seconds = model.selected_again_, time.perf_counter() - start
    if again is None:
        raise RuntimeError("`select(again=True)` leaves what was chosen again")
    about = {"pictures": len(again.labels), "classes": len(model.classes_), "data": a.name, "apart": apart}
    rows: list[dict[str, object]] = [
        {"what": "lam", "tried": 1, **lam_alone},
        {"what": "setting and lam", "tried": len(model.selection_), **again.to_dict(), "seconds": seconds},
    ]
    rows[0]["chosen"], rows[1]["chosen"] = default, str(model.setting_)
    print(write(f"again-{a.name}", rows, **about, backbone=a.backbone, threads_used=torch.get_num_threads()))


if __name__ == "__main__":
    main()
