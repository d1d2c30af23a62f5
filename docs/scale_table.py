"""The tables of docs/scale.md: how long, how large and how dear a data set is, on paper, from measured parts.

``python -m docs.benchmark_tables`` writes them, from benchmarks/results. With other prices, disks or pictures:

    python -m docs.scale_table --core-hour 0.02 --gpu-hour 2 --read 5000 --kilobytes 50

Of n pictures, w cores, and s seconds of one core for a picture (read, decode, cut, backbone, pool, write):

    embedding = max(n s / w, n bytes / disk)      the shards, in any order, by anybody
    merging   = n r + k m + v                     by one process: r a row's share of the sums, k merges, v the solution
    time      = embedding + merging,   cost = (w embedding + merging) x price of a core-hour
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from carrot.evaluation.tables import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
SIZES = {"ImageNet-1k": 1_281_167, "100 million": 100_000_000}
WORKERS = (1, 8, 64, 512)
GPUS = (1, 8, 64)
TILES, INPUTS, PATCHES = "tiles:3,4", 25, 196
WIDTH = {"ViT-Ti/16": 192, "ViT-S/16": 384, "ViT-B/16": 768}
WAYS = [
    ("ViT-S/16", "float32", "patches"),
    ("ViT-S/16", "bfloat16", "patches"),
    ("ViT-S/16", "bfloat16", TILES),
    ("ViT-B/16", "float32", "patches"),
    ("ViT-B/16", "bfloat16", "patches"),
    ("ViT-B/16", "bfloat16", TILES),
]
SHARD = 1024  # rows of a merge
FEEDERS = 16  # cores beside a GPU, and the most processes that decode for it
MEASURED_D = 768  # of the parts that grow with the width of a row

PUBLISHED = "timm's results/benchmark-infer-bf16-nchw-pt291-cu130-pro6000maxq-dynamo.csv, commit 90cae8c"
PUBLISHED_RATES = {"ViT-Ti/16": 35416.58, "ViT-S/16": 14622.38, "ViT-B/16": 5059.16}  # inputs a second, passes of 2,048


@dataclass(frozen=True)
class Assumed:
    """What isn't measured.

    Attributes:
        core_hour: Price of one.
        gpu_hour: Price of one, with the cores that feed it.
        read: MB a second that the place of the pictures gives to all workers together.
        kilobytes: Of a picture; None: of those that were measured.
    """

    core_hour: float = 0.04
    gpu_hour: float = 3.0
    read: float = 2000.0
    kilobytes: float | None = None


def parts() -> tuple[dict, dict[str, dict]]:
    """Return the facts and the rows of benchmarks/parts.py, by name."""
    found = json.loads((RESULTS / "parts.json").read_text())
    return found["facts"], {row["part"]: row for row in found["rows"]}


def a_picture(way: tuple[str, str, str], of: dict[str, dict]) -> dict[str, float]:
    """Return the seconds of one core that each part takes for a picture, to its embedding in float64."""
    model, precision, regions = way
    tiled = regions != "patches"
    inputs, D = (INPUTS if tiled else 1), WIDTH[model]
    pooled = of["diffused, t = 1, 196 patches, D = 768"]["seconds"] * (INPUTS / PATCHES if tiled else 1.0)
    return {
        "reading": of["read and hash"]["seconds"],
        "decoding": of["decode"]["seconds"],
        "making inputs": of[f"inputs of {TILES}" if tiled else "input of the whole picture"]["seconds"],
        "the backbone": inputs * of[f"{model} {precision}"]["seconds"],
        "pooling": pooled * D / MEASURED_D,
        "writing": 8 * D * of["write a shard"]["seconds"],
    }


def merging(n: int, D: int, of: dict[str, dict]) -> float:
    """Return the seconds of the one process that adds up and solves."""
    share = (D / MEASURED_D) ** 2
    sums = n * of["rows to statistics"]["seconds"] + n / SHARD * of["merge two"]["seconds"]
    return share * (sums + of["solve, lam given"]["seconds"])


@dataclass(frozen=True)
class Plan:
    """What a data set takes, embedded by so many cores.

    Attributes:
        embedding: Seconds.
        merging: Seconds.
        cost: Of all.
        bottleneck: What most of the time goes to, and how much of it.
    """

    embedding: float
    merging: float
    cost: float
    bottleneck: str

    @property
    def time(self) -> float:
        """All of it, seconds."""
        return self.embedding + self.merging


def plan(n: int, way: tuple[str, str, str], workers: int, of: dict[str, dict], a: Assumed) -> Plan:
    """Return what n pictures take."""
    seconds = a_picture(way, of)
    kilobytes = a.kilobytes or of["decode"]["kB"]
    computing, waiting = n * sum(seconds.values()) / workers, n * kilobytes / (1e3 * a.read)
    end = merging(n, WIDTH[way[0]], of)
    embedding = max(computing, waiting)
    cost = (workers * embedding + end) / 3600 * a.core_hour
    dear = {name: n * s / workers for name, s in seconds.items()} if computing >= waiting else {}
    dear |= {"the head's sums, one process": end} | ({} if dear else {f"the disk, {a.read:,.0f} MB/s": waiting})
    name = max(dear, key=lambda key: dear[key])
    return Plan(embedding, end, cost, f"{name}, {dear[name] / (embedding + end):.0%}")


def told(seconds: float) -> str:
    """Return a time in the unit that one would say it in."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.3g} s"


