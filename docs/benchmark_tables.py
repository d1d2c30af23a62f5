"""Write the tables of README.md, docs/*.md and docs/decisions from benchmarks/results/*.json: no number is typed.

Usage: python -m docs.benchmark_tables     (from the repository's root)
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from docs import (
    accuracy_tables,
    doubt_tables,
    edits_table,
    engine_table,
    explainers_table,
    funnybirds_table,
    ladders_table,
    large_head_table,
    maps_table,
    merged_table,
    million_table,
    records_table,
    referee_table,
    scale_table,
    search_table,
    suspects_table,
    view_table,
    watermark_table,
)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def load(name: str) -> tuple[dict, list[dict]]:
    """Return the facts and rows of one benchmark."""
    found = json.loads((RESULTS / f"{name}.json").read_text())
    return found["facts"], found["rows"]


def seconds(times: dict[str, float]) -> str:
    """Return a median as text, in milliseconds."""
    return f"{1e3 * times['median']:.3g} ms"


def cells(row: dict) -> tuple[str, str, str, str, str]:
    """Return what was asked, the size, the peer's and our time, and the ratio, as text."""
    share = "forward" in row["question"]
    peer, ours = list(row["times"].values())
    digits = 1 if row["ratio"] < 10 else 0
    ratio = f"{100 * row['ratio']:.2f} %" if share else f"{row['ratio']:.{digits}f} x faster"
    size = f"N = {row['N']:,}, D = {row['D']}" + (f" ({row['model']})" if "model" in row else "")
    note = f" ({row['note']})" if "note" in row else ""
    return row["question"], size, f"{seconds(peer)}{note}", seconds(ours), ratio


def forward() -> str:
    """Return the table of benchmarks/forward.py."""
    facts, rows = load("forward")
    lines = ["| question | size | peer | CARROT | ratio | target |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        target = row["target"] or ""
        if target:
            target = f"<= {100 * target:g} %" if "forward" in row["question"] else f">= {target:g} x"
        lines.append(f"| {' | '.join(cells(row))} | {target} |")
    where = (
        f"{facts['processor']}, {facts['threads']} threads, torch {facts['torch']}, float32, one picture, medians, "
        f"{facts['date']}"
    )
    return "\n".join(lines) + f"\n\n{where}."


def explanation() -> str:
    """Return the table of benchmarks/explanation.py."""
    facts, rows = load("explanation")
    lines = ["| regions | classes | all classes, one kept | CARROT | ratio |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        ours, theirs = (f"{1e3 * row[name]:.0f} ms" for name in ("parts_s", "parts_all_classes_s"))
        lines.append(
            f"| N = {row['N']:,}, D = {row['D']} | {row['C']} | {theirs} | {ours} | {row['parts_ratio']:.1f} x |"
        )
    where = f"{facts['processor']}, torch {facts['torch']}, {facts['lift']} lift, {facts['n']} training pictures"
    return "\n".join(lines) + f"\n\n{where}, CPU seconds on one thread, {facts['date']}."


def on_a_gpu() -> str:
    """Return the same on a GPU: one picture, and the forward pass of a batch."""
    (facts, rows), (_, batch) = load("forward-cuda"), load("forward-cuda-batch64")
    lines = ["| question | size | peer | CARROT | ratio | pictures |", "| --- | --- | --- | --- | --- | --- |"]
    for row in [*rows, *(row for row in batch if "batch" in row)]:
        lines.append(f"| {' | '.join(cells(row))} | {row.get('batch', 1)} |")
    return "\n".join(lines) + f"\n\n{facts['device']}, torch {facts['torch']}, float32, medians, {facts['date']}."


def replace(text: str, marker: str, table: str) -> str:
    """Return ``text`` with ``table`` between the marker's two comments."""
    begin, end = f"<!-- {marker}: begin -->", f"<!-- {marker}: end -->"
    head, rest = text.split(begin)
    return f"{head}{begin}\n{table}\n{end}{rest.split(end)[1]}"


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"worth": accuracy_tables.readme},
    "docs/benchmarks.md": {
        "forward": forward,
        "forward_gpu": on_a_gpu,
        "explanation": explanation,
        "large_head": large_head_table.table,
        "merged": merged_table.table,
        "million": million_table.table,
        "sklearn_heads": referee_table.heads,
        "edits": edits_table.edits,
        "flips": edits_table.flips,
        "pages": view_table.pages,
        "view": view_table.at_scale,
        "engine": engine_table.table,
        "suspects": suspects_table.table,
        "suspects_groups": suspects_table.groups,
    },
    "docs/accuracy.md": {
        "summary": accuracy_tables.summary,
        "chosen_again": doubt_tables.chosen_again,
        **{name: partial(accuracy_tables.full, name) for name in accuracy_tables.DATA_SETS},
    },
    "docs/howto/big_data.md": {"records": records_table.table},
    "docs/scale.md": scale_table.TABLES,
    "docs/howto/gpu.md": {"precision": scale_table.precision},
    "docs/howto/label_sets.md": {"label_sets": doubt_tables.label_sets},
    "docs/explainers.md": explainers_table.TABLES,
    "docs/referee.md": referee_table.TABLES,
    "docs/funnybirds.md": {"funnybirds": funnybirds_table.table},
    "docs/decisions/0006-regions-that-see-only-themselves.md": {
        "ladders": ladders_table.table,
        "tiles": ladders_table.cost,
        "watermark": watermark_table.table,
    },
    "docs/decisions/0007-a-tile-is-drawn-at-its-middle.md": {"maps": maps_table.table},
    "docs/decisions/0001-lifted-regions-weighted-by-attention.md": {"search": search_table.table},
}


def rewritten(name: str) -> str:
    """Return a page with its tables as the results have them."""
    text = (ROOT / name).read_text()
    for marker, table in PAGES[name].items():
        text = replace(text, marker, table())
    return text


def main() -> None:
    """Rewrite the pages."""
    for name in PAGES:
        (ROOT / name).write_text(rewritten(name))


if __name__ == "__main__":
    main()
