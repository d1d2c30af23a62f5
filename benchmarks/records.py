"""Open data sets of a million pictures, and say how long that takes and how much memory.

Usage: python -m benchmarks.records [KIND ...] [--pictures 1000000] [--classes 1000] [--folder FOLDER]

Kinds: folder, csv, wds, parquet. Each is opened in a process of its own; memory is what that process holds more than
before it opened the data set, and its peak. Then one picture is read, every record is looked at once, and the data set
is pickled, as an engine sends it to its workers. Answers are checked: as many records and classes as were written, and
every fifth of a class for testing.

What is real: file names, folders, tables, headers of tar files, pages of Parquet. What is not: all pictures are one of
20 small JPEG files, in a folder as hard links (a file each 500 names), and all shards of a data set are one file under
a hundred names, so that little is read from the disk itself.

Writes benchmarks/results/records.json, or records-CLASSES-classes.json for other than 1,000 classes.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import write

KINDS = ("folder", "csv", "wds", "parquet")
SHARDS, DRAWN, LINKS = 100, 20, 500
OPENED = """
import json, pickle, resource, sys, time, warnings
import numpy, torch
from carrot.data import open_dataset, split_indices
import pyarrow.parquet

def held():
    with open("/proc/self/status") as file:
        found = dict(line.split(":", 1) for line in file)
    return int(found["VmRSS"].split()[0]) * 1024

warnings.simplefilter("ignore")
before = held()
cpu = time.process_time()
start = time.perf_counter()
data = open_dataset(sys.argv[1])
opened, cpu = time.perf_counter() - start, time.process_time() - cpu
after = held()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
start = time.perf_counter()
size = data.image(0).size
first = time.perf_counter() - start
start = time.perf_counter()
names = sum(len(record.id) for record in data.records)
walked = time.perf_counter() - start
start = time.perf_counter()
sent = len(pickle.dumps(data))
n = len(data.records)
print(json.dumps({
    "seconds": opened, "cpu_s": cpu, "peak_MB": (peak - before) / 1e6, "bytes_a_record": (after - before) / n,
    "first_picture_s": first, "all_records_s": walked, "pickle_s": time.perf_counter() - start, "pickle_MB": sent / 1e6,
    "records": n, "classes": len(data.classes), "tested": len(split_indices(data, "test")), "name_bytes": names / n,
    "set_aside": len(data.skipped), "size": size,
}))
"""


def pictures() -> list[bytes]:
    """Return the few files that all pictures are."""
    rng, found = np.random.default_rng(0), []
    for _ in range(DRAWN):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(out, "JPEG")
        found.append(out.getvalue())
    return found


def name_of(number: int) -> str:
    return f"ILSVRC2012_{number:08d}"


def write_folder(root: Path, n: int, classes: int) -> str:
    """Write class folders of hard links."""
    drawn, links = pictures(), 0
    for label in range(classes):
        (root / f"n{label:08d}").mkdir(parents=True)
    held = root.parent / "held.jpg"
    for number in range(n):
        if number % LINKS == 0:
            links += 1
            held.unlink(missing_ok=True)
            held.write_bytes(drawn[links % DRAWN])
        os.link(held, root / f"n{number % classes:08d}" / f"{name_of(number)}.jpg")
    return f"folder:{root}"


def write_csv(root: Path, n: int, classes: int) -> str:
    """Write a table of the files of ``write_folder``."""
    folder = root.parent / "folder"
    if not folder.exists():
        write_folder(folder, n, classes)
    with open(folder / "labels.csv", "w", encoding="utf-8") as file:
        file.write("image,label\n")
        for number in range(n):
            file.write(f"n{number % classes:08d}/{name_of(number)}.jpg,n{number % classes:08d}\n")
    return f"csv:{folder / 'labels.csv'}"


def write_wds(root: Path, n: int, classes: int) -> str:
    """Write a shard of pictures with .cls, and give it a hundred names."""
    root.mkdir()
    drawn = pictures()
    with tarfile.open(root / "shard-000000.tar", "w") as tar:
        for number in range(n // SHARDS):
            for ending, content in (("jpg", drawn[number % DRAWN]), ("cls", str(number % classes).encode())):
                info = tarfile.TarInfo(f"{name_of(number)}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    for shard in range(1, SHARDS):
        os.link(root / "shard-000000.tar", root / f"shard-{shard:06d}.tar")
    return f"wds:{root}/shard-{{000000..{SHARDS - 1:06d}}}.tar"


def write_parquet(root: Path, n: int, classes: int) -> str:
    """Write a file of pictures with a ClassLabel, and give it a hundred names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir()
    drawn, rows = pictures(), n // SHARDS
    names = [f"n{label:08d}" for label in range(classes)]
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    table = pa.table(
        {
            "image": [{"bytes": drawn[i % DRAWN], "path": None} for i in range(rows)],
            "label": [i % classes for i in range(rows)],
        },
        schema=schema,
    )
    first = root / f"shard-00000-of-{SHARDS:05d}.parquet"
    pq.write_table(table, first, row_group_size=1000)
    for shard in range(1, SHARDS):
        os.link(first, root / f"shard-{shard:05d}-of-{SHARDS:05d}.parquet")
    return f"parquet:{root}"


WRITERS = {"folder": write_folder, "csv": write_csv, "wds": write_wds, "parquet": write_parquet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; default: a temporary folder")
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        for kind in given.kinds:
            start = time.perf_counter()
            spec = WRITERS[kind](Path(made) / kind, given.pictures, given.classes)
            written = time.perf_counter() - start
            run = subprocess.run([sys.executable, "-c", OPENED, spec], capture_output=True, text=True, check=True)
            found = json.loads(run.stdout)
            wanted = (given.pictures, given.classes)
            if (found["records"], found["classes"]) != wanted or found["tested"] != given.pictures // 5:
                raise SystemExit(f"{spec}: opened {found}, which is not what was written: {wanted}.")
            rows.append({"kind": kind, **found})
            print(f"{kind}: written in {written:.0f} s; {json.dumps(found)}", flush=True)
    if given.pictures == 1_000_000 and list(given.kinds) == list(KINDS):
        name = "records" if given.classes == 1_000 else f"records-{given.classes}-classes"
        print(write(name, rows, pictures=given.pictures))


if __name__ == "__main__":
    main()
