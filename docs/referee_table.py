"""The tables of docs/referee.md, and of heads beside scikit-learn's, from benchmarks/results.

``python -m docs.benchmark_tables`` writes them.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
HEADS = ("flowers17", "cub100", "pets370")


def scores(name: str) -> str:
    """Return a line for each method."""
    found = json.loads((RESULTS / f"referee-{name}.json").read_text())
    lines = [
        "| method | setting | error / largest effect | correlation | LDS | top 20, off by | label errors, AUROC | "
        "fit + score |",
        "| --- | --- |" + " ---: |" * 6,
    ]
    for row in found["rows"]:
        who = f"{row['method']} {row['version']}".strip()
        if "failed" in row:
            lines.append(f"| {who} | {row['setting']} | {row['failed'].replace('|', '/')} | | | | | |")
            continue
        error = f"{row['error']:.2g}" if "error" in row else "ranks only"
        top = f"{100 * row['top']:.0f} %" if "top" in row else ""
        area = f"{row['auroc']:.3f}" if "auroc" in row else ""
        took = f"{row['fit_s'] + row['score_s']:.2f} s"
        cells = (error, f"{row['correlation']:.3f}", f"{row['lds']:.3f}", top, area, took)
        lines.append(f"| {who} | {row['setting']} | {' | '.join(cells)} |")
    f = found["facts"]
    group = next(row["group_formula"] for row in found["rows"] if "group_formula" in row)
    return "\n".join(lines) + (
        f"\n\nn = {f['n']:,}, D = {f['D']}, C = {f['C']}, {f['wrong']} wrong labels, lam {f['lam']:.3g}, {f['tests']} "
        f"test pictures, {f['subsets']} halves. {f['n']:,} real refits took {f['refits_s']:.0f} s, the tables of "
        f"`write_truth` {f['truth_s']:.1f} s; `group_removal_effect` of each test picture's 20 is off by {group:.0e}. "
        f"{f['processor']}, {f['threads']} thread{'s' * (f['threads'] > 1)}, torch {f['torch']}, on a shared machine, "
        f"{f['date']}."
    )


def heads() -> str:
    """Return a line for each classifier, data set and embedding."""
    lines = ["| data | classifier | n | M | C | test accuracy | fit |", "| --- | --- |" + " ---: |" * 5]
    facts: dict = {}
    for name in HEADS:
        found = json.loads((RESULTS / f"sklearn-{name}.json").read_text())
        facts = found["facts"]
        for row in found["rows"]:
            size = f"{row['n']:,} | {row['M']:,} | {row['C']}"
            lines.append(f"| {name} | `{row['who']}` | {size} | {row['test']:.3f} | {row['fit_s']:.2f} s |")
    where = f"scikit-learn {facts['scikit_learn']}, {facts['processor']}, {facts['threads']} thread, {facts['date']}"
    return "\n".join(lines) + f"\n\n{where}, best of two or three taken in turn, on a shared machine; `fit` alone."


TABLES = {"referee_flowers17": lambda: scores("flowers17"), "referee_synthetic": lambda: scores("synthetic")}
