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
        over = f"{100 * shares[f'overhead_at_work_{cores}']:+.1f} %" if ray else ""
        whole = f"{100 * shares[f'overhead_altogether_{cores}']:+.1f} %" if ray else ""
        lines.append(
            {
                "who": WHO[row["who"]],
                "cores": str(cores),
                "pictures a second, at work": f"{n / row['at_work_s']:.1f}",
                "over one process": over,
                "cluster up, s": f"{row['up_s']:.1f}" if ray else "",
                "first shard, s": f"{row['first_s']:.1f}",
                "altogether, s": f"{row['altogether_s']:.0f}",
                "over one process, altogether": whole,
            }
        )
    return (
        f"{markdown_table(lines)}\n"
        f"{n:,} pictures, {facts['model']} at {facts['img_size']} pixels, the shards of all runs equal byte for byte. "
        f"From one worker of one thread to two: {100 * shares['efficiency']:.0f} % of twice as fast. Target at work: "
        f"<= {100 * shares['target']:.0f} % over one process. {facts['processor']}, torch {facts['torch']}, medians of "
        f"{found['rows'][0]['runs']}, load {facts['load']:.1f}, {facts['date']}."
    )
