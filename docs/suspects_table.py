"""The table of benchmarks/suspects.py, for docs/benchmarks.md, from benchmarks/results/suspects-*.json.

``python -m docs.benchmark_tables`` writes it.
"""

import json
from pathlib import Path

from carrot.evaluation.tables import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
OURS, LOO = "carrot audit: suspicion", "leave-one-out: probability of the label"
PEERS = {
    "cleanlab, 5-fold logistic regression: self-confidence": "cleanlab: self-confidence",
    "cleanlab, 5-fold logistic regression: normalised margin": "cleanlab: margin",
    "20 nearest neighbours of another label": "20 neighbours",
    "self-influence: gradients (TracIn)": "TracIn",
    "self-influence: inverse Hessian (as EK-FAC)": "inverse Hessian",
}


def table() -> str:
    """Return one line a data set, a kind and a share of wrong labels."""
    lines = []
    for name in ("toy", "flowers17", "cub100", "pets370"):
        found = json.loads((RESULTS / f"suspects-{name}.json").read_text())
        rows = {(row["kind"], row["rate"], row["score"]): row for row in found["rows"]}
        for kind, rate in dict.fromkeys((row["kind"], row["rate"]) for row in found["rows"]):
            here = {score: rows[kind, rate, score] for score in (OURS, LOO, *PEERS)}
            lines.append(line(f"{name} ({found['facts']['draws']})", kind, rate, here))
    return markdown_table(lines)


def groups() -> str:
    """Return one line a data set: near copies that share a wrong label, over all draws."""
    lines = []
    for name in ("toy", "flowers17", "cub100", "pets370"):
        rows = json.loads((RESULTS / f"suspects-groups-{name}.json").read_text())["rows"]
        total = {key: sum(row[key] for row in rows) for key in ("planted", "hiding", "found", "told", "strangers")}
        lines.append(
            {
                "data (draws)": f"{name} ({len(rows)})",
                "planted": total["planted"],
                "believed when left out alone": total["hiding"],
                "of these found": total["found"],
                "told in all": total["told"],
                "of which strangers": total["strangers"],
            }
        )
    return markdown_table(lines)


def line(name: str, kind: str, rate: float, here: dict[str, dict]) -> dict[str, object]:
    """Return what the table says of one of them."""
    ours, best = here[OURS], max(here[peer]["ap"] for peer in PEERS)
    return {
        "data (draws)": name,
        "wrong": f"{100 * rate:.0f} %, {kind}",
        "AUROC": f"{ours['auroc']:.3f}",
        "AP": f"**{ours['ap']:.3f}** ± {ours['ap_se']:.3f}",
        "best peer": f"{ours['ap'] - best:+.3f}",
        "leave-one-out": f"{here[LOO]['ap']:.3f}",
        **{short: f"{here[peer]['ap']:.3f}" for peer, short in PEERS.items()},
    }
