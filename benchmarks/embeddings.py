"""What is each embedding worth on a data set, regions or not? Every one from the same tokens, with the same head.

Usage: python -m benchmarks.embeddings NAME --data DIR --backbone MODEL [--checkpoint FILE] [--crop model]
                                       [--test-every 2] [--out runs/NAME] [--only WORD ...]
--test-every is for a plain folder of class folders: every second picture of a class is for testing. --only runs the
rows whose name holds a WORD. Tokens and finished rows lie in --out, so a killed run goes on;
benchmarks/results/embeddings-NAME.json is written when no row is missing.

Ridge is ``RidgeHead`` with intercept, lam by exact leave-one-out, everywhere. Rows "diffused" are chosen from a grid by
leave-one-out squared error; what was chosen is fitted once more and timed. Test pictures are looked at last: nothing is
chosen by them.
"""

import argparse
import hashlib
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness import write
from carrot import CarrotError, TimmViTPatchBackbone
from carrot.data import ImageFolder, open_dataset, split_indices
from carrot.embedding.cache import TokenCache
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import AXES, Setting
from carrot.embedding.tokens import Tokens
from carrot.evaluation import candidate, summary
from carrot.lift import lift_from
from carrot.readout import GraphReadout, cosine_source

SEED = 0  # of the random lifts, and of their default
K, TEMPERATURE = 20, 0.07
PENALTIES, FOLDS = (0.01, 0.1, 1.0), 3
INSTEAD, GUIDE, REGIONS, GLOBAL = "instead", "guide", "regions", "global region"

Phi = Callable[[Tokens], Tensor]
Numbers = dict[str, object]

CLASS_TOKEN = Setting(global_share=1.0)  # all the weight on the class token
MEAN = Setting()


@dataclass(frozen=True)
class Pictures:
    """One data set: its tokens, its split, its labels."""

    cache: TokenCache
    train: list[int]
    test: list[int]
    y: Tensor  # (all,)

    def embed(self, indices: list[int], phi: Phi) -> Tensor:
        """Return (n, M), float64."""
        G = torch.empty(0)
        for places, tokens in self.cache.batches(indices):
            g = phi(tokens)
            if not len(G):
                G = torch.empty(len(indices), g.shape[1], dtype=torch.float64)
            G[places] = g
        return G

    def test_accuracy(self, phi: Phi, predict: Callable[[Tensor], Tensor]) -> float:
        """Return top-1 on the test pictures; their embeddings are never there all at once."""
        logits = torch.empty(len(self.test), int(self.y.max()) + 1, dtype=torch.float64)
        for places, tokens in self.cache.batches(self.test):
            logits[places] = predict(phi(tokens))
        return summary(logits, self.y[self.test]).top1


@dataclass(frozen=True)
class Row:
    """One line of the table: ``measure`` returns its numbers."""

    name: str
    kind: str
    measure: Callable[[Pictures], Numbers]


def at(s: Setting) -> Phi:
    """Return the embedding of a setting."""
    return Pooling(s).g


def by_cosine(tau: float) -> Phi:
    """Return the quadratic lift, regions weighted by softmax(tau cosine to the class token)."""

    def phi(tokens: Tokens) -> Tensor:
        H, z = tokens.H.double(), tokens.class_token
        if z is None:
            raise ValueError("the cosine needs a class token")
        r = GraphReadout("source", tau).at(H.shape[-2], cosine_source(H, z.double())).r
        return lift_from("quadratic").embed(H, r)

    return phi


def side_by_side(p: Pictures) -> Phi:
    """Return class token and mean, each scaled to a mean norm of 1 over the training pictures."""
    scales = [float(p.embed(p.train, at(s)).norm(dim=1).mean()) for s in (CLASS_TOKEN, MEAN)]
    return lambda tokens: torch.cat([at(CLASS_TOKEN)(tokens) / scales[0], at(MEAN)(tokens) / scales[1]], dim=1)


def ridge(p: Pictures, phi: Phi, with_test: bool = True) -> Numbers:
    """Fit and measure the ridge head on one embedding; one G is in memory."""
    start = time.perf_counter()
    G = p.embed(p.train, phi)
    embedded, M = time.perf_counter(), G.shape[1]
    c = candidate(G, p.y[p.train], None)
    fitted = time.perf_counter()
    del G
    numbers: Numbers = {"M": M, "loo_mse": c.loo_mse, "loo": c.loo_accuracy, "lam": c.head.lam}
    numbers |= {"embed_s": embedded - start, "fit_s": fitted - embedded}
    return numbers | ({"test": p.test_accuracy(phi, c.head.predict)} if with_test else {})


