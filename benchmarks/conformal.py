"""Do label sets hold what they promise, how large are they, and what do they cost? Beside split conformal sets.

Usage: python -m benchmarks.conformal NAME --data DATA --checkpoint FILE --tokens DIR [--splits 10]
                                      [--lift quadratic] [--backbone vit_tiny_patch16_224.augreg_in21k_ft_in1k]

All pictures of a data set are drawn anew into as many training and test pictures as the data set has itself, ``splits``
times. Ours: ``RidgeHead.label_p_values`` (full conformal, no calibration split; also class by class). Peer: split
conformal on the same embeddings, head and score (margin): a fifth of the training pictures calibrates, the head is
fitted on the others. lam by leave-one-out on what is fitted. Checked first: p-values are those of a real refit with the
picture. Test pictures decide nothing.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness import write
from carrot import RidgeHead
from carrot._ridge.conformal import TIE, margins
from carrot.data import open_dataset
from carrot.embedding.encoder import Encoder
from carrot.embedding.setting import Setting
from carrot.evaluation.estimate import Estimate

ALPHAS, CALIBRATION = (0.05, 0.1), 5  # one in so many calibrates the peer
CHECKED = 2  # labels of one picture


def checked(head: RidgeHead, labels: Tensor, g: Tensor, p: Tensor) -> float:
    """Return the largest difference of p-values from those of real refits with the picture."""
    worst = 0.0
    for y in p.argsort(descending=True)[:CHECKED].tolist():
        everyone = torch.cat([labels, torch.tensor([y])])
        again = RidgeHead(head.lam, True).fit(torch.cat([head.G, g.unsqueeze(0).to(head.G)]), everyone)
        margin = margins(again.loo_predict()).gather(1, everyone.unsqueeze(1))[:, 0]
        worst = max(worst, abs(float(p[y]) - float((margin <= margin[-1] + TIE).double().mean())))
    return worst


def split_p_values(G: Tensor, labels: Tensor, g: Tensor) -> Tensor:
    """Return the p-values of split conformal prediction: the first of ``CALIBRATION`` parts calibrates."""
    held = len(labels) // CALIBRATION
    Y = torch.nn.functional.one_hot(labels).double()  # those that are left may lack a class
    head = RidgeHead("loo", True).fit(G[held:], Y[held:])
    own = margins(head.predict(G[:held])).gather(1, labels[:held].unsqueeze(1))[:, 0].sort().values
    below = torch.searchsorted(own, margins(head.predict(g)) + TIE, right=True)
    return (1.0 + below) / (1.0 + held)


def main() -> None:
    """Embed once, draw, fit, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--checkpoint")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--lift", default="quadratic")
    parser.add_argument("--backbone", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    a = parser.parse_args()
    data = open_dataset(a.data, for_testing=True)
    cache = Encoder(a.backbone, a.checkpoint).cache(data, a.tokens)
    rows = list(cache.rows)
    G = cache.embed(rows, Setting(lift=a.lift, tau=0.5))
    labels = torch.tensor([data.records[i].label for i in rows])
    n = sum(data.records[i].split == "train" for i in rows) or len(rows) * 4 // 5
    found: dict[tuple[str, float], list[tuple[float, ...]]] = {}
    seconds, apart, accuracy = list[float](), 0.0, list[float]()
    for split in range(a.splits):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(split))
        train, test = order[:n], order[n:]
        head = RidgeHead("loo", True).fit(G[train], labels[train])
        _ = head.slack
        start = time.perf_counter()
        ours = head.label_p_values(G[test])
        seconds.append((time.perf_counter() - start) / len(test))
        apart = apart if split else checked(head, labels[train], G[test[0]], ours[0])
        if apart > 1e-12:
            raise SystemExit(f"a p-value differs from a real refit's by {apart:.1e}")
        accuracy.append(float((head.predict(G[test]).argmax(dim=1) == labels[test]).double().mean()))
        kinds = {
            "full": ours,
            "full, by class": head.label_p_values(G[test], per_class=True),
            "split": split_p_values(G[train], labels[train], G[test]),
        }
        for kind, p in kinds.items():
            right = p.gather(1, labels[test].unsqueeze(1))[:, 0]
            for alpha in ALPHAS:
                size = (p > alpha).sum(dim=1).double()
                held = (right > alpha).double()
                figures = (held.mean(), size.mean(), (size == 0).double().mean(), (size == 1).double().mean())
                found.setdefault((kind, alpha), []).append(tuple(map(float, figures)))
        print(f"split {split}: lam {head.lam:.3g}, {1e3 * seconds[-1]:.1f} ms a picture", flush=True)
    out: list[dict[str, object]] = []
    for (kind, alpha), values in found.items():
        coverage, size, empty, single = (Estimate.of(column) for column in zip(*values, strict=True))
        line = {"kind": kind, "alpha": alpha, "coverage": coverage.mean, "coverage_se": coverage.standard_error}
        out.append(line | {"size": size.mean, "empty": empty.mean, "single": single.mean})
        print(f"{kind:<16} alpha {alpha}: coverage {coverage}, labels {size}, empty {empty}")
    about = {
        "data": data.name,
        "n": n,
        "tests": len(rows) - n,
        "classes": len(data.classes),
        "splits": a.splits,
        "lift": a.lift,
    }
    measured = {"accuracy": sum(accuracy) / len(accuracy), "ms_a_picture": 1e3 * min(seconds), "apart": apart}
    print(write(f"conformal-{a.name}", out, **about, **measured, backbone=a.backbone))


if __name__ == "__main__":
    main()