def money(x: float) -> str:
    """Return a price."""
    return f"{x:,.0f}" if x >= 100 else f"{x:,.2f}"


def bytes_told(size: float) -> str:
    """Return a size in the unit that one would say it in."""
    for unit, one in (("TB", 1e12), ("GB", 1e9)):
        if size >= one:
            return f"{size / one:,.3g} {unit}"
    return f"{size / 1e6:,.3g} MB"


def way_told(way: tuple[str, str, str]) -> str:
    """Return a way of embedding in words."""
    return f"{way[0]}, {way[1]}, {way[2]}"


def measured() -> str:
    """Return the parts, and what each makes a second on one core."""
    facts, of = parts()
    lines = []
    for row in of.values():
        rate = 1 / row["seconds"]
        in_mb = row["per"] == "byte"
        rate_told = (
            f"{rate / 1e6:,.0f} MB"
            if in_mb
            else f"{rate:,.0f} {row['per']}s"
            if rate > 99
            else f"{rate:.3g} {row['per']}s"
        )
        took = "" if in_mb else f"{1e3 * row['seconds']:.3g} ms"
        lines.append({"part": row["part"], "of one": row["per"], "takes": took, "a second": rate_told})
    decode = of["decode"]
    w, h = decode["pixels"]
    return (
        f"{markdown_table(lines)}\n{facts['processor']}, one thread, torch {facts['torch']}, the processor's seconds "
        f"beside other work (of the shard the clock's), {facts['date']}. {decode['n']} JPEG photographs of {w:.0f} x "
        f"{h:.0f} pixels and {decode['kB']:.0f} kB in the mean; rows of {MEASURED_D}, 1,000 classes; passes of 32."
    )


def storage() -> str:
    """Return what is stored of a data set."""
    lines = []
    for name, n in SIZES.items():
        for model in ("ViT-S/16", "ViT-B/16"):
            D = WIDTH[model]
            line = {"pictures": name, "backbone": f"{model}, D = {D}"}
            line["tokens of patches, float16"] = bytes_told(n * PATCHES * D * 2)
            line[f"tokens of {TILES}, float16"] = bytes_told(n * INPUTS * D * 2)
            line |= {f"g, float{8 * b}": bytes_told(n * D * b) for b in (8, 4, 2)}
            lines.append(line)
    return markdown_table(lines).rstrip()


