"""The tables of docs/explainers.md, from benchmarks/results/explainers*.json and mosaics-*.json.

``python -m docs.benchmark_tables`` writes them.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from carrot.evaluation.tables import markdown_table
from docs.funnybirds_table import number

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
AREAS = {
    "tile level, deletion": "deletion",
    "tile level, insertion": "insertion",
    "tile level, gain": "gain, tile level",
    "pixel level, gain": "gain, pixel level",
}
LARGEST = ("shown and predicted", "logits with gradients")
WHERE = ("pointing", "energy", "rank accuracy", "AUC")


def load(name: str) -> tuple[dict, list[dict]]:
    """Return the facts and rows of one benchmark."""
    found = json.loads((RESULTS / f"{name}.json").read_text())
    return found["facts"], found["rows"]


def mean(row: dict, column: str) -> float | None:
    """Return the mean of a column, if the row has it."""
    return row[column]["mean"] if column in row else None


def explainers(name: str) -> str:
    """Return one line for each explainer, of the readout "mean", and where numbers come from."""
    facts, rows = load(name)
    lines = []
    for row in (row for row in rows if row["readout"] == "mean"):
        line: dict[str, object] = {"explanation": row["explanation"]}
        line |= {short: mean(row, column) for column, short in AREAS.items()}
        line |= {column: mean(row, column) for column in WHERE}
        lines.append(line | {"CPU s": mean(row, "seconds")})
    (of_mean,) = (found for found in facts["models"] if found["readout"] == "mean")
    shown, gradients = (of_mean[f"largest difference of {what}"] for what in LARGEST)
    return (
        markdown_table(lines, digits=3)
        + f"\n{facts['data']}, {facts['backbone']}, {of_mean['setting']}: {of_mean['pictures']} test pictures, of "
        + f"which {facts['shown']} at pixel level, in five steps. Shown differs from predicted by {shown:.0e} at most, "
        + f"the logits of the function with gradients from the model's by {gradients:.0e}. {facts['processor']}, one "
        + f"thread, {facts['date']}."
    )


def additive(names: tuple[str, ...]) -> str:
    """Return on how many pictures the order by contributions is beaten by none, under ``sum``."""
    lines = []
    for name in names:
        facts, _ = load(name)
        for found in (found for found in facts["models"] if found["readout"] == "sum"):
            lines.append(
                {
                    "data": facts["data"],
                    "tiles": facts["regions"],
                    "explainers": len(found["lost"]) - 1,
                    "pictures": found["pictures"],
                    "all beaten": found["beaten by contributions on"],
                    "a random order lower": found["lost"]["random orders"],
                    "an explainer lower": sum(n for k, n in found["lost"].items() if k != "random orders"),
                    "ties": sum(found["ties"].values()),
                }
            )
    return markdown_table(lines)


def mosaics(name: str) -> str:
    """Return one line for each model, ladder and map, 2 x 2 beside 3 x 3, and where numbers come from."""
    facts, rows = load(name)
    lines: dict[tuple[str, ...], dict[str, object]] = {}
    for row in rows:
        key = (row["fitted on"], row["ladder"], row["explanation"])
        named = dict(zip(("fitted on", "looks by", "explanation"), key, strict=True))
        size = f"{row['grid']} x {row['grid']}"
        lines.setdefault(key, named)[size] = number(row["score"])
        lines[key][f"n of {size}"] = row["score"]["n"]
    accuracy = ", ".join(f"{model} {share:.3f}" for model, share in facts["test accuracy"].items())
    return (
        markdown_table(list(lines.values()), digits=3)
        + f"\n{facts['data']}, {facts['backbone']}: {facts['classes']} classes, {facts['training pictures']} training "
        + f"pictures; cells from {facts['chosen']} pictures, one of each class that has one, chosen among "
        + f"{facts['test pictures']}. Accuracy on these: {accuracy}. {facts['date']}."
    )


TABLES: dict[str, Callable[[], str]] = {
    "explainers": partial(explainers, "explainers"),
    "explainers_pets": partial(explainers, "explainers-pets"),
    "additive": partial(additive, ("explainers-sum", "explainers-additive", "explainers-pets")),
    "mosaics_pets": partial(mosaics, "mosaics-pets"),
    "mosaics_cub": partial(mosaics, "mosaics-cub"),
}
