"""The table of what was tried and not kept, for docs/decisions, from benchmarks/results/search-*.json.

``python -m docs.benchmark_tables`` writes it.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
DATA_SETS = ("cub100", "pets370", "flowers17")


def table() -> str:
    """Return one line a variant: leave-one-out squared error x 1e4, leave-one-out and test accuracy by data set."""
    found = {}
    for name in DATA_SETS:
        path = RESULTS / f"search-{name}.json"
        if path.exists():
            found[name] = {row["variant"]: row for row in json.loads(path.read_text())["rows"]}
    variants = list(dict.fromkeys(variant for rows in found.values() for variant in rows))
    lines = ["| variant | " + " | ".join(found) + " |", "| --- |" + " --- |" * len(found)]
    for variant in variants:
        cells = [numbers(rows[variant]) if variant in rows else "" for rows in found.values()]
        lines.append(f"| {variant.replace('|', chr(92) + '|')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def numbers(row: dict) -> str:
    """Return the three numbers of one variant on one data set."""
    return f"{row['loo_mse'] * 1e4:.1f} / {row['loo']:.3f} / {row['test']:.3f}"
