"""The head in scikit-learn's face beside scikit-learn's own linear classifiers, on the same embeddings.

Usage: python -m benchmarks.sklearn_heads NAME --data DATA --checkpoint FILE [--tokens DIR] [--test-every 2]
                                          [--rounds 3]

Embeddings of a tiny vision transformer, regions weighted by attention: tokens as they are (M = 192), and their
quadratic lift, many columns (M = 18,528), as ``CarrotFeatures`` makes them. Penalties of every ridge are the same 21,
those of ``RidgeHead``; logistic regression gets standardised columns, and three folds choose its C of three. Answers
first: with a penalty given, our decision must be RidgeClassifier's. Times are the best of several rounds taken in turn,
of ``fit`` alone; probabilities are not asked for.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import write
from carrot import CarrotError
from carrot.data import ImageFolder, open_dataset, split_indices
from carrot.data.records import Subset
from carrot.embedding.encoder import Encoder
from carrot.embedding.setting import Setting
from carrot.estimators import RidgeHeadClassifier

LIFTS = ("identity", "quadratic")
PENALTIES, FOLDS = (0.01, 0.1, 1.0), 3
SLOW = 5000  # columns from which logistic regression takes minutes, and is left out
TAU = 0.5

Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def classifiers(X: NDArray[Any], lams: list[float]) -> dict[str, Callable[[], Any]]:
    """Return how each is made; ours first."""
    from sklearn.linear_model import LogisticRegressionCV, RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made: dict[str, Callable[[], Any]] = {
        "RidgeHeadClassifier(lam='loo')": lambda: RidgeHeadClassifier("loo", lams=lams),
        "RidgeClassifierCV": lambda: RidgeClassifierCV(alphas=lams),
    }
    if X.shape[1] < SLOW:
        logistic: dict[str, Any] = {"Cs": PENALTIES, "cv": FOLDS, "max_iter": 5000}
        made["LogisticRegressionCV"] = lambda: make_pipeline(StandardScaler(), LogisticRegressionCV(**logistic))
    return made


def check(X: NDArray[Any], y: NDArray[Any], lams: list[float]) -> float:
    """Refuse to time wrong answers: with a penalty given, ours is scikit-learn's decision; return the error."""
    from sklearn.linear_model import RidgeClassifier

    lam = lams[len(lams) // 2]
    ours = 2 * RidgeHeadClassifier(lam).fit(X, y).decision_function(X) - 1
    error = float(np.abs(ours - RidgeClassifier(lam).fit(X, y).decision_function(X)).max())
    if error > 1e-6:
        raise ValueError(f"decisions differ by {error:g}: nothing is timed")
    return error


def measure(arrays: Arrays, rounds: int) -> list[dict[str, object]]:
    """Return a row for each classifier on one embedding."""
    X, y, X_test, y_test = arrays
    lams = [float(lam) for lam in RidgeHeadClassifier("loo").fit(X, y).head_.loo_path.lams]  # type: ignore[union-attr]
    error, made = check(X, y, lams), classifiers(X, lams)
    fitted, seconds = {}, {name: list[float]() for name in made}
    for turn in range(rounds):
        for name, make in made.items():
            if turn and seconds[name][0] > 60:
                continue
            start = perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                fitted[name] = make().fit(X, y)
            seconds[name].append(perf_counter() - start)
    rows: list[dict[str, object]] = []
    for name, model in fitted.items():
        accuracy = float(model.score(X_test, y_test))
        lam = float(getattr(model, "lam_", getattr(model, "alpha_", float("nan"))))
        row: dict[str, object] = {
            "who": name, "n": len(X), "M": X.shape[1], "C": len(np.unique(y)), "test": accuracy,
            "fit_s": min(seconds[name]), "rounds": len(seconds[name]), "decision_error": error,
        }  # fmt: skip
        rows.append(row | ({"lam": lam} if np.isfinite(lam) else {}))
        print(
            f"{name:<32} M {X.shape[1]:>6}  test {accuracy:.4f}  fit {min(seconds[name]):8.2f} s  lam {lam:.4g}",
            flush=True,
        )
    return rows


def main() -> None:
    """Embed, check, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--backbone", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tokens", type=Path, default=Path("runs/tokens"))
    parser.add_argument("--test-every", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    data = ImageFolder(a.data, a.test_every) if a.test_every else open_dataset(a.data)
    encoder, rows = Encoder(a.backbone, a.checkpoint), []
    sides = [Subset(data, split_indices(data, split)) for split in ("train", "test")]
    caches = [encoder.cache(side, a.tokens) for side in sides]
    y, y_test = (
        np.array([side.records[i].label for i in cache.rows]) for side, cache in zip(sides, caches, strict=True)
    )
    for lift in LIFTS:
        X, X_test = (cache.embed(cache.rows, Setting(lift, TAU)).numpy() for cache in caches)
        rows += measure((X, y, X_test, y_test), a.rounds)
    from sklearn import __version__

    facts = {"backbone": a.backbone, "tau": TAU, "dtype": "float64", "scikit_learn": __version__, "test": len(y_test)}
    print("written:", write(f"sklearn-{a.name}", rows, threads_used=torch.get_num_threads(), **facts).name)


if __name__ == "__main__":
    try:
        main()
    except (CarrotError, ValueError, OSError) as error:
        sys.exit(f"sklearn_heads: {error}")
