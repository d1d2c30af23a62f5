"""The tables of benchmarks/conformal.py and benchmarks/again.py, from benchmarks/results.

``python -m docs.benchmark_tables`` writes them.
"""

import json
from pathlib import Path
from typing import Any

from carrot.evaluation.tables import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
DATA_SETS = ("flowers17", "cub100", "pets370")
KINDS = {"full": "full", "full, by class": "full, by class", "split": "split"}


def label_sets() -> str:
    """Return coverage and size of label sets, one line for each data set, level and kind."""
    lines, costs = list[dict[str, object]](), list[str]()
    for name in DATA_SETS:
        facts, rows = _load("conformal", name)
        for row in sorted(rows, key=lambda row: (row["alpha"], list(KINDS).index(row["kind"]))):
            lines.append(
                {
                    "pictures": f"{name}, {facts['n']:,} of {facts['classes']} classes",
                    "promised": f"{100 * (1 - row['alpha']):.0f} %",
                    "sets": KINDS[row["kind"]],
                    "held": f"{100 * row['coverage']:.1f} ± {100 * row['coverage_se']:.1f} %",
                    "labels": f"{row['size']:.2f}",
                    "of one label": f"{100 * row['single']:.0f} %",
                    "empty": f"{100 * row['empty']:.1f} %",
                }
            )
        about = f"{facts.get('lift', 'quadratic')} lift, accuracy {facts['accuracy']:.3f}, {facts['splits']} draws"
        costs.append(f"{name} {facts['ms_a_picture']:.0f} ms ({about})")
    told = (
        f"p-values of a picture: {', '.join(costs)}; {facts['processor']}, {facts['threads']} thread, shared with other"
    )
    return f"{markdown_table(lines)}\n{told} work, {facts['backbone']}, tau 0.5, {facts['date']}."


def chosen_again() -> str:
    """Return how much choices lean on single pictures, one line for each data set and what is chosen."""
    lines = list[dict[str, object]]()
    for name in DATA_SETS:
        facts, rows = _load("again", name)
        for row in rows:
            lines.append(
                {
                    "pictures": f"{name}, {facts['pictures']:,}",
                    "chosen": f"{row['what']}: {row['chosen']}",
                    "settings tried": row["tried"],
                    "another setting": row["other_setting"],
                    "another lam": row["other_lam"],
                    "another prediction": row["other_prediction"],
                    "accuracy, held": f"{row['loo_accuracy_held']:.4f}",
                    "chosen again": f"{row['loo_accuracy']:.4f}",
                    "seconds": f"{row['seconds']:.1f}",
                }
            )
    told = f"{facts['processor']}, {facts['threads_used']} thread, shared with other work, {facts['date']}"
    return f"{markdown_table(lines)}\n{told}; seconds of a setting and lam are those of the whole selection."


def _load(kind: str, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = json.loads((RESULTS / f"{kind}-{name}.json").read_text())
    return found["facts"], found["rows"]
