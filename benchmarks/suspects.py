"""Which score finds planted wrong labels best? Exact leave-one-out beside what else is used, on the same embeddings.

Usage: python -m benchmarks.suspects toy [--draws 5] [--out runs/suspects]
       python -m benchmarks.suspects NAME --data DIR --backbone MODEL --checkpoint FILE [--tokens DIR] [--draws 3]
       python -m benchmarks.suspects NAME ... --groups      (near copies with the same wrong label)

5, 10 and 20 % of the labels are made wrong: another class, uniformly, or the one whose mean embedding is most like the
right one's (by cosine, around the mean of all). For each score the area under the ROC curve, average precision, and the
precision among the first k, k wrong labels.

Peers: logistic regression in 5 stratified folds, scored by cleanlab's two formulas (by cleanlab itself where it is
installed; C of 1, 10, 100 by log loss in the first draw of each kind, features scaled to a mean square norm of 1);
the share of the 20 nearest neighbours (cosine) that are labelled otherwise, each counted by its cosine; and
self-influence on the ridge head: of gradients (TracIn at the optimum), and with the inverse Hessian (what kronfluence
approximates). Embeddings are the classifier's own, tiles:3, rotated into their span: inner products stay, to rounding.
Labels that are wrong in the data set itself count as right. Peers' probabilities lie in --out, so a killed run goes on.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch import Tensor

from benchmarks.harness import write
from carrot import Carrot, RidgeHead, TimmViTPatchBackbone
from carrot.classifier.fitted import Fitted
from carrot.classifier.records import TrainingRecord
from carrot.classifier.twins import hidden_groups
from carrot.data.toy import ToyBirds
from carrot.embedding.setting import Setting
from carrot.evaluation.calibration import fit_temperature
from carrot.evaluation.duplicates import near_duplicates
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.ranking import auroc, precision_at
from carrot.evaluation.suspects import label_suspects
from carrot.evaluation.suspicion import ClassClouds, belief

RATES, KINDS = (0.05, 0.1, 0.2), ("uniform", "similar")
FOLDS, NEIGHBOURS, PENALTIES = 5, 20, (1.0, 10.0, 100.0)
NEARLY = 0.15  # of its norm: how far a planted copy is moved


def embeddings(
    name: str, data: str | None, backbone: str, checkpoint: str | None, tokens: str
) -> tuple[Tensor, Tensor]:
    """Return (n, n) rows with the inner products of the centred embeddings, and the labels."""
    if name == "toy":
        model = Carrot("toy", regions="tiles:3").fit(ToyBirds(20, 0, 20), tokens=tokens)
    else:
        net = TimmViTPatchBackbone(backbone, checkpoint=checkpoint, attention=None)
        model = Carrot(net, regions="tiles:3").fit(data, tokens=tokens)
    G = model.head_.G.to(torch.float64)
    values, vectors = torch.linalg.eigh((G - G.mean(dim=0)) @ (G - G.mean(dim=0)).mT)
    X = vectors * values.clamp(min=0).sqrt()
    return X / X.square().sum(dim=1).mean().sqrt(), model.fitted.labels


def most_similar(X: Tensor, y: Tensor) -> Tensor:
    """Return for each class the other one whose mean embedding is most like its own."""
    one_hot = torch.nn.functional.one_hot(y).to(X)
    means = torch.nn.functional.normalize((one_hot / one_hot.sum(dim=0)).mT @ X, dim=1)
    return (means @ means.mT).fill_diagonal_(-torch.inf).argmax(dim=1)


def planted(X: Tensor, y: Tensor, rate: float, kind: str, seed: int) -> Tensor:
    """Return labels of which a share is wrong."""
    rng, C, k = torch.Generator().manual_seed(seed), int(y.max()) + 1, round(rate * len(y))
    rows, labels = torch.randperm(len(y), generator=rng)[:k], y.clone()
    if kind == "uniform":
        labels[rows] = (y[rows] + torch.randint(1, C, (k,), generator=rng)) % C
    else:
        labels[rows] = most_similar(X, y)[y[rows]]
    return labels


def cross_validated(X: Tensor, labels: Tensor, C: float) -> np.ndarray:
    """Return (n, C) probabilities of logistic regression, each picture's from the folds without it."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    peer = LogisticRegression(C=C, max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged in 100 steps, or a class of fewer pictures than folds
        return cross_val_predict(peer, X.float().numpy(), labels.numpy(), cv=folds, method="predict_proba")


def quality(labels: np.ndarray, p: np.ndarray, method: str) -> np.ndarray:
    """Return cleanlab's label quality: of the package, or by its formula."""
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        own, others = p[np.arange(len(p)), labels], p.copy()
        others[np.arange(len(p)), labels] = -1.0
        return own if method == "self_confidence" else (own - others.max(axis=1) + 1) / 2
    return get_label_quality_scores(labels, p, method=method)


def neighbours(X: Tensor, labels: Tensor) -> Tensor:
    """Return how much of the nearest neighbours' cosines is of other labels."""
    U = torch.nn.functional.normalize(X, dim=1)
    near = (U @ U.mT).fill_diagonal_(-torch.inf).topk(NEIGHBOURS, dim=1)
    return 1.0 - ((labels[near.indices] == labels[:, None]) * near.values).sum(dim=1) / near.values.sum(dim=1)


