"""The table of benchmarks/maps.py, for docs/decisions, from benchmarks/results. ``docs.benchmark_tables`` writes it."""

import json
from pathlib import Path

from carrot.evaluation.tables import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
DATA_SETS = ("pets370", "toy")
MEASURES = ("pointing", "energy", "AUC")


def table() -> str:
    """Return one line a tiling and layout: where its map points, and in brackets where a map of equal shares does."""
    lines = []
    for name in DATA_SETS:
        for row in json.loads((RESULTS / f"maps-{name}.json").read_text())["rows"]:
            found = {measure: _two(row, measure) for measure in MEASURES}
            mosaics = [f"{row[key]['mean']:.3f}" for key in ("mosaics_2", "mosaics_3") if key in row]
            hill = {"hill": f"{row['hill']:.1f}"}
            where = {"data": name, "regions": row["regions"], "layout": row["layout"]}
            lines.append(where | hill | found | {"mosaics of 2 x 2, 3 x 3": ", ".join(mosaics)})
    return markdown_table(lines)


def _two(row: dict, measure: str) -> str:
    """Return a mean with its standard error, and that of equal shares."""
    mean, error = row[measure]["mean"], row[measure]["standard_error"]
    return f"{mean:.3f} ± {error:.3f} ({row[f'{measure}_of_equal_shares']['mean']:.3f})"
