"""The tables of benchmarks/ladders.py and benchmarks/tiles.py, for docs/decisions, from benchmarks/results.

``python -m docs.benchmark_tables`` writes them.
"""

import json
from pathlib import Path

from carrot.evaluation.tables import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
DATA_SETS = ("pets370", "flowers17", "cub100")


def table() -> str:
    """Return one line a setting: accuracies, where its map points, and what a picture costs."""
    lines = []
    for name in DATA_SETS:
        path = RESULTS / f"ladders-{name}.json"
        for row in json.loads(path.read_text())["rows"] if path.exists() else []:
            lines.append(
                {
                    "data": name,
                    "regions": row["setting"],
                    "LOO error x 1e4": f"{1e4 * row['loo_mse']:.1f}",
                    "LOO": f"{row['loo']:.3f}",
                    "test": f"{row['test']:.3f}",
                    "pointing (chance; centre)": three(row, ("pointing", "pointing_chance", "pointing_of_the_centre")),
                    "with the border": three(row, ("pointing_with_border",)),
                    "energy (chance)": three(row, ("energy", "energy_chance")),
                    "passes": f"{row['passes']:.3g}",
                    "CPU s": f"{row['cpu_s']:.2f}",
                }
            )
    return markdown_table(lines)


def three(row: dict[str, float], names: tuple[str, ...]) -> str:
    """Return a number, and those beside it in brackets; nothing where there is none."""
    found = [f"{row[name]:.3f}" for name in names if name in row]
    return found[0] + (f" ({'; '.join(found[1:])})" if found[1:] else "") if found else ""


def cost() -> str:
    """Return what R tiles cost beside R single passes."""
    found = json.loads((RESULTS / "tiles.json").read_text())
    facts, lines = found["facts"], []
    for row in found["rows"]:
        passes, ours = (f"{row[f'{name}_ms_a_picture']:.0f} ms" for name in ("passes", "ours"))
        features = {"features apart": f"{row['apart']:.0e}"}
        times = {"R single passes": passes, "CARROT": ours, "ratio": f"{row['ratio']:.2f}"}
        lines.append({"regions": row["regions"], "tiles": row["tiles"], **features, **times})
    where = f"{facts['backbone']}, {facts['processor']}, {facts['threads']} threads, {facts['date']}."
    return f"{markdown_table(lines)}\n{where}"
