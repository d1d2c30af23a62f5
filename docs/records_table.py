"""The table of benchmarks/records.py."""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
NAMES = {
    "folder": "a folder of class folders",
    "csv": "a table",
    "wds": "WebDataset shards",
    "parquet": "Parquet shards",
}


def table() -> str:
    """Return what it takes to open a million pictures."""
    found = json.loads((RESULTS / "records.json").read_text())
    many = json.loads((RESULTS / "records-10000-classes.json").read_text())
    facts = found["facts"]
    lines = [
        "| data set | opened in | of the processor | peak | held | of that names | pickled | of 10,000 classes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row, other in zip(found["rows"], many["rows"], strict=True):
        lines.append(
            f"| {NAMES[row['kind']]} | {row['seconds']:.3g} s | {row['cpu_s']:.3g} s | {row['peak_MB']:.0f} MB | "
            f"{row['bytes_a_record']:.0f} B a picture | {row['name_bytes']:.0f} B | {row['pickle_MB']:.0f} MB in "
            f"{row['pickle_s']:.2g} s | {other['cpu_s']:.3g} s, {other['peak_MB']:.0f} MB |"
        )
    where = f"{facts['pictures']:,} pictures, {facts['processor']}, one thread, {facts['date']}"
    return "\n".join(lines) + (
        f"\n\n{where}. Peak and held are what the process takes more than before; others used the machine at the same "
        "time, so that the processor's seconds say more than the clock's."
    )
