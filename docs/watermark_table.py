"""The table of benchmarks/watermark.py, for docs/decisions, from benchmarks/results/watermark-*.json.

``python -m docs.benchmark_tables`` writes it.
"""

import json
from pathlib import Path

from carrot.evaluation.tables import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def table() -> str:
    """Return one line a world, a size of the mark and a tiling, of the readout "mean"."""
    lines = []
    for path in sorted(RESULTS.glob("watermark-*.json"), reverse=True):  # the toy first
        for row in json.loads(path.read_text())["rows"]:
            if row["readout"] == "mean":
                lines.append(line(path.stem.partition("-")[2], row))
    return markdown_table(lines)


def line(name: str, row: dict) -> dict[str, object]:
    """Return what the table says of one row."""
    where_said = row["named, where said"]
    return {
        "data": name,
        "marked alike": "the mark alone" if row["world"] == "alone" else "species too",
        "mark": f"x {row['mark']}",
        "tiles": row["tiles"].removeprefix("tiles:"),
        "p": f"{row['power']:g}",
        "said (without it)": f"{row['said']:.2f} ({row['said without the mark']:.2f})",
        "named, where said": "" if where_said is None else f"{where_said:.2f}",
        "named (chance)": f"{row['named']:.2f} ({row['chance']:.3f})",
        "rises most": f"{row['rises most']:.2f}",
        "own tile (chance)": f"{row['own tile']:.2f} ({row['own tile, chance']:.2f})",
        "together": f"{row['named together']:.2f}",
    }
