"""Which score finds planted wrong labels best? Toy birds, labels of other species planted at random, many draws.

Usage: python -m benchmarks.suspects [--draws 20]

Precision among the first k suspects, k the number of planted labels, and the area under the ROC curve; the peer is the
same margin with each picture's own label counted, which is what training accuracy would look at. The quadratic lift
with tau = 1/2, lam by leave-one-out.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness import write
from carrot import RidgeHead
from carrot.data.toy import ToyBirds
from carrot.embedding.encoder import Encoder
from carrot.embedding.setting import Setting
from carrot.evaluation.calibration import fit_temperature
from carrot.evaluation.estimate import Estimate
from carrot.evaluation.ranking import auroc, precision_at
from carrot.evaluation.suspects import label_suspects

WRONG, SPECIES = 20, 20


def planted(true: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return labels of which ``WRONG`` are another species', and which those are."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(true), generator=rng)[:WRONG]
    labels = true.clone()
    labels[rows] = (true[rows] + torch.randint(1, SPECIES, (WRONG,), generator=rng)) % SPECIES
    return labels, labels != true


def main() -> None:
    """Embed once, plant, fit, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    draws = parser.parse_args().draws
    birds = ToyBirds(n_train_per_class=20, n_test_per_class=0, n_species=SPECIES)
    with tempfile.TemporaryDirectory() as folder:
        G = Encoder("toy").cache(birds, Path(folder)).embed(range(len(birds)), Setting("quadratic", 0.5))
    true = torch.tensor(birds.true_labels)
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(draws):
        labels, wrong = planted(true, seed)
        head = RidgeHead("loo", True).fit(G, labels)
        loo = head.loo_predict()
        suspects = label_suspects(loo, labels, fit_temperature(loo, labels))
        scores = {name: getattr(suspects, name) for name in ("self_confidence", "margin", "normalised_margin")}
        scores["margin, own label counted"] = label_suspects(head.predict(G), labels, 1.0).margin
        for name, score in scores.items():
            found.setdefault(name, []).append((precision_at(-score, wrong, WRONG), auroc(-score, wrong)))
    rows = []
    for name, values in found.items():
        precision, area = (Estimate.of(column) for column in zip(*values, strict=True))
        rows.append(
            {"score": name, "precision": precision.mean, "precision_se": precision.standard_error, "auroc": area.mean}
        )
        print(f"{name:<28} precision@{WRONG} {precision}   AUROC {area.mean:.4f}")
    print("written:", write("suspects", rows, draws=draws, pictures=len(birds), wrong=WRONG).name)


if __name__ == "__main__":
    main()
