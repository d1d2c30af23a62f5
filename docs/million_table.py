"""The table of a model of a million pictures, for docs/benchmarks.md, from benchmarks/results/million.json.

``python -m docs.benchmark_tables`` writes it.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def table() -> str:
    """Return one line for each step of each process, and the memory of that."""
    found = json.loads((RESULTS / "million.json").read_text())
    facts, rows = found["facts"], found["rows"]
    lines = [
        "| process | step | processor | its own memory, at most | with pages of files |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        for step, seconds in row["cpu_seconds"].items():
            memory = f"{row['own_GiB']:.2g} GiB | {row['with_files_GiB']:.2g} GiB"
            lines.append(f"| {row['case']} | {step} | {seconds:.3g} s | {memory} |")
    n, D, C = (rows[0][name] for name in ("n", "D", "C"))
    audit = next((row for row in rows if row["case"] == "audit"), None)
    told = ""
    if audit is not None:
        told = (
            f" The audit finds {audit['doubtful']:,} labels doubtful, and {audit['planted_that_are_doubtful']:,} of "
            f"{audit['planted']:,} planted wrong ones are among them."
        )
    return (
        "\n".join(lines)
        + f"\n\n{n:,} rows of {D} float32 numbers, {C:,} classes: n C numbers are {8 * n * C / 2**30:.3g} GiB. "
        f"{facts['processor']}, torch {facts['torch']}, {facts['threads']} thread, {facts['date']}, beside other "
        f"work.{told}"
    )
