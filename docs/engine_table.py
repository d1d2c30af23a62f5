"""The table of benchmarks/engine.py, for docs/benchmarks.md, from benchmarks/results/engine.json.

``python -m docs.benchmark_tables`` writes it.
"""

import json
from pathlib import Path

from carrot.evaluation.tables import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
WHO = {"plain": "one process", "ray": "Ray"}


def table() -> str:
    """Return one line for each way, and what the engine cost and brought."""
    found = json.loads((RESULTS / "engine.json").read_text())
    facts, lines = found["facts"], []
    shares, n = facts["shares"], facts["pictures"]
    for row in found["rows"]:
        cores, ray = row["cores"], row["who"] == "ray"
        over = f"{100 * shares[f'overhead_{cores}']:+.1f} %" if ray else ""
        lines.append(
            {
                "who": WHO[row["who"]],
                "cores": str(cores),
                "altogether, s": f"{row['altogether_s']:.1f}",
                "pictures a second": f"{n / row['altogether_s']:.1f}",
                "over one process": over,
                "of it the cluster's start, s": f"{row['up_s']:.1f}" if ray else "",
            }
        )
    return (
        f"{markdown_table(lines)}\n"
        f"{n:,} pictures, {facts['model']} at {facts['img_size']} pixels, the shards of all runs equal byte for byte. "
        f"From one worker of one thread to two: {100 * shares['efficiency']:.0f} % of twice as fast. Target: "
        f"<= {100 * shares['target']:.0f} % over one process. {facts['processor']}, torch {facts['torch']}, medians of "
        f"{found['rows'][0]['runs']}, load {facts['load']:.1f}, {facts['date']}."
    )