def processors(a: Assumed = Assumed()) -> str:
    """Return time and cost by number of cores, and what most of the time goes to."""
    _, of = parts()
    lines = []
    for name, n in SIZES.items():
        for way in WAYS:
            plans = [plan(n, way, w, of, a) for w in WORKERS]
            line = {"pictures": name, "way": way_told(way)}
            line |= {f"{w} core{'s' * (w > 1)}": told(p.time) for w, p in zip(WORKERS, plans, strict=True)}
            line |= {"cost at 1": money(plans[0].cost), f"at {WORKERS[-1]}": money(plans[-1].cost)}
            line |= {"most of it at 1": plans[0].bottleneck, f"at {WORKERS[-1]} cores": plans[-1].bottleneck}
            lines.append(line)
    kilobytes = a.kilobytes or of["decode"]["kB"]
    return (
        f"{markdown_table(lines)}\nAssumed: {a.core_hour:g} a core-hour, pictures of {kilobytes:.0f} kB from a place "
        f"that gives all workers together {a.read:,.0f} MB/s; every core as fast as the one that was measured."
    )


def tiles() -> str:
    """Return what tiles cost beside patches."""
    _, of = parts()
    lines = []
    for model in ("ViT-S/16", "ViT-B/16"):
        for precision in ("float32", "bfloat16"):
            one, many = (a_picture((model, precision, regions), of) for regions in ("patches", TILES))
            ours, theirs = sum(many.values()), sum(one.values())
            share = {
                f"{kind}: the backbone": f"{x['the backbone'] / sum(x.values()):.0%}"
                for kind, x in (("patches", one), (TILES, many))
            }
            line = {
                "backbone": f"{model}, {precision}",
                "patches": f"{1e3 * theirs:.0f} ms",
                TILES: f"{1e3 * ours:.0f} ms",
            }
            lines.append({**line, "ratio": f"{ours / theirs:.1f}", **share})
    return markdown_table(lines).rstrip()


def rates() -> list[tuple[str, str, float]]:
    """Return what is known of GPUs: (the device and where it is from, the backbone, inputs a second)."""
    found: list[tuple[str, str, float]] = []
    facts, rows = (json.loads((RESULTS / "forward-cuda-batch64.json").read_text())[k] for k in ("facts", "rows"))
    for row in rows:
        if row.get("model") == "vit_base_patch16_224":
            rate = row["batch"] / row["times"]["backbone"]["median"]
            found.append((f"{facts['device']}, float32, passes of {row['batch']}: measured", "ViT-B/16", rate))
    names = {"vit_small_patch16_224": "ViT-S/16", "vit_base_patch16_224": "ViT-B/16"}
    for path in sorted(RESULTS.glob("gpu-*.json")):
        result = json.loads(path.read_text())
        for row in result["rows"]:
            if row.get("regions") == "patches" and row["model"] in names:
                how = f"{row['precision']}{', compiled' * row['compile']}, passes of {row['pictures_a_pass']}"
                rate = row["forward_a_second"]
                found.append((f"{result['facts']['device']}, {how}: measured", names[row["model"]], rate))
    for model in ("ViT-S/16", "ViT-B/16"):
        where = "RTX PRO 6000 Max-Q, bfloat16, compiled, passes of 2,048: published, NOT measured here"
        found.append((where, model, PUBLISHED_RATES[model]))
    return found


def slowest_of(limits: dict[str, float], gpus: int, disk: float) -> tuple[float, str]:
    """Return pictures a second of several GPUs, from those of one and of the disk; and what limits them."""
    all_of_them = {**{name: gpus * rate for name, rate in limits.items()}, "the disk": disk}
    name = min(all_of_them, key=lambda key: all_of_them[key])
    return all_of_them[name], name


