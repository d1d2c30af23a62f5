"""The table of models of ImageNet's size, for docs/benchmarks.md, from benchmarks/results/merged*.json.

``python -m docs.benchmark_tables`` writes it.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def table() -> str:
    """Return one line for each size that was measured: the processors' seconds."""
    lines = [
        "| n | M | C | threads | fit, 21 values of lam | all leave-one-out figures | answers attributed | of one "
        "picture on one logit | peak memory | over bare products |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    files = sorted(RESULTS.glob("merged*.json"), key=lambda path: json.loads(path.read_text())["rows"][0]["C"])
    for found in (json.loads(path.read_text()) for path in files):
        threads = found["facts"]["threads"]
        for row in found["rows"]:
            fit, loo, top = (f"{seconds:.0f} s" for seconds in row["cpu_seconds"].values())
            lines.append(
                f"| {row['n']:,} | {row['D']:,} | {row['C']:,} | {threads} | {fit} | {loo} | {row['tests']:,} in {top} "
                f"| {row['one_effect_ms']['median']:.1f} ms | {row['peak_GiB']:.2g} GiB "
                f"| {row['ratio_to_products']:.2g} |"
            )
    facts = found["facts"]
    return "\n".join(lines) + (
        f"\n\n{facts['processor']}, torch {facts['torch']}, float16 rows on the disk; the processors' seconds. Peak "
        "memory is with libraries and those pages of the file that are there."
    )
