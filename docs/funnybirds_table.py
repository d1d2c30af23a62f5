"""The table of FunnyBirds' scores, for docs/funnybirds.md, from benchmarks/results/funnybirds.json.

``python -m docs.benchmark_tables`` writes it.
"""

import json
from pathlib import Path

from benchmarks.funnybirds import SHOWN
from carrot.evaluation.tables import Measured, markdown_table

RESULT = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "funnybirds.json"


def table() -> str:
    """Return one line for each model and explanation."""
    found = json.loads(RESULT.read_text())
    facts, lines = found["facts"], []
    for row in found["rows"]:
        scores = {short: number(row[name]) for short, name in SHOWN.items()}
        lines.append(
            {"model": row["model"], "explanation": row["explanation"], **scores, "sum <= 0": row["not_positive"]}
        )
    n = max(row["target_sensitivity"]["n"] for row in found["rows"])
    return (
        markdown_table(lines, digits=3)
        + f"\n{facts['pictures']} test pictures of {facts['species']} species, {facts['training']} training pictures "
        f"of each; TS of at most {n} of them. Toy backbone, {facts['date']}."
    )


def number(score: dict[str, float | None]) -> Measured | float | None:
    """Return a mean with its standard error, where there is one."""
    mean, error = score["mean"], score["standard_error"]
    return mean if mean is None or error is None else Measured(mean, error)
