"""The table of the head at large M, for docs/benchmarks.md, from benchmarks/results/large_head*.json.

``python -m docs.benchmark_tables`` writes it.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
FILES = ("large_head", "large_head_50k_4096", "large_head_50k")
ROWS = {
    "fit": "fit, lam given",
    "fit, lam by leave-one-out": "fit, lam by leave-one-out over 21 values",
    "leave-one-out": "all leave-one-out predictions of a fitted head",
    "remove 1": "delete 1 picture",
    "remove 10": "delete 10 pictures",
    "remove 100": "delete 100 pictures",
}


def table() -> str:
    """Return one line for each question and size; a peer in the same run where one was measured."""
    lines = [
        "| question | n | M | CARROT | peak memory | peer | its peak |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in FILES:
        found = json.loads((RESULTS / f"{name}.json").read_text())
        cases: dict[str, dict[str, dict]] = {}
        for row in found["rows"]:
            cases.setdefault(row["case"], {})[row["who"]] = row
        for case, rows in cases.items():
            ours = rows["carrot"]
            took = ours["seconds"] if isinstance(ours["seconds"], dict) else {case: ours["seconds"]}
            for step, seconds in took.items():
                if step == "refit" or (step == "fit" and case != "fit" and name == "large_head"):
                    continue
                peer = its_peak = ""
                if "scikit-learn" in rows:
                    peer = f"{rows['scikit-learn']['seconds']:.1f} s (scikit-learn)"
                    its_peak = f"{rows['scikit-learn']['peak_GiB']:.1f} GiB"
                elif step.startswith("remove"):
                    peer = f"{took['refit']:.1f} s (refit)"
                size = f"{ours['n']:,} | {ours['M']:,}"
                lines.append(
                    f"| {ROWS[step]} | {size} | {seconds:.1f} s | {ours['peak_GiB']:.1f} GiB | {peer} | {its_peak} |"
                )
    facts = found["facts"]
    return (
        "\n".join(lines)
        + f"\n\n{facts['processor']}, {facts['threads']} threads, torch {facts['torch']}, rows in {facts['dtype']}, "
        f"{facts['date']}."
    )