def ridge_at(settings: Sequence[Setting]) -> Callable[[Pictures], Numbers]:
    """Return the measure of the setting with the smallest leave-one-out error; of equal ones the first."""

    def measure(p: Pictures) -> Numbers:
        best = settings[0]
        if len(settings) > 1:
            errors = [ridge(p, at(s), with_test=False)["loo_mse"] for s in settings]
            best = settings[min(range(len(errors)), key=errors.__getitem__)]
        return {**ridge(p, at(best)), "setting": best.to_dict(), "chosen_from": len(settings)}

    return measure


def logistic(s: Setting) -> Callable[[Pictures], Numbers]:
    """Return the measure of scikit-learn's logistic regression on standardised embeddings, C by cross-validation."""

    def measure(p: Pictures) -> Numbers:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        start = time.perf_counter()
        G = p.embed(p.train, at(s))
        embedded = time.perf_counter()
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        search = GridSearchCV(model, {"logisticregression__C": list(PENALTIES)}, cv=FOLDS)
        search.fit(G.numpy(), p.y[p.train].numpy())
        fitted = time.perf_counter()
        test = p.test_accuracy(at(s), lambda g: torch.from_numpy(search.predict_proba(g.numpy())))
        C = search.best_params_["logisticregression__C"]
        return {"M": G.shape[1], "test": test, "C": C, "embed_s": embedded - start, "fit_s": fitted - embedded}

    return measure


def votes(cosines: Tensor, labels: Tensor) -> Tensor:
    """Return (m, C): the K nearest of n training pictures vote, each with softmax(cosine / TEMPERATURE).

    Their labels are (n,).
    """
    near = cosines.topk(min(K, int(torch.isfinite(cosines[0]).sum())), dim=1)
    weights = torch.softmax(near.values / TEMPERATURE, dim=1)
    return cosines.new_zeros(len(cosines), int(labels.max()) + 1).scatter_add_(1, labels[near.indices], weights)


def knn(s: Setting) -> Callable[[Pictures], Numbers]:
    """Return the measure of nearest neighbours by cosine; leaving a training picture out is not looking at itself."""

    def measure(p: Pictures) -> Numbers:
        start = time.perf_counter()
        G, labels = torch.nn.functional.normalize(p.embed(p.train, at(s)), dim=1), p.y[p.train]
        embedded = time.perf_counter()
        loo = summary(votes((G @ G.mT).fill_diagonal_(-math.inf), labels), labels).top1
        fitted = time.perf_counter()
        test = p.test_accuracy(at(s), lambda g: votes(torch.nn.functional.normalize(g, dim=1) @ G.mT, labels))
        return {"M": G.shape[1], "loo": loo, "test": test, "embed_s": embedded - start, "fit_s": fitted - embedded}

    return measure


def default_grid() -> list[tuple[float, float, float]]:
    """Return the (sigma_spatial, sigma_feature, t > 0) that ``carrot select`` chooses from by default."""
    axes = (AXES[name].grid for name in ("sigma_spatial", "sigma_feature", "t"))
    return [g for g in itertools.product(*axes) if g[2] > 0.0]


def plan() -> list[Row]:
    """Return all rows."""

    def diffused(s: Setting) -> list[Setting]:
        return [replace(s, sigma_spatial=ss, sigma_feature=sf, t=t) for ss, sf, t in default_grid()]

    def row(name: str, kind: str, *settings: Setting) -> Row:
        return Row(name, kind, ridge_at(settings))

    quadratic, half = Setting("quadratic"), Setting("quadratic", 0.5)
    return [
        row("class token, ridge", INSTEAD, CLASS_TOKEN),
        Row("class token, logistic regression", INSTEAD, logistic(CLASS_TOKEN)),
        Row("class token, kNN", INSTEAD, knn(CLASS_TOKEN)),
        row("class token, quadratic lift, ridge", INSTEAD, replace(quadratic, global_share=1.0)),
        Row("mean, logistic regression", INSTEAD, logistic(MEAN)),
        Row("mean, kNN", INSTEAD, knn(MEAN)),
        Row("class token and mean side by side, ridge", INSTEAD, lambda p: ridge(p, side_by_side(p))),
        row("mean", GUIDE, MEAN),
        row("identity, diffused", GUIDE, MEAN, *diffused(MEAN)),
        *(row(lift, REGIONS, Setting(lift)) for lift in ("quadratic", "relu:4096", "fourier:8192", "sketch:8192")),
        *(row(f"quadratic, tau {tau:g}", REGIONS, Setting("quadratic", tau)) for tau in (0.25, 0.5, 0.75, 1.0)),
        row("quadratic, tau 0.5, diffused", REGIONS, *diffused(half)),
        *(
            Row(
                f"quadratic, cosine to the class token, tau {tau:g}",
                REGIONS,
                lambda p, tau=tau: ridge(p, by_cosine(tau)),
            )
            for tau in (5.0, 12.0)
        ),
        row("identity, tau 0.5", REGIONS, Setting("identity", 0.5)),
        *(
            row(f"quadratic, tau 0.5, class token {rho:g}", GLOBAL, replace(half, global_share=rho))
            for rho in (0.1, 0.3, 0.5, 0.7)
        ),
        row("identity, tau 0.5, class token 0.5", GLOBAL, Setting("identity", 0.5, global_share=0.5)),
    ]  # fmt: skip