def scores(X: Tensor, labels: Tensor, p: np.ndarray) -> dict[str, Tensor]:
    """Return each score, high for wrong labels."""
    head = RidgeHead("loo", True).fit(X, labels)
    loo = head.loo_predict()
    T = fit_temperature(loo, labels)
    found, w = label_suspects(loo, labels, T), belief(loo, labels, T)
    again = head.reweighted(w).loo_predict()
    R2, y = head.residual.square().sum(dim=1), labels.numpy()
    return {
        "carrot audit: suspicion": ClassClouds.of(again, labels, w).suspicion(again, labels, w),
        "leave-one-out: probability of the label": -found.self_confidence,
        "leave-one-out: margin": -found.margin,
        "leave-one-out: normalised margin": -found.normalised_margin,
        "cleanlab, 5-fold logistic regression: self-confidence": -torch.tensor(quality(y, p, "self_confidence")),
        "cleanlab, 5-fold logistic regression: normalised margin": -torch.tensor(quality(y, p, "normalized_margin")),
        "20 nearest neighbours of another label": neighbours(X, labels),
        "self-influence: gradients (TracIn)": R2 * (X.square().sum(dim=1) + 1.0),
        "self-influence: inverse Hessian (as EK-FAC)": R2 * head.leverage,
    }


def groups(X: Tensor, y: Tensor, seed: int) -> dict[str, int]:
    """Plant 24 groups of 2 to 4 near copies that share a wrong label; return how many hide, and how many are found.

    Copies are moved by ``NEARLY`` of their norm, at random. "strangers" are groups that are told and share no picture
    with a planted one.
    """
    rng, C, n = torch.Generator().manual_seed(seed), int(y.max()) + 1, len(y)
    rows, labels, planted_groups = [X], y.tolist(), list[set[str]]()
    for k, i in enumerate(torch.randperm(n, generator=rng)[:24].tolist()):
        moved = torch.nn.functional.normalize(torch.randn(1 + k % 3, X.shape[1], generator=rng).to(X), dim=1)
        labels[i] = (labels[i] + 1 + int(torch.randint(C - 1, (1,), generator=rng))) % C
        planted_groups.append({str(i), *(str(len(labels) + j) for j in range(len(moved)))})
        labels += [labels[i]] * len(moved)
        rows.append(X[i] + NEARLY * X[i].norm() * moved)
    G, told = torch.cat(rows), torch.tensor(labels)
    head = RidgeHead("loo", True).fit(G, told)
    loo = head.loo_predict()
    T = fit_temperature(loo, told)
    judged = label_suspects(loo, told, T)
    records = tuple(TrainingRecord(str(i), label, str(i)) for i, label in enumerate(labels))
    fitted = Fitted(head, Setting("identity"), tuple(map(str, range(C))), records, T)
    found = [set(group.ids) for group in hidden_groups(fitted, judged, near_duplicates(G, 0.95))]
    hiding = [g for g in planted_groups if any(float(judged.margin[int(i)]) >= 0 for i in g)]
    return {
        "planted": len(planted_groups),
        "hiding": len(hiding),
        "found": sum(group in found for group in hiding),
        "told": len(found),
        "strangers": sum(not any(group & one for one in planted_groups) for group in found),
    }


def main() -> None:
    """Embed once; plant, fit, measure; write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data")
    parser.add_argument("--backbone", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    parser.add_argument("--checkpoint")
    parser.add_argument("--tokens")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--groups", action="store_true", help="plant copies that hide each other, and nothing else")
    parser.add_argument("--out", type=Path, default=Path("runs/suspects"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows_file = args.out / f"{args.name}-rows.safetensors"
    if not rows_file.exists():
        tokens = args.tokens or str(args.out / f"tokens-{args.name}")
        made = embeddings(args.name, args.data, args.backbone, args.checkpoint, tokens)
        save_file(dict(zip(("X", "y"), (rows.contiguous() for rows in made), strict=True)), rows_file)
    kept_rows = load_file(rows_file)
    X, y = kept_rows["X"], kept_rows["y"]
    if args.groups:
        hidden: list[dict[str, object]] = [{"draw": seed, **groups(X, y, seed)} for seed in range(args.draws)]
        print(*hidden, sep="\n")
        print("written:", write(f"suspects-groups-{args.name}", hidden, nearly=NEARLY, pictures=len(y)).name)
        return
    rows: list[dict[str, object]] = []
    for kind in KINDS:
        chosen: float | None = None
        for rate in RATES:
            found: dict[str, list[tuple[float, float, float]]] = {}
            for seed in range(args.draws):
                labels = planted(X, y, rate, kind, seed)
                kept = args.out / f"{args.name}-{kind}-{rate:g}-{seed}.npz"
                if not kept.exists():
                    tried = {C: cross_validated(X, labels, C) for C in ([chosen] if chosen else PENALTIES)}
                    best = min(tried, key=lambda C: log_loss(labels.numpy(), tried[C]))
                    np.savez(kept, p=tried[best], C=best)
                peer = np.load(kept)
                chosen = float(peer["C"])
                wrong = labels != y
                for name, score in scores(X, labels, peer["p"]).items():
                    precision = average_precision_score(wrong.numpy(), score.numpy())
                    first = precision_at(score, wrong, int(wrong.sum()))
                    found.setdefault(name, []).append((auroc(score, wrong), float(precision), first))
            for name, values in found.items():
                area, precision, first = (Estimate.of(column) for column in zip(*values, strict=True))
                rows.append(
                    {
                        "kind": kind,
                        "rate": rate,
                        "score": name,
                        "auroc": area.mean,
                        "auroc_se": area.standard_error,
                        "ap": precision.mean,
                        "ap_se": precision.standard_error,
                        "precision": first.mean,
                    }
                )
                print(f"{args.name} {kind} {rate:<5g} {name:<56} AUROC {area}  AP {precision}", flush=True)
    facts = {"draws": args.draws, "pictures": len(y), "classes": int(y.max()) + 1}
    print("written:", write(f"suspects-{args.name}", rows, **facts).name)


if __name__ == "__main__":
    main()
