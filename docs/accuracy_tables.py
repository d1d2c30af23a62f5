"""The tables of accuracy, for docs/accuracy.md and README.md, from benchmarks/results/embeddings-*.json.

``python -m docs.benchmark_tables`` writes them.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
DATA_SETS = {"cub100": "birds", "pets370": "pets", "flowers17": "flowers"}
KINDS = {
    "instead": "what a user would pick instead",
    "guide": "the guide's CARROT",
    "regions": "CARROT, regions only",
    "global region": "CARROT, the class token as a global region",
}
REGIONS, GLOBAL = "CARROT, regions only, chosen", "CARROT with the class token as a global region, chosen"

Row = dict


def rows_of(name: str) -> tuple[dict, list[Row]]:
    """Return the facts and rows of one data set."""
    found = json.loads((RESULTS / f"embeddings-{name}.json").read_text())
    return found["facts"], found["rows"]


def named(rows: list[Row], name: str) -> Row:
    """Return the row of that name."""
    return next(row for row in rows if row["name"] == name)


def chosen(rows: list[Row], kinds: set[str]) -> Row:
    """Return the row that leave-one-out chose among those of some kinds."""
    return next(row for row in rows if row.get("chosen") and row["kind"] in kinds)


def share(row: Row, which: str) -> str:
    """Return an accuracy with its standard error; empty where it was not measured."""
    return f"{row[which]:.3f} ± {row[f'{which}_se']:.3f}" if which in row else ""


def mse(row: Row) -> str:
    """Return the leave-one-out error, times 1e4."""
    return f"{1e4 * row['loo_mse']:.1f}" if "loo_mse" in row else ""


def title(row: Row) -> str:
    """Return the row's name, with the graph where one was chosen."""
    s = row.get("setting")
    if "diffused" not in row["name"] or not s:
        return row["name"]
    graph = f"sigma_s {s['sigma_spatial']:g}, sigma_f {s['sigma_feature']:g}, t {s['t']:g}" if s["t"] else "t 0"
    return f"{row['name']}: {graph}"


def headline(rows: list[Row]) -> dict[str, Row]:
    """Return the few rows that answer the question."""
    instead = ["class token, ridge", "class token, logistic regression", "class token, quadratic lift, ridge"]
    return {
        **{name: named(rows, name) for name in instead},
        "mean, ridge": named(rows, "mean"),
        "the guide: identity, diffused": named(rows, "identity, diffused"),
        REGIONS: chosen(rows, {"guide", "regions"}),
        GLOBAL: chosen(rows, {"global region"}),
    }


def summary() -> str:
    """Return the headline of all data sets: test, and leave-one-out in brackets."""
    columns = {name: headline(rows_of(name)[1]) for name in DATA_SETS}
    lines = [f"| | {' | '.join(f'{words} ({name})' for name, words in DATA_SETS.items())} |"]
    lines.append("| --- " * (len(DATA_SETS) + 1) + "|")
    for label in columns["cub100"]:
        cells = [
            share(rows[label], "test") + (f" ({share(rows[label], 'loo')})" if "loo" in rows[label] else "")
            for rows in columns.values()
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    picks = "; ".join(f"{name}: {title(rows[REGIONS])}, and {title(rows[GLOBAL])}" for name, rows in columns.items())
    return "\n".join(lines) + f"\n\nTest, and leave-one-out in brackets. Chosen were, for {picks}."


def full(name: str) -> str:
    """Return every row of one data set."""
    facts, rows = rows_of(name)
    lines = [
        "| embedding | M | LOO mse x 1e4 | LOO | test | lam (C) |",
        "| --- | ---: | ---: | --- | --- | --- |",
    ]
    for kind, words in KINDS.items():
        lines.append(f"| *{words}* | | | | | |")
        for row in (row for row in rows if row["kind"] == kind):
            text = f"**{title(row)}** (chosen)" if row.get("chosen") else title(row)
            penalty = f"{row['lam']:.2g}" if "lam" in row else f"C {row['C']:g}" if "C" in row else ""
            cells = [text, f"{row['M']:,}", mse(row), share(row, "loo"), share(row, "test"), penalty]
            lines.append("| " + " | ".join(cells) + " |")
    where = (
        f"{facts['processor']}, {facts['threads']} threads, torch {facts['torch']}, timm {facts['versions']['timm']}"
    )
    size = f"{facts['train']:,} training and {facts['test']:,} test pictures of {facts['classes']} classes"
    return "\n".join(lines) + f"\n\n{size}; {facts['backbone']}, crop {facts['crop']!r}; {where}, {facts['date']}."


def readme() -> str:
    """Return the README's table: test accuracy on all data sets, of the few embeddings between which one chooses."""
    names = {
        "class token, logistic regression": "class token, logistic regression: no account of regions",
        "class token, quadratic lift, ridge": "class token, quadratic lift, ridge: training pictures only",
        REGIONS: "CARROT, patches that see the whole picture",
    }
    found = {name: headline(rows_of(name)[1]) for name in DATA_SETS}
    lines = [f"| | {' | '.join(DATA_SETS.values())} |", "| --- " * (len(DATA_SETS) + 1) + "|"]
    for label, words in names.items():
        lines.append(f"| {words} | {' | '.join(share(rows[label], 'test') for rows in found.values())} |")
    tiles = [tiles_of(name) for name in DATA_SETS]
    return "\n".join([*lines, f"| CARROT, tiles that see only themselves | {' | '.join(tiles)} |"])


def tiles_of(name: str) -> str:
    """Return the test accuracy of the tiles of smallest leave-one-out error in benchmarks/results/ladders-*.json."""
    path = RESULTS / f"ladders-{name}.json"
    if not path.exists():
        return "not measured"
    found = json.loads(path.read_text())
    alone = (row for row in found["rows"] if row["regions"] != "patches" and not row["global_share"])
    best = min(alone, key=lambda row: row["loo_mse"])
    p, n = best["test"], found["facts"]["test"]
    return f"{p:.3f} ± {(p * (1 - p) / n) ** 0.5:.3f}"