def mark_chosen(rows: list[Numbers]) -> None:
    """Mark the row of least leave-one-out error that ``Carrot`` can make of regions alone, and with a global region."""
    for kinds in ({GUIDE, REGIONS}, {GLOBAL}):
        offered = [row for row in rows if row["kind"] in kinds and "setting" in row]
        best = min(offered, key=lambda row: row["loo_mse"])
        for row in offered:
            row["chosen"] = row is best


def measure_all(p: Pictures, rows: Sequence[Row], kept: Path, key: str, only: Sequence[str] = ()) -> list[Numbers]:
    """Return the numbers of all rows, or of those at hand with ``only``; every finished row is in the file ``kept``.

    Args:
        p: The data set.
        rows: What to measure.
        kept: JSON of the rows of this run and of earlier ones with the same ``key``.
        key: What the numbers depend on.
        only: Words, one of which must be in a row's name for it to be run; none: all.
    """
    done: dict[str, Numbers] = {}
    if kept.exists():
        found = json.loads(kept.read_text())
        done = found["rows"] if found["key"] == key else {}
    for row in rows:
        if row.name not in done and (not only or any(word in row.name for word in only)):
            numbers: Numbers = {"name": row.name, "kind": row.kind, **row.measure(p)}
            for name, n in (("loo", len(p.train)), ("test", len(p.test))):
                if name in numbers:
                    share = float(numbers[name])  # type: ignore[arg-type]
                    numbers[f"{name}_se"] = math.sqrt(share * (1.0 - share) / n)
            done[row.name] = numbers
            part = kept.with_suffix(".part")
            part.write_text(json.dumps({"key": key, "rows": done}, indent=1))
            part.replace(kept)
            print(line(numbers), flush=True)
    return [done[row.name] for row in rows if row.name in done]


def line(numbers: Numbers) -> str:
    """Return a row as text."""
    mse = f"{1e4 * numbers['loo_mse']:7.2f}" if "loo_mse" in numbers else " " * 7  # type: ignore[operator]
    loo = f"{numbers['loo']:.4f}" if "loo" in numbers else " " * 6
    seconds = f"{numbers['embed_s']:6.1f} s {numbers['fit_s']:6.1f} s"
    return f"{numbers['name']:<48}{numbers['M']:>7}  mse {mse}e-4  loo {loo}  test {numbers['test']:.4f}  {seconds}"


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--crop", choices=["model", "squash", "border"], default="model")
    parser.add_argument("--test-every", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="+", default=[])
    a = parser.parse_args()
    out = a.out or Path("runs") / a.name
    data = ImageFolder(a.data, a.test_every) if a.test_every else open_dataset(a.data)
    backbone = TimmViTPatchBackbone(a.backbone, checkpoint=a.checkpoint, crop=a.crop, attention=None)
    if not (backbone.has_class_token and backbone.attention):
        raise ValueError(f"`--backbone` must give a class token and its attention; {a.backbone} doesn't.")
    cache = TokenCache.of(data, backbone, out / "tokens")
    train, test = ([i for i in split_indices(data, split) if cache.readable[i]] for split in ("train", "test"))
    p = Pictures(cache, train, test, torch.tensor([record.label for record in data.records]))
    ids = [[data.records[i].id for i in indices] for indices in (train, test)]
    facts = {
        "backbone": a.backbone, "fingerprint": backbone.fingerprint(), "crop": a.crop, "test_every": a.test_every,
        "train": len(train), "test": len(test), "classes": len(data.classes), "seed": SEED, "dtype": "float64",
        "grid": default_grid(), "versions": {name: version(name) for name in ("timm", "scikit-learn")},
    }  # fmt: skip
    rows = plan()
    key = hashlib.sha256(json.dumps([facts, ids]).encode()).hexdigest()
    measured = measure_all(p, rows, out / "rows.json", key, a.only)
    if len(measured) < len(rows):
        print(f"{len(rows) - len(measured)} rows are missing: nothing written")
        return
    mark_chosen(measured)
    print("written:", write(f"embeddings-{a.name}", measured, **facts).name)


if __name__ == "__main__":
    try:
        main()
    except (CarrotError, ValueError, OSError) as error:
        sys.exit(f"embeddings: {error}")
