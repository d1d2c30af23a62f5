"""The tables of edits and of smallest flips, for docs/benchmarks.md, from benchmarks/results/edits.json and flips.json.

``python -m docs.benchmark_tables`` writes them.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def edits() -> str:
    """Return one line for each kind of edit and size."""
    found = json.loads((RESULTS / "edits.json").read_text())
    lines = [
        "| edit | n | D | tests x edits | pairs a second | over refits | over a loop of `edit_effect` | error |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in found["rows"]:
        loop = f"{row['over_loop']:,.0f} x" if "over_loop" in row else ""
        size = f"{row['n']:,} | {row['D']} | {row['tests']:,} x {row['edits']:,}"
        speed = f"{row['pairs_per_second'] / 1e6:.1f} million | {row['over_refits']:,.0f} x | {loop}"
        lines.append(f"| {row['kind']} | {size} | {speed} | {row['error']:.0e} |")
    facts = found["facts"]
    where = f"{facts['processor']}, {facts['threads']} threads, torch {facts['torch']}, {facts['date']}"
    return "\n".join(lines) + f"\n\n{where}."


def flips() -> str:
    """Return one line for each data set."""
    found = json.loads((RESULTS / "flips.json").read_text())
    lines = [
        "| data | training pictures | flipped | proven exactly | of 1, 2, 3, 4, 5 | over 5, proven | undecided "
        "| median size, largest found | labels, median | first, s | each, median and slowest, s |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in found["rows"]:
        sizes = ", ".join(map(str, row["by_size"].values()))
        proven = f"{row['proven']} | {sizes} | {row['larger']} | {row['undecided']}"
        size = f"{row['median_size']}, {row['largest']} | {row['median_labels']}"
        took = f"{row['prepare_s']:.1f} | {row['median_s']:.1f}, {row['slowest_s']:.1f}"
        lines.append(f"| {row['data']} | {row['n']:,} | {row['pictures']} | {proven} | {size} | {took} |")
    return "\n".join(lines)
