"""The table of the head at large M, for docs/benchmarks.md, from benchmarks/results/large_head*.json.

``python -m docs.benchmark_tables`` writes it.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
FILES = ("large_head_20k_512", "large_head", "large_head_50k_4096", "large_head_50k_4096_removal", "large_head_50k")
ROWS = {
    "fit": "fit, lam given",
    "fit, lam by leave-one-out": "fit, lam by leave-one-out over 21 values",
    "leave-one-out": "all leave-one-out predictions of a fitted head",
    "remove 1": "delete 1 picture",
    "remove 1, weights": "delete 1 picture, and ask for the weights",
    "remove 10": "delete 10 pictures",
    "remove 10, weights": "delete 10 pictures, and ask for the weights",
    "remove 100": "delete 100 pictures",
    "remove 100, weights": "delete 100 pictures, and ask for the weights",
}


def _told(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.2g} s"


def table() -> str:
    """Return one line for each question and size; a peer in the same run where one was measured."""
    lines = [
        "| question | n | M | threads | CARROT | peak memory | peer | its peak |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
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
                if step == "refit" or (step == "fit" and case != "fit" and len(cases) > 1):
                    continue
                peer = its_peak = ""
                if "scikit-learn" in rows:
                    peer = f"{_told(rows['scikit-learn']['seconds'])} (scikit-learn)"
                    its_peak = f"{rows['scikit-learn']['peak_GiB']:.2g} GiB"
                elif step.startswith("remove"):
                    peer = f"{_told(took['refit'])} (refit)"
                size = f"{ours['n']:,} | {ours['M']:,} | {found['facts']['threads']}"
                lines.append(
                    f"| {ROWS[step]} | {size} | {_told(seconds)} | {ours['peak_GiB']:.2g} GiB | {peer} | {its_peak} |"
                )
    facts = found["facts"]
    return (
        "\n".join(lines)
        + f"\n\n{facts['processor']}, torch {facts['torch']}, rows in {facts['dtype']}. Of one thread the processor's "
        "seconds, measured beside other work; of two seconds by the clock, on a quiet machine."
    )