def gpus(a: Assumed = Assumed()) -> str:
    """Return the same of GPUs: what is known of the backbone there, fed by so many cores each and by the disk."""
    _, of = parts()
    kilobytes = a.kilobytes or of["decode"]["kB"]
    lines = []
    for where, model, rate in rates():
        for regions, inputs in (("patches", 1), (TILES, INPUTS)):
            before = a_picture((model, "bfloat16", regions), of)
            feeding = sum(before[name] for name in ("reading", "decoding", "making inputs"))

            limits = {"the backbone": rate / inputs, "decoding": FEEDERS / feeding}
            line = {"GPU": where, "backbone": f"{model}, {regions}", "pictures a second": f"{rate / inputs:,.0f}"}
            line["cores that would feed it"] = f"{rate / inputs * feeding:.1f}"
            for name, n in SIZES.items():
                for g in GPUS if n > 1e7 else GPUS[:1]:
                    pictures, slowest = slowest_of(limits, g, 1e3 * a.read / kilobytes)
                    line[f"{name} on {g}"] = f"{told(n / pictures)} ({slowest})"
                pictures, _ = slowest_of(limits, 1, 1e3 * a.read / kilobytes)
                line[f"{name}, cost on 1"] = money(n / pictures / 3600 * a.gpu_hour)
            lines.append(line)
    return (
        f"{markdown_table(lines)}\nIn brackets what is slowest: the backbone, decoding by the {FEEDERS} cores that are "
        "assumed beside each GPU (as fast as the one that was measured), or the place of the pictures, that gives "
        f"{a.read:,.0f} MB/s to all. {a.gpu_hour:g} a GPU-hour is assumed, with its cores. Published: {PUBLISHED}."
    )


def passes() -> str:
    """Return what a pass of 32 leaves of a GPU, on paper."""
    one, many = (
        next(r for r in json.loads((RESULTS / name).read_text())["rows"] if r.get("model") == "vit_base_patch16_224")
        for name in ("forward-cuda.json", "forward-cuda-batch64.json")
    )
    launch = one["times"]["backbone"]["median"]
    wide = 32 * many["times"]["backbone"]["median"] / many["batch"]
    narrow = 32 / PUBLISHED_RATES["ViT-B/16"]
    return (
        f"One picture through ViT-B/16 takes an H100 {1e3 * launch:.1f} ms, nearly all of it the launching of kernels; "
        f"32 pictures at the rate of passes of 64 take {1e3 * wide:.1f} ms in float32: there a pass of 32 keeps it "
        f"busy. At the published rate in bfloat16 they would take {1e3 * narrow:.1f} ms, about as long as the "
        "launching: up to half of such a GPU would wait, which compiling (fewer kernels) shortens."
    )


def precision() -> str:
    """Return what bfloat16 and compiled kernels move: benchmarks/precision.py."""
    found = json.loads((RESULTS / "precision-flowers17.json").read_text())
    facts, lines = found["facts"], []
    for row in found["rows"]:
        line = {"backbone": row["way"], "ms a picture": f"{row['ms']:.0f}", "tokens off by": f"{row['tokens_off']:.1e}"}
        line["largest change of a logit"] = f"{row['logit_change']:.1e}"
        line["with a head of its own"] = f"{row['logit_change_own_head']:.1e}"
        line |= {"answers changed": row["answers_changed"], "accuracy": f"{row['accuracy']:.3f}"}
        lines.append(line)
    first = found["rows"][0]
    return (
        f"{markdown_table(lines)}\nflowers17, {first['train']:,} training and {first['test']} test pictures, "
        f"{facts['backbone']}, patches, {facts['lift']} lift, tau {facts['tau']}; logits from "
        f"{first['logits_from']:.2f} to {first['logits_to']:.2f}. {facts['processor']}, one thread, the processor's "
        f"time, torch {facts['torch']}, {facts['date']}."
    )


TABLES = {
    "scale_parts": measured,
    "scale_storage": storage,
    "scale_processors": processors,
    "scale_tiles": tiles,
    "scale_gpus": gpus,
    "scale_passes": passes,
}


def main() -> None:
    """Print the two tables that depend on what is assumed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core-hour", type=float, default=Assumed.core_hour, help="price of one")
    parser.add_argument("--gpu-hour", type=float, default=Assumed.gpu_hour, help="price of one")
    parser.add_argument("--read", type=float, default=Assumed.read, help="MB/s for all workers together")
    parser.add_argument("--kilobytes", type=float, default=None, help="of a picture")
    assumed = Assumed(**vars(parser.parse_args()))
    print(processors(assumed), gpus(assumed), sep="\n\n")


if __name__ == "__main__":
    main()
