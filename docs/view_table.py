"""The tables of benchmarks/page.py and benchmarks/view_at_scale.py, for docs/benchmarks.md, from benchmarks/results.

``python -m docs.benchmark_tables`` writes them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from carrot.evaluation.tables import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
MODELS = ("toy", "flowers17", "cub100")
Row = dict[str, Any]


def pages() -> str:
    """Return one line for each model whose pages a random hand went over."""
    lines = []
    for name in MODELS:
        found = json.loads((RESULTS / f"page-{name}.json").read_text())
        facts, rows = found["facts"], found["rows"]
        differ = max(max(row["largest_difference"], row["largest_difference_shown"]) for row in rows)
        lines.append(
            {
                "model": name,
                "training pictures": f"{facts['training_pictures']:,}",
                "classes": facts["classes"],
                "changes": f"{sum(row['interactions'] for row in rows):,}",
                "compared": f"{sum(row['compared'] for row in rows):,}",
                "refused": sum(row["refused"] for row in rows),
                "largest difference": f"{differ:.0e}",
                "a change, ms": f"{median(row['milliseconds_median'] for row in rows):.0f}",
                "slowest": f"{max(row['milliseconds_most'] for row in rows):.0f}",
                "MB": f"{max(row['megabytes'] for row in rows):.2f}",
            }
        )
    return markdown_table(lines)


def at_scale() -> str:
    """Return what looking at a model takes, a column for each size."""
    found = json.loads((RESULTS / "view_at_scale.json").read_text())
    parts: dict[str, dict[int, Row]] = {}
    for row in found["rows"]:
        parts.setdefault(row["part"], {})[row["training_pictures"]] = row
    sizes = sorted({row["training_pictures"] for row in found["rows"]})

    def line(part: str, what: str, cell: Callable[[Row], str], target: str = "") -> dict[str, str]:
        rows = parts.get(part, {})
        return {"": what, **{f"{n:,}": cell(rows[n]) if n in rows else "" for n in sizes}, "target": target}

    lines = [
        line("commands", f"`carrot {name}`", lambda row, name=name: process(row[name]))  # type: ignore[misc]
        for name in ("explain", "audit", "report")
    ]
    lines += [
        line("page", "the model on the disk", lambda row: f"{row['model_MB']:,.0f} MB"),
        line("page", "explanation in Python, the first", lambda row: first(row["explain_ms"])),
        line("page", "the next ones", lambda row: again(row["explain_ms"])),
        line("page", "its page written", lambda row: again(row["page_ms"])),
        line("page", "the page", lambda row: f"{row['page_bytes'] / 1e6:.2f} MB", "3 MB"),
        line("page", "opened and changed once, in Chromium", lambda row: f"{row['open_ms']:.0f} ms"),
        line("page", "a change (slowest of 40)", change, "50 ms"),
        line("explorer", "`carrot explore`, until its first page", cold, "torch's import + a few s"),
        line("explorer", "suspects at the desk", lambda row: f"{row['queue']:,}"),
    ]
    lines += [
        line("explorer", f"{name}, the first time", lambda row, name=name: first(row["ms"][name]), "300 ms")  # type: ignore[misc]
        for name in ("held out", "explanation page")
    ]
    names = next(iter(parts["explorer"].values()))["ms"]
    lines += [
        line("explorer", name, lambda row, name=name: again(row["ms"][name]), "300 ms")  # type: ignore[misc]
        for name in names
    ]
    lines.append(line("explorer", "the server's peak", lambda row: f"{row['peak_MiB'] / 1024:.1f} GiB"))
    lines += [
        line(
            "index", "`carrot explain` of a folder", lambda row: f"{row['pictures']:,} pictures, {process(row['made'])}"
        ),
        line("index", "the same again, all found", lambda row: process(row["again"])),
        line("index", "the index", lambda row: f"{row['bytes'] / 1e6:.1f} MB, opened in {row['open_ms']:.0f} ms"),
    ]
    facts = found["facts"]
    base = [row["torch, torchvision and timm"]["cpu_s"] for row in parts["commands"].values()]
    where = f"{facts['processor']}, one thread, torch {facts['torch']}, {facts['date']}"
    return (
        f"{markdown_table([one for one in lines if any(one[f'{n:,}'] for n in sizes)])}\n"
        f"{where}: time of the processor, and in brackets on the clock of a machine that others used too. Importing "
        f"torch, torchvision and timm is {median(base):.1f} s of each command."
    )


def process(of: Row) -> str:
    """Return what a process took."""
    return f"{of['cpu_s']:.1f} s ({of['s']:.0f}), {of['peak_MiB'] / 1024:.1f} GiB"


def first(of: Row) -> str:
    """Return the first time of several."""
    return f"{of['first_cpu']:,.0f} ms ({of['first']:,.0f})"


def again(of: Row) -> str:
    """Return what the others take."""
    return f"{of['cpu']:,.0f} ms ({of['median']:,.0f})"


def cold(row: Row) -> str:
    """Return what a start takes."""
    return f"{row['cold_cpu_s']:.1f} s ({row['cold_s']:.0f})"


def change(row: Row) -> str:
    """Return what a change on the page takes, on the clock."""
    return f"{row['interaction_ms']['median']:.0f} ms ({row['interaction_ms']['most']:.0f})"
